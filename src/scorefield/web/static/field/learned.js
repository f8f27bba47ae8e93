// A learned field beside the exact one: its error where the data are, and on a map.
//
//     rms       sqrt(E |s_learned - s|²)                 over exact samples of p_sigma
//     relative  sqrt(E |s_learned - s|² / E |s|²)        0 is perfect, 1 is as good as a field of zeros
//     map       sigma·|s_learned - s|                    the error of the predicted noise
//
// Data for a training are turned first, so that both coordinates have one variance: a run divides each by its own standard
// deviation, and noise that is round in the data's units must be round for the run, too. A turn leaves distances as they are.

import { STREAM } from "./random.js";
import { digits } from "./ui.js";

export const MAP = 41; // cells of the error's map on each side
const SAMPLES = 600;
const LEVELS = 8;

/** The angle by which data of a mixture are turned. */
export function angleOf(mixture) {
  const { xx, xy, yy } = mixture.moments();
  return Math.atan2(xx - yy, 2 * xy) / 2;
}

export function turned(positions, angle) {
  const cos = Math.cos(angle), sin = Math.sin(angle), result = new Float64Array(positions.length);
  for (let i = 0; i < positions.length; i += 2) {
    result[i] = cos * positions[i] - sin * positions[i + 1];
    result[i + 1] = sin * positions[i] + cos * positions[i + 1];
  }
  return result;
}

const ours = (run) => run.startsWith("field-");

/** The data set that a run was trained on, or null: {data, drawing}. */
export function densityOf(run, datasets) {
  const data = /^field-([a-z]+)-\d+$/.exec(run.name)?.[1];
  if (data === "sketch") return run.drawing ? { data, drawing: run.drawing } : null;
  if (data && datasets[data]) return { data, drawing: "" };
  const found = Object.entries(datasets).find(([, each]) => each.source && each.source === run.source);
  return found ? { data: found[0], drawing: "" } : null;
}

function mapPlaces({ x, y, half }) {
  const side = (2 * half) / MAP;
  return Float64Array.from({ length: 2 * MAP * MAP }, (_, i) => {
    const cell = i >> 1;
    return i % 2 ? y + half - side * (Math.floor(cell / MAP) + 0.5) : x - half + side * ((cell % MAP) + 0.5);
  });
}

function joined(...parts) {
  const all = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

/** sqrt of sums: {rms, relative} of two lists of vectors. */
export function errorOf(learned, exact) {
  const square = (f) => exact.reduce((sum, value, i) => sum + f(value, i) ** 2, 0), off = square((value, i) => learned[i] - value);
  return { rms: Math.sqrt(off / (exact.length / 2)), relative: Math.sqrt(off / square((value) => value)) };
}

/** A run's field in the coordinates of a data set. `source.score(run, float32 positions, sigma)` asks for it: {scores, step, low, high}. */
export class LearnedField {
  constructor(source, run, set) {
    Object.assign(this, { source, run, set, angle: ours(run) ? angleOf(set.mixture) : 0, low: 0, high: Infinity, step: null });
  }

  async score(positions, sigma) {
    const found = await this.source.score(this.run, new Float32Array(turned(positions, this.angle)), sigma);
    Object.assign(this, { low: found.low, high: found.high, step: found.step });
    return turned(Float64Array.from(found.scores), -this.angle);
  }

  /** Ask once, so that the levels that the run knows are known. */
  async #ends() {
    if (this.step === null) await this.score(Float64Array.of(0, 0), this.set.levels[1]);
  }

  /** Compare at one level: {score at `places`, error of the map, rms, relative, step, sigma}. */
  async compare(places, sigma) {
    await this.#ends();
    if (sigma < this.low * (1 - 1e-6) || sigma > this.high * (1 + 1e-6))
      return { sentence: `The run knows noise levels from ${digits(this.low)} to ${digits(this.high)}: move the slider there.`, sigma };
    const { mixture, window } = this.set, map = mapPlaces(window), samples = mixture.sample(SAMPLES, 0, sigma, STREAM.other);
    const all = joined(places, map, samples), learned = await this.score(all, sigma), exact = mixture.score(all, sigma);
    const from = places.length, to = from + map.length;
    const error = Float64Array.from({ length: MAP * MAP }, (_, i) => {
      const at = from + 2 * i;
      return sigma * Math.hypot(learned[at] - exact[at], learned[at + 1] - exact[at + 1]);
    });
    return { score: learned.slice(0, from), error, ...errorOf(learned.subarray(to), exact.subarray(to)), step: this.step, sigma };
  }

  /** Relative error at levels between the run's ends: {levels: [[sigma, relative], ...], step}. */
  async byLevel() {
    await this.#ends();
    const { mixture, levels: [lowest, highest] } = this.set, low = Math.max(lowest, this.low), high = Math.min(highest, this.high), levels = [];
    for (let i = 0; i < LEVELS; i++) {
      const sigma = low * (high / low) ** (i / (LEVELS - 1)), samples = mixture.sample(SAMPLES, 1, sigma, STREAM.other);
      levels.push([sigma, errorOf(await this.score(samples, sigma), mixture.score(samples, sigma)).relative]);
    }
    return { levels, step: this.step };
  }
}

/** Points for a training: exact samples of the data, turned. */
export const trainingPoints = (set, count, seed) => turned(set.mixture.sample(count, seed), angleOf(set.mixture));
