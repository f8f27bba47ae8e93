"""Gzip: a packed file as bytes, unpacked piece by piece, so that a small file cannot fill the memory.

A gzip file says how long it is only at its end, modulo 4 GiB, and may lie: what counts is what comes out. Deflate packs at most
1 to 1,032. Numbers and texts pack 1 to 3 up to 1 to 50, and a table of one value repeated reaches the limit: below `FREE` bytes
any ratio is taken, above it a hundredfold.
"""

from __future__ import annotations

import gzip
import os
import zlib

from scorefield.errors import ScorefieldError

FREE = 2**24  # bytes that are unpacked at any ratio
MOST_RATIO = 100  # unpacked to packed, beyond that
MOST_UNPACKED = 2**33
PIECE = 2**20
MAGIC = b"\x1f\x8b"


def unpacked(path: str, name: str) -> bytes:
    """Return the content of a gzip file, all members of it.

    Args:
        path: of the file.
        name: what messages call it.

    Raises:
        ScorefieldError: it is empty, cut off, broken, no gzip, or unpacks to more than a data file does.
    """
    packed = os.path.getsize(path)
    pieces, size, most = list[bytes](), 0, min(max(FREE, MOST_RATIO * packed), MOST_UNPACKED)
    if not packed:
        raise ScorefieldError(f"got {name!r}, an empty file, expected a whole .gz file: write it again")
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(PIECE):
                size += len(piece)
                if size > most:
                    found = f"got {name!r}, {packed:,} bytes that unpack to more than {most:,}"
                    raise ScorefieldError(f"{found}, expected a data file: unpack it yourself if you trust it, and give that")
                pieces.append(piece)
    except EOFError as cause:
        found = f"got {name!r}, which is cut off{f' after {size:,} unpacked bytes' if size else ''}"
        raise ScorefieldError(f"{found}, expected a whole .gz file: copy or write it again") from cause
    except (gzip.BadGzipFile, zlib.error) as cause:
        found = f"got {name!r}, which cannot be unpacked ({str(cause).splitlines()[0]})"
        raise ScorefieldError(f"{found}, expected a whole .gz file: copy or write it again") from cause
    return b"".join(pieces)
