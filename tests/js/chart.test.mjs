import assert from "node:assert/strict";
import { test } from "node:test";
import { layout, lossRange, nearestRow, path, short, ticks } from "../../js/chart.js";

const ALL = new Set(["loss", "smoothed", "evaluation", "rate"]);
const SIZE = { width: 400, height: 200 };
const row = (step, loss, smoothed = loss, evaluation = null, rate = 0.1) =>
  [step, loss, smoothed, evaluation, rate, step];

test("a single jump of the loss does not flatten everything else", () => {
  const rows = Array.from({ length: 200 }, (_, i) => row(i + 1, i === 50 ? 1000 : 0.1, 0.1));
  const [low, high] = lossRange(rows, ALL);
  assert.ok(low < 0.1 && high < 1);
  const { lines, inner } = layout(rows, 200, SIZE, ALL);
  for (const { points } of lines) {
    for (const [x, y] of points) {
      assert.ok(x >= inner.left && x <= inner.right && y >= inner.top && y <= inner.bottom);
    }
  }
});

test("smoothed loss and evaluations are always within the range", () => {
  const rows = [row(1, 0.2, 0.2, 5), row(2, 0.1, 0.15)];
  const [low, high] = lossRange(rows, ALL);
  assert.ok(low <= 0.1 && high >= 5);
});

test("only what is asked for is drawn, and gaps are left out", () => {
  const rows = [row(1, 0.3), row(2, 0.2, 0.25, 0.22), row(3, 0.1)];
  const { lines } = layout(rows, 3, SIZE, new Set(["evaluation"]));
  assert.deepEqual(lines.map(({ key, points }) => [key, points.length]), [["evaluation", 1]]);
});

test("pairs ranked right are a share, from nothing at the bottom to all at the top", () => {
  const ranked = (step, value) => [...row(step, 0.5), null, null, null, value];
  const { lines, inner } = layout([ranked(1, 0), ranked(2, null), ranked(3, 1)], 3, SIZE, new Set(["loss", "ranked"]));
  const { points } = lines.find(({ key }) => key === "ranked");
  assert.deepEqual(points.map(([, y]) => y), [inner.bottom, inner.top]);
  // Rows of earlier versions have no such place.
  assert.deepEqual(layout([row(1, 0.5)], 3, SIZE, new Set(["ranked"])).lines[0].points, []);
});

test("nothing at all, one step and equal values can be drawn", () => {
  for (const rows of [[], [row(1, 0.5)], [row(1, 0), row(2, 0)], [row(1, null, null, null, null)]]) {
    const { lines, xTicks, yTicks } = layout(rows, 0, SIZE, ALL);
    const numbers = [...lines.flatMap((l) => l.points.flat()), ...xTicks.map((t) => t.at), ...yTicks.map((t) => t.at)];
    assert.ok(numbers.every(Number.isFinite));
  }
});

test("ticks are round, few and within", () => {
  assert.deepEqual(ticks(0, 300), [0, 100, 200, 300]);
  assert.deepEqual(ticks(0.08, 0.34).map(short), ["0.1", "0.2", "0.3"]);
  assert.deepEqual(ticks(1, 1), []);
  for (const high of [1e-6, 0.3, 7, 123456]) assert.ok(ticks(0, high).length <= 6);
});

test("numbers beside a low chart do not stand on each other", () => {
  for (const height of [40, 56, 80, 200]) {
    for (const high of [0.21, 0.35, 0.5, 9]) {
      const { yTicks } = layout([row(1, 0.1), row(2, high)], 2, { width: 300, height }, ALL);
      for (const [i, { at }] of yTicks.entries()) assert.ok(!i || yTicks[i - 1].at - at >= 12, `${height} ${high}`);
    }
  }
});

test("the row under the mouse", () => {
  const rows = [row(10, 1), row(50, 2), row(100, 3)];
  assert.equal(nearestRow(rows, 100, SIZE, 1000)[0], 100);
  assert.equal(nearestRow(rows, 100, SIZE, -5)[0], 10);
  assert.equal(nearestRow(rows, 100, SIZE, 46 + 0.5 * (400 - 60))[0], 50);
  assert.equal(nearestRow([], 100, SIZE, 10), undefined);
});

test("a path", () => {
  assert.equal(path([[1, 2], [3.04, 4]]), "M1.0,2.0L3.0,4.0");
  assert.equal(path([]), "");
});

test("the share of the way has the whole height, and runs of before have none", () => {
  const way = (step, share) => [...row(step, 0.3), 0.2, 1, share];
  const { lines, inner } = layout([row(1, 0.3), way(2, 0), way(3, 1)], 3, SIZE, new Set(["loss", "share"]));
  const { points } = lines.find(({ key }) => key === "share");
  assert.deepEqual(points.map(([, y]) => y), [inner.bottom, inner.top]);
  assert.deepEqual(lossRange([way(1, 0.9)], new Set(["loss", "share"])), lossRange([way(1, 0)], new Set(["loss"])));
});
