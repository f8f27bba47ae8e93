// The document as values: h("p", {class: "help"}, "text") is a paragraph. Texts are always text, never markup, so that no name
// of a file or class can become part of the page.

const SVG = "http://www.w3.org/2000/svg";

/** Set attributes: `on...` listens, true is an attribute without a value, null and false leave it out. */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

/** Make an element with children: elements, texts, numbers, lists of them; null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  const element = set(document.createElement(tag), attributes);
  element.append(...present(children));
  if (tag === "select" && attributes && "value" in attributes) element.value = attributes.value ?? ""; // it has options now
  return element;
}

/** Make an element of a drawing. */
export function svg(tag, attributes, ...children) {
  const element = set(document.createElementNS(SVG, tag), attributes);
  element.append(...present(children));
  return element;
}

const present = (children) =>
  children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child)));

/** Put children in the place of those that an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

let counter = 0;
/** An id that no other element has. */
export const newId = (stem) => `${stem}-${(counter += 1)}`;

/** Say something to a screen reader. */
export function say(text) {
  const place = document.getElementById("said");
  if (place && place.textContent !== text) place.textContent = text;
}

/** A button. */
export const button = (text, onclick, attributes) => h("button", { type: "button", class: "button", onclick, ...attributes }, text);

/** A paragraph for what went wrong. */
export const errorText = (text) => h("p", { class: "error", role: "alert" }, text);

/** Offer a text to be copied. */
export function copyButton(text, label = "Copy") {
  const made = button(label, async () => {
    try {
      await navigator.clipboard.writeText(text);
      made.textContent = "Copied";
    } catch {
      made.textContent = "Select it to copy";
    }
    say(made.textContent);
    setTimeout(() => (made.textContent = label), 2000);
  }, { class: "button small" });
  return made;
}

/** What may be typed into a shell, with a button that copies it. */
export const commandLine = (text) =>
  h("div", { class: "command" }, h("code", { tabindex: 0, "aria-label": "The same as a command" }, text), copyButton(text));

/** Let the browser save an address, or bytes, as a file. */
export function download(address, name) {
  const url = address instanceof Blob ? URL.createObjectURL(address) : address;
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (address instanceof Blob) setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** 184 s as 3 min 4 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** A number as people read it: about `digits` significant ones, thousands with commas. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(digits - 1).replace("e+", "e");
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
}

/** 20480 as 20 kB. */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${Math.round(count / 1000)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
