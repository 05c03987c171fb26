/** Advanced inputs of classic nodes, folded away by groups; and the frames around nodes that grow. */

import { element } from "./dom.js";
import { addElement, after, isLinked } from "./host.js";

const ROOM = 10; // between a node and the lower edge of the frame around it
const ROW = 42; // of the groups, with the margins that the page gives to elements

const unfolds = new WeakMap(); // node -> (name) => shows the group of an input
const frames = new WeakMap(); // frame -> its own height, and the one that it was given here

/**
 * Classic nodes show every input: fold the advanced ones, so that the chart is not far below.
 * Nodes 2.0 do so by themselves, by the inputs' options, which are left alone. The inputs keep
 * their places, by which graphs keep their values.
 */
export function foldAdvanced(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  const options = { ...required, ...optional };
  const groups = new Map();
  for (const widget of node.widgets.filter((one) => one.options?.advanced)) {
    const group = options[widget.name]?.[1]?.group ?? "others";
    groups.set(group, [...(groups.get(group) ?? []), widget]);
  }
  const row = element("div", { className: "ti-groups" }, element("span", { textContent: "Advanced" }));
  for (const [group, widgets] of groups) {
    const button = element("button", { type: "button", textContent: group,
      title: widgets.map(({ name }) => name).join(", ") });
    button.addEventListener("click", () => show(group, button.getAttribute("aria-pressed") !== "true"));
    button.dataset.group = group;
    row.append(button);
  }
  const show = (group, wanted) => {
    const before = node.computeSize()[1];
    for (const widget of groups.get(group)) {
      // A wire to an input that is not there would end at another one.
      const shown = wanted || isLinked(node, widget.name);
      // Where a widget knows of several surfaces, `hidden` would hide it in Nodes 2.0, too.
      if (widget.visibility) widget.visibility.surfaces.canvas = shown ? "shown" : "never";
      else widget.hidden = !shown;
    }
    row.querySelector(`[data-group="${group}"]`).setAttribute("aria-pressed", String(wanted));
    node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]);
  };
  addElement(node, "advanced", "textual_inversion_advanced", row, ROW, { canvasOnly: true, getMaxHeight: () => ROW });
  const foldAll = () => { for (const group of groups.keys()) show(group, false); };
  foldAll();
  node.setSize([node.size[0], node.computeSize()[1]]);
  after(node, "onConfigure", () => {
    const saved = [...node.size]; // with what is linked
    foldAll();
    node.setSize(saved);
  });
  unfolds.set(node, (name) => {
    for (const [group, widgets] of groups) if (widgets.some((one) => one.name === name)) show(group, true);
  });
}

/** Bring an input into view. */
export function showInput(node, name) {
  if (!node.widgets?.find((widget) => widget.name === name)?.options?.advanced) return;
  unfolds.get(node)?.(name);
  node.showAdvanced = true; // in Nodes 2.0
}

/** Let the frame around a node grow with it, and shrink again to its own height. */
export function holdInFrame(node) {
  after(node, "onResize", () => {
    for (const frame of node.graph?.groups ?? []) {
      const [left, top] = frame.pos, [width, height] = frame.size;
      const inside = node.pos[0] >= left && node.pos[0] + node.size[0] <= left + width
        && node.pos[1] >= top && node.pos[1] <= top + height;
      if (!inside) continue;
      const known = frames.get(frame);
      const own = known?.given === height ? known.own : height;
      const given = Math.max(own, node.pos[1] + node.size[1] + ROOM - top);
      if (given === height) continue;
      frames.set(frame, { own, given });
      frame.size = [width, given];
    }
  });
}
