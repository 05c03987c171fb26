/** Puts the live view, the grid of steps and the embeddings tab into ComfyUI's page. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";
import { Cards, DRAGGED } from "./cards.js";
import { addStyles, element } from "./dom.js";
import { accused } from "./errors.js";
import { Panel, showThumbnails } from "./panel.js";
import { EVENT, previewPath, RunWatcher } from "./runs.js";

const TRAIN = ["TextualInversionTrain", "TextualInversionTrainNegative"];
const CHOOSE = "TextualInversionChoose";
const PROPERTY = "textual_inversion_run"; // of a node: the run that it shows, kept in the workflow

const url = (path) => api.apiURL(path);
const watcher = new RunWatcher(ask);
const panels = new Map(); // node -> its panel
const unfolds = new WeakMap(); // node -> shows its advanced inputs
const accusedInputs = new Set();
const accusedSlots = element("style");

async function ask(path, options) {
  const response = await api.fetchApi(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function control(id, action) {
  const body = JSON.stringify({ id, action });
  const headers = { "Content-Type": "application/json" };
  return ask("/textual_inversion/run", { method: "POST", headers, body });
}

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
async function catchUp() {
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

function addTrainingPanel(node) {
  const panel = new Panel({ url, control });
  panels.set(node, panel);
  const widget = node.addDOMWidget("training", "textual_inversion_training", panel.root, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => 390,
  });
  // Without this the values of all other widgets would move in saved graphs.
  widget.serialize = false;
  const removed = node.onRemoved;
  node.onRemoved = function (...args) {
    panel.stop?.();
    panel.destroy();
    panels.delete(node);
    return removed?.apply(this, args);
  };
}

/**
 * Classic nodes show every input: fold the advanced ones, so that the chart is not far below.
 * Nodes 2.0 do so by themselves, by the inputs' options, which are left alone.
 */
