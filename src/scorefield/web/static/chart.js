// Small charts as drawings (SVG): lines, points and error bars over linear or logarithmic axes with units, and a legend of text.
// Colours come from the style sheet, and each series has its own dash or mark, so that nothing rests on colour alone.

import { h, number, svg } from "./dom.js";

const HEIGHT = 240;
const PAD = { left: 62, right: 14, top: 12, bottom: 46 };
const DASHES = [null, "6 4", "2 3", "9 3 2 3", "1 4"];

/** Positions of ticks between two ends: powers of ten with 2 and 5 between if they are few, or round steps. */
function ticks(low, high, log, room) {
  if (log) {
    const from = Math.floor(Math.log10(low));
    const to = Math.ceil(Math.log10(high));
    const per = to - from <= 2 ? [1, 2, 5] : [1];
    const every = Math.max(1, Math.ceil((to - from) / room));
    const found = [];
    for (let power = from; power <= to; power += every) for (const lead of per) found.push(lead * 10 ** power);
    const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    return inside.length > 1 ? inside : ticks(low, high, false, room); // less than a decade: powers of ten are too far apart
  }
  const raw = (high - low) / room;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((lead) => lead * power).find((value) => value >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

/** An axis: from values to positions. */
function scale(values, { log = false, zero = false } = {}, from, to) {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!usable.length) return null;
  let low = Math.min(...usable, ...(zero && !log ? [0] : []));
  let high = Math.max(...usable);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  if (log) {
    const room = (high / low) ** 0.04;
    [low, high] = [low / room, high * room];
  } else {
    const room = (high - low) * 0.04;
    [low, high] = [zero && low >= 0 ? low : low - room, high + room];
  }
  const at = log ? Math.log : (value) => value;
  return { low, high, log, place: (value) => from + ((at(value) - at(low)) / (at(high) - at(low))) * (to - from) };
}

const short = (value) => (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3) ? value.toExponential(0).replace("e+", "e") : number(value, 4));

/**
 * A chart. `update({series, x, y})` draws it anew.
 *   series  [{name, points: [[x, y, error]...], marks: whether points are marked and not joined, tone: 1 to 5}]
 *   x, y    {label, log, zero}
 */
export function chart({ title, x, y, series = [], empty = "Nothing to draw yet." }) {
  const place = h("div", { class: "chart-place" });
  const legend = h("ul", { class: "legend" });
  const note = h("p", { class: "help" }, empty);
  const element = h("figure", { class: "chart" }, h("figcaption", null, title), place, note, legend);
  let now = { x, y, series };

  function draw() {
    const shown = now.series.filter((one) => one.points.length);
    const width = Math.max(260, place.clientWidth || 520);
    const all = shown.flatMap((one) => one.points);
    const sx = scale(all.map((point) => point[0]), now.x, PAD.left, width - PAD.right);
    const reach = all.flatMap(([, value, error]) => (error ? [value - error, value + error] : [value]));
    const sy = scale(reach, now.y, HEIGHT - PAD.bottom, PAD.top);
    note.hidden = Boolean(sx && sy);
    place.hidden = !sx || !sy;
    legend.replaceChildren(...now.series.map((one, index) => h("li", null, key(one, index), one.name)));
    if (!sx || !sy) return;
    const spoken = `${title}. ${shown.map((one) => `${one.name}: last ${number(one.points.at(-1)[1])} at ${number(one.points.at(-1)[0])}`).join("; ")}.`;
    const picture = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": spoken });
    picture.append(...axis(sx, sy, now, width), ...now.series.map((one, index) => drawn(one, index, sx, sy)).reverse()); // the first lies on top
    place.replaceChildren(picture);
  }
  new ResizeObserver(() => place.clientWidth && draw()).observe(element);
  draw();
  return { element, update: (changes) => ((now = { ...now, ...changes }), draw()) };
}

/** The class of a series: its place, or the one that it names. */
const tone = (one, index) => `series-${one.tone || (index % 5) + 1}`;

/** The sign of a series in the legend. */
function key(one, index) {
  const line = one.marks ? mark(one, [0, 0], index, 12, 6) : svg("line", { x1: 0, x2: 24, y1: 6, y2: 6, class: `line ${tone(one, index)}`, "stroke-dasharray": DASHES[index % 5] });
  return svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, line);
}

