// The shell: header, addresses, light and dark. A view is a module with mount(element, place); it may return a function that is
// called before the next one. The address holds the state of a view, so that it can be shared and reloaded.

import * as api from "./api.js";
import { errorText, fill, h } from "./dom.js";

const VIEWS = {
  field: { title: "Field", load: async () => ({ mount: ofField((await import("./field/view.js")).mount) }) },
  train: { title: "Train", load: () => import("./views/train.js") },
  sample: { title: "Sample", load: () => import("./views/sample.js") },
  restore: { title: "Restore", load: () => import("./views/restore.js") },
  tables: { title: "Tables", load: () => import("./views/tables.js") },
  runs: { title: "Runs", load: () => import("./views/runs.js") },
};
/** The Field view, which knows nothing of this page. */
const ofField = (mount) => (element, place) => {
  const inner = h("div");
  fill(element, h("h1", null, "Field"), h("p", { class: "lead" }, "A density, its score at any noise level, and particles that follow it."), inner);
  return mount(inner, { query: place.query, onQuery: place.set, learned: api.learned });
};

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

let leave = null;
let shown = 0;
let missed = false; // whether a view could not be drawn because the server did not answer

/** Go to an address of this page. */
export function go(address) {
  history.pushState(null, "", address);
  show(true);
}

/** A part of an address as text; one that is badly encoded stays as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Where we are: the view, the name after it, the query, and how to change them. */
function placeOf(address) {
  const [view, ...rest] = address.pathname.split("/").filter(Boolean).map(decoded);
  return {
    view: view in VIEWS ? view : view ? null : "field",
    name: rest.join("/"),
    query: Object.fromEntries(address.searchParams),
    go,
    /** Replace the whole query without leaving the view. */
    set(query) {
      const text = (value) => (Array.isArray(value) ? value.join("\n") : value); // one a line, as the form shows it
      const kept = Object.entries(query).map(([key, value]) => [key, text(value)]).filter(([, value]) => value !== null && value !== undefined && value !== "");
      const search = new URLSearchParams(kept).toString();
      history.replaceState(null, "", location.pathname + (search ? `?${search}` : ""));
    },
    /** Change some of the query. */
    update(changes) {
      this.query = { ...this.query, ...changes };
      this.set(this.query);
    },
  };
}

async function show(focus) {
  const turn = (shown += 1);
  const place = placeOf(new URL(location.href));
  const main = document.getElementById("view");
  if (leave) leave();
  leave = null;
  missed = false;
  const view = VIEWS[place.view];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === place.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view ? `${place.name ? `${place.name} - ` : ""}${view.title} - scorefield` : "scorefield";
  if (!view) {
    fill(main, h("h1", null, "No such view"), h("p", null, "This address is none of the page's. ", h("a", { href: "/field" }, "Go to the field.")));
    return;
  }
  const element = h("div", { class: `view view-${place.view}` });
  fill(main, element);
  if (focus) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  try {
    const { mount } = await view.load().catch(() => {
      throw new api.Refused(api.SILENT, null, 0);
    });
    const end = await mount(element, place);
    if (turn !== shown) end?.();
    else leave = end || null;
  } catch (error) {
    if (turn !== shown) return;
    missed = error.status === 0;
    fill(element, h("h1", null, view.title), errorText(error.message));
  }
}

function theme(next) {
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  dispatchEvent(new CustomEvent("theme"));
}

function header() {
  const links = Object.entries(VIEWS).map(([name, { title }]) => h("a", { href: `/${name}`, "data-view": name }, title));
  const chosen = localStorage.getItem("theme") || "";
  const options = Object.entries(THEMES).map(([value, text]) => h("option", { value }, text));
  const choose = (event) => {
    localStorage.setItem("theme", event.target.value);
    theme(event.target.value);
  };
  const select = h("select", { id: "theme", onchange: choose, value: chosen in THEMES ? chosen : "" }, options);
  fill(
    document.getElementById("header"),
    h("a", { class: "brand", href: "/field" }, "scorefield"),
    h("nav", { "aria-label": "Views" }, links),
    h("label", { class: "theme" }, h("span", null, "Colours"), select),
  );
}

function connection({ connected, again }) {
  if (connected && again && missed) location.reload();
  const line = document.getElementById("connection");
  line.hidden = connected && !again;
  line.textContent = connected ? "Connected again." : "The connection to the server is lost. Trying again.";
  line.classList.toggle("good", connected);
  if (connected && again) setTimeout(() => (line.hidden = true), 4000);
}

/** Follow a link inside the page without loading it anew. */
function follow(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href);
  const first = address.pathname.split("/")[1];
  if (address.origin !== location.origin || link.target || link.hasAttribute("download") || !(first === "" || first in VIEWS)) return;
  if (link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  go(link.href);
}

theme(localStorage.getItem("theme"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new CustomEvent("theme")));
header();
document.addEventListener("click", follow);
addEventListener("popstate", () => show(false));
api.onConnection(connection);
show(false);
