#!/usr/bin/env bash
# Pillow 13.0.0, tifffile 2026.3.3, imagecodecs 2026.3.6, on a little-endian machine.
#
# What one would guess: whether a TIFF is compressed changes how large it is, not what it holds.
# What it does: of a big-endian TIFF ("MM") with one band of int16, int32 or float32, Pillow reads the uncompressed file right, and
# swaps the bytes of every value of the same picture compressed, by LZW, deflate or PackBits alike. libtiff hands over numbers in
# the order of the machine, and Pillow unpacks them once more in the order of the file. The mode is the same, there is no error
# and no warning; uint16 alone is right.
# Whom it hurts: elevation models, CT and other measurements, which are signed or floats, and often big-endian and compressed.
# 1 becomes 256, or 16777216; floats become numbers near zero and a few NaN, which a loader then takes for holes.
#
# Output seen:
#   uint16: uncompressed 1, lzw 1, zlib 1, packbits 1
#   int16: uncompressed 1, lzw 256, zlib 256, packbits 256
#   int32: uncompressed 1, lzw 16777216, zlib 16777216, packbits 16777216
#   float32: uncompressed 1, lzw 4.600603e-41, zlib 4.600603e-41, packbits 4.600603e-41
#   little-endian files are right: True
#   warnings 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" "tifffile==2026.3.3" \
    "imagecodecs==2026.3.6" "numpy==2.4.6"
cd "$work"
cat > see.py <<'PY'
import io
import sys
import warnings

import numpy as np
import tifffile
from PIL import Image

if sys.byteorder != "little":
    raise SystemExit("this is about little-endian machines")
METHODS = (None, "lzw", "zlib", "packbits")
warned = 0


def opened(array, order, method):
    """Return the array that Pillow reads of a TIFF that tifffile wrote, and that tifffile reads as it was."""
    global warned
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, byteorder=order, compression=method)
    stream.seek(0)
    assert np.array_equal(tifffile.imread(stream), array), "the file is whole"
    stream.seek(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = np.asarray(Image.open(stream))
    warned += len(caught)
    return found


seen = []
for dtype in ("uint16", "int16", "int32", "float32"):
    array = np.arange(1, 21, dtype=dtype).reshape(4, 5)
    found = {method or "uncompressed": opened(array, ">", method) for method in METHODS}
    print(f"{dtype}: " + ", ".join(f"{name} {float(values[0, 0]):.8g}" for name, values in found.items()))
    swapped = array if dtype == "uint16" else array.byteswap()
    seen += [np.array_equal(values, array if name == "uncompressed" else swapped) for name, values in found.items()]
    little = [np.array_equal(opened(array, "<", method), array) for method in METHODS]
    seen += little
print("little-endian files are right:", all(little))
print("warnings", warned)
raise SystemExit(0 if all(seen) and not warned else "it has changed")
PY
"$work/venv/bin/python" see.py
