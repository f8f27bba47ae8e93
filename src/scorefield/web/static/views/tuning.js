// Which sampler and how many steps, as `tune` measured it, how good the samples are, as `evaluate` did, and `distill`.

import * as api from "../api.js";
import { chart } from "../chart.js";
import { button, duration, errorText, fill, h, number } from "../dom.js";
import { makeForm } from "../form.js";
import { jobPanel, lastJob } from "../job.js";
import { sentences } from "./common.js";

const estimate = (one) => (one ? `${number(one.value)} ± ${number(one.standard_error, 2)}` : "-");
const nameOf = (one) => `${one.sampler}, ${one.levels ?? one.steps} levels${one.ladder ? `, ${one.ladder} ladder` : ""}`;

/** The measurements of a tuning: quality against time, and the ones worth choosing; `use(measurement)` takes one over. */
export function tuningView(tuning, use) {
  const all = tuning.measurements.filter((one) => one.figure && one.samples === tuning.samples);
  const point = (one) => [one.seconds, one.figure.value, one.figure.standard_error, nameOf(one)];
  const chosen = all.filter((one) => one.chosen);
  const front = all.filter((one) => one.front && !one.chosen);
  const others = all.filter((one) => !one.front && !one.chosen);
  const picture = chart({
    title: `${tuning.figure} against time: lower and further left is better`,
    x: { label: "seconds for 1,000 samples", log: true }, y: { label: tuning.figure },
    series: [["chosen", chosen, 2], ["no other is better and faster", front, 1], ["others", others, 5]].map(([name, some, tone]) => ({ name, points: some.map(point), marks: true, tone })),
  });
  const rows = all.filter((one) => one.front || one.chosen || one.recipe).sort((one, other) => one.seconds - other.seconds);
  const row = (one) =>
    h("tr", { class: one.chosen ? "chosen" : null }, h("th", { scope: "row" }, nameOf(one), one.chosen ? " (chosen)" : one.recipe ? " (the recipe's)" : ""), h("td", { class: "number" }, number(one.evaluations)), h("td", { class: "number" }, duration(one.seconds)), h("td", { class: "number" }, estimate(one.figure)), use ? h("td", null, button("Use", () => use(one), { class: "button small", "aria-label": `Use ${nameOf(one)}` })) : null);
  const head = ["sampler", "evaluations", "1,000 samples", tuning.figure].map((name, index) => h("th", { scope: "col", class: index ? "number" : null }, name));
  return [
    h("p", null, tuning.sentence), picture.element,
    h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Measurements" }, h("table", null, h("thead", null, h("tr", null, head, use ? h("td") : null)), h("tbody", null, rows.map(row)))),
    h("p", { class: "help" }, `Real examples score ${number(tuning.floor)} in place of samples.`),
  ];
}

/** What an evaluation says in sentences, with the way to the whole report. */
export const verdictView = (run, quality) => [sentences(quality.verdict), h("p", null, h("a", { href: `/runs/${encodeURIComponent(run.name)}?part=quality` }, "The whole report, with pictures"))];

const CHANGES = { tune: { seconds: { help: "About how long the drawing may take, such as 90s or 3m." }, n: { placeholder: "as many as suit" } }, distill: { seconds: { help: "How long to distil, such as 5m, which is the default." }, out: { help: "Name of the new run.", placeholder: "this run's name and -distilled-1" } } };

const WHERE = {
  tune: "Nothing has been measured yet. Tune tries samplers with few and many evaluations, and makes the cheapest that loses no quality the run's default.",
  distill: "A new run that draws a sample in 1, 2 or 4 evaluations of the network is learned from this one; no data are needed.",
};

/** What is there to say of drawing in few evaluations: of a run that does so already, or of one that may be made into such. */
const distilledView = (run, made) => {
  const link = (name) => h("a", { href: `/sample?run=${encodeURIComponent(name)}` }, name);
  if (run.distilled) return h("p", null, `This run is distilled: it draws in ${run.distilled.evaluations} ${run.distilled.evaluations === 1 ? "evaluation" : "evaluations"}, and tune is not for it. A sampler named above draws with the score of the run that it is made of.`);
  return h("p", null, made ? ["Made: ", link(made), "."] : WHERE.distill);
};

/** The panel beside the samples: tune, evaluate and distill. */
export function tuningPanel(run, forms, use) {
  const found = h("div", { class: "stack" });
  const verdict = h("div", { class: "stack" });
  const fast = h("div", { class: "stack" }, distilledView(run));
  const panels = { tune: jobPanel({ name: "Tuning" }), evaluate: jobPanel({ name: "Evaluation" }), distill: jobPanel({ name: "Distillation", stop: "Stop and keep" }) };
  let here = true;
  const look = async () => {
    const { tuning, quality } = await api.run(run.name);
    if (!here) return;
    fill(found, tuning ? tuningView(tuning, use) : h("p", null, WHERE.tune));
    fill(verdict, quality ? verdictView(run, quality) : h("p", null, "Nothing has been measured yet. Evaluate compares samples with examples that training never saw, and looks for copies."));
  };
  const watch = async (job, refuse) => {
    try {
      const ended = await api.finished(job, panels[job.verb].show);
      if (job.verb === "distill" && ended.report && here) fill(fast, distilledView(run, ended.report.folder.split("/").at(-1)));
      await look();
    } catch (problem) {
      refuse(problem);
    }
  };
  const formOf = (verb, first, submit) => {
    const form = makeForm({ described: forms[verb], first, changes: CHANGES[verb], hidden: ["run", "html", "data"], submit, label: submit, onSubmit: async (values) => watch(await api.job(verb, { run: run.name, ...values }), form.refuse) });
    form.element.classList.remove("panel");
    return form;
  };
  const tune = formOf("tune", ["seconds", "within"], "Tune");
  const evaluate = formOf("evaluate", ["n"], "Evaluate");
  const distill = formOf("distill", ["evaluations", "seconds"], "Distil");
  const part = (title, content, form, verb) => h("section", { class: "panel" }, h("h2", null, title), content, h("details", { class: "more" }, h("summary", null, verb), form.element), panels[verb.split(" ")[0].toLowerCase()].element);
  const parts = [part("How good the samples are", verdict, evaluate, "Evaluate this run")];
  if (run.distilled) parts.push(h("section", { class: "panel" }, h("h2", null, "In few evaluations"), fast));
  else parts.unshift(part("Which sampler, in how few steps", found, tune, "Tune this run")), parts.push(part("In few evaluations", fast, distill, "Distill this run"));
  const element = h("div", { class: "stack" }, parts);
  look().catch((problem) => fill(found, errorText(problem.message)));
  lastJob(["tune", "evaluate", "distill"], (one) => one.arguments.run === run.name && !api.over(one)).then((job) => job && watch(job, () => {}));
  return { element, end: () => (here = false) };
}
