"""Files of several arrays with names: which of them is learned, which are its labels, and which rows are held out.

    key             `data.key` names the array; the last part of its name is enough where it is the only one of that name
    the only one    an array of at least 8 examples, each of one axis or more, where the others are labels, coordinates (of one
                    axis, or of no example), or no numbers
    families        train_images, train_labels, val_images...; x_train, y_train, x_test...; train/images in groups:
                    the array of `train` is learned, that of `val`, or else of `test`, is held out

Where this leaves more than one, a person is asked, in a sentence that lists all arrays with their shapes. A grid whose
coordinates are matrices looks like two data sets, so it is asked about; the names alone decide nothing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.base import LEAST, DataConfig
from scorefield.data.labels import LABELS, RawLabels, is_one_hot
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
CLASSES = ("classes", "class_names", "label_names")
NAMED = 12  # arrays that a sentence lists
MOST_LABELS = 10**8  # numbers of an array of labels, which is read whole
PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PART = re.compile(rf"(?P<before>.*[/._-])?(?P<part>{'|'.join(PARTS)})(?:[/._-](?P<after>.+))?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class NamedArray:
    """An array of a file, not read yet.

    Attributes:
        name: in the file, with / between groups.
        shape: of all of it.
        dtype: of its numbers.
        open: gives its rows, along the axis of the argument: an array, or what has a shape, a type and slices of its rows.
        dims: names of its axes; () where the file has none.
        coordinate: whether the file says that it is a coordinate of others.
        unreadable: why it cannot be read as numbers, in a few words; "" if it can.
        ends: its examples may lie along the last axis as well as along the first.
        header: what of it still holds for a sample, as JSON values.
        missing: what stands for an unknown cell of whole numbers, which are read as floats with NaN.
        stored: numpy's name of its type in the file, where that is not the type of what is read.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[int], Any]
    dims: tuple[str, ...] = ()
    coordinate: bool = False
    unreadable: str = ""
    ends: bool = False
    header: dict[str, Any] = field(default_factory=dict)
    missing: float | None = None
    stored: str | None = None

    def __str__(self) -> str:
        sizes = [f"{d} {n}" for d, n in zip(self.dims, self.shape, strict=True)] if self.dims else map(str, self.shape)
        return f"{self.name} ({', '.join(sizes)}{',' * (len(self.shape) == 1)}) {self.unreadable or self.stored or self.dtype}"

    @property
    def last_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    def could_be_data(self, least: int = LEAST) -> bool:
        """Whether it has the type of numbers and the shape of at least so many examples."""
        if self.unreadable or self.coordinate or not self.shape or 0 in self.shape:
            return False
        many = max(self.shape[0], self.shape[-1] if self.ends else 0) >= least
        is_table = self.dtype.names is not None and len(self.shape) == 1
        return many and (is_table or (self.dtype.kind in "fiubc" and len(self.shape) > 1))


@dataclass(frozen=True)
class Choice:
    """What a file of several arrays is read as.

    Attributes:
        data: the array to learn; its name is the key.
        labels: of its examples, or None.
        names: of the classes, or None.
        held: the array that is held out, or None where a part of `data` is.
        held_labels: of its examples, or None.
        notes: what was decided.
    """

    data: NamedArray
    labels: NamedArray | None
    names: NamedArray | None
    held: NamedArray | None
    held_labels: NamedArray | None
    notes: tuple[str, ...]

    def raw_labels(self) -> RawLabels | None:
        """Return the labels of `data`, then those of `held`."""
        parts = [part for part in (self.labels, self.held_labels if self.held else None) if part]
        if self.labels is None or (self.held and self.held_labels is None):
            return None
        values = [_whole(part) for part in parts]
        return RawLabels(np.concatenate(values) if len(values) > 1 else values[0], _whole(self.names) if self.names else None)


