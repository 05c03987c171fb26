/** The embeddings folder as cards. Knows nothing of the graph. */

import { copyText, element } from "./dom.js";

/** What is dragged from a card. */
export const DRAGGED = "application/x-textual-inversion";

const ORDERS = { newest: "Newest first", name: "By name" };
const REMEMBERED = "textual-inversion.order";

/** Whether a card holds all words of a search: in its file, family or kind. */
export function matches(card, search) {
  const text = `${card.file} ${card.family} ${card.negative ? "negative" : "positive"}`.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** What is known of a file, in a line. */
export function facts(card) {
  if (card.error) return card.error;
  const vectors = card.vectors === 1 ? "1 vector" : `${card.vectors} vectors`;
  return `${card.family} · ${vectors}`;
}

/** The folders of cards, and those that these lie in, by name. */
export function folders(cards) {
  const parts = cards.map((card) => card.folder.split("/"));
  const all = parts.flatMap((names) => names.map((_, i) => names.slice(0, i + 1).join("/")));
  return [...new Set(all)].filter(Boolean).sort((a, b) => a.localeCompare(b));
}

/** Those of a folder that match a search, in an order; what cannot be read comes last. */
export function arranged(cards, { search = "", folder = "", order = "newest" } = {}) {
  const inside = (card) => !folder || `${card.folder}/`.startsWith(`${folder}/`);
  const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
  const wanted = order === "newest" ? (a, b) => b.changed - a.changed || byName(a, b) : byName;
  return cards.filter((card) => inside(card) && matches(card, search))
    .sort((a, b) => Boolean(a.error) - Boolean(b.error) || wanted(a, b));
}

export class Cards {
  /**
   * @param load () => promise of the cards, as the server lists them.
   * @param url (path) => address of a picture.
   * @param add (card) => puts the right node onto the graph.
   */
  constructor({ load, url, add }) {
    this.load = load;
    this.url = url;
    this.add = add;
    this.cards = [];
    this.search = element("input", {
      type: "search", className: "ti-search", placeholder: "Search embeddings", ariaLabel: "Search embeddings",
    });
    this.search.addEventListener("input", () => this.#show());
    const refresh = element("button", {
      type: "button", className: "ti-refresh", title: "Reload the folder", ariaLabel: "Reload the folder",
    }, element("i", { className: "pi pi-refresh" }));
    refresh.addEventListener("click", () => this.refresh());
    this.folder = element("select", { className: "ti-folder", ariaLabel: "Folder" });
    this.folder.addEventListener("change", () => this.#show());
    this.order = element("select", { className: "ti-order", ariaLabel: "Order" },
      ...Object.entries(ORDERS).map(([value, textContent]) => element("option", { value, textContent })));
    this.order.value = localStorage.getItem(REMEMBERED) in ORDERS ? localStorage.getItem(REMEMBERED) : "newest";
    this.order.addEventListener("change", () => {
      localStorage.setItem(REMEMBERED, this.order.value);
      this.#show();
    });
    this.list = element("div", { className: "ti-cards" });
    this.note = element("div", { className: "ti-note" });
    this.root = element("div", { className: "ti-embeddings" },
      element("div", { className: "ti-head" },
        element("div", { className: "ti-top" }, this.search, refresh),
        element("div", { className: "ti-top" }, this.folder, this.order), this.note),
      this.list);
  }

  /** Read the folder again. */
  async refresh() {
    try {
      this.cards = await this.load();
    } catch (error) {
      this.note.textContent = error.message;
      return;
    }
    const chosen = this.folder.value;
    const found = folders(this.cards);
    this.folder.replaceChildren(element("option", { value: "", textContent: "All folders" }),
      ...found.map((value) => element("option", { value, textContent: value })));
    this.folder.value = found.includes(chosen) ? chosen : "";
    this.folder.hidden = !found.length;
    this.#show();
  }

  #show() {
    const found = arranged(this.cards, {
      search: this.search.value.trim(), folder: this.folder.value, order: this.order.value,
    });
    this.note.textContent = this.cards.length
      ? found.length ? "Drag one into a prompt or onto the graph." : "No matches."
      : "There are no embeddings yet: train one, or put files into models/embeddings.";
    this.list.replaceChildren(...found.map((card) => (card.error ? this.#broken(card) : this.#card(card))));
  }

  #card(card) {
    const address = `/textual_inversion/embeddings/preview?file=${encodeURIComponent(card.file)}&changed=${card.changed}`;
    const blank = element("div", { className: "ti-face ti-blank", textContent: card.name.slice(0, 1).toUpperCase() });
    const picture = card.preview
      ? element("img", { className: "ti-face", alt: "", loading: "lazy", draggable: false, src: this.url(address) })
      : blank;
    // The server looks at a picture when it is asked for it, which is when the card is seen.
    picture.addEventListener("error", () => picture.replaceWith(blank));
    const kind = element("span", {
      className: card.negative ? "ti-kind ti-negative" : "ti-kind",
      textContent: card.negative ? "negative" : "positive",
    });
    const add = element("button", { type: "button", textContent: "Add node" });
    add.addEventListener("click", () => this.add(card));
    const copy = element("button", { type: "button", textContent: "Copy", disabled: !card.prompt,
      title: card.prompt ? `Copy “${card.prompt}”` : card.unnamed });
    copy.addEventListener("click", () => copyText(card.prompt));
    const prompt = card.prompt
      ? element("code", { className: "ti-prompt", textContent: card.prompt, title: card.prompt })
      : element("span", { className: "ti-prompt ti-unnamed", textContent: "not for prompts", title: card.unnamed });
    const made = element("div", { className: "ti-card", draggable: true, title: card.file, tabIndex: 0 },
      picture, kind,
      element("div", { className: "ti-name", textContent: card.name }),
      element("div", { className: "ti-facts", textContent: facts(card) }),
      prompt, element("div", { className: "ti-actions" }, add, copy));
    made.addEventListener("dragstart", (event) => {
      // With room around it: next to a letter the word would be another one. Without any text no
      // text field would take the drop, and its user would not hear why.
      event.dataTransfer.setData("text/plain", card.prompt ? ` ${card.prompt} ` : card.name);
      const { file, negative, unnamed } = card;
      event.dataTransfer.setData(DRAGGED, JSON.stringify({ file, negative, unnamed }));
      event.dataTransfer.effectAllowed = "copy";
    });
    return made;
  }

  #broken(card) {
    return element("div", { className: "ti-card ti-broken", title: `${card.file}: ${card.error}`, tabIndex: 0 },
      element("div", { className: "ti-face ti-blank" }, element("i", { className: "pi pi-exclamation-triangle" })),
      element("div", { className: "ti-name", textContent: card.name }),
      element("div", { className: "ti-facts", textContent: facts(card) }));
  }
}
