"""MATLAB files: the numeric arrays of a .mat file, or of a folder of them.

    v4, v5 to v7.2    read by scipy: the directory first, then the one array; texts, cells, structs and objects are left alone
    v7.3              HDF5 inside: `data/files/hdf5.py` reads it, and turns the axes back
    written           v5, which every MATLAB opens, as the array of the same name and class

MATLAB stacks examples along the last axis, other programs along the first: the labels, or two axes of one length, say which;
where they do not, a person is asked. In a matrix, the rows are the examples.

scipy gives an array the type in which the file packs it: doubles that are whole numbers come as uint8, and `mat_dtype=True`,
which gives the class instead, drops imaginary parts. Here the class comes from the directory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import require
from scorefield.data.files import containers, hdf5
from scorefield.data.files.archives import cause_of
from scorefield.data.files.containers import Broken, Container
from scorefield.data.files.named import NamedArray
from scorefield.data.files.rows import refuse_bomb
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MAGIC = b"\x89HDF\r\n\x1a\n"
CLASSES = {"double": "float64", "single": "float32", "logical": "bool"} | {
    f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
WORDS = {"char": "text", "sparse": "a sparse matrix", "cell": "cells", "struct": "a struct", "function": "a function"}


def read(source: str, config: DataConfig) -> Dataset:
    """Read the arrays of a .mat file, or of a folder of them.

    Args:
        source: the path.
        config: how it is read; `key` names the array, and an n in `axes` the axis of the examples.

    Raises:
        ScorefieldError: scipy or h5py is missing, a broken file, no plain choice of an array or of the axis of the examples.
    """
    return containers.read(source, config, Container("matlab", (".mat",), _opened))


@contextmanager
def _opened(path: str) -> Iterator[list[NamedArray]]:
    """Give the arrays of a file while it is open."""
    name = os.path.basename(path)

    def broken(cause: BaseException) -> Broken:
        why = cause_of(cause)
        return Broken(f"got {name!r}, which cannot be read ({why}), expected a whole .mat file: save it again", why)

    try:
        with open(path, "rb") as stream:
            head = stream.read(520)
        if not head:
            raise ValueError("empty")
    except (OSError, ValueError) as cause:
        raise broken(cause) from cause
    if MAGIC in (head[:8], head[512:]):
        with hdf5.opened(path, matlab=True) as arrays:
            yield arrays
        return
    io, size = require("scipy.io", "matlab", path), os.path.getsize(path)

    def opened(key: str, dtype: np.dtype[Any], axis: int) -> Array:
        try:
            found = io.loadmat(path, variable_names=[key])[key]
        except Exception as cause:  # scipy raises anything on broken files
            raise broken(cause) from cause
        numbers = found if found.dtype.kind == "c" else found.astype(dtype, copy=False)
        return numbers.reshape(-1) if hdf5.is_column(numbers.shape) else np.moveaxis(numbers, axis, 0)

    try:
        arrays = []
        for key, shape, kind in io.whosmat(path):
            dtype = np.dtype(CLASSES.get(kind, "float64"))
            why = "" if kind in CLASSES else WORDS.get(kind, f"of the class {kind}")
            if not why:
                refuse_bomb(f"{key} of {name!r}", math.prod(shape) * dtype.itemsize, size)
            shape = (max(shape),) if hdf5.is_column(shape) else shape
            arrays.append(NamedArray(key, shape, dtype, partial(opened, key, dtype), unreadable=why, ends=True))
    except ScorefieldError:
        raise
    except Exception as cause:
        raise broken(cause) from cause
    yield arrays


def write(path: str, samples: Array, layout: Layout) -> None:
    """Write samples as one array of a .mat file, along the axis that ran over the examples of the data.

    Args:
        path: of the file.
        samples: `(n, *layout.shape)`.
        layout: of the data; its header is used if they came from MATLAB.
    """
    io = require("scipy.io", "matlab", path)
    header = layout.header if layout.format == "matlab" else {}
    key = str(header.get("key", "samples")).rpartition("/")[2]
    with open(path, "wb") as stream:
        io.savemat(stream, {key: np.moveaxis(samples, 0, header.get("axis", 0))}, do_compression=True)
