/** The embeddings folder as cards. Knows nothing of the graph. */

import { element } from "./dom.js";

/** What is dragged from a card. */
export const DRAGGED = "application/x-textual-inversion";

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
      type: "search", className: "ti-search", placeholder: "Search embeddings",
    });
    this.search.setAttribute("aria-label", "Search embeddings");
    this.search.addEventListener("input", () => this.#show());
    const refresh = element("button", { type: "button", className: "ti-refresh", title: "Reload the folder" },
      element("i", { className: "pi pi-refresh" }));
    refresh.setAttribute("aria-label", refresh.title);
    refresh.addEventListener("click", () => this.refresh());
    this.list = element("div", { className: "ti-cards" });
    this.note = element("div", { className: "ti-note" });
    this.root = element("div", { className: "ti-embeddings" },
      element("div", { className: "ti-top" }, this.search, refresh), this.note, this.list);
  }

  /** Read the folder again. */
  async refresh() {
    try {
      this.cards = await this.load();
    } catch (error) {
      this.note.textContent = error.message;
      return;
    }
    this.#show();
  }

  #show() {
    const found = this.cards.filter((card) => matches(card, this.search.value.trim()));
    this.note.textContent = this.cards.length
      ? found.length ? "Drag one into a prompt or onto the graph." : "No matches."
      : "There are no embeddings yet: train one, or put files into models/embeddings.";
    this.list.replaceChildren(...found.map((card) => this.#card(card)));
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
      hidden: Boolean(card.error),
    });
    const add = element("button", { type: "button", textContent: "Add node", disabled: Boolean(card.error) });
    add.addEventListener("click", () => this.add(card));
    const copy = element("button", { type: "button", textContent: "Copy", disabled: !card.prompt,
      title: card.prompt ? `Copy “${card.prompt}”` : "This file cannot be named in a prompt: add its node instead" });
    copy.addEventListener("click", () => navigator.clipboard?.writeText(card.prompt));
    const made = element("div", { className: "ti-card", draggable: !card.error, title: card.file, tabIndex: 0 },
      picture, kind,
      element("div", { className: "ti-name", textContent: card.name }),
      element("div", { className: "ti-facts", textContent: facts(card) }),
      element("code", { className: "ti-prompt", textContent: card.prompt }),
      element("div", { className: "ti-actions" }, add, copy));
    made.addEventListener("dragstart", (event) => {
      // With room around it: next to a letter the word would be another one.
      event.dataTransfer.setData("text/plain", card.prompt ? ` ${card.prompt} ` : "");
      event.dataTransfer.setData(DRAGGED, JSON.stringify({ file: card.file, negative: card.negative }));
      event.dataTransfer.effectAllowed = "copy";
    });
    return made;
  }
}
