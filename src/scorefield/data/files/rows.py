"""Rows of an array that lies in a file, read as they are asked for, in order.

A compressed array is stored in chunks, and a chunk is unpacked whole, however little of it is asked for. Rows are therefore
read in blocks that end where a chunk ends, and the last block is kept: a walk through all rows unpacks each chunk once. Reading
the same rows at random would unpack a chunk for every row of it.

    file        (..., n, ...)      examples lie along one axis, the first in most files
    block       rows first:last of it, with that axis brought to the front, and decoded
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.files.archives import cause_of
from scorefield.data.issues import DataIssue
from scorefield.data.spill import SpillBuffer
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
BLOCK = 2**25  # bytes that are read at a time, but at least a chunk
MOST_CHUNK = 2**30  # bytes of one chunk, which is unpacked whole
SMALL = 2**30  # bytes; a larger array must be stored in more than a hundredth of them
MOST_RATIO = 100  # of the bytes that an array has to those that are stored


class Rows:
    """Rows `(n, ...)` of an array in a file: `len`, `shape`, `dtype`, `ndim`, `size` and slices.

    >>> rows = Rows((5, 2), "f4", lambda first, last: np.arange(2.0 * first, 2.0 * last).reshape(-1, 2), "u")
    >>> rows[1:3]
    array([[2., 3.],
           [4., 5.]])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        read: Callable[[int, int], Array],
        what: str,
        chunk: int = 1,
        notes: Sequence[str] = (),
    ) -> None:
        """Hold how rows are read.

        Args:
            shape: of all rows, `(n, ...)`.
            dtype: of what is read.
            read: gives rows first:last.
            what: what messages call the array: "'scan.h5', the array u".
            chunk: how many rows a chunk of the file has.
            notes: what was found before it was read.
        """
        self.notes = tuple(notes)
        self.shape, self.dtype, self.what = tuple(shape), np.dtype(dtype), what
        row = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        self.block = max(1, BLOCK // row // chunk) * chunk
        self._read, self._first, self._held = read, -1, np.empty(0)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        first, last, step = rows.indices(len(self))
        assert step == 1, "rows are read in order"
        parts = []
        while first < last:
            start = first - first % self.block
            if self._first != start:
                self._held, self._first = self._block(start, min(start + self.block, len(self))), start
            upto = min(last, start + self.block)
            parts.append(self._held[first - start : upto - start])
            first = upto
        if len(parts) != 1:
            return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)
        return parts[0]

    def _block(self, first: int, last: int) -> Array:
        """Return rows first:last; raises `ScorefieldError` with the cause if the file is broken there."""
        try:
            found = np.asarray(self._read(first, last))
            if found.shape != (last - first, *self.shape[1:]):
                raise ValueError(f"there are {found.shape} numbers where its header has {(last - first, *self.shape[1:])}")
        except ScorefieldError:
            raise
        except Exception as error:  # libraries raise anything on broken files
            raise ScorefieldError(
                f"got {self.what}, of which the examples {first} to {last - 1} cannot be read ({cause_of(error)}), expected a "
                "whole file: copy it again, or cut it there"
            ) from error
        return found


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several arrays of one shape, one after another."""
    starts = np.cumsum([0, *map(len, parts)]).tolist()

    def read(first: int, last: int) -> Array:
        inside = zip(parts, starts, strict=False)
        return np.concatenate([part[max(first - start, 0) : max(last - start, 0)] for part, start in inside])

    one = parts[0]
    return Rows((starts[-1], *one.shape[1:]), np.result_type(*(part.dtype for part in parts)), read, one.what)


def refuse_bomb(what: str, size: int, stored: int, chunk: int = 0) -> None:
    """Refuse an array that is far larger than the file which holds it, before any of it is read.

    Args:
        what: what messages call it.
        size: bytes that its shape and type make.
        stored: bytes that the file has of it.
        chunk: bytes of one chunk.

    Raises:
        ScorefieldError: it is over 1 GiB and over 100 times what is stored, or a chunk is over 1 GiB.
    """
    if size > max(SMALL, MOST_RATIO * stored):
        raise ScorefieldError(
            f"got {what}, whose header claims {size / 2**30:,.1f} GiB where {stored / 2**20:,.2f} MiB are stored, expected at "
            f"most {MOST_RATIO} times as much: write the part that holds numbers to a file of its own"
        )
    if chunk > MOST_CHUNK:
        raise ScorefieldError(
            f"got {what} in chunks of {chunk / 2**30:,.1f} GiB, expected at most {MOST_CHUNK >> 30} GiB: write it with smaller "
            "chunks"
        )


@dataclass(frozen=True)
class Gathered:
    """Rows of several files, one after another.

    Attributes:
        array: the rows `(n, ...)`.
        counts: how many there are of each file, in order.
        issues: which files could not be read to their end, and why.
    """

    array: Array
    counts: list[int]
    issues: list[DataIssue]


def gathered(
    parts: Sequence[tuple[str, Callable[[], AbstractContextManager[Any]]]], count: int, shape: tuple[int, ...], dtype: Any
) -> Gathered:
    """Read the rows of several files into one buffer, each file once; what comes before a fault in a file is used.

    Args:
        parts: of each file its path, and what opens its rows, `Rows` or an array; one is open at a time.
        count: of all rows.
        shape: of one row.
        dtype: of all.

    Raises:
        ScorefieldError: neither the memory nor a disk has the room.
    """
    buffer, counts, issues = SpillBuffer(count, shape, np.dtype(dtype).newbyteorder("=").type), list[int](), list[DataIssue]()
    for path, opened in parts:
        before, first = buffer.count, 0
        try:
            with opened() as rows:
                if rows.dtype.kind == "c" and buffer.dtype.kind != "c":
                    raise ScorefieldError("complex numbers, the others are real")
                step = getattr(rows, "block", len(rows))
                while first < len(rows):
                    buffer.extend(rows[first : first + step])
                    first += step
        except ScorefieldError as error:
            issues.append(DataIssue(path, str(error)[:300], used=buffer.count > before))
        counts.append(buffer.count - before)
    return Gathered(np.asanyarray(buffer.finish()), counts, issues)
