// A job as a person sees it: where it is, how far, what it says, a button that ends it, and the same as a command.

import * as api from "./api.js";
import { bytes, button, commandLine, errorText, fill, h, say } from "./dom.js";

const STATES = { waiting: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };

/** The state of a job, kept up to date by `show(job)`; `states` has other words for some of them, `words` false hides its text. */
export function jobPanel({ stop = "Cancel", name = "Job", states = {}, words: shown = true } = {}) {
  const element = h("div", { class: "job panel", hidden: true });
  const bar = h("progress", { max: 1, value: 0, "aria-label": `${name}: progress` });
  const words = h("p", { class: "job-text" });
  const place = h("div", { class: "job-error" });
  const command = h("details", { class: "more" }, h("summary", null, "The same as a command"));
  let id = null;
  let shownCommand = null;
  let shownError = null;
  const end = button(stop, async () => {
    end.disabled = true;
    try {
      await api.cancel(id);
    } catch (error) {
      fill(place, errorText(error.message));
      end.disabled = false;
    }
  }, { class: "button small" });
  fill(element, h("div", { class: "job-line" }, bar, end), words, place, command);

  function show(job) {
    if (job.id !== id) {
      id = job.id;
      end.disabled = false;
      shownError = null;
      fill(place);
    }
    element.hidden = false;
    const busy = !api.over(job);
    element.dataset.state = job.state;
    end.hidden = !busy;
    bar.value = job.state === "done" ? 1 : job.fraction || 0;
    const parts = [states[job.state] || STATES[job.state]];
    if (job.state === "waiting" && job.place) parts.push(`number ${job.place} in the queue`);
    if (job.text && shown && job.state !== "failed") parts.push(job.text);
    words.textContent = parts.join(" · ");
    if (job.state === "failed" && shownError !== job.error) {
      shownError = job.error;
      fill(place, errorText(job.error || "The job failed."));
    }
    if (!busy || job.state === "waiting") say(`${name}: ${STATES[job.state]}`);
    if (job.command && job.command !== shownCommand) {
      shownCommand = job.command;
      fill(command, h("summary", null, "The same as a command"), commandLine(job.command));
    }
  }
  return { element, show };
}

/** The last job of some verbs that this page began and for which `wanted` holds, or undefined. */
export async function lastJob(verbs, wanted = () => true) {
  try {
    const mine = await api.jobs();
    return (Array.isArray(mine) ? mine : mine.jobs).filter((one) => verbs.includes(one.verb) && wanted(one)).at(-1);
  } catch {
    return undefined;
  }
}

/** Links to files of a job. */
export const fileLinks = (files) =>
  h("ul", { class: "files" }, files.map((file) => h("li", null, h("a", { href: file.url, download: file.name.split("/").at(-1) }, file.name), h("span", { class: "help" }, file.bytes ? ` ${bytes(file.bytes)}` : ""))));
