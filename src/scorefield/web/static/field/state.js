// The state of the view as an address: every state can be shared. Only what differs from the lesson is written.

import { DATASETS } from "./datasets.js";
import { LESSONS } from "./lessons.js";
import { SAMPLERS, STARTS } from "./samplers.js";

const among = (options) => (text) => (Object.hasOwn(options, text) ? { value: text } : { expected: `one of ${Object.keys(options).filter(Boolean).join(", ")}` });
const number = (low, high, whole) => (text) => {
  const value = Number(text);
  const good = text.trim() !== "" && value >= low && value <= high && (!whole || Number.isInteger(value));
  return good ? { value } : { expected: `a ${whole ? "whole " : ""}number from ${low} to ${high}` };
};
const words = (pattern) => (text) => (pattern.test(text) ? { value: text } : { expected: "letters, digits and -_. only" });

/** Each key: its value without an address, and how its text is read. null = chosen from the rest. */
const KEYS = {
  lesson: ["", among({ "": 1, ...LESSONS })],
  data: ["moons", among({ ...DATASETS, sketch: 1 })],
  drawing: ["", words(/^[-0-9._]{0,6000}$/)],
  sigma: [null, number(1e-3, 100)],
  sampler: ["langevin", among(SAMPLERS)],
  start: ["wide", among(STARTS)],
  tau: [null, number(1e-6, 100)],
  h: [null, number(1e-6, 2)],
  levels: [60, number(2, 500, true)],
  hold: [5, number(1, 200, true)],
  n: [1000, number(1, 5000, true)],
  seed: [0, number(0, 4294967295, true)],
  speed: [30, number(1, 1000, true)],
  arrows: [1, number(0, 1, true)],
  trails: [1, number(0, 1, true)],
  dots: [0, number(0, 1, true)],
  run: ["", words(/^[^/\\]{0,200}$/)],
  follow: ["exact", among({ exact: 1, learned: 1 })],
};

const lowest = Object.fromEntries(Object.entries(KEYS).map(([key, [value]]) => [key, value]));

/** The state that a lesson begins with. */
export const lessonState = (name) => ({ ...lowest, lesson: name, ...(name ? LESSONS[name].state : {}) });

/** {state, problems} of a query, a text or an object; what cannot be read is named, and its default is used. */
export function readState(query) {
  const asked = new URLSearchParams(query), problems = [];
  const read = (key) => {
    const text = asked.get(key), found = KEYS[key][1](text);
    if (found.expected) problems.push(`got ${key}=${text}, expected ${found.expected}: its default is used`);
    return found;
  };
  const lesson = asked.has("lesson") ? (read("lesson").value ?? "") : "";
  const state = lessonState(lesson);
  for (const key of Object.keys(KEYS)) {
    if (key === "lesson" || !asked.has(key)) continue;
    const found = read(key);
    if (!found.expected) state[key] = found.value;
  }
  return { state, problems };
}

/** The query of a state, as an object of texts. */
export function writeState(state) {
  const base = lessonState(state.lesson);
  const written = Object.keys(KEYS).filter((key) => state[key] !== null && (key === "lesson" ? state.lesson : state[key] !== base[key]));
  return Object.fromEntries(written.map((key) => [key, String(state[key])]));
}
