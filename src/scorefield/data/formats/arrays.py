"""Arrays: a .npy file, or the arrays of a .npz file, as vectors, images or signals.

What an array means is read off its type and shape, never guessed from its values alone:

    (n, d)                                        vectors, standardised column by column
    (n, h, w), (n, h, w, c), (n, c, h, w)         images with c = 1, 3 or 4 (transparent, put on white)
    (n, a, b), one of a, b over 4 times the other   signals: the short side is the channels, standardised channel by channel

`data.kind` says it instead: "signal" reads (n, length) and (n, channels, length) as they are, "vector" lays any shape out flat.
8-bit images range over 0..255. Float images must lie in [0, 1], [-1, 1] or [0, 255], the first that fits. Nothing is unpickled.
Vectors are float32, or stay float64 where float32 would lose more than 1% of a column's spread. An array with named fields is
a table.

A large array stays in its file: 8-bit images and float32 numbers are mapped as they lie, anything else is converted piece by
piece into a store, and every check walks through pieces, so that the memory taken does not grow with the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.base import NUMBERS, ArrayView, DataConfig, DataIssue, Dataset, Kind, Normaliser, build, release, shown
from scorefield.data.formats import tables
from scorefield.data.formats.images import fitted
from scorefield.data.spill import AS_TENSOR, IN_MEMORY, SpillBuffer
from scorefield.errors import NotFinite, ScorefieldError

Array = NDArray[Any]
KEYS = ("images", "image", "x", "X", "data", "train")
LABELS = ("labels", "label", "y", "Y", "targets", "target")
LARGEST = 3.4e38  # of a float32; its very end, 3.4028e38, stands for no data where maps are made
MOST_BYTES = 8 * 2**30
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
LONG = 4  # times the other side: what is longer is no picture


def read(file: str, config: DataConfig) -> Dataset:
    """Read vectors, images or signals from a .npy or .npz file.

    Args:
        file: path of the file; a .npz may hold `labels` (or label, y, targets, target: whole numbers, texts or one-hot rows)
            and their names, `classes`.
        config: how it is read.

    Returns:
        The data set, in the order of the file.

    Raises:
        ScorefieldError: a broken file, Python objects, more than 8 GiB unpacked, an unclear choice of array, an unsupported
            shape or type, NaN or infinity, values outside every known range of images, or fewer than 8 examples.
    """
    name = os.path.basename(file)
    try:
        notes = list[str]()
        array, targets, titles = _load(file, name, notes)
    except ScorefieldError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise anything on broken files
        expected = "expected a whole .npy or .npz file of plain numbers, without Python objects: save it again with numpy.save"
        raise ScorefieldError(f"got {name!r}, which cannot be read ({cause}), {expected}") from cause
    return of_array(array, name, config, targets=targets, titles=titles, notes=notes)


def of_array(
    array: Array,
    name: str,
    config: DataConfig,
    *,
    targets: Array | None = None,
    titles: Array | None = None,
    titles_optional: bool = False,
    notes: Sequence[str] = (),
    issues: tuple[DataIssue, ...] = (),
) -> Dataset:
    """Read vectors, images or signals from an array.

    Args:
        array: the examples, first axis n; one that is mapped from a file may be larger than the memory.
        name: what messages call it.
        config: how it is read.
        targets: labels `(n,)` or `(n, 1)`, whole numbers, texts or bytes, or one-hot rows `(n, classes)`, or None.
        titles: names of labels that count from 0, or None.
        titles_optional: whether names that do not fit are no surprise.
        notes, problems: what was found before.

    Raises:
        ScorefieldError: as `read`.
    """
    if array.dtype.names is not None:
        return tables.of_columns({field: array[field] for field in array.dtype.names}, config, name=name)
    notes = list(notes)
    kind = _kind(array, name, config.kind)
    titles = titles if not titles_optional or _are_titles(targets, titles) else None
    labels, classes = _labels(targets, titles, len(array), notes)
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
    return build(
        name, kind, raw, config, normaliser=normaliser, labels=labels, classes=classes, notes=tuple(notes), issues=issues
    )


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


def _load(file: str, name: str, notes: list[str]) -> tuple[Array, Array | None, Array | None]:
    """Return the data, and the labels and class names if there are any; a note says what may have been meant as labels."""
    loaded = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(loaded, NpzFile):
        return loaded, None, None
    with loaded:
        size = sum(member.file_size for member in loaded.zip.infolist()) if loaded.zip else 0
        if size > MOST_BYTES:
            raise ScorefieldError(f"got {size / 2**30:.0f} GiB in {name!r}, expected at most 8 GiB unpacked: use a .npy file")
        key = next((key for key in KEYS if key in loaded.files), None) or _only(loaded, name)
        label = next((other for other in LABELS if other in loaded.files and other != key), None)
        titles = loaded["classes"] if "classes" in loaded.files else None
        array = _unpack(loaded, key)
        others = [other for other in loaded.files if other not in (key, label, "classes")]
        if len(array) and (meant := [other for other in others if _like_labels(loaded, other, len(array))]):
            why = f"{label!r} holds the labels" if label else f"call it {LABELS[0]!r} if it holds labels"
            notes.append(f"Left out of {name!r}: {', '.join(map(repr, meant))}, {len(array)} whole numbers or texts; {why}.")
        return array, loaded[label] if label else None, titles


def _like_labels(loaded: NpzFile, key: str, n: int) -> bool:
    """Whether an array of an archive has the shape and type of labels of n examples."""
    stream, shape, _, dtype = _open(loaded, key)
    stream.close()
    return shape in ((n,), (n, 1)) and dtype.kind in "iubUS"


def _open(loaded: NpzFile, key: str) -> tuple[Any, tuple[int, ...], bool, np.dtype[Any]]:
    """Return the stream of an array behind its header, its shape, whether columns come first, and its type."""
    archive: Any = loaded.zip
    member = f"{key}.npy" if f"{key}.npy" in archive.namelist() else key
    stream = archive.open(member)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = header(stream)
    claimed, there = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or claimed > there:
        raise ValueError(f"its header claims {claimed} bytes where there are {there}")
    return stream, shape, by_columns, dtype


def _unpack(loaded: NpzFile, key: str) -> Array:
    """Return an array of an archive, piece by piece into a file if it is large."""
    stream, shape, by_columns, dtype = _open(loaded, key)
    with stream:
        if math.prod(shape) * dtype.itemsize <= IN_MEMORY or by_columns or dtype.kind not in "fiub" or dtype.itemsize > 8:
            return loaded[key]
        native, row = dtype.newbyteorder("="), math.prod(shape[1:])
        store, step = SpillBuffer(shape[0], shape[1:], native.type), max(1, NUMBERS // row)
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            values = np.frombuffer(stream.read(count * row * dtype.itemsize), dtype)
            store.extend(values.reshape(count, *shape[1:]).astype(native))
        return np.asanyarray(store.finish())


def _only(loaded: NpzFile, name: str) -> str:
    """Return the key of the only array that can be data."""
    found = {}
    for key in loaded.files:
        stream, shape, _, dtype = _open(loaded, key)
        stream.close()
        found[key] = shape, dtype
    fit = [key for key, (shape, dtype) in found.items() if len(shape) >= 2 and (dtype.kind == "f" or dtype == np.uint8)]
    if len(fit) != 1:
        have = ", ".join(f"{key} {shape} {dtype}" for key, (shape, dtype) in found.items()) or "nothing"
        raise ScorefieldError(f"got {name!r} with {have}, expected one array of data: call it 'images' or 'x'")
    return fit[0]


def _labels(
    targets: Array | None, titles: Array | None, n: int, notes: list[str]
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Return labels 0, 1, 2... and a name for each, or say in a note why there are none."""
    if targets is None:
        return None, ()
    given, names = targets, None
    if targets.ndim == 2 and targets.shape[1] > 1 and is_one_hot(targets):
        targets, names = targets.argmax(axis=1), [str(i) for i in range(targets.shape[1])]
    if targets.dtype.kind == "S":
        targets = np.char.decode(targets, "utf-8", "backslashreplace")
    whole = targets.dtype.kind in "iubU"
    if targets.dtype.kind == "f":
        whole = bool((np.isfinite(targets) & (np.trunc(targets) == targets)).all())
    if targets.shape not in ((n,), (n, 1)) or not whole:
        wanted = f"{n} whole numbers, texts or one-hot rows"
        notes.append(f"Labels of shape {given.shape} and type {given.dtype} were left out: they are not {wanted}.")
        return None, ()
    targets = targets.reshape(-1).astype(np.int64 if targets.dtype.kind in "fb" else targets.dtype)
    values, places = np.unique(targets, return_inverse=True)
    if titles is not None:
        if titles.dtype.kind == "S":
            titles = np.char.decode(titles, "utf-8", "backslashreplace")
        if _are_titles(targets, titles):
            return torch.from_numpy(targets.astype(np.int64)), tuple(str(title) for title in titles)
        notes.append("The class names were left out: the labels do not count them from 0.")
    if names is not None:
        return torch.from_numpy(targets), tuple(names)
    return torch.from_numpy(places.astype(np.int64)), tuple(str(value) for value in values)


