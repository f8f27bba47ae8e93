// Runs: all of them, one of them, or two side by side.

import * as api from "../api.js";
import { chart, trainingCharts } from "../chart.js";
import { button, duration, errorText, fill, h, number } from "../dom.js";
import { dataLink, facts, heading, noRun, pixels, sentences, shapeText } from "./common.js";
import { previewsOf, showPreviews } from "./training.js";
import { tuningView } from "./tuning.js";

const link = (name) => `/runs/${encodeURIComponent(name)}`;
const stateTag = (one) => (one.training ? h("span", { class: "tag live-run" }, "being trained") : one.finished ? h("span", { class: "tag" }, "finished") : h("span", { class: "tag" }, "unfinished"));

export async function mount(element, place) {
  if (place.name) return oneRun(element, place);
  if (place.query.compare) return compare(element, place.query.compare.split(","));
  return list(element, place);
}

/** All runs, newest first, with a filter and two boxes to compare. */
async function list(element, place) {
  const runs = await api.runs();
  const head = heading("Runs", "Each run is a folder that describes itself: its configuration, reasons, metrics and weights.");
  if (!runs.length) return void fill(element, head, noRun("No run yet.", "digits"), dataLink("/api/runs"));
  const chosen = new Set();
  const go = button("Compare two", () => place.go(`/runs?compare=${[...chosen].map(encodeURIComponent).join(",")}`), { disabled: true });
  const hint = h("span", { class: "help" }, "Mark two runs to see them side by side.");
  const count = h("p", { class: "help", role: "status" });
  const row = (one) => {
    const box = h("input", { type: "checkbox", "aria-label": `Compare ${one.name}`, onchange: () => {
      if (box.checked) chosen.add(one.name);
      else chosen.delete(one.name);
      go.disabled = chosen.size !== 2;
    } });
    return h("tr", { "data-text": `${one.name} ${one.kind} ${one.recipe} ${one.source}`.toLowerCase() }, h("td", null, box), h("td", null, h("a", { href: link(one.name) }, one.name)), h("td", null, shapeText(one)), h("td", { class: "number" }, number(one.step)), h("td", { class: "number" }, duration(one.seconds)), h("td", null, one.recipe), h("td", null, stateTag(one)));
  };
  const rows = runs.map(row);
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const one of rows) one.hidden = !words.every((word) => one.dataset.text.includes(word));
    const shown = rows.filter((one) => !one.hidden).length;
    count.textContent = shown === rows.length ? `${number(rows.length)} ${rows.length === 1 ? "run" : "runs"}` : `${number(shown)} of ${number(rows.length)} runs`;
    place.update({ filter: search.value });
  };
  const search = h("input", { type: "search", id: "filter", value: place.query.filter || "", oninput: filter });
  const names = ["", "run", "data", "steps", "trained", "recipe", "state"];
  const titles = names.map((name, index) => (name ? h("th", { scope: "col", class: index === 3 || index === 4 ? "number" : null }, name) : h("td")));
  const table = h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All runs" }, h("table", { class: "runs" }, h("thead", null, h("tr", null, titles)), h("tbody", null, rows)));
  fill(element, head, h("section", { class: "panel" }, h("div", { class: "bar-line" }, h("div", { class: "entry" }, h("label", { for: "filter" }, "Filter by name, kind, recipe or data"), search), h("div", { class: "actions" }, go, hint)), count, table), dataLink("/api/runs"));
  filter();
  return undefined;
}

