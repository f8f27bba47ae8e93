// A view of the page: what each run has cost, the fastest training first. It goes to src/scorefield/web/static/views/cost.js, and
// examples/view_cost.diff makes it known. A view is a module with mount(element, place); it draws into the element.

import * as api from "../api.js";
import { duration, fill, h, number } from "../dom.js";
import { heading, noRun } from "./common.js";

const COLUMNS = ["run", "parameters", "examples seen", "time", "examples a second"];

export async function mount(element) {
  const runs = (await api.runs()).filter((one) => one.seconds > 0); // a run that was imported has cost nothing here
  const rate = (one) => one.images / one.seconds;
  const row = (one) => [h("a", { href: `/runs/${encodeURIComponent(one.name)}` }, one.name), number(one.parameters), number(one.images), duration(one.seconds), number(rate(one))];
  const rows = runs.sort((one, other) => rate(other) - rate(one)).map((one) => h("tr", null, row(one).map((cell) => h("td", null, cell))));
  const head = h("thead", null, h("tr", null, COLUMNS.map((name) => h("th", { scope: "col" }, name))));
  const table = h("div", { class: "wide" }, h("table", null, head, h("tbody", null, rows)));
  fill(element, heading("Cost", "What each run has cost, the fastest training first."), rows.length ? table : noRun());
}
