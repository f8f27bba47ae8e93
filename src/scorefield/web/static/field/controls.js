// The controls of the view: one input for each thing that can be changed; what does not belong to the sampler is hidden.

import { DATASETS, SKETCH } from "./datasets.js";
import { LESSONS } from "./lessons.js";
import { SAMPLERS, STARTS } from "./samplers.js";
import { button, choice, count, digits, h, logSlider, tick } from "./ui.js";

const titles = (all) => Object.fromEntries(Object.entries(all).map(([name, each]) => [name, each.title ?? each]));
const group = (title, ...children) => h("fieldset", { class: "field-group" }, h("legend", {}, title), ...children);

/**
 * @param view state; change(changes); live: the learned fields, or null; the data set `set`; stepSize(): the step in use;
 *   brush and undo(), clear() of a drawing; save(): the data as JSON.
 * @returns {node, lessons, show()}: `show` brings every input up to date with the view.
 */
export function controls(view) {
  const to = (key) => (value) => view.change({ [key]: value });
  const flag = (key) => (on) => view.change({ [key]: on ? 1 : 0 });
  const lesson = choice("Lesson", { "": "None: explore freely", ...titles(LESSONS) }, view.begin);
  const text = h("p", { class: "field-text" }), look = h("p", { class: "field-look" });
  const data = choice("Data set", titles({ ...DATASETS, sketch: SKETCH }), (name) => view.change({ data: name, lesson: "" }));
  const about = h("p", { class: "field-hint" });
  const brush = logSlider("Brush (std of a stroke)", (value) => (view.brush = value));
  const hand = h("div", { class: "field-hand" }, brush.row,
    h("div", { class: "field-buttons" }, button("Undo", () => view.undo()), button("Clear", () => view.clear())),
    h("small", { class: "field-hint" }, "By keyboard, on the picture: the arrow keys move a cross, Enter sets a Gaussian, Backspace takes the last stroke back."));
  const sampler = choice("Sampler", titles(SAMPLERS), (value) => view.change({ sampler: value, tau: null, h: null }));
  const start = choice("Particles start", STARTS, to("start"));
  const tau = logSlider("Step size tau", (value) => view.change({ tau: value }), "x + tau·score + sqrt(2·tau)·z");
  const h1 = logSlider("Step h", (value) => view.change({ h: value }), "tau = h·sigma² on each level");
  const levels = count("Levels", 2, 500, to("levels"));
  const hold = count("Steps on each level", 1, 200, to("hold"));
  const n = count("Particles", 1, 5000, to("n"));
  const seed = count("Seed", 0, 4294967295, to("seed"));
  const shows = { arrows: tick("score arrows", flag("arrows")), trails: tick("trails", flag("trails")), dots: tick("300 data points", flag("dots")) };
  const lessons = h("div", { class: "field-lesson" }, group("Lesson", lesson.row, text, look));
  const node = h("div", { class: "field-controls" },
    group("Density", data.row, about, hand),
    view.live?.node,
    group("Sampler", sampler.row, start.row, tau.row, h1.row, h("div", { class: "field-pairs" }, levels.row, hold.row, n.row, seed.row)),
    group("Show", h("div", { class: "field-ticks" }, ...Object.values(shows).map(({ row }) => row)),
      h("div", { class: "field-buttons" }, button("Download data as JSON", () => view.save()))));

  function show() {
    const { state, set } = view, method = SAMPLERS[state.sampler], chosen = LESSONS[state.lesson], variance = set.mixture.smallest ** 2;
    for (const [key, input] of Object.entries({ lesson, data, sampler, start, levels, hold, n, seed })) input.set(state[key]);
    for (const [key, input] of Object.entries(shows)) input.set(state[key]);
    text.textContent = chosen?.text ?? "Particles follow the score, the gradient of the log-density, towards where the data are.";
    look.textContent = chosen ? `Look for: ${chosen.look}` : "Choose a lesson, or choose a data set and a sampler and press play.";
    about.textContent = set.about;
    hand.hidden = state.data !== "sketch";
    brush.range(0.05, 1);
    brush.set(view.brush);
    tau.row.hidden = method.step !== "tau";
    h1.row.hidden = method.step !== "h";
    tau.range(variance / 100, Math.max(10 * variance, 4 * set.levels[1] ** 2));
    h1.range(0.001, 1.9);
    (method.step === "h" ? h1 : tau).set(view.stepSize() ?? variance);
    levels.row.hidden = !method.ladder;
    hold.row.hidden = !(method.ladder && method.holds);
  }

  return { node, lessons, show };
}