/** A value of a configuration as a line. */
const flat = (value, path = "") => (value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value).flatMap(([key, inner]) => flat(inner, path ? `${path}.${key}` : key)) : [[path, value]]);
const written = (value) => (value === null || value === undefined ? "-" : Array.isArray(value) ? value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ") : typeof value === "number" ? String(value) : String(value));

const configTable = (config) => h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Configuration" }, h("table", null, h("tbody", null, flat(config).map(([key, value]) => h("tr", null, h("th", { scope: "row" }, h("code", null, key)), h("td", null, written(value)))))));

const summary = (one) =>
  facts([
    ["data", one.source], ["kind", shapeText(one)], ["classes", one.classes?.length ? `${one.classes.length}: ${one.classes.slice(0, 20).join(", ")}${one.classes.length > 20 ? " ..." : ""}` : null],
    ["columns", one.columns?.length ? one.columns.map((column) => column.name || column).slice(0, 40).join(", ") : null],
    ["trained", one.imported ? `elsewhere: ${one.imported}` : `${number(one.step)} steps in ${duration(one.seconds)}`],
    ["distilled", one.distilled ? `${number(one.distilled.steps)} steps in ${duration(one.distilled.seconds)}; draws in ${one.distilled.evaluations} evaluation${one.distilled.evaluations === 1 ? "" : "s"}` : null], ["recipe", one.recipe], ["parameters", one.parameters ? number(one.parameters) : null],
    ["network", one.config?.network?.name], ["process", one.config?.process?.name],
  ]);

/** The chart of levels.json: the error of the trained network by noise level. */
function levelChart(levels) {
  const { sigma, ...series } = levels;
  const usable = Object.entries(series).filter(([, values]) => Array.isArray(values) && values.length === sigma?.length && values.every((value) => typeof value === "number" || value === null));
  if (!sigma || !usable.length) return null;
  return chart({ title: "Error by noise level, measured after training", x: { label: "noise level sigma, in units of the model", log: true }, y: { label: "error per number", zero: true }, series: usable.map(([name, values]) => ({ name, points: sigma.map((level, index) => [level, values[index]]) })) }).element;
}

const section = (title, ...content) => (content.some(Boolean) ? h("section", { class: "panel" }, h("h2", null, title), content) : null);
const pictureNames = (one) => one.files.filter((file) => /\.(png|gif)$/.test(file) && !file.startsWith("previews/") && !DRAWN.has(file));
const DRAWN = new Set(["loss_by_level.png", "tuning.png"]); // the page draws them itself

function actions(one) {
  const kind = one.kind;
  const wanted = [["sample", "Draw samples", "primary"], ...(kind === "image" || kind === "signal" ? [["restore", "Restore with it", ""]] : []), ...(kind === "table" ? [["tables", "Fill a table", ""]] : [])];
  const links = one.usable ? wanted.map(([view, text, look]) => h("a", { class: `button ${look}`, href: `/${view}?run=${encodeURIComponent(one.name)}` }, text)) : [];
  const again = one.finished ? `name=${encodeURIComponent(one.name)}${/^[\w.-]+$/.test(one.source || "") ? `&source=${one.source}` : ""}` : `unfinished=${encodeURIComponent(one.name)}`;
  const more = one.training || one.imported ? [] : [h("a", { class: "button", href: `/train?${again}` }, one.finished ? "Train a new one like it" : "Go on training")];
  return h("div", { class: "actions" }, links, more, stateTag(one));
}

async function oneRun(element, place) {
  const one = await api.run(place.name);
  const { lines } = await api.get(api.path("runs", one.name, "metrics"));
  const file = (name) => api.path("runs", one.name, "files", name);
  const charts = trainingCharts();
  charts.show(lines);
  const previews = previewsOf(one);
  const previewPanel = h("section", { class: "panel", hidden: true });
  if (previews.length) showPreviews(previewPanel, one.name, previews);
  const pages = one.files.filter((name) => name.endsWith(".html"));
  const report = pages.map((name) => h("div", { class: "stack", id: "quality" }, h("p", null, h("a", { href: file(name), target: "_blank", rel: "noopener" }, `Open ${name} alone`), " It also shows the samples that are closest to training examples, beside them: copies would be seen there."), h("iframe", { class: "report", src: file(name), title: `Evaluation of ${one.name}: ${name}`, sandbox: true, loading: "lazy", tabindex: 0 })));
  const pictures = pictureNames(one).map((name) => h("figure", null, pixels(file(name), name, 420), h("figcaption", null, name)));
  fill(
    element, h("p", null, h("a", { href: "/runs" }, "All runs")), h("h1", null, one.name),
    h("div", { class: "stack" },
      section("The run", actions(one), summary(one), one.manifest?.warnings?.length ? [h("h3", { class: "warn" }, "Warnings"), sentences(one.manifest.warnings)] : null, one.manifest?.why?.length ? h("details", { class: "more", open: true }, h("summary", null, "Why it is as it is"), sentences(one.manifest.why)) : null),
      section("Training", lines.length || one.training ? h("div", { class: "pair" }, charts.elements) : null, one.levels ? levelChart(one.levels) : null), previewPanel,
      section("Pictures", pictures.length ? h("div", { class: "gallery large" }, pictures) : null),
      one.tuning ? section("Which sampler, in how few steps", ...tuningView(one.tuning)) : null,
      section("How good its samples are", ...(report.length ? report : [h("p", null, "It has not been evaluated. ", h("a", { href: `/sample?run=${encodeURIComponent(one.name)}` }, "Evaluate it beside its samples."))])),
      section("Configuration", one.config ? h("details", { class: "more" }, h("summary", null, "All settings"), configTable(one.config)) : null),
      section("Files", h("details", { class: "more" }, h("summary", null, `${number(one.files.length)} files to look at`), h("ul", { class: "files" }, one.files.map((name) => h("li", null, h("a", { href: file(name), target: "_blank", rel: "noopener" }, name))))))),
    dataLink(api.path("runs", one.name)),
  );
  if (place.query.part === "quality") document.getElementById("quality")?.scrollIntoView();
  return undefined;
}

/** Two runs side by side: what differs in their settings, their losses, figures and pictures. */
async function compare(element, names) {
  if (names.length !== 2) return void fill(element, heading("Two runs", ""), errorText(`The address names ${names.length} runs, but two can be compared.`), h("p", null, h("a", { href: "/runs" }, "Choose two")));
  const both = await Promise.all(names.map(api.run));
  const logs = await Promise.all(names.map((name) => api.get(api.path("runs", name, "metrics"))));
  const heldOut = chart({
    title: "Loss on held-out examples", x: { label: "seconds of training" }, y: { label: "loss per number", log: true },
    series: both.map((one, index) => ({ name: one.name, points: logs[index].lines.filter((line) => line.event === "log" && line.held_out).map((line) => [line.seconds, line.held_out]) })),
  });
  const settings = both.map((one) => new Map(flat(one.config || {})));
  const keys = [...new Set(settings.flatMap((one) => [...one.keys()]))].filter((key) => JSON.stringify(settings[0].get(key)) !== JSON.stringify(settings[1].get(key)));
  const heads = h("thead", null, h("tr", null, h("td"), both.map((one) => h("th", { scope: "col" }, h("a", { href: link(one.name) }, one.name)))));
  const table = (rows) => h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Comparison" }, h("table", null, heads.cloneNode(true), h("tbody", null, rows.map(([name, ...cells]) => h("tr", null, h("th", { scope: "row" }, name), cells.map((cell) => h("td", null, cell)))))));
  const latest = (one) => previewsOf(one).at(-1);
  const figures = [...new Set(both.flatMap((one) => Object.keys(one.quality?.figures || {})))];
  const figure = (one, name) => {
    const found = one.quality?.figures?.[name];
    return found === undefined ? "-" : typeof found === "object" ? `${number(found.value)} ± ${number(found.standard_error, 2)}` : written(found);
  };
  fill(
    element, h("p", null, h("a", { href: "/runs" }, "All runs")), h("h1", null, both.map((one) => one.name).join(" and ")),
    h("div", { class: "stack" },
      section("What they are", table([["data", ...both.map((one) => one.source)], ["kind", ...both.map(shapeText)], ["trained", ...both.map((one) => `${number(one.step)} steps in ${duration(one.seconds)}`)], ["parameters", ...both.map((one) => number(one.parameters))], ["last held-out loss", ...logs.map(({ lines }) => number(lines.findLast((line) => line.held_out)?.held_out))]])),
      section("Training", heldOut.element),
      section("Samples while training", h("div", { class: "pair" }, both.map((one) => h("figure", null, latest(one) ? pixels(api.path("runs", one.name, "files", latest(one)), `Latest samples of ${one.name}`, 480) : "No picture.", h("figcaption", null, one.name))))),
      section("How good their samples are", figures.length ? table(figures.map((name) => [name, ...both.map((one) => figure(one, name))])) : h("p", null, "Neither has been evaluated.")),
      section("Settings that differ", keys.length ? table(keys.map((key) => [h("code", null, key), ...settings.map((one) => written(one.get(key)))])) : h("p", null, "None."))),
    dataLink(api.path("runs", names[0])),
  );
  return undefined;
}
