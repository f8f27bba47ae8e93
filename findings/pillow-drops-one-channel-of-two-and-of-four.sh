#!/usr/bin/env bash
# Pillow 13.0.0, tifffile 2026.3.3.
#
# What one would guess: a TIFF whose channels Pillow cannot hold is refused, as it is for five channels and for two on planes.
# What it does: where each pixel has two 8-bit samples, or four, and the last is declared as unspecified (what tifffile writes for
# an array (height, width, 2) without being asked, and for four with extrasamples="unspecified"), Pillow opens the file as mode L,
# or RGB, and leaves the last sample out: no error, no warning, no trace in `mode`, `getbands` or the array. A signed 8-bit TIFF
# opens as L too, with -3 as 253.
# Whom it hurts: a folder of two-channel microscopy, radar (VV, VH) or red-and-near-infrared images read by ImageFolder, or any
# loader on Pillow, trains on half of its data; the same images with a fifth channel, or in planes, stop at once.
#
# Output seen:
#   2 channels: mode L, bands ('L',), array (4, 5), warnings 0
#   4 channels: mode RGB, bands ('R', 'G', 'B'), array (4, 5, 3), warnings 0
#   5 channels: UnidentifiedImageError
#   2 channels in planes: UnidentifiedImageError
#   int8 -3: mode L, value 253, warnings 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" "tifffile==2026.3.3" "numpy==2.4.6"
cd "$work"
cat > see.py <<'PY'
import io
import warnings

import numpy as np
import tifffile
from PIL import Image


def opened(array, **options):
    """Return the image that Pillow opens of a TIFF that tifffile wrote, and how many warnings came with it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writer
        tifffile.imwrite(stream, array, **options)
    stream.seek(0)
    assert np.array_equal(tifffile.imread(stream), array), "the file is whole"
    stream.seek(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = Image.open(stream)
        image.load()
    return image, len(caught)


def pixels(channels):
    return np.arange(20 * channels, dtype=np.uint8).reshape(4, 5, channels)


seen = []
two, warned = opened(pixels(2), photometric="minisblack", planarconfig="contig")
seen.append((two.mode, two.getbands(), np.asarray(two).shape, warned) == ("L", ("L",), (4, 5), 0))
print(f"2 channels: mode {two.mode}, bands {two.getbands()}, array {np.asarray(two).shape}, warnings {warned}")
four, warned = opened(pixels(4), photometric="rgb", extrasamples=["unspecified"])
seen.append((four.mode, np.asarray(four).shape, warned) == ("RGB", (4, 5, 3), 0))
print(f"4 channels: mode {four.mode}, bands {four.getbands()}, array {np.asarray(four).shape}, warnings {warned}")
for name, array, planar in (("5 channels", pixels(5), "contig"), ("2 channels in planes", pixels(2).transpose(2, 0, 1), "separate")):
    try:
        opened(array.copy(), photometric="minisblack", planarconfig=planar)
        seen.append(False)
    except Image.UnidentifiedImageError as error:
        seen.append(True)
        print(f"{name}: {type(error).__name__}")
signed, warned = opened(np.full((4, 5), -3, np.int8))
seen.append((signed.mode, int(np.asarray(signed)[0, 0]), warned) == ("L", 253, 0))
print(f"int8 -3: mode {signed.mode}, value {np.asarray(signed)[0, 0]}, warnings {warned}")
raise SystemExit(0 if all(seen) else "it has changed")
PY
"$work/venv/bin/python" see.py
