/** The grid of steps in Choose Training Step. */

import { element } from "./dom.js";
import { addElement, after, url, watcher } from "./host.js";
import { previewPath } from "./runs.js";
import { ofSteps, showThumbnails } from "./thumbnails.js";

export function addStepGrid(node) {
  const grid = element("div", { className: "ti-grid-of-steps" });
  const note = element("div", { className: "ti-note" });
  const root = element("div", { className: "ti-steps" }, note, grid);
  const find = (name) => node.widgets.find((widget) => widget.name === name);
  addElement(node, "steps", "textual_inversion_steps", root, 180);
  root.addEventListener("wheel", (event) => event.stopPropagation());
  let stop = null, shown = null;
  const show = (run) => {
    const step = find("step").value || run.words.at(-1);
    const drawn = run.words.filter((s) => run.previews.includes(s));
    note.textContent = run.words.length
      ? `Words kept at ${run.words.length} steps; chosen: step ${step}.`
      : "This run has not kept a word yet.";
    showThumbnails(grid, ofSteps(drawn, (s) => url(previewPath(run.id, s))), step, (s) => {
      find("step").value = s;
      find("step").callback?.(s);
      show(run);
    });
  };
  const follow = () => {
    if (!node.graph) return; // a copy in the clipboard
    const id = find("run").value;
    if (id === shown || !id || !/_\d{5}$/.test(id)) return;
    shown = id;
    stop?.();
    stop = watcher.listen(id, show);
    watcher.refresh(id).catch((error) => (note.textContent = error.message));
  };
  for (const [name, changed] of [["run", follow], ["step", () => watcher.runs.has(shown) && show(watcher.runs.get(shown))]]) {
    after(find(name), "callback", changed);
  }
  after(node, "onConfigure", follow);
  after(node, "onAdded", follow);
  after(node, "onRemoved", () => stop?.());
}
