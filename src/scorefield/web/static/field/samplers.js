// Samplers: from any start to samples of p_sigma, by steps along the score. They ask a field for `score(positions, sigma)` only,
// which may be a promise, so an exact field and a learned one on a server are sampled by the same lines.
//
//     Langevin       x <- x + tau·score + sqrt(2·tau)·z          at one level; on N(0, v) its variance is v/(1 - tau/(2v))
//     Metropolis     the same as a proposal, accepted with the probability that leaves p_sigma exactly as it is
//     annealed       the same with tau_j = h·sigma_j², k steps on every level of a descending ladder
//     reverse SDE    x <- x + (sigma² - below²)·score + below·sqrt(1 - below²/sigma²)·z     from a level to the one below
//     flow           dx/dsigma = -sigma·score, by Euler's (order 1) or Heun's method (order 2): no noise
//
// This is the convention (tau, sqrt(2·tau)); the other in print, (eps/2, sqrt(eps)), has eps = 2·tau. The process is variance
// exploding: x = x0 + sigma·noise. The step of the reverse SDE draws from q(x_below | x, x0 = denoised), which is exact where x0
// is a point. At the end the particles are samples of p_sigma at the lowest level.

import { STREAM, draws } from "./random.js";

/** `levels` levels from high to low with one ratio between neighbours. */
export function geometric(high, low, levels) {
  return Float64Array.from({ length: levels }, (_, j) => (levels === 1 ? low : high * (low / high) ** (j / (levels - 1))));
}

/** NCSNv2's step for annealing: the h in (0, 2) whose k steps bring a variance of ratio² to closest to 1, on a grid. */
export function annealingStep(ratio, steps) {
  let best = 1, closest = Infinity;
  for (let i = 0; i <= 4000; i++) {
    const h = 10 ** (-5 + (i / 4000) * (5 + Math.log10(1.999))), shrink = (1 - h) ** 2, limit = (2 * h) / (1 - shrink);
    const off = Math.abs(shrink ** steps * (ratio ** 2 - limit) + limit - 1);
    if (off < closest) [best, closest] = [h, off];
  }
  return best;
}

const along = (x, score, tau) => x.map((value, i) => value + tau * score[i]);
const noised = (x, spread, z) => x.map((value, i) => value + spread * z[i]);

async function langevin({ field, x, sigma, tau, noise }) {
  return { x: noised(along(x, await field.score(x, sigma), tau), Math.sqrt(2 * tau), noise().normal) };
}

/** log p(there) - log p(x) from scores alone: Simpson's rule on the straight line; exact for a Gaussian. */
export function lineIntegral(x, there, score, middle, scoreThere) {
  return Float64Array.from({ length: x.length / 2 }, (_, i) => {
    let sum = 0;
    for (const j of [2 * i, 2 * i + 1]) sum += (score[j] + 4 * middle[j] + scoreThere[j]) * (there[j] - x[j]);
    return sum / 6;
  });
}

async function ends(field, x, there, sigma, memory) {
  if (field.evaluate) {
    const here = memory?.sigma === sigma ? memory : field.evaluate(x, sigma), beyond = field.evaluate(there(here.score), sigma);
    return { here, beyond, difference: beyond.logDensity.map((log, i) => log - here.logDensity[i]), evaluations: 1 };
  }
  const here = memory?.sigma === sigma ? memory : { score: await field.score(x, sigma) }, end = there(here.score);
  const both = new Float64Array(2 * x.length);
  both.set(end);
  both.set(end.map((value, i) => (value + x[i]) / 2), x.length);
  const found = await field.score(both, sigma), beyond = { score: found.slice(0, x.length) };
  return { here, beyond, difference: lineIntegral(x, end, here.score, found.subarray(x.length), beyond.score), evaluations: 2 };
}

async function metropolis({ field, x, sigma, tau, noise, memory }) {
  const { normal, uniform } = noise();
  let proposal;
  const there = (score) => (proposal = noised(along(x, score, tau), Math.sqrt(2 * tau), normal));
  const { here, beyond, difference, evaluations } = await ends(field, x, there, sigma, memory);
  const next = Float64Array.from(x), score = Float64Array.from(here.score);
  const logDensity = here.logDensity && Float64Array.from(here.logDensity);
  let accepted = 0;
  for (let i = 0; i < uniform.length; i++) {
    let back = 0, forth = 0; // of the proposal densities q(x|x') and q(x'|x)
    for (const j of [2 * i, 2 * i + 1]) {
      back += (x[j] - proposal[j] - tau * beyond.score[j]) ** 2;
      forth += (proposal[j] - x[j] - tau * here.score[j]) ** 2;
    }
    const ratio = Math.min(1, Math.exp(difference[i] + (forth - back) / (4 * tau))) || 0; // a NaN is refused
    accepted += ratio;
    if (uniform[i] >= ratio) continue;
    for (const j of [2 * i, 2 * i + 1]) [next[j], score[j]] = [proposal[j], beyond.score[j]];
    if (logDensity) logDensity[i] = beyond.logDensity[i];
  }
  return { x: next, memory: { sigma, score, logDensity }, acceptance: accepted / uniform.length, evaluations };
}

