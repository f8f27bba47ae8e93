// The figures: the exact field with the particles, and beside it a learned field and the map of its error.
//
// What depends on the density and the level alone (its image, its arrows) is kept until one of them changes.

import { CELLS, Plane, arrowPlaces, median, palette } from "./draw.js";
import { MAP } from "./learned.js";
import { digits, h } from "./ui.js";

const TRAILS = 80; // particles with a trail

function figure(title) {
  const canvas = h("canvas", { class: "field-canvas", role: "img" });
  const caption = h("figcaption", {}, title);
  return { canvas, caption, plane: new Plane(canvas), node: h("figure", { class: "field-figure" }, canvas, caption) };
}

export class Figures {
  constructor() {
    this.exact = figure("");
    this.learned = figure("");
    this.error = figure("");
    this.node = h("div", { class: "field-figures" }, this.exact.node, this.learned.node, this.error.node);
    this.cross = null;
    this.compared(false);
  }

  /** Show the learned field and its error, or the exact field alone. */
  compared(shown) {
    this.learned.node.hidden = this.error.node.hidden = !shown;
    this.node.classList.toggle("field-compared", shown);
  }

  /** Let the keyboard reach the exact figure, where one may draw on it. */
  drawable(may) {
    const { canvas } = this.exact;
    canvas.classList.toggle("field-drawable", may);
    canvas.tabIndex = may ? 0 : -1;
    canvas.setAttribute("role", may ? "application" : "img");
    this.hint = may ? ". Draw here: the arrow keys move a cross, Enter sets a Gaussian, Backspace takes the last stroke back" : "";
  }

  /** Take another data set. */
  open(set) {
    this.set = set;
    for (const each of [this.exact, this.learned, this.error]) each.plane.window = set.window;
    this.places = arrowPlaces(set.window);
    this.sigma = this.dots = null;
  }

  recolour() {
    this.colours = palette(this.node);
  }

  /** The exact density and arrows at a level. */
  at(sigma) {
    if (sigma === this.sigma) return;
    const { mixture, window } = this.set;
    const smooth = Math.hypot(mixture.smallest, sigma) > window.half / 20; // half of the cells show it as well
    this.cells = smooth ? CELLS / 2 : CELLS;
    this.grid = mixture.grid(window, this.cells, sigma);
    this.score = mixture.score(this.places, sigma);
    this.reference = median(this.score);
    this.sigma = sigma;
  }

  /** Draw the exact figure with the particles of a player. */
  draw(state, sigma, player) {
    if (!this.colours) this.recolour();
    this.at(sigma);
    const { plane, canvas, caption } = this.exact, { colours } = this;
    plane.begin(colours);
    plane.values(this.grid, this.cells, colours.density);
    if (state.arrows) plane.arrows(this.places, this.score, this.reference);
    if (state.dots) plane.points((this.dots ??= this.set.mixture.sample(300, state.seed)), colours.data, 3.5, 0.9);
    if (state.trails) plane.trails(player.history, TRAILS);
    plane.points(player.chain.x, colours.particle, state.n > 2500 ? 1.8 : 2.6, 0.8);
    if (this.cross) plane.cross(this.cross);
    plane.axes();
    const text = `${this.set.title}: density and score at noise level ${digits(sigma)}, exact, with ${state.n} particles`;
    if (caption.textContent !== text) caption.textContent = text;
    canvas.setAttribute("aria-label", text + this.hint);
  }

  /** Draw a comparison: {score at the places, error on the map, rms, relative, step, sigma}, or why there is none. */
  compare(state, found) {
    const { colours } = this;
    for (const each of [this.learned, this.error]) each.plane.begin(colours);
    if (found.score) {
      this.learned.plane.values(this.grid, this.cells, colours.density);
      this.learned.plane.arrows(this.places, found.score, this.reference);
      this.error.plane.values(found.error, MAP, colours.error, Math.max(0.5, ...found.error));
    }
    for (const each of [this.learned, this.error]) each.plane.axes();
    const level = `noise level ${digits(found.sigma)}`;
    const texts = found.score
      ? [`Learned score of ${state.run} at ${level}, step ${found.step}`,
        `Error of the predicted noise, sigma·|learned - exact|, up to ${digits(Math.max(...found.error))}. ` +
          `Over the density: RMS error of the score ${digits(found.rms)}, relative ${digits(100 * found.relative)} %`]
      : [found.sentence ?? "Waiting for the learned field.", "Without a learned field there is no error."];
    [this.learned, this.error].forEach((each, i) => {
      each.caption.textContent = texts[i];
      each.canvas.setAttribute("aria-label", texts[i]);
    });
  }
}
