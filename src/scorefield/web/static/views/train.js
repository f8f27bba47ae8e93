// Train: choose data, see what `plan` finds in them, start, and watch: losses by noise level, the held-out loss, and pictures, raw
// weights on the left and their moving average on the right. A run that was stopped, or left by a server that died, goes on.

import * as api from "../api.js";
import { trainingCharts } from "../chart.js";
import { button, duration, errorText, fill, h, number } from "../dom.js";
import { makeForm, radios } from "../form.js";
import { jobPanel, lastJob } from "../job.js";
import { dataLink, dropZone, facts, heading, KINDS, loaded, pixels, sentences } from "./common.js";

const FIRST = ["out", "seconds", "recipe", "size"];
const CHANGES = {
  out: { label: "Name of the run", help: "A new folder under the runs' root. Left empty, it is the name of the data.", placeholder: "name of the data" },
  seconds: { label: "Time", help: "How long to train at most, such as 30s, 3m or 1h30m.", placeholder: "3m" },
  size: { label: "Size of images", placeholder: "theirs", help: "In pixels, such as 32 or 48x64; left empty, that of the images if all have one." },
  recipe: { help: "What chooses process, network, objective and sampler." },
};

/** Choose data: built in, a folder of the server, or an upload. */
function sourceChooser(sources, given, changed) {
  const builtin = sources.builtin || [];
  const folders = sources.folders || [];
  const state = { way: given.startsWith("upload:") ? "upload" : folders.includes(given) ? "folder" : "builtin", upload: given.startsWith("upload:") ? given : "", error: h("p", { class: "error", role: "alert", hidden: true }) };
  const note = h("p", { class: "help" });
  const builtinSelect = h("select", { "aria-label": "Built-in data", value: builtin.some((one) => one.name === given) ? given : "digits", onchange: () => tell() }, builtin.map((one) => h("option", { value: one.name }, one.name)));
  const folderSelect = h("select", { "aria-label": "Folder or file under the runs' root", value: folders.includes(given) ? given : folders[0], onchange: () => tell() }, folders.map((one) => h("option", { value: one }, one)));
  const drop = dropZone({
    label: "A zip of images, an array or a table",
    accept: ".zip,.npy,.npz,.csv,.tsv,.parquet,.png,.jpg,.tar,.wav,.h5,.mat,.nii,.gz,.fits,.tif,.tiff",
    take: async (file) => {
      state.upload = (await api.upload(file.name, file)).id;
      tell();
    },
  });
  const body = h("div", { class: "controls" });
  const value = () => ({ builtin: builtinSelect.value, folder: folderSelect.value, upload: state.upload })[state.way];
  const tell = () => {
    note.textContent = state.way === "builtin" ? builtin.find((one) => one.name === builtinSelect.value)?.about || "" : "";
    state.error.hidden = true;
    changed(value());
  };
  const choose = (way) => {
    state.way = way;
    const inner = { builtin: [builtinSelect, note], folder: folders.length ? [folderSelect] : [h("p", { class: "help" }, "No folder or file of data lies under the runs' root. Put one there, or upload it.")], upload: [drop.element] }[way];
    fill(body, ...inner, state.error);
    tell();
  };
  const ways = [["builtin", "Built in"], ["folder", "On this machine"], ["upload", "Upload"]];
  const element = h("div", { class: "controls" }, radios("Data", "source", ways, state.way, choose), body);
  choose(state.way);
  const refuse = (problem) => {
    fill(state.error, problem.message);
    state.error.hidden = false;
    body.querySelector("select, input")?.focus();
  };
  return { element, value, refuse };
}

/** What a plan says: the data, what is wrong with them, what would be done, and what to expect. */
export function planView(plan) {
  const { data, findings = {}, expected = {}, pilot = {} } = plan;
  const wrong = [...(findings.warnings || []), ...(findings.issues || []).map((one) => (typeof one === "string" ? one : [one.place || one.file || one.where || one.path, one.text || one.problem || one.what || one.message || one.sentence].filter(Boolean).join(": ") || JSON.stringify(one)))];
  const counts = Object.entries(findings.counts || {});
  return h(
    "section", { class: "panel" },
    h("h2", null, "What the data are"),
    facts([
      ["data", data.name], ["kind", `${KINDS[data.kind] || data.kind}, ${data.shape.join(" x ")}`],
      ["examples", `${number(data.examples)} for training, ${number(data.held_out)} held out`],
      ["classes", counts.length ? counts.slice(0, 30).map(([name, count]) => `${name} (${number(count)})`).join(", ") + (counts.length > 30 ? ` and ${counts.length - 30} more` : "") : null],
      ["values", findings.low === undefined || findings.low === null ? null : `${number(findings.low)} to ${number(findings.high)}`],
      ["copies", findings.copies === undefined ? null : findings.copies || findings.near_copies ? `${number(findings.copies)} equal, ${number(findings.near_copies)} nearly equal` : "none found"],
    ]),
    sentences(data.notes),
    wrong.length ? [h("h3", { class: "warn" }, "What is wrong with them"), sentences(wrong)] : h("p", { class: "good" }, "Nothing wrong was found in them."),
    h("h2", null, "What training would do"),
    facts([
      ["recipe", plan.config?.recipe], ["network", plan.parameters ? `${plan.config?.network?.name || "network"}, ${number(plan.parameters)} parameters` : null],
      ["on this machine", expected.steps ? `about ${number(expected.steps)} steps in ${duration(expected.seconds)}: ${number(expected.epochs)} passes over the data` : null],
      ["memory", pilot.memory?.total ? `${number(pilot.memory.total / 2 ** 20)} MiB${pilot.memory.fits === false ? ", more than is free" : ""}` : null],
      ["sampling", expected.sampling_seconds ? `about ${duration(expected.sampling_seconds)} for 64 samples` : null],
    ]),
    h("details", { class: "more" }, h("summary", null, "Why"), sentences(plan.why)),
    h("h2", null, "What to expect"),
    sentences(expected.sentences) || h("p", null, "Nothing remarkable."),
  );
}

