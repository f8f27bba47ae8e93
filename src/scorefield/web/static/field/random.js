// Random numbers that belong to a particle: a pure function of (seed, stream, particle, step), so that pausing, stepping, the
// speed and the number of the other particles never change a particle's path.
//
// Philox4x32 with ten rounds: the 64-bit key is (seed, stream), the 128-bit counter is (particle, step, 0, 0), and the four words
// of a block give two normal draws by Box and Muller's transform and one uniform draw.
// Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.

const UNIT = 1 / 4294967296;

/** The streams: what a draw is for. */
export const STREAM = { data: 1, start: 2, noise: 3, reference: 4, other: 5 };

function upperHalf(a, b) {
  const low = a & 0xffff, high = a >>> 16, l = b & 0xffff, h = b >>> 16;
  const middle = high * l + ((low * l) >>> 16);
  return (high * h + (middle >>> 16) + ((low * h + (middle & 0xffff)) >>> 16)) >>> 0;
}

/** Write four 32-bit words into `words`. */
export function philox(words, c0, c1, c2, c3, k0, k1) {
  for (let round = 0; round < 10; round++) {
    const first = upperHalf(0xd2511f53, c0), second = upperHalf(0xcd9e8d57, c2);
    const next1 = Math.imul(0xcd9e8d57, c2) >>> 0, next3 = Math.imul(0xd2511f53, c0) >>> 0;
    c0 = (second ^ c1 ^ k0) >>> 0;
    c2 = (first ^ c3 ^ k1) >>> 0;
    c1 = next1;
    c3 = next3;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/** Draws of `count` particles at one step: two normal numbers each, `normal` (2·count), and one uniform, `uniform` (count). */
export function draws(seed, stream, step, count) {
  const normal = new Float64Array(2 * count), uniform = new Float64Array(count), words = new Uint32Array(4);
  for (let i = 0; i < count; i++) {
    philox(words, i, step, 0, 0, seed >>> 0, stream);
    const radius = Math.sqrt(-2 * Math.log((words[0] + 0.5) * UNIT)), angle = 2 * Math.PI * words[1] * UNIT;
    normal[2 * i] = radius * Math.cos(angle);
    normal[2 * i + 1] = radius * Math.sin(angle);
    uniform[i] = (words[2] + 0.5) * UNIT;
  }
  return { normal, uniform };
}
