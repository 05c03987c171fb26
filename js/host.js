/** What the other files know of ComfyUI's page: its server, and the runs that it tells of. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";
import { RunWatcher } from "./runs.js";

export { api, app };

export const url = (path) => api.apiURL(path);
export const watcher = new RunWatcher(ask);

/** Ask the server for JSON; a refusal is thrown as its sentence. */
export async function ask(path, options) {
  const response = await api.fetchApi(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Ask something of a run: stop, sample or save. */
export function control(id, action) {
  const body = JSON.stringify({ id, action });
  const headers = { "Content-Type": "application/json" };
  return ask("/textual_inversion/run", { method: "POST", headers, body });
}

/** Call a function when a node is removed, after what is there already. */
export function whenRemoved(node, act) {
  const removed = node.onRemoved;
  node.onRemoved = function (...args) {
    act();
    return removed?.apply(this, args);
  };
}

/** Add an element to a node that takes no place among its saved values. */
export function addElement(node, name, type, root, height) {
  const widget = node.addDOMWidget(name, type, root, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
  });
  // Without this the values of all other widgets would move in saved graphs.
  widget.serialize = false;
}
