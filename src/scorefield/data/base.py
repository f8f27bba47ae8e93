"""Data sets: raw values as they came, and a split that never moves.

The split walks through the rows sorted by label, and by a random number within a label, and holds out rows at even distances.
Each label is then held out in proportion to within one row, without a loop over labels; a row's number is a pure function of
the seed and its index. A label of which no row would be left to train on keeps one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain
from dataclasses import field, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.data.normaliser import Normaliser
from scorefield.data.views import NUMBERS, ArrayView, pieces, release
from scorefield.errors import ScorefieldError
from scorefield.randomness import SampleRng, stream_of

__all__ = [
    "LEAST",
    "NUMBERS",
    "PIECE",
    "ArrayView",
    "DataConfig",
    "DataIssue",
    "Dataset",
    "Kind",
    "Normaliser",
    "Unused",
    "build",
    "pieces",
    "release",
    "shown",
    "split",
]  # fmt: skip
Kind = Literal["image", "signal", "vector", "table"]
PIECE = 4096  # examples at a time, wherever all of them are walked through
LEAST = 8  # fewer examples than this are a mistake, not a data set
POINTS = 20000  # of a toy, when nobody says otherwise


@dataclass(frozen=True)
class DataConfig:
    """How a source is read.

    Attributes:
        size: images: side, or (height, width), in pixels; None keeps images of one size as they are.
        fit: images: how one of another shape is brought to the size: "crop" keeps the centre, "pad" keeps everything, both with
            the aspect ratio as it is; "stretch" gives it up.
        flip: images: show training every image mirrored left to right half of the time.
        kind: arrays: what an example is; "auto" reads it off the shape.
        held_out: fraction of the examples that training never sees; None = the source's own: a third for digits, else 0.1.
        examples: how many points a toy generates.
        seed: seed of the split and of the toys.
    """

    size: Annotated[int, Bound(ge=1)] | tuple[Annotated[int, Bound(ge=1)], Annotated[int, Bound(ge=1)]] | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    flip: bool = False
    kind: Literal["auto", "image", "signal", "vector"] = "auto"
    held_out: Annotated[float, Bound(gt=0, lt=1)] | None = None
    examples: Annotated[int, Bound(ge=LEAST, le=10_000_000)] = POINTS
    seed: Annotated[int, Bound(ge=0, lt=2**63)] = 0


@plain(frozen=True)
class DataIssue:
    """Something in a source that could not be used, or should be looked at.

    Attributes:
        where: the file, row or column.
        cause: what is wrong with it, in a few words.
        used: whether it is among the examples all the same (a duplicate, an odd size).
    """

    where: str
    cause: str
    used: bool = False


def shown(value: float) -> str:
    """Return a person's own number as a person writes it: whole ones, such as codes, with all their digits.

    >>> shown(1234567.0), shown(1234567.8), shown(-1.5e-07), shown(1 / 3)
    ('1234567', '1234567.8', '-1.5e-07', '0.3333333333')
    """
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e16 else f"{value:.10g}"


@plain(frozen=True, eq=False)
class Dataset:
    """Examples of one shape, split into those that training sees and those that it never does.

    Attributes:
        name: name of the source.
        kind: image `(channels, height, width)`, signal `(channels, length)`, vector `(d,)` or table `(d,)`.
        train: raw examples `(n, *shape)`: uint8 for 8-bit images, float64 for tables, float32 for the rest; a tensor, or
            `ArrayView` of what is large. Use only what both have.
        held_out: raw examples `(m, *shape)`, likewise.
        labels: int64 `(n,)` in [0, number of classes), or None.
        held_out_labels: int64 `(m,)`, or None.
        classes: a name per label; empty without labels.
        affine: the map between raw values and model space.
        coordinates_print: sha256 over shapes, types and bytes of both parts, and the labels; every byte counts.
        notes: sentences about what was found in the source.
        problems: what in the source was left out, or should be looked at.
        names: of the examples, the training part first, where they have any (files).
        columns: what the coordinates of a table mean, as JSON values of `data/tables.py`; None for all else.
    """

    name: str
    kind: Kind
    train: Tensor | ArrayView = field(repr=False)
    held_out: Tensor | ArrayView = field(repr=False)
    labels: Tensor | None = field(repr=False)
    held_out_labels: Tensor | None = field(repr=False)
    classes: tuple[str, ...]
    normaliser: Normaliser
    coordinates_print: str
    notes: tuple[str, ...]
    issues: tuple[DataIssue, ...] = ()
    columns: list[dict[str, Any]] | None = None
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """What two data sets share only if they are the same: `coordinates_print`, and sha256 of what they mean besides.

        Where the data came from, a path, a time or a kind of file, is no part of it.
        """
        if not self.classes and not self.columns:
            return self.coordinates_print
        said = ("name", "type", "values", "constant", "utc")
        columns = [{key: column[key] for key in said if key in column} for column in self.columns or ()]
        meaning = json.dumps([self.coordinates_print, self.classes, columns], sort_keys=True)
        return hashlib.sha256(meaning.encode()).hexdigest()

    def is_what_made(self, fingerprint: str) -> bool:
        """Whether a fingerprint is that of these data; runs of 0.4 hold `coordinates_print` as theirs."""
        return fingerprint in (self.fingerprint, self.coordinates_print)

    def x0(self, rows: Tensor | slice) -> Tensor:
        """Return training rows in model space, float32."""
        return self.normaliser.encode(self.train[rows])


def split(n: int, fraction: float, labels: Tensor | None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Divide n rows into training and held-out ones, each label in proportion to within one row, none of it held out whole.

    Args:
        n: number of rows, at least 2.
        fraction: share to hold out, in (0, 1); at least one row lies in each part.
        labels: int64 `(n,)`, or None.
        seed: another seed is another split.

    Returns:
        Training rows and held-out rows, sorted.

    Raises:
        ScorefieldError: fewer than two rows, a fraction outside (0, 1), or another number of labels.

    >>> train, held = split(10, 0.2, None)
    >>> len(train), len(held)
    (8, 2)
    """
    if n < 2 or not 0 < fraction < 1 or (labels is not None and len(labels) != n):
        found = f"got {n} rows, {n if labels is None else len(labels)} labels and fraction {fraction}"
        raise ScorefieldError(f"{found}, expected at least 2 rows, a label for each, and a fraction in (0, 1): correct them")
    order = SampleRng(range(n), stream=stream_of("split", seed)).uniform().argsort()
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    count = min(max(round(n * fraction), 1), n - 1)
    step = torch.arange(n + 1) * count // n  # rises by one `count` times, at even distances
    held = step[1:] > step[:-1]
    if labels is not None:
        held = _one_of_each(labels[order], held)
    return order[~held].sort().values, order[held].sort().values


