// Painting a mask over an image, with a mouse, a finger or the keyboard. The mask has the pixels of the image; as a PNG, white is
// the hole. Undo goes back over whole strokes.

import { button, fill, h, number, say } from "./dom.js";
import { radios } from "./form.js";

const TARGET = 420; // pixels of the screen, about, that the image is wide
const MOST_UNDO = 60;

/** Offsets of the pixels under a round brush of a diameter. */
function brush(diameter) {
  const radius = diameter / 2;
  const middle = (diameter - 1) / 2;
  const found = [];
  for (let y = 0; y < diameter; y += 1) for (let x = 0; x < diameter; x += 1) if ((x - middle) ** 2 + (y - middle) ** 2 <= radius ** 2) found.push([x - Math.floor(diameter / 2), y - Math.floor(diameter / 2)]);
  return found;
}

/** A painter: {element, load(address), mask(): Promise<Blob>, count()}. */
export function painter({ onChange = () => {} } = {}) {
  const canvas = h("canvas", { tabindex: 0, role: "application", "aria-label": "Paint what is missing. Arrow keys move, the space bar paints, E changes between painting and erasing, U undoes.", "aria-describedby": "painter-state" });
  const context = canvas.getContext("2d");
  const state = h("p", { class: "help", id: "painter-state", "aria-live": "polite" });
  const size = h("input", { type: "range", min: 1, max: 8, value: 2, id: "brush", "aria-label": "Brush size in pixels" });
  const sizeText = h("span", { class: "help" });
  let image = null;
  let hole = new Uint8Array(0);
  let history = [];
  let erasing = false;
  let cursor = null;
  let last = null; // where the stroke is
  let times = 1;

  const modes = h("div");
  const showMode = () => fill(modes, radios("Tool", "tool", [["paint", "Paint"], ["erase", "Erase"]], erasing ? "erase" : "paint", (mode) => (erasing = mode === "erase")));
  const act = (change) => () => {
    if (!image) return;
    change();
    changed();
  };
  const remember = () => (history = [...history.slice(1 - MOST_UNDO), hole.slice()]);
  const undo = act(() => (hole = history.pop() || hole));
  const clear = act(() => (remember(), hole.fill(0)));
  const invert = act(() => (remember(), (hole = hole.map((one) => 1 - one))));
  const undoButton = button("Undo", undo, { class: "button small" });
  const tools = h("div", { class: "tools" }, modes, h("label", null, "Brush", size, sizeText), undoButton, button("Clear", clear, { class: "button small" }), button("Invert", invert, { class: "button small" }));
  size.addEventListener("input", () => (sizeText.textContent = `${size.value} px`));

  function draw() {
    if (!image) return;
    const { width, height } = canvas;
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, width, height);
    const tint = getComputedStyle(document.documentElement).getPropertyValue("--hole").trim();
    const wide = image.naturalWidth;
    context.fillStyle = tint;
    context.globalAlpha = 0.78;
    hole.forEach((one, at) => one && context.fillRect((at % wide) * times, Math.floor(at / wide) * times, times, times));
    context.globalAlpha = 1;
    if (!cursor) return;
    context.lineWidth = Math.max(2, times / 6);
    const diameter = Number(size.value);
    const corner = (at) => (at - Math.floor(diameter / 2)) * times;
    for (const [style, inset] of [["#000", 0], ["#fff", context.lineWidth]]) {
      context.strokeStyle = style;
      context.strokeRect(corner(cursor[0]) + inset, corner(cursor[1]) + inset, diameter * times - 2 * inset, diameter * times - 2 * inset);
    }
  }

  const count = () => hole.reduce((sum, one) => sum + one, 0);
  function changed() {
    draw();
    undoButton.disabled = !history.length;
    const where = cursor ? ` Row ${cursor[1] + 1}, column ${cursor[0] + 1}.` : "";
    state.textContent = `${number(count())} of ${number(hole.length)} pixels are marked as missing.${where}`;
    onChange(count());
  }

  function stamp([x, y]) {
    const { naturalWidth: wide, naturalHeight: high } = image;
    for (const [dx, dy] of brush(Number(size.value))) {
      const [px, py] = [x + dx, y + dy];
      if (px >= 0 && py >= 0 && px < wide && py < high) hole[py * wide + px] = erasing ? 0 : 1;
    }
  }

  /** Stamp along the way from one pixel to another. */
  function stroke(from, to) {
    const steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let step = 0; step <= steps; step += 1) stamp([0, 1].map((axis) => Math.round(from[axis] + ((to[axis] - from[axis]) * step) / steps)));
  }

  const pixel = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor(((event.clientX - box.left) / box.width) * image.naturalWidth), Math.floor(((event.clientY - box.top) / box.height) * image.naturalHeight)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!image || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    remember();
    cursor = null;
    last = pixel(event);
    stamp(last);
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const next = pixel(one);
      stroke(last, next);
      last = next;
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (!image || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (event.key in MOVES) {
      const far = event.shiftKey ? Number(size.value) : 1;
      const ends = [image.naturalWidth - 1, image.naturalHeight - 1];
      cursor = cursor ? cursor.map((at, axis) => Math.min(ends[axis], Math.max(0, at + far * MOVES[event.key][axis]))) : ends.map((end) => Math.floor(end / 2));
    } else if (key === " " || key === "enter") {
      remember();
      stamp((cursor ??= [Math.floor(image.naturalWidth / 2), Math.floor(image.naturalHeight / 2)]));
    } else if (key === "e") {
      erasing = !erasing;
      showMode();
      say(erasing ? "Erasing" : "Painting");
    } else if (key === "u") hole = history.pop() || hole;
    else return;
    event.preventDefault();
    changed();
  });
  canvas.addEventListener("blur", () => ((cursor = null), draw()));

  /** Show an image; the mask is kept if it has as many pixels. */
  async function load(address) {
    const next = new Image();
    next.src = address;
    await next.decode();
    const same = image && image.naturalWidth === next.naturalWidth && image.naturalHeight === next.naturalHeight;
    image = next;
    const wide = image.naturalWidth;
    times = Math.max(1, Math.floor(TARGET / wide));
    canvas.width = wide * times;
    canvas.height = image.naturalHeight * times;
    if (!same) {
      hole = new Uint8Array(wide * image.naturalHeight);
      history = [];
      const most = Math.max(2, Math.round(Math.min(wide, image.naturalHeight) / 2));
      size.max = String(most);
      size.value = String(Math.max(1, Math.round(most / 4)));
      sizeText.textContent = `${size.value} px`;
    }
    changed();
  }

  /** The mask as a PNG: white is the hole. */
  function mask() {
    const { naturalWidth: width, naturalHeight: height } = image;
    const plain = h("canvas", { width, height });
    const data = new ImageData(width, height);
    hole.forEach((one, at) => data.data.set([255 * one, 255 * one, 255 * one, 255], 4 * at));
    plain.getContext("2d").putImageData(data, 0, 0);
    return new Promise((resolve) => plain.toBlob(resolve, "image/png"));
  }
  showMode();
  addEventListener("theme", draw);
  const element = h("div", { class: "painter" }, tools, canvas, state, h("p", { class: "help" }, "Keyboard: arrows move (with Shift by a brush), space paints, E paints or erases, U undoes."));
  return { element, load, mask, count, end: () => removeEventListener("theme", draw) };
}
