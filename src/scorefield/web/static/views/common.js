// What several views share: choosing a run, saying that there is none, files to drop, pictures with sharp pixels.

import * as api from "../api.js";
import { errorText, fill, h, newId, number } from "../dom.js";

export const KINDS = { image: "images", signal: "signals", volume: "volumes", vector: "vectors", table: "a table" };

/** The start of a view: its heading and what it is for. */
export const heading = (title, text) => h("div", null, h("h1", null, title), h("p", { class: "lead" }, text));

export const dataLink = (address, what = "Data") => h("p", { class: "data-link" }, h("a", { href: address, target: "_blank", rel: "noopener" }, `${what} as JSON`));

/** What to do when there is no run that suits. */
export const noRun = (what = "No run yet.", source = "") =>
  h("div", { class: "panel" }, h("h2", null, what), h("p", null, "A run is what training leaves: a network that has learned the score of some data."), h("a", { class: "button primary", href: `/train${source ? `?source=${source}` : ""}` }, "Train one"));

/** How long a run was trained, or what it was imported from. */
export const trainingText = (one) => (one.imported ? `imported, ${one.imported}` : `${number(one.step)} steps of training${one.training ? ", and going on" : ""}`);
/** Runs that can be used: of these kinds, imported or after at least one step. */
export const usable = (runs, kinds) => runs.filter((one) => one.usable && (!kinds || kinds.includes(one.kind)));

export const shapeText = (one) => (one.kind === "table" ? `${(one.columns || one.shape).length || one.shape[0]} columns` : `${KINDS[one.kind] || one.kind} of ${(one.shape || []).join(" x ")}`);

/** A field that chooses a run. */
export function runField(runs, chosen, onchange) {
  const id = newId("run");
  const changed = (event) => {
    event.stopPropagation(); // the form around it would write the address of the run that is left
    onchange(select.value);
  };
  const select = h("select", { id, value: chosen, onchange: changed }, runs.map((one) => h("option", { value: one.name }, one.name)));
  const one = runs.find(({ name }) => name === chosen);
  return h("div", { class: "entry" }, h("label", { for: id }, "Run"), select, one ? h("span", { class: "help" }, `${shapeText(one)}, ${trainingText(one)}`) : null);
}

/** The run that the address asks for, else the newest; says in a sentence when the address asks for one that is not there. */
export function pick(runs, name, element) {
  const found = runs.find((one) => one.name === name);
  if (name && !found) element.prepend(errorText(`There is no run "${name}" that can be used here; the newest one is shown.`));
  return found || runs[0];
}

/** A place to drop or pick a file; `take(file)` may throw. */
export function dropZone({ label, accept, take, limit = 20e6 }) {
  const id = newId("file");
  const said = h("p", { class: "help", "aria-live": "polite" }, "Drop a file here, or pick one (at most 20 MB).");
  const input = h("input", { id, type: "file", accept, onchange: () => input.files[0] && give(input.files[0]) });
  const zone = h("div", { class: "drop" }, h("label", { for: id }, label), input, said);
  async function give(file) {
    if (file.size > limit) return fill(said, h("span", { class: "error" }, `${file.name} has ${number(file.size / 1e6)} MB, but at most 20 MB can be uploaded: put it under the runs' folder, or use the command.`));
    fill(said, `Uploading ${file.name} ...`);
    try {
      await take(file);
      fill(said, h("span", { class: "good" }, `${file.name} is here.`));
    } catch (error) {
      fill(said, h("span", { class: "error" }, error.message));
    }
    return undefined;
  }
  zone.addEventListener("dragover", (event) => (event.preventDefault(), zone.classList.add("over")));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) give(event.dataTransfer.files[0]);
  });
  return { element: zone, said };
}

/** A picture whose pixels are shown sharply: scaled by a whole number towards `target` pixels. */
export function pixels(address, alt, target = 360) {
  const image = h("img", { src: address, alt, class: "pixels" });
  image.addEventListener("load", () => {
    const times = Math.max(1, Math.floor(target / image.naturalWidth));
    image.style.width = `${image.naturalWidth * times}px`;
  });
  return image;
}

/** A list of facts: [[name, value]...]. */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));

/** Sentences as a list; nothing for none. */
export const sentences = (list, kind) => (list && list.length ? h("ul", { class: kind || null }, list.map((one) => h("li", null, one))) : null);

/** Classes as choices of a form; the field is hidden for a run without them. */
export const classChoices = (one) => (one.classes || []).map(String);

/** Forms of the server, and the runs, at once. */
export const loaded = () => Promise.all([api.forms(), api.runs()]);
