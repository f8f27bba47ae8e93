// The answers of a restoration: mean, map of doubt, samples, and whether they are consistent with what was measured.

import * as api from "../api.js";
import { h, number } from "../dom.js";
import { fileLinks } from "../job.js";
import { dataLink, facts, pixels, sentences } from "./common.js";

/** Pictures of an answer: what was measured, samples, mean, and the map of doubt. */
export function answerView(job, measured) {
  const one = job.report?.answers?.[0] || {};
  const named = (ending) => job.files.find((file) => file.name.endsWith(ending));
  const samples = job.files.filter((file) => /-sample-\d+\.png$/.test(file.name)).sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const cell = (file, text, target = 150) => file && h("figure", null, pixels(file.url, text, target), h("figcaption", null, text));
  const whole = named("-answer.png");
  const doubt = named("-std.png");
  const largest = one.std_max ?? one.std_mean;
  const residual = one.residual === undefined ? null : `${number(one.residual)} times the noise; ${number(one.residual_expected)} is expected`;
  return h(
    "div", { class: "stack" },
    h("div", { class: "gallery" }, measured, cell(named("-mean.png") || named("-denoised.png"), "mean of the answers"), cell(doubt, "map of doubt: standard deviation, white is largest", 240), cell(named("-low.png"), "low end of 90 %"), cell(named("-high.png"), "high end of 90 %")),
    samples.length ? [h("h3", null, `${samples.length} answers, each as good as the others`), h("div", { class: "gallery" }, samples.map((file, index) => cell(file, `answer ${index + 1}`)))] : null,
    h("h3", null, "Are they consistent with what was measured?"),
    facts([
      ["difference", residual], ["noise", one.noise === undefined ? null : `${number(one.noise)}${one.noise_estimated ? " (estimated)" : ""}`],
      ["noise removed", one.sigma === undefined ? null : `${number(one.sigma)}${one.sigma_estimated ? ` ± ${number(one.sigma_standard_error, 2)} (estimated)` : ""}, ${one.sigma_unit || ""}`],
      ["standard deviation", largest === undefined ? null : number(largest)], ["PSNR of the mean", one.psnr === undefined ? null : `${number(one.psnr)} dB`], ["SSIM of the mean", one.ssim === undefined ? null : number(one.ssim)],
      ["method", one.method ? `${one.method}, ${number(one.evaluations)} evaluations` : null],
    ]),
    sentences(job.report?.notes),
    whole ? h("figure", null, h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All side by side" }, h("img", { src: whole.url, alt: "What was measured, the answers, their mean and standard deviation side by side" })), h("figcaption", null, "All side by side")) : null,
    h("details", { class: "more" }, h("summary", null, `${job.files.length} files to download`), fileLinks(job.files)),
    dataLink(api.path("jobs", job.id)),
  );
}

/** The image with its hole, as a figure for beside the answers. */
export async function holed(paint, address) {
  const image = new Image();
  image.src = address;
  const mask = new Image();
  mask.src = URL.createObjectURL(await paint.mask());
  await Promise.all([image.decode(), mask.decode()]);
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = h("canvas", { width, height, class: "pixels", role: "img", "aria-label": "What was measured; the hole is coloured" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(mask, 0, 0);
  const hidden = context.getImageData(0, 0, width, height).data;
  context.drawImage(image, 0, 0);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--hole");
  for (let at = 0; at < width * height; at += 1) if (hidden[4 * at]) context.fillRect(at % width, Math.floor(at / width), 1, 1);
  canvas.style.width = `${width * Math.max(1, Math.floor(150 / width))}px`;
  URL.revokeObjectURL(mask.src);
  return h("figure", null, canvas, h("figcaption", null, "measured; the hole is coloured"));
}
