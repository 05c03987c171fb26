/** Advanced inputs folded away, and inputs marked that an error is about. */

import { element } from "./dom.js";
import { accused } from "./errors.js";
import { app } from "./host.js";
import { panelOf } from "./training_panel.js";

const unfolds = new WeakMap(); // node -> shows its advanced inputs
const accusedInputs = new Set();
/** The rules of style by which Nodes 2.0 show what is marked. */
export const accusedSlots = element("style");

/**
 * Classic nodes show every input: fold the advanced ones, so that the chart is not far below.
 * Nodes 2.0 do so by themselves, by the inputs' options, which are left alone.
 */
export function foldAdvanced(node) {
  const advanced = node.widgets.filter((widget) => widget.options?.advanced);
  // Not in Nodes 2.0, that have a button of their own.
  const button = node.addWidget("button", "advanced inputs", null, () => fold(!folded), { canvasOnly: true });
  button.serialize = false;
  let folded;
  const fold = (wanted) => {
    folded = wanted;
    for (const widget of advanced) {
      // Where a widget knows of several surfaces, `hidden` would hide it in Nodes 2.0, too.
      if (widget.visibility) widget.visibility.surfaces.canvas = folded ? "never" : "shown";
      else widget.hidden = folded;
    }
    button.label = folded ? "show advanced inputs" : "hide advanced inputs";
    node.setSize([node.size[0], node.computeSize()[1]]);
  };
  fold(true);
  unfolds.set(node, () => fold(false));
}

/**
 * Show the sentence of an error on its node, and mark the input that it is about, as the page
 * itself does when it refuses a graph. Nodes 2.0 draw inputs from a state that is not shared with
 * extensions: there a rule of style finds the input by its slot.
 */
export function accuse({ detail }) {
  const node = app.rootGraph.nodes.find(({ id }) => String(id) === String(detail.node_id));
  if (!node?.comfyClass?.startsWith("TextualInversion")) return;
  const panel = panelOf(node);
  // What ends a run is told by the run.
  if (panel?.run?.status !== "running") panel?.say(detail.exception_message.trim());
  const name = accused(detail.exception_message, node.inputs.map((input) => input.name));
  const slot = node.inputs.findIndex((one) => one.name === name);
  if (slot < 0) return;
  if (node.widgets?.find((widget) => widget.name === name)?.options?.advanced) {
    unfolds.get(node)?.();
    node.showAdvanced = true; // in Nodes 2.0
  }
  accusedSlots.textContent += `.lg-node-widget:has(${slotOf(node, slot)}),
    .lg-slot--input:not(.lg-slot--dot-only):has(${slotOf(node, slot)}) { outline: 2px solid #d33; }`;
  const input = node.inputs[slot];
  accusedInputs.add(Object.assign(input, { hasErrors: true, alwaysVisible: true }));
  app.canvas.setDirty(true, true);
}

export function acquit() {
  for (const input of accusedInputs) Object.assign(input, { hasErrors: false, alwaysVisible: false });
  accusedInputs.clear();
  accusedSlots.textContent = "";
}

const slotOf = (node, slot) => `[data-slot-key="${CSS.escape(`${node.id}-in-${slot}`)}"]`;
