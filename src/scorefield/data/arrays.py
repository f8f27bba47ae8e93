"""Arrays: a .npy file, or the arrays of a .npz file, as vectors or images.

What an array means is read off its type and shape, never guessed from its values alone:

    (n, d)                                        vectors, standardised column by column
    (n, h, w), (n, h, w, c), (n, c, h, w)         images with c = 1, 3 or 4 (transparent, put on white)

8-bit images range over 0..255. Float images must lie in [0, 1], [-1, 1] or [0, 255], the first that fits. Nothing is unpickled.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from scorefield.data.base import Affine, DataConfig, Dataset, build
from scorefield.data.images import square
from scorefield.errors import NotFinite, ScorefieldError

Array = NDArray[Any]
KEYS = ("images", "x", "X", "data", "train")
MOST_BYTES = 8 * 2**30
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def read(file: str, config: DataConfig) -> Dataset:
    """Read vectors or images from a .npy or .npz file.

    Args:
        file: path of the file; a .npz may hold integer `labels` (or `y`) and names, `classes`.
        config: how it is read.

    Returns:
        The data set, in the order of the file.

    Raises:
        ScorefieldError: a broken file, Python objects, more than 8 GiB unpacked, an unclear choice of array, an unsupported
            shape or type, NaN or infinity, values outside every known range of images, or fewer than 8 examples.
    """
    name = os.path.basename(file)
    try:
        array, targets, titles = _load(file, name)
    except ScorefieldError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise anything on broken files
        expected = "expected a whole .npy or .npz file of plain numbers, without Python objects: save it again with numpy.save"
        raise ScorefieldError(f"got {name!r}, which cannot be read ({cause}), {expected}") from cause
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3, 4) or array.size == 0:
        expected = "expected numbers of shape (n, d), (n, h, w), (n, h, w, c) or (n, c, h, w): reshape or convert it"
        raise ScorefieldError(f"got an array of shape {array.shape} and type {array.dtype} in {name!r}, {expected}")
    notes: list[str] = []
    labels, classes = _labels(targets, titles, len(array), notes)
    if array.ndim == 2:
        raw, affine = _vectors(array, name, notes), None
    else:
        raw, affine = _images(array, name, config, notes)
    return build(
        name,
        "vector" if affine is None else "image",
        torch.from_numpy(raw),
        config,
        affine=lambda train: affine or Affine.standard(train),
        labels=labels,
        classes=classes,
        notes=tuple(notes),
    )


def _load(file: str, name: str) -> tuple[Array, Array | None, Array | None]:
    """Return the data, and the labels and class names if there are any."""
    loaded = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(loaded, NpzFile):
        return loaded, None, None
    with loaded:
        size = sum(member.file_size for member in loaded.zip.infolist()) if loaded.zip else 0
        if size > MOST_BYTES:
            raise ScorefieldError(f"got {size / 2**30:.0f} GiB in {name!r}, expected at most 8 GiB unpacked: use a .npy file")
        key = next((key for key in KEYS if key in loaded.files), None) or _only(loaded, name)
        label = next((key for key in ("labels", "y") if key in loaded.files), None)
        titles = loaded["classes"] if "classes" in loaded.files else None
        return loaded[key], loaded[label] if label else None, titles


def _only(loaded: NpzFile, name: str) -> str:
    """Return the key of the only array that can be data."""
    found = {key: loaded[key] for key in loaded.files}
    fit = [key for key, array in found.items() if array.ndim >= 2 and (array.dtype.kind == "f" or array.dtype == np.uint8)]
    if len(fit) != 1:
        have = ", ".join(f"{key} {array.shape} {array.dtype}" for key, array in found.items()) or "nothing"
        raise ScorefieldError(f"got {name!r} with {have}, expected one array of data: call it 'images' or 'x'")
    return fit[0]


def _labels(
    targets: Array | None, titles: Array | None, n: int, notes: list[str]
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Return labels 0, 1, 2... and a name for each, or say in a note why there are none."""
    if targets is None:
        return None, ()
    whole = targets.dtype.kind in "iubU"
    if targets.dtype.kind == "f":
        whole = bool((np.isfinite(targets) & (np.trunc(targets) == targets)).all())
    if targets.shape not in ((n,), (n, 1)) or not whole:
        notes.append(f"Labels of shape {targets.shape} and type {targets.dtype} were left out: they are not {n} whole numbers.")
        return None, ()
    targets = targets.reshape(-1).astype(np.int64 if targets.dtype.kind in "fb" else targets.dtype)
    values, places = np.unique(targets, return_inverse=True)
    if titles is not None:
        if titles.ndim == 1 and targets.dtype.kind != "U" and 0 <= values[0] and values[-1] < len(titles):
            return torch.from_numpy(targets.astype(np.int64)), tuple(str(title) for title in titles)
        notes.append("The class names were left out: the labels do not count them from 0.")
    return torch.from_numpy(places.astype(np.int64)), tuple(str(value) for value in values)