/** Below the figure: play, pause, step, reset, the noise level and the speed: {node, show(), showLevel()}. */
export function transport(view) {
  const play = button("Play", () => view.toggle(), { class: "button primary field-play" });
  const sigma = logSlider("Noise level sigma", (value) => view.change({ sigma: value }));
  const speed = logSlider("Steps a second", (value) => view.change({ speed: Math.round(value) }));
  const step = button("Step", () => view.step()), reset = button("Reset", () => view.reset());

  function showLevel() {
    sigma.range(...view.set.levels);
    sigma.set(view.level());
  }

  function show() {
    play.textContent = view.player.playing ? "Pause" : "Play";
    speed.range(1, 500);
    speed.set(view.state.speed);
  }

  return { node: h("div", { class: "field-transport" }, play, step, reset, sigma.row, speed.row), show, showLevel };
}

const COUNTED = {
  step: "step", level: "noise level", evaluations: "evaluations of the field", acceptance: "acceptance", variance: "variance (truth)",
  distance: "distance (floor)",
};

/** The counters: {node, show()}. */
export function counters(view) {
  const cells = {}, list = h("dl", { class: "field-counters" });
  for (const [key, title] of Object.entries(COUNTED)) {
    cells[key] = h("dd", {});
    list.append(h("div", {}, h("dt", {}, title), cells[key]));
  }
  const body = h("tbody", {});
  const table = h("table", { class: "field-modes" }, h("caption", {}, "Weights of the modes"),
    h("thead", {}, h("tr", {}, ...["mode", "particles", "truth", ""].map((name) => h("th", { scope: "col" }, name)))), body);
  let rows = [], shown = null;

  function modes(set) {
    rows = set.modes.map((name) => {
      const share = h("td", {}), truth = h("td", {}), bar = h("meter", { min: 0, max: 1, "aria-label": `share of ${name}` });
      return { node: h("tr", {}, h("th", { scope: "row" }, name), share, truth, h("td", {}, bar)), share, truth, bar };
    });
    body.replaceChildren(...rows.map(({ node }) => node));
    shown = set;
  }

  function show() {
    const { player: { chain, measured }, set } = view, { variance } = measured;
    cells.step.textContent = chain.total === Infinity ? chain.done : `${chain.done} of ${chain.total}`;
    cells.level.textContent = digits(chain.sigma);
    cells.evaluations.textContent = chain.evaluations;
    cells.acceptance.textContent = digits(chain.acceptance);
    const v = variance.truth, gaussian = set.mixture.size === 1 && view.state.sampler === "langevin";
    const settles = gaussian ? v / (1 - chain.tau / (2 * v)) : null;
    cells.variance.textContent = `${digits(variance.found)} (${digits(v)}${settles > 0 ? `; these steps: ${digits(settles)}` : ""})`;
    cells.distance.textContent = `${digits(measured.distance, 2)} (${digits(measured.floor, 2)})`;
    table.hidden = set.modes.length < 2;
    if (shown !== set) modes(set);
    rows.forEach(({ share, truth, bar }, mode) => {
      share.textContent = measured.shares[mode].toFixed(3);
      truth.textContent = set.mixture.modeWeights[mode].toFixed(3);
      bar.value = measured.shares[mode];
    });
  }

  return { node: h("div", { class: "field-numbers" }, list, table), show };
}
