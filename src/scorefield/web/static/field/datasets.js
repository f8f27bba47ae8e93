// Data sets: densities in the plane, each a Gaussian mixture, so that the truth is known at every noise level.
//
// `levels` are the noise levels that make sense: from well below the smallest detail to above the largest distance. A mode is a part
// of the density whose weight is counted; `source` is the built-in data source of the same density, if there is one.

import { Mixture } from "./mixture.js";

const evenly = (count, make) => Array.from({ length: count }, (_, i) => make((i + 0.5) / count, i));

function moons() {
  return evenly(64, (_, i) => {
    const lower = i % 2, angle = (Math.PI * (Math.floor(i / 2) + 0.5)) / 32;
    const x = lower ? 1 - Math.cos(angle) : Math.cos(angle), y = lower ? 0.5 - Math.sin(angle) : Math.sin(angle);
    return { weight: 1, x, y, std: 0.1, mode: lower };
  });
}

function spiral() {
  return evenly(64, (u, i) => {
    const angle = 3.5 * Math.PI * Math.sqrt(0.04 + 0.96 * u); // its square grows evenly, so the points lie evenly on the curve
    return { weight: 1, x: 0.26 * angle * Math.cos(angle), y: 0.26 * angle * Math.sin(angle), std: 0.12, mode: Math.floor(i / 16) };
  });
}

function ring() {
  return evenly(8, (_, i) => ({ weight: 1, x: 2 * Math.cos((i * Math.PI) / 4), y: 2 * Math.sin((i * Math.PI) / 4), std: 0.1, mode: i }));
}

function board() {
  return evenly(32, (_, i) => {
    const square = Math.floor(i / 4), column = square >> 1, row = 2 * (square & 1) + (column & 1);
    const x = 2 * column - 3 + (i & 1) - 0.5, y = 2 * row - 3 + ((i >> 1) & 1) - 0.5;
    return { weight: 1, x, y, std: 0.4, mode: square };
  });
}

const pair = () => [
  { weight: 0.8, x: -5, y: 0, std: 1, mode: 0 },
  { weight: 0.2, x: 5, y: 0, std: 1, mode: 1 },
];

function curve() {
  return evenly(128, (u, i) => {
    const x = 4 * u - 2;
    return { weight: 1, x, y: Math.sin(2 * x), std: 0.03, mode: Math.floor(i / 64) };
  });
}

const thin = () => [
  { weight: 0.5, x: -2.5, y: -1, std: 0.5, mode: 0 },
  { weight: 0.5, x: 2.5, y: 1, std: 0.5, mode: 1 },
];

const blob = () => [{ weight: 1, x: 0, y: 0, std: 1, mode: 0 }];

const square = (x, y, half) => ({ x, y, half });

export const DATASETS = {
  pair: {
    title: "Unequal pair, 0.8 and 0.2", about: "Two Gaussians of std 1 at (-5, 0) and (5, 0), far apart.", source: "mixture",
    make: pair, modes: ["left", "right"], window: square(0, 0, 11), levels: [0.05, 15],
  },
  moons: {
    title: "Two moons", about: "Two half circles of radius 1 with noise of std 0.1.", source: "two-moons",
    make: moons, modes: ["upper", "lower"], window: square(0.5, 0.25, 2.4), levels: [0.01, 4],
  },
  ring: {
    title: "Ring of eight", about: "Eight equal Gaussians of std 0.1 on a circle of radius 2.", source: "eight-gaussians",
    make: ring, modes: evenly(8, (_, i) => `${45 * i}°`), window: square(0, 0, 3.2), levels: [0.01, 6],
  },
  spiral: {
    title: "Spiral", about: "A curve that winds outwards, with noise of std 0.12.",
    make: spiral, modes: ["innermost", "inner", "outer", "outermost"], window: square(0, 0, 3.6), levels: [0.01, 6],
  },
  board: {
    title: "Checkerboard", about: "Eight squares of a board, each made of four Gaussians of std 0.4.",
    make: board, modes: evenly(8, (_, i) => `square ${i + 1}`), window: square(0, 0, 5), levels: [0.02, 10],
  },
  curve: {
    title: "Data on a curve", about: "The curve y = sin 2x with noise of std 0.03: almost no width.",
    make: curve, modes: ["left half", "right half"], window: square(0, 0, 2.6), levels: [0.003, 4],
  },
  thin: {
    title: "Thin region", about: "Two Gaussians of std 0.5 with almost nothing between them.",
    make: thin, modes: ["left", "right"], window: square(0, 0, 5), levels: [0.02, 10],
  },
  blob: {
    title: "One Gaussian", about: "N(0, 1) in both coordinates: every answer is known exactly.",
    make: blob, modes: ["all"], window: square(0, 0, 4.5), levels: [0.02, 5],
  },
};

export const SKETCH = {
  title: "Draw your own", about: "Draw on the picture: every stroke becomes Gaussians, and counts as one mode.",
  window: square(0, 0, 4), levels: [0.02, 8],
};

/** The data set of a name, with its mixture: {name, title, about, mixture, modes, window, levels}; a sketch is a list of strokes. */
export function dataset(name, strokes = []) {
  if (name !== "sketch") return { name, ...DATASETS[name], mixture: new Mixture(DATASETS[name].make()) };
  const components = strokes.flatMap(({ std, points }, mode) => points.map(([x, y]) => ({ weight: 1, x, y, std, mode })));
  const modes = strokes.map((_, i) => `stroke ${i + 1}`);
  const empty = [{ weight: 1, x: 0, y: 0, std: 1, mode: 0 }];
  return {
    name, ...SKETCH, mixture: new Mixture(components.length ? components : empty), modes: components.length ? modes : ["all"],
    about: components.length ? SKETCH.about : `${SKETCH.about} Until then it is one Gaussian.`,
  };
}
