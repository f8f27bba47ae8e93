"""The scan: one walk through an array, a piece at a time, which says what its numbers are.

    ends        smallest and largest known value, and how many cells have exactly these
    whole       whether all are whole numbers; of few different ones, which
    coarse      by how much float32 would round the worst of them
    unknown     how many cells are NaN

An end that a share of the cells has exactly is an end of what there can be (a saturated detector, no rain, no cloud): a value
drawn at random has no such share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.views import NUMBERS, release
from scorefield.errors import NotFinite

Array = NDArray[Any]
LARGEST = 3.4e38  # of a float32; its very end, 3.4028e38, stands for no data where maps are made
FEW = 32  # different values, up to which they are listed
ATOM = 0.01  # share of the cells, from which an end is one of what there can be


def pieces_of(array: Array) -> Iterator[tuple[int, Array]]:
    """Return an array piece by piece, each with the number of its first row; pages of a file are released after use."""
    step = max(1, NUMBERS // math.prod(array.shape[1:]))
    for first in range(0, len(array), step):
        yield first, array[first : first + step]
        release(array)


@dataclass
class Scan:
    """What the numbers of an array are.

    Attributes:
        low, high: smallest and largest known value; infinite, low above high, where none is known.
        at_low, at_high: cells that have exactly these.
        cells: known cells.
        unknown: cells of NaN.
        whole: all known values are whole numbers.
        values: the different ones, if they are whole and at most 32; None otherwise.
        coarse: the largest error of float32.
    """

    low: float = math.inf
    high: float = -math.inf
    at_low: int = 0
    at_high: int = 0
    cells: int = 0
    unknown: int = 0
    whole: bool = True
    values: set[float] | None = field(default_factory=set)
    coarse: float = 0.0

    @property
    def ends_at_low(self) -> bool:
        """Whether the smallest value is an end of what there can be."""
        return self.at_low >= ATOM * self.cells

    @property
    def ends_at_high(self) -> bool:
        """Whether the largest value is an end of what there can be."""
        return self.at_high >= ATOM * self.cells

    def add(self, piece: Array) -> None:
        """Add numbers that are finite or NaN."""
        piece = piece.view(np.uint8) if piece.dtype == np.bool_ else piece
        if piece.dtype.kind == "f" and (holes := np.isnan(piece)).any():
            self.unknown += int(holes.sum())
            piece = piece[~holes]
        if not piece.size:
            return
        self.cells += piece.size
        low, high = float(piece.min()), float(piece.max())
        self.at_low = self._at(piece, low, self.low, self.at_low, low < self.low)
        self.at_high = self._at(piece, high, self.high, self.at_high, high > self.high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if piece.dtype.kind == "f":
            self.whole = self.whole and bool((piece == np.rint(piece)).all())
        if not self.whole:
            self.values = None
        elif self.values is not None and high - low < 2**16:  # counted without sorting
            counted = piece.reshape(-1).astype(np.int64) - int(low)  # int16 less int16 may leave int16
            present = np.bincount(counted).nonzero()[0] + low
            self.values |= set(present[: FEW + 1].tolist())
            self.values = self.values if len(self.values) <= FEW else None
        else:
            self.values = None
        if piece.dtype.itemsize > 4 or (piece.dtype.kind in "iu" and piece.dtype.itemsize == 4):
            with np.errstate(over="ignore"):
                self.coarse = max(self.coarse, float(np.abs(piece.astype(np.float32) - piece.astype(np.float64)).max()))

    @staticmethod
    def _at(piece: Array, value: float, so_far: float, count: int, beyond: bool) -> int:
        """Return how many cells are at an end."""
        if beyond:
            return int((piece == value).sum())
        return count + int((piece == value).sum()) if value == so_far else count


def scan(array: Array, name: str) -> Scan:
    """Walk through an array.

    Args:
        array: numbers `(n, ...)`, real.
        name: what messages call it.

    Raises:
        NotFinite: values that are infinite, or too large for a float32; with the place of the first.

    >>> found = scan(np.array([[0.0, 1.0], [2.0, np.nan]]), "x")
    >>> found.low, found.high, found.unknown, found.values == {0.0, 1.0, 2.0}
    (0.0, 2.0, 1, True)
    """
    found, count, place = Scan(), 0, list[int]()
    for first, piece in pieces_of(array):
        if piece.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                bad = np.abs(piece) > LARGEST
            if bad.any():
                row, *others = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
                count, place = count + int(bad.sum()), place or [first + row, *others]
                continue
        found.add(piece)
    if count:
        raise NotFinite(
            f"got {count} infinite or too large values in {name!r}, the first at {place}, expected finite numbers of at most "
            f"{LARGEST:g}: remove, fill or rescale them"
        )
    return found
