// Lessons: states of the view, each with what it shows and what to look for.

export const LESSONS = {
  curve: {
    title: "Data on a curve",
    text: "The data lie on a curve and fill almost no area. At a low noise level the score is right only within a hair of the curve; a little away from it the arrows are huge. A step that suits the surroundings throws the particles off the curve.",
    look: "At noise level 0.01 the particles stand about three times as far from the curve as the data do. Move the level to 0.1: the same step is nearly right, because noise gives the data a width. With a step above 0.002 at level 0.01 the particles run away.",
    state: { data: "curve", sampler: "langevin", sigma: 0.01, start: "truth", tau: 0.0018, n: 600, speed: 60 },
  },
  thin: {
    title: "Thin regions",
    text: "Between the two modes there are almost no data. A network that learns from them has nothing to learn from there, and its arrows there are guesses. Noise fills the middle: at a higher level there are data everywhere.",
    look: "The small squares are 300 data points. At noise level 0.05 none is in the middle; move the level to 3 and they are everywhere. But the density at 3 is another one: it has a single mode.",
    state: { data: "thin", sampler: "langevin", sigma: 0.05, start: "box", n: 300, dots: 1 },
  },
  weights: {
    title: "Wrong mode weights",
    text: "The left mode holds 0.8 of the data and the right one 0.2. The score near a mode does not depend on the mode's weight, so Langevin dynamics does not know it. A particle stays in the mode that is nearest to its start.",
    look: "The particles start evenly over the picture. Their shares come near 0.5 and 0.5 and stay there, however long you wait.",
    state: { data: "pair", sampler: "langevin", sigma: 0.05, start: "box", tau: 0.1, n: 1000, speed: 60 },
  },
  level: {
    title: "One level is not enough",
    text: "A high noise level reaches every mode but blurs the data. A low level is sharp, but particles that are far away stay where they are. No level in between does both.",
    look: "At level 1.5 the eight modes have melted into one. Pull the level to 0.05 and press reset: the particles now stop in whichever mode is nearest, or never arrive.",
    state: { data: "ring", sampler: "langevin", sigma: 1.5, start: "wide", n: 800, speed: 60 },
  },
  annealing: {
    title: "Annealing",
    text: "Annealed Langevin dynamics starts at a high level, where the modes overlap, and goes down level by level. A particle chooses its mode while it can still cross, so the weights come out nearly right.",
    look: "The share of the left mode ends near 0.78, close to the true 0.8. The particles lag a little behind the levels: more steps on each level bring it nearer to 0.8.",
    state: { data: "pair", sampler: "annealed", levels: 40, hold: 10, n: 2000, speed: 60 },
  },
  bias: {
    title: "Bias against step size",
    text: "A Langevin step of finite size tau does not leave the density as it is. On a Gaussian of variance v its particles settle at the variance v/(1 - tau/(2v)). With tau = v that is twice the truth.",
    look: "The variance of the particles settles near 2 although the truth is 1. Make the step smaller: the variance falls to 1, but the particles need more steps.",
    state: { data: "blob", sampler: "langevin", sigma: 0.02, start: "truth", tau: 1, n: 2000, speed: 20, trails: 0 },
  },
  metropolis: {
    title: "Metropolis mends it",
    text: "Metropolis' test accepts a step with the probability that leaves the density exactly as it is, whatever the size of the step. A refused particle stays where it is for this step.",
    look: "The step is as large as in the lesson before, yet the variance stays at 1. Make the step larger: the acceptance falls, and the particles move less, but they stay right.",
    state: { data: "blob", sampler: "mala", sigma: 0.02, start: "truth", tau: 1, n: 2000, speed: 20, trails: 0 },
  },
};
