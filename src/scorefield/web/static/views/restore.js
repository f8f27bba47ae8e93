// Restore: pick an image, say what happened to it (a hole is painted), and see several answers, their mean, and a map of where they
// differ. An intact image can be damaged first, so that the answers can be compared with the truth.

import * as api from "../api.js";
import { errorText, fill, h, number } from "../dom.js";
import { makeForm, ownField, radios } from "../form.js";
import { fileLinks, jobPanel, lastJob } from "../job.js";
import { painter } from "../mask.js";
import { classChoices, dataLink, dropZone, facts, heading, loaded, noRun, pick, pixels, runField, sentences, usable } from "./common.js";

const COUNT = 24; // held-out images at a time
const TASKS = [["mask", "Fill a hole"], ["noise", "Remove noise"], ["blur", "Sharpen"], ["downsample", "Enlarge"], ["other", "Another operator"]];
const ABOUT = {
  mask: "Paint what is missing or to be replaced. What is under the paint is never looked at.",
  noise: "An intact image gets noise first. An uploaded noisy one is denoised, its noise estimated unless you give it.",
  blur: "The image is blurred by a Gaussian kernel, or was.",
  downsample: "The image is made smaller, each pixel the mean of a square, or was.",
  other: "Any operator that scorefield knows, or several with commas, such as blur:1,downsample:2.",
};

/** Choose an image: a held-out one, or an upload. `changed({source, address, intact})` is told. */
function imageChooser(run, query, changed) {
  const state = { way: query.image === "upload" ? "upload" : "held-out", index: Number(query.image) || 0, first: 0, total: 0 };
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const thumbs = h("div", { class: "thumbs", role: "group", "aria-label": "Held-out images" });
  const more = h("button", { type: "button", class: "button small", onclick: () => load(state.first + COUNT) }, "More images");
  const address = (index) => api.path("runs", run.name, "held-out", `${index}.png`);
  const body = h("div", { class: "controls" });
  const choose = (index) => {
    state.index = index;
    for (const thumb of thumbs.children) thumb.setAttribute("aria-pressed", String(Number(thumb.dataset.index) === index));
    error.hidden = true;
    changed({ source: `held-out:${index}`, address: address(index), intact: true });
  };
  const thumb = ({ index, label }) => h("button", { type: "button", class: "thumb", "data-index": index, "aria-pressed": String(index === state.index), "aria-label": `Held-out image ${index}${label === null || label === undefined ? "" : `, class ${label}`}`, onclick: () => choose(index) }, h("img", { src: address(index), alt: "", loading: "lazy" }), h("span", null, label ?? index));
  async function load(first) {
    try {
      const { total, items } = await api.get(`${api.path("runs", run.name, "held-out")}?first=${first >= state.total ? 0 : first}&count=${COUNT}`);
      Object.assign(state, { first: first >= state.total && state.total ? 0 : first, total });
      fill(thumbs, items.map(thumb));
      more.hidden = total <= COUNT;
    } catch (problem) {
      fill(thumbs);
      refuse(problem);
    }
  }
  const drop = dropZone({
    label: "An image of your own", accept: "image/*,.npy",
    take: async (file) => {
      const { id } = await api.upload(file.name, file);
      error.hidden = true;
      changed({ source: id, address: file.type.startsWith("image/") ? URL.createObjectURL(file) : null, intact: false });
    },
  });
  const refuse = (problem) => {
    fill(error, problem.message);
    error.hidden = false;
  };
  const show = (way) => {
    state.way = way;
    fill(body, way === "upload" ? drop.element : [thumbs, more], error);
    if (way === "upload") changed({ source: null, address: null, intact: false });
    else {
      load(Math.floor(state.index / COUNT) * COUNT);
      choose(state.index);
    }
  };
  const element = h("div", { class: "controls" }, radios("Image", "image", [["held-out", "One that training never saw"], ["upload", "My own"]], state.way, show), body);
  return { element, refuse, begin: () => show(state.way) };
}

