// Restore: pick an image, say what happened to it (a hole is painted), and see several answers, their mean, and a map of where they
// differ. An intact image can be damaged first, so that the answers can be compared with the truth.

import * as api from "../api.js";
import { errorText, fill, h } from "../dom.js";
import { makeForm, ownField, radios } from "../form.js";
import { jobPanel, lastJob } from "../job.js";
import { Painter } from "../mask.js";
import { answerView, holed } from "./answers.js";
import { classChoices, dataLink, heading, loaded, noRun, pick, pixels, runField, usable } from "./common.js";
import { COUNT, imageChooser } from "./images.js";

const TASKS = [["mask", "Fill a hole"], ["noise", "Remove noise"], ["blur", "Sharpen"], ["downsample", "Enlarge"], ["other", "Another operator"]];
const ABOUT = {
  mask: "Paint what is missing or to be replaced. What is under the paint is never looked at.",
  noise: "An intact image gets noise first. An uploaded noisy one is denoised, its noise estimated unless you give it.",
  blur: "The image is blurred by a Gaussian kernel, or was.",
  downsample: "The image is made smaller, each pixel the mean of a square, or was.",
  other: "Any operator that scorefield knows, or several with commas, such as blur:1,downsample:2.",
};

/** What a task needs to be asked: own fields with their rows, and the verb and arguments that they make. */
function taskFields(query) {
  const rows = {
    blur: ownField({ name: "blur", label: "Blur, in pixels", help: "Standard deviation of the kernel.", value: query.blur || "1" }),
    downsample: ownField({ name: "downsample", label: "Factor", help: "How many pixels of each axis become one.", value: query.downsample || "2" }),
    other: ownField({ name: "operator", label: "Operator", help: "Such as gray, jpeg:20, mask:random:80%, blur:1,downsample:2.", value: query.operator || "mask:random:70%" }),
    noise: ownField({ name: "sigma", label: "Noise", help: "Standard deviation in grey levels of an 8-bit image, 0 to 255; auto: it is estimated.", value: query.sigma || "" }),
  };
  const values = () => Object.fromEntries(Object.values(rows).map(({ field, input }) => [field.name, input.value.trim()]));
  return { rows, values };
}

class Restore {
  constructor(place, run, runs, forms) {
    Object.assign(this, { place, run, forms, source: null, address: null, form: null });
    const { query } = place;
    this.task = TASKS.some(([name]) => name === query.task) ? query.task : "mask";
    this.paint = new Painter();
    this.measured = h("section", { class: "panel" });
    this.result = h("section", { class: "panel", hidden: true });
    this.panel = jobPanel({ name: "Restoring" });
    this.own = taskFields(query);
    this.about = h("p", { class: "help" });
    this.intact = h("input", { type: "checkbox", id: "intact", onchange: () => this.showTask(this.task) });
    this.intactRow = h("div", { class: "entry" }, h("span", { class: "check" }, this.intact, h("label", { for: "intact" }, "The image is intact: damage it first")), h("span", { class: "help" }, "Then the answers are compared with the truth."));
    this.chooser = imageChooser(run, query, (image) => this.take(image));
    this.form = this.makeForm(query);
    const tasks = h("div", { class: "controls" }, radios("What happened to it", "task", TASKS, this.task, (task) => this.showTask(task)), this.about, Object.values(this.own.rows).map((one) => one.element), this.intactRow);
    const other = (name) => place.go(`/restore?${new URLSearchParams({ ...place.query, run: name, image: "" })}`);
    this.form.element.prepend(runField(runs, run.name, other), this.chooser.element, tasks);
    this.element = h("div", { class: "split" }, this.form.element, h("div", { class: "stack" }, this.measured, this.panel.element, this.result));
  }

  makeForm(values) {
    const classes = classChoices(this.run);
    return makeForm({
      described: this.forms.restore, first: ["samples", "noise"], hidden: ["run", "source", "operator", "reference", "out", "simulate", "data", ...(classes.length ? [] : ["label"])],
      changes: { label: { kind: "choice", choices: classes }, samples: { label: "Number of answers" } }, values, submit: "Restore", label: "Restore",
      onSubmit: (given) => this.submit(given), onChange: () => this.remember(),
    });
  }

  /** Take an image that was chosen. */
  take({ source, address, intact }) {
    Object.assign(this, { source, address });
    this.intact.checked = intact;
    this.showTask(this.task);
  }

