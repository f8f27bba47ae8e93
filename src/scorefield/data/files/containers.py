"""Containers: files that hold arrays with names, one file or a folder of them, read as one data set.

    one file      the array of `named.choose`; its examples lie along one axis
    a folder      the array of that name in every file; a file holds several examples along an axis, or is one example
    axes          by the names that the file gives them (`time`, `lat`, `lon`), else by `data.axes`, else by their lengths

What a file holds is decided for all files at once: files of many lengths, or of one but for a shorter last file, hold several
examples each, and so do fewer than eight files. Otherwise a file is one example. A format may say that its files hold slices. A
note says which.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import DataConfig, DataIssue, Dataset
from scorefield.data.files.archives import Entry
from scorefield.data.files.axes import Place, place
from scorefield.data.files.collection import LEAST, listing_of
from scorefield.data.files.named import Choice, NamedArray, choose, part_of
from scorefield.data.files.rows import gathered, joined
from scorefield.data.labels import LABELS, RawLabels, of_folders
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SHARD = re.compile(r"(?:^|[^a-z])(?:shard|part|batch|chunk)s?(?:[^a-z]|$)", re.IGNORECASE)
FEW = 4  # channels
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "valid_range", "valid_min", "valid_max")
ODD = 0.1  # of the files: as many of another length have a mistake in them; more hold as many examples as there are
NAMED = 3  # files that a sentence names


class Broken(ScorefieldError):
    """The error of a file that cannot be read: in a folder, the others are used."""

    def __init__(self, message: str, cause: str | None = None) -> None:
        """Hold the sentence, and the cause in a few words."""
        super().__init__(message)
        self.cause = cause or message


@dataclass(frozen=True)
class Container:
    """How the files of a format are read.

    Attributes:
        format: its registered name.
        suffixes: of its files.
        opened: gives the arrays of a file while it is open; raises `Broken`.
        slices: a file of 3 axes or more holds examples along its first, even where all files have one shape.
        named: the arrays have names; otherwise a file is one array.
    """

    format: str
    suffixes: tuple[str, ...]
    opened: Callable[[str], AbstractContextManager[list[NamedArray]]]
    slices: bool = False
    named: bool = True


def read(source: str, config: DataConfig, container: Container) -> Dataset:
    """Read a file, or the files of a folder.

    Args:
        source: the path.
        config: how it is read.
        container: how its files are opened.

    Raises:
        ScorefieldError: a broken file, no plain choice of an array, or what `of_array` refuses.
    """
    if os.path.isdir(source) and container.suffixes:
        return _folder(source, config, container)
    name = os.path.basename(os.path.abspath(source))
    with container.opened(source) as arrays:
        choice = choose(arrays, name, config)
        data, held = choice.data, choice.held
        if data.dtype.names is not None:
            return of_array(np.asarray(data.open(0)[:]), name, config, notes=choice.notes)
        where = place(data, config, choice.labels.shape if choice.labels else None, name)
        rows = where.rows(data)
        if data.ends and len(rows.shape) == 1:  # a column
            rows = np.asarray(rows[:])[:, None]
        if held is not None:
            more = where.rows(held)
            rows = np.concatenate([rows, more]) if isinstance(rows, np.ndarray) else joined([rows, more])
        found = ArraySource(
            where.axes,
            container.format,
            _header(data.header, where, data.name if held is None else _base(choice)),
            missing=data.missing,
            dtype=data.stored,
            held_rows=len(more) if held is not None else 0,
        )
        return of_array(
            rows,
            name,
            where.config,
            labels=choice.raw_labels(),
            notes=[*choice.notes, *where.notes, *getattr(rows, "notes", ())],
            source=found,
        )


def _header(header: dict[str, Any], where: Place, key: str) -> dict[str, Any]:
    """Return what is written back with samples: what the file has, the names of the axes, and that of the array."""
    found = {**header, **where.header, **({"key": key} if key else {})}
    if "coordinates" in found:  # those of the examples do not hold for samples
        found["coordinates"] = {dim: one for dim, one in found["coordinates"].items() if dim in where.header.get("dims", ())}
    return found


def _base(choice: Choice) -> str:
    """Return what the array is called without the part it belongs to."""
    found = part_of(choice.data.name)
    return (found[1] if found else "") or choice.data.name


@dataclass(frozen=True)
class _Part:
    """The array of one file of a folder."""

    entry: Entry
    data: NamedArray
    labels: RawLabels | None


def _folder(source: str, config: DataConfig, container: Container) -> Dataset:
    """Read the files of a folder."""
    listing = listing_of(source, container.suffixes, 2**50)
    parts, issues, notes = _parts(listing.entries, config, container, list(listing.issues))
    if not parts:
        bad = "; ".join(f"{issue.where!r}: {issue.cause}" for issue in issues[:NAMED])
        raise ScorefieldError(f"got no files that can be read in {listing.name!r} ({bad}), expected some: repair them")
    key = parts[0].data.name
    one_each = _one_each([part.data for part in parts], [part.entry.path for part in parts], config, container)
    where = place(parts[0].data, config, None, listing.name, one_each)
    used = _of_most(parts, where, listing.name, issues)
    shape, dtype = where.shape(used[0].data)[1:], np.result_type(*(part.data.dtype for part in used))
    if used[0].data.ends:  # the directory of a MATLAB file does not say which numbers are complex
        with _opened_rows(used[0], container, where) as rows:
            dtype = np.result_type(dtype, rows.dtype)
    total = sum(where.shape(part.data)[0] for part in used)
    found = gathered([(part.entry.path, partial(_opened_rows, part, container, where)) for part in used], total, shape, dtype)
    issues = sorted([*issues, *found.issues], key=lambda issue: issue.where)
    if issues:
        first = ", ".join(f"{issue.where!r} ({issue.cause})" for issue in issues[:NAMED])
        more = f" and {len(issues) - NAMED} more" if len(issues) > NAMED else ""
        notes.append(
            f"{len(issues)} file{' was' if len(issues) == 1 else 's were'} left out, or a part of them: {first}{more}."
        )
    if listing.others:
        notes.append(f"Other files were left out: {', '.join(f'{s} {n}' for s, n in sorted(listing.others.items()))}.")
    notes += where.notes
    notes.append(_said(key if container.named else "", len(used), found.counts, one_each))
    names = [
        part.entry.path if one_each else f"{part.entry.path}[{i}]"
        for part, count in zip(used, found.counts, strict=True)
        for i in range(count)
    ]
    labels = _labels(used, found.counts, notes)
    header = _header(_shared([part.data.header for part in used]), where, key if container.named else "")
    about = ArraySource(where.axes, container.format, header, names, tuple(issues), used[0].data.missing, used[0].data.stored)
    return of_array(found.array, listing.name, where.config, labels=labels, notes=notes, source=about)


def _of_most(parts: Sequence[_Part], where: Place, name: str, issues: list[DataIssue]) -> list[_Part]:
    """Return the files whose examples have the shape and type of most; the others are added to the issues."""

    def form(data: NamedArray) -> tuple[tuple[int, ...], np.dtype[Any]]:
        packed = data.dtype.kind == "f" and data.header.get("stored", data.dtype.name) != data.dtype.name
        return where.shape(data)[1:], np.dtype("f8") if packed else data.dtype  # of each file as fine as its packing

    forms = Counter[tuple[tuple[int, ...], np.dtype[Any]]]()
    for part in parts:
        forms[form(part.data)] += where.shape(part.data)[0]
    usual, most = forms.most_common(1)[0]
    if most * 2 < forms.total():
        shapes = ", ".join(f"{number:,} of {'x'.join(map(str, s))} {d}" for (s, d), number in forms.most_common(3))
        raise ScorefieldError(
            f"got examples of {len(forms)} shapes or types in {name!r} ({shapes}), expected one: cut or resample them to one "
            "shape, or give those of one shape a folder of their own"
        )
    for part in parts:
        if form(part.data) != usual:
            shape, dtype = form(part.data)
            issues.append(DataIssue(part.entry.path, f"examples of shape {shape} {dtype}, most are {usual[0]} {usual[1]}"))
    return [part for part in parts if form(part.data) == usual]


def _parts(
    entries: Any, config: DataConfig, container: Container, issues: list[DataIssue]
) -> tuple[list[_Part], list[DataIssue], list[str]]:
    """Return the array of each file, what was left out, and notes."""
    parts, notes = list[_Part](), list[str]()
    for entry in entries:
        try:
            with container.opened(entry.place) as arrays:
                if container.named:
                    asked = replace(config, key=parts[0].data.name) if parts else config
                    choice = choose(arrays, entry.path, asked, 1)
                    data, labels = choice.data, choice.raw_labels() if choice.held is None else None
                    labels = labels if labels is not None and labels.values is not None else _alone(arrays)
                    notes = notes or [note for note in choice.notes if choice.held is None]
                else:
                    data, labels = arrays[0], None
                parts.append(_Part(entry, data, labels))
        except Broken as error:
            issues.append(DataIssue(entry.path, error.cause))
        except ScorefieldError as error:
            if not parts:
                raise
            issues.append(DataIssue(entry.path, str(error)[:200]))
    return parts, issues, notes


def _alone(arrays: Sequence[NamedArray]) -> RawLabels | None:
    """Return the label of a file that is one example: one whole number, or one text, with the name of labels."""
    fit = [one for one in arrays if one.last_name in LABELS and one.shape in ((), (1,)) and one.dtype.kind in "iubUS"]
    if len(fit) != 1 or fit[0].unreadable:
        return None
    try:
        found = fit[0].open(0)
        return RawLabels(np.asarray(found[()] if not fit[0].shape else found[0:1]).reshape(1))
    except (IndexError, TypeError):  # a format whose arrays are opened along an axis, which this one does not have
        return None


@contextmanager
def _opened_rows(part: _Part, container: Container, where: Place) -> Iterator[Any]:
    """Give the rows of the array of one file, which is open meanwhile."""
    assert part.entry.place is not None, "it is a file of a folder"
    with container.opened(part.entry.place) as arrays:
        yield where.rows(next(one for one in arrays if one.name == part.data.name))


def _one_each(arrays: Sequence[NamedArray], paths: Sequence[str], config: DataConfig, container: Container) -> bool:
    """Whether a file is one example, rather than several along an axis."""
    ndim, shapes = len(arrays[0].shape), [one.shape for one in arrays]
    if config.axes is not None:
        return "n" not in config.axes and len(config.axes) == ndim
    if ndim < 2 or (config.kind == "vector" and ndim == 2):
        return ndim < 2
    if len(arrays) < LEAST or any(SHARD.search(os.path.basename(path)) for path in paths[:2]):
        return False
    usual = Counter(shapes).most_common(1)[0][0]
    odd = [i for i, shape in enumerate(shapes) if shape != usual and shape[1:] == usual[1:]]
    if len(odd) > ODD * len(shapes) or (odd == [len(shapes) - 1] and shapes[-1][0] < usual[0]):
        return False
    if ndim > 3 and min(arrays[0].shape[0], arrays[0].shape[-1]) > FEW:
        return False
    return ndim == 2 or not container.slices


def _said(key: str, files: int, counts: list[int], one_each: bool) -> str:
    """Return in a sentence what the files hold."""
    of = f" ({key})" if key else ""
    if one_each:
        return f"Each of the {files} files{of} is one example; data.axes with an n, such as nyx, says where a file has several."
    several = f"{sum(counts):,} examples lie along the first axis of {files} files{of}"
    return f"{several}; data.axes of one example, such as zyx, says where a file is one."


def _labels(parts: Sequence[_Part], counts: list[int], notes: list[str]) -> RawLabels | None:
    """Return the labels of all examples: those beside them, or first-level folders."""
    if all(part.labels is not None and part.labels.values is not None for part in parts):
        values = [
            np.repeat(given, count) if given.shape == (1,) else given[:count]
            for part, count in zip(parts, counts, strict=True)
            if (given := part.labels.values) is not None  # type: ignore[union-attr]
        ]
        return RawLabels(np.concatenate(values), parts[0].labels.names)  # type: ignore[union-attr]
    classes, numbers = of_folders([part.entry.path for part in parts], None, notes)
    if numbers is None:
        return None
    return RawLabels(np.repeat(np.array(classes)[numbers.numpy()], counts))


def _shared(headers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the headers of all files agree on; where they pack numbers differently, samples are not packed."""
    found = _common(headers)
    packings = [{key: header.get("attributes", {}).get(key) for key in PACKING} for header in headers]
    if any(packing != packings[0] for packing in packings):
        found.pop("stored", None)
        found["attributes"] = {key: value for key, value in found.get("attributes", {}).items() if key not in PACKING}
    return found


def _common(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries that all dictionaries share, of those within them, too."""
    found = dict[str, Any]()
    for key in values[0]:
        each = [one.get(key) for one in values]
        if all(isinstance(one, dict) and "values" not in one for one in each):
            found[key] = _common(each)  # type: ignore[arg-type]
        elif len({json.dumps(one, sort_keys=True) for one in each}) == 1:
            found[key] = each[0]
    return found
