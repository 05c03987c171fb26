/** The live view in the nodes that train: which node shows which run. */

import { addElement, app, ask, control, url, watcher, whenRemoved } from "./host.js";
import { Panel } from "./panel.js";

const PROPERTY = "textual_inversion_run"; // of a node: the run that it shows, kept in the workflow

const panels = new Map(); // node -> its panel

/** The live view of a node, if it has one. */
export const panelOf = (node) => panels.get(node);

/** Whether a run is that of a node: the same graph, and the same place in it. */
function owns(node, owner) {
  const sameGraph = !owner.workflow || owner.workflow === String(app.rootGraph?.id ?? "");
  return sameGraph && owner.node?.split(":").pop() === String(node.id);
}

/** Show a run in a node from now on. */
function attach(node, id) {
  const panel = panels.get(node);
  if (!panel || panel.runId === id) return;
  panel.stop?.();
  panel.runId = id;
  node.properties[PROPERTY] = id;
  panel.stop = watcher.listen(id, (run) => panel.update(run));
}

/** After the page was loaded, or a graph was opened: show what goes on, and what has ended. */
export async function catchUp() {
  if (!panels.size) return;
  const { live, known } = await ask("/textual_inversion/runs");
  for (const node of panels.keys()) {
    const running = live.find(({ owner }) => owns(node, owner));
    const id = running?.id ?? node.properties?.[PROPERTY];
    if (!known.includes(id)) continue;
    attach(node, id);
    watcher.refresh(id);
  }
}

/** A run has changed: show it in the nodes that it belongs to. */
export function announce({ id, owner }) {
  for (const node of panels.keys()) if (owns(node, owner)) attach(node, id);
  if (watcher.listeners.has(id)) watcher.refresh(id);
}

export function addTrainingPanel(node) {
  const panel = new Panel({ url, control });
  panels.set(node, panel);
  addElement(node, "training", "textual_inversion_training", panel.root, 390);
  whenRemoved(node, () => {
    panel.stop?.();
    panel.destroy();
    panels.delete(node);
  });
}
