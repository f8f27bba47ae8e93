"""Array files: the arrays of a .npy or .npz file, without unpickling anything.

A .npy file is mapped, not read. Of a .npz, the array called `images`, `x` or another of EXAMPLES is taken, or the only one that
can be data; a large one is unpacked piece by piece. The size that its header claims is first compared with what is there.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from scorefield.data.arrays import of_array
from scorefield.data.base import DataConfig, Dataset
from scorefield.data.labels import EXAMPLES, LABELS, RawLabels
from scorefield.data.spill import IN_MEMORY, SpillBuffer
from scorefield.data.views import NUMBERS
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MOST_BYTES = 8 * 2**30


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
        array, labels = _load(file, name, notes)
    except ScorefieldError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise anything on broken files
        expected = "expected a whole .npy or .npz file of plain numbers, without Python objects: save it again with numpy.save"
        raise ScorefieldError(f"got {name!r}, which cannot be read ({cause}), {expected}") from cause
    return of_array(array, name, config, labels=labels, notes=notes)


def _load(file: str, name: str, notes: list[str]) -> tuple[Array, RawLabels | None]:
    """Return the examples, and their labels if there are any; a note names arrays that may have been meant as labels."""
    loaded = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(loaded, NpzFile):
        return loaded, None
    with loaded:
        size = sum(member.file_size for member in loaded.zip.infolist()) if loaded.zip else 0
        if size > MOST_BYTES:
            raise ScorefieldError(f"got {size / 2**30:.0f} GiB in {name!r}, expected at most 8 GiB unpacked: use a .npy file")
        key = next((key for key in EXAMPLES if key in loaded.files), None) or _only(loaded, name)
        label = next((other for other in LABELS if other in loaded.files and other != key), None)
        titles = loaded["classes"] if "classes" in loaded.files else None
        array = _unpack(loaded, key)
        others = [other for other in loaded.files if other not in (key, label, "classes")]
        if len(array) and (meant := [other for other in others if _like_labels(loaded, other, len(array))]):
            why = f"{label!r} holds the labels" if label else f"call it {LABELS[0]!r} if it holds labels"
            notes.append(f"Left out of {name!r}: {', '.join(map(repr, meant))}, {len(array)} whole numbers or texts; {why}.")
        return array, RawLabels(loaded[label], titles) if label else None


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
    claimed, present = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or claimed > present:
        raise ValueError(f"its header claims {claimed} bytes where there are {present}")
    return stream, shape, by_columns, dtype


def _unpack(loaded: NpzFile, key: str) -> Array:
    """Return an array of an archive, piece by piece into a spill buffer if it is large."""
    stream, shape, by_columns, dtype = _open(loaded, key)
    with stream:
        if math.prod(shape) * dtype.itemsize <= IN_MEMORY or by_columns or dtype.kind not in "fiub" or dtype.itemsize > 8:
            return loaded[key]
        native, row = dtype.newbyteorder("="), math.prod(shape[1:])
        buffer, step = SpillBuffer(shape[0], shape[1:], native.type), max(1, NUMBERS // row)
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            values = np.frombuffer(stream.read(count * row * dtype.itemsize), dtype)
            buffer.extend(values.reshape(count, *shape[1:]).astype(native))
        return np.asanyarray(buffer.finish())


def _only(loaded: NpzFile, name: str) -> str:
    """Return the key of the only array that can be data."""
    arrays = {}
    for key in loaded.files:
        stream, shape, _, dtype = _open(loaded, key)
        stream.close()
        arrays[key] = shape, dtype
    fit = [key for key, (shape, dtype) in arrays.items() if len(shape) >= 2 and (dtype.kind == "f" or dtype == np.uint8)]
    if len(fit) != 1:
        have = ", ".join(f"{key} {shape} {dtype}" for key, (shape, dtype) in arrays.items()) or "nothing"
        raise ScorefieldError(f"got {name!r} with {have}, expected one array of data: call it 'images' or 'x'")
    return fit[0]
