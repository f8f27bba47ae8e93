"""Array files: the arrays of a .npy or .npz file, or of a folder of them, without unpickling anything.

A .npy file is mapped, not read. Of a .npz, the array that is plainly the data is taken, or the one that `data.key` names
(`data/files/named.py`); a large one is unpacked piece by piece. The size that its header claims is first compared with what is
there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from scorefield.data.arrays import of_array
from scorefield.data.base import DataConfig, Dataset, UnusedSetting
from scorefield.data.files import containers
from scorefield.data.files.containers import Broken, Container
from scorefield.data.files.named import NamedArray
from scorefield.data.spill import IN_MEMORY, SpillBuffer
from scorefield.data.views import NUMBERS
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MOST_BYTES = 8 * 2**30


def read(source: str, config: DataConfig) -> Dataset:
    """Read vectors, images, signals or volumes from a .npy or .npz file, or from a folder of them.

    Args:
        source: path of the file; a .npz may hold `labels` (or label, y, targets, target: whole numbers, texts or one-hot rows)
            and their names, `classes`. In a folder, a file holds one example, or several along its first axis.
        config: how it is read.

    Returns:
        The data set, in the order of the file, or of the paths.

    Raises:
        ScorefieldError: a broken file, Python objects, more than 8 GiB unpacked, an unclear choice of array, an unsupported
            shape or type, or fewer than 8 examples.
    """
    if os.path.isdir(source):
        from scorefield.data.files.collection import is_of

        kind = ".npz" if is_of(source, (".npz",)) else ".npy"
        return containers.read(source, config, Container("array-folder", (kind,), _opened, named=kind == ".npz"))
    if source.lower().endswith(".npz"):
        return containers.read(source, config, Container("arrays", (), _opened))
    name = os.path.basename(source)
    with _opened(source) as (array,):
        if config.key is not None:
            raise UnusedSetting(f"got data.key for {name!r}, expected it for files of several arrays: leave it out", "key")
        return of_array(array.open(0), name, config)


@contextmanager
def _opened(path: str) -> Iterator[list[NamedArray]]:
    """Give the arrays of a file: those of a .npz by their names, that of a .npy without one."""
    name = os.path.basename(path)

    def broken(cause: object) -> Broken:
        expected = "expected a whole .npy or .npz file of plain numbers, without Python objects: save it again with numpy.save"
        return Broken(f"got {name!r}, which cannot be read ({cause}), {expected}")

    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, NpzFile):
            arrays = [NamedArray("", loaded.shape, loaded.dtype, lambda axis: np.moveaxis(loaded, axis, 0) if axis else loaded)]
        else:
            size = sum(member.file_size for member in loaded.zip.infolist()) if loaded.zip else 0
            if size > MOST_BYTES:
                found = f"got {size / 2**30:.0f} GiB in {name!r}"
                raise Broken(f"{found}, expected at most 8 GiB unpacked: use a .npy file")
            arrays = [_array_of(loaded, key, broken) for key in loaded.files]
            if arrays and all(one.unreadable for one in arrays):
                raise ValueError("it holds Python objects alone")
    except ScorefieldError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise anything on broken files
        raise broken(cause) from cause
    try:
        yield arrays
    finally:
        if isinstance(loaded, NpzFile):
            loaded.close()


def _array_of(loaded: NpzFile, key: str, broken: Any) -> NamedArray:
    """Return an array of an archive that was not read yet."""
    stream, shape, _, dtype = _header(loaded, key)
    stream.close()

    def opened(axis: int) -> Array:
        try:
            return np.moveaxis(_unpacked(loaded, key), axis, 0) if axis else _unpacked(loaded, key)
        except ScorefieldError:
            raise
        except Exception as cause:
            raise broken(f"{key}: {cause}") from cause

    words = "Python objects, which are never opened" if dtype.hasobject else ""
    return NamedArray(key, shape, dtype, opened, unreadable=words)


def _header(loaded: NpzFile, key: str) -> tuple[Any, tuple[int, ...], bool, np.dtype[Any]]:
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


def _unpacked(loaded: NpzFile, key: str) -> Array:
    """Return an array of an archive, piece by piece into a spill buffer if it is large."""
    stream, shape, by_columns, dtype = _header(loaded, key)
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
