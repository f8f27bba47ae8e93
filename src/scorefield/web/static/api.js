// The server, as functions. Each page has an owner token: the server ends the jobs of a page that has left. News of jobs, and the
// frames of sampling, come over one WebSocket, which connects again by itself.

/** A refusal, with the sentence of the server and the field that it is about. */
export class Refused extends Error {
  constructor(text, field, status) {
    super(text);
    Object.assign(this, { field: field || null, status });
  }
}

export const SILENT = "The server does not answer. Is scorefield serve still running?";
const RETRY = [500, 1000, 2000, 4000]; // milliseconds
const listeners = { job: new Set(), training: new Set(), frame: new Set(), connection: new Set() };

export const owner = (() => {
  let token = sessionStorage.getItem("owner");
  if (!token) {
    token = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("owner", token);
  }
  return token;
})();

/** Ask the server; return what it answers, or throw `Refused`. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(SILENT, null, 0);
  }
  if (response.ok) return response;
  let said = {};
  try {
    said = await response.json();
  } catch {
    // no JSON: the status is all that is known
  }
  throw new Refused(said.error || `The server answered ${response.status} ${response.statusText}.`, said.field, response.status);
}

export const get = async (path) => (await ask(path)).json();
export const text = async (path) => (await ask(path)).text();

const part = encodeURIComponent;
/** The address of a path below another, with every part encoded. */
export const path = (...parts) => `/api/${parts.flatMap((one) => String(one).split("/")).map(part).join("/")}`;

let described;
/** The forms of all verbs, asked for once. */
export const forms = () => (described ??= get("/api/forms").catch((error) => ((described = undefined), Promise.reject(error))));
export const runs = () => get("/api/runs");
export const run = (name) => get(path("runs", name));
export const sources = () => get("/api/sources");

/** Upload a file or bytes; return {id, name, bytes}. */
export async function upload(name, body) {
  return (await ask(`/api/uploads?name=${part(name)}&owner=${owner}`, { method: "POST", body })).json();
}

/** Start a job; empty arguments are left out. */
export async function job(verb, given, options = {}) {
  const values = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const body = JSON.stringify({ verb, arguments: values, owner, ...options });
  const answer = await ask("/api/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  connect();
  return answer.json();
}

export const jobs = () => get(`/api/jobs?owner=${owner}`);
export const cancel = async (id) => (await ask(path("jobs", id), { method: "DELETE" })).status;
export const over = (one) => ["done", "failed", "cancelled"].includes(one.state);

/** Listen to news of a job; returns a function that ends it. What was missed while nothing was connected is asked for. */
export function onJob(id, callback) {
  return listen("job", (one) => one.id === id && callback(one));
}
export const onTraining = (id, callback) => listen("training", (news) => news.job === id && callback(news.state));
export const onFrame = (id, callback) => listen("frame", (header, payload) => header.job === id && callback(header, payload));
export const onConnection = (callback) => listen("connection", callback);

function listen(kind, callback) {
  listeners[kind].add(callback);
  connect();
  return () => listeners[kind].delete(callback);
}

/** Wait until a job is over; `seen` is called with every state of it. Throws `Refused` for one that failed. */
export async function finished(begun, seen = () => {}) {
  const ended = await new Promise((resolve, reject) => {
    let last = begun;
    const take = (one) => {
      if (over(last)) return;
      last = one;
      seen(one);
      if (over(one)) end(() => resolve(one));
    };
    const stop = onJob(begun.id, take);
    const lost = (error) => { // the server has begun anew
      seen({ ...last, state: "failed", error: error.message });
      end(() => reject(error));
    };
    const look = () => get(path("jobs", begun.id)).then(take).catch((error) => error.status === 404 && lost(error));
    const timer = setInterval(look, 3000); // the socket may be down
    const end = (settle) => {
      stop();
      clearInterval(timer);
      settle();
    };
    seen(begun);
    if (over(begun)) end(() => resolve(begun));
    else look();
  });
  if (ended.state === "failed") throw new Refused(ended.error || "The job failed.", ended.field, 0);
  return ended;
}

let socket = null;
let tries = 0;
let left = false;

/** Connect the socket, if it is not: it also tells the server that this page is here. */
export function connect() {
  if (socket || left) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws?owner=${owner}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    const again = tries > 0;
    tries = 0;
    tell("connection", { connected: true, again });
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? news(JSON.parse(data)) : frame(data));
  socket.onclose = () => {
    socket = null;
    if (left) return;
    tries += 1;
    if (tries > 1) tell("connection", { connected: false, again: false });
    setTimeout(connect, RETRY[Math.min(tries, RETRY.length) - 1]);
  };
}
addEventListener("pagehide", () => ((left = true), socket?.close()));
addEventListener("pageshow", (event) => event.persisted && ((left = false), connect()));

const tell = (kind, ...values) => [...listeners[kind]].forEach((callback) => callback(...values));

function news(message) {
  if (message.type === "job") tell("job", message.job);
  else if (message.type === "training") tell("training", message);
}

/** A frame of sampling: the length of its header, the header, and the numbers. */
function frame(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const payload = buffer.slice(4 + length);
  tell("frame", header, header.kind === "image" ? new Uint8Array(payload) : new Float32Array(payload));
}

/** What the Field view needs of the server. */
export const learned = {
  runs: async () => (await runs()).filter((one) => one.kind === "vector" && one.shape.length === 1 && one.shape[0] === 2),
  async score(name, positions, level) {
    const options = { method: "POST", body: positions, headers: { "Content-Type": "application/octet-stream" } };
    const answer = await ask(`${path("fields", name)}?level=${level}`, options);
    const head = (key) => Number(answer.headers.get(key));
    return { scores: new Float32Array(await answer.arrayBuffer()), step: head("X-Step"), low: head("X-Level-Low"), high: head("X-Level-High") };
  },
  upload: async (name, body) => (await upload(name, body)).id,
  job,
  onJob,
  onTraining,
  cancel,
};