function axis(sx, sy, { x, y }, width) {
  const bottom = HEIGHT - PAD.bottom;
  const across = ticks(sx.low, sx.high, sx.log, Math.max(3, Math.floor((width - PAD.left) / 80)));
  const up = ticks(sy.low, sy.high, sy.log, 4);
  return [
    ...up.map((value) => svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: sy.place(value), y2: sy.place(value) })),
    ...up.map((value) => svg("text", { class: "tick", x: PAD.left - 6, y: sy.place(value) + 4, "text-anchor": "end" }, short(value))),
    ...across.map((value) => svg("line", { class: "grid", x1: sx.place(value), x2: sx.place(value), y1: bottom, y2: bottom + 4 })),
    ...across.map((value) => svg("text", { class: "tick", x: sx.place(value), y: bottom + 17, "text-anchor": "middle" }, short(value))),
    svg("line", { class: "axis", x1: PAD.left, x2: width - PAD.right, y1: bottom, y2: bottom }),
    svg("text", { class: "axis-label", x: (PAD.left + width - PAD.right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, x.label),
    svg("text", { class: "axis-label", x: -(PAD.top + bottom) / 2, y: 13, "text-anchor": "middle", transform: "rotate(-90)" }, y.label),
  ];
}

/** A mark: circle, square, triangle or diamond. */
function mark(one, point, index, px, py) {
  const style = `mark ${tone(one, index)}`;
  const shape = index % 4;
  const about = point[3] ? svg("title", null, point[3]) : null;
  if (shape === 0) return svg("circle", { class: style, cx: px, cy: py, r: 4 }, about);
  if (shape === 1) return svg("rect", { class: style, x: px - 4, y: py - 4, width: 8, height: 8 }, about);
  const d = shape === 2 ? `M${px} ${py - 5}l5 9h-10z` : `M${px} ${py - 6}l6 6-6 6-6-6z`;
  return svg("path", { class: style, d }, about);
}

function drawn(one, index, sx, sy) {
  const usable = one.points.filter(([px, py]) => Number.isFinite(px) && Number.isFinite(py) && (!sx.log || px > 0) && (!sy.log || py > 0));
  const clamp = (value) => (sy.log ? Math.max(value, sy.low) : value);
  const bars = usable.filter((point) => point[2]).map(([px, py, error]) => svg("line", { class: `bar ${tone(one, index)}`, x1: sx.place(px), x2: sx.place(px), y1: sy.place(clamp(py - error)), y2: sy.place(py + error) }));
  if (one.marks) return svg("g", null, bars, usable.map((point) => mark(one, point, index, sx.place(point[0]), sy.place(point[1]))));
  const path = usable.map(([px, py], at) => `${at ? "L" : "M"}${sx.place(px).toFixed(1)} ${sy.place(py).toFixed(1)}`).join("");
  return svg("g", null, bars, svg("path", { class: `line ${tone(one, index)}`, d: path || null, "stroke-dasharray": DASHES[index % 5] }), usable.length === 1 ? mark(one, usable[0], index, sx.place(usable[0][0]), sy.place(usable[0][1])) : null);
}

/** The charts of a training from lines of metrics: loss over time, and by noise level. */
export function trainingCharts() {
  const time = chart({ title: "Loss over the training", x: { label: "steps" }, y: { label: "loss per number", log: true }, empty: "The first figures come after some steps." });
  const levels = chart({ title: "Loss by noise level", x: { label: "noise level sigma, in units of the model", log: true }, y: { label: "loss per number", log: true }, empty: "The first figures come after some steps." });
  const show = (lines) => {
    const logs = lines.filter((line) => line.event === "log" && line.loss !== null && line.loss !== undefined);
    const heldOut = (line) => line.held_out ?? line.extra?.held_out;
    time.update({
      series: [
        { name: "training, mean since the last report", points: logs.map((line) => [line.step, line.loss]) },
        { name: "held out: examples that training never sees", points: logs.filter((line) => heldOut(line)).map((line) => [line.step, heldOut(line)]) },
      ],
    });
    const first = logs.find((line) => byLevel(line).length);
    const last = logs.findLast((line) => byLevel(line).length);
    levels.update({ series: [...(last ? [{ name: `now, step ${number(last.step)}`, points: byLevel(last) }] : []), ...(first && first !== last ? [{ name: `at first, step ${number(first.step)}`, points: byLevel(first) }] : [])] });
  };
  return { elements: [time.element, levels.element], show };
}

/** [[sigma, loss]...] of a line of metrics. */
export function byLevel(line) {
  const pairs = line.by_level || line.extra?.by_level;
  if (pairs) return pairs;
  const sigmas = line.sigmas || line.extra?.sigmas || [];
  const losses = line.losses || line.extra?.losses || [];
  return sigmas.map((sigma, index) => [sigma, losses[index]]);
}
