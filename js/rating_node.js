/** Rate Pictures: which node shows which list of ratings. */

import { addElement, after, ask, isLinked, post, url } from "./host.js";
import { RatingPanel } from "./rating_panel.js";
import { picturePath, RatingLists } from "./ratings.js";

const PROPERTY = "textual_inversion_ratings"; // of a node: the list that it last added to, kept in the workflow
const WIDTH = 420, HEIGHT = 460;

const lists = new RatingLists(ask, post);
const shows = new Map(); // node -> () => asks for its list again

window.addEventListener("pagehide", () => lists.flush());

/** After the connection was lost. */
export function refreshRatings() {
  for (const show of shows.values()) show();
}

/** Any node has ended, and may have rated what another one shows. */
export function ratedElsewhere({ output }) {
  for (const name of output?.textual_inversion_ratings ?? []) lists.refresh(name).catch(() => {});
}

export function addRatingPanel(node) {
  let name = null, stop;
  const panel = new RatingPanel({
    url: (key) => url(picturePath(name, key)), rate: (key, rating) => lists.rate(name, key, rating),
  });
  const show = async () => {
    if (!node.graph) return; // a copy in the clipboard
    const wanted = nameOf(node);
    if (wanted !== name) {
      stop?.();
      name = wanted;
      panel.begin();
      stop = lists.listen(name, (list) => panel.update(list));
    }
    try {
      await lists.refresh(wanted);
      if (wanted === name) panel.refuse("");
    } catch (error) {
      if (wanted === name) panel.refuse(error.message);
    }
  };
  addElement(node, "rating", "textual_inversion_rating", panel.root, HEIGHT);
  node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]]); // which holds the panel from the start
  after(nameWidget(node), "callback", show);
  after(node, "onExecuted", (output) => {
    const [added] = output?.textual_inversion_ratings ?? [];
    if (added) node.properties[PROPERTY] = added;
    show();
  });
  after(node, "onConfigure", show);
  after(node, "onAdded", () => {
    shows.set(node, show);
    show();
  });
  after(node, "onRemoved", () => {
    stop?.();
    shows.delete(node);
  });
}

/** The name in the node; of one that comes from elsewhere in the graph only the server knows it. */
function nameOf(node) {
  return (isLinked(node, "name") && node.properties[PROPERTY]) || nameWidget(node).value;
}

const nameWidget = (node) => node.widgets.find((widget) => widget.name === "name");
