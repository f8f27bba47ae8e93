// Measures: how far the particles are from the truth, which is known at every level.
//
//     mode weights         mean of p(mode | x) over the particles: under p_sigma exactly the modes' weights
//     sliced Wasserstein   W1 of the projections onto 8 directions, averaged, to exact samples of p_sigma; two exact samples
//                          of this size have a distance too, the floor, below which nothing can be told
//     moments              mean square distance from the mean, per coordinate

import { STREAM } from "./random.js";

const DIRECTIONS = 8;
const PAIRS = 3; // of exact samples, whose mean distance is the floor

export function modeShares(mixture, positions, sigma) {
  const rows = mixture.responsibilities(positions, sigma), width = mixture.modeWeights.length, count = positions.length / 2;
  const shares = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) shares[i % width] += rows[i] / count;
  return shares;
}

/** The points seen from each direction: numbers along it, in their order. */
function projections(points) {
  return Array.from({ length: DIRECTIONS }, (_, d) => {
    const cos = Math.cos((Math.PI * d) / DIRECTIONS), sin = Math.sin((Math.PI * d) / DIRECTIONS);
    return new Float64Array(points.length / 2).map((_, i) => cos * points[2 * i] + sin * points[2 * i + 1]);
  });
}

const sorted = (lines) => lines.map((line) => line.sort());

function apart(left, right) {
  let sum = 0;
  left.forEach((line, d) => line.forEach((value, i) => (sum += Math.abs(value - right[d][i]))));
  return sum / (left.length * left[0].length);
}

/** Sliced Wasserstein distance of two sets of as many points. */
export const slicedDistance = (left, right) => apart(sorted(projections(left)), sorted(projections(right)));

/** Distances to the truth. The exact samples are x0 + sigma·noise with the same x0 and noise at every level. */
export class Truth {
  constructor(mixture, count, seed) {
    const sets = Array.from({ length: 1 + PAIRS }, (_, k) => {
      const [stream, own] = k ? [STREAM.other, seed + k] : [STREAM.reference, seed];
      const data = mixture.sample(count, own, 0, stream), noised = mixture.sample(count, own, 1, stream);
      return { data: projections(data), noise: projections(noised.map((value, i) => value - data[i])) };
    });
    Object.assign(this, { sets, sigma: null });
  }

  /** {distance, floor} of the particles to p_sigma. */
  compare(positions, sigma) {
    if (sigma !== this.sigma) {
      const at = ({ data, noise }) => sorted(data.map((line, d) => line.map((value, i) => value + sigma * noise[d][i])));
      const [reference, ...others] = this.sets.map(at);
      this.floor = others.reduce((sum, other) => sum + apart(other, reference), 0) / PAIRS;
      Object.assign(this, { reference, sigma });
    }
    return { distance: apart(sorted(projections(positions)), this.reference), floor: this.floor };
  }
}

/** Variance per coordinate, of the particles and of p_sigma: {found, truth}. */
export function variances(mixture, positions, sigma) {
  const count = positions.length / 2, mean = [0, 0], { xx, yy } = mixture.moments();
  positions.forEach((value, i) => (mean[i % 2] += value / count));
  const found = positions.reduce((sum, value, i) => sum + (value - mean[i % 2]) ** 2, 0) / (2 * count);
  return { found, truth: (xx + yy) / 2 + sigma ** 2 };
}
