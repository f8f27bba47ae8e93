// Tables: rows with empty cells are filled, each with an interval; rows that do not belong are marked, with the columns that make
// them odd. Rows come from a file, or are held-out ones of the run, of which some cells are emptied.

import * as api from "../api.js";
import { readCsv, writeCsv } from "../csv.js";
import { button, download, errorText, fill, h, number } from "../dom.js";
import { makeForm } from "../form.js";
import { fileLinks, jobPanel } from "../job.js";
import { dataLink, dropZone, heading, loaded, noRun, pick, runField, sentences, usable } from "./common.js";

const SHOWN = 40; // rows of a grid
const SHARE = 0.25; // of the surprise, from which a column is marked
const HOLES = new Set(["", "na", "nan", "null", "none", "?"]);
const isHole = (cell) => HOLES.has(cell.trim().toLowerCase());
const percent = (share) => `${number(100 * share, 2)} %`;

/** A number in [0, 1) for a cell and a turn: the same whenever it is asked for. */
function chance(...numbers) {
  let hash = numbers.reduce((mixed, one) => Math.imul(mixed ^ one, 0x9e3779b1) ^ (mixed >>> 13), 0x2545f491);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
}

/** The filled cells of a report by the number of their row. */
const valuesOf = (filled) => new Map((filled?.rows || []).map((one) => [one.row, one.cells]));

