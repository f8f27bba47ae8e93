"""Images: the files of a folder, a .zip or tar shards, of any size and mode, decoded into examples of one shape.

Every file is read twice, by a few threads, in an order that does not depend on them:

    first pass      reads the headers: what cannot be opened or is too large is left out, size and channels are chosen
    second pass     decodes: rotation is undone, transparency put on white, 16 bits become 8 by round(v/257), exact at both ends

What is broken is left out and named with its cause; what is odd (a copy, one colour, several frames) is named and used. If all
files are grey there is one channel, otherwise three. First-level folders become labels when every image lies in one.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from scorefield.data.archives import Entry, Listing, cause_of
from scorefield.data.base import LEAST, DataConfig, DataIssue, Dataset, Examples, Normaliser, build
from scorefield.data.decode import LARGE, MOST_PIXELS, Header, Size, decode, growth, header_of, is_grey, one_at_a_time
from scorefield.data.labels import of_folders
from scorefield.data.spill import SpillBuffer
from scorefield.errors import ScorefieldError

T = TypeVar("T")
AHEAD = 2**26  # bytes of files that may wait for their turn
KEPT_SIDE = 256  # images of one size stay as they are up to this side
CHOSEN_SIDE = 64  # what is chosen otherwise, unless the images are smaller: small enough to train quickly
ODD = {  # issues of images that are used all the same
    "frames": "several frames, of which the first is used",
    "plain": "one colour all over",
    "copy": "the same pixels as",
}


@dataclass
class _Decoded:
    """What the second pass leaves.

    Attributes:
        pixels: of the images that could be decoded.
        used: of each of them its path, its label and what its header says.
        odd: issues of them, by kind (a key of ODD).
    """

    pixels: SpillBuffer
    used: list[tuple[str, str | None, Header]]
    odd: dict[str, list[DataIssue]]


def read(listing: Listing, config: DataConfig) -> Dataset:
    """Decode the images of a listing.

    Args:
        listing: the files.
        config: how they are read.

    Returns:
        The data set, raw values 0 to 255, in the order of the listing; its issues name every file that was left out, and
        those that were used but are odd.

    Raises:
        ScorefieldError: no images, fewer than 8 that can be read, or no room for the pixels.
    """
    issues = list(listing.issues)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = _headers(listing, issues)
        _refuse_few(len(headers), listing, issues)
        size, why = _size([header.size for header in headers.values()], config)
        decoded = _decode_all(listing, headers, size, config.fit, issues)
    _refuse_few(len(decoded.used), listing, issues)
    left_out = sorted(issues, key=lambda issue: issue.where)
    notes = _left_out(left_out, listing) + [why] * bool(why)
    notes += _about([header for _, _, header in decoded.used], size, config.fit)
    notes += [_summary(found) for found in decoded.odd.values() if found]
    paths = [path for path, _, _ in decoded.used]
    classes, labels = of_folders(paths, [label for _, label, _ in decoded.used] if listing.labelled else None, notes)
    normaliser = Normaliser.between(0.0, 255.0)
    examples = Examples(
        listing.name,
        "image",
        decoded.pixels.finish(),
        normaliser=lambda train: normaliser,
        labels=labels,
        classes=classes,
        notes=tuple(notes),
        issues=(*left_out, *(issue for found in decoded.odd.values() for issue in found)),
        names=paths,
    )
    return build(examples, config)


def _headers(listing: Listing, issues: list[DataIssue]) -> dict[int, Header]:
    """Return what the headers say, by place in the listing: two paths may look the same in print."""
    headers: dict[int, Header] = {}
    for place, (entry, header) in enumerate(_each(header_of, listing.entries)):
        if isinstance(header, Header):
            headers[place] = header
        else:
            issues.append(DataIssue(entry.path, header))
    return headers


def _decode_all(listing: Listing, headers: dict[int, Header], size: Size, fit: str, issues: list[DataIssue]) -> _Decoded:
    """Decode the images whose headers could be read; what cannot be decoded is added to the issues."""
    grey = sum(is_grey(header.mode) for header in headers.values())
    mode = "L" if grey == len(headers) else "RGB"
    pixels_of_all = SpillBuffer(len(headers), (1 if mode == "L" else 3, *size), np.uint8)
    decoded = _Decoded(pixels_of_all, [], {kind: [] for kind in ODD})
    first: dict[bytes, str] = {}
    entries = (entry for place, entry in enumerate(listing.entries) if place in headers)
    each = _each(lambda entry: decode(entry, mode, size, fit), entries)
    for header, (entry, pixels) in zip(headers.values(), each, strict=True):
        if isinstance(pixels, str):
            issues.append(DataIssue(entry.path, pixels))
            continue
        decoded.pixels.append(pixels)
        decoded.used.append((entry.path, entry.label, header))
        for kind, more in _oddities(entry.path, pixels, header, first):
            decoded.odd[kind].append(DataIssue(entry.path, f"{ODD[kind]}{more}", used=True))
    return decoded


def _left_out(issues: list[DataIssue], listing: Listing) -> list[str]:
    """Return notes on the files that are not among the examples."""
    notes = []
    if issues:
        notes.append(f"{len(issues)} file{' was' if len(issues) == 1 else 's were'} left out: {_listed(issues)}.")
    if listing.others:
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in sorted(listing.others.items()))
        notes.append(f"Files that are not images were left out: {kinds}.")
    return notes


def _refuse_few(count: int, listing: Listing, issues: list[DataIssue]) -> None:
    """Raise `ScorefieldError` unless there are as many images as a data set needs."""
    if count >= LEAST:
        return
    if not issues:
        found = f"got {count or 'no'} image{'s' * (count != 1)} in {listing.name!r}"
        raise ScorefieldError(f"{found}, expected at least {LEAST} image files: check the path, or add more")
    left = _listed(sorted(issues, key=lambda issue: issue.where))
    found = f"got {count} images that can be read in {listing.name!r}, and {len(issues)} that cannot: {left}"
    raise ScorefieldError(f"{found}, expected at least {LEAST}: repair them, or add more")


def _listed(issues: list[DataIssue], most: int = 5) -> str:
    """Return the first few issues in words."""
    first = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:most])
    return first + (f" and {len(issues) - most} more" if len(issues) > most else "")


def _summary(found: list[DataIssue]) -> str:
    """Return a note on odd images of one kind."""
    more = f"; {len(found) - 1} more like it" if len(found) > 1 else ""
    return f"{found[0].where!r}: {found[0].cause}{more}."


def _each(function: Callable[[Entry], T], entries: Iterable[Entry]) -> Iterator[tuple[Entry, T | str]]:
    """Yield each entry, in order, with its result or the cause why there is none; a few threads work ahead."""
    threads = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)

    def attempt(entry: Entry) -> T | str:
        try:
            with one_at_a_time if entry.size > LARGE else nullcontext():
                return function(entry)
        except UnidentifiedImageError:
            return "not an image"
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return f"more than {MOST_PIXELS // 10**6} million pixels"
        except Exception as error:  # decoders raise anything on broken files: SyntaxError, struct.error, zlib.error...
            return cause_of(error)

    waiting: deque[tuple[Entry, Future[T | str]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        ahead = 0
        for entry in entries:
            waiting.append((entry, pool.submit(attempt, entry)))
            ahead += entry.size
            while len(waiting) > 8 * threads or ahead > AHEAD:
                entry, future = waiting.popleft()
                ahead -= entry.size
                yield entry, future.result()
        for entry, future in waiting:
            yield entry, future.result()


def _oddities(path: str, pixels: NDArray[np.uint8], header: Header, first: dict[bytes, str]) -> Iterator[tuple[str, str]]:
    """Yield what is odd about an image that is used: a key of `ODD`, and the rest of its sentence."""
    if header.frames:
        yield "frames", ""
    if (pixels == pixels[:, :1, :1]).all():
        yield "plain", ""
    twin = first.setdefault(hashlib.blake2b(pixels.data, digest_size=16).digest(), path)
    if twin != path:
        yield "copy", f" {twin!r}"


def _as_typed(size: Size) -> str:
    """Return a size as it is typed: height x width."""
    return f"{size[0]}x{size[1]}"


def _size(sizes: list[Size], config: DataConfig) -> tuple[Size, str]:
    """Return the size of the examples, and why, if it was chosen from the data."""
    if config.size is not None:
        return (config.size, config.size) if isinstance(config.size, int) else config.size, ""
    (size, count), *others = Counter(sizes).most_common()
    if not others and max(size) <= KEPT_SIDE:
        return size, ""
    shorter = int(statistics.median_low(min(size) for size in sizes))
    side = CHOSEN_SIDE if shorter >= CHOSEN_SIDE else 1 << (shorter.bit_length() - 1)
    ratio = statistics.median(width / height for height, width in sizes)
    alike = sum(0.95 < width / height / ratio < 1.05 for height, width in sizes) > 0.9 * len(sizes)
    chosen = (side, side)
    if alike:  # one shape, such as a camera's: keep it, in steps that halve well
        step = max(side // 8, 1)
        longer = max(round(side * max(ratio, 1 / ratio) / step), 1) * step
        chosen = (side, longer) if ratio > 1 else (longer, side)
    found = (
        f"all images are {_as_typed(size)}"
        if not others
        else (
            f"there are {len(others) + 1} sizes, {_as_typed(min(sizes))} to {_as_typed(max(sizes))}, "
            f"most often {_as_typed(size)} ({count} of {len(sizes)})"
        )
    )
    reason = "a size that trains soon" if side == CHOSEN_SIDE else "the power of two that half of the short sides have"
    shape = "the shape that nearly all have" if alike else "square, as their shapes differ"
    return chosen, (
        f"Size {_as_typed(chosen)} (height x width) was chosen: {found}; {side} is {reason}, {shape}. Choose with --size."
    )


def _about(headers: list[Header], size: Size, fit: str) -> list[str]:
    """Return notes on what was done to the images."""
    notes = []
    grey = sum(is_grey(header.mode) for header in headers)
    if 0 < grey < len(headers):
        notes.append(f"{grey} grey and {len(headers) - grey} colour images: all were read as RGB.")
    other = sum(
        abs(header.size[1] * size[0] - header.size[0] * size[1]) > 0.05 * header.size[0] * size[1] for header in headers
    )
    if other:
        done = {
            "crop": "cut to their centre (--fit pad keeps everything)",
            "pad": "padded with the median colour of their own border",
            "stretch": "stretched",
        }[fit]
        notes.append(f"{other} of {len(headers)} images have another shape than {_as_typed(size)} and were {done}.")
    small = sum(growth(header.size, size, fit) > 1 for header in headers)
    if small:
        notes.append(f"{small} of {len(headers)} images are smaller than {_as_typed(size)} pixels and were enlarged.")
    return notes
