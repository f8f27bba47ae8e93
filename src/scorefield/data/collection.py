"""Collections: a folder of files of one format, with an example in each, as one array.

    listing     the files with the format's suffixes, sorted by path; first-level folders become labels
    reading     each file once, a few threads ahead, in order; what is broken is left out and named with its cause
    stacking    examples of one shape and type into a spill buffer; the shape is that of most files, the others are named

A folder is of the format whose files it mostly holds: `is_of` counts suffixes without opening anything.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.archives import Entry, Listing, cause_of, file_entry, folder, printable
from scorefield.data.issues import DataIssue
from scorefield.data.labels import of_folders
from scorefield.data.spill import SpillBuffer
from scorefield.errors import ScorefieldError
from scorefield.registry import built_in

Array = NDArray[Any]
Read = tuple[Array, dict[str, Any]]
MOST_BYTES = 2**33  # of one file of a format other than images
LEAST = 8  # files, fewer are a mistake
COUNTED = 20_000  # files of a folder, by which its format is told
NAMED = 5  # files that a sentence names
LOOKED_AT = 32  # files, by which the shape of all is chosen
THREADS = 4


@dataclass(frozen=True)
class Stack:
    """What was read of a collection.

    Attributes:
        array: the examples `(n, ...)`, in the order of their paths.
        names: their paths.
        header: that of the first example.
        labels: int64 `(n,)`, or None.
        classes: a name per label.
        issues: what was left out.
        notes: sentences on it.
    """

    array: Array
    names: list[str]
    header: dict[str, Any]
    labels: Tensor | None
    classes: tuple[str, ...]
    issues: tuple[DataIssue, ...]
    notes: list[str] = field(default_factory=list)


def is_of(source: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a path is a file with one of these suffixes, or a folder that holds more of them than of any other format's.

    Args:
        source: a path, which need not exist.
        suffixes: with their dot, in small letters.
    """
    if os.path.isfile(source):
        return source.lower().endswith(suffixes)
    if not os.path.isdir(source):
        return False
    most = _mostly(source, os.stat(source).st_mtime_ns)
    return most is not None and most in suffixes


@lru_cache(maxsize=64)
def _mostly(path: str, changed: int) -> str | None:
    """Return the suffix that most files of a folder have, of those that some format reads; None for none."""
    from scorefield.data.archives import SUFFIXES as IMAGES

    known = sorted({*IMAGES, *(suffix for form in built_in("format").values() for suffix in form.suffixes)}, key=len)
    count, seen = Counter[str](), 0
    for _, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            suffix = next((one for one in reversed(known) if name.lower().endswith(one)), None)
            if suffix and not name.startswith("."):
                count[suffix] += 1
        if seen > COUNTED:
            break
    return count.most_common(1)[0][0] if count else None


def listing_of(source: str, suffixes: tuple[str, ...], most_bytes: int = MOST_BYTES) -> Listing:
    """Return the files of a folder that have these suffixes, or the one file that a path names.

    Args:
        source: path of a folder or of a file.
        suffixes: with their dot, in small letters.
        most_bytes: of one file.

    Raises:
        ScorefieldError: a file that cannot be opened, is empty or too long.
    """
    if os.path.isdir(source):
        return folder(source, suffixes, most_bytes)
    name = os.path.basename(source)
    try:
        entry = file_entry(source, printable(name), most_bytes)
    except (OSError, ValueError) as error:
        raise ScorefieldError(f"got {name!r}, expected a whole file ({cause_of(error)}): check it") from error
    return Listing(name, [entry], suffixes=suffixes, most_bytes=most_bytes)


