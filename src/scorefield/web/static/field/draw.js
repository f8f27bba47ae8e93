// Pictures of a field on a canvas: the density as an image, arrows of the score, particles with their trails, axes with numbers.
//
// The density is computed on a coarse grid and scaled up smoothly; its colour goes with the square root, so that thin parts can be
// seen. An arrow's length is m/(m + median) of its cell for a score of size m: it grows with the score and stays in its cell. The
// colours are the page's own (--ink, --card, --soft) and a blue and an orange that colour-blind people tell apart.

export const CELLS = 160;
export const ARROWS = 21;

const LIGHT = {
  density: "#5b9bd5", particle: "#b23c00", trail: "#d9803f", data: "#5a3d00", error: "#d55e00", ink: "#16202a", card: "#ffffff", soft: "#5b6670",
};
const DARK = {
  density: "#2f6fae", particle: "#ffb454", trail: "#c98a3c", data: "#ffe9c4", error: "#ff8a3d", ink: "#e8edf2", card: "#12171c", soft: "#9aa6b2",
};

/** The colours of an element's surroundings, each as "#rrggbb". */
export function palette(node) {
  const style = getComputedStyle(node), pen = document.createElement("canvas").getContext("2d");
  const hex = (text) => {
    pen.fillStyle = "#000";
    pen.fillStyle = text;
    return pen.fillStyle;
  };
  const light = rgb(hex(style.color)).reduce((sum, part) => sum + part, 0) > 384; // light text: a dark page
  const colours = { ...(light ? DARK : LIGHT) };
  for (const name of Object.keys(colours)) {
    const given = style.getPropertyValue(["ink", "card", "soft"].includes(name) ? `--${name}` : `--field-${name}`).trim();
    if (given) colours[name] = hex(given);
  }
  return colours;
}

export const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Round numbers between two ends, about `wanted` of them. */
export function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const from = Math.ceil(low / step - 1e-9), to = Math.floor(high / step + 1e-9);
  return Array.from({ length: to - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)));
}

/** Positions of the arrows' feet, in the middle of their cells. */
export function arrowPlaces(square) {
  const places = new Float64Array(2 * ARROWS * ARROWS), side = (2 * square.half) / ARROWS;
  for (let i = 0; i < ARROWS * ARROWS; i++) {
    places[2 * i] = square.x - square.half + side * ((i % ARROWS) + 0.5);
    places[2 * i + 1] = square.y + square.half - side * (Math.floor(i / ARROWS) + 0.5);
  }
  return places;
}

/** Median size of some vectors. */
export function median(vectors) {
  const sizes = new Float64Array(vectors.length / 2).map((_, i) => Math.hypot(vectors[2 * i], vectors[2 * i + 1])).sort();
  return sizes[sizes.length >> 1];
}

/** A square part of the plane, `window` = {x, y, half}, on a canvas. */
export class Plane {
  constructor(canvas) {
    const images = { image: document.createElement("canvas"), layer: document.createElement("canvas") };
    Object.assign(this, images, { canvas, window: null, pen: canvas.getContext("2d", { willReadFrequently: true }) });
  }

  /** Follow the size of the canvas on the screen, in its own pixels; the picture is then empty. */
  begin(colours) {
    const box = this.canvas.getBoundingClientRect(), ratio = globalThis.devicePixelRatio || 1;
    const side = Math.max(64, Math.round((box.width || 300) * ratio));
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    Object.assign(this, { side, ratio, colours });
    this.pen.fillStyle = colours.card;
    this.pen.fillRect(0, 0, side, side);
  }

  toPixel(x, y) {
    const { x: cx, y: cy, half } = this.window;
    return [((x - cx) / half / 2 + 0.5) * this.side, (0.5 - (y - cy) / half / 2) * this.side];
  }

  toData(event) {
    const box = this.canvas.getBoundingClientRect(), { x, y, half } = this.window;
    return [x + half * ((2 * (event.clientX - box.left)) / box.width - 1), y - half * ((2 * (event.clientY - box.top)) / box.height - 1)];
  }

  /** Paint a grid of values (row 0 at the top) from the background to a colour; `top` is the value of the full colour. */
  values(grid, cells, colour, top = grid.reduce((most, value) => Math.max(most, value), 0)) {
    const from = rgb(this.colours.card), to = rgb(colour), image = this.image;
    image.width = image.height = cells;
    const pen = image.getContext("2d"), pixels = pen.createImageData(cells, cells), { data } = pixels;
    for (let i = 0; i < grid.length; i++) {
      const share = top > 0 ? Math.min(1, Math.sqrt(grid[i] / top)) : 0;
      for (let c = 0; c < 3; c++) data[4 * i + c] = from[c] + share * (to[c] - from[c]);
      data[4 * i + 3] = 255;
    }
    pen.putImageData(pixels, 0, 0);
    this.pen.imageSmoothingEnabled = true;
    this.pen.imageSmoothingQuality = "high";
    this.pen.drawImage(image, 0, 0, this.side, this.side);
  }

