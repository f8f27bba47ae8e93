// A density drawn by hand: every stroke becomes a row of Gaussians as wide as the brush, and the drawing is part of the address.
//
// A stroke is {std, points: [[x, y], ...]}. In the address a stroke reads std_x_y_x_y..., in hundredths, and a point stands between
// two strokes. With a pointer one draws; with the keyboard the arrow keys move a cross, Enter sets a Gaussian, Backspace takes the
// last stroke back.

export const MOST = 160; // Gaussians of a drawing, so that it can still move at 20 frames a second
const HUNDREDTH = 100;

export function encodeStrokes(strokes) {
  const whole = (value) => Math.round(value * HUNDREDTH);
  return strokes.map(({ std, points }) => [whole(std), ...points.flatMap(([x, y]) => [whole(x), whole(y)])].join("_")).join(".");
}

/** The strokes of a text; a stroke that cannot be read is left out, and so is what is too much. */
export function decodeStrokes(text) {
  const strokes = [];
  let left = MOST;
  for (const part of text.split(".")) {
    const [std, ...numbers] = part.split("_").map((each) => (each === "" ? NaN : Number(each) / HUNDREDTH));
    const pairs = Array.from({ length: Math.floor(numbers.length / 2) }, (_, i) => [numbers[2 * i], numbers[2 * i + 1]]);
    const points = pairs.filter((pair) => pair.every((value) => Math.abs(value) <= 100)).slice(0, left);
    if (!(std > 0 && std <= 10 && points.length)) continue;
    strokes.push({ std, points });
    left -= points.length;
  }
  return strokes;
}

/**
 * Let a person draw on a plane.
 * @param plane has `canvas`, `window`, and `toData(event)`.
 * @param model open(): whether one may draw now; get(): the strokes; brush(): std; set(strokes, settled): called while drawing and, settled, at its end;
 *   cross(place): where the keyboard's cross is, or null; refuse(sentence).
 * @returns a function that ends it.
 */
export function sketchOn(plane, model) {
  const { canvas } = plane, ending = new AbortController();
  let stroke = null, before = [], cross = [0, 0];
  const rounded = (place) => place.map((value) => Math.round(value * HUNDREDTH) / HUNDREDTH);
  const used = () => model.get().reduce((sum, each) => sum + each.points.length, 0);
  const full = () => {
    const is = used() >= MOST;
    if (is) model.refuse(`got ${MOST} Gaussians, which is the most of a drawing: undo a stroke or clear it`);
    return is;
  };
  const add = (place) => {
    if (full()) return;
    const last = stroke.points.at(-1); // the Gaussians of a stroke stand one std apart
    if (last && Math.hypot(place[0] - last[0], place[1] - last[1]) < stroke.std) return;
    stroke.points.push(rounded(place));
    model.set([...before, stroke], false);
  };
  const listen = (name, f) => canvas.addEventListener(name, f, { signal: ending.signal });
  listen("pointerdown", (event) => {
    if (event.button !== 0 || !model.open() || full()) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    before = model.get();
    stroke = { std: model.brush(), points: [] };
    add(plane.toData(event));
  });
  listen("pointermove", (event) => stroke && add(plane.toData(event)));
  const end = () => {
    if (stroke) model.set(model.get(), true);
    stroke = null;
  };
  listen("pointerup", end);
  listen("pointercancel", end);
  listen("focus", () => model.open() && canvas.matches(":focus-visible") && model.cross(cross));
  listen("blur", () => model.cross(null));
  listen("keydown", (event) => {
    if (!model.open()) return;
    const by = (plane.window.half / 25) * (event.shiftKey ? 4 : 1);
    const [dx, dy] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key] ?? [0, 0];
    if (dx || dy) {
      const inside = (value, centre) => Math.min(centre + plane.window.half, Math.max(centre - plane.window.half, value));
      cross = [inside(cross[0] + dx, plane.window.x), inside(cross[1] + dy, plane.window.y)];
      model.cross(cross);
    } else if (event.key === "Enter" || event.key === " ") {
      if (!full()) model.set([...model.get(), { std: model.brush(), points: [rounded(cross)] }], true);
    } else if (event.key === "Backspace") model.set(model.get().slice(0, -1), true);
    else return;
    event.preventDefault();
  });
  return () => ending.abort();
}
