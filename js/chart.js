/** The chart of a run's losses. All but `drawChart` are plain functions of numbers. */

/** Places of a row's values, as the server sends them (`COLUMNS` in trainer/runs/run_folder.py). */
export const STEP = 0, LOSS = 1, SMOOTHED = 2, EVALUATION = 3, RATE = 4;
export const OVER_NOISE = 6, TURNED = 7, SHARE = 8, RANKED = 9;

/** What can be drawn: key, column, name, whether it is shown at first. */
export const SERIES = [
  { key: "loss", column: LOSS, label: "loss", shown: true },
  { key: "smoothed", column: SMOOTHED, label: "smoothed", shown: true },
  { key: "evaluation", column: EVALUATION, label: "evaluation", shown: true },
  { key: "rate", column: RATE, label: "learning rate", shown: false },
  { key: "share", column: SHARE, label: "progress", shown: true },
  { key: "ranked", column: RANKED, label: "ranked right", shown: true },
];

/** What is no loss: from nothing at the bottom to all at the top. */
const SHARE_OF = {
  rate: (value, highest) => value / highest, share: (value) => value, ranked: (value) => value,
};

const MARGIN = { left: 46, right: 14, top: 6, bottom: 18 };
const LINE = 12; // Pixels from one number beside the chart to the next, at least.

/** The value below which a share of the sorted values lies. */
export function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/**
 * The smallest and largest value to show. The loss of single steps jumps far: a few of its
 * values may lie outside, those of the other lines may not.
 */
export function lossRange(rows, keys) {
  const values = [];
  for (const { key, column } of SERIES) {
    if (key in SHARE_OF || !keys.has(key)) continue;
    const found = rows.map((row) => row[column]).filter((v) => v !== null);
    if (key === "loss") {
      found.sort((a, b) => a - b);
      if (found.length) values.push(quantile(found, 0.02), quantile(found, 0.98));
    } else values.push(...range(found));
  }
  const [low, high] = range(values);
  if (low === undefined) return [0, 1];
  const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [Math.max(0, low - room), high + room];
}

/** Round numbers between two values, no closer together than the `most`th part of their distance. */
export function ticks(low, high, most = 4) {
  const rough = (high - low) / most;
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const found = [];
  for (let n = Math.ceil(low / unit); n * unit <= high + unit * 1e-9; n++) found.push(n * unit);
  return found;
}

/** A number in as few characters as tell it from its neighbours on an axis. */
export function short(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-3) return value.toExponential(0);
  return String(Number(value.toPrecision(3)));
}

/** Points as the `d` of an SVG path; a gap where a value is missing is bridged. */
export function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
}

/**
 * Everything there is to draw, in pixels.
 *
 * @param rows lists of values, see `STEP` and the others.
 * @param steps how many the run will make; 0 if that is not known.
 * @param size {width, height}.
 * @param keys a Set of the keys in `SERIES` that are shown.
 */
export function layout(rows, steps, size, keys) {
  const inner = {
    left: MARGIN.left, top: MARGIN.top,
    right: Math.max(MARGIN.left + 10, size.width - MARGIN.right),
    bottom: Math.max(MARGIN.top + 10, size.height - MARGIN.bottom),
  };
  const last = Math.max(1, steps, rows.length ? rows[rows.length - 1][STEP] : 0);
  const [low, high] = lossRange(rows, keys);
  const x = (step) => inner.left + (step / last) * (inner.right - inner.left);
  const y = (share) => inner.bottom - share * (inner.bottom - inner.top);
  const highest = Math.max(...rows.map((row) => row[RATE] ?? 0), 1e-12);
  const place = (key, value) =>
    y(Math.min(1, Math.max(0, SHARE_OF[key]?.(value, highest) ?? (value - low) / (high - low))));
  const lines = SERIES.filter(({ key }) => keys.has(key)).map(({ key, column }) => {
    const known = rows.filter((row) => row[column] != null);
    return { key, points: known.map((row) => [x(row[STEP]), place(key, row[column])]) };
  });
  const fit = Math.max(1, Math.min(4, Math.floor((inner.bottom - inner.top) / LINE)));
  return {
    inner, lines, last,
    yTicks: ticks(low, high, fit).map((value) => ({ at: place("loss", value), text: short(value) })),
    xTicks: ticks(0, last).map((value) => ({ at: x(value), text: short(value) })),
  };
}

/** The row nearest to a place on the x axis, or undefined. */
export function nearestRow(rows, steps, size, atX) {
  const { inner, last } = layout(rows, steps, size, new Set());
  const step = ((atX - inner.left) / (inner.right - inner.left)) * last;
  let best;
  for (const row of rows) {
    if (!best || Math.abs(row[STEP] - step) < Math.abs(best[STEP] - step)) best = row;
  }
  return best;
}

/** Draw into an <svg>; colours come from the style sheet by the classes of the lines. */
export function drawChart(svg, rows, steps, keys) {
  const size = { width: svg.clientWidth, height: svg.clientHeight };
  if (!size.width || !size.height) return;
  const { inner, lines, xTicks, yTicks } = layout(rows, steps, size, keys);
  const add = (tag, className, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    element.setAttribute("class", className);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const parts = [];
  for (const { at, text } of yTicks) {
    parts.push(add("line", "ti-grid", { x1: inner.left, x2: inner.right, y1: at, y2: at }));
    parts.push(add("text", "ti-tick ti-y", { x: inner.left - 5, y: at + 3.5 }, text));
  }
  for (const { at, text } of xTicks) {
    parts.push(add("text", "ti-tick ti-x", { x: at, y: inner.bottom + 13 }, text));
  }
  for (const { key, points } of lines) {
    parts.push(add("path", `ti-line ti-${key}`, { d: path(points) }));
    // A line of one point would not be seen, and evaluations are few.
    if (key === "evaluation" || key === "ranked" || points.length === 1) {
      for (const [cx, cy] of points) parts.push(add("circle", `ti-dot ti-${key}`, { cx, cy, r: 2 }));
    }
  }
  svg.replaceChildren(...parts);
}

function range(values) {
  let low, high;
  for (const value of values) {
    if (low === undefined || value < low) low = value;
    if (high === undefined || value > high) high = value;
  }
  return low === undefined ? [] : [low, high];
}
