"""Spill buffers: examples of one shape, written one after another, in memory while they are few and on the disk beyond that.

A data set may be larger than the memory. What would take more than 1 GiB goes into a temporary file that is unlinked before the
first byte is written, so nothing is left behind, however the process ends. Its whole length is reserved first, so a full disk
is reported at the start and not in the middle.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.errors import ScorefieldError

IN_MEMORY = 2**30  # bytes; beyond it, a buffer is a file
AS_TENSOR = 2**28  # bytes; below it, a copy more or less does not matter, and a tensor is the simpler thing
SPARE = 2**28  # bytes of a disk that are left alone


class SpillBuffer:
    """Room for `count` examples of one shape, which grows when more come.

    >>> buffer = SpillBuffer(3, (2,), np.uint8)
    >>> buffer.append(np.array([1, 2], dtype=np.uint8))
    >>> buffer.finish()
    tensor([[1, 2]], dtype=torch.uint8)
    """

    def __init__(self, count: int, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        """Reserve the room.

        Args:
            count: how many examples may come; more make it grow.
            shape: of one example.
            dtype: of its values.

        Raises:
            ScorefieldError: neither the memory nor a disk has the room.
        """
        self.shape, self.dtype, self.count = shape, np.dtype(dtype), 0
        size = count * math.prod(shape) * self.dtype.itemsize
        self.file: IO[bytes] | None = _reserve(size) if size > IN_MEMORY else None
        self.array: NDArray[Any] = np.empty((count if self.file is None else 0, *shape), dtype)

    def append(self, example: NDArray[Any]) -> None:
        """Add an example `shape` of the buffer's type."""
        self.extend(example[None])

    def extend(self, examples: NDArray[Any]) -> None:
        """Add examples `(n, *shape)`, converted to the buffer's type."""
        if self.file is None and self.count + len(examples) > len(self.array):
            self._grow(2 * (self.count + len(examples)))
        if self.file is None:
            self.array[self.count : self.count + len(examples)] = examples
        else:  # written, not mapped: pages of a map would count as this process's memory
            self.file.write(np.ascontiguousarray(examples, dtype=self.dtype).data)
        self.count += len(examples)

    def _grow(self, count: int) -> None:
        """Move what is there to a place with room for `count` examples."""
        larger = SpillBuffer(count, self.shape, self.dtype.type)
        larger.extend(self.array[: self.count])
        self.file, self.array = larger.file, larger.array

    def finish(self) -> Tensor | NDArray[Any]:
        """Return all examples `(n, *shape)` that were added: a tensor of few, else an array, mapped from the disk of many."""
        if self.file is not None:
            self.file.flush()
            with self.file:  # the map keeps the file
                return np.memmap(self.file, self.dtype, "r", shape=(self.count, *self.shape))
        found = self.array[: self.count]
        return torch.from_numpy(found) if found.nbytes <= AS_TENSOR else found


def _reserve(size: int) -> IO[bytes]:
    """Return a nameless file with `size` bytes of a disk behind it."""
    places = [os.environ["TMPDIR"]] if os.environ.get("TMPDIR") else ["/var/tmp", tempfile.gettempdir()]  # /tmp may be memory
    places = [place for place in places if os.path.isdir(place)]
    free = {place: shutil.disk_usage(place).free for place in places}
    cause = ""
    for place in places:
        if free[place] < size + SPARE:
            continue
        try:
            file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - its holder closes it
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return file
        except OSError as error:
            cause = f" ({error.strerror})"
    found = ", ".join(f"{number / 2**30:.1f} GiB free in {place}" for place, number in free.items()) or "no temporary folder"
    need = f"expected {(size + SPARE) / 2**30:.1f} GiB for the decoded examples"
    raise ScorefieldError(f"got {found}{cause}, {need}: set TMPDIR to a larger disk, or choose a smaller --size")