async function reverse({ field, x, sigma, below, noise }) {
  const ratio = below / sigma, mean = along(x, await field.score(x, sigma), sigma ** 2 - below ** 2);
  return { x: noised(mean, below * Math.sqrt(1 - ratio ** 2), noise().normal) };
}

async function euler({ field, x, sigma, below }) {
  return { x: along(x, await field.score(x, sigma), sigma * (sigma - below)) };
}

async function heun({ field, x, sigma, below }) {
  const here = await field.score(x, sigma), guess = along(x, here, sigma * (sigma - below)), there = await field.score(guess, below);
  const half = 0.5 * (sigma - below);
  return { x: x.map((value, i) => value + half * (sigma * here[i] + below * there[i])), evaluations: 2 };
}

/** Facts of each: it goes down a `ladder` or stays at one level; it `holds` several steps on each level; `step` says what its size is. */
export const SAMPLERS = {
  langevin: { title: "Langevin (unadjusted)", move: langevin, ladder: false, holds: true, step: "tau" },
  mala: { title: "Langevin, Metropolis-adjusted", move: metropolis, ladder: false, holds: true, step: "tau" },
  annealed: { title: "Annealed Langevin", move: langevin, ladder: true, holds: true, step: "h" },
  sde: { title: "Reverse SDE", move: reverse, ladder: true, holds: false, step: null },
  euler: { title: "Probability flow, Euler", move: euler, ladder: true, holds: false, step: null },
  heun: { title: "Probability flow, Heun", move: heun, ladder: true, holds: false, step: null },
};

export class Chain {
  /**
   * @param field what has `score(positions, sigma)`.
   * @param sampler a name of SAMPLERS.
   * @param options levels: the ladder, descending (one level for a sampler without a ladder); hold: steps on each level;
   *   step: tau or h; seed; positions: where the particles start.
   */
  constructor(field, sampler, { levels, hold = 1, step = null, seed = 0, positions }) {
    Object.assign(this, { field, method: SAMPLERS[sampler], levels, hold: SAMPLERS[sampler].holds ? hold : 1, stepSize: step, seed });
    Object.assign(this, { x: positions, done: 0, evaluations: 0, memory: null, acceptance: null, accepted: 0 });
  }

  /** Number of steps to the end; Infinity for a sampler that stays on its level. */
  get total() {
    const { ladder, holds } = this.method;
    return ladder ? (holds ? this.levels.length * this.hold : this.levels.length - 1) : Infinity;
  }

  get finished() {
    return this.done >= this.total;
  }

  /** The level of the particles now, which is what the next step reads. */
  get sigma() {
    return this.levels[Math.min(Math.floor(this.done / this.hold), this.levels.length - 1)];
  }

  get tau() {
    return this.method.step === "h" ? this.stepSize * this.sigma ** 2 : this.stepSize;
  }

  /** Go one step with all particles; false if there was none left. */
  async advance() {
    if (this.finished) return false;
    const { field, x, sigma, tau, memory, done, seed } = this;
    const below = this.levels[Math.floor(done / this.hold) + 1], noise = () => draws(seed, STREAM.noise, done, x.length / 2);
    const found = await this.method.move({ field, x, sigma, below, tau, noise, memory });
    this.x = found.x;
    this.memory = found.memory ?? null;
    this.evaluations += found.evaluations ?? 1;
    this.done += 1;
    if (found.acceptance !== undefined) {
      this.accepted += found.acceptance;
      this.acceptance = this.accepted / this.done;
    }
    return true;
  }
}

export const STARTS = {
  wide: "Wide: a Gaussian as wide as the data and the noise",
  box: "Evenly over the picture",
  mode: "All at one place, in the last mode",
  truth: "Exact samples",
};

/** Where `count` particles start at a level; particle i depends on (seed, i) alone. */
export function startOf(kind, { mixture, window }, sigma, count, seed) {
  if (kind === "truth") return mixture.sample(count, seed, sigma, STREAM.start);
  const { normal } = draws(seed, STREAM.start, 0, count), points = new Float64Array(2 * count);
  const { x, y, xx, xy, yy } = mixture.moments(), a = Math.sqrt(xx + sigma ** 2), b = xy / a, c = Math.sqrt(yy + sigma ** 2 - b * b);
  const u = draws(seed, STREAM.start, 2, count).uniform, v = draws(seed, STREAM.start, 3, count).uniform, last = mixture.size - 1;
  for (let i = 0; i < count; i++) {
    const [p, q] = [normal[2 * i], normal[2 * i + 1]], std = Math.hypot(mixture.stds[last], sigma);
    const place = {
      wide: [x + a * p, y + b * p + c * q],
      box: [window.x + window.half * (2 * u[i] - 1), window.y + window.half * (2 * v[i] - 1)],
      mode: [mixture.x[last] + std * p, mixture.y[last] + std * q],
    }[kind];
    points.set(place, 2 * i);
  }
  return points;
}
