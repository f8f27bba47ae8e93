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

const MOVES = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
const HELP = "Paint what is missing. Arrow keys move, the space bar paints, E changes between painting and erasing, U undoes.";

/** A canvas with tools: `element`, `load(address)`, `mask()`, `count()`, `end()`. */
export class Painter {
  constructor() {
    this.canvas = h("canvas", { tabindex: 0, role: "application", "aria-label": HELP, "aria-describedby": "painter-state" });
    this.context = this.canvas.getContext("2d");
    this.state = h("p", { class: "help", id: "painter-state", "aria-live": "polite" });
    this.size = h("input", { type: "range", min: 1, max: 8, value: 2, "aria-label": "Brush size in pixels", oninput: () => this.showSize() });
    this.sizeText = h("span", { class: "help" });
    Object.assign(this, { image: null, hole: new Uint8Array(0), history: [], erasing: false, cursor: null, last: null, times: 1 });
    this.modes = h("div");
    this.showMode();
    this.undoButton = button("Undo", () => this.undo(), { class: "button small" });
    const all = (text, change) => button(text, () => (this.remember(), (this.hole = this.hole.map(change)), this.changed()), { class: "button small" });
    const tools = h("div", { class: "tools" }, this.modes, h("label", null, "Brush", this.size, this.sizeText), this.undoButton, all("Clear", () => 0), all("Invert", (one) => 1 - one));
    this.listen();
    this.element = h("div", { class: "painter" }, tools, this.canvas, this.state, h("p", { class: "help" }, "Keyboard: arrows move (with Shift by a brush), space paints, E paints or erases, U undoes."));
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => ((this.cursor = null), this.draw()));
    this.themed = () => this.draw();
    addEventListener("theme", this.themed);
  }

  end() {
    removeEventListener("theme", this.themed);
  }

  // --- the mask

  get sides() {
    return [this.image.naturalWidth, this.image.naturalHeight];
  }

  count() {
    return this.hole.reduce((sum, one) => sum + one, 0);
  }

  remember() {
    this.history = [...this.history.slice(1 - MOST_UNDO), this.hole.slice()];
  }

  undo() {
    this.hole = this.history.pop() || this.hole;
    this.changed();
  }

  stamp([x, y]) {
    const [wide, high] = this.sides;
    for (const [dx, dy] of brush(Number(this.size.value))) {
      const [px, py] = [x + dx, y + dy];
      if (px >= 0 && py >= 0 && px < wide && py < high) this.hole[py * wide + px] = this.erasing ? 0 : 1;
    }
  }

  /** Stamp along the way from one pixel to another. */
  stroke(from, to) {
    const steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let step = 0; step <= steps; step += 1) this.stamp([0, 1].map((axis) => Math.round(from[axis] + ((to[axis] - from[axis]) * step) / steps)));
  }

  // --- what is seen

  showMode() {
    const choose = (mode) => (this.erasing = mode === "erase");
    fill(this.modes, radios("Tool", "tool", [["paint", "Paint"], ["erase", "Erase"]], this.erasing ? "erase" : "paint", choose));
  }

  showSize() {
    this.sizeText.textContent = `${this.size.value} px`;
    this.draw();
  }

  changed() {
    this.draw();
    this.undoButton.disabled = !this.history.length;
    const where = this.cursor ? ` Row ${this.cursor[1] + 1}, column ${this.cursor[0] + 1}.` : "";
    this.state.textContent = `${number(this.count())} of ${number(this.hole.length)} pixels are marked as missing.${where}`;
  }

  draw() {
    if (!this.image) return;
    const { context, canvas, times } = this;
    const [wide] = this.sides;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, 0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--hole").trim();
    context.globalAlpha = 0.78;
    this.hole.forEach((one, at) => one && context.fillRect((at % wide) * times, Math.floor(at / wide) * times, times, times));
    context.globalAlpha = 1;
    if (!this.cursor) return;
    const diameter = Number(this.size.value);
    const line = Math.max(2, times / 6);
    const [left, top] = this.cursor.map((at) => (at - Math.floor(diameter / 2)) * times);
    context.lineWidth = line;
    for (const [style, inset] of [["#000", 0], ["#fff", line]]) {
      context.strokeStyle = style;
      context.strokeRect(left + inset, top + inset, diameter * times - 2 * inset, diameter * times - 2 * inset);
    }
  }

  // --- what a person does

  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const [wide, high] = this.sides;
    return [Math.floor(((event.clientX - box.left) / box.width) * wide), Math.floor(((event.clientY - box.top) / box.height) * high)];
  }

  press(event) {
    if (!this.image || event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.cursor = null;
    this.last = this.pixel(event);
    this.stamp(this.last);
    this.changed();
  }

  drag(event) {
    if (!this.last) return;
    const all = event.getCoalescedEvents?.() || [];
    for (const one of all.length ? all : [event]) {
      const next = this.pixel(one);
      this.stroke(this.last, next);
      this.last = next;
    }
    this.changed();
  }

  key(event) {
    const key = event.key.toLowerCase();
    if (!this.image || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key in MOVES) this.move(MOVES[key], event.shiftKey ? Number(this.size.value) : 1);
    else if (key === " " || key === "enter") {
      this.remember();
      this.stamp((this.cursor ??= this.middle()));
    } else if (key === "e") {
      this.erasing = !this.erasing;
      this.showMode();
      say(this.erasing ? "Erasing" : "Painting");
    } else if (key === "u") this.undo();
    else return;
    event.preventDefault();
    this.changed();
  }

  middle() {
    return this.sides.map((side) => Math.floor((side - 1) / 2));
  }

  move(direction, far) {
    const { sides } = this;
    this.cursor = this.cursor ? this.cursor.map((at, axis) => Math.min(sides[axis] - 1, Math.max(0, at + far * direction[axis]))) : this.middle();
  }

  // --- in and out

  /** Show an image; the mask is kept if it has as many pixels. */
  async load(address) {
    const next = new Image();
    next.src = address;
    await next.decode();
    const before = this.image && this.sides.join();
    this.image = next;
    const [wide, high] = this.sides;
    this.times = Math.max(1, Math.floor(TARGET / wide));
    this.canvas.width = wide * this.times;
    this.canvas.height = high * this.times;
    if (before !== this.sides.join()) {
      this.hole = new Uint8Array(wide * high);
      this.history = [];
      const most = Math.max(2, Math.round(Math.min(wide, high) / 2));
      this.size.max = String(most);
      this.size.value = String(Math.max(1, Math.round(most / 4)));
    }
    this.showSize();
    this.changed();
  }

  /** The mask as a PNG: white is the hole. */
  mask() {
    const [width, height] = this.sides;
    const plain = h("canvas", { width, height });
    const data = new ImageData(width, height);
    this.hole.forEach((one, at) => data.data.set([255 * one, 255 * one, 255 * one, 255], 4 * at));
    plain.getContext("2d").putImageData(data, 0, 0);
    return new Promise((resolve) => plain.toBlob(resolve, "image/png"));
  }
}