/** Pictures of an answer: what was measured, samples, mean, and the map of doubt. */
function answerView(job, measured) {
  const one = job.report?.answers?.[0] || {};
  const named = (ending) => job.files.find((file) => file.name.endsWith(ending));
  const samples = job.files.filter((file) => /-sample-\d+\.png$/.test(file.name)).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const cell = (file, text, target = 150) => file && h("figure", null, pixels(file.url, text, target), h("figcaption", null, text));
  const whole = named("-answer.png");
  const doubt = named("-std.png");
  const largest = one.std_max ?? one.std_mean;
  const residual = one.residual === undefined ? null : `${number(one.residual)} times the noise; ${number(one.residual_expected)} is expected`;
  return h(
    "div", { class: "stack" },
    h("div", { class: "gallery" }, measured, cell(named("-mean.png") || named("-denoised.png"), "mean of the answers"), cell(doubt, "map of doubt: standard deviation, white is largest", 240), cell(named("-low.png"), "low end of 90 %"), cell(named("-high.png"), "high end of 90 %")),
    samples.length ? [h("h3", null, `${samples.length} answers, each as good as the others`), h("div", { class: "gallery" }, samples.map((file, index) => cell(file, `answer ${index + 1}`)))] : null,
    h("h3", null, "Are they consistent with what was measured?"),
    facts([
      ["difference", residual], ["noise", one.noise === undefined ? null : `${number(one.noise)}${one.noise_estimated ? " (estimated)" : ""}`],
      ["noise removed", one.sigma === undefined ? null : `${number(one.sigma)}${one.sigma_estimated ? ` ± ${number(one.sigma_standard_error, 2)} (estimated)` : ""}, ${one.sigma_unit || ""}`],
      ["standard deviation", largest === undefined ? null : number(largest)], ["PSNR of the mean", one.psnr === undefined ? null : `${number(one.psnr)} dB`], ["SSIM of the mean", one.ssim === undefined ? null : number(one.ssim)],
      ["method", one.method ? `${one.method}, ${number(one.evaluations)} evaluations` : null],
    ]),
    sentences(job.report?.notes),
    whole ? h("figure", null, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All side by side" }, h("img", { src: whole.url, alt: "What was measured, the answers, their mean and standard deviation side by side" })), h("figcaption", null, "All side by side")) : null,
    h("details", { class: "more" }, h("summary", null, `${job.files.length} files to download`), fileLinks(job.files)),
    dataLink(api.path("jobs", job.id)),
  );
}

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

export async function mount(element, place) {
  const [forms, all] = await loaded();
  const runs = usable(all, ["image"]);
  const head = heading("Restore", "From a damaged image to what it may have been: several answers, their mean, and where they are in doubt.");
  fill(element, head);
  if (!runs.length) {
    element.append(noRun("No run on images yet.", "digits"));
    return undefined;
  }
  const run = pick(runs, place.query.run, element);
  const query = place.query;
  const paint = painter();
  const measured = h("section", { class: "panel" });
  const result = h("section", { class: "panel", hidden: true });
  const panel = jobPanel({ name: "Restoring" });
  const own = taskFields(query);
  const state = { task: TASKS.some(([name]) => name === query.task) ? query.task : "mask", source: null, address: null, intact: true };
  const intact = h("input", { type: "checkbox", id: "intact" });
  const intactRow = h("div", { class: "entry" }, h("span", { class: "check" }, intact, h("label", { for: "intact" }, "The image is intact: damage it first")), h("span", { class: "help" }, "Then the answers are compared with the truth."));
  const about = h("p", { class: "help" });
  const ownPlace = h("div", { class: "controls" }, Object.values(own.rows).map((one) => one.element));
  let forming = null;

  const remember = () => place.set({ run: run.name, image: state.source?.startsWith("held-out:") ? state.source.slice(9) : state.source ? "upload" : null, task: state.task, ...(own.rows[state.task] ? { [own.rows[state.task].field.name]: own.rows[state.task].input.value } : {}), ...forming?.read() });
  const showMeasured = () => {
    if (!state.address) return fill(measured, h("h2", null, "The image"), h("p", null, state.source ? "This file cannot be shown here, but it can be restored." : "Choose or upload an image."));
    const title = h("h2", null, state.task === "mask" ? "Paint the hole" : "The image");
    fill(measured, title, state.task === "mask" ? paint.element : h("figure", null, pixels(state.address, "The image that was chosen", 300)));
    if (state.task === "mask") paint.load(state.address).catch(() => fill(measured, title, errorText("This file is no image that can be shown here: choose another.")));
    return undefined;
  };
  const showTask = (task) => {
    state.task = task;
    about.textContent = ABOUT[task];
    for (const [name, one] of Object.entries(own.rows)) one.element.hidden = name !== task;
    intactRow.hidden = task === "mask";
    forming.hide("noise", task === "noise");
    showMeasured();
    remember();
  };
  const chooser = imageChooser(run, query, (image) => {
    Object.assign(state, image);
    intact.checked = image.intact;
    if (forming) {
      showMeasured();
      remember();
    }
  });

  /** The verb and the arguments of what is asked. */
  const asked = async (values) => {
    const given = own.values();
    const shared = { run: run.name, source: state.source, ...values };
    if (state.task === "mask") {
      if (!paint.count()) throw new api.Refused("Nothing is marked as missing: paint the hole first.");
      return ["restore", { ...shared, operator: `mask:${(await api.upload("mask.png", await paint.mask())).id}` }];
    }
    if (state.task === "noise" && !intact.checked) {
      const { samples, label, seed, device } = values;
      return ["denoise", { run: run.name, source: state.source, samples, label, seed, device, sigma: given.sigma }];
    }
    if (state.task === "noise") return ["restore", { ...shared, operator: "identity", noise: given.sigma || "25", simulate: true }];
    const operator = state.task === "other" ? given.operator : `${state.task}:${given[state.task]}`;
    return ["restore", { ...shared, operator, simulate: intact.checked }];
  };
  const refuse = (problem) => {
    const row = { operator: own.rows[state.task], sigma: own.rows.noise, noise: state.task === "noise" ? own.rows.noise : null }[problem.field];
    if (problem.field === "source") chooser.refuse(problem);
    else forming.refuse(problem, row);
  };
  const watch = async (job, before) => {
    const ended = await api.finished(job, panel.show);
    if (ended.state !== "done") return;
    result.hidden = false;
    fill(result, h("h2", null, "Answers"), answerView(ended, before));
  };
  const classes = classChoices(run);
  const submit = async (values) => {
    if (!state.source) return chooser.refuse({ message: "Choose or upload an image first." });
    try {
      const [verb, given] = await asked(values);
      const job = await api.job(verb, given);
      result.hidden = true;
      panel.show(job);
      panel.element.scrollIntoView({ block: "nearest" });
      const before = state.task === "mask" ? await holed(paint, state.address) : null;
      watch(job, before).then(() => result.scrollIntoView({ block: "nearest" })).catch(refuse);
    } catch (problem) {
      refuse(problem);
    }
    return undefined;
  };
  forming = makeForm({
    described: forms.restore, first: ["samples", "noise"], hidden: ["run", "source", "operator", "reference", "out", "simulate", "data", ...(classes.length ? [] : ["label"])],
    changes: { label: { kind: "choice", choices: classes }, samples: { label: "Number of answers" } }, values: query, submit: "Restore", label: "Restore", onSubmit: submit, onChange: remember,
  });
  const tasks = h("div", { class: "controls" }, radios("What happened to it", "task", TASKS, state.task, showTask), about, ownPlace, intactRow);
  forming.element.prepend(runField(runs, run.name, (name) => place.go(`/restore?${new URLSearchParams({ ...place.query, run: name, image: "" })}`)), chooser.element, tasks);
  element.append(h("div", { class: "split" }, forming.element, h("div", { class: "stack" }, measured, panel.element, result)), dataLink(`${api.path("runs", run.name, "held-out")}?first=0&count=${COUNT}`));
  chooser.begin();
  showTask(state.task);
  const earlier = await lastJob(["restore", "denoise"], (one) => one.arguments.run === run.name);
  if (earlier) watch(earlier, null).catch(() => {}); // its panel shows what went wrong
  return paint.end;
}

/** The image with its hole, as a figure for beside the answers. */
async function holed(paint, address) {
  const image = new Image();
  image.src = address;
  const mask = new Image();
  mask.src = URL.createObjectURL(await paint.mask());
  await Promise.all([image.decode(), mask.decode()]);
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = h("canvas", { width, height, class: "pixels", role: "img", "aria-label": "What was measured; the hole is coloured" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(mask, 0, 0);
  const hidden = context.getImageData(0, 0, width, height).data;
  context.drawImage(image, 0, 0);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--hole");
  for (let at = 0; at < width * height; at += 1) if (hidden[4 * at]) context.fillRect(at % width, Math.floor(at / width), 1, 1);
  canvas.style.width = `${width * Math.max(1, Math.floor(150 / width))}px`;
  URL.revokeObjectURL(mask.src);
  return h("figure", null, canvas, h("figcaption", null, "measured; the hole is coloured"));
}
