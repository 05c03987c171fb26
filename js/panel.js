/** The live view of a run: chart, pictures and buttons. Knows nothing of nodes. */

import {
  drawChart, EVALUATION, LOSS, nearestRow, OVER_NOISE, RANKED, RATE, SERIES, SHARE, short, SMOOTHED, STEP, TURNED,
} from "./chart.js";
import { element } from "./dom.js";
import { headline, previewPath } from "./runs.js";
import { showThumbnails } from "./thumbnails.js";

const BUTTONS = [
  { action: "stop", label: "Stop and keep", title: "End the run after this step and continue with the graph" },
  { action: "sample", label: "Sample now", title: "Draw a picture after this step" },
  { action: "save", label: "Save now", title: "Save the word as it is to the embeddings folder, as NAME-STEP" },
];

export class Panel {
  /**
   * @param url (path) => address of a picture.
   * @param control (id, action) => promise; asks something of the run.
   */
  constructor({ url, control }) {
    this.url = url;
    this.control = control;
    this.run = null;
    this.shown = new Set(SERIES.filter((s) => s.shown).map((s) => s.key));
    this.pinned = null; // the step whose picture was chosen; otherwise the newest is shown
    this.#build();
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(this.chart);
  }

  /** Show a run. */
  update(run) {
    if (this.run?.id !== run.id) this.pinned = null;
    this.run = run;
    const running = run.status === "running";
    this.title.textContent = headline(run);
    this.title.title = this.title.textContent;
    this.bar.style.width = `${run.steps ? (100 * run.step) / run.steps : 0}%`;
    for (const button of this.buttons) {
      button.disabled = !running;
      if (!running) button.classList.remove("ti-asked");
    }
    this.rankedToggle.hidden = !run.rows.some((row) => row[RANKED] != null);
    this.#updateStrip();
    this.#draw();
  }

  /** Show a sentence instead of the headline, until the run changes. */
  say(sentence) {
    this.title.textContent = sentence;
  }

  /** Stop watching sizes; the panel is not used any more. */
  destroy() {
    this.observer.disconnect();
  }

  #build() {
    this.title = element("div", {
      className: "ti-title",
      textContent: "Run the graph: losses and pictures will appear here.",
    });
    this.bar = element("div", { className: "ti-bar" });
    this.chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.chart.setAttribute("class", "ti-chart");
    this.chart.setAttribute("role", "img");
    this.chart.setAttribute("aria-label", "Losses of the run by step");
    this.hint = element("div", { className: "ti-hint" });
    this.chart.addEventListener("pointermove", (event) => this.#point(event));
    this.chart.addEventListener("pointerleave", () => (this.hint.textContent = ""));
    const toggles = SERIES.map(({ key, label }) => this.#toggle(key, label));
    this.rankedToggle = toggles[SERIES.findIndex(({ key }) => key === "ranked")];
    this.picture = element("img", { className: "ti-picture", alt: "", draggable: false });
    this.caption = element("div", { className: "ti-caption" });
    this.slider = element("input", { type: "range", className: "ti-slider", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "Step of the picture");
    this.slider.addEventListener("input", () => this.#pin(Number(this.slider.value)));
    this.strip = element("div", { className: "ti-strip" });
    this.pictures = element("div", { className: "ti-pictures", hidden: true },
      this.picture, this.caption, this.slider, this.strip);
    this.buttons = BUTTONS.map((button) => this.#button(button));
    this.root = element("div", { className: "ti-panel" },
      this.title,
      element("div", { className: "ti-progress" }, this.bar),
      element("div", { className: "ti-middle" },
        element("div", { className: "ti-losses" }, this.chart,
          element("div", { className: "ti-legend" }, ...toggles), this.hint),
        this.pictures),
      element("div", { className: "ti-buttons" }, ...this.buttons));
    // The canvas must neither pan nor zoom when the panel is used.
    for (const kind of ["pointerdown", "wheel"]) {
      this.root.addEventListener(kind, (event) => {
        if (kind === "pointerdown" || this.strip.contains(event.target)) event.stopPropagation();
      });
    }
  }

  #toggle(key, label) {
    const button = element("button", { type: "button", className: `ti-toggle ti-${key}`, textContent: label });
    const show = () => button.setAttribute("aria-pressed", String(this.shown.has(key)));
    button.addEventListener("click", () => {
      if (!this.shown.delete(key)) this.shown.add(key);
      show();
      this.#draw();
    });
    show();
    return button;
  }

  #button({ action, label, title }) {
    const button = element("button", { type: "button", textContent: label, title, disabled: true });
    button.addEventListener("click", async () => {
      button.classList.add("ti-asked");
      try {
        await this.control(this.run.id, action);
      } catch (error) {
        this.say(error.message);
      }
      setTimeout(() => button.classList.remove("ti-asked"), 1500);
    });
    return button;
  }

  #draw() {
    if (this.run) drawChart(this.chart, this.run.rows, this.#end, this.shown);
  }

  /** The last step on the chart; a run that was stopped makes no more. */
  get #end() {
    return this.run.status === "stopped" ? this.run.step : this.run.steps;
  }

  #point(event) {
    if (!this.run?.rows.length) return;
    const size = { width: this.chart.clientWidth, height: this.chart.clientHeight };
    // In nodes the element may be scaled: bring the mouse into its own pixels.
    const box = this.chart.getBoundingClientRect();
    const atX = ((event.clientX - box.left) * size.width) / (box.width || 1);
    const row = nearestRow(this.run.rows, this.#end, size, atX);
    const texts = [`step ${row[STEP]}`];
    for (const [key, column] of [["loss", LOSS], ["smoothed", SMOOTHED], ["evaluation", EVALUATION], ["rate", RATE]]) {
      if (this.shown.has(key) && row[column] !== null) texts.push(`${key} ${short(row[column])}`);
    }
    if (this.shown.has("share") && row[SHARE] != null) {
      texts.push(`${Math.round(100 * row[SHARE])} % of the way`);
      texts.push(`turned ${Math.round((180 / Math.PI) * row[TURNED])}°`);
      if (row[OVER_NOISE] !== null) texts.push(`signal over noise ${short(row[OVER_NOISE])}`);
    }
    if (this.shown.has("ranked") && row[RANKED] != null) {
      texts.push(`${Math.round(100 * row[RANKED])} % ranked right`);
    }
    this.hint.textContent = texts.join(" · ");
  }

  #pin(place) {
    const steps = this.run.previews;
    this.pinned = place >= steps.length - 1 ? null : steps[place];
    this.#updateStrip();
  }

  #updateStrip() {
    const { id, previews } = this.run;
    this.pictures.hidden = previews.length === 0;
    if (!previews.length) return;
    const step = previews.includes(this.pinned) ? this.pinned : previews[previews.length - 1];
    const place = previews.indexOf(step);
    setSource(this.picture, this.url(previewPath(id, step)));
    this.picture.alt = `Picture of step ${step}`;
    this.caption.textContent = `step ${step}`;
    this.slider.max = previews.length - 1;
    this.slider.value = place;
    this.slider.hidden = previews.length < 2;
    this.strip.hidden = previews.length < 2;
    showThumbnails(this.strip, previews, step, (s) => this.url(previewPath(id, s)), (s) =>
      this.#pin(previews.indexOf(s)));
  }
}

function setSource(image, address) {
  if (image.getAttribute("src") !== address) image.src = address;
}
