// Train: choose data, see what `plan` finds in them, start, and watch. A run that was stopped, or left by a server that died, goes on.

import * as api from "../api.js";
import { button, duration, fill, h, number } from "../dom.js";
import { makeForm } from "../form.js";
import { jobPanel, lastJob } from "../job.js";
import { dataLink, heading, loaded } from "./common.js";
import { planView } from "./plan.js";
import { SourceChooser } from "./sources.js";
import { TrainingView } from "./training.js";

const FIRST = ["out", "seconds", "recipe", "size"];
const CHANGES = {
  out: { label: "Name of the run", help: "A new folder under the runs' root. Left empty, it is the name of the data.", placeholder: "name of the data" },
  seconds: { label: "Time", help: "How long to train at most, such as 30s, 3m or 1h30m.", placeholder: "3m" },
  size: { label: "Size of images", placeholder: "theirs", help: "In pixels, such as 32 or 48x64; left empty, that of the images if all have one." },
  recipe: { help: "What chooses process, network, objective and sampler." },
};

const HOW = [
  "Choose data. Check them first if you like: that takes some seconds and writes nothing. Then start: the losses and the first pictures come within seconds, and you can stop at any time without losing what was learned.",
  "To try it, leave everything as it is and start: handwritten digits, 3 minutes.",
];

/** Runs that were stopped, or that a server which died has left. */
function unfinished(runs, goOn, first) {
  const left = runs.filter((one) => !one.finished && !one.training).sort((a, b) => (b.name === first) - (a.name === first));
  if (!left.length) return null;
  const shown = left.slice(0, 8);
  return h(
    "section", { class: "panel" }, h("h2", null, "Unfinished runs"), h("p", { class: "help" }, "They go on from their last checkpoint; nothing is lost."),
    h("ul", { class: "files" }, shown.map((one) => h("li", { class: "actions" }, h("a", { href: `/runs/${encodeURIComponent(one.name)}` }, one.name), h("span", { class: "help" }, `step ${number(one.step)}, ${duration(one.seconds)}`), button("Go on", () => goOn(one), { class: "button small", "aria-label": `Go on with ${one.name}` })))),
    left.length > 8 ? h("p", { class: "help" }, `And ${left.length - 8} more: see `, h("a", { href: "/runs" }, "all runs"), ".") : null,
  );
}

class Train {
  constructor(place, forms, sources) {
    this.place = place;
    this.view = new TrainingView();
    this.planPanel = jobPanel({ name: "Looking at the data" });
    this.stay = h("input", { type: "checkbox", id: "stay" });
    const own = (source) => place.update({ source: source && !source.startsWith("upload:") ? source : null });
    this.chooser = new SourceChooser(sources, place.query.source || "", own);
    this.form = makeForm({
      described: forms.train, first: FIRST, hidden: ["source", "resume"], changes: CHANGES, values: { ...place.query, out: place.query.name }, submit: "Start training", label: "Train",
      onSubmit: (values) => this.start(values, this.chooser.value),
      onChange: ({ out, ...values }) => place.set({ source: place.query.source, name: out, ...values }),
      others: h("div", { class: "entry" }, h("span", { class: "check" }, this.stay, h("label", { for: "stay" }, "Keep training when this page is closed"))),
      actions: [button("Check the data first", () => this.look())],
    });
    this.form.element.prepend(this.chooser.element);
    this.rest = h("div");
    this.result = h("div", { class: "stack" }, h("section", { class: "panel" }, h("h2", null, "What happens"), HOW.map((one) => h("p", null, one))));
    this.element = h("div", { class: "split" }, h("div", { class: "stack" }, this.form.element, this.rest), this.result);
  }

  refuse(problem) {
    if (problem.field === "source") this.chooser.refuse(problem);
    else this.form.refuse(problem);
  }

  /** Show the runs that can go on. */
  async showRest() {
    fill(this.rest, unfinished(await api.runs(), (one) => this.start({ ...this.form.read(), out: one.name }, one.source, { resume: true, source: null }), this.place.query.unfinished)); // the server knows where its data are
  }

  async start(values, source, more = {}) {
    try {
      if (!source) throw new api.Refused("Upload a file first.", "source");
      const job = await api.job("train", { source, ...values, ...more }, { stay: this.stay.checked });
      fill(this.result, this.view.element);
      this.view.element.scrollIntoView({ block: "nearest" });
      this.watch(job);
    } catch (problem) {
      this.refuse(problem);
    }
  }

  /** Follow a training to its end. */
  async watch(job) {
    fill(this.result, this.view.element);
    this.stay.checked = job.stay;
    await this.view.watch(job).catch((problem) => this.refuse(problem));
    await this.showRest();
  }

  /** Let `plan` look at the data. */
  async look() {
    this.form.clear();
    const { out, ...values } = this.form.read();
    try {
      if (!this.chooser.value) throw new api.Refused("Upload a file first.", "source");
      fill(this.result, this.planPanel.element);
      const ended = await api.finished(await api.job("plan", { source: this.chooser.value, ...values }), this.planPanel.show);
      if (ended.report) fill(this.result, this.planPanel.element, planView(ended.report), dataLink(api.path("jobs", ended.id)));
    } catch (problem) {
      this.refuse(problem);
    }
  }
}

export async function mount(element, place) {
  const [[forms], sources] = await Promise.all([loaded(), api.sources()]);
  const train = new Train(place, forms, sources);
  fill(element, heading("Train", "Learn the score of your own data: images, sounds, volumes, arrays or a table."), train.element, dataLink("/api/runs"));
  await train.showRest();
  const running = await lastJob(["train"], (one) => one.state !== "done" && !String(one.arguments.out || "").startsWith("field-"));
  if (running) train.watch(running);
  return () => train.view.end();
}
