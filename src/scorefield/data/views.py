"""Rows of an array that stays where it is, and walking through all of them a piece at a time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUMBERS = 2**22  # of all examples at a time, wherever all of them are walked through


def release(array: NDArray[Any]) -> None:
    """Release the pages that were read of a mapped file, which would count as this process's memory otherwise."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)  # the map is shared: what was written stays, in the file


def pieces(rows: Tensor | ArrayView) -> Iterator[Tensor]:
    """Return rows `(n, *shape)` in order, about four million numbers at a time."""
    step = max(1, NUMBERS // max(1, rows.shape[1:].numel()))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


class ArrayView:
    """Rows of an array that stays where it is, in memory or mapped from a disk: indexing copies what was asked for.

    It has what training needs of a tensor: `len`, `[rows]`, `[first:last]`, `shape`, `dtype`, `numel`.

    >>> ArrayView(np.arange(10.0).reshape(5, 2), torch.tensor([1, 3]))[torch.tensor([1])]
    tensor([[6., 7.]], dtype=torch.float64)
    """

    def __init__(self, array: NDArray[Any], rows: Tensor) -> None:
        """Hold an array `(n, *shape)` and int64 row numbers `(m,)`."""
        self.array, self.rows = array, rows
        self.shape = torch.Size((len(rows), *array.shape[1:]))
        self.ndim = array.ndim
        self.dtype = torch.from_numpy(np.zeros(0, array.dtype)).dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Tensor | slice) -> Tensor:
        found = torch.from_numpy(np.array(self.array[self.rows[which].numpy()], order="C"))
        release(self.array)
        return found

    def is_floating_point(self) -> bool:
        """Whether the values are floats."""
        return self.dtype.is_floating_point

    def numel(self) -> int:
        """How many numbers there are."""
        return self.shape.numel()