def _one_of_each(labels: Tensor, held: Tensor) -> Tensor:
    """Return which rows, sorted by label, are held out once every label has kept a row; at least one is held out still."""
    values, places, sizes = torch.unique_consecutive(labels, return_inverse=True, return_counts=True)
    kept = torch.zeros(len(values), dtype=torch.long).scatter_add_(0, places, (~held).long())
    first = sizes.cumsum(0) - sizes
    spared = held.clone()
    spared[first[kept == 0]] = False
    if not bool(spared.any()):
        most = int(sizes.argmax())
        spared[first[most] + sizes[most] - 1] = True  # of labels of one row each, one has none left
    return spared


def build(
    name: str,
    kind: Kind,
    raw: Tensor | NDArray[Any],
    config: DataConfig,
    *,
    normaliser: Callable[[Tensor | ArrayView], Normaliser],
    labels: Tensor | None = None,
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    issues: tuple[DataIssue, ...] = (),
    columns: list[dict[str, Any]] | None = None,
    names: Sequence[str] = (),
    held_out: float = 0.1,
    generated: bool = False,
) -> Dataset:
    """Split raw examples into a `Dataset`: what every source ends with.

    Args:
        name: name of the source.
        kind: what an example is.
        raw: all examples `(n, *shape)`: a tensor, which is divided by copying, or an array (memory-mapped), which is not.
        config: how the source is read.
        affine: the map to model space, from the training rows.
        labels: int64 `(n,)`, or None.
        classes: a name per label.
        notes: sentences about what was found.
        problems: what was left out, or should be looked at.
        columns: of a table.
        names: of the examples, if they have any.
        held_out: the source's own held-out fraction, used when the configuration leaves it open.
        generated: whether the configuration says how many examples there are.

    Returns:
        The data set.

    Raises:
        ScorefieldError: fewer than 8 examples, or a configuration that asks for what the kind does not have.
    """
    _refuse_unused(name, kind, config)
    if config.examples != POINTS and not generated:
        notes = (*notes, f"data.examples = {config.examples:,} was passed over: only toys draw as many points as that.")
    if len(raw) < LEAST:
        raise ScorefieldError(f"got {len(raw)} examples in {name!r}, expected at least {LEAST}: add more data")
    rows, held = split(len(raw), config.held_out or held_out, labels, config.seed)
    train, unseen = (ArrayView(raw, part) if isinstance(raw, np.ndarray) else raw[part] for part in (rows, held))
    digest = hashlib.sha256()
    for part in (train, unseen):
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        for piece in pieces(part):
            digest.update(piece.reshape(-1).numpy().data)
    if labels is not None:
        digest.update(labels.numpy().data)
    known, hidden = (None, None) if labels is None else (labels[rows], labels[held])
    called = tuple(names[i] for part in (rows, held) for i in part.tolist()) if names else ()
    found = (notes, issues, columns, called)
    return Dataset(name, kind, train, unseen, known, hidden, classes, normaliser(train), digest.hexdigest(), *found)


class Unused(ScorefieldError):
    """A setting that the data have no use for."""

    def __init__(self, message: str, setting: str) -> None:
        """Say it, and remember which setting it is."""
        super().__init__(message)
        self.setting = setting

    def without(self, config: DataConfig) -> DataConfig:
        """Return a configuration without the setting."""
        return replace(config, **{self.setting: getattr(DataConfig(), self.setting)})


def _refuse_unused(name: str, kind: Kind, config: DataConfig) -> None:
    """Refuse what would be passed over without a word: settings of images for other data, a kind that the source has not."""
    what = f"the {kind}{'' if kind == 'table' else 's'} {name!r}"
    images = {"size": config.size is not None, "fit": config.fit != "crop", "flip": config.flip}
    if kind != "image" and (asked := [key for key, wanted in images.items() if wanted]):
        raise Unused(f"got data.{asked[0]} for {what}, expected it for images only: leave it out", asked[0])
    if config.kind not in ("auto", kind):
        expected = f"expected auto, or an array of {config.kind}s"
        raise Unused(f"got data.kind={config.kind} for {what}, {expected}: leave it out", "kind")
