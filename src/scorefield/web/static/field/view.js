// The Field view: a density in the plane, its score at a noise level, and particles that follow it.
//
//     mount(node, {query, onQuery, learned})
//
// fills a node and returns a function that ends the view. `query` is the state as an address has it; `onQuery(query)` is called with
// an object when it changes, so that every state can be shared. `learned` is what the server offers, `learned` of ../api.js, or
// null where there is none: what needs it is then not shown.

import { controls, counters, transport } from "./controls.js";
import { dataset } from "./datasets.js";
import { Figures } from "./figures.js";
import { drawGraph } from "./graph.js";
import { Live } from "./live.js";
import { Player, stepOf, levelsOf } from "./player.js";
import { SAMPLERS } from "./samplers.js";
import { decodeStrokes, encodeStrokes, sketchOn } from "./sketch.js";
import { lessonState, readState, writeState } from "./state.js";
import { download, h } from "./ui.js";

/** What a change of a key asks for; the strongest of a change wins. */
const NEEDS = { look: 0, level: 1, chain: 2, set: 3 };
const NEED_OF = {
  data: "set", drawing: "set", lesson: "look", arrows: "look", trails: "look", dots: "look", speed: "level", sigma: "level", tau: "level",
};

class View {
  constructor(node, { query = {}, onQuery = () => {}, learned = null }) {
    node.replaceChildren();
    const { state, problems } = readState(query);
    Object.assign(this, { state, onQuery, brush: 0.3, peek: state.sigma, problems });
    this.figures = new Figures();
    this.player = new Player(() => this.frame(), (sentence) => this.say(sentence));
    this.begin = (lesson) => this.become(lessonState(lesson));
    this.live = learned && new Live(this, learned);
    Object.assign(this, { controls: controls(this), transport: transport(this), counters: counters(this) });
    this.status = h("p", { class: "field-status", role: "status" });
    this.graph = h("canvas", { class: "field-graph", role: "img", "aria-label": "Distance of the particles to the truth, by step" });
    const stage = h("div", { class: "field-stage" }, this.figures.node, this.transport.node, this.status,
      h("div", { class: "field-facts" }, this.counters.node, this.graph), this.live?.graphs);
    const title = document.querySelector("h1") ? null : h("h1", { class: "field-title" }, "The score field");
    this.node = h("div", { class: "field" }, title, this.controls.lessons, stage, this.controls.node);
    node.append(this.node);
    this.open();
    this.endSketch = this.sketch();
    this.watch();
    this.live?.open();
    if (problems.length) this.say(problems[0]);
  }

  /** Take the data set of the state, and start again. */
  open() {
    this.set = dataset(this.state.data, decodeStrokes(this.state.drawing));
    this.figures.open(this.set);
    this.figures.drawable(this.state.data === "sketch");
    this.reset();
  }

  /** Let the person draw on the exact figure, as long as the data set is the drawing. */
  sketch() {
    const strokes = () => decodeStrokes(this.state.drawing);
    return sketchOn(this.figures.exact.plane, {
      open: () => this.state.data === "sketch",
      get: strokes,
      brush: () => this.brush,
      set: (all, settled) => this.change({ drawing: encodeStrokes(all) }, settled),
      cross: (place) => {
        this.figures.cross = place;
        this.draw();
      },
      refuse: (sentence) => this.say(sentence),
    });
  }

  /** The level of a sampler that stays on one, chosen or else in the middle. */
  ownLevel() {
    const [low, high] = this.set.levels;
    return Math.min(high, Math.max(low, this.state.sigma ?? Number(Math.sqrt(low * high).toPrecision(2))));
  }

  /** The level shown: the one looked at, else that of the particles. */
  level() {
    const [low, high] = this.set.levels;
    return this.peek === null ? this.player.chain.sigma : Math.min(high, Math.max(low, this.peek));
  }

  stepSize() {
    return stepOf(this.state, this.set, levelsOf(this.state, this.set, this.ownLevel()));
  }

  reset() {
    const wasPlaying = this.player.playing;
    this.live?.show();
    this.figures.compared(Boolean(this.live?.field));
    const learned = this.state.follow === "learned" && this.live?.field, [low, high] = this.set.levels;
    const reach = learned ? [Math.max(low, learned.low), Math.min(high, learned.high)] : [low, high];
    this.player.reset(this.state, this.set, learned || this.set.mixture, this.ownLevel(), reach);
    if (!SAMPLERS[this.state.sampler].ladder) this.peek = null;
    if (!wasPlaying) this.say("Ready.");
    this.show();
  }

  /** Become another state whole. */
  become(state) {
    this.player.pause();
    Object.assign(this, { state, peek: null });
    this.open();
    this.onQuery(writeState(state));
  }

