// A form of a verb, made from what the server says of its arguments: the same names, defaults and texts as the command has.
// Fields that most people want come first, the others under "More settings". A refusal is shown beside the field it is about.

import { h, newId } from "./dom.js";

const LABELS = {
  n: "Number of samples", seconds: "Time", steps: "Steps", out: "Name", gif: "Animation", settings: "Settings", label: "Class",
  evaluations: "Evaluations", batch: "Batch", sigma: "Noise (sigma)", noise: "Noise",
};

const labelOf = (field) => {
  const words = field.label || LABELS[field.name] || field.name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
};

const written = (value) => (Array.isArray(value) ? value.join(", ") : value === true ? "yes" : value === false ? "no" : String(value));
const COMPLETE = new Set(["sampler", "ladder", "recipe", "method"]); // their suggestions are all that there is

/** The help of a field as a sentence of the page, where no value is an empty field. */
function helpOf(field) {
  const text = (field.help || "").replace(/\bNone\b/g, "empty");
  const word = text.split(/[, ]/)[0];
  const isName = word === field.default || field.suggestions?.includes(word);
  return isName || !text ? text : text[0].toUpperCase() + text.slice(1);
}

const isEmpty = (value) => value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length);

/** The default as a person reads it in an empty field. */
const placeholder = (field) => field.placeholder ?? (isEmpty(field.default) ? (field.required ? "" : "default") : written(field.default));

/** Make the input of a field; `id` and the id of its help are given. */
function inputOf(field, id, value) {
  const shared = { id, name: field.name, "aria-describedby": `${id}-help`, "aria-required": field.required ? "true" : null };
  if (field.kind === "boolean") return h("input", { ...shared, type: "checkbox", checked: value === undefined ? field.default : value === true || value === "true"});
  const choices = field.choices || (COMPLETE.has(field.name) && field.suggestions);
  if (choices) {
    const blank = field.required ? [] : [h("option", { value: "" }, isEmpty(field.default) ? "default" : `default (${written(field.default)})`)];
    const named = (one) => (typeof one === "object" ? one : { value: one, text: String(one) });
    const unknown = !isEmpty(value) && !choices.map(named).some((one) => String(one.value) === value) ? [value] : []; // the server says what is wrong with it
    const options = [...choices, ...unknown].map(named).map((one) => h("option", { value: one.value }, one.text));
    return h("select", { ...shared, value: value ?? (field.required && choices.length ? named(choices[0]).value : "") }, blank, options);
  }
  if (field.kind === "list") return h("textarea", { ...shared, rows: 2, value: value ?? "", placeholder: placeholder(field), spellcheck: "false" });
  const numeric = { integer: "numeric", number: "decimal" }[field.kind];
  const list = field.suggestions ? `${id}-list` : null;
  return h("input", { ...shared, type: "text", inputmode: numeric, list, value: value ?? "", placeholder: placeholder(field), autocomplete: "off", spellcheck: "false" });
}

/** The value that a person gave, undefined for none. Numbers that are none stay texts, so that the server says its sentence. */
export function valueOf(field, input) {
  if (field.kind === "boolean") return input.checked === Boolean(field.default) ? undefined : input.checked;
  const text = input.value.trim();
  if (text === "") return undefined;
  if (field.kind === "list") {
    const parts = text.split(["settings", "given"].includes(field.name) ? /\n/ : /[\n,]/).map((one) => one.trim()).filter(Boolean);
    return Array.isArray(field.default) && field.default.some((one) => typeof one === "number") ? parts.map(asNumber) : parts;
  }
  return field.kind === "integer" || field.kind === "number" ? asNumber(text) : text;
}

const asNumber = (text) => (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : text);

