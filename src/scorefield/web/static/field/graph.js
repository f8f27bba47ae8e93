// A small graph of one or two lines: numbers on both axes, either of them logarithmic.

import { ticks } from "./draw.js";
import { digits } from "./ui.js";

const powers = (low, high) => {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of [1, 2, 5]) all.push(factor * 10 ** power);
  const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  return inside.length > 6 ? inside.filter((value) => /^1/.test(value.toExponential(1))) : inside;
};

function scale(values, logarithmic, from, to) {
  const good = values.filter((value) => Number.isFinite(value) && (!logarithmic || value > 0));
  let low = Math.min(...good), high = Math.max(...good);
  if (!good.length) [low, high] = [logarithmic ? 0.1 : 0, 1];
  if (logarithmic && high / low < 1.5) [low, high] = [low / 1.3, high * 1.3];
  if (!logarithmic && high === low) high = low + 1;
  const bend = logarithmic ? Math.log : (value) => value;
  const place = (value) => from + ((bend(value) - bend(low)) / (bend(high) - bend(low))) * (to - from);
  return { place, marks: logarithmic ? powers(low, high) : ticks(low, high, 4) };
}

/**
 * Draw lines on a canvas.
 * @param lines a list of {points: [[x, y], ...], colour, dashed}.
 * @param options logX, logY, zero: whether a linear y starts at zero; x, y: the names of the axes.
 */
export function drawGraph(canvas, colours, lines, { logX = false, logY = false, zero = true, x: nameX, y: nameY }) {
  const ratio = globalThis.devicePixelRatio || 1, box = canvas.getBoundingClientRect(), pen = canvas.getContext("2d", { willReadFrequently: true });
  const width = Math.round((box.width || 280) * ratio), height = Math.round((box.height || 150) * ratio);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  pen.fillStyle = colours.card;
  pen.fillRect(0, 0, width, height);
  const [left, right, top, bottom] = [44 * ratio, width - 18 * ratio, 18 * ratio, height - 32 * ratio];
  const all = lines.flatMap(({ points }) => points), ys = all.map(([, y]) => y);
  const across = scale(all.map(([x]) => x), logX, left, right), up = scale(zero && !logY ? [0, ...ys] : ys, logY, bottom, top);
  pen.font = `${11 * ratio}px system-ui, sans-serif`;
  pen.fillStyle = colours.ink;
  pen.strokeStyle = colours.soft;
  pen.lineWidth = ratio;
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const mark of across.marks) pen.fillText(digits(mark), across.place(mark), bottom + 3 * ratio);
  pen.fillText(nameX, (left + right) / 2, bottom + 17 * ratio);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const mark of up.marks) pen.fillText(digits(mark), left - 4 * ratio, up.place(mark));
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillText(nameY, 4 * ratio, top - 3 * ratio);
  for (const { points, colour, dashed } of lines) {
    pen.beginPath();
    for (const [x, y] of points)
      if (Number.isFinite(y) && !(logY && y <= 0) && !(logX && x <= 0)) pen.lineTo(across.place(x), up.place(y));
    pen.setLineDash(dashed ? [5 * ratio, 4 * ratio] : []);
    pen.strokeStyle = colour;
    pen.lineWidth = 2 * ratio;
    pen.stroke();
  }
  pen.setLineDash([]);
}
