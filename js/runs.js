/** Training runs as the page knows them. Losses are asked for piece by piece. */

import { STEP } from "./chart.js";

/** A run of which nothing is known yet. */
export function emptyRun(id) {
  return {
    id, name: "", status: "", message: "", stopping: false, notes: [], kept: [],
    step: 0, steps: 0, secondsLeft: null,
    rows: [], previews: [], words: [], stills: [],
  };
}

/** The last step whose losses are known; what is asked for is what comes after it. */
export function lastStep(run) {
  return run.rows.length ? run.rows[run.rows.length - 1][STEP] : 0;
}

/**
 * A run with what the server has answered to “what came after `lastStep(run)`?”.
 * Null where that does not fit together, because the run has gone back: ask for everything.
 */
export function merged(run, answer) {
  if (answer.step < lastStep(run)) return null;
  return {
    id: answer.id, name: answer.name, status: answer.status, message: answer.message,
    stopping: answer.stopping, notes: answer.notes, kept: answer.kept,
    step: answer.step, steps: answer.steps, secondsLeft: answer.seconds_left,
    rows: [...run.rows, ...answer.rows.filter((row) => row[STEP] > lastStep(run))],
    previews: answer.previews, words: answer.words, stills: answer.stills,
  };
}

/** What to say about a run in one line. */
export function headline(run) {
  const { status, message, kept } = run;
  if (!status) return "";
  if (status === "running") {
    return run.stopping && message.startsWith("step ") ? "stopping after this step; the word is kept" : message || "starting";
  }
  const step = run.step.toLocaleString("en");
  const place = run.steps > run.step ? `${step} of ${run.steps.toLocaleString("en")}` : step;
  const saved = kept.length ? [`saved as ${kept.join(" and ")}`] : [];
  if (status === "finished") {
    const told = [`finished after ${step} steps`, ...saved].join("; ");
    return message ? `${told}. ${message}` : told;
  }
  if (status === "stopped") return [`stopped at ${place} steps`, ...saved].join("; ");
  const reason = message ? ` (${message.replace(/\.$/, "")})` : "";
  const where = kept.length ? [`kept as ${kept.join(" and ")}`] : [];
  return [`cut short at ${place}${reason}`, ...where, "Run continues from here"].join("; ");
}

/** What else there is to tell: where the word of a run that goes on was saved, and what is unusual. */
export function remarks(run) {
  const saved = run.status === "running" && run.kept.length ? [`Saved as ${run.kept.join(" and ")}.`] : [];
  return [...saved, ...run.notes];
}

/** The name of the message by which the server says that a run has changed. */
export const EVENT = "textual_inversion.run";

/**
 * Keeps runs up to date. Listeners are called with the run whenever it has changed.
 *
 * @param ask (path) => promise of the answer's JSON; throws where there is none.
 */
export class RunWatcher {
  constructor(ask) {
    this.ask = ask;
    this.runs = new Map();
    this.listeners = new Map();
    this.busy = new Map();
  }

  /** Hear of a run; returns a function that ends it. */
  listen(id, listener) {
    if (!this.listeners.has(id)) this.listeners.set(id, new Set());
    this.listeners.get(id).add(listener);
    if (this.runs.has(id)) listener(this.runs.get(id));
    return () => this.listeners.get(id)?.delete(listener);
  }

  /** Ask for what is new. While one question is open, further ones become a single one. */
  async refresh(id) {
    if (this.busy.has(id)) {
      this.busy.set(id, true);
      return;
    }
    this.busy.set(id, false);
    try {
      await this.#update(id);
    } finally {
      const again = this.busy.get(id);
      this.busy.delete(id);
      if (again) this.refresh(id);
    }
  }

  async #update(id) {
    let known = this.runs.get(id) ?? emptyRun(id);
    let run = merged(known, await this.#get(id, lastStep(known)));
    if (!run) run = merged(emptyRun(id), await this.#get(id, 0));
    this.runs.set(id, run);
    for (const listener of this.listeners.get(id) ?? []) listener(run);
  }

  #get(id, after) {
    return this.ask(`/textual_inversion/run?id=${encodeURIComponent(id)}&after=${after}`);
  }
}

/** Where one of the pictures is that previews are compared with: `picture` or `before`. */
export function stillPath(id, still) {
  return `/textual_inversion/run/preview?id=${encodeURIComponent(id)}&still=${still}`;
}

/** Where the picture of a step is. */
export function previewPath(id, step) {
  return `/textual_inversion/run/preview?id=${encodeURIComponent(id)}&step=${step}`;
}
