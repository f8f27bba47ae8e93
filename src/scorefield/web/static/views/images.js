// Choosing an image to restore: one that training never saw, or one of the person's own.

import * as api from "../api.js";
import { fill, h } from "../dom.js";
import { radios } from "../form.js";
import { dropZone } from "./common.js";

export const COUNT = 24; // held-out images at a time

/** Choose an image: a held-out one, or an upload. `changed({source, address, intact})` is told. */
export function imageChooser(run, query, changed) {
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