  /** Change some keys of the state; `settled` false keeps the address as it is, in the middle of a stroke. */
  change(changes, settled = true) {
    const keys = Object.keys(changes), need = Math.max(...keys.map((key) => NEEDS[NEED_OF[key] ?? "chain"]));
    const { ladder } = SAMPLERS[changes.sampler ?? this.state.sampler];
    this.state = { ...this.state, ...changes };
    if (need === NEEDS.set && !("run" in changes)) Object.assign(this.state, { run: "", follow: "exact" });
    if ("data" in changes) this.peek = this.state.sigma = null;
    if ("data" in changes && !("tau" in changes)) Object.assign(this.state, { tau: null, h: null });
    if ("sigma" in changes) this.peek = ladder ? changes.sigma : null;
    if (need === NEEDS.set) this.open();
    else if (need === NEEDS.chain) this.reset();
    else if (need === NEEDS.level && !ladder) this.player.change(this.state, this.ownLevel());
    this.player.speed = this.state.speed;
    this.show();
    if (settled) this.onQuery(writeState(this.state));
  }

  undo() {
    this.change({ drawing: encodeStrokes(decodeStrokes(this.state.drawing).slice(0, -1)) });
  }

  clear() {
    this.change({ drawing: "" });
  }

  async toggle() {
    if (this.player.playing) return this.player.pause();
    if (this.player.chain.finished) this.reset();
    this.peek = null;
    this.say("Playing.");
    this.player.play();
    this.transport.show();
    return undefined;
  }

  async step(steps = 1) {
    this.peek = null;
    try {
      await this.player.step(steps);
    } catch (error) {
      this.say(error.message);
    }
  }

  say(sentence) {
    this.status.textContent = sentence;
    this.transport.show();
  }

  frame() {
    if (this.player.playing) this.peek = null;
    this.transport.showLevel();
    this.draw();
  }

  show() {
    this.controls.show();
    this.transport.show();
    this.transport.showLevel();
    this.draw();
  }

  draw() {
    const sigma = this.level(), { player, figures, live } = this;
    figures.draw(this.state, sigma, player);
    this.counters.show();
    this.drawSeries();
    if (!live?.field) return;
    live.ask(sigma, figures.places);
    if (!live.found) figures.compare(this.state, { sigma });
  }

  /** Draw the graph, if it has changed. */
  drawSeries(again = false) {
    const { player, figures: { colours } } = this, last = player.series.at(-1);
    if (last === this.drawn && !again) return;
    this.drawn = last;
    const line = (key) => player.series.map((each) => [each.step, each[key]]);
    const lines = [{ points: line("floor"), colour: colours.soft, dashed: true }, { points: line("distance"), colour: colours.particle }];
    drawGraph(this.graph, colours, lines, { x: "step", y: "distance to the truth (dashed: of exact samples)" });
  }

  /** The learned field has answered. */
  compared(found) {
    this.figures.compare(this.state, found);
  }

  /** Draw again when the size or the colours of the page change. */
  watch() {
    const again = () => {
      this.figures.recolour();
      this.draw();
      this.drawSeries(true);
      this.live?.draw();
      if (this.live?.found) this.compared(this.live.found);
    };
    this.sizes = new ResizeObserver(again);
    this.sizes.observe(this.figures.node);
    this.themes = new MutationObserver(again);
    this.themes.observe(document.documentElement, { attributes: true });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", again);
    this.again = again;
  }

  /** What is shown, as plain values. */
  data() {
    const { state, set, player } = this, { chain, measured, series } = player, { mixture } = set;
    const { x, y, stds, modes: of } = mixture;
    const components = Array.from(mixture.weights, (weight, k) => ({ weight, x: x[k], y: y[k], std: stds[k], mode: set.modes[of[k]] }));
    const modes = set.modes.map((name, mode) => ({ name, truth: mixture.modeWeights[mode], particles: measured.shares[mode] }));
    const positions = Array.from({ length: chain.x.length / 2 }, (_, i) => [chain.x[2 * i], chain.x[2 * i + 1]]);
    const { done: step, sigma, evaluations, acceptance } = chain, { variance, distance, floor } = measured;
    const { found, byLevel, curve } = this.live ?? {};
    const learned = found?.score ? { run: state.run, rms: found.rms, relative: found.relative, byLevel: byLevel?.levels, curve } : null;
    const particles = { step, sigma, evaluations, acceptance, modes, variance, distance, floor, series };
    return { state, shown: this.level(), components, ...particles, learned, positions };
  }

  save() {
    download(`field-${this.state.data}.json`, JSON.stringify(this.data()));
  }

  destroy() {
    this.player.pause();
    this.player.turn += 1;
    this.endSketch();
    this.sizes.disconnect();
    this.themes.disconnect();
    this.scheme.removeEventListener("change", this.again);
    if (this.live) this.live.alive = false;
    this.node.remove();
  }
}

/** Fill a node with the view: the function returned ends it, and its `view` is what the tests look at. */
export function mount(node, options = {}) {
  const view = new View(node, options);
  return Object.assign(() => view.destroy(), { view });
}
