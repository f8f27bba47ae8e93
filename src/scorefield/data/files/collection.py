"""Collections: a folder of files of one format, with an example or several in each, as one array.

    listing     the files with the format's suffixes, sorted by path; first-level folders become labels
    reading     each file once, a few threads ahead, in order; what is broken is left out and named with its cause
    stacking    examples of one shape and type into a spill buffer; the shape is that of most files, the others are named
    header      what the headers of all files agree in: that alone still holds for a sample

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

from scorefield.data.files.archives import Entry, Listing, cause_of, file_entry, folder, printable
from scorefield.data.issues import DataIssue
from scorefield.data.labels import RawLabels, of_folders
from scorefield.data.spill import SpillBuffer
from scorefield.errors import ScorefieldError
from scorefield.registry import built_in

Array = NDArray[Any]
Read = tuple[Array, dict[str, Any]]
Form = tuple[tuple[int, ...], str, tuple[tuple[str, Any], ...]]
MOST_BYTES = 2**33  # of one file of a format other than images
LEAST = 8  # files, fewer are a mistake
COUNTED = 20_000  # files of a folder, by which its format is recognised
NAMED = 5  # files that a sentence names
LOOKED_AT = 32  # files, by which the shape of all is chosen
HELD = 2**28  # bytes of files that are read ahead
THREADS = 4


@dataclass(frozen=True)
class Stack:
    """What was read of a collection.

    Attributes:
        array: the examples `(n, ...)`, in the order of their paths.
        names: their paths; of a file of several, with the number of the example.
        header: the part in which the headers of all files agree.
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

    @property
    def raw_labels(self) -> RawLabels | None:
        """The labels as `of_array` takes them."""
        return None if self.labels is None else RawLabels(self.labels.numpy(), np.array(self.classes))


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
    from scorefield.data.files.archives import SUFFIXES as IMAGES

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


def is_marked(source: str, mark: bytes, at: int) -> bool:
    """Whether a file without a known suffix has a mark inside; of a folder without known suffixes, one of its first files.

    Args:
        source: a path, which need not exist.
        mark: the bytes.
        at: where they stand in the file.
    """
    if os.path.isfile(source):
        places = [source]
    elif os.path.isdir(source) and _mostly(source, os.stat(source).st_mtime_ns) is None:
        names = ((here, name) for here, _, names in os.walk(source) for name in sorted(names) if not name.startswith("."))
        places = [os.path.join(*one) for one in itertools.islice(names, LOOKED_AT)]
    else:
        return False
    return any(_has(place, mark, at) for place in places)


def _has(place: str, mark: bytes, at: int) -> bool:
    """Whether an ordinary file has these bytes at a place."""
    try:
        with file_entry(place, place).open() as content:
            content.seek(at)
            return content.read(len(mark)) == mark
    except (OSError, ValueError):
        return False


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


