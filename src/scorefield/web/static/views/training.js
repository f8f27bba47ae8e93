// A training as it goes: the bar, the loss over time and by noise level, and pictures: raw weights on the left, their moving average
// on the right.

import * as api from "../api.js";
import { trainingCharts } from "../chart.js";
import { duration, fill, h, number } from "../dom.js";
import { jobPanel } from "../job.js";
import { pixels } from "./common.js";
import { startView } from "./plan.js";

/** The name of the run that a job trains: as it was asked, or that of the data. */
const runName = (job) => {
  const last = (path) => String(path).split("/").at(-1);
  return job.report?.folder ? last(job.report.folder) : job.arguments.out || last(job.arguments.source || "").split(".")[0] || "data";
};

/** The names of the pictures of a training, in their order. */
export const previewsOf = (run) => run.files.filter((file) => /^previews\/.*\.png$/.test(file)).sort();

/** What is seen of one training after the other. */
export class TrainingView {
  constructor() {
    this.panel = jobPanel({ stop: "Stop and save", name: "Training", states: { cancelled: "Stopped and saved" }, words: false });
    this.charts = trainingCharts();
    this.now = h("p", { class: "job-text" });
    this.messages = h("ul", { class: "help" });
    this.figures = h("section", { class: "panel", hidden: true }, this.now, this.messages, h("div", { class: "pair" }, this.charts.elements));
    this.pictures = h("section", { class: "panel", hidden: true });
    this.next = h("div", { class: "actions" });
    this.plan = h("div");
    this.stops = [];
    this.element = h("div", { class: "stack" }, this.panel.element, this.next, this.figures, this.pictures, this.plan);
  }

  end() {
    this.stops.forEach((stop) => stop());
    this.stops = [];
  }

  /** Follow a job to its end; throws the `Refused` of one that failed. */
  async watch(job) {
    this.end();
    Object.assign(this, { name: runName(job), lines: [], seen: 0, there: job.state === "running" && job.fraction > 0 });
    fill(this.now);
    fill(this.messages);
    fill(this.next);
    this.pictures.hidden = true;
    const timer = setInterval(() => this.refresh(), 4000);
    this.stops = [api.onTraining(job.id, (state) => this.take(state)), () => clearInterval(timer)];
    this.refresh();
    try {
      await api.finished(job, (one) => this.show(one));
    } finally {
      this.end();
    }
    this.there ||= (await api.runs()).some((one) => one.name === this.name);
    if (!this.there) return; // it was stopped before it began
    this.figures.hidden = false;
    await this.refresh();
    const name = encodeURIComponent(this.name);
    fill(this.next, h("a", { class: "button primary", href: `/sample?run=${name}` }, "Draw samples"), h("a", { class: "button", href: `/runs/${name}` }, "See the run"));
  }

  show(job) {
    this.panel.show(job);
    this.name = runName(job);
    if (!job.plan || this.planned === job.id) return;
    this.planned = job.id;
    this.figures.hidden = false;
    fill(this.plan, startView(job.plan));
  }

  /** Take a state of the training. */
  take(state) {
    this.there = true;
    this.figures.hidden = false;
    if (state.event === "log") {
      const held = state.extra?.held_out;
      const words = [`Step ${number(state.step)}`, Number.isFinite(state.loss) && `loss ${number(state.loss)}`, Number.isFinite(held) && `held out ${number(held)}`, state.images_per_second && `${number(Math.round(state.images_per_second))} examples a second`, state.seconds_left && `${duration(state.seconds_left)} left`];
      this.now.textContent = words.filter(Boolean).join(" · ");
      this.lines.push(state);
      this.charts.show(this.lines);
    }
    for (const text of state.messages || []) this.messages.append(h("li", null, text));
    if (["picture", "checkpoint", "done", "stopped"].includes(state.event)) setTimeout(() => this.refresh(), 500);
  }

  /** Read what the run's folder has. */
  async refresh() {
    if (!this.there) return;
    try {
      this.lines = (await api.get(api.path("runs", this.name, "metrics"))).lines;
      this.charts.show(this.lines);
      const previews = previewsOf(await api.run(this.name));
      if (previews.length && previews.length !== this.seen) showPreviews(this.pictures, this.name, previews);
      this.seen = previews.length;
    } catch {
      // it is being made, or the server is away: the next look may succeed
    }
  }
}

/** The pictures of a training with a slider through them; the newest first. */
export function showPreviews(place, name, previews) {
  place.hidden = false;
  const address = (file) => api.path("runs", name, "files", file);
  const step = (file) => Number(/step-0*(\d+)/.exec(file)?.[1] || 0);
  const picture = pixels(address(previews.at(-1)), "Samples while training: raw weights on the left, their moving average on the right", 640);
  const words = h("figcaption", { "aria-live": "polite" });
  const show = (index) => {
    if (!picture.src.endsWith(address(previews[index]))) picture.src = address(previews[index]);
    words.textContent = `Step ${number(step(previews[index]))}. Raw weights on the left, their moving average on the right.`;
  };
  const slider = h("input", { type: "range", min: 0, max: previews.length - 1, value: String(previews.length - 1), "aria-label": "Which picture", oninput: () => show(Number(slider.value)) });
  slider.value = String(previews.length - 1);
  show(previews.length - 1);
  fill(place, h("h2", null, "Samples while training"), h("figure", null, picture, words), previews.length > 1 ? slider : null);
}