  remember() {
    const image = this.source?.startsWith("held-out:") ? this.source.slice(9) : this.source ? "upload" : null;
    const own = this.own.rows[this.task];
    this.place.set({ run: this.run.name, image, task: this.task, ...(own ? { [own.field.name]: own.input.value } : {}), ...this.form.read() });
  }

  /** Whether the image is noisy already, so that it is denoised and not damaged first. */
  get denoises() {
    return this.task === "noise" && !this.intact.checked;
  }

  showTask(task) {
    this.task = task;
    this.about.textContent = ABOUT[task];
    for (const [name, one] of Object.entries(this.own.rows)) one.element.hidden = name !== task;
    this.intactRow.hidden = task === "mask";
    this.form.hide("noise", task === "noise");
    const { fields } = this.denoises ? this.forms.denoise : this.forms.restore;
    this.form.input("samples").placeholder = fields.find(({ name }) => name === "samples").default;
    this.showImage();
    this.remember();
  }

  showImage() {
    const { measured, address, paint } = this;
    const title = h("h2", null, this.task === "mask" && address ? "Paint the hole" : "The image");
    if (!address) return fill(measured, title, h("p", null, this.source ? "This file cannot be shown here, but it can be restored." : "Choose or upload an image."));
    if (this.task !== "mask") return fill(measured, title, h("figure", null, pixels(address, "The image that was chosen", 300)));
    paint.load(address).catch(() => fill(measured, title, errorText("This file is no image that can be shown here: choose another.")));
    return fill(measured, title, paint.element);
  }

  /** The verb and the arguments of what is asked. */
  async asked(values) {
    const given = this.own.values();
    const shared = { run: this.run.name, source: this.source, ...values };
    if (this.denoises) {
      const { samples, label, seed, device } = values;
      return ["denoise", { run: this.run.name, source: this.source, samples, label, seed, device, sigma: given.sigma }];
    }
    if (this.task === "noise") return ["restore", { ...shared, operator: "identity", noise: given.sigma || "25", simulate: true }];
    if (this.task !== "mask") return ["restore", { ...shared, operator: this.task === "other" ? given.operator : `${this.task}:${given[this.task]}`, simulate: this.intact.checked }];
    if (!this.address) throw new api.Refused("This file cannot be painted on: choose an image.", "source");
    if (!this.paint.count()) throw new api.Refused("Nothing is marked as missing: paint the hole first.");
    return ["restore", { ...shared, operator: `mask:${(await api.upload("mask.png", await this.paint.mask())).id}` }];
  }

  refuse(problem) {
    const row = { operator: this.own.rows[this.task], sigma: this.own.rows.noise, noise: this.task === "noise" ? this.own.rows.noise : null }[problem.field];
    if (problem.field === "source") this.chooser.refuse(problem);
    else this.form.refuse(problem, row);
  }

  async submit(values) {
    try {
      if (!this.source) throw new api.Refused("Choose or upload an image first.", "source");
      const job = await api.job(...(await this.asked(values)));
      this.result.hidden = true;
      this.panel.show(job);
      this.panel.element.scrollIntoView({ block: "nearest" });
      const before = this.task === "mask" ? await holed(this.paint, this.address) : null;
      this.watch(job, before).then(() => this.result.scrollIntoView({ block: "nearest" })).catch((problem) => this.refuse(problem));
    } catch (problem) {
      this.refuse(problem);
    }
  }

  async watch(job, before) {
    const ended = await api.finished(job, this.panel.show);
    if (ended.state !== "done") return;
    this.result.hidden = false;
    fill(this.result, h("h2", null, "Answers"), answerView(ended, before));
  }
}

export async function mount(element, place) {
  const [forms, all] = await loaded();
  const runs = usable(all, ["image"]);
  fill(element, heading("Restore", "From a damaged image to what it may have been: several answers, their mean, and where they are in doubt."));
  if (!runs.length) {
    element.append(noRun("No run on images yet.", "digits"));
    return undefined;
  }
  const run = pick(runs, place.query.run, element);
  const view = new Restore(place, run, runs, forms);
  element.append(view.element, dataLink(`${api.path("runs", run.name, "held-out")}?first=0&count=${COUNT}`));
  view.chooser.begin();
  const earlier = await lastJob(["restore", "denoise"], (one) => one.arguments.run === run.name);
  if (earlier) view.watch(earlier, null).catch(() => {}); // its panel shows what went wrong
  return () => view.paint.end();
}
