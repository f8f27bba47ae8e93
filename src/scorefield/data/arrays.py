"""Arrays: examples of numbers as vectors, images or signals.

What an array means is decided by its type and shape, never by its values alone:

    (n, d)                                        vectors, standardised column by column
    (n, h, w), (n, h, w, c), (n, c, h, w)         images with c = 1, 3 or 4 (transparent, put on white)
    (n, a, b), one of a, b over 4 times the other   signals: the short side is the channels, standardised channel by channel

`data.kind` overrules it: "signal" reads (n, length) and (n, channels, length) as they are, "vector" flattens any shape.
8-bit images range over 0..255. Float images must lie in [0, 1], [-1, 1] or [0, 255], the first that fits.
Vectors are float32, or stay float64 where float32 would lose more than 1% of a column's spread. An array with named fields is
a table.

A large array stays in its file: 8-bit images and float32 numbers are mapped as they lie, anything else is converted piece by
piece into a spill buffer, and every check walks through pieces, so that the memory taken does not grow with the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data import tables
from scorefield.data.base import DataConfig, Dataset, Examples, Kind, Normaliser, build, format_number
from scorefield.data.decode import fitted
from scorefield.data.labels import RawLabels
from scorefield.data.spill import AS_TENSOR, SpillBuffer
from scorefield.data.views import NUMBERS, ArrayView, release
from scorefield.errors import NotFinite, ScorefieldError

Array = NDArray[Any]
LARGEST = 3.4e38  # of a float32; its very end, 3.4028e38, stands for no data where maps are made
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
LONG = 4  # times the other side: what is longer is no picture


def of_array(
    array: Array, name: str, config: DataConfig, *, labels: RawLabels | None = None, notes: Sequence[str] = ()
) -> Dataset:
    """Read vectors, images or signals from an array.

    Args:
        array: the examples, first axis n; one that is mapped from a file may be larger than the memory.
        name: what messages call it.
        config: how it is read.
        labels: of the examples, with the names of their classes; those that do not fit are left out, and a note says so.
        notes: what was found before.

    Returns:
        The data set, in the order of the array.

    Raises:
        ScorefieldError: an unsupported shape or type, NaN or infinity, values outside every known range of images, or fewer
            than 8 examples.

    >>> of_array(np.arange(40.0).reshape(10, 4), "x", DataConfig()).shape
    (4,)
    """
    if array.dtype.names is not None:
        return tables.of_columns({field: array[field] for field in array.dtype.names}, config, name=name)
    notes = list(notes)
    kind = _kind(array, name, config.kind)
    numbers, classes = (labels or RawLabels()).numbered(len(array), notes)
    normaliser: Callable[[Tensor | ArrayView], Normaliser]
    if kind == "image":
        raw, fixed = _images(array, name, config, notes)
        normaliser = lambda train: fixed  # noqa: E731
    elif kind == "signal":
        raw, normaliser = _signals(array, name, config.kind), lambda train: Normaliser.standard(train, per_channel=True)
    else:
        raw, normaliser = _vectors(array, name, notes), Normaliser.standard
    if config.kind == "auto" and array.ndim == 3:
        shape = "x".join(str(size) for size in raw.shape[1:])
        notes.append(f"Read as {kind}s of shape {shape}, by the lengths of the axes; data.kind says otherwise.")
    return build(Examples(name, kind, raw, normaliser, labels=numbers, classes=classes, notes=tuple(notes)), config)


def _kind(array: Array, name: str, asked: str) -> Kind:
    """Return what an example is."""
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3, 4) or array.size == 0:
        expected = "expected numbers of shape (n, d), (n, h, w), (n, h, w, c) or (n, c, h, w): reshape or convert it"
        raise ScorefieldError(f"got an array of shape {array.shape} and type {array.dtype} in {name!r}, {expected}")
    if (asked, array.ndim) in (("image", 2), ("signal", 4)):
        expected = "(n, length) or (n, channels, length)" if asked == "signal" else "(n, h, w), (n, h, w, c) or (n, c, h, w)"
        raise ScorefieldError(f"got an array of shape {array.shape} in {name!r}, expected {asked}s, {expected}: reshape it")
    if asked in ("image", "signal"):
        return "image" if asked == "image" else "signal"
    if asked == "vector" or array.ndim == 2:
        return "vector"
    long = array.ndim == 3 and max(array.shape[1:]) > LONG * min(array.shape[1:])
    return "signal" if long else "image"


def _pieces(array: Array) -> Iterator[tuple[int, Array]]:
    """Return an array piece by piece, each with the number of its first row; pages of a file are released after use."""
    step = max(1, NUMBERS // math.prod(array.shape[1:]))
    for first in range(0, len(array), step):
        yield first, array[first : first + step]
        release(array)


def _range(array: Array, name: str) -> tuple[float, float]:
    """Return the ends of the values as float32; raises `NotFinite` with the place of the first one that is not finite."""
    count, place, least, most = 0, list[int](), math.inf, -math.inf
    for first, piece in _pieces(array):
        if piece.dtype.kind == "f":
            with np.errstate(over="ignore"):
                piece = piece.astype(np.float32)
            if (bad := ~(np.abs(piece) <= LARGEST)).any():
                row, *others = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
                count, place = count + int(bad.sum()), place or [first + row, *others]
                continue
        least, most = min(least, float(piece.min())), max(most, float(piece.max()))
    if count:
        found = f"got {count} NaN, infinite or too large values in {name!r}, the first at {place}"
        raise NotFinite(f"{found}, expected finite numbers of at most {LARGEST:g}: remove, fill or rescale them")
    return least, most


def _converted(array: Array, turn: Callable[[Array], Array], dtype: type[np.generic]) -> Tensor | Array:
    """Return turn(array): a large array of the right type, of which turn is a view, stays where it is."""
    first = turn(array[:1])
    size = len(array) * math.prod(first.shape[1:]) * np.dtype(dtype).itemsize
    if size > AS_TENSOR and array.dtype == dtype and array.flags.c_contiguous and np.shares_memory(first, array):
        return turn(array)
    buffer = SpillBuffer(len(array), first.shape[1:], dtype)
    with np.errstate(over="ignore"):
        for _, piece in _pieces(array):
            buffer.extend(turn(piece))
    return buffer.finish()


def _vectors(array: Array, name: str, notes: list[str]) -> Tensor | Array:
    """Return vectors as float32, or as float64 where that is too coarse, with a note on constant columns and on those."""
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    _range(array, name)
    low = high = array[0].reshape(-1).astype(np.float64)
    coarse = np.zeros_like(low)
    for _, piece in _pieces(array):
        exact = piece.reshape(len(piece), -1).astype(np.float64)
        low, high = np.minimum(low, exact.min(axis=0)), np.maximum(high, exact.max(axis=0))
        if not narrow:
            with np.errstate(over="ignore"):
                coarse = np.maximum(coarse, np.abs(exact.astype(np.float32) - exact).max(axis=0))
    if (constant := low == high).any():
        notes.append(f"Constant columns, which keep scale 1: {np.flatnonzero(constant).tolist()}.")
    suspect = np.flatnonzero(~constant & (coarse > 0.01 / math.sqrt(len(array)) * (high / 2 - low / 2)))
    spread = np.array(Normaliser.standard(_columns(array, suspect)).scale) if len(suspect) else np.zeros(0)
    if len(fine := suspect[coarse[suspect] > 0.01 * spread]):
        notes.append(f"Kept as float64: float32 would round these columns by over 1% of their spread: {fine.tolist()}.")
    return _converted(array, lambda piece: piece.reshape(len(piece), -1), np.float64 if len(fine) else np.float32)


def _columns(array: Array, which: NDArray[np.int64]) -> Tensor:
    """Return these columns of vectors, float64, of at most 4096 rows at even distances."""
    rows = np.arange(min(len(array), 4096)) * len(array) // min(len(array), 4096)
    return torch.from_numpy(array[rows].reshape(len(rows), -1)[:, which].astype(np.float64))


def _signals(array: Array, name: str, asked: str) -> Tensor | Array:
    """Return signals `(n, channels, length)` as float32."""
    _range(array, name)
    swapped = asked == "auto" and array.shape[1] > array.shape[2]

    def turn(piece: Array) -> Array:
        return piece[:, None] if piece.ndim == 2 else piece.transpose(0, 2, 1) if swapped else piece

    return _converted(array, turn, np.float32)


def _images(array: Array, name: str, config: DataConfig, notes: list[str]) -> tuple[Tensor | Array, Normaliser]:
    """Return images `(n, c, h, w)` and the map of their range to [-1, 1]."""
    (low, high), (least, most) = RANGES[-1], _range(array, name)
    floats = array.dtype.kind in "fb"
    if floats:
        fit = [(low, high) for low, high in RANGES if low <= least and most <= high]
        if not fit or (fit[0][1] == 255 and most < 2):  # a hair above 1 is a rounding, not a picture of 255 greys
            expected = "expected images in [0, 1], [-1, 1] or [0, 255]: rescale them"
            got = f"got values from {format_number(least)} to {format_number(most)} in {name!r}"
            raise ScorefieldError(f"{got}, {expected}, or set data.kind=signal")
        low, high = fit[0]
    elif least < 0 or most > 255:
        found = f"got values from {least:.0f} to {most:.0f} in {name!r}"
        raise ScorefieldError(f"{found}, expected images in [0, 255]: rescale them, or set data.kind=signal")
    elif most <= 1:
        notes.append("All values are 0 or 1 of 255: multiply by 255 if these are black-and-white images.")
    first, last = array.shape[1] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if array.ndim == 4 and not first and not last:
        found = f"got images of shape {array.shape} in {name!r}"
        raise ScorefieldError(f"{found}, expected 1, 3 or 4 channels on the second or the last axis: choose some")
    if array.ndim == 4 and first and last:
        notes.append(f"The shape {array.shape} could have its channels first or last: they were read as last.")
    transparent = array.ndim == 4 and array.shape[-1 if last else 1] == 4
    if transparent:
        notes.append("The fourth channel was read as opacity, and the images were put on white.")
    dtype = np.float32 if floats else np.uint8

    def turn(piece: Array) -> Array:
        planes = piece[:, None] if piece.ndim == 3 else piece.transpose(0, 3, 1, 2) if last else piece
        planes = planes.astype(dtype, copy=False)
        if transparent:
            alpha = (planes[:, 3:] - low) / (high - low)
            flat = planes[:, :3] * alpha + high * (1 - alpha)
            planes = (flat if floats else flat.round()).astype(dtype)
        if config.size is not None:
            planes = np.stack([fitted(image, config.size, config.fit) for image in planes]).clip(low, high).astype(dtype)
        return planes

    return _converted(array, turn, dtype), Normaliser.between(low, high)