/** The rows that a person works on; `changed()` is told when a cell is. */
function editor(changed) {
  const state = { name: "rows.csv", head: [], rows: [], file: null };
  const element = h("div", { class: "stack" });
  const count = h("p", { class: "help", role: "status" });
  const tell = () => {
    const holes = state.rows.reduce((sum, row) => sum + row.filter(isHole).length, 0);
    const more = state.rows.length > SHOWN ? ` The first ${SHOWN} are shown; all are used.` : "";
    count.textContent = `${number(state.rows.length)} rows, ${number(holes)} empty cells.${more}`;
  };
  const edit = (row, column) => (event) => {
    state.rows[row][column] = event.target.value;
    state.file = null;
    tell();
    changed();
  };
  const cell = (text, row, column) => h("td", null, h("input", { type: "text", value: text, placeholder: "empty", "aria-label": `Row ${row + 1}, ${state.head[column]}`, oninput: edit(row, column) }));
  const show = () => {
    const body = state.rows.slice(0, SHOWN).map((row, index) => h("tr", null, h("th", { scope: "row" }, index + 1), state.head.map((_, column) => cell(row[column] ?? "", index, column))));
    fill(element, count, h("div", { class: "wide" }, h("table", { class: "cells" }, h("thead", null, h("tr", null, h("th", { scope: "col" }, "row"), state.head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, body))));
    tell();
    changed();
  };
  const take = (text, name, file) => {
    const [head, ...rows] = readCsv(text);
    if (!head || !rows.length) throw new Error(`${name} has no rows: it needs a line with the names of the columns, and rows below it.`);
    Object.assign(state, { name, head, file, rows: rows.map((row) => head.map((_, column) => row[column] ?? "")) });
    show();
  };
  /** Empty about one cell in five of the rows shown, but never a whole row. The same cells at every press, then further ones. */
  let turn = 0;
  const thin = () => {
    state.rows.slice(0, SHOWN).forEach((row, index) => row.forEach((_, column) => {
      if (chance(index, column, turn) < 0.2 && row.filter((one) => !isHole(one)).length > 1) row[column] = "";
    }));
    turn += 1;
    state.file = null;
    show();
  };
  /** Upload the rows: the file as it came, unless a cell was changed or empty ones are to have what `filled` says. */
  const upload = async (filled = null) => {
    if (state.file && !filled) return (await api.upload(state.name, state.file)).id;
    const values = valuesOf(filled);
    const rows = state.rows.map((row, index) => row.map((text, column) => (isHole(text) ? values.get(index)?.[state.head[column]]?.value ?? "" : text)).map(String));
    return (await api.upload(state.name.replace(/\.(tsv|txt)$/, ".csv"), new Blob([writeCsv([state.head, ...rows])]))).id;
  };
  return { element, state, take, thin, upload };
}

/** The answers as a grid: filled cells with their intervals, odd rows with the columns that make them odd. */
function answerGrid({ head, rows }, filled, odd) {
  const byRow = valuesOf(filled);
  const oddities = new Map((odd?.rows || []).map((one) => [one.row, one]));
  const level = filled ? percent(filled.interval ?? 0.9) : "";
  const cell = (row, column, text) => {
    const found = isHole(text) ? byRow.get(row)?.[head[column]] : null;
    const share = oddities.get(row)?.odd ? oddities.get(row).columns.find((one) => one.name === head[column])?.share || 0 : 0;
    const why = share >= SHARE ? h("span", { class: "help range" }, `${percent(share)} of the oddness`) : null;
    const marks = [found ? "filled" : "", share >= SHARE ? "odd-cell" : ""].filter(Boolean).join(" ");
    if (!found) return h("td", { class: marks || null }, text === "" ? h("span", { class: "help" }, "empty") : text, why);
    const range = found.share === null || found.share === undefined ? `${level}: ${found.low} to ${found.high}` : `${percent(found.share)} of the draws`;
    return h("td", { class: marks }, String(found.value), h("span", { class: "range" }, range), why);
  };
  const order = [...rows.keys()].filter((row) => row < SHOWN || byRow.has(row) || oddities.get(row)?.odd).slice(0, 3 * SHOWN);
  const header = (row) => {
    const found = oddities.get(row);
    return h("th", { scope: "row" }, row + 1, found ? h("span", { class: found.odd ? "warn range" : "help range" }, found.odd ? `odd, p = ${number(found.p_value, 2)}, by its ${found.spoke === "norms" ? "score norms" : "density"}` : `p = ${number(found.p_value, 2)}`) : null);
  };
  const body = order.map((row) => h("tr", { class: oddities.get(row)?.odd ? "odd-row" : null }, header(row), rows[row].map((text, column) => cell(row, column, text))));
  return h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Answers" }, h("table", { class: "cells" }, h("thead", null, h("tr", null, h("th", { scope: "col" }, "row"), head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, body)));
}

/** What was found of odd rows, in a sentence. */
const oddSentence = (odd) => `${odd.count === 1 ? "1 row is" : `${number(odd.count)} rows are`} odd at a false-alarm rate of ${percent(odd.rate)}, calibrated on ${number(odd.held_out)} rows that training never saw: no p can be below ${number(1 / (odd.held_out + 1), 2)}.`;
const filledSentence = (filled) => `Filled cells are marked; each has the interval that holds ${percent(filled.interval ?? 0.9)} of true values. ${filled.draws > 1 ? `The file has ${filled.draws} completed tables, one after the other.` : ""}`;

class Tables {
  constructor(place, run, runs, forms) {
    Object.assign(this, { place, run, forms, answers: {}, jobs: {} });
    this.result = h("section", { class: "panel stack", hidden: true });
    this.problem = h("div");
    this.rows = editor(() => this.forget());
    const other = (name) => place.go(`/tables?run=${encodeURIComponent(name)}`);
    const drop = dropZone({ label: "A table of your own (CSV)", accept: ".csv,.tsv,.txt", take: (file) => this.take(file) });
    const choose = h(
      "div", { class: "panel controls" }, runField(runs, run.name, other), drop.element,
      h("div", { class: "actions" }, button("Take held-out rows", () => this.held(), { class: "button small" }), button("Empty some cells", this.rows.thin, { class: "button small" })), this.problem,
    );
    const left = h("div", { class: "stack" }, choose, this.part("impute", ["draws", "seed"], "Fill the empty cells", "Fill", "Filling"), this.part("odd", ["rate"], "Find odd rows", "Find", "Looking for odd rows"));
    this.element = h("div", { class: "split" }, left, h("div", { class: "stack" }, h("section", { class: "panel" }, h("h2", null, "Rows"), this.rows.element), this.result));
  }

  /** The form and the job of a verb, if there is this verb. */
  part(verb, first, title, submit, name) {
    const { forms, place } = this;
    if (!forms[verb]) return null;
    const panel = jobPanel({ name });
    const form = makeForm({
      described: forms[verb], first, hidden: ["run", "source", "out", "data"], values: place.query, submit, label: title,
      onSubmit: (values) => this.start(verb, values, panel, form), onChange: (values) => place.update(values),
    });
    form.element.prepend(h("h2", null, title));
    return [form.element, panel.element];
  }

  /** Forget the answers: the rows are others now. */
  forget() {
    Object.assign(this, { answers: {}, jobs: {} });
    this.result.hidden = true;
  }

  async take(file) {
    fill(this.problem);
    this.rows.take(await file.text(), file.name, file);
  }

  async held() {
    try {
      this.rows.take(await api.text(`${api.path("runs", this.run.name, "held-out.csv")}?first=0&count=12`), "held-out.csv", null);
      if (this.forms.impute) this.rows.thin();
    } catch (error) {
      fill(this.problem, errorText(error.message));
    }
  }

  async start(verb, values, panel, form) {
    fill(this.problem);
    if (!this.rows.state.rows.length) throw new api.Refused("There are no rows yet: take held-out ones, or upload a table.");
    const filled = verb === "odd" ? this.answers.impute : null; // a row is judged whole
    const job = await api.job(verb, { run: this.run.name, source: await this.rows.upload(filled), ...values });
    const asked = this.answers;
    api.finished(job, panel.show).then((ended) => {
      if (ended.state !== "done" || asked !== this.answers) return;
      this.answers[verb] = ended.report;
      this.jobs[verb] = ended;
      this.show();
    }).catch((error) => (error.field === "source" ? fill(this.problem, errorText(error.message)) : form.refuse(error)));
  }

  show() {
    const { impute, odd } = this.answers;
    const all = Object.values(this.jobs);
    const files = all.flatMap((one) => one.files);
    const csv = this.jobs.impute?.files.find((file) => /filled\.csv$/.test(file.name));
    this.result.hidden = false;
    fill(
      this.result, h("h2", null, "Answers"), odd ? h("p", null, oddSentence(odd)) : null, impute ? h("p", null, filledSentence(impute)) : null,
      answerGrid(this.rows.state, impute, odd), sentences([...(impute?.notes || []), ...(odd?.notes || [])]),
      csv ? h("div", { class: "actions" }, button("Download the filled table", () => download(csv.url, "filled.csv"), { class: "button primary" })) : null,
      files.length ? h("details", { class: "more" }, h("summary", null, `${files.length} files to download`), fileLinks(files)) : null, all.map((one) => dataLink(api.path("jobs", one.id), { impute: "Filled cells", odd: "Odd rows" }[one.verb])),
    );
  }
}

export async function mount(element, place) {
  const [forms, all] = await loaded();
  const runs = usable(all, ["table"]);
  fill(element, heading("Tables", "Fill the empty cells of a table, each with an interval, and find the rows that do not belong."));
  if (!runs.length) {
    element.append(noRun("No run on a table yet. Upload a CSV in Train."));
    return undefined;
  }
  const run = pick(runs, place.query.run, element);
  const tables = new Tables(place, run, runs, forms);
  element.append(tables.element, dataLink(`${api.path("runs", run.name, "held-out.csv")}?first=0&count=12`));
  await tables.held();
  return undefined;
}
