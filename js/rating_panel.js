/** Rating pictures one by one, with mouse or keys. Knows nothing of nodes. */

import { element } from "./dom.js";
import { DISLIKED, LIKED, rated, SKIPPED, tally, UNKNOWN, waiting, WAITING } from "./ratings.js";
import { showThumbnails } from "./thumbnails.js";

/** From left to right, as their keys lie. */
const BUTTONS = [
  { rating: DISLIKED, label: "Dislike", icon: "pi-thumbs-down", key: "←", keys: ["ArrowLeft", "d"] },
  { rating: SKIPPED, label: "Skip", icon: "pi-forward", key: "↓", keys: ["ArrowDown", "s"] },
  { rating: LIKED, label: "Like", icon: "pi-thumbs-up", key: "→", keys: ["ArrowRight", "l"] },
  { rating: WAITING, label: "Undo", icon: "pi-undo", key: "Z", keys: ["z", "Backspace"] },
];

function icon(rating) {
  const { icon: name } = BUTTONS.find((button) => button.rating === rating);
  return element("i", { className: `pi ${name} ti-${rating || "undo"}` });
}

export class RatingPanel {
  /**
   * @param url (key) => address of a picture.
   * @param rate (key, rating) => promise; keeps what is thought of a picture, or throws why not.
   */
  constructor({ url, rate }) {
    this.url = url;
    this.rate = rate;
    this.images = new Map(); // key -> its picture, of those that are shown or come next
    this.#build();
    this.begin();
  }

  /** What is shown from now on belongs to another list. */
  begin() {
    this.list = UNKNOWN;
    this.first = []; // keys of what was taken back or chosen: the last of them comes before all that wait
    this.images.clear();
    this.refuse("");
  }

