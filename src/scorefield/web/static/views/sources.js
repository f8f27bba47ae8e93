// Choosing data to learn from: built in, under the runs' folder, or uploaded.

import * as api from "../api.js";
import { fill, h } from "../dom.js";
import { radios } from "../form.js";
import { dropZone } from "./common.js";

const ENDINGS = ".zip,.npy,.npz,.csv,.tsv,.parquet,.png,.jpg,.tar,.wav,.h5,.mat,.nii,.gz,.fits,.tif,.tiff";

export class SourceChooser {
  /** `given` is a source to begin with; `changed(source)` is told. */
  constructor({ builtin = [], folders = [] }, given, changed) {
    Object.assign(this, { builtin, folders, changed, uploaded: null });
    this.way = folders.includes(given) ? "folder" : "builtin";
    this.error = h("p", { class: "error", role: "alert", hidden: true });
    this.about = h("p", { class: "help" });
    const select = (label, names) => h("select", { "aria-label": label, value: names.includes(given) ? given : names.includes("digits") ? "digits" : names[0], onchange: () => this.tell() }, names.map((one) => h("option", { value: one }, one)));
    this.selects = { builtin: select("Built-in data", builtin.map((one) => one.name)), folder: select("Folder or file under the runs' root", folders) };
    this.drop = dropZone({ label: "A zip of images, an array or a table", accept: ENDINGS, take: (file) => this.upload(file) });
    this.body = h("div", { class: "controls" });
    const ways = [["builtin", "Built in"], ["folder", "On this machine"], ["upload", "Upload"]];
    this.element = h("div", { class: "controls" }, radios("Data", "source", ways, this.way, (way) => this.choose(way)), this.body);
    this.choose(this.way);
  }

  async upload(file) {
    this.uploaded = (await api.upload(file.name, file)).id;
    this.tell();
  }

  get value() {
    return this.way === "upload" ? this.uploaded : this.selects[this.way].value;
  }

  choose(way) {
    this.way = way;
    const none = h("p", { class: "help" }, "No folder or file of data lies under the runs' root. Put one there, or upload it.");
    const inner = { builtin: [this.selects.builtin, this.about], folder: this.folders.length ? this.selects.folder : none, upload: this.drop.element };
    fill(this.body, inner[way], this.error);
    this.tell();
  }

  tell() {
    this.about.textContent = this.builtin.find((one) => one.name === this.value)?.about || "";
    this.error.hidden = true;
    this.changed(this.value);
  }

  /** Show a refusal of the data. */
  refuse(problem) {
    fill(this.error, problem.message);
    this.error.hidden = false;
    this.body.querySelector("select, input")?.focus();
  }
}
