#!/usr/bin/env bash
# astropy 8.0.2, numpy 2.4.6.
#
# What one would guess: BLANK in the header of a FITS image marks its unknown pixels, and astropy.io.fits returns them as NaN
# whatever integers the image holds.
# What it does: so it is with int16, but in an unsigned image (int16 with BZERO = 32768, as almost every camera writes) the same
# card is passed over without a warning, and the marked pixels come back as the number that marks them. uint=False returns NaN.
# Two conveniences meet: uint=True, the default since 1.1, turns the image into unsigned integers, which have no NaN, before BLANK is
# looked at. astropy.nddata.CCDData, which has a mask, gets none either.
# Whom it hurts: means, stacks and models of camera images with blank columns; the wrong value is a bright pixel like any other.
#
# Output seen:
#   astropy 8.0.2
#   int16  default     float32 [[100.0, 200.0], [300.0, nan]] warnings 0
#   int16  uint=False  float32 [[100.0, 200.0], [300.0, nan]] warnings 0
#   uint16 default     uint16 [[100, 200], [300, 9999]] warnings 0
#   uint16 uint=False  float32 [[100.0, 200.0], [300.0, nan]] warnings 0
#   CCDData of uint16: mask None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "astropy==8.0.2" "numpy==2.4.6"
cd "$work"
cat > see.py <<'PY'
import warnings

import astropy
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData

print("astropy", astropy.__version__)
seen = {}
for kind, zero in (("int16", 0), ("uint16", 32768)):
    image = fits.PrimaryHDU(np.array([[100, 200], [300, 9999]], kind))
    image.header["BLANK"] = 9999 - zero  # as it is stored
    image.writeto(f"{kind}.fits")
    for title, options in (("default", {}), ("uint=False", {"uint": False})):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with fits.open(f"{kind}.fits", **options) as file:
                data = file[0].data
        seen[kind, title] = bool(np.isnan(data[1, 1]))
        print(f"{kind:6} {title:11} {data.dtype} {data.tolist()} warnings {len(caught)}")
        if caught:
            raise SystemExit("changed: it warns now")
mask = CCDData.read("uint16.fits", unit="adu").mask
print("CCDData of uint16: mask", mask)
wanted = {("int16", "default"): True, ("int16", "uint=False"): True, ("uint16", "default"): False, ("uint16", "uint=False"): True}
if seen != wanted or mask is not None:
    raise SystemExit("changed: update the note above, and open unsigned images as they are opened by default where BLANK is honoured")
PY
"$work/venv/bin/python" see.py