/** Open what an element is folded away in. */
function reveal(element) {
  for (let fold = element.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

/** One labelled field, with its help and a place for an error. */
function row(field, value) {
  const id = newId(`f-${field.name}`);
  const input = inputOf(field, id, value);
  const error = h("span", { class: "error", id: `${id}-error`, hidden: true });
  const label = h("label", { for: id }, labelOf(field));
  const list = input.hasAttribute("list") ? h("datalist", { id: `${id}-list` }, field.suggestions.map((one) => h("option", { value: one }))) : null;
  const help = h("span", { class: "help", id: `${id}-help` }, helpOf(field), field.kind === "list" ? " One a line." : null);
  const parts = field.kind === "boolean" ? [h("span", { class: "check" }, input, label)] : [label, input, list];
  return { field, input, error, element: h("div", { class: "entry", "data-field": field.name }, parts, error, help) };
}

/** The form of a verb. */
class Form {
  constructor(asked) {
    const { described, first = [], hidden = [], changes = {}, values = {}, others = [], actions = [] } = asked;
    const known = new Map(described.fields.map((field) => [field.name, { ...field, ...changes[field.name] }]));
    const made = (names) => names.filter((name) => known.has(name) && !hidden.includes(name)).map((name) => row(known.get(name), values[name]));
    const early = made(first);
    const late = made([...known.keys()].filter((name) => !first.includes(name)));
    this.own = [...early, ...late];
    this.rows = [...this.own]; // and those of the view that were refused
    this.onSubmit = asked.onSubmit;
    this.general = h("p", { class: "error", role: "alert", hidden: true });
    this.send = asked.submit ? h("button", { type: "submit", class: "button primary" }, asked.submit) : null;
    const more = h("details", { class: "more" }, h("summary", null, "More settings"), h("div", { class: "controls" }, late.map((one) => one.element)));
    more.open = late.some((one) => valueOf(one.field, one.input) !== undefined);
    this.element = h(
      "form", { class: "panel controls", novalidate: true, "aria-label": asked.label || asked.submit || described.summary, onsubmit: (event) => this.attempt(event) },
      early.map((one) => one.element), others, late.length ? more : null, this.general, h("div", { class: "actions" }, this.send, actions),
    );
    for (const kind of ["input", "change"]) this.element.addEventListener(kind, () => asked.onChange?.(this.read()));
  }

  /** The values that a person gave. */
  read() {
    return Object.fromEntries(this.own.map(({ field, input }) => [field.name, valueOf(field, input)]).filter(([, value]) => value !== undefined));
  }

  input(name) {
    return this.rows.find(({ field }) => field.name === name)?.input;
  }

  hide(name, away) {
    const found = this.rows.find(({ field }) => field.name === name);
    if (found) found.element.hidden = away;
  }

  clear() {
    this.general.hidden = true;
    for (const { input, error } of this.rows) {
      error.hidden = true;
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-errormessage");
      input.setAttribute("aria-describedby", `${input.id}-help`);
    }
  }

  /** Show a refusal beside its field, or beside a row of the view's own, and go there. It may be handed on as a function. */
  refuse = (problem, own) => {
    this.clear();
    const found = own || this.rows.find(({ field, element: { hidden } }) => field.name === problem.field && !hidden);
    if (own && !this.rows.includes(own)) this.rows.push(own);
    const place = found?.error || this.general;
    reveal(found?.element || this.general);
    place.textContent = problem.message;
    place.hidden = false;
    if (!found) return;
    found.input.setAttribute("aria-invalid", "true");
    found.input.setAttribute("aria-errormessage", found.error.id);
    found.input.setAttribute("aria-describedby", `${found.error.id} ${found.input.id}-help`);
    found.input.focus();
  };

  async attempt(event) {
    event.preventDefault();
    this.clear();
    this.send.disabled = true;
    try {
      await this.onSubmit(this.read());
    } catch (problem) {
      this.refuse(problem);
    } finally {
      this.send.disabled = false;
    }
  }
}

/**
 * Make the form of a verb.
 *   described  {summary, fields} of /api/forms
 *   first      names of the fields shown at once, in this order
 *   hidden     names that the view has its own inputs for
 *   changes    {name: {label, help, choices, ...}} instead of what the server says of a field
 *   values     {name: text} to begin with, from the address
 *   submit     text of its button; onSubmit(values) may throw a `Refused`
 *   onChange   called with the values that differ from the defaults
 *   others     elements after the first fields; actions, after the button
 */
export const makeForm = (asked) => new Form(asked);

/** A field of our own, beside those of a verb: {element, input}. */
export const ownField = ({ value, ...field }) => row({ kind: "text", default: null, ...field }, value);

/** Two or more ways of which one is chosen: radio buttons in a group. */
export function radios(legend, name, options, chosen, onchange) {
  const id = newId(name);
  return h(
    "fieldset",
    { class: "radios" },
    h("legend", null, legend),
    options.map(([value, text]) =>
      h("label", null, h("input", { type: "radio", name: id, value, checked: value === chosen, onchange: () => onchange(value) }), h("span", null, text)),
    ),
  );
}
