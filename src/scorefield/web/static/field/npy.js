// A file of points that the server reads: numpy's .npy, version 1.0.

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
