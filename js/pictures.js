/** What a run has drawn so far, beside one of its user's pictures and the picture before learning. */

import { element } from "./dom.js";
import { previewPath, stillPath } from "./runs.js";
import { ofSteps, showThumbnails } from "./thumbnails.js";

const STILLS = [
  { still: "picture", caption: "yours" },
  { still: "before", caption: "before" },
];

export class Pictures {
  /** @param url (path) => address of a picture. */
  constructor(url) {
    this.url = url;
    this.run = null;
    this.pinned = null; // the step whose picture was chosen; otherwise the newest is shown
    this.picture = element("img", { className: "ti-picture", alt: "", draggable: false });
    this.caption = element("div", { className: "ti-caption" });
    this.stills = STILLS.map(({ still, caption }) => {
      const image = element("img", { className: "ti-picture", alt: caption, draggable: false });
      const root = element("div", { className: "ti-framed" },
        image, element("div", { className: "ti-caption", textContent: caption }));
      return { still, image, root };
    });
    this.strip = element("div", { className: "ti-strip" });
    this.strip.addEventListener("pointermove", (event) => this.#scrub(event));
    this.strip.addEventListener("keydown", (event) => this.#walk(event));
    this.now = element("div", { className: "ti-framed ti-now" }, this.picture, this.caption);
    this.root = element("div", { className: "ti-pictures", hidden: true },
      this.now, element("div", { className: "ti-stills" }, ...this.stills.map(({ root }) => root)), this.strip);
  }

  /** Show the pictures of a run; the newest, unless an earlier one was chosen. */
  update(run) {
    if (this.run?.id !== run.id) this.pinned = null;
    this.run = run;
    const { id, previews, stills } = run;
    this.root.hidden = !previews.length && !stills.length;
    for (const { still, image, root } of this.stills) {
      root.hidden = !stills.includes(still);
      if (!root.hidden) setSource(image, this.url(stillPath(id, still)));
    }
    this.now.hidden = this.strip.hidden = !previews.length;
    if (!previews.length) return;
    const step = previews.includes(this.pinned) ? this.pinned : previews.at(-1);
    setSource(this.picture, this.url(previewPath(id, step)));
    this.picture.alt = `Picture of step ${step}`;
    this.caption.textContent = `step ${step}`;
    this.strip.hidden = previews.length < 2;
    showThumbnails(this.strip, ofSteps(previews, (s) => this.url(previewPath(id, s))), step, (s) => this.#pin(s));
  }

  #pin(step) {
    this.pinned = step === this.run.previews.at(-1) ? null : step;
    this.update(this.run);
  }

  /** With the button held down, the picture below the pointer is shown. */
  #scrub(event) {
    if (!(event.buttons & 1)) return;
    const step = event.target.closest(".ti-thumbnail")?.dataset.key;
    if (step) this.#pin(Number(step));
  }

  #walk(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const { previews } = this.run;
    const at = this.pinned ? previews.indexOf(this.pinned) : previews.length - 1;
    this.#pin(previews[Math.min(previews.length - 1, Math.max(0, at + by))]);
  }
}

function setSource(image, address) {
  if (image.getAttribute("src") !== address) image.src = address;
}
