// What a sampling shows as it goes: images side by side, points of the plane, or curves, on one canvas.

import { fill, h, number } from "./dom.js";

const SIZE = 480; // pixels of the canvas for points and curves
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A canvas with words under it; `show(header, payload)` draws a frame. */
export function liveView() {
  const canvas = h("canvas", { class: "live pixels", role: "img", "aria-label": "Samples as they are drawn" });
  const words = h("figcaption", { class: "job-text" });
  const element = h("figure", { hidden: true }, canvas, words);
  let waiting = null;
  const draw = () => {
    const [header, payload] = waiting;
    waiting = null;
    DRAW[header.kind](canvas, header.shape, payload);
    fill(words, `Step ${header.step} of ${header.steps} · noise level ${number(header.level)} · ${number(header.evaluations)} evaluations · ${number(header.count)} shown`);
  };
  const show = (header, payload) => {
    if (!DRAW[header.kind]) return;
    element.hidden = false;
    if (!waiting) requestAnimationFrame(draw);
    waiting = [header, payload]; // of several between two pictures of the screen the last one is drawn
  };
  return { element, show };
}

/** Images in a grid, one pixel apart. */
function images(canvas, [count, height, width, channels], pixels) {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  canvas.width = columns * (width + 1) - 1;
  canvas.height = rows * (height + 1) - 1;
  const times = Math.max(1, Math.floor(SIZE / canvas.width));
  canvas.style.width = `${canvas.width * times}px`;
  const picture = canvas.getContext("2d").createImageData(canvas.width, canvas.height);
  const data = picture.data;
  for (let at = 0, cell = 0; cell < count; cell += 1) {
    const left = (cell % columns) * (width + 1);
    const top = Math.floor(cell / columns) * (height + 1);
    for (let y = 0; y < height; y += 1) {
      let to = 4 * ((top + y) * canvas.width + left);
      for (let x = 0; x < width; x += 1, at += channels, to += 4) {
        for (let c = 0; c < 3; c += 1) data[to + c] = pixels[at + (channels >= 3 ? c : 0)];
        data[to + 3] = 255;
      }
    }
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** A fresh square for lines and points. */
function square(canvas) {
  const dense = globalThis.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(SIZE * dense);
  canvas.style.width = `${SIZE}px`;
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  context.fillStyle = colour("--card");
  context.fillRect(0, 0, SIZE, SIZE);
  return context;
}

/** The ends of 98 % of the numbers, with some room. */
function ends(values) {
  const sorted = Float32Array.from(values).sort();
  const low = sorted[Math.floor(0.01 * (sorted.length - 1))];
  const high = sorted[Math.ceil(0.99 * (sorted.length - 1))];
  const room = 0.15 * (high - low) || 1;
  return [low - room, high + room];
}

/** Points of the plane, with equal scales. */
function points(canvas, [count], values) {
  const context = square(canvas);
  const [left, right] = ends(values.filter((_, index) => index % 2 === 0));
  const [bottom, top] = ends(values.filter((_, index) => index % 2 === 1));
  const scale = (SIZE - 20) / Math.max(right - left, top - bottom);
  context.fillStyle = colour("--series-1");
  context.globalAlpha = count > 500 ? 0.5 : 0.8;
  for (let index = 0; index < count; index += 1) {
    const x = SIZE / 2 + (values[2 * index] - (left + right) / 2) * scale;
    const y = SIZE / 2 - (values[2 * index + 1] - (bottom + top) / 2) * scale;
    context.fillRect(x - 1.5, y - 1.5, 3, 3);
  }
  context.globalAlpha = 1;
  context.fillStyle = colour("--soft");
  context.font = "12px system-ui, sans-serif";
  context.fillText(`across ${number(left)} to ${number(right)}, up ${number(bottom)} to ${number(top)}`, 8, SIZE - 8);
}

/** Curves, each in a strip of its own. */
function lines(canvas, [count, length], values) {
  const context = square(canvas);
  const [low, high] = ends(values);
  const strip = SIZE / count;
  context.strokeStyle = colour("--series-1");
  for (let row = 0; row < count; row += 1) {
    context.beginPath();
    for (let index = 0; index < length; index += 1) {
      const x = (index / Math.max(1, length - 1)) * SIZE;
      const y = strip * (row + 1) - ((values[row * length + index] - low) / (high - low)) * strip;
      if (index) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
    context.stroke();
  }
}

const DRAW = { image: images, points, lines };
