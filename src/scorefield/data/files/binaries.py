"""Binaries: image sets that come as plain bytes, recognised by their first bytes or their exact length.

    idx          0 0 type axes, then a length for each axis, then the values, all big-endian: MNIST
    CIFAR-10     records of 3,073 bytes: a label, then 3 x 32 x 32
    CIFAR-100    records of 3,074 bytes: two labels, coarse and fine, then 3 x 32 x 32
    STL-10       3 x 96 x 96 bytes a record, each channel column by column; labels from 1 in a file beside it

Labels and their names lie in files beside the images. Where the files divide the examples into train and test, that division
is kept: what is called test is held out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import DataConfig, Dataset
from scorefield.data.files import promises
from scorefield.data.files.archives import Entry, Listing, cause_of
from scorefield.data.files.collection import listing_of
from scorefield.data.issues import DataIssue
from scorefield.data.labels import RawLabels
from scorefield.data.layout import Layout
from scorefield.data.spill import SpillBuffer
from scorefield.data.views import NUMBERS
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz", ".bin")
IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # types, by their number
RECORDS = {"CIFAR-10": (1, 3, 32, 32), "CIFAR-100": (2, 3, 32, 32), "STL-10": (0, 3, 96, 96)}  # labels, then a picture
CLASSES = {"CIFAR-10": (10,), "CIFAR-100": (20, 100), "STL-10": ()}  # more than any label
NAMES = {"CIFAR-10": "batches.meta.txt", "CIFAR-100": "fine_label_names.txt", "STL-10": "class_names.txt"}
TEST = re.compile(r"test|t10k|val", re.IGNORECASE)
PART = re.compile(r"train|test|t10k|val|unlabeled", re.IGNORECASE)


@dataclass(frozen=True)
class _Part:
    """The images of one file.

    Attributes:
        entry: of the file.
        family: idx, or a name of RECORDS.
        dtype: of its values.
        shape: `(n, ...)`.
        start: of the values in the file.
    """

    entry: Entry
    family: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def name(self) -> str:
        """Name of the file."""
        return os.path.basename(self.entry.path)


def read(source: str, config: DataConfig) -> Dataset:
    """Read the images of idx files, CIFAR or STL-10.

    Args:
        source: path of a file, or of a folder of those of one set.
        config: how it is read: `key` "coarse" takes the coarse labels of CIFAR-100, and else names the set of a folder.

    Returns:
        The data set: files in the order of their names, those called test last.

    Raises:
        ScorefieldError: no file that can be read, several sets, or what `of_array` refuses.
    """
    name, notes = os.path.basename(os.path.abspath(source)), list[str]()
    listing = listing_of(source, SUFFIXES)
    parts, issues = _of_one_set(_parts(listing), name, config.key)
    if issues:
        listed = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:5])
        notes.append(f"{len(issues)} file{' was' if len(issues) == 1 else 's were'} left out: {listed}.")
    parts.sort(key=lambda part: (bool(TEST.search(part.name)), part.entry.path))
    first = parts[0]
    labels = _labels(parts, source, config.key == "coarse", notes)
    held = sum(part.shape[0] for part in parts if TEST.search(part.name)) if len(parts) > 1 else 0
    if held:
        notes.append(f"The {held:,} examples of the test files are held out, as the files divide them.")
    buffer = SpillBuffer(sum(part.shape[0] for part in parts), first.shape[1:], np.dtype(first.dtype).newbyteorder("=").type)
    for part in parts:
        for piece in _pieces(part):
            buffer.extend(piece)
    axes = {3: "yx", 2: None}.get(len(first.shape)) if first.family == "idx" else "cyx"
    header = {"family": first.family}
    source_of = ArraySource(axes, "binaries", header, issues=tuple(issues), held_rows=held)
    array = np.asanyarray(buffer.finish())
    return of_array(array, name, replace(config, key=None), labels=labels, notes=notes, source=source_of)


def _parts(listing: Listing) -> tuple[list[_Part], list[DataIssue]]:
    """Return the files of images, and what cannot be read."""
    parts, issues = list[_Part](), list(listing.issues)
    for entry in listing.entries:
        try:
            part = _bin(entry) if entry.path.lower().endswith(".bin") else _idx(entry)
        except Exception as error:  # gzip raises anything on broken files
            issues.append(DataIssue(entry.path, cause_of(error)))
            continue
        if part is not None:
            parts.append(part)
    return parts, issues


def _idx(entry: Entry) -> _Part | None:
    """Return the images or rows of an idx file; None for one of labels."""
    with ExitStack() as closing:
        content = promises.opened(entry, closing)
        start = promises.read_exactly(content, 4)
        kind, axes = start[2], start[3]
        if start[:2] != b"\0\0" or kind not in IDX or axes == 0:
            raise ValueError("no idx file: it does not start with two zeros, a type and a number of axes")
        shape = tuple(np.frombuffer(promises.read_exactly(content, 4 * axes), ">u4").tolist())
    place = 4 + 4 * axes
    size = place + math.prod(shape) * np.dtype(IDX[kind]).itemsize
    promises.check(size, entry.size, packed=promises.is_packed(entry))
    if 0 in shape:
        raise ValueError(f"its header states a shape of {shape}")
    return _Part(entry, "idx", IDX[kind], shape, place) if axes > 1 else None


def _bin(entry: Entry) -> _Part | None:
    """Return the images of a .bin file, recognised by its length; None for one of labels."""
    if entry.path.lower().endswith("_y.bin"):
        return None
    for family, (labels, *shape) in RECORDS.items():
        count, rest = divmod(entry.size, labels + math.prod(shape))
        if not rest and all((_column(entry, family, i, count) < most).all() for i, most in enumerate(CLASSES[family])):
            return _Part(entry, family, "u1", (count, *shape))
    lengths = ", ".join(f"{labels + math.prod(shape):,} ({family})" for family, (labels, *shape) in RECORDS.items())
    raise ValueError(f"{entry.size:,} bytes long, which is no multiple of {lengths} with labels of that set")


def _column(entry: Entry, family: str, which: int, count: int) -> Array:
    """Return a column of labels of a .bin file."""
    labels, *shape = RECORDS[family]
    record = labels + math.prod(shape)
    assert entry.place, "files of a folder have a place"
    column: Array = np.memmap(entry.place, np.uint8, "r", shape=(count, record))[:, which]
    return column


def _of_one_set(found: tuple[list[_Part], list[DataIssue]], name: str, key: str | None) -> tuple[list[_Part], list[DataIssue]]:
    """Return the files of one set, and what was left out; refuse several sets, and nothing at all."""
    parts, issues = found
    if not parts:
        causes = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:3]) or "labels only"
        raise ScorefieldError(
            f"got {name!r} without a file of images: {causes}, expected one: give the file or folder of images"
        )
    if any("unlabeled" in part.name.lower() for part in parts) and len(parts) > 1 and key != "unlabeled":
        issues += [DataIssue(part.entry.path, "without labels; data.key=unlabeled reads it alone") for part in parts
                   if "unlabeled" in part.name.lower()]  # fmt: skip
        parts = [part for part in parts if "unlabeled" not in part.name.lower()]
    if key not in (None, "coarse"):
        fit = [part for part in parts if key in part.name]
        if not fit:
            names = ", ".join(part.name for part in parts)
            raise ScorefieldError(f"got data.key={key} for {name!r} with {names}, expected a part of these names: change it")
        parts = fit
    there = {part.entry.path for part in parts}
    twice = [part for part in parts if part.entry.path.endswith(".gz") and part.entry.path.removesuffix(".gz") in there]
    issues += [DataIssue(part.entry.path, "the same file lies unpacked beside it") for part in twice]
    parts = [part for part in parts if part not in twice]
    sets = {(_set_of(part), part.shape[1:], part.family): part for part in parts}
    kinds = {(part.shape[1:], part.family, part.dtype) for part in parts}
    several_idx = parts[0].family == "idx" and len({one[0] for one in sets}) > 1
    if len(kinds) > 1 or several_idx:
        names = ", ".join(sorted(part.name for part in sets.values()))
        first = min(parts, key=lambda part: bool(TEST.search(part.name)))
        raise ScorefieldError(f"got several sets of images in {name!r} ({names}), expected one: set data.key={first.name}")
    return parts, issues


def _set_of(part: _Part) -> str:
    """Return what the files of one set have in common in their names."""
    return re.sub(r"\d", "", PART.sub("*", part.name.removesuffix(".gz")))


def _pieces(part: _Part) -> Iterator[Array]:
    """Yield the images of a file, a piece at a time."""
    extra = RECORDS[part.family][0] if part.family in RECORDS else 0
    row = math.prod(part.shape[1:])
    dtype, step = np.dtype(part.dtype), max(1, NUMBERS // row)
    with ExitStack() as closing:
        content = promises.opened(part.entry, closing)
        promises.read_exactly(content, part.start)
        for first in range(0, part.shape[0], step):
            count = min(step, part.shape[0] - first)
            try:
                values = np.frombuffer(promises.read_exactly(content, count * (row + extra) * dtype.itemsize), dtype)
            except Exception as error:  # gzip raises anything on broken files
                cause = f"{part.name!r} ({cause_of(error)})"
                raise ScorefieldError(f"got {cause}, expected a whole file: download it again, or remove it") from error
            records = values.reshape(count, row + extra)[:, extra:].reshape(count, *part.shape[1:])
            yield records.transpose(0, 1, 3, 2) if part.family == "STL-10" else records


def _labels(parts: list[_Part], source: str, coarse: bool, notes: list[str]) -> RawLabels | None:
    """Return the labels of all files, with the names of their classes; None where a file has none."""
    folder = source if os.path.isdir(source) else os.path.dirname(os.path.abspath(source))
    found, family = list[Array](), parts[0].family
    for part in parts:
        one = _labels_of(part, coarse)
        if one is None or len(one) != part.shape[0]:
            given = (
                f"has {len(one):,} labels for {part.shape[0]:,} images"
                if one is not None
                else "has no file of labels beside it"
            )
            notes.append(f"{part.name!r} {given}: labels were left out.")
            return None
        found.append(one)
    if family == "CIFAR-100" and not coarse:
        notes.append("The fine labels of CIFAR-100 are the classes; data.key=coarse takes the coarse ones.")
    names = NAMES.get(family, "")
    names = "coarse_label_names.txt" if family == "CIFAR-100" and coarse else names
    titles: Array | None = None
    place = os.path.join(folder, names)
    if names and os.path.isfile(place) and os.path.getsize(place) < 2**16:
        with open(place, encoding="utf-8", errors="backslashreplace") as text:
            titles = np.array([line.strip() for line in text if line.strip()])
    numbers = np.concatenate(found)
    if titles is None and numbers.min() == 0:  # each is the number of a class, however many there are
        titles = np.array([str(number) for number in range(int(numbers.max()) + 1)])
    return RawLabels(numbers, titles)


def _labels_of(part: _Part, coarse: bool) -> Array | None:
    """Return the labels of a file, counting from 0; None without."""
    if part.family in ("CIFAR-10", "CIFAR-100"):
        return np.array(_column(part.entry, part.family, 1 if part.family == "CIFAR-100" and not coarse else 0, part.shape[0]))
    place = part.entry.place or ""
    folder, name = os.path.split(place)
    if part.family == "STL-10":
        beside = os.path.join(folder, re.sub(r"_X\.bin$", "_y.bin", name, flags=re.IGNORECASE))
        return np.fromfile(beside, np.uint8).astype(np.int64) - 1 if beside != place and os.path.isfile(beside) else None
    plain = re.sub(r"idx\d", "idx1", name.removesuffix(".gz").replace("images", "labels"))
    for beside in (os.path.join(folder, one) for one in (plain, plain + ".gz")):
        if beside != place and os.path.isfile(beside):
            return _idx_labels(beside)
    return None


def _idx_labels(place: str) -> Array | None:
    """Return the labels of an idx file; None where it cannot be read."""
    entry = next(iter(listing_of(place, SUFFIXES).entries))
    try:
        with ExitStack() as closing:
            content = promises.opened(entry, closing)
            start = promises.read_exactly(content, 8)
            count = int.from_bytes(start[4:], "big")
            if start[:2] != b"\0\0" or start[2] not in IDX or start[3] != 1:
                return None
            dtype = np.dtype(IDX[start[2]])
            promises.check(8 + count * dtype.itemsize, entry.size, packed=promises.is_packed(entry))
            return np.frombuffer(promises.read_exactly(content, count * dtype.itemsize), dtype).astype(np.int64)
    except Exception:  # gzip raises anything on broken files
        return None


def write(path: str, samples: Array, layout: Layout) -> None:
    """Write images of one channel as an idx file.

    Args:
        path: of the file.
        samples: `(n, *layout.shape)`.
        layout: of the data.

    Raises:
        ScorefieldError: several channels, or a type that idx does not have.
    """
    kinds = {np.dtype(name).newbyteorder("="): kind for kind, name in IDX.items()}
    values = samples.astype(np.uint8) if samples.dtype == np.bool_ else samples
    if values.dtype not in kinds or values.ndim != 3:
        raise ScorefieldError(
            f"got samples of shape {values.shape} and type {values.dtype} for {path!r}, expected (n, height, width) in a type "
            "that idx has: write .npy"
        )
    with open(path, "wb") as file:
        file.write(bytes([0, 0, kinds[values.dtype], values.ndim]) + np.array(values.shape, ">u4").tobytes())
        file.write(values.astype(IDX[kinds[values.dtype]]).tobytes())
