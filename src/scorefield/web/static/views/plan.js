// What is said of data before they are learned from: by `plan`, and by a training as it begins.

import { duration, h, number } from "../dom.js";
import { facts, KINDS, sentences } from "./common.js";

/** What a plan says: the data, what is wrong with them, what would be done, and what to expect. */
export function planView(plan) {
  const { data, findings = {}, expected = {}, pilot = {} } = plan;
  const wrong = [...(findings.warnings || []), ...(findings.issues || []).map((one) => `${one.where}: ${one.cause}`)];
  const counts = Object.entries(findings.counts || {});
  return h(
    "section", { class: "panel" },
    h("h2", null, "What the data are"),
    facts([
      ["data", data.name], ["kind", `${KINDS[data.kind] || data.kind}, ${data.shape.join(" x ")}`],
      ["examples", `${number(data.examples)} for training, ${number(data.held_out)} held out`],
      ["classes", counts.length ? counts.slice(0, 30).map(([name, count]) => `${name} (${number(count)})`).join(", ") + (counts.length > 30 ? ` and ${counts.length - 30} more` : "") : null],
      ["values", findings.low === undefined || findings.low === null ? null : `${number(findings.low)} to ${number(findings.high)}`],
      ["copies", findings.copies === undefined ? null : findings.copies || findings.near_copies ? `${number(findings.copies)} equal, ${number(findings.near_copies)} nearly equal` : "none found"],
    ]),
    sentences(data.notes),
    wrong.length ? [h("h3", { class: "warn" }, "What is wrong with them"), sentences(wrong)] : h("p", { class: "good" }, "Nothing wrong was found in them."),
    h("h2", null, "What training would do"),
    facts([
      ["recipe", plan.config?.recipe], ["network", plan.parameters ? `${plan.config?.network?.name || "network"}, ${number(plan.parameters)} parameters` : null],
      ["on this machine", expected.steps ? `about ${number(expected.steps)} steps in ${duration(expected.seconds)}: ${number(expected.epochs)} passes over the data` : null],
      ["memory", pilot.memory?.total ? `${number(pilot.memory.total / 2 ** 20)} MiB${pilot.memory.fits === false ? ", more than is free" : ""}` : null],
      ["sampling", expected.sampling_seconds ? `about ${duration(expected.sampling_seconds)} for 64 samples` : null],
    ]),
    h("details", { class: "more" }, h("summary", null, "Why"), sentences(plan.why)),
    h("h2", null, "What to expect"),
    sentences(expected.sentences) || h("p", null, "Nothing remarkable."),
  );
}

/** What a training said before it began. */
export const startView = (plan) =>
  h("section", { class: "panel" }, h("h2", null, "What is trained"), facts([["data", plan.name], ["kind", `${KINDS[plan.kind] || plan.kind}${plan.shape ? `, ${plan.shape.join(" x ")}` : ""}`], ["parameters", plan.parameters ? number(plan.parameters) : null]]), sentences(plan.notes), plan.warnings?.length ? sentences(plan.warnings, "warn") : null, h("details", { class: "more" }, h("summary", null, "Why"), sentences(plan.why)));