def choose(arrays: Sequence[NamedArray], name: str, config: DataConfig, least: int = LEAST) -> Choice:
    """Choose the array to learn.

    Args:
        arrays: all of the file, in its order.
        name: of the file, for messages.
        config: how it is read: `key`, and `held_out`, which divides the rows anew where the file has a division of its own.
        least: how many examples data have; fewer in a file of a folder.

    Raises:
        ScorefieldError: no array of that name, or not one choice; the sentence lists the arrays.
    """
    families = _families(arrays)
    train = families.get("train", {})
    if not any(one.could_be_data(least) for one in train.values()):
        train = {}
    data = _asked(arrays, train, name, config.key) if config.key else _only(list(train.values()), arrays, name, least)
    base = next((base for base, one in train.items() if one is data), None)
    others = {one.name: one for one in arrays if part_of(one.name) is None or base is None}
    alone = base is None or len(families) == 1
    labels = _labels_of(data, {**(others if alone else {}), **(train if base is not None else {})})
    titles = next((one for one in others.values() if one.last_name in CLASSES), None)
    if base is None or alone:
        return Choice(data, labels, titles, None, None, tuple(_left_out(arrays, (data, labels, titles), name)))
    held, held_labels, notes = _held(families, base, next((key for key, one in train.items() if one is labels), ""))
    if held is None:
        return Choice(data, labels, titles, None, None, (f"Read {data} of {name!r}.",))
    said = f"{data.name}, {data.shape[0]:,} rows, to learn from; {held.name}, {held.shape[0]:,} rows, held out"
    if config.held_out is not None:
        said = f"{data.name} and {held.name}, {data.shape[0] + held.shape[0]:,} rows together, divided as data.held_out says"
    if labels and held_labels is None:
        notes.append(f"The labels {labels.name} were left out: {held.name} has none.")
    return Choice(data, labels, titles, held, held_labels if labels else None, (f"Read of {name!r}: {said}.", *notes))


def _held(
    families: dict[str, dict[str, NamedArray]], base: str, labels: str
) -> tuple[NamedArray | None, NamedArray | None, list[str]]:
    """Return the array that is held out beside that of the training part, its labels, and notes on a third part."""
    shape = families["train"][base].shape[1:]
    parts = [part for part in ("val", "test") if base in families.get(part, {})]
    parts = [part for part in parts if families[part][base].shape[1:] == shape]
    if not parts:
        return None, None, []
    notes = [
        f"{families[part][base].name}, {families[part][base].shape[0]:,} rows, was left out: give it as a file of its own."
        for part in parts[1:]
    ]
    return families[parts[0]][base], families[parts[0]].get(labels), notes


def listed(arrays: Sequence[NamedArray]) -> str:
    """Return the arrays with shapes and types, as a phrase."""
    more = f" and {len(arrays) - NAMED} more" if len(arrays) > NAMED else ""
    return ", ".join(map(str, arrays[:NAMED])) + more or "nothing"


def refuse(arrays: Sequence[NamedArray], name: str, expected: str, like: str = "", least: int = LEAST) -> ScorefieldError:
    """Return the error that lists the arrays of a file and says how to name one."""
    fit = sorted((one for one in arrays if one.could_be_data(least)), key=lambda one: -math.prod(one.shape))
    ordered = [*fit, *(one for one in arrays if not one.could_be_data(least))] if len(arrays) > NAMED else arrays
    close = difflib.get_close_matches(like, [one.name for one in arrays], n=1, cutoff=0.6) if like else []
    advice = (
        f"say which to learn, such as --set data.key={close[0] if close else fit[0].name}" if fit else "save it as an array"
    )
    return ScorefieldError(f"got {name!r} with {listed(ordered)}, expected {expected}: {advice}")


def _asked(arrays: Sequence[NamedArray], parts: dict[str, NamedArray], name: str, key: str) -> NamedArray:
    """Return the array that a person named."""
    key = key.strip("/")
    for fit in (
        [one for one in arrays if one.name == key],
        [one for base, one in parts.items() if base == key],
        [one for one in arrays if one.name.endswith(f"/{key}")],
    ):
        if len(fit) == 1:
            if fit[0].unreadable:
                raise ScorefieldError(f"got data.key={key} of {name!r}, {fit[0].unreadable}, expected numbers: choose others")
            return fit[0]
    raise refuse(arrays, name, f"one array called {key!r}", key)


def _only(fit: Sequence[NamedArray], arrays: Sequence[NamedArray], name: str, least: int) -> NamedArray:
    """Return the only one of the arrays, of a part of them if there is one, that can be data."""
    fit = fit or arrays
    able = [one for one in fit if one.could_be_data(least)]
    shapes = [one.shape for one in able]
    able = [one for one in able if not _is_label(one, shapes) and not _is_aside(one, shapes)]
    if not able:  # too few examples, or numbers without an axis for each: the reader says so
        numbers = [one for one in fit if not one.unreadable and one.dtype.kind in "fiubc" and one.shape and not one.coordinate]
        able = [one for one in numbers if len(one.shape) > 1] or numbers
        able = [one for one in able if one.last_name not in LABELS] or able
        if len(able) == 1 and able[0].shape[0] == 0:
            raise refuse(arrays, name, "examples in it", least=least)
    if len(able) != 1:
        raise refuse(arrays, name, "one array of data", least=least)
    return able[0]


