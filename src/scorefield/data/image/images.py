"""Images: the files of a folder, a .zip or tar shards, of any size and type, decoded into examples of one shape.

    one pass        where all files are of one size, type and number of channels, each is opened once
    two passes      otherwise: the headers of all, from which size, type and channels are chosen; then each is decoded to them

Files are read ahead, in an order that does not depend on who reads them: processes of our own where there are many, threads
otherwise (`data/image/workers.py`). What was decoded is remembered on the disk (`data/image/cache.py`).

What is broken is left out and named with its cause; what is odd (a copy, one colour, several frames) is named and used. If all
files are grey there is one channel, otherwise three. 8-bit images are raw values of 0 to 255; deep ones keep their own numbers.
Samples of masks of one bit, and of label maps (8 bits of one channel, all values below 32), have the values of the files only.
First-level folders become labels when every image lies in one.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import LEAST, DataConfig, DataIssue, Dataset, Examples, Normaliser, build, refuse_unused
from scorefield.data.files.archives import Listing
from scorefield.data.image import cache, tiff
from scorefield.data.image.decode import Header, Strict, Wanted, see
from scorefield.data.image.sizes import KEPT_SIDE, about, size_of
from scorefield.data.image.workers import Readers
from scorefield.data.labels import RawLabels, of_folders
from scorefield.data.layout import Layout
from scorefield.data.ranges import FINE
from scorefield.data.scan import pieces_of
from scorefield.data.spill import AS_TENSOR, SpillBuffer
from scorefield.errors import ScorefieldError
from scorefield.registry import built_in

Array = NDArray[Any]
PROBED = 32  # files, of which the first that can be read says what all may be
ODD = {  # issues of images that are used all the same
    "frames": "several frames, of which the first is used",
    "plain": "one colour all over",
    "copy": "the same pixels as",
}


@dataclass
class Decoded:
    """What is left when all files are read.

    Attributes:
        pixels: `(n, channels, height, width)`.
        paths: of the images.
        labels: of each, as the source gives them.
        notes: on what was done to them.
        issues: of files that were left out.
        odd: of files that are used.
        masks: all are of one bit, and of the size that they had.
        resized: not all have the size that they had.
        missing: what stands for an unknown cell in all of them; None if nothing does.
    """

    pixels: Any
    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    issues: list[DataIssue] = field(default_factory=list)
    odd: list[DataIssue] = field(default_factory=list)
    masks: bool = False
    resized: bool = False
    missing: float | None = None


def read(listing: Listing, config: DataConfig) -> Dataset:
    """Decode the images of a listing.

    Args:
        listing: the files.
        config: how they are read.

    Returns:
        The data set, in the order of the listing: raw values 0 to 255 of 8-bit images, those of the files of deep ones. Its
        issues name every file that was left out, and those that were used but are odd.

    Raises:
        ScorefieldError: no images, fewer than 8 that can be read, no room for the pixels, or a library that is missing.
    """
    refuse_unused(listing.name, "image", config)
    key = cache.key_of(listing, [config.size, config.fit, "masks"])
    held = cache.load(key)
    if held is None:
        decoded = _decode(listing, config)
        cache.save(key, decoded.pixels, _to_dict(decoded))
    else:
        decoded = _from_dict(*held)
    left_out = sorted([*listing.issues, *decoded.issues], key=lambda issue: issue.where)
    notes = [*_left_out(left_out, listing), *listing.notes, *decoded.notes]
    paths, issues = decoded.paths, (*left_out, *decoded.odd)
    classes, labels = of_folders(paths, decoded.labels if listing.labelled else None, notes)
    eight_bit = decoded.pixels.shape[1] in (1, 3) and str(decoded.pixels.dtype).rpartition(".")[2] == "uint8"
    if not eight_bit or decoded.missing is not None or _has_classes(decoded, notes):
        named = RawLabels() if labels is None else RawLabels(labels.numpy(), np.array(classes))
        return _deep(decoded, config, listing, named, notes, issues)
    normaliser = Normaliser.between(0.0, 255.0)
    examples = Examples(
        listing.name,
        "image",
        decoded.pixels,
        normaliser=lambda train: normaliser,
        labels=labels,
        classes=classes,
        notes=tuple(notes),
        issues=issues,
        names=paths,
        layout=_of_masks(decoded.pixels.shape[2:]) if decoded.masks else None,
    )
    return build(examples, config)


def _of_masks(size: tuple[int, int]) -> Layout:
    """Return the layout of masks of one bit, whose raw values are 0 and 255."""
    return Layout("yx", "bool", tuple(size), legal=(0.0, 255.0))


def _has_classes(decoded: Decoded, notes: list[str]) -> bool:
    """Whether 8-bit images of one channel are label maps, whose values are numbers of classes; a note names resized ones."""
    pixels = np.asanyarray(decoded.pixels)
    if pixels.shape[1] != 1 or any((piece >= FINE).any() for _, piece in pieces_of(pixels)) or not pixels.any():
        return False
    if decoded.resized:
        notes.append(
            f"Values from 0 to {pixels.max()}: if these are numbers of classes, resizing has mixed them; bring the files to "
            "one size by nearest neighbours, and they are read as label maps."
        )
    return not decoded.resized


def _deep(
    decoded: Decoded, config: DataConfig, listing: Listing, labels: RawLabels, notes: list[str], issues: tuple[DataIssue, ...]
) -> Dataset:
    """Return the data set of images that are not 8-bit grey or colour: that of an array, written back as TIFF or PNG."""
    pixels = np.asanyarray(decoded.pixels)
    tiffs = sum(path.lower().endswith(tiff.SUFFIXES) for path in decoded.paths) * 2 > len(decoded.paths)
    header = tiff.header_at(_place_of(decoded.paths[0], listing)) if tiffs else {}
    if pixels.shape[1] == 1:
        stored, axes = pixels[:, 0], "yx"
    elif header.get("axes", "").startswith(("C", "S")):
        stored, axes = pixels, "cyx"
    else:
        stored, axes = pixels.transpose(0, 2, 3, 1), "yxc"
    as_png = pixels.dtype in (np.uint8, np.uint16) and axes == "yx" and not tiffs
    missing, dtype = decoded.missing, None
    if missing is not None:
        header = header | {"nodata": missing}
        dtype = pixels.dtype.name if pixels.dtype.kind in "iu" else None
        if decoded.resized:
            notes.append(
                f"Cells of no data ({missing:g}) were averaged with others: bring the files to one size by other means."
            )
        stored = tiff.masked(stored, missing)
    source = ArraySource(
        axes,
        "" if as_png else "tiff",
        header,
        decoded.paths,
        issues,
        missing=missing if dtype else None,
        dtype=dtype,
    )
    return of_array(stored, listing.name, config, labels=labels, notes=notes, source=source)


def _place_of(path: str, listing: Listing) -> str | None:
    """Return where a file of a listing lies; None for a member of an archive."""
    return next((entry.place for entry in listing.entries if entry.path == path), None) if not listing.archives else None


def _decode(listing: Listing, config: DataConfig) -> Decoded:
    """Decode all files, in one pass if they are alike."""
    issues = list[DataIssue]()
    fixed = (config.size, config.size) if isinstance(config.size, int) else config.size
    with warnings.catch_warnings(), Readers(listing) as readers:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        guess = _guess(listing, fixed, config.fit)
        collected = _Collected(listing, guess)
        headers = dict[int, Header]()
        strict: Strict = "form" if fixed else "all"
        seen = readers.each(listing.entries, lambda: collected.wanted, strict)
        for place, (entry, (header, pixels, cause)) in enumerate(seen):
            if header is not None:
                headers[place] = header
            if cause:
                issues.append(DataIssue(entry.path, cause))
            elif header is not None:
                collected.add(entry.path, entry.label, header, pixels)
        if collected.wanted is not None:
            _refuse_few(len(collected.headers), listing, issues)
            return collected.finish(collected.wanted, "", issues)
        _refuse_few(len(headers), listing, issues)
        wanted, why = _choose(list(headers.values()), config)
        collected = _Collected(listing, wanted, len(headers))
        entries = (entry for place, entry in enumerate(listing.entries) if place in headers)
        for header, (entry, (_, pixels, cause)) in zip(
            headers.values(), readers.each(entries, lambda: wanted, ""), strict=True
        ):
            if cause:
                if DataIssue(entry.path, cause) not in issues:
                    issues.append(DataIssue(entry.path, cause))
            else:
                collected.add(entry.path, entry.label, header, pixels)
    _refuse_few(len(collected.headers), listing, issues)
    return collected.finish(wanted, why, issues)


class _Collected:
    """Images that are read one after another, of one form."""

    def __init__(self, listing: Listing, wanted: Wanted | None, most: int | None = None) -> None:
        """Make room, once the first comes.

        Args:
            listing: the files.
            wanted: the form; None where it is not known yet. It becomes None when an image of another form comes.
            most: how many may come; None for all files.
        """
        self.wanted, self.most, self.listing = wanted, most, listing
        self.headers, self.paths, self.labels = list[Header](), list[str](), list[str | None]()
        self.odd: dict[str, list[DataIssue]] = {kind: [] for kind in ODD}
        self.first: dict[int, str] = {}
        self.buffer: SpillBuffer | None = None

    def add(self, path: str, label: str | None, header: Header, pixels: Array | None) -> None:
        """Add an image; one without pixels is of another form."""
        if pixels is None or self.wanted is None:
            self.wanted = self.buffer = None
            return
        if self.buffer is None:
            most = self.listing.amount()[0] if self.most is None else self.most
            self.buffer = SpillBuffer(most, pixels.shape, pixels.dtype.type)
        self.buffer.append(pixels)
        self.headers.append(header)
        self.paths.append(path)
        self.labels.append(label)
        for kind, more in self._oddities(path, pixels, header):
            self.odd[kind].append(DataIssue(path, f"{ODD[kind]}{more}", used=True))

    def _oddities(self, path: str, pixels: Array, header: Header) -> Iterator[tuple[str, str]]:
        """Yield what is odd about an image that is used: a key of `ODD`, and the rest of its sentence."""
        if header.frames:
            yield "frames", ""
        if (pixels == pixels[:, :1, :1]).all():
            yield "plain", ""
        twin = self.first.setdefault(hash(pixels.tobytes()), path)
        if twin != path:
            yield "copy", f" {twin!r}"

    def finish(self, wanted: Wanted, why: str, issues: list[DataIssue]) -> Decoded:
        """Return all of them, with notes on what was done."""
        assert self.buffer, "there are as many images as a data set needs"
        notes = [why] * bool(why) + about(self.headers, wanted.size, wanted.fit)
        notes += [_summary(found) for found in self.odd.values() if found]
        odd = [issue for found in self.odd.values() for issue in found]
        resized = any(header.size != wanted.size for header in self.headers)
        masks = all(header.mask for header in self.headers) and wanted.channels == 1 and not resized
        marks = {header.missing for header in self.headers}
        missing = marks.pop() if len(marks) == 1 else None
        if marks:
            notes.append("The files say in different ways what stands for no data (GDAL_NODATA): it was read as numbers.")
        return Decoded(self.buffer.finish(), self.paths, self.labels, notes, issues, odd, masks, resized, missing)


def _guess(listing: Listing, size: tuple[int, int] | None, fit: str) -> Wanted | None:
    """Return what all images may be, by the first that can be read; None where only all of them say it."""
    for _, entry in zip(range(PROBED), listing.entries, strict=False):
        header, _, _ = see(entry, None)
        if header is not None:
            kept = max(header.size) <= KEPT_SIDE
            return Wanted(size or header.size, header.channels, header.dtype, fit) if size or kept else None
    return None


def _choose(headers: list[Header], config: DataConfig) -> tuple[Wanted, str]:
    """Return what images of several forms are decoded to, and why, if its size was chosen from them."""
    types = Counter(header.dtype for header in headers)
    if "uint16" in types:
        types["uint16"] += types.pop("uint8", 0)  # 8 bits become 16
    dtype = types.most_common(1)[0][0]
    alike = [header for header in headers if header.dtype == dtype or (header.dtype, dtype) == ("uint8", "uint16")]
    bands = Counter(header.channels for header in alike)
    if 3 in bands:
        bands[3] += bands.pop(1, 0)  # grey becomes colour
    size, why = size_of([header.size for header in alike], config)
    return Wanted(size, bands.most_common(1)[0][0], dtype, config.fit), why


def _to_dict(decoded: Decoded) -> dict[str, Any]:
    """Return all but the pixels, as JSON values."""
    lists = {name: [[one.where, one.cause, one.used] for one in getattr(decoded, name)] for name in ("issues", "odd")}
    return {"paths": decoded.paths, "labels": decoded.labels, "notes": decoded.notes, **lists} | {
        "masks": decoded.masks,
        "resized": decoded.resized,
        "missing": decoded.missing,
    }


def _from_dict(pixels: Array, about_it: dict[str, Any]) -> Decoded:
    """Return what `_to_dict` gave, with the pixels."""
    lists = {name: [DataIssue(*one) for one in about_it[name]] for name in ("issues", "odd")}
    raw = torch.from_numpy(pixels) if pixels.nbytes <= AS_TENSOR else pixels
    masks, resized, missing = (about_it[name] for name in ("masks", "resized", "missing"))
    return Decoded(
        raw,
        about_it["paths"],
        about_it["labels"],
        about_it["notes"],
        lists["issues"],
        lists["odd"],
        masks,
        resized,
        missing,
    )


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
    issues = sorted([*listing.issues, *issues], key=lambda issue: issue.where)
    if issues:
        found = f"got {count} images that can be read in {listing.name!r}, and {len(issues)} that cannot: {_listed(issues)}"
        raise ScorefieldError(f"{found}, expected at least {LEAST}: repair them, or add more")
    found = f"got {count or 'no'} image{'s' * (count != 1)} in {listing.name!r}"
    advice = "check the path, or add more"
    if listing.others:
        found += f", which holds {', '.join(f'{number} {suffix}' for suffix, number in listing.others.most_common(4))}"
        most = listing.others.most_common(1)[0][0]
        readers = sorted(name for name, form in built_in("format").items() if most in form.suffixes)
        if readers and listing.archives:
            advice = f"the format {readers[0]} reads {most} from a folder: unpack it and give the folder"
        elif readers:
            advice = (
                f"the format {readers[0]} reads {most}, where there are {LEAST} or more of them: add more, or check the path"
            )
    raise ScorefieldError(f"{found}, expected at least {LEAST} image files: {advice}")


def _listed(issues: list[DataIssue], most: int = 5) -> str:
    """Return the first few issues in words."""
    first = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:most])
    return first + (f" and {len(issues) - most} more" if len(issues) > most else "")


def _summary(found: list[DataIssue]) -> str:
    """Return a note on odd images of one kind."""
    more = f"; {len(found) - 1} more like it" if len(found) > 1 else ""
    return f"{found[0].where!r}: {found[0].cause}{more}."
