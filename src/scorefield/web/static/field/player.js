// The player: a chain of particles that can play, pause, step and start again, and what is measured on the way.
//
// The chain knows nothing of time. The player asks for as many steps as the speed allows since the last frame, and at most for as
// many as fit into a frame; measurements are taken at fixed steps. So the same seed gives the same particles and the same graph at
// every speed.

import { Truth, modeShares, variances } from "./measures.js";
import { Chain, SAMPLERS, annealingStep, geometric, startOf } from "./samplers.js";

const FRAME = 14; // ms of sampling in a frame, so that there is time left to draw
const KEPT = 10; // positions of a trail
const MOST = 240; // points of a graph

/** The step size of a state: its own, or one that suits the density. */
export function stepOf(state, { mixture }, levels) {
  const kind = SAMPLERS[state.sampler].step;
  if (kind === "h") return state.h ?? Number(annealingStep(levels[0] / levels[1], state.hold).toPrecision(3));
  const variance = mixture.smallest ** 2 + levels[0] ** 2;
  return state.tau ?? Number(((state.sampler === "mala" ? 1 : 0.1) * variance).toPrecision(3));
}

/** The levels that a state's sampler visits; `reach` may narrow them to what a learned field knows. */
export function levelsOf(state, set, sigma, reach = set.levels) {
  return SAMPLERS[state.sampler].ladder ? geometric(reach[1], reach[0], state.levels) : Float64Array.of(sigma);
}

export class Player {
  /** @param onFrame called after each frame in which something moved; onPause called with a sentence when playing ends. */
  constructor(onFrame, onPause) {
    Object.assign(this, { onFrame, onPause, playing: false, working: null, turn: 0 });
  }

  /** Start again: `set` is the data set, `field` what is sampled. */
  reset(state, set, field, sigma, reach) {
    this.turn += 1; // what an older chain still computes is dropped
    const levels = levelsOf(state, set, sigma, reach), positions = startOf(state.start, set, levels[0], state.n, state.seed);
    this.chain = new Chain(field, state.sampler, { levels, hold: state.hold, step: stepOf(state, set, levels), seed: state.seed, positions });
    Object.assign(this, { set, speed: state.speed, truth: new Truth(set.mixture, state.n, state.seed), history: [positions], series: [] });
    const { total, hold } = this.chain; // of a ladder the ends of levels are measured
    this.every = total === Infinity ? 4 : hold * Math.ceil(total / hold / 60);
    this.record();
  }

  /** Take another level or step size without starting again, for a sampler that stays on its level. */
  change(state, sigma) {
    const { chain } = this;
    chain.levels = levelsOf(state, this.set, sigma);
    chain.stepSize = stepOf(state, this.set, chain.levels);
    this.speed = state.speed;
  }

  /** Measure the particles as they are now. */
  look() {
    const { chain, set } = this, { x, sigma } = chain;
    this.measured = { ...this.truth.compare(x, sigma), shares: modeShares(set.mixture, x, sigma), variance: variances(set.mixture, x, sigma) };
  }

  record() {
    const { chain } = this;
    this.look();
    this.series.push({ step: chain.done, distance: this.measured.distance, floor: this.measured.floor });
    if (this.series.length < MOST || chain.total !== Infinity) return;
    this.series = this.series.filter((_, i) => i % 2 === 0);
    this.every *= 2;
  }

  /** One step; false when there is none left, or the particles have left the numbers. */
  async advance() {
    const { chain, turn } = this;
    const more = await chain.advance();
    if (turn !== this.turn || !more) return false;
    if (!chain.x.every(Number.isFinite)) {
      this.lost = true;
      return false;
    }
    this.history = [...this.history.slice(1 - KEPT), chain.x];
    if (chain.done % this.every === 0 || chain.finished) this.record();
    return true;
  }

  /** One step by hand, or `steps` of them. */
  async step(steps = 1) {
    this.pause();
    const { turn } = this;
    await this.working;
    for (let i = 0; i < steps && turn === this.turn; i++) if (!(await this.advance())) break;
    this.look();
    this.#end();
    this.onFrame();
  }

  play() {
    if (this.playing) return;
    Object.assign(this, { playing: true, owed: 0, before: performance.now() });
    requestAnimationFrame(() => this.#frame());
  }

  pause(sentence) {
    if (!this.playing) return;
    this.playing = false;
    this.onPause(sentence ?? "Paused.");
  }

  #end() {
    if (this.lost) this.pause("The step is too large: the particles ran away to infinity. Make the step smaller and press reset.");
    else if (this.chain.finished) this.pause(`Done after ${this.chain.done} steps.`);
    this.lost = false;
  }

  async #frame() {
    if (!this.playing) return;
    const now = performance.now();
    this.owed = Math.min(this.owed + ((now - this.before) * this.speed) / 1000, Math.max(1, this.speed));
    this.before = now;
    const work = async () => {
      while (this.playing && this.owed >= 1) {
        this.owed -= 1;
        if (!(await this.advance())) break;
        if (performance.now() - now > FRAME) break;
      }
    };
    const moved = this.owed >= 1;
    this.working = work();
    try {
      await this.working;
    } catch (error) {
      this.pause(error.message);
    }
    if (moved) {
      this.onFrame();
      if (this.playing) this.#end();
    }
    if (this.playing) requestAnimationFrame(() => this.#frame());
  }
}