  /** Show a list of ratings, see `RatingLists`. */
  update(list) {
    const focused = this.root.contains(document.activeElement);
    this.list = list;
    const queue = waiting(list), done = rated(list);
    const shown = this.#shown;
    this.tally.textContent = tally(list);
    this.bar.style.width = `${list.wanted ? Math.min(100, (100 * list.pairs) / list.wanted) : 0}%`;
    this.frame.classList.toggle("ti-empty", !shown);
    this.hint.hidden = shown?.rating === WAITING;
    this.said.textContent = hint(list, shown);
    this.goOn.hidden = !shown;
    this.prompt.textContent = this.prompt.title = shown?.prompt ?? "";
    this.#showPicture(shown, [...queue.slice(0, 2), ...done.slice(-1)]);
    for (const { button, rating } of this.buttons) {
      const works = rating === WAITING ? done.length : shown;
      // Not `disabled`: that would take the focus away, and the next key would reach the graph.
      button.setAttribute("aria-disabled", String(!works));
      if (rating !== WAITING) button.setAttribute("aria-pressed", String(shown?.rating === rating));
    }
    this.strip.hidden = !done.length;
    showThumbnails(this.strip, done.map((one) => this.#thumbnail(one)).reverse(), shown?.key,
      (key) => this.#choose(key === shown?.key ? null : key));
    const there = this.root.contains(document.activeElement) && !document.activeElement.closest("[hidden]");
    if (focused && !there) this.root.focus({ preventScroll: true });
  }

  /** Show a sentence in red that says what was not done; an empty one takes it away. */
  refuse(sentence) {
    this.refusal.textContent = sentence;
  }

  get #shown() {
    return this.list.ratings.find(({ key }) => key === this.first.at(-1)) ?? waiting(this.list)[0];
  }

  #build() {
    this.refusal = element("div", { className: "ti-refusal" });
    this.refusal.setAttribute("role", "alert");
    this.tally = element("div", {
      className: "ti-title", title: "A pair is a liked and a disliked picture of the same prompt.",
    });
    this.tally.setAttribute("role", "status");
    this.bar = element("div", { className: "ti-bar" });
    this.said = element("span");
    this.goOn = element("button", { type: "button", textContent: "Continue", title: "Continue (Esc)" });
    this.goOn.addEventListener("click", () => this.#choose(null));
    this.hint = element("div", { className: "ti-rate-hint" }, this.said, this.goOn);
    this.frame = element("div", { className: "ti-framed" }, this.hint);
    this.prompt = element("div", { className: "ti-rate-prompt" });
    this.buttons = BUTTONS.map((said) => ({ rating: said.rating, button: this.#button(said) }));
    this.strip = element("div", { className: "ti-strip" });
    this.root = element("div", { className: "ti-panel ti-rating", tabIndex: 0 },
      this.refusal, this.tally, element("div", { className: "ti-progress" }, this.bar),
      this.frame, this.prompt,
      element("div", { className: "ti-buttons" }, ...this.buttons.map(({ button }) => button)),
      this.strip);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Rate pictures");
    this.root.addEventListener("keydown", (event) => this.#press(event));
    // The canvas must neither pan nor zoom when the panel is used.
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.strip.addEventListener("wheel", (event) => event.stopPropagation());
  }

  #button({ rating, label, key, keys }) {
    const button = element("button", { type: "button", title: `${label} (${key} or ${keys[1].toUpperCase()})` },
      icon(rating), element("span", { textContent: label }),
      element("kbd", { textContent: key }));
    button.setAttribute("aria-label", label);
    button.setAttribute("aria-keyshortcuts", keys.join(" "));
    button.addEventListener("click", () => this.#act(rating));
    return button;
  }

  #press(event) {
    const held = event.ctrlKey || event.metaKey;
    // Except for those that run and save the graph, keys would do something to the node behind.
    if (held && ["Enter", "s"].includes(event.key)) return;
    event.stopPropagation();
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const pressed = BUTTONS.find(({ keys }) => keys.includes(key));
    if (event.altKey || (held && key !== "z")) return;
    if (key === "Escape") this.#choose(null);
    if (!pressed) return;
    event.preventDefault();
    // The page has met the event before, and looks in its next frame whether to undo a change of the graph.
    for (const name of ["ctrlKey", "metaKey"]) Object.defineProperty(event, name, { value: false });
    if (!event.repeat) this.#act(pressed.rating);
  }

  async #act(rating) {
    const one = rating === WAITING ? rated(this.list).at(-1) : this.#shown;
    if (!one) return;
    this.#comesFirst(rating === WAITING && one.key, one.key);
    this.refuse("");
    try {
      await this.rate(one.key, rating);
    } catch (error) {
      this.refuse(`This was not kept. ${error.message}`);
      if (rating === WAITING) this.#choose(null);
    }
  }

  /** Look at a picture again, or go on with those that wait. */
  #choose(key) {
    this.#comesFirst(key);
    this.update(this.list);
  }

  #comesFirst(key, except) {
    const queue = waiting(this.list).map((one) => one.key);
    this.first = [...this.first.filter((one) => one !== except && queue.includes(one)), ...(key ? [key] : [])];
  }

  #showPicture(shown, soon) {
    const wanted = new Map([shown, ...soon].filter(Boolean).map((one) => [one.key, one]));
    for (const key of this.images.keys()) if (!wanted.has(key)) this.images.delete(key);
    for (const [key, { prompt }] of wanted) {
      if (this.images.has(key)) continue;
      const image = element("img", { className: "ti-picture", alt: prompt, draggable: false, src: this.url(key) });
      this.images.set(key, image);
    }
    const image = this.images.get(shown?.key) ?? null;
    if (image !== this.hint.previousSibling) this.frame.replaceChildren(...(image ? [image] : []), this.hint);
  }

  #thumbnail({ key, prompt, rating }) {
    return { key, address: this.url(key), title: `${rating}: ${prompt}`, label: icon(rating) };
  }
}

/** What can be done, where it is not to rate what is shown. */
function hint(list, shown) {
  if (!list.known) return "Pictures that you rate are kept under this name.";
  if (shown?.rating) return `${shown.rating[0].toUpperCase()}${shown.rating.slice(1)}. You can rate it again.`;
  return list.ratings.length
    ? "Everything is rated. Run the graph again to draw more."
    : "Run the graph: its pictures will wait here for your rating.";
}
