"""Audio: clips of one rate and one length, in [-1, 1].

    stored      8, 16, 24 or 32 bits, or floats; times first, then channels
    value       stored / 2^(bits - 1): float32, or float64 where the file has more than 24 bits

Clips whose lengths differ by at most a tenth are cut to the shortest; a few others are left out. `data.shape=[16000]` cuts
every file into windows of that length instead: a long recording is many examples. Samples are written with the rate and the
depth of the files; what does not fit into [-1, 1] is clipped, unless the files hold floats.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import LEAST, DataConfig, Dataset
from scorefield.data.extras import require
from scorefield.data.files import promises
from scorefield.data.files.archives import Entry, cause_of
from scorefield.data.files.collection import Read, listing_of, stack
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif")
ALIKE = 0.1  # of the middle length: clips so near to it are cut to the shortest of them
MOST = 0.9  # of the clips must be
FINE = ("PCM_32", "DOUBLE")  # depths beyond those of float32
FLOATS = ("FLOAT", "DOUBLE")
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
WINDOWS = 10  # that an advice cuts a recording into, at least
RATE = 44_100  # Hz, of data that have none


def read(source: str, config: DataConfig) -> Dataset:
    """Read signals from a folder of sound files, or from one recording.

    Args:
        source: path of the file or folder.
        config: how it is read: `shape` is the length of a window, in samples.

    Returns:
        The data set, in the order of the paths; the layout's header has the `rate` and the `depth` (subtype).

    Raises:
        ScorefieldError: soundfile is missing, lengths that differ or a single recording without `data.shape`, files without a
            common rate, fewer than 8 clips that can be read, or what `of_array` refuses.
    """
    name = os.path.basename(os.path.abspath(source))
    require("soundfile", "audio", name)
    listing, alone = listing_of(source, SUFFIXES), not os.path.isdir(source)
    lengths = _lengths(listing.entries, name)
    notes, most = list[str](), None
    if config.shape is not None:
        if len(config.shape) != 1:
            raise ScorefieldError(
                f"got data.shape={list(config.shape)} for the sounds {name!r}, expected the length of a window in samples: "
                f"give one number, such as --set data.shape=[{lengths[0][1]}] for a second"
            )
        length = config.shape[0]
        notes.append(
            f"The recordings of {name!r} were cut into windows of {length:,} samples; what is left at an end is not used."
        )
    else:
        length, most = _one_length(lengths, name, alone, notes)
    one = partial(_example, length=length, most=most)
    found = stack(listing, one, "clips", several=config.shape is not None, alike=("rate",))
    header = {"depth": "PCM_16"} | found.header
    axes = "tc" if found.array.ndim == 3 else "t"
    return of_array(
        found.array,
        name,
        replace(config, shape=None),
        labels=found.raw_labels,
        notes=(*found.notes, *notes),
        source=ArraySource(axes, "audio", header, found.names, found.issues),
    )


def _lengths(entries: Iterable[Entry], name: str) -> list[tuple[int, int]]:
    """Return length and rate of each file that has them."""
    found, causes = list[tuple[int, int]](), list[str]()
    for entry in entries:
        try:
            about = _about(entry)
            found.append((int(about.frames), int(about.samplerate)))
        except Exception as error:  # soundfile raises anything on broken files
            causes.append(f"{entry.path!r} ({cause_of(error)})")
    if not found:
        more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
        raise ScorefieldError(
            f"got {name!r}, where no file can be read: {', '.join(causes[:3])}{more}, expected sounds: check them"
        )
    return found


def _one_length(lengths: list[tuple[int, int]], name: str, alone: bool, notes: list[str]) -> tuple[int, int]:
    """Return the length that clips are cut to, and the longest that is cut; refuse unlike clips, and a single recording."""
    sizes, rate = sorted(length for length, _ in lengths), lengths[0][1]
    middle = sizes[len(sizes) // 2]
    window = max(1, min(rate, middle // WINDOWS if alone else middle))
    cut = f"--set data.shape=[{window}] cuts {'it' if alone else 'each'} into windows of {window / rate:.3g} s"
    if alone:
        raise ScorefieldError(
            f"got one recording of {middle:,} samples at {rate:,} Hz in {name!r}, expected at least {LEAST} clips: {cut}"
        )
    near = [size for size in sizes if abs(size - middle) <= ALIKE * middle]
    if len(near) < MOST * len(sizes):
        raise ScorefieldError(
            f"got clips of {sizes[0]:,} to {sizes[-1]:,} samples at {rate:,} Hz in {name!r}, expected one length: {cut}, or "
            "cut them to one length"
        )
    if near[0] < near[-1]:
        notes.append(
            f"Clips of {near[0]:,} to {near[-1]:,} samples were cut to the shortest; data.shape=[{window}] cuts windows."
        )
    return near[0], near[-1]


def _about(entry: Entry) -> Any:
    """Return what the header of a file says, if the file is as long as it promises."""
    soundfile = require("soundfile", "audio", entry.path)
    with entry.open() as content:
        head = content.read(12)
    promised = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big") + 8
    if head[:4] in (b"RIFF", b"FORM") and promised < 2**32 - 2**16:  # a stream promises the most that there can be
        promises.check(promised, entry.size)
    try:
        about = soundfile.info(entry.place)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"no whole sound file: {error.error_string.rstrip('.')}") from None
    if about.frames < 1:
        raise ValueError("without a sound")
    promises.check(about.frames * about.channels * 4, promises.MOST_BYTES)
    return about


def _example(entry: Entry, length: int, most: int | None) -> Read:
    """Return the first samples of a clip of up to `most`, or where that is None all its windows; and its rate and depth."""
    soundfile = require("soundfile", "audio", entry.path)
    about = _about(entry)
    if most is None and about.frames < length:
        raise ValueError(f"of {about.frames:,} samples, shorter than a window")
    if most is not None and not length <= about.frames <= most:
        raise ValueError(f"of {about.frames:,} samples, most files have {length:,}")
    count = about.frames // length * length if most is None else length
    values, _ = soundfile.read(entry.place, count, dtype="float64" if about.subtype in FINE else "float32")
    if len(values) < count:
        raise ValueError(f"truncated: its header states {about.frames:,} samples, there are {len(values):,}")
    header = {"rate": int(about.samplerate), "depth": str(about.subtype)}
    return values.reshape(-1, length, *values.shape[1:]) if most is None else values, header


def write(path: str, sample: Array, layout: Layout) -> None:
    """Write a sample as a sound file.

    Args:
        path: of the file, .wav or .flac.
        sample: `layout.shape`, floats in [-1, 1].
        layout: of the data; those of other formats are written at 44,100 Hz as floats, or as 24 bits in .flac.

    Raises:
        ScorefieldError: soundfile is missing, or numbers that are no floats.
    """
    soundfile = require("soundfile", "audio", path)
    header = layout.header if layout.format == "audio" else {}
    if sample.dtype.kind != "f":
        found = f"got samples of type {sample.dtype} for {path!r}"
        raise ScorefieldError(f"{found}, expected floats in [-1, 1], as sounds are: write .npy")
    values = np.transpose(sample, [layout.axes.index(letter) for letter in "tc" if letter in layout.axes])
    kind = os.path.splitext(path)[1][1:].upper()
    depth = header.get("depth", "FLOAT")
    if not soundfile.check_format(kind, depth):
        depth = "PCM_24" if kind == "FLAC" else "PCM_16"
    if depth in BITS:  # the library would round down: half a step too low on average
        top = 2.0 ** (BITS[depth] - 1)
        values = np.rint(values.astype(np.float64) * top).clip(-top, top - 1).astype(np.int32) << (32 - BITS[depth])
    elif depth not in FLOATS:
        values = values.clip(-1.0, 1.0)
    soundfile.write(path, values, header.get("rate", RATE), subtype=depth, format=kind)
