// Elements of the page: a small builder, and inputs that have a label and say their value.

/** Make an element: attributes, `on...` listeners, and children that are elements or text. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Write a number with three digits, the way a person writes it. */
export function digits(value, count = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(count)));
}

let named = 0;

function labelled(text, input, output, hint) {
  input.id = `field-input-${++named}`;
  const label = h("label", { for: input.id }, text);
  const row = h("div", { class: "field-row" }, h("div", { class: "field-label" }, label, output), input);
  if (hint) {
    const note = h("small", { class: "field-hint", id: `${input.id}-hint` }, hint);
    input.setAttribute("aria-describedby", note.id);
    row.append(note);
  }
  return row;
}

/** A choice: {row, set(value)}; `options` maps values to titles. */
export function choice(text, options, onChange, hint) {
  const input = h("select", { onchange: () => onChange(input.value) });
  const fill = (all) => input.replaceChildren(...Object.entries(all).map(([value, title]) => h("option", { value }, title)));
  fill(options);
  return { row: labelled(text, input, null, hint), input, fill, set: (value) => (input.value = value) };
}

/** A whole number: {row, set(value)}. */
export function count(text, low, high, onChange, hint) {
  const input = h("input", { type: "number", min: low, max: high, step: 1, inputmode: "numeric" });
  input.addEventListener("change", () => {
    const value = Math.min(high, Math.max(low, Math.round(Number(input.value)) || low));
    input.value = value;
    onChange(value);
  });
  return { row: labelled(text, input, null, hint), input, set: (value) => (input.value = value) };
}

/** A slider over a logarithmic range: {row, set(value), range(low, high)}. */
export function logSlider(text, onInput, hint) {
  const output = h("output", {}), input = h("input", { type: "range", min: 0, max: 400, step: 1 });
  let [low, high] = [0.01, 1];
  const show = (value) => {
    output.textContent = digits(value);
    input.setAttribute("aria-valuetext", digits(value));
  };
  input.addEventListener("input", () => {
    const value = Number((low * (high / low) ** (input.value / 400)).toPrecision(3));
    show(value);
    onInput(value);
  });
  const set = (value) => {
    input.value = Math.round((400 * Math.log(value / low)) / Math.log(high / low));
    show(value);
  };
  const range = (from, to) => ([low, high] = [from, to]);
  return { row: labelled(text, input, output, hint), input, set, range };
}

export function tick(text, onChange) {
  const input = h("input", { type: "checkbox", onchange: () => onChange(input.checked) });
  return { row: h("label", { class: "field-tick" }, input, text), input, set: (value) => (input.checked = Boolean(value)) };
}

export const button = (text, onClick, attributes = {}) => h("button", { type: "button", class: "button", onclick: onClick, ...attributes }, text);

/** Give a text to download as a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
