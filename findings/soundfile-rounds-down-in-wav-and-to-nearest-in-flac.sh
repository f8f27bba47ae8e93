#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2, as its wheel brings it), numpy 2.4.6.
#
# What one would guess: soundfile.write(path, floats, rate, subtype="PCM_16") rounds to the nearest of 65,536 steps, and the same
# array has the same steps in a .wav and in a .flac, which are both lossless containers of them.
# What it does: .wav, .aiff, .w64 and .caf round down; .flac rounds to the nearest. soundfile turns libsndfile's clipping on for
# every file; with clipping, libsndfile rounds to 32 bits and cuts the lower 16 off, but its FLAC writer rounds.
# Whom it hurts: a recording that is read as floats, changed by anything that undoes itself up to a rounding (in float32: a transform and
# its inverse, a resampler, a model) and written again is a whole step lower in about half of its samples, a bias of half a step;
# "convert .flac to .wav and compare" finds differences that nobody made. Nothing is said.
#
# Output seen:
#   soundfile 0.14.0, libsndfile 1.2.2: steps + 0.75 are written as steps + 0 in .wav, + 0 in .aiff, + 0 in .w64, + 0 in .caf, + 1 in .flac
#   a Fourier transform and its inverse in float32, then .wav: about half of the samples one step lower, none higher: True
#   the same in .flac: all samples as they were: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "soundfile==0.14.0" "numpy==2.4.6"
cd "$work"
cat > see.py <<'PY'
import numpy as np
import soundfile as sf

ENDINGS = ("wav", "aiff", "w64", "caf", "flac")
steps = np.arange(-32768, 32767)


def written(floats, ending):
    """The steps of 16 bits that floats become."""
    sf.write(f"x.{ending}", floats, 8000, subtype="PCM_16")
    return sf.read(f"x.{ending}", dtype="int16")[0].astype(int)


found = {}
for ending in ENDINGS:
    apart = np.unique(written((steps + 0.75) / 32768, ending) - steps)
    found[ending] = apart.tolist()
shown = ", ".join(f"+ {apart[0]} in .{ending}" for ending, apart in found.items())
print(f"soundfile {sf.__version__}, libsndfile {sf.__libsndfile_version__}: steps + 0.75 are written as steps {shown}")

whole = np.random.default_rng(0).integers(-20000, 20000, 100_000).astype("i2")
sf.write("whole.wav", whole, 8000, subtype="PCM_16")
floats, _ = sf.read("whole.wav", dtype="float32")
changed = np.fft.irfft(np.fft.rfft(floats), len(floats))
wrong = written(changed, "wav") - whole
lower = bool(set(np.unique(wrong)) == {-1, 0} and 0.3 < (wrong != 0).mean() < 0.7)
print("a Fourier transform and its inverse in float32, then .wav: about half of the samples one step lower, none higher:", lower)
same = bool((written(changed, "flac") == whole).all())
print("the same in .flac: all samples as they were:", same)
if found != {"wav": [0], "aiff": [0], "w64": [0], "caf": [0], "flac": [1]} or not lower or not same:
    raise SystemExit("changed: update the note above, and write floats where they are rounded to the nearest everywhere")
PY
"$work/venv/bin/python" see.py
