"""Array files: the arrays of a .npy or .npz file, without unpickling anything.

A .npy file is mapped, not read. Of a .npz, the array that is plainly the data is taken, or the one that `data.key` names
(`data/named.py`); a large one is unpacked piece by piece. The size that its header claims is first compared with what is there.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from scorefield.data.arrays import of_array
from scorefield.data.base import DataConfig, Dataset, UnusedSetting
from scorefield.data.labels import RawLabels
from scorefield.data.named import Choice, NamedArray, choose
from scorefield.data.spill import IN_MEMORY, SpillBuffer
from scorefield.data.views import NUMBERS
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MOST_BYTES = 8 * 2**30


def read(file: str, config: DataConfig) -> Dataset:
    """Read vectors, images, signals or volumes from a .npy or .npz file.

    Args:
        file: path of the file; a .npz may hold `labels` (or label, y, targets, target: whole numbers, texts or one-hot rows)
            and their names, `classes`.
        config: how it is read.

    Returns:
        The data set, in the order of the file.

    Raises:
        ScorefieldError: a broken file, Python objects, more than 8 GiB unpacked, an unclear choice of array, an unsupported
            shape or type, or fewer than 8 examples.
    """
    name = os.path.basename(file)
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, NpzFile):
            if config.key is not None:
                raise UnusedSetting(f"got data.key for {name!r}, expected it for files of several arrays: leave it out", "key")
            array, labels, choice = loaded, None, None
        else:
            with loaded:
                array, labels, choice = _load(loaded, name, config)
    except ScorefieldError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise anything on broken files
        expected = "expected a whole .npy or .npz file of plain numbers, without Python objects: save it again with numpy.save"
        raise ScorefieldError(f"got {name!r}, which cannot be read ({cause}), {expected}") from cause
    return of_array(array, name, config, labels=labels, notes=choice.notes if choice else ())


def _load(loaded: NpzFile, name: str, config: DataConfig) -> tuple[Array, RawLabels | None, Choice]:
    """Return the examples, their labels if there are any, and how they were chosen."""
    size = sum(member.file_size for member in loaded.zip.infolist()) if loaded.zip else 0
    if size > MOST_BYTES:
        raise ScorefieldError(f"got {size / 2**30:.0f} GiB in {name!r}, expected at most 8 GiB unpacked: use a .npy file")
    choice = choose([_array_of(loaded, key) for key in loaded.files], name, config)
    parts = [choice.data.open()] + ([choice.held.open()] if choice.held else [])
    return np.concatenate(parts) if len(parts) > 1 else parts[0], choice.raw_labels(), choice


def _array_of(loaded: NpzFile, key: str) -> NamedArray:
    """Return an array of an archive that was not read yet."""
    stream, shape, _, dtype = _open(loaded, key)
    stream.close()
    words = {"O": "Python objects, which are never opened", "V": ""}.get("O" if dtype.hasobject else dtype.kind, "")
    return NamedArray(key, shape, dtype, partial(_unpack, loaded, key), unreadable=words)


def _open(loaded: NpzFile, key: str) -> tuple[Any, tuple[int, ...], bool, np.dtype[Any]]:
    """Return the stream of an array behind its header, its shape, whether columns come first, and its type."""
    archive: Any = loaded.zip
    member = f"{key}.npy" if f"{key}.npy" in archive.namelist() else key
    stream = archive.open(member)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = header(stream)
    claimed, present = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - stream.tell()
    if min(shape, default=0) < 0 or (claimed > present and not dtype.hasobject):
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
