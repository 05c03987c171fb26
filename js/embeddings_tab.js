/** The embeddings tab in the sidebar, and what is dragged from it onto the graph. */

import { Cards, DRAGGED } from "./cards.js";
import { app, ask, url } from "./host.js";

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

/** Say why something cannot be done. */
function refuse(sentence) {
  app.extensionManager.toast?.add({ severity: "warn", summary: "Cannot be used in a prompt", detail: sentence, life: 10000 });
}

export function acceptDrops() {
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
    const card = JSON.parse(event.dataTransfer.getData(DRAGGED));
    if (isText(event.target) && !card.unnamed) return;
    event.preventDefault();
    if (isText(event.target)) refuse(card.unnamed);
    else if (isGraph(event.target)) place(card, app.clientPosToCanvasPos([event.clientX, event.clientY]));
  }, true);
}

export function addEmbeddingsTab() {
  const cards = new Cards({
    load: () => ask("/textual_inversion/embeddings"), url, add: (card) => place(card, middle()),
  });
  app.extensionManager.registerSidebarTab({
    id: "textual-inversion-embeddings",
    icon: "ti-tab-icon",
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