/** What is seen of a training: the bar, the curves and the pictures. */
function trainingView(stay) {
  const panel = jobPanel({ stop: "Stop and save", name: "Training", states: { cancelled: "Stopped and saved" }, words: false });
  const charts = trainingCharts();
  const now = h("p", { class: "job-text" });
  const messages = h("ul", { class: "help" });
  const pictures = h("section", { class: "panel", hidden: true });
  const next = h("div", { class: "actions" });
  const plan = h("div");
  const element = h("div", { class: "stack" }, panel.element, next, h("section", { class: "panel", hidden: true }, now, messages, h("div", { class: "pair" }, charts.elements)), pictures, plan);
  const figures = now.parentElement;
  let name = null;
  let lines = [];
  let seen = 0;
  let there = false; // whether the run's folder is
  let stops = [];

  const refresh = async () => {
    if (!name || !there) return;
    try {
      lines = (await api.get(api.path("runs", name, "metrics"))).lines;
      charts.show(lines);
      const { files } = await api.run(name);
      const previews = files.map((one) => one.name || one).filter((one) => /previews\/.*\.png$/.test(one)).sort();
      if (previews.length && previews.length !== seen) {
        seen = previews.length;
        showPreviews(pictures, name, previews);
      }
    } catch {
      // the folder does not exist yet
    }
  };
  const take = (state) => {
    there = true;
    figures.hidden = false;
    const loss = Number.isFinite(state.loss) ? `loss ${number(state.loss)}` : null;
    const held = state.extra?.held_out !== undefined ? `held out ${number(state.extra.held_out)}` : null;
    if (state.event === "log") {
      now.textContent = [`Step ${number(state.step)}`, loss, held, state.images_per_second ? `${number(Math.round(state.images_per_second))} examples a second` : null, state.seconds_left ? `${duration(state.seconds_left)} left` : null].filter(Boolean).join(" · ");
      lines.push(state);
      charts.show(lines);
    }
    for (const text of state.messages || []) messages.append(h("li", null, text));
    if (["picture", "checkpoint", "done", "stopped"].includes(state.event)) setTimeout(refresh, 500);
  };

  async function watch(job, onEnd) {
    stops.forEach((stop) => stop());
    name = runName(job);
    lines = [];
    seen = 0;
    fill(messages);
    fill(next);
    pictures.hidden = true;
    panel.show(job);
    stops = [api.onTraining(job.id, take)];
    const timer = setInterval(refresh, 4000);
    stops.push(() => clearInterval(timer));
    there = job.state === "running" && job.fraction > 0;
    refresh();
    let planned = false;
    try {
      await api.finished(job, (one) => {
        panel.show(one);
        name = runName(one);
        if (one.plan && !planned) {
          planned = true;
          figures.hidden = false;
          fill(plan, startView(one.plan));
        }
      });
    } catch (error) {
      if (!error.status) return onEnd(error);
    } finally {
      stops.forEach((stop) => stop());
      stops = [];
    }
    if (!there && !(await api.runs()).some((one) => one.name === name)) return onEnd(null); // ended before it began
    there = true;
    figures.hidden = false;
    await refresh();
    fill(next, h("a", { class: "button primary", href: `/sample?run=${encodeURIComponent(name)}` }, "Draw samples"), h("a", { class: "button", href: `/runs/${encodeURIComponent(name)}` }, "See the run"));
    return onEnd(null);
  }
  return { element, watch, end: () => stops.forEach((stop) => stop()), stay };
}

/** The name of the run that a job trains: as it was asked, or that of the data. */
const runName = (job) => {
  const last = (path) => String(path).split("/").at(-1);
  return job.report?.folder ? last(job.report.folder) : job.arguments.out || last(job.arguments.source || "").split(".")[0] || "data";
};

