// What the Field view asks of the server: runs of two coordinates, their scores, and trainings. The view itself knows no address.

const asJson = async (answer) => {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `The server answered with ${answer.status}.`);
  return body;
};

/** A .npy file (version 1.0) of points: float64, little endian, (n, 2). */
export function npy(points) {
  const words = `{'descr': '<f8', 'fortran_order': False, 'shape': (${points.length / 2}, 2), }`;
  const header = words.padEnd(64 * Math.ceil((words.length + 11) / 64) - 11) + "\n";
  const bytes = new Uint8Array(10 + header.length + 8 * points.length), view = new DataView(bytes.buffer);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
  view.setUint16(8, header.length, true);
  bytes.set(new TextEncoder().encode(header), 10);
  points.forEach((value, i) => view.setFloat64(10 + header.length + 8 * i, value, true));
  return bytes;
}

const drawingKey = (run) => `scorefield-drawing-${run}`;

/** The `learned` that `mount` takes; `owner` names the open page, whose trainings end with it. */
export function learnedFields(owner) {
  const post = (address, body, type) => fetch(address, { method: "POST", body, headers: { "Content-Type": type } });
  return {
    /** Runs whose data have two coordinates: [{name, source, drawing}]. */
    async runs() {
      const all = await asJson(await fetch("/api/runs"));
      const plane = all.filter(({ kind, shape }) => kind === "vector" && String(shape) === "2");
      return plane.map(({ name, source }) => ({ name, source, drawing: localStorage.getItem(drawingKey(name)) ?? "" }));
    },

    /** Scores of the density with noise of level sigma, in the data's units. */
    async score(run, positions, sigma) {
      const answer = await post(`/api/fields/${encodeURIComponent(run)}?level=${sigma}`, new Float32Array(positions), "application/octet-stream");
      if (!answer.ok) await asJson(answer);
      const header = (name, missing) => Number(answer.headers.get(name) ?? missing);
      const score = Float64Array.from(new Float32Array(await answer.arrayBuffer()));
      return { score, step: header("X-Step", NaN), low: header("X-Level-Low", 0), high: header("X-Level-High", Infinity) };
    },

    /** Train on points for some seconds: the job. */
    async train({ name, points, seconds, drawing }) {
      const query = new URLSearchParams({ name: `${name}.npy`, owner });
      const file = await asJson(await post(`/api/uploads?${query}`, npy(points), "application/octet-stream"));
      if (drawing) localStorage.setItem(drawingKey(name), drawing);
      const settings = ["training.checkpoint_seconds=1", "training.pictures=0"];
      const body = { verb: "train", arguments: { source: file.id, out: name, seconds: `${seconds}s`, settings }, owner };
      return asJson(await post("/api/jobs", JSON.stringify(body), "application/json"));
    },

    job: async (id) => asJson(await fetch(`/api/jobs/${id}`)),
    stop: async (id) => asJson(await fetch(`/api/jobs/${id}`, { method: "DELETE" })),
  };
}
