/** What a node's last run was refused for: in red on the node, its input marked, until it changes. */

import { element } from "./dom.js";
import { accused, failureOf, named, sentenceOf } from "./errors.js";
import { addElement, after, app, nodeOf } from "./host.js";
import { showInput } from "./advanced_inputs.js";
import { panelOf } from "./training_panel.js";

const RED = "#d33";

const refusals = new Map(); // node -> { slots, end }
/** The rules of style by which Nodes 2.0 show what is marked: they draw from a state of their own. */
export const markedSlots = element("style");

/** The server has refused a graph before it ran. @param errors of its nodes, by their ids. */
export function refusedBefore(errors) {
  for (const [id, { errors: found }] of Object.entries(errors)) {
    const node = ours(id);
    if (!node || !found?.length) continue;
    refuse(node, found.map((error) => ({ sentence: sentenceOf(error), name: error.extra_info?.input_name })));
  }
}

/** A node has failed. */
export function failed({ detail }) {
  const node = ours(detail.node_id);
  if (node && node.comfyClass !== detail.node_type) return; // of another graph
  // What ends a run is told by the run.
  if (!node || panelOf(node)?.run?.status === "running") return;
  const sentence = failureOf(detail);
  const values = Object.fromEntries((node.widgets ?? []).map(({ name, value }) => [name, value]));
  refuse(node, [{ sentence, name: accused(sentence, node.inputs.map(({ name }) => name), values) }]);
}

/** The graph is tried again. */
export function forgive() {
  for (const { end } of [...refusals.values()]) end();
}

function ours(id) {
  const node = nodeOf(id);
  return node?.comfyClass?.startsWith("TextualInversion") ? node : null;
}

function refuse(node, complaints) {
  refusals.get(node)?.end();
  const names = node.inputs.map(({ name }) => name);
  const marked = complaints.map(({ name }) => name).filter((name) => names.includes(name));
  const text = [...new Set(complaints.map(({ sentence }) => sentence))].join("\n");
  const hide = show(node, text);
  const marks = marked.map((name) => mark(node, name));
  // Any of these may be the cause; where a sentence names none, each of them.
  const causes = [...marked, ...named(text, names)];
  const end = () => refusals.get(node)?.end();
  // A node of another graph may have the same number, and must not be marked for it.
  const undo = [watch(node, causes.length ? causes : names, end), after(node, "onRemoved", end)];
  refusals.set(node, {
    slots: marked.map((name) => slotOf(node, name)),
    end() {
      refusals.delete(node);
      for (const one of [...undo, hide, ...marks]) one();
      drawAgain();
    },
  });
  drawAgain();
}

/** Put a sentence on a node; returns what takes it away. */
function show(node, text) {
  const panel = panelOf(node);
  if (panel) {
    panel.refuse(text);
    return () => panel.refuse("");
  }
  const [width, height] = node.size;
  const lines = text.split("\n").reduce((sum, line) => sum + Math.ceil((line.length * 6.2) / (width - 50)), 0);
  const root = element("div", { className: "ti-refusal", textContent: text });
  root.setAttribute("role", "alert");
  const widget = addElement(node, "refusal", "textual_inversion_refusal", root, lines * 17 + 30);
  node.setSize([width, Math.max(height, node.computeSize()[1])]);
  return () => {
    node.removeWidget(widget);
    node.setSize([node.size[0], height]);
  };
}

/** Mark an input; returns what takes the mark away. */
function mark(node, name) {
  showInput(node, name);
  const input = node.inputs.find((one) => one.name === name);
  const widget = node.widgets?.find((one) => one.name === name);
  Object.assign(input, { hasErrors: true, alwaysVisible: true });
  if (widget) widget.getOutlineColor = () => RED;
  return () => {
    Object.assign(input, { hasErrors: false, alwaysVisible: false });
    if (widget) delete widget.getOutlineColor;
  };
}

/** Call a function once one of some inputs has changed; returns what ends that. */
function watch(node, names, changed) {
  const widgets = (node.widgets ?? []).filter(({ name }) => names.includes(name));
  const undo = widgets.map((widget) => after(widget, "callback", changed));
  undo.push(after(node, "onConnectionsChange", (_kind, slot, _linked, _link, input) => {
    if (names.includes(input?.name ?? node.inputs[slot]?.name)) changed();
  }));
  return () => undo.forEach((one) => one());
}

function drawAgain() {
  const slots = [...refusals.values()].flatMap((refusal) => refusal.slots);
  markedSlots.textContent = slots.map((slot) => `.lg-node-widget:has(${slot}),
    .lg-slot--input:not(.lg-slot--dot-only):has(${slot}) { outline: 2px solid ${RED}; border-radius: 4px; }`).join("\n");
  app.canvas.setDirty(true, true);
}

const slotOf = (node, name) =>
  `[data-slot-key="${CSS.escape(`${node.id}-in-${node.inputs.findIndex((input) => input.name === name)}`)}"]`;
