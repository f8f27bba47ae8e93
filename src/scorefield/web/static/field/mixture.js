// Exact fields: Gaussian mixtures in the plane, whose every noisy version is known in closed form.
//
// If x0 ~ sum_k w_k·N(m_k, s_k²·I), then x0 + sigma·noise has the density
//
//     p_sigma(x) = sum_k w_k·N(x; m_k, v_k·I),   v_k = s_k² + sigma²
//     score(x)   = sum_k r_k(x)·(m_k - x)/v_k,   r_k(x) = p(component k | x)
//
// Positions are a Float64Array of n pairs (x, y). A component below e^-40 of the largest one at a point changes no digit of a
// float64 there, so its exponential is not computed: at a small sigma most of them are.

import { STREAM, draws } from "./random.js";

const NOTHING = -40;

export class Mixture {
  /**
   * @param components a list of {weight, x, y, std, mode}: weights > 0 (they are normalised), std > 0, mode a whole number that
   *   names the part of the density which the component belongs to.
   */
  constructor(components) {
    const total = components.reduce((sum, each) => sum + each.weight, 0);
    if (!(total > 0) || components.some((each) => !(each.weight > 0 && each.std > 0)))
      throw new Error("got a component without a positive weight and std, expected both positive: leave such out");
    this.size = components.length;
    this.weights = Float64Array.from(components, (each) => each.weight / total);
    this.x = Float64Array.from(components, (each) => each.x);
    this.y = Float64Array.from(components, (each) => each.y);
    this.stds = Float64Array.from(components, (each) => each.std);
    this.modes = Int32Array.from(components, (each) => each.mode ?? 0);
    this.modeWeights = new Float64Array(1 + Math.max(...this.modes));
    for (let k = 0; k < this.size; k++) this.modeWeights[this.modes[k]] += this.weights[k];
    this.smallest = Math.min(...this.stds);
  }

  /** Mean and covariance of the data: {x, y, xx, xy, yy}. */
  moments() {
    const of = (f) => this.weights.reduce((sum, w, k) => sum + w * f(k), 0);
    const x = of((k) => this.x[k]), y = of((k) => this.y[k]), within = of((k) => this.stds[k] ** 2);
    return {
      x, y,
      xx: within + of((k) => (this.x[k] - x) ** 2),
      xy: of((k) => (this.x[k] - x) * (this.y[k] - y)),
      yy: within + of((k) => (this.y[k] - y) ** 2),
    };
  }

  /** What depends on the level alone: 1/v_k and log(w_k/(2·pi·v_k)). */
  #level(sigma) {
    const inverse = this.stds.map((std) => 1 / (std * std + sigma * sigma));
    return { inverse, constant: inverse.map((one, k) => Math.log((this.weights[k] * one) / (2 * Math.PI))) };
  }

  /** Score (2n) and log-density (n) together: {score, logDensity}. */
  evaluate(positions, sigma) {
    const { inverse, constant } = this.#level(sigma), { x: mx, y: my, size } = this;
    const count = positions.length / 2, logs = new Float64Array(size);
    const score = new Float64Array(2 * count), logDensity = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const x = positions[2 * i], y = positions[2 * i + 1];
      let largest = -Infinity;
      for (let k = 0; k < size; k++) {
        const dx = mx[k] - x, dy = my[k] - y, log = constant[k] - 0.5 * (dx * dx + dy * dy) * inverse[k];
        logs[k] = log;
        if (log > largest) largest = log;
      }
      let total = 0, sx = 0, sy = 0;
      for (let k = 0; k < size; k++) {
        const below = logs[k] - largest;
        if (below < NOTHING) continue;
        const share = Math.exp(below), pull = share * inverse[k];
        total += share;
        sx += pull * (mx[k] - x);
        sy += pull * (my[k] - y);
      }
      score[2 * i] = sx / total;
      score[2 * i + 1] = sy / total;
      logDensity[i] = largest + Math.log(total);
    }
    return { score, logDensity };
  }

  score(positions, sigma) {
    return this.evaluate(positions, sigma).score;
  }

  logDensity(positions, sigma) {
    return this.evaluate(positions, sigma).logDensity;
  }

  /** p(mode | x), n rows of as many numbers as there are modes. Under p_sigma their mean is the modes' weights exactly. */
  responsibilities(positions, sigma) {
    const { inverse, constant } = this.#level(sigma), count = positions.length / 2, width = this.modeWeights.length;
    const shares = new Float64Array(count * width), logs = new Float64Array(this.size);
    for (let i = 0; i < count; i++) {
      let largest = -Infinity, total = 0;
      for (let k = 0; k < this.size; k++) {
        const dx = this.x[k] - positions[2 * i], dy = this.y[k] - positions[2 * i + 1];
        logs[k] = constant[k] - 0.5 * (dx * dx + dy * dy) * inverse[k];
        largest = Math.max(largest, logs[k]);
      }
      for (let k = 0; k < this.size; k++) {
        const share = logs[k] - largest < NOTHING ? 0 : Math.exp(logs[k] - largest);
        shares[i * width + this.modes[k]] += share;
        total += share;
      }
      for (let mode = 0; mode < width; mode++) shares[i * width + mode] /= total;
    }
    return shares;
  }

  /** Draw `count` points of p_sigma (sigma 0: of the data); point i depends on (seed, stream, i) alone. */
  sample(count, seed, sigma = 0, stream = STREAM.data) {
    const place = draws(seed, stream, 0, count), blur = draws(seed, stream, 1, count).normal, ends = [];
    this.weights.reduce((sum, w, k) => (ends[k] = sum + w), 0);
    const points = new Float64Array(2 * count);
    for (let i = 0; i < count; i++) {
      const found = ends.findIndex((end) => place.uniform[i] < end), k = found < 0 ? this.size - 1 : found;
      points[2 * i] = this.x[k] + this.stds[k] * place.normal[2 * i] + sigma * blur[2 * i];
      points[2 * i + 1] = this.y[k] + this.stds[k] * place.normal[2 * i + 1] + sigma * blur[2 * i + 1];
    }
    return points;
  }

  /**
   * The density on a grid of cells, row 0 at the top. Each component is a product of a function of x and one of y, so the grid
   * costs no exponential inside.
   * @param window {x, y, half}: the square from (x - half, y - half) to (x + half, y + half).
   */
  grid(window, cells, sigma) {
    const density = new Float64Array(cells * cells), across = new Float64Array(cells), side = (2 * window.half) / cells;
    const left = window.x - window.half + side / 2, top = window.y + window.half - side / 2;
    for (let k = 0; k < this.size; k++) {
      const variance = this.stds[k] ** 2 + sigma ** 2, reach = 6.5 * Math.sqrt(variance);
      const from = Math.max(0, Math.ceil((this.x[k] - reach - left) / side));
      const to = Math.min(cells, Math.floor((this.x[k] + reach - left) / side) + 1);
      const first = Math.max(0, Math.ceil((top - this.y[k] - reach) / side));
      const last = Math.min(cells, Math.floor((top - this.y[k] + reach) / side) + 1);
      for (let i = from; i < to; i++) across[i] = Math.exp((-0.5 * (left + i * side - this.x[k]) ** 2) / variance);
      for (let j = first; j < last; j++) {
        const scale = this.weights[k] / (2 * Math.PI * variance);
        const down = scale * Math.exp((-0.5 * (top - j * side - this.y[k]) ** 2) / variance), row = j * cells;
        for (let i = from; i < to; i++) density[row + i] += down * across[i];
      }
    }
    return density;
  }
}