function foldAdvanced(node) {
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
function accuse({ detail }) {
  const node = app.rootGraph.nodes.find(({ id }) => String(id) === String(detail.node_id));
  if (!node?.comfyClass?.startsWith("TextualInversion")) return;
  const panel = panels.get(node);
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

function acquit() {
  for (const input of accusedInputs) Object.assign(input, { hasErrors: false, alwaysVisible: false });
  accusedInputs.clear();
  accusedSlots.textContent = "";
}

const slotOf = (node, slot) => `[data-slot-key="${CSS.escape(`${node.id}-in-${slot}`)}"]`;

function addStepGrid(node) {
  const grid = element("div", { className: "ti-grid-of-steps" });
  const note = element("div", { className: "ti-note" });
  const root = element("div", { className: "ti-steps" }, note, grid);
  const find = (name) => node.widgets.find((widget) => widget.name === name);
  const widget = node.addDOMWidget("steps", "textual_inversion_steps", root, {
    serialize: false, hideOnZoom: false, getMinHeight: () => 180,
  });
  widget.serialize = false;
  root.addEventListener("wheel", (event) => event.stopPropagation());
  let stop = null, shown = null;
  const show = (run) => {
    const step = find("step").value || run.words.at(-1);
    const drawn = run.words.filter((s) => run.previews.includes(s));
    note.textContent = run.words.length
      ? `Words kept at ${run.words.length} steps; chosen: step ${step}.`
      : "This run has kept no word yet.";
    showThumbnails(grid, drawn, step, (s) => url(previewPath(run.id, s)), (s) => {
      find("step").value = s;
      find("step").callback?.(s);
      show(run);
    });
  };
  const follow = () => {
    const id = find("run").value;
    if (id === shown || !id || !/_\d{5}$/.test(id)) return;
    shown = id;
    stop?.();
    stop = watcher.listen(id, show);
    watcher.refresh(id).catch((error) => (note.textContent = error.message));
  };
  for (const [name, changed] of [["run", follow], ["step", () => watcher.runs.has(shown) && show(watcher.runs.get(shown))]]) {
    const callback = find(name).callback;
    find(name).callback = function (...args) {
      const answer = callback?.apply(this, args);
      changed();
      return answer;
    };
  }
  const configured = node.onConfigure;
  node.onConfigure = function (...args) {
    configured?.apply(this, args);
    follow();
  };
  const removed = node.onRemoved;
  node.onRemoved = function (...args) {
    stop?.();
    return removed?.apply(this, args);
  };
  follow();
}

/** Put the node for an embedding onto the graph, or its file into one that is there. */
function place(card, position) {
  const type = card.negative ? "TextualInversionApplyNegative" : "TextualInversionLoad";
  const graph = app.canvas.graph;
  const there = graph.getNodeOnPos(position[0], position[1]);
  const node = there?.comfyClass?.startsWith("TextualInversion") && fileWidget(there)
    ? there
    : graph.add(Object.assign(window.LiteGraph.createNode(type), { pos: position }));
  const widget = fileWidget(node);
  // The list is as old as the page.
  const options = widget.options.values;
  if (Array.isArray(options) && !options.includes(card.file)) options.push(card.file);
  widget.value = card.file;
  widget.callback?.(card.file);
  app.canvas.setDirty(true, true);
}

function fileWidget(node) {
  return node.widgets?.find((widget) => widget.name === "file");
}

/** A place in the middle of what is seen of the graph. */
function middle() {
  const box = app.canvas.canvas.getBoundingClientRect();
  return app.clientPosToCanvasPos([box.left + box.width / 2, box.top + box.height / 2]);
}

function acceptDrops() {
  const isText = (target) => target.matches?.("textarea, input[type=text], [contenteditable=true]");
  const isGraph = (target) => app.canvas.canvas.parentElement?.contains(target) || target === app.canvas.canvas
    || Boolean(target.closest?.("#graph-canvas-container"));
  const carries = (event) => event.dataTransfer?.types.includes(DRAGGED);
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    if (isText(event.target)) event.stopPropagation();
    else if (isGraph(event.target)) {
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    }
  }, true);
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    // The page would take every drop for a workflow. A text field inserts the text by itself.
    event.stopPropagation();
    if (isText(event.target)) return;
    event.preventDefault();
    if (!isGraph(event.target)) return;
    place(JSON.parse(event.dataTransfer.getData(DRAGGED)), app.clientPosToCanvasPos([event.clientX, event.clientY]));
  }, true);
}

function addEmbeddingsTab() {
  const cards = new Cards({
    load: () => ask("/textual_inversion/embeddings"), url, add: (card) => place(card, middle()),
  });
  app.extensionManager.registerSidebarTab({
    id: "textual-inversion-embeddings",
    icon: "pi pi-language",
    title: "Embeddings",
    tooltip: "Embeddings",
    type: "custom",
    render(container) {
      // Called whenever the page draws itself anew.
      if (container.contains(cards.root)) return;
      container.replaceChildren(cards.root);
      cards.refresh();
    },
  });
}

// At once, not in setup: the page warns of messages that nobody listens to.
api.addEventListener(EVENT, ({ detail: { id, owner } }) => {
  for (const node of panels.keys()) if (owns(node, owner)) attach(node, id);
  if (watcher.listeners.has(id)) watcher.refresh(id);
});
api.addEventListener("execution_error", accuse);
api.addEventListener("execution_start", acquit);
// After a lost connection messages are missing.
api.addEventListener("reconnected", catchUp);

app.registerExtension({
  name: "textual-inversion",
  setup() {
    addStyles();
    document.head.append(accusedSlots);
    addEmbeddingsTab();
    acceptDrops();
  },
  nodeCreated(node) {
    if (TRAIN.includes(node.comfyClass)) {
      foldAdvanced(node);
      addTrainingPanel(node);
    }
    if (node.comfyClass === CHOOSE) addStepGrid(node);
  },
  afterConfigureGraph: catchUp,
});
