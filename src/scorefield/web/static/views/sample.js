// Sample: choose a run, draw from it and watch noise turn into data. A download is a job with the same arguments and another name
// of the file, so that its bytes are those of the command. Below: what `tune` found, and how good the samples are.

import * as api from "../api.js";
import { readCsv } from "../csv.js";
import { button, commandLine, download, errorText, fill, h } from "../dom.js";
import { makeForm } from "../form.js";
import { liveView } from "../frames.js";
import { fileLinks, jobPanel, lastJob } from "../job.js";
import { classChoices, dataLink, heading, loaded, noRun, pick, pixels, runField, sentences, usable } from "./common.js";
import { tuningPanel } from "./tuning.js";

const FIRST = ["n", "steps", "sampler", "label", "guidance", "seed"];
const FORMATS = { image: ["png", "gif", "npz"], signal: ["png", "gif", "npz"], volume: ["png", "npz"], vector: ["png", "gif", "npz", "npy"], table: ["csv", "npz", "png"] };
const SHOWN_ROWS = 50;

const nameOf = (values, ending) => `samples-seed${values.seed ?? 0}.${ending}`;

/** The file that a job wrote, as a picture or as a table. */
async function shown(file) {
  if (/\.(png|gif)$/.test(file.name)) return h("figure", null, pixels(file.url, "The samples", 480));
  if (!/\.csv$/.test(file.name)) return fileLinks([file]);
  const [head, ...rows] = readCsv(await api.text(file.url));
  const body = rows.slice(0, SHOWN_ROWS).map((row, index) => h("tr", null, h("th", { scope: "row" }, index + 1), row.map((cell) => h("td", null, cell))));
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Sampled rows" }, h("table", { class: "cells" }, h("caption", null, rows.length > SHOWN_ROWS ? `The first ${SHOWN_ROWS} of ${rows.length} rows.` : `${rows.length} rows.`), h("thead", null, h("tr", null, h("th", { scope: "col" }, "row"), head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, body)));
}

/** The samples of a run, as they come and when they are there. */
function drawing(form, chosen) {
  const panel = jobPanel({ name: "Sampling" });
  const live = liveView();
  const picture = h("div", { class: "stack" });
  const result = h("section", { class: "panel", hidden: true }, h("h2", null, "Samples"), live.element, picture);
  const element = h("div", { class: "stack" }, panel.element, result);
  let stops = [];

  async function watch(job, begun = false) {
    stops.forEach((stop) => stop());
    result.hidden = true;
    fill(picture);
    panel.show(job);
    if (begun) panel.element.scrollIntoView({ block: "nearest" });
    live.element.hidden = true;
    stops = [
      api.onFrame(job.id, (header, payload) => {
        result.hidden = false;
        live.show(header, payload);
      }),
    ];
    const ended = await api.finished(job, panel.show);
    if (ended.state !== "done") return;
    result.hidden = false;
    const main = ended.files.find((file) => file.name.endsWith(".png")) || ended.files[0];
    const finished = main ? await shown(main) : null;
    live.element.hidden = true;
    const notes = [ended.report?.note].filter(Boolean);
    fill(picture, finished, sentences(notes), downloads(ended), dataLink(api.path("jobs", ended.id)));
  }

  /** Buttons that save the samples in other forms. */
  function downloads(job) {
    const said = h("div", { "aria-live": "polite" });
    const save = async (ending) => {
      const { gif, ...values } = job.arguments;
      const there = job.files.find((file) => file.name.endsWith(`.${ending}`));
      if (there) return download(there.url, there.name);
      const wanted = ending === "gif" ? { ...values, gif: true, out: nameOf(values, "png") } : { ...values, out: nameOf(values, ending) };
      fill(said, h("p", { class: "help" }, "Drawing the same samples again for this file ..."));
      try {
        const ended = await api.finished(await api.job("sample", wanted));
        const file = ended.files.find((one) => one.name.endsWith(`.${ending}`));
        if (!file) return fill(said);
        download(file.url, file.name);
        fill(said, h("p", { class: "help" }, `${file.name} is saved. The same as a command:`), commandLine(ended.command));
      } catch (problem) {
        fill(said, errorText(problem.message));
      }
      return undefined;
    };
    const buttons = (FORMATS[chosen().kind] || ["npz"]).map((ending) => button(ending.toUpperCase(), () => save(ending), { class: "button small", "aria-label": `Download ${ending.toUpperCase()}` }));
    return h("div", { class: "stack" }, h("div", { class: "actions" }, h("span", null, "Download"), buttons), said);
  }
  return { element, watch, end: () => stops.forEach((stop) => stop()) };
}

export async function mount(element, place) {
  const [forms, all] = await loaded();
  const runs = usable(all);
  const head = heading("Sample", "Draw new examples from a run: noise becomes data, level by level.");
  if (!runs.length) {
    fill(element, head, noRun("No run to draw from yet.", "digits"));
    return undefined;
  }
  fill(element, head);
  let run = pick(runs, place.query.run, element);
  const classes = classChoices(run);
  const changes = { n: { help: "How many are drawn." }, ...(classes.length ? { label: { kind: "choice", choices: classes } } : {}) };
  const hidden = ["run", "out", "gif", "data", ...(classes.length ? [] : ["label", "guidance", "guidance_interval"])];
  let view = null;
  const form = makeForm({
    described: forms.sample, first: FIRST, hidden, changes, values: place.query, submit: "Draw samples", label: "Sample",
    onChange: (values) => place.set({ run: run.name, ...values }),
    onSubmit: async (values) => {
      const names = run.kind === "table" ? { out: nameOf(values, "csv") } : {};
      const job = await api.job("sample", { run: run.name, ...values, ...names });
      view.watch(job, true).catch(form.refuse);
    },
  });
  form.element.prepend(runField(runs, run.name, (name) => place.go(`/sample?${new URLSearchParams({ ...place.query, label: "", run: name })}`)));
  view = drawing(form, () => run);
  const use = (values) => {
    for (const name of ["sampler", "steps", "ladder"]) form.input(name).value = values[name] ?? "";
    form.element.dispatchEvent(new Event("change"));
    form.input("sampler").focus();
  };
  const tuned = tuningPanel(run, forms, use);
  element.append(h("div", { class: "split" }, form.element, h("div", { class: "stack" }, view.element, tuned.element)), dataLink(api.path("runs", run.name)));
  const running = await lastJob(["sample"], (one) => one.arguments.run === run.name && !/\.np[yz]$/.test(one.arguments.out || ""));
  if (running) view.watch(running).catch(() => {}); // its panel shows what went wrong
  return () => (view.end(), tuned.end());
}
