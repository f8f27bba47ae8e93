"""Labels: whole numbers, texts or one-hot rows become class numbers 0, 1, 2... with a name for each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
EXAMPLES = ("images", "image", "x", "X", "data", "train")  # what an array of examples may be called
LABELS = ("labels", "label", "y", "Y", "targets", "target")  # what labels may be called
FEW = 10  # classes, up to which whole numbers are labels, however few examples each has


@dataclass(frozen=True, eq=False)
class RawLabels:
    """Labels as a source gives them.

    Attributes:
        values: whole numbers, texts or bytes, `(n,)` or `(n, 1)`, or one-hot rows `(n, classes)`; None without labels.
        names: of the classes, if the labels count them from 0; None otherwise.
        names_certain: whether the names were given with these labels, so that a note says if they do not fit.
    """

    values: Array | None = None
    names: Array | None = None
    names_certain: bool = True

    def numbered(self, n: int, notes: list[str]) -> tuple[Tensor | None, tuple[str, ...]]:
        """Return class numbers `(n,)`, int64, and a name for each class; or None, and a note that says why.

        Args:
            n: number of examples.
            notes: what was left out is added to them.
        """
        if self.values is None:
            return None, ()
        values = self.values
        names = self.names if self.names_certain or _count_from_0(values, self.names) else None
        own_names = None
        if values.ndim == 2 and values.shape[1] > 1 and is_one_hot(values):
            values, own_names = values.argmax(axis=1), [str(i) for i in range(values.shape[1])]
        values = _decoded(values)
        if values.shape not in ((n,), (n, 1)) or not _are_whole(values):
            given = f"Labels of shape {self.values.shape} and type {self.values.dtype}"
            notes.append(f"{given} were left out: they are not {n} whole numbers, texts or one-hot rows.")
            return None, ()
        values = values.reshape(-1).astype(np.int64 if values.dtype.kind in "fb" else values.dtype)
        if names is not None:
            names = _decoded(names)
            if _count_from_0(values, names):
                return torch.from_numpy(values.astype(np.int64)), tuple(str(name) for name in names)
            notes.append("The class names were left out: the labels do not count them from 0.")
        if own_names is not None:
            return torch.from_numpy(values), tuple(own_names)
        distinct, numbers = np.unique(values, return_inverse=True)
        if values.dtype.kind in "iu" and len(distinct) > max(FEW, n / 4):
            notes.append(
                f"Labels were left out: {len(distinct)} different whole numbers of {n} examples are quantities, not classes; "
                "texts in their place would be classes."
            )
            return None, ()
        return torch.from_numpy(numbers.astype(np.int64)), tuple(str(value) for value in distinct)


def _decoded(values: Array) -> Array:
    """Return bytes as texts; anything else as it is."""
    return np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values


def _are_whole(values: Array) -> bool:
    """Whether all values are whole numbers or texts."""
    if values.dtype.kind == "f":
        return bool((np.isfinite(values) & (np.trunc(values) == values)).all())
    return values.dtype.kind in "iubU"


def _count_from_0(values: Array, names: Array | None) -> bool:
    """Whether labels count these names from 0."""
    if names is None or names.ndim != 1 or values.size == 0 or values.dtype.kind not in "iubf":
        return False
    if values.ndim == 2 and values.shape[1] > 1:
        return bool(len(names) == values.shape[1])
    return bool(values.min() >= 0 and values.max() < len(names))


def is_one_hot(rows: Array) -> bool:
    """Whether each of the rows `(n, k)` is 1 in one place and 0 in all others.

    >>> is_one_hot(np.eye(3)), is_one_hot(np.ones((2, 2)))
    (True, False)
    """
    if rows.dtype.kind not in "fiub" or rows.shape[1] < 2:
        return False
    return bool(((rows == 0) | (rows == 1)).all() and (rows.astype(bool).sum(axis=1) == 1).all())


def of_folders(paths: list[str], given: list[str | None] | None, notes: list[str]) -> tuple[tuple[str, ...], Tensor | None]:
    """Return class names and labels of files: those that are given, or their first-level folders if every one lies in one.

    Args:
        paths: of the files, with / between folders; at least one.
        given: what the source says that each shows; None if it says nothing of any.
        notes: what was left out is added to them.

    Returns:
        A name per class, and int64 `(n,)`; nothing and None where there are no labels, or only one.

    >>> of_folders(["cat/1.png", "dog/1.png", "cat/2.png"], None, [])
    (('cat', 'dog'), tensor([0, 1, 0]))
    """
    found: list[str | None]
    if given is None and not all("/" in path for path in paths):
        return (), None
    if given is not None:
        found = given
        without = sum(label is None for label in found)
        if 0 < without < len(found):
            notes.append(f"Labels were left out: {without} of {len(found)} images have none.")
    else:
        parts = [path.split("/")[:-1] for path in paths]
        shared = len(os.path.commonprefix([min(parts), max(parts)]))  # noqa: RUF071 - of lists: one folder around everything
        found = [folders[shared] if len(folders) > shared else None for folders in parts]
    names = {label for label in found if label is not None}
    if None in found or len(names) < 2:
        return (), None
    whole = all(name.lstrip("-").isdecimal() for name in names)
    classes = tuple(sorted(names, key=lambda name: (int(name), name) if whole else (0, name)))
    number = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([number[label] for label in found if label is not None])