  /** Draw the score at `places`; `reference` is the size that gets half of the longest arrow. */
  arrows(places, score, reference) {
    const { pen, side, ratio } = this, longest = (0.92 * side) / ARROWS;
    pen.beginPath();
    for (let i = 0; i < places.length; i += 2) {
      const size = Math.hypot(score[i], score[i + 1]);
      if (!(size > 0) || !Number.isFinite(size)) continue;
      const length = (longest * size) / (size + reference), [x, y] = this.toPixel(places[i], places[i + 1]);
      const dx = (score[i] / size) * length, dy = (-score[i + 1] / size) * length, head = Math.min(0.35 * length, 5 * ratio) / length;
      const tipX = x + dx / 2, tipY = y + dy / 2;
      pen.moveTo(x - dx / 2, y - dy / 2);
      pen.lineTo(tipX, tipY);
      pen.moveTo(tipX - head * (dx + 0.6 * dy), tipY - head * (dy - 0.6 * dx));
      pen.lineTo(tipX, tipY);
      pen.lineTo(tipX - head * (dx - 0.6 * dy), tipY - head * (dy + 0.6 * dx));
    }
    pen.strokeStyle = this.colours.ink;
    pen.lineWidth = Math.max(1, 0.9 * ratio);
    pen.globalAlpha = 0.7;
    pen.stroke();
    pen.globalAlpha = 1;
  }

  /** Draw points as squares of `size` pixels: written into one image, which is many times faster than a rectangle for each. */
  points(positions, colour, size, alpha = 1) {
    const { side, ratio, layer } = this, { x, y, half } = this.window, scale = side / half / 2, width = Math.max(1, Math.round(size * ratio));
    if (layer.width !== side) {
      layer.width = layer.height = side;
      this.dots = layer.getContext("2d", { willReadFrequently: true }).createImageData(side, side);
    }
    const pixels = new Uint32Array(this.dots.data.buffer).fill(0), [red, green, blue] = rgb(colour);
    const ink = new Uint32Array(Uint8Array.of(red, green, blue, 255 * alpha).buffer)[0];
    for (let i = 0; i < positions.length; i += 2) {
      const left = Math.round(side / 2 + (positions[i] - x) * scale - width / 2), top = Math.round(side / 2 - (positions[i + 1] - y) * scale - width / 2);
      if (!(left >= 0 && top >= 0 && left + width <= side && top + width <= side)) continue;
      for (let row = top; row < top + width; row++) pixels.fill(ink, row * side + left, row * side + left + width);
    }
    layer.getContext("2d").putImageData(this.dots, 0, 0);
    this.pen.drawImage(layer, 0, 0);
  }

  /** Draw where the first particles came from: `history` is a list of positions, the oldest first. */
  trails(history, count) {
    if (history.length < 2) return;
    const { pen } = this;
    pen.beginPath();
    for (let i = 0; i < Math.min(2 * count, history[0].length); i += 2)
      history.forEach((positions, at) => {
        const [x, y] = this.toPixel(positions[i], positions[i + 1]);
        if (at) pen.lineTo(x, y);
        else pen.moveTo(x, y);
      });
    pen.strokeStyle = this.colours.trail;
    pen.lineWidth = this.ratio;
    pen.globalAlpha = 0.55;
    pen.stroke();
    pen.globalAlpha = 1;
  }

  cross([x, y]) {
    const { pen, ratio } = this, [px, py] = this.toPixel(x, y), arm = 10 * ratio;
    pen.beginPath();
    pen.moveTo(px - arm, py);
    pen.lineTo(px + arm, py);
    pen.moveTo(px, py - arm);
    pen.lineTo(px, py + arm);
    pen.strokeStyle = this.colours.particle;
    pen.lineWidth = 2 * ratio;
    pen.stroke();
  }

  /** Numbers along the lower and the left edge, with a line where they belong. */
  axes() {
    const { pen, side, ratio, window: square } = this, mark = 4 * ratio;
    pen.font = `${11 * ratio}px system-ui, sans-serif`;
    pen.strokeStyle = pen.fillStyle = this.colours.ink;
    pen.lineWidth = ratio;
    const write = (text, x, y) => {
      pen.strokeStyle = this.colours.card;
      pen.lineWidth = 3 * ratio;
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    };
    const line = (...ends) => {
      pen.strokeStyle = this.colours.ink;
      pen.lineWidth = ratio;
      pen.beginPath();
      pen.moveTo(ends[0], ends[1]);
      pen.lineTo(ends[2], ends[3]);
      pen.stroke();
    };
    for (const value of ticks(square.x - square.half, square.x + square.half)) {
      const [x] = this.toPixel(value, 0);
      if (x < 24 * ratio || x > side - 14 * ratio) continue;
      line(x, side, x, side - mark);
      pen.textAlign = "center";
      pen.textBaseline = "bottom";
      write(String(value), x, side - mark - ratio);
    }
    for (const value of ticks(square.y - square.half, square.y + square.half)) {
      const [, y] = this.toPixel(0, value);
      if (y < 12 * ratio || y > side - 24 * ratio) continue;
      line(0, y, mark, y);
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      write(String(value), mark + 2 * ratio, y);
    }
  }
}
