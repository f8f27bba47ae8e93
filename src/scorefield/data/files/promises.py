"""Promises: what a header says of the length of its data, compared with what is there before anything is read.

truncated      it promises more bytes than the file has left
a bomb         it promises more than is ever read of one file, or more than its packed bytes can unpack to
"""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from typing import IO, Any, cast

from scorefield.data.files.archives import Entry

MOST_BYTES = 2**33  # of the values of one file
MOST_RATIO = 1032  # of deflate: a match of 258 bytes takes 2 bits
GZIP = b"\x1f\x8b"


def is_packed(entry: Entry) -> bool:
    """Whether a file is packed by gzip, by its first bytes."""
    with entry.open() as content:
        return content.read(2) == GZIP


def opened(entry: Entry, stack: ExitStack) -> IO[bytes]:
    """Return the content of a file, unpacked as it is read if it is packed by gzip.

    Args:
        entry: of the file.
        stack: closes it.
    """
    content = stack.enter_context(entry.open())
    if content.read(2) != GZIP:
        content.seek(0)
        return cast("IO[bytes]", content)
    content.seek(0)
    return cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=content)))


def check(promised: int, size: int, *, packed: bool = False, most: int = MOST_BYTES) -> None:
    """Raise `ValueError` for a file that cannot hold what its header states.

    Args:
        promised: bytes of the file as its header has it, from its start to the end of its values.
        size: bytes of the file, as it lies.
        packed: it is packed by gzip.
        most: bytes that are read of one file.

    >>> check(2_000, 1_234)
    Traceback (most recent call last):
    ValueError: truncated: its header states 2,000 bytes, there are 1,234
    """
    if promised > most:
        raise ValueError(f"its header states {promised / 2**30:,.1f} GiB, more than the {most / 2**30:,.0f} that are read")
    if packed and promised > MOST_RATIO * size:
        raise ValueError(f"truncated: its header states {promised:,} bytes, which {size:,} packed ones cannot hold")
    if not packed and promised > size:
        raise ValueError(f"truncated: its header states {promised:,} bytes, there are {size:,}")


def read_exactly(content: Any, count: int) -> bytes:
    """Return `count` bytes of a file; raises `ValueError` where it ends before."""
    found: bytes = content.read(count)
    if len(found) < count:
        raise ValueError(f"truncated: {count:,} bytes were expected, there are {len(found):,}")
    return found