def _is_label(array: NamedArray, shapes: list[tuple[int, ...]]) -> bool:
    """Whether an array with the name of labels holds them: a column, one-hot rows, or less for each example than the data."""
    found = part_of(array.name)  # "train_labels" are the labels of a part
    last = (found[1] if found else array.name).rpartition("/")[2]
    if last not in LABELS or len(array.shape) != 2:
        return False
    n, width = array.shape
    others = [math.prod(shape[1:]) for shape in shapes if shape[0] == n]
    others.remove(width)  # its own
    return bool(others) and (width == 1 or min(others) > width or is_one_hot(_whole(array)))


def _is_aside(array: NamedArray, shapes: list[tuple[int, ...]]) -> bool:
    """Whether an array has a few whole numbers for each example of another one: places, corners of boxes."""
    whole, n = array.dtype.kind in "iub" and array.dtype != np.uint8 and len(array.shape) == 2, array.shape[0]
    return whole and any(shape[0] == n and math.prod(shape[1:]) > array.shape[1] for shape in shapes)


def _labels_of(data: NamedArray, inside: dict[str, NamedArray]) -> NamedArray | None:
    """Return the labels of an array: what has the name of labels, in the group of the array first, then anywhere."""
    group = data.name.rpartition("/")[0]
    fit = [
        (one.name.rpartition("/")[0] != group, LABELS.index(last), one)
        for base, one in inside.items()
        if (last := base.rpartition("/")[2]) in LABELS and one is not data and not one.unreadable
    ]
    ends = {data.shape[0], data.shape[-1]} if data.ends else {data.shape[0]}
    away = [one for one in fit if not data.ends and not set(one[2].shape) <= set(data.shape[1:])]  # its reader says that
    fit = [one for one in fit if ends & set(one[2].shape)] or away
    return min(fit, key=lambda one: one[:2])[2] if fit else None


def _left_out(arrays: Sequence[NamedArray], used: Sequence[NamedArray | None], name: str) -> list[str]:
    """Return notes on what was not taken as data, and may have been meant as something."""
    data, labels = used[0], used[1]
    assert data is not None, "something is learned"
    n = data.shape[-1] if data.ends and len(data.shape) > 2 and data.shape[0] != data.shape[-1] else data.shape[0]
    notes, others = list[str](), [one for one in arrays if one not in used]
    if meant := [one for one in others if one.shape in ((n,), (n, 1)) and one.dtype.kind in "iubUS" and not one.coordinate]:
        why = f"{labels.name!r} holds the labels" if labels else f"call it {LABELS[0]!r} if it holds labels"
        names = ", ".join(repr(one.name) for one in meant)
        notes.append(f"Left out of {name!r}: {names}, {n} whole numbers or texts; {why}.")
    axes = [one for one in others if len(one.shape) == 1 and one.shape != (n,) and not one.coordinate]
    if axes := [one for one in axes if one not in meant and set(one.shape) <= set(data.shape) and not one.unreadable]:
        notes.append(f"Left out of {name!r}: {listed(axes)}, taken as coordinates of {data.name}.")
    if odd := [one for one in others if one.unreadable]:
        notes.append(f"Left out of {name!r}: {', '.join(f'{one.name} ({one.unreadable})' for one in odd[:NAMED])}.")
    return notes


def _whole(array: NamedArray) -> Array:
    """Return a small array as a whole."""
    if math.prod(array.shape) > MOST_LABELS:
        raise ScorefieldError(f"got {array} as labels, expected at most {MOST_LABELS:,} numbers: choose another array")
    opened = array.open(0)
    return np.asarray(opened[: array.shape[0]] if array.shape else opened)


def part_of(name: str) -> tuple[str, str] | None:
    """Return the part that an array's name says it belongs to, and the rest of the name.

    >>> part_of("train_images"), part_of("x_test"), part_of("cohort/val/scan"), part_of("strain")
    (('train', 'images'), ('test', 'x'), ('val', 'cohort/scan'), None)
    """
    if found := PART.fullmatch(name):
        rest = (found["before"] or "") + (found["after"] or "")
        return PARTS[found["part"].lower()], rest if found["after"] else rest.rstrip("/._-")
    return None


def _families(arrays: Sequence[NamedArray]) -> dict[str, dict[str, NamedArray]]:
    """Return the arrays of each part by the rest of their names."""
    families = dict[str, dict[str, NamedArray]]()
    for one in arrays:
        if found := part_of(one.name):
            families.setdefault(found[0], {})[found[1]] = one
    return families
