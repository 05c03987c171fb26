/** The live view in the nodes that train: which node shows which run. */

import { addElement, after, app, ask, isLinked, nodeOf, post, url, watcher } from "./host.js";
import { Panel } from "./panel.js";
import { emptyRun } from "./runs.js";

const PROPERTY = "textual_inversion_run"; // of a node: the run that it shows, kept in the workflow
const HEIGHT = 430;

const panels = new Map(); // node in a graph -> its panel
const noted = new Map(); // graph and node, by their ids -> the run that was last written into the node

/** The live view of a node, if it has one. */
export const panelOf = (node) => panels.get(node);

/** Whether a run is that of a node: the same graph, and the same place in it. */
function owns(node, owner) {
  const sameGraph = !owner.workflow || owner.workflow === String(app.rootGraph?.id ?? "");
  return sameGraph && nodeOf(owner.node) === node;
}

/** Show a run in a node from now on. */
function attach(node, id) {
  const panel = panels.get(node);
  if (!panel || panel.runId === id) return;
  panel.stop?.();
  panel.runId = id;
  panel.stop = watcher.listen(id, (run) => panel.update(run));
}

/**
 * A node has made a run: show it, and have the graph keep which it was. To the page this is a change
 * of the graph like any other, so it is made once: when it is undone, it stays so.
 */
function keep(node, id) {
  attach(node, id);
  if (noted.get(placeOf(node)) === id) return;
  noted.set(placeOf(node), id);
  node.properties[PROPERTY] = id;
}

const placeOf = (node) => `${app.rootGraph.id} ${node.id}`;

/** After the page was loaded, or a graph was opened: show what goes on, and what has ended. */
export async function catchUp() {
  if (!panels.size) return;
  const { live, known } = await ask("/textual_inversion/runs");
  for (const node of [...panels.keys()]) {
    const running = live.find(({ owner }) => owns(node, owner));
    const kept = node.properties?.[PROPERTY];
    const last = known.includes(kept) ? kept : null;
    // The graph in a picture is from before its run, and may keep one of another word.
    const own = last && isOf(node, last) ? last : null;
    const id = running?.id ?? own ?? (known.length ? await alike(node) : null) ?? last;
    if (!id || !panels.has(node)) continue;
    attach(node, id);
    watcher.refresh(id);
  }
}

/** Whether a run has learned the word that a node names, as far as the page knows its name. */
function isOf(node, id) {
  const name = node.widgets.find((widget) => widget.name === "name").value;
  return isLinked(node, "name") || id.replace(/_\d+$/, "") === name;
}

/** The newest run with the settings of a node, as a graph may come without one; or null. */
function alike(node) {
  const given = node.widgets.filter(({ name, serialize }) => serialize !== false && !isLinked(node, name));
  const inputs = Object.fromEntries(given.map(({ name, value }) => [name, value]));
  return post("/textual_inversion/run/alike", { node: node.comfyClass, inputs });
}

/** Show no run in a node: its result has none any more. */
function detach(node) {
  const panel = panels.get(node);
  panel?.stop?.();
  delete node.properties[PROPERTY];
  noted.delete(placeOf(node));
  if (panel) Object.assign(panel, { stop: null, runId: null }).update(emptyRun(""));
}

/** A node has ended, or its result was known already: show the run that gave it. */
async function showResult(node, output) {
  const [id] = output?.textual_inversion_run ?? [];
  const [note] = output?.textual_inversion_note ?? [];
  if (id) {
    keep(node, id);
    await watcher.refresh(id);
  } else if (note) detach(node);
  if (note) panels.get(node)?.say(note);
}

/** A run has changed: show it in the nodes that it belongs to. */
export function announce({ id, owner }) {
  for (const node of panels.keys()) if (owns(node, owner)) keep(node, id);
  if (watcher.listeners.has(id)) watcher.refresh(id);
}

/** Ask something of a run: stop, sample or save. */
async function control(id, action) {
  await post("/textual_inversion/run", { id, action });
  await watcher.refresh(id);
}

export function addTrainingPanel(node) {
  const panel = new Panel({ url, control });
  addElement(node, "training", "textual_inversion_training", panel.root, HEIGHT);
  node.setSize([node.size[0], node.computeSize()[1]]); // which holds the panel from the start
  // Not at once: a copy in the clipboard is a node, too, but never in a graph, nor removed from one.
  after(node, "onAdded", () => panels.set(node, panel));
  after(node, "onExecuted", (output) => showResult(node, output));
  after(node, "onRemoved", () => {
    panel.stop?.();
    panel.destroy();
    panels.delete(node);
  });
}
