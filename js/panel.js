/** The live view of a run: chart, pictures and buttons. Knows nothing of nodes. */

import {
  drawChart, EVALUATION, LOSS, nearestRow, OVER_NOISE, RANKED, RATE, SERIES, SHARE, short, SMOOTHED, STEP, TURNED,
} from "./chart.js";
import { element } from "./dom.js";
import { Pictures } from "./pictures.js";
import { headline, remarks } from "./runs.js";

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
    this.pictures = new Pictures(url);
    this.#build();
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(this.chart);
  }

  /** Show a run. */
  update(run) {
    this.run = run;
    const running = run.status === "running";
    this.say(headline(run));
    this.title.classList.toggle("ti-wrong", run.status === "interrupted" && Boolean(run.message));
    this.bar.style.width = `${run.steps ? (100 * run.step) / run.steps : 0}%`;
    this.notes.textContent = remarks(run).join(" ");
    this.notes.title = this.notes.textContent;
    for (const button of this.buttons) {
      button.disabled = !running || run.stopping;
      if (!running) button.classList.remove("ti-asked");
    }
    this.rankedToggle.hidden = !run.rows.some((row) => row[RANKED] != null);
    this.pictures.update(run);
    this.#draw();
  }

  /** Show a sentence instead of the headline, until the run changes. */
  say(sentence) {
    this.title.textContent = this.title.title = sentence;
  }

  /** Show a sentence in red that says why nothing runs; an empty one takes it away. */
  refuse(sentence) {
    this.refusal.textContent = sentence;
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
    this.refusal = element("div", { className: "ti-refusal" });
    this.refusal.setAttribute("role", "alert");
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
    this.rankedToggle.hidden = true;
    this.notes = element("div", { className: "ti-notes" });
    this.buttons = BUTTONS.map((button) => this.#button(button));
    this.root = element("div", { className: "ti-panel" },
      this.refusal,
      this.title,
      element("div", { className: "ti-progress" }, this.bar),
      element("div", { className: "ti-middle" },
        this.pictures.root,
        element("div", { className: "ti-losses" }, this.chart,
          element("div", { className: "ti-legend" }, ...toggles), this.hint)),
      this.notes,
      element("div", { className: "ti-buttons" }, ...this.buttons));
    // The canvas must neither pan nor zoom when the panel is used.
    for (const kind of ["pointerdown", "wheel"]) {
      this.root.addEventListener(kind, (event) => {
        if (kind === "pointerdown" || this.pictures.strip.contains(event.target)) event.stopPropagation();
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
}