def stack(
    listing: Listing, read: Callable[[Entry], Read], what: str, *, several: bool = False, alike: tuple[str, ...] = ()
) -> Stack:
    """Read the files of a listing, an example or several in each, and stack them.

    Args:
        listing: of the files.
        read: gives the example of a file, of any shape, and its header as JSON values; raises anything for a broken one.
        what: what the files are, in the plural: "volumes".
        several: a file gives several examples, along the first axis of what `read` returns.
        alike: keys of the header in which examples must agree, such as a sampling rate.

    Returns:
        The stack, of the examples that have the shape, the type and the values of `alike` that most have.

    Raises:
        ScorefieldError: fewer than 8 examples that can be read, or no form that half of the files have.
    """

    def form_of(one: Read) -> Form:
        array, header = one
        return array.shape[several:], array.dtype.newbyteorder("=").str, tuple((key, header.get(key)) for key in alike)

    issues, looked_at, results = list(listing.issues), list[tuple[Entry, Read | str]](), _each(read, listing.entries)
    forms, held = Counter[Form](), 0
    while forms.total() < LOOKED_AT and held < HELD and (one := next(results, None)):
        looked_at.append(one)
        if not isinstance(one[1], str):
            forms[form_of(one[1])] += 1
            held += one[1][0].nbytes
    if not forms:
        _refuse_few(0, issues + [DataIssue(entry.path, str(cause)) for entry, cause in looked_at], listing, what)
    form = _commonest(forms, listing, what)
    paths, numbers, headers, buffer = list[str](), list[int](), list[dict[str, Any]](), None
    for entry, result in itertools.chain(looked_at, results):
        if isinstance(result, str):
            issues.append(DataIssue(entry.path, result))
        elif form_of(result) != form:
            issues.append(DataIssue(entry.path, f"{_in_words(form_of(result))}, most files have {_in_words(form)}"))
        else:
            examples = result[0] if several else result[0][None]
            buffer = buffer or SpillBuffer(len(examples) * sum(1 for _ in listing.entries), form[0], np.dtype(form[1]).type)
            buffer.extend(examples)
            headers = [_common(*headers, result[1])]
            paths.append(entry.path)
            numbers.append(len(examples))
    issues.sort(key=lambda issue: issue.where)
    _refuse_few(sum(numbers), issues, listing, what)
    assert buffer, "a few examples were read"
    notes = _notes(listing, issues, headers[0])
    names = [f"{path}[{i}]" if several else path for path, number in zip(paths, numbers, strict=True) for i in range(number)]
    owners = [path for path, number in zip(paths, numbers, strict=True) for _ in range(number)]
    classes, labels = of_folders(owners, None, notes)
    header = {key: value for key, value in headers[0].items() if value is not None}
    return Stack(np.asanyarray(buffer.finish()), names, header, labels, classes, tuple(issues), notes)


def _commonest(forms: Counter[Form], listing: Listing, what: str) -> Form:
    """Return the form that most files have; refuse a folder without one."""
    form, count = forms.most_common(1)[0]
    if count * 2 <= forms.total() > 1:
        found = "; ".join(f"{number} {_in_words(one)}" for one, number in forms.most_common(3))
        raise ScorefieldError(
            f"got {what} of {len(forms)} forms in {listing.name!r} ({found}), expected one: bring them to one, or give those "
            "of one form a folder of their own"
        )
    return form


def _in_words(form: Form) -> str:
    """Return a form as "16x16 uint8, rate 8000"."""
    shape, dtype, rest = form
    return ", ".join([f"{'x'.join(map(str, shape))} {np.dtype(dtype)}", *(f"{key} {value}" for key, value in rest)])


def _common(first: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """Return a header with None for what differs in another one."""
    keys = dict.fromkeys(key for one in (first, *others) for key in one)
    return {key: first.get(key) if all(one.get(key) == first.get(key) for one in others) else None for key in keys}


def _notes(listing: Listing, issues: list[DataIssue], header: dict[str, Any]) -> list[str]:
    """Return sentences on what was left out of a folder, and on what its headers differ in."""
    notes = list[str]()
    if issues:
        notes.append(f"{len(issues)} file{' was' if len(issues) == 1 else 's were'} left out: {_listed(issues)}.")
    if listing.others:
        notes.append(f"Other files were left out: {', '.join(f'{s} {n}' for s, n in sorted(listing.others.items()))}.")
    if differing := [key for key, value in header.items() if value is None]:
        notes.append(f"The headers of the files differ in {', '.join(differing)}: samples are written without.")
    return notes


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

    waiting, ahead = deque[tuple[Entry, Future[Any]]](), 4 * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for entry in entries:
                waiting.append((entry, pool.submit(attempt, entry)))
                while len(waiting) > ahead:
                    first, future = waiting.popleft()
                    result = future.result()
                    if not isinstance(result, str):  # large files are read fewer at a time
                        ahead = min(4 * THREADS, HELD // max(result[0].nbytes, 1))
                    yield first, result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