def stack(listing: Listing, read: Callable[[Entry], Read], what: str) -> Stack:
    """Read the files of a listing, an example in each, and stack them.

    Args:
        listing: of the files.
        read: gives the example of a file, of any shape, and its header as JSON values; raises anything for a broken one.
        what: what the files are, in the plural: "volumes".

    Returns:
        The stack, of the examples that have the shape and type of most.

    Raises:
        ScorefieldError: fewer than 8 files that can be read, or no shape that half of them have.
    """
    issues, read_so_far, results = list(listing.issues), list[tuple[Entry, Read | str]](), _each(read, listing.entries)
    forms = Counter[tuple[tuple[int, ...], str]]()
    while forms.total() < LOOKED_AT and (one := next(results, None)):
        read_so_far.append(one)
        if not isinstance(one[1], str):
            forms[one[1][0].shape, one[1][0].dtype.str] += 1
    if not forms:
        issues += [DataIssue(entry.path, str(cause)) for entry, cause in read_so_far]
        _refuse_few(0, issues, listing, what)
    (shape, dtype), count = forms.most_common(1)[0]
    if count * 2 <= forms.total() > 1:
        shapes = ", ".join(f"{number} of {'x'.join(map(str, s))} {np.dtype(d)}" for (s, d), number in forms.most_common(3))
        raise ScorefieldError(
            f"got {what} of {len(forms)} shapes or types in {listing.name!r} ({shapes}), expected one: cut or resample "
            "them to one shape, or give those of one shape a folder of their own"
        )
    buffer = SpillBuffer(sum(1 for _ in listing.entries), shape, np.dtype(dtype).newbyteorder("=").type)
    paths, header = list[str](), dict[str, Any]()
    for entry, result in itertools.chain(read_so_far, results):
        if isinstance(result, str):
            issues.append(DataIssue(entry.path, result))
        elif (result[0].shape, result[0].dtype.str) != (shape, dtype):
            found = f"of shape {result[0].shape} and type {result[0].dtype}"
            issues.append(DataIssue(entry.path, f"{found}, most have {shape} and {np.dtype(dtype)}"))
        else:
            buffer.append(result[0])
            header = header if paths else result[1]
            paths.append(entry.path)
    issues.sort(key=lambda issue: issue.where)
    _refuse_few(len(paths), issues, listing, what)
    notes = list[str]()
    if issues:
        notes.append(f"{len(issues)} file{' was' if len(issues) == 1 else 's were'} left out: {_listed(issues)}.")
    if listing.others:
        notes.append(f"Other files were left out: {', '.join(f'{s} {n}' for s, n in sorted(listing.others.items()))}.")
    classes, labels = of_folders(paths, None, notes)
    return Stack(np.asanyarray(buffer.finish()), paths, header, labels, classes, tuple(issues), notes)


def _refuse_few(count: int, issues: list[DataIssue], listing: Listing, what: str) -> None:
    if count < LEAST:
        bad = f", and {len(issues)} that cannot be used: {_listed(issues)}" if issues else ""
        raise ScorefieldError(
            f"got {count or 'no'} {what} in {listing.name!r}{bad}, expected at least {LEAST} in one folder: "
            f"{'repair them, or add more' if issues else 'add more'}"
        )


def _listed(issues: list[DataIssue]) -> str:
    first = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:NAMED])
    return first + (f" and {len(issues) - NAMED} more" if len(issues) > NAMED else "")


def _each(read: Callable[[Entry], Read], entries: Iterable[Entry]) -> Iterator[tuple[Entry, Read | str]]:
    """Yield each entry, in order, with what was read of it, or the cause why nothing was."""

    def attempt(entry: Entry) -> Read | str:
        try:
            return read(entry)
        except ScorefieldError:
            raise  # a missing library is no fault of the file
        except Exception as error:  # libraries raise anything on broken files
            return cause_of(error)

    waiting: deque[tuple[Entry, Future[Any]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for entry in entries:
            waiting.append((entry, pool.submit(attempt, entry)))
            if len(waiting) > 4 * THREADS:
                first, future = waiting.popleft()
                yield first, future.result()
        for entry, future in waiting:
            yield entry, future.result()
