import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyRun, headline, lastStep, merged, previewPath, remarks, RunWatcher } from "../../js/runs.js";

const answer = (steps, more = {}) => ({
  id: "a_00001", name: "a", status: "running", message: "", step: steps.at(-1) ?? 0, steps: 10,
  seconds_left: 1, rows: steps.map((s) => [s, 1, 1, null, 0.1, s]), previews: [], words: [], stills: [], kept: [], notes: [], stopping: false,
  ...more,
});

test("what is new is added, and nothing twice", () => {
  let run = merged(emptyRun("a_00001"), answer([1, 2, 3]));
  run = merged(run, answer([3, 4]));
  assert.deepEqual(run.rows.map((r) => r[0]), [1, 2, 3, 4]);
  assert.equal(lastStep(run), 4);
});

test("a run that went back does not fit", () => {
  const run = merged(emptyRun("a_00001"), answer([1, 2, 3]));
  assert.equal(merged(run, answer([1])), null);
});

test("the watcher asks for what comes after, and for all when a run went back", async () => {
  const asked = [], heard = [];
  const answers = [answer([1, 2]), answer([3]), answer([1]), answer([1])];
  const watcher = new RunWatcher(async (path) => (asked.push(path.split("after=")[1]), answers.shift()));
  watcher.listen("a_00001", (run) => heard.push(lastStep(run)));
  for (let i = 0; i < 3; i++) await watcher.refresh("a_00001");
  assert.deepEqual(asked, ["0", "2", "3", "0"]);
  assert.deepEqual(heard, [2, 3, 1]);
});

test("many changes at once are one more question", async () => {
  let asked = 0, release;
  const gate = new Promise((resolve) => (release = resolve));
  const watcher = new RunWatcher(async () => (asked++, await gate, answer([1])));
  const first = watcher.refresh("a_00001");
  for (let i = 0; i < 5; i++) watcher.refresh("a_00001");
  release();
  await first;
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(asked, 2);
});

test("a failed question does not block the next", async () => {
  let fail = true;
  const watcher = new RunWatcher(async () => {
    if (fail) throw new Error("gone");
    return answer([1]);
  });
  await assert.rejects(watcher.refresh("a_00001"), /gone/);
  fail = false;
  await watcher.refresh("a_00001");
  assert.equal(lastStep(watcher.runs.get("a_00001")), 1);
});

test("one line about a run", () => {
  const say = (more) => headline(merged(emptyRun("a"), answer([4], more)));
  assert.equal(headline(emptyRun("a")), "");
  assert.equal(say({ message: "step 4/10" }), "step 4/10");
  assert.equal(say({ message: "step 4/10", stopping: true }), "stopping after this step; the word is kept");
  assert.equal(say({ status: "stopped", kept: ["mug"] }), "stopped at 4 of 10 steps; saved as mug");
  assert.equal(say({ status: "finished", steps: 4, kept: [] }), "finished after 4 steps");
  assert.equal(say({ status: "finished", kept: ["mug"], message: "The limit of steps was reached first." }),
    "finished after 4 steps; saved as mug. The limit of steps was reached first.");
  assert.equal(say({ status: "interrupted", message: "Out of memory." }),
    "cut short at 4 of 10 (Out of memory); Run continues from here");
  assert.equal(say({ status: "interrupted", steps: 1500, kept: ["mug-interrupted"] }),
    "cut short at 4 of 1,500; kept as mug-interrupted; Run continues from here");
});

test("where a word was saved while its run goes on, and what is unusual", () => {
  const run = merged(emptyRun("a"), answer([4], { kept: ["mug-4"], notes: ["Small."] }));
  assert.deepEqual(remarks(run), ["Saved as mug-4.", "Small."]);
  assert.deepEqual(remarks({ ...run, status: "finished" }), ["Small."]);
});

test("ids cannot leave their place in an address", () => {
  assert.equal(previewPath("a&b/..#?", 3), "/textual_inversion/run/preview?id=a%26b%2F..%23%3F&step=3");
});