/** What a training said before it began. */
const startView = (plan) =>
  h("section", { class: "panel" }, h("h2", null, "What is trained"), facts([["data", plan.name], ["kind", `${KINDS[plan.kind] || plan.kind}${plan.shape ? `, ${plan.shape.join(" x ")}` : ""}`], ["parameters", plan.parameters ? number(plan.parameters) : null]]), sentences(plan.notes), plan.warnings?.length ? sentences(plan.warnings, "warn") : null, h("details", { class: "more" }, h("summary", null, "Why"), sentences(plan.why)));

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

/** Runs that were stopped, or that a server which died has left. */
function unfinished(runs, goOn) {
  const left = runs.filter((one) => !one.finished && !one.training);
  if (!left.length) return null;
  const shown = left.slice(0, 8);
  return h(
    "section", { class: "panel" }, h("h2", null, "Unfinished runs"), h("p", { class: "help" }, "They go on from their last checkpoint; nothing is lost."),
    h("ul", { class: "files" }, shown.map((one) => h("li", { class: "actions" }, h("a", { href: `/runs/${encodeURIComponent(one.name)}` }, one.name), h("span", { class: "help" }, `step ${number(one.step)}, ${duration(one.seconds)}`), button("Go on", () => goOn(one), { class: "button small", "aria-label": `Go on with ${one.name}` })))),
    left.length > 8 ? h("p", { class: "help" }, `And ${left.length - 8} more: see `, h("a", { href: "/runs" }, "all runs"), ".") : null,
  );
}

export async function mount(element, place) {
  const [[forms, runs], sources] = await Promise.all([loaded(), api.sources()]);
  const stay = h("input", { type: "checkbox", id: "stay" });
  const result = h("div", { class: "stack" });
  const view = trainingView(stay);
  const planPanel = jobPanel({ name: "Looking at the data" });
  let form = null;
  const chooser = sourceChooser(sources, place.query.source || "", (source) => {
    place.update({ source: source && !source.startsWith("upload:") ? source : null });
  });
  const start = async (values, source, more = {}) => {
    if (!source) return chooser.refuse({ message: "Upload a file first." });
    const job = await api.job("train", { source, ...values, ...more }, { stay: stay.checked });
    fill(result, view.element);
    return view.watch(job, async (problem) => {
      if (problem && !(problem.field === "source" ? chooser.refuse(problem) || true : form.refuse(problem))) form.refuse(problem);
      fill(rest, unfinished(await api.runs(), goOn));
    });
  };
  const guarded = (action) => async (values) => {
    try {
      await action(values);
    } catch (problem) {
      if (problem.field !== "source") throw problem;
      chooser.refuse(problem);
    }
  };
  const begin = guarded((values) => {
    start(values, chooser.value()).catch((problem) => (problem.field === "source" ? chooser.refuse(problem) : form.refuse(problem)));
  });
  const goOn = (one) => start({ ...form.read(), out: one.name }, one.source, { resume: true }).catch((problem) => form.refuse(problem));
  const look = async () => {
    form.clear();
    const source = chooser.value();
    if (!source) return chooser.refuse({ message: "Upload a file first." });
    const { out, resume, ...values } = form.read();
    fill(result, planPanel.element);
    try {
      const ended = await api.finished(await api.job("plan", { source, ...values }), planPanel.show);
      if (ended.report) fill(result, planPanel.element, planView(ended.report), dataLink(api.path("jobs", ended.id)));
    } catch (problem) {
      if (problem.field === "source") chooser.refuse(problem);
      else form.refuse(problem);
    }
    return undefined;
  };
  form = makeForm({
    described: forms.train, first: FIRST, hidden: ["source", "resume"], changes: CHANGES, values: { ...place.query, out: place.query.name }, submit: "Start training", label: "Train", onSubmit: begin,
    onChange: ({ out, ...values }) => place.set({ source: place.query.source, name: out, ...values }),
    others: h("div", { class: "entry" }, h("span", { class: "check" }, stay, h("label", { for: "stay" }, "Keep training when this page is closed"))),
    actions: [button("Check the data first", look)],
  });
  form.element.prepend(chooser.element);
  const rest = h("div", null, unfinished(runs, goOn));
  fill(result, h("section", { class: "panel" }, h("h2", null, "What happens"), h("p", null, "Choose data. Check them first if you like: that takes some seconds and writes nothing. Then start: the losses and the first pictures come within seconds, and you can stop at any time without losing what was learned."), h("p", null, "To try it, leave everything as it is and start: handwritten digits, 3 minutes.")));
  fill(element, heading("Train", "Learn the score of your own data: images, sounds, volumes, arrays or a table."), h("div", { class: "split" }, h("div", { class: "stack" }, form.element, rest), result), dataLink("/api/runs"));
  const running = await lastJob(["train"], (one) => one.state !== "done" && !String(one.arguments.out || "").startsWith("field-"));
  if (running) {
    fill(result, view.element);
    view.watch(running, (problem) => problem && form.refuse(problem));
  }
  return () => view.end();
}
