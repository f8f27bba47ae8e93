"""Arrays: examples of numbers as vectors, signals, images or volumes.

    `kinds.py`     what an example is, from the type, the shape and what is said of the axes
    `scan.py`      what the numbers are
    `ranges.py`    how those of images and volumes are mapped; signals and vectors are standardised, by channel or by column
    `layout.py`    how a sample goes back: the same axes, type and units

Raw values are uint8 for 8-bit images, else float32, or float64 where float32 would lose more than 1% of the spread. An array
with named fields is a table.

A large array stays in its file: 8-bit images and float32 numbers are mapped as they lie, anything else is converted piece by
piece into a spill buffer, and every check walks through pieces, so that the memory taken does not grow with the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.base import LEAST, DataConfig, DataIssue, Dataset, Examples, Kind, Layout, Normaliser, build
from scorefield.data.image.decode import fitted
from scorefield.data.kinds import examples_axis, meaning_of
from scorefield.data.labels import RawLabels
from scorefield.data.ranges import Fit, legal_values, range_of
from scorefield.data.scan import Scan, pieces_of, scan
from scorefield.data.spill import AS_TENSOR, SpillBuffer
from scorefield.data.table import tables
from scorefield.data.views import NUMBERS
from scorefield.errors import NotFinite, ScorefieldError

Array = NDArray[Any]
LOST = 0.01  # of the spread of a column: what float32 may round
FINE = 1e-4  # of the range of images, signals and volumes: what float32 may round


@dataclass(frozen=True)
class ArraySource:
    """What a format knows of an array beyond its numbers.

    Attributes:
        axes: letters of the axes of one example, in order; None if they are not known.
        format: registered name of the format, which writes samples back; "" for arrays.
        header: what of the file still holds for a sample, as JSON values.
        names: of the examples, if they have any.
        issues: what was left out.
        missing: what stood for an unknown cell in a source of whole numbers; the array then has NaN.
        dtype: numpy's name of the type of the source, where the array was converted.
        held_rows: how many of the last examples the source itself holds out.
    """

    axes: str | None = None
    format: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()
    issues: tuple[DataIssue, ...] = ()
    missing: float | None = None
    dtype: str | None = None
    held_rows: int = 0


def of_array(
    array: Any,
    name: str,
    config: DataConfig,
    *,
    labels: RawLabels | None = None,
    notes: Sequence[str] = (),
    source: ArraySource = ArraySource(),
) -> Dataset:
    """Read vectors, signals, images or volumes from an array.

    Args:
        array: the examples, first axis n, NaN where a cell is unknown. One that is mapped from a file may be larger than the
            memory; anything with a shape, a dtype and slices of the first axis, such as a data set of HDF5, is read once, in
            order.
        name: what messages call it.
        config: how it is read.
        labels: of the examples, with the names of their classes; those that do not fit are left out, and a note says so.
        notes: what was found before.
        source: what the format knows besides.

    Returns:
        The data set, in the order of the array.

    Raises:
        ScorefieldError: an unsupported shape or type, two things that an example could be, values outside the declared range,
            or fewer than 8 examples.
        NotFinite: infinite values, or NaN alone.

    >>> of_array(np.arange(40.0).reshape(10, 4), "x", DataConfig()).shape
    (4,)
    """
    if array.dtype.names is not None:
        return tables.of_columns({field: array[field] for field in array.dtype.names}, config, name=name)
    notes = list(notes)
    axis, config = examples_axis(config, len(array.shape))
    if not array.shape:
        raise ScorefieldError(
            f"got one number in {name!r}, expected numbers of shape (n, d), or images, signals: give an array"
        )
    array = np.moveaxis(np.asarray(array[:]), axis, 0) if axis else array
    array = _folded(array, name, config)
    if array.shape[0] < LEAST <= max(array.shape[1:], default=0) and len(array.shape) == 2 and config.axes is None and not axis:
        raise ScorefieldError(
            f"got {array.shape[0]} examples in {name!r}, of shape {tuple(array.shape)}, expected at least {LEAST}: add more "
            "data; if they lie along the last axis, turn the array, or say so by an n in data.axes, such as tn for signals"
        )
    kind, axes, guessed = meaning_of(tuple(array.shape), array.dtype, name, config, source.axes)
    notes += guessed
    array = array if isinstance(array, np.ndarray) else _copied(array)
    numbers, classes = (labels or RawLabels()).numbered(len(array), notes)
    dtype = np.dtype(source.dtype) if source.dtype else array.dtype.newbyteorder("=")
    layout = Layout(axes, dtype.name, tuple(array.shape[1:]), (), source.missing, source.format, dict(source.header))
    parts = np.ascontiguousarray(array).view(array.real.dtype) if array.dtype.kind == "c" else array
    found = scan(parts, name)
    if not found.cells:
        raise NotFinite(f"got {name!r} with NaN alone, expected numbers among them: check how it was written")
    fit: Fit
    if kind in ("image", "volume"):
        layout = replace(layout, legal=legal_values(found, dtype))
        fit = range_of(found, dtype, layout.legal, name, config, notes)
    elif kind == "signal":
        fit = lambda train: Normaliser.standard(train, per_channel=True)  # noqa: E731
    else:
        fit = Normaliser.standard
    raw, layout = _converted(array, layout, config, _raw_type(kind, parts, found, notes), (found.low, found.high))
    examples = Examples(
        name,
        kind,
        raw,
        fit,
        labels=numbers,
        classes=classes,
        notes=tuple(notes),
        issues=source.issues,
        names=source.names,
        layout=layout,
        held_rows=source.held_rows,
    )
    return build(examples, config)


def _folded(array: Any, name: str, config: DataConfig) -> Any:
    """Return rows in the shape that `data.shape` gives an example."""
    if config.shape is None or tuple(array.shape[1:]) == config.shape:
        return array
    if math.prod(array.shape[1:]) != math.prod(config.shape):
        raise ScorefieldError(
            f"got data.shape={list(config.shape)} for {name!r}, whose examples have the shape {tuple(array.shape[1:])}, "
            f"expected {math.prod(array.shape[1:]):,} numbers in all: change it"
        )
    return np.asarray(array[:]).reshape(len(array), *config.shape)


def _copied(array: Any) -> Array:
    """Return an array that is read in slices, such as a data set of HDF5, as one of numpy: read once, in order."""
    row, dtype = math.prod(array.shape[1:]), np.dtype(array.dtype).newbyteorder("=")
    buffer, step = SpillBuffer(array.shape[0], tuple(array.shape[1:]), dtype.type), max(1, NUMBERS // row)
    chunks = getattr(array, "chunks", None)
    if chunks and chunks[0]:
        step = max(1, step // chunks[0]) * chunks[0]  # no chunk is unpacked twice
    for first in range(0, array.shape[0], step):
        buffer.extend(np.asarray(array[first : first + step]))
    return np.asanyarray(buffer.finish())


def _raw_type(kind: Kind, array: Array, found: Scan, notes: list[str]) -> type[np.generic]:
    """Return the type of raw values: uint8 of 8-bit pictures, else float32, or float64 where that is too coarse."""
    if kind == "vector":
        return np.float64 if _need_float64(array, notes) else np.float32
    if kind in ("image", "volume") and array.dtype.kind in "iub" and found.low >= 0 and found.high <= 255:
        return np.uint8
    return np.float64 if found.coarse > FINE * (found.high - found.low) else np.float32


def _need_float64(array: Array, notes: list[str]) -> bool:
    """Return whether float32 is too coarse for a column of vectors; a note says of which, and which columns are constant."""
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    low = high = array[0].reshape(-1).astype(np.float64)
    coarse = np.zeros_like(low)
    for _, piece in pieces_of(array):
        exact = piece.reshape(len(piece), -1).astype(np.float64)
        low, high = np.fmin(low, np.fmin.reduce(exact)), np.fmax(high, np.fmax.reduce(exact))
        if not narrow:
            with np.errstate(over="ignore"):
                coarse = np.fmax(coarse, np.fmax.reduce(np.abs(exact.astype(np.float32) - exact)))
    if (constant := low == high).any():
        notes.append(f"Constant columns, which come back as they are: {np.flatnonzero(constant).tolist()}.")
    suspect = np.flatnonzero((coarse > LOST / math.sqrt(len(array)) * (high / 2 - low / 2)) & (coarse > 0))
    spread = np.array(Normaliser.standard(_columns(array, suspect)).scale) if len(suspect) else np.zeros(0)
    fine = suspect[(coarse[suspect] > LOST * spread) | constant[suspect]]
    if len(changing := fine[~constant[fine]]):
        notes.append(f"Kept as float64: float32 would round these columns by over 1% of their spread: {changing.tolist()}.")
    return len(fine) > 0


def _columns(array: Array, which: NDArray[np.int64]) -> Tensor:
    """Return these columns of vectors, float64, of at most 4096 rows at even distances."""
    rows = np.arange(min(len(array), 4096)) * len(array) // min(len(array), 4096)
    return torch.from_numpy(array[rows].reshape(len(rows), -1)[:, which].astype(np.float64))


def _converted(
    array: Array, layout: Layout, config: DataConfig, dtype: type[np.generic], ends: tuple[float, float]
) -> tuple[Tensor | Array, Layout]:
    """Return raw examples and their layout: a large array of the right type, of which they are a view, stays where it is.

    Args:
        array: the examples as the source has them.
        layout: theirs.
        config: gives the size of images.
        dtype: of raw values.
        ends: smallest and largest value: images that are resized by Lanczos stay inside.
    """
    first = layout.to_raw(array[:1])
    wanted = (config.size, config.size) if isinstance(config.size, int) else config.size
    if wanted is None or first.ndim != 4 or first.shape[2:] == wanted:
        size = len(array) * math.prod(first.shape[1:]) * np.dtype(dtype).itemsize
        here = array.dtype == dtype and array.flags.c_contiguous and np.shares_memory(first, array)
        if size > AS_TENSOR and here:
            return layout.to_raw(array), layout
        buffer = SpillBuffer(len(array), first.shape[1:], dtype)
        with np.errstate(over="ignore"):
            for _, piece in pieces_of(array):
                buffer.extend(layout.to_raw(piece))
        return buffer.finish(), layout
    if layout.legal:
        raise ScorefieldError(
            "got data.size for masks or a label map, whose values cannot be averaged, expected them at their own size: resize "
            "them by their nearest neighbours first"
        )
    buffer = SpillBuffer(len(array), (first.shape[1], *wanted), dtype)
    for _, piece in pieces_of(array):
        planes = layout.to_raw(piece).astype(dtype if dtype is np.uint8 else np.float32)
        buffer.extend(np.stack([fitted(image, wanted, config.fit) for image in planes]).clip(*ends))
    return buffer.finish(), layout.resized(wanted)
