/** What the other files know of ComfyUI's page: its server, and the runs that it tells of. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";
import { RunWatcher } from "./runs.js";

export { api, app };

export const url = (path) => api.apiURL(path);
export const watcher = new RunWatcher(ask);

/** Ask the server for JSON; a refusal is thrown as its sentence. */
export async function ask(path, options) {
  const response = await api.fetchApi(path, options).catch(() => {
    throw new Error("ComfyUI does not answer: check that it is still running.");
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `ComfyUI answered with error ${response.status}.`);
  return answer;
}

/** Send JSON and ask for JSON. @param options further ones of `fetch`. */
export function post(path, content, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { ...options, method: "POST", headers, body: JSON.stringify(content) });
}

/** Call a function after a method of the page's; returns what ends that. */
export function after(object, method, act) {
  const before = object[method];
  let acts = true;
  const both = (object[method] = function (...args) {
    const answer = before?.apply(this, args);
    if (acts) act(...args);
    return answer;
  });
  return () => {
    acts = false;
    // Unless others have come after it.
    if (object[method] === both) object[method] = before;
  };
}

/** A node by the id that the server knows it by; of one in a subgraph, the way there. */
export function nodeOf(id) {
  let graph = app.rootGraph, node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part);
    graph = node?.subgraph;
  }
  return node;
}

/** Whether an input comes from elsewhere in the graph. */
export function isLinked(node, name) {
  const slot = node.inputs.findIndex((input) => input.name === name);
  return slot >= 0 && node.isInputConnected(slot);
}

/**
 * Hear of graphs that are queued, and of the errors that the server finds in them before they run.
 *
 * @param begins () => called before.
 * @param refused (errors) => called with the errors of nodes by their ids, often none.
 */
export function whenQueued(begins, refused) {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...args) {
    begins();
    try {
      const answer = await queue.apply(this, args);
      refused(answer?.node_errors ?? {});
      return answer;
    } catch (error) {
      refused(error.response?.node_errors ?? {});
      throw error;
    }
  };
}

/** Add an element of a height in pixels to a node; it takes no place among its saved values. */
export function addElement(node, name, type, root, height, options = {}) {
  const widget = node.addDOMWidget(name, type, root, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    ...options,
  });
  // Without this the values of all other widgets would move in saved graphs.
  widget.serialize = false;
  root.style.setProperty("--ti-height", `${height}px`); // for Nodes 2.0, which lays it out by its style
  return widget;
}