def _are_titles(targets: Array | None, titles: Array | None) -> bool:
    """Whether labels count these names from 0."""
    if targets is None or titles is None or titles.ndim != 1 or targets.size == 0 or targets.dtype.kind not in "iubf":
        return False
    if targets.ndim == 2 and targets.shape[1] > 1:
        return bool(len(titles) == targets.shape[1])
    return bool(targets.min() >= 0 and targets.max() < len(titles))


def is_one_hot(rows: Array) -> bool:
    """Whether each of some rows `(n, k)` is 1 in one place and 0 in all others.

    >>> is_one_hot(np.eye(3)), is_one_hot(np.ones((2, 2)))
    (True, False)
    """
    if rows.dtype.kind not in "fiub" or rows.shape[1] < 2:
        return False
    return bool(((rows == 0) | (rows == 1)).all() and (rows.astype(bool).sum(axis=1) == 1).all())


def _walk(array: Array) -> Iterator[tuple[int, Array]]:
    """Return an array piece by piece, each with the number of its first row; pages of a file are let go behind."""
    step = max(1, NUMBERS // math.prod(array.shape[1:]))
    for first in range(0, len(array), step):
        yield first, array[first : first + step]
        release(array)


def _range(array: Array, name: str) -> tuple[float, float]:
    """Return the ends of the values as float32; raises `NotFinite` with the place of the first one that is not finite."""
    count, place, least, most = 0, list[int](), math.inf, -math.inf
    for first, piece in _walk(array):
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


def _taken(array: Array, turn: Callable[[Array], Array], dtype: type[np.generic]) -> Tensor | Array:
    """Return turn(array): a large array of the right type, of which turn is a view, stays where it is."""
    first = turn(array[:1])
    size = len(array) * math.prod(first.shape[1:]) * np.dtype(dtype).itemsize
    if size > AS_TENSOR and array.dtype == dtype and array.flags.c_contiguous and np.shares_memory(first, array):
        return turn(array)
    store = SpillBuffer(len(array), first.shape[1:], dtype)
    with np.errstate(over="ignore"):
        for _, piece in _walk(array):
            store.extend(turn(piece))
    return store.finish()


def _vectors(array: Array, name: str, notes: list[str]) -> Tensor | Array:
    """Return vectors as float32, or as float64 where that is too coarse, with a note on constant columns and on those."""
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    _range(array, name)
    low = high = array[0].reshape(-1).astype(np.float64)
    coarse = np.zeros_like(low)
    for _, piece in _walk(array):
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
    return _taken(array, lambda piece: piece.reshape(len(piece), -1), np.float64 if len(fine) else np.float32)


def _columns(array: Array, which: NDArray[np.int64]) -> Tensor:
    """Return some columns of vectors, float64, of at most some thousand rows at even distances."""
    rows = np.arange(min(len(array), 4096)) * len(array) // min(len(array), 4096)
    return torch.from_numpy(array[rows].reshape(len(rows), -1)[:, which].astype(np.float64))


def _signals(array: Array, name: str, asked: str) -> Tensor | Array:
    """Return signals `(n, channels, length)` as float32."""
    _range(array, name)
    swapped = asked == "auto" and array.shape[1] > array.shape[2]

    def turn(piece: Array) -> Array:
        return piece[:, None] if piece.ndim == 2 else piece.transpose(0, 2, 1) if swapped else piece

    return _taken(array, turn, np.float32)


def _images(array: Array, name: str, config: DataConfig, notes: list[str]) -> tuple[Tensor | Array, Normaliser]:
    """Return images `(n, c, h, w)` and the map of their range to [-1, 1]."""
    (low, high), (least, most) = RANGES[-1], _range(array, name)
    floats = array.dtype.kind in "fb"
    if floats:
        fit = [(low, high) for low, high in RANGES if low <= least and most <= high]
        if not fit or (fit[0][1] == 255 and most < 2):  # a hair above 1 is a rounding, not a picture of 255 greys
            expected = "expected images in [0, 1], [-1, 1] or [0, 255]: rescale them"
            raise ScorefieldError(
                f"got values from {shown(least)} to {shown(most)} in {name!r}, {expected}, or set data.kind=signal"
            )
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

    return _taken(array, turn, dtype), Normaliser.between(low, high)
