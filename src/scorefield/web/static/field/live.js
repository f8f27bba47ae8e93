// Learned fields in the view: choose a run, or train one on the density that is shown and watch its error fall.

import { DATASETS } from "./datasets.js";
import { palette } from "./draw.js";
import { drawGraph } from "./graph.js";
import { LearnedField, densityOf, trainingPoints } from "./learned.js";
import { npy } from "./npy.js";
import { button, choice, count, h } from "./ui.js";

const POINTS = 20000;
const SETTINGS = ["training.checkpoint_seconds=1", "training.pictures=0"];
const drawingKey = (run) => `scorefield-drawing-${run}`;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export class Live {
  /** @param view state, set, change(changes), level(), show(found); @param source what mount was given as `learned`. */
  constructor(view, source) {
    Object.assign(this, { view, source, field: null, runs: [], job: null, curve: [], seconds: 60, asked: null });
    this.status = h("p", { class: "field-status", role: "status" });
    this.run = choice("Learned run", { "": "None: the exact field alone" }, (name) => this.choose(name));
    this.follow = choice("Particles follow", { exact: "the exact field", learned: "the learned field" }, (value) => view.change({ follow: value }));
    const time = count("Seconds of training", 5, 600, (value) => (this.seconds = value));
    time.set(this.seconds);
    this.start = button("Train on this density", () => this.train());
    this.end = button("Stop the training", () => this.job && source.cancel(this.job), { hidden: true });
    this.levels = h("canvas", { class: "field-graph", role: "img", "aria-label": "Relative error of the learned score by noise level" });
    this.time = h("canvas", { class: "field-graph", role: "img", "aria-label": "Relative error of the learned score against seconds of training" });
    this.node = h("fieldset", { class: "field-group field-learned" }, h("legend", {}, "Learned beside exact"),
      this.run.row, this.follow.row, time.row, h("div", { class: "field-buttons" }, this.start, this.end), this.status);
    this.graphs = h("div", { class: "field-graphs" }, this.levels, this.time);
    this.alive = true;
  }

  async open() {
    try {
      const drawn = (name) => localStorage.getItem(drawingKey(name)) ?? "";
      this.runs = (await this.source.runs()).map((run) => ({ ...run, drawing: drawn(run.name) }));
    } catch (error) {
      this.status.textContent = error.message;
    }
    this.show();
    if (this.field) this.measure();
  }

  /** A run was chosen: its density is shown with it, if it is known. */
  choose(name) {
    const density = densityOf(this.runs.find((run) => run.name === name) ?? { name }, DATASETS);
    this.view.change({ lesson: "", run: name, ...(name ? density : {}), ...(name ? {} : { follow: "exact" }) });
    const unknown = name && !density && "The density of this run is not known: it is compared with the data set shown.";
    this.status.textContent = unknown || "";
  }

  /** Follow the state of the view. */
  show() {
    const { state, set } = this.view, names = new Set([...this.runs.map(({ name }) => name), state.run].filter(Boolean));
    this.run.fill({ "": "None: the exact field alone", ...Object.fromEntries([...names].map((name) => [name, name])) });
    this.run.set(state.run);
    this.follow.set(state.follow);
    this.follow.row.hidden = this.graphs.hidden = !state.run;
    this.end.hidden = !this.job;
    this.start.hidden = Boolean(this.job);
    if (state.run === (this.field?.run ?? "") && set === this.field?.set) return;
    this.field = state.run ? new LearnedField(this.source, state.run, set) : null;
    Object.assign(this, { asked: null, found: null, byLevel: null });
    if (!this.job) this.curve = [];
    if (this.field && this.alive) this.measure();
  }

  /** Compare at the level shown; while an answer is under way the newest question waits. */
  async ask(sigma, places, again = false) {
    const { field } = this;
    if (!field || (!again && this.asked === sigma)) return;
    this.asked = sigma;
    if (this.busy) return;
    this.busy = true;
    try {
      const found = await field.compare(places, sigma);
      if (field === this.field) this.found = found;
    } catch (error) {
      if (field === this.field) this.found = { sentence: error.message, sigma };
    }
    this.busy = false;
    if (field !== this.field || !this.alive) return;
    this.view.compared(this.found);
    if (this.asked !== sigma) {
      const next = this.asked;
      this.asked = null;
      this.ask(next, places);
    }
  }

  /** Error by noise level; the mean of its squares is one point of the curve of a training. */
  async measure(seconds = null) {
    const { field } = this;
    try {
      const found = await field.byLevel();
      if (field !== this.field) return;
      if (!this.byLevel && this.view.state.follow === "learned" && !this.view.player.chain.done) this.view.reset(); // its levels are known now
      this.byLevel = found;
      const square = found.levels.reduce((sum, [, error]) => sum + error ** 2, 0) / found.levels.length;
      if (seconds !== null) this.curve.push([seconds, Math.sqrt(square)]);
    } catch (error) {
      if (seconds === null) this.status.textContent = error.message;
      return;
    }
    this.draw();
  }

  draw() {
    const colours = palette(this.node), line = (points) => [{ points, colour: colours.error }];
    drawGraph(this.levels, colours, line(this.byLevel?.levels ?? []), { logX: true, logY: true, x: "noise level", y: "relative error" });
    this.time.hidden = !this.curve.length;
    if (this.curve.length) drawGraph(this.time, colours, line(this.curve), { logY: true, x: "seconds of training", y: "relative error" });
  }

  /** Train on the density shown, and compare once a second until the training ends. */
  async train() {
    const { view, source } = this, { data, drawing, seed } = view.state, { set } = view;
    this.start.disabled = true;
    let stop = () => {};
    try {
      const numbers = (await source.runs()).map(({ name }) => Number(new RegExp(`^field-${data}-(\\d+)$`).exec(name)?.[1] ?? 0));
      const name = `field-${data}-${Math.max(0, ...numbers) + 1}`, points = trainingPoints(set, POINTS, seed);
      const file = await source.upload(`${name}.npy`, npy(points));
      let job = await source.job("train", { source: file, out: name, seconds: `${this.seconds}s`, settings: SETTINGS });
      stop = source.onJob(job.id, (news) => (job = news));
      if (drawing) localStorage.setItem(drawingKey(name), drawing);
      Object.assign(this, { job: job.id, curve: [] });
      this.show();
      const began = performance.now();
      let known = false;
      while (this.alive && (job.state === "waiting" || job.state === "running")) {
        const share = `${Math.round(100 * (job.fraction ?? 0))} %`;
        this.status.textContent = job.state === "waiting" ? "Waiting for other work to end." : `Training ${name}: ${share}, ${job.text || "beginning"}`;
        await wait(1000);
        if (!known && (known = (await source.runs()).some((run) => run.name === name && run.usable))) view.change({ lesson: "", run: name });
        if (known && this.field?.run === name) await this.look((performance.now() - began) / 1000);
      }
      this.status.textContent = job.error || `Training ${name}: ${job.state}.`;
      this.job = null;
      await this.open();
    } catch (error) {
      this.status.textContent = error.message;
    }
    stop();
    this.job = null;
    this.start.disabled = false;
    this.show();
  }

  async look(seconds) {
    await this.measure(seconds);
    await this.ask(this.view.level(), this.view.figures.places, true);
  }
}