def _floats(array: Array, name: str) -> NDArray[np.float32]:
    """Return a float32 copy; raises `NotFinite` with the place of the first value that is not a finite float32."""
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        place = [int(i) for i in np.unravel_index(bad.argmax(), bad.shape)]
        found = f"got {int(bad.sum())} NaN, infinite or too large values in {name!r}, the first at {place}"
        raise NotFinite(f"{found}, expected finite float32 numbers: remove or fill them")
    return values


def _vectors(array: Array, name: str, notes: list[str]) -> NDArray[np.float32]:
    """Return vectors as float32, with a note on constant columns and on those that float32 is too coarse for."""
    values = _floats(array, name)
    constant = values.min(axis=0) == values.max(axis=0)
    if constant.any():
        notes.append(f"Constant columns, which keep scale 1: {np.flatnonzero(constant).tolist()}.")
    coarse = np.abs(values - array.astype(np.float64)).max(axis=0) > 0.01 * array.std(axis=0, dtype=np.float64)
    coarse &= array.max(axis=0) > array.min(axis=0)
    if coarse.any():
        columns = np.flatnonzero(coarse).tolist()
        notes.append(f"float32 rounds these columns by over 1% of their spread: {columns}; subtract their mean first.")
    return values


def _images(array: Array, name: str, config: DataConfig, notes: list[str]) -> tuple[Array, Affine]:
    """Return images `(n, c, h, w)` and the map of their range to [-1, 1]."""
    low, high = RANGES[-1]
    if array.dtype.kind in "fb":
        array = _floats(array, name)
        least, most = float(array.min()), float(array.max())
        fit = [(low, high) for low, high in RANGES if low <= least and most <= high]
        if not fit or (fit[0][1] == 255 and most < 2):  # a hair above 1 is a rounding, not a picture of 255 greys
            expected = "expected images in [0, 1], [-1, 1] or [0, 255]: rescale them"
            raise ScorefieldError(f"got values from {least:.6g} to {most:.6g} in {name!r}, {expected}")
        low, high = fit[0]
    elif array.dtype != np.uint8 and (array.min() < 0 or array.max() > 255):
        found = f"got values from {array.min()} to {array.max()} in {name!r}"
        raise ScorefieldError(f"{found}, expected images in [0, 255]: rescale them")
    else:
        array = array.astype(np.uint8)
        if array.max() <= 1:
            notes.append("All values are 0 or 1 of 255: multiply by 255 if these are black-and-white images.")
    first, last = array.shape[1] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if array.ndim == 3:
        array = array[:, None]
    elif last:
        if first:
            notes.append(f"The shape {array.shape} could have its channels first or last: they were read as last.")
        array = array.transpose(0, 3, 1, 2)
    elif not first:
        found = f"got images of shape {array.shape} in {name!r}"
        raise ScorefieldError(f"{found}, expected 1, 3 or 4 channels on the second or the last axis: choose some")
    if array.shape[1] == 4:
        alpha = (array[:, 3:] - low) / (high - low)
        flat = array[:, :3] * alpha + high * (1 - alpha)
        array = (flat.round() if array.dtype == np.uint8 else flat).astype(array.dtype)
        notes.append("The fourth channel was read as opacity, and the images were put on white.")
    if config.size is not None:
        array = np.stack([square(image, config.size) for image in array]).clip(low, high).astype(array.dtype)
    return np.ascontiguousarray(array), Affine.between(low, high)
