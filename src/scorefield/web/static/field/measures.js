// Measures: how far the particles are from the truth, which is known at every level.
//
//     mode weights         mean of p(mode | x) over the particles: under p_sigma exactly the modes' weights
//     sliced Wasserstein   W1 of the projections onto 8 directions, averaged, to exact samples of p_sigma; two exact samples
//                          of this size have a distance too, the floor, below which nothing can be told
//     moments              mean square distance from the mean, per coordinate

import { STREAM } from "./random.js";

const DIRECTIONS = 8;

export function modeShares(mixture, positions, sigma) {
  const rows = mixture.responsibilities(positions, sigma), width = mixture.modeWeights.length, count = positions.length / 2;
  const shares = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) shares[i % width] += rows[i] / count;
  return shares;
}

function projections(points) {
  return Array.from({ length: DIRECTIONS }, (_, d) => {
    const cos = Math.cos((Math.PI * d) / DIRECTIONS), sin = Math.sin((Math.PI * d) / DIRECTIONS), line = new Float64Array(points.length / 2);
    for (let i = 0; i < line.length; i++) line[i] = cos * points[2 * i] + sin * points[2 * i + 1];
    return line.sort();
  });
}

const apart = (left, right) =>
  left.reduce((sum, line, d) => sum + line.reduce((all, value, i) => all + Math.abs(value - right[d][i]), 0) / line.length, 0) / DIRECTIONS;

/** Sliced Wasserstein distance of two sets of as many points. */
export const slicedDistance = (left, right) => apart(projections(left), projections(right));

/** Distances to the truth: the exact samples of a level are kept until the level or the number of particles changes. */
export class Truth {
  constructor(mixture, count, seed) {
    Object.assign(this, { mixture, count, seed, sigma: null });
  }

  /** {distance, floor} of the particles to p_sigma. */
  compare(positions, sigma) {
    if (sigma !== this.sigma) {
      this.reference = projections(this.mixture.sample(this.count, this.seed, sigma, STREAM.reference));
      this.floor = apart(this.reference, projections(this.mixture.sample(this.count, this.seed, sigma, STREAM.other)));
      this.sigma = sigma;
    }
    return { distance: apart(projections(positions), this.reference), floor: this.floor };
  }
}

/** Variance per coordinate, of the particles and of p_sigma: {found, truth}. */
export function variances(mixture, positions, sigma) {
  const count = positions.length / 2, mean = [0, 0], { xx, yy } = mixture.moments();
  positions.forEach((value, i) => (mean[i % 2] += value / count));
  const found = positions.reduce((sum, value, i) => sum + (value - mean[i % 2]) ** 2, 0) / (2 * count);
  return { found, truth: (xx + yy) / 2 + sigma ** 2 };
}
