"""Data sets: raw values as they came, divided into a training part and a held-out part, and the settings of their reading."""

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

from scorefield.data.holes import holes_of, with_one_nan
from scorefield.data.issues import DataIssue
from scorefield.data.layout import Layout
from scorefield.data.normaliser import Normaliser
from scorefield.data.split import split
from scorefield.data.table.aside import Aside
from scorefield.data.table.groups import Groups
from scorefield.data.views import ArrayView, pieces
from scorefield.errors import ScorefieldError
from scorefield.registry import COMPONENT

__all__ = [
    "LEAST",
    "PIECE",
    "ArrayView",
    "DataConfig",
    "DataIssue",
    "Dataset",
    "Examples",
    "Kind",
    "Layout",
    "Normaliser",
    "UnusedSetting",
    "build",
    "format_number",
    "pieces",
    "split",
]  # fmt: skip
Kind = Literal["image", "signal", "volume", "vector", "table"]
PIECE = 4096  # examples at a time, wherever all of them are walked through
LEAST = 8  # fewer examples than this are a mistake, not a data set
POINTS = 20000  # of a toy, by default


@dataclass(frozen=True, config=COMPONENT)
class DataConfig:
    """How a source is read.

    Attributes:
        size: images: side, or (height, width), in pixels; None keeps images of one size as they are.
        fit: images: how one of another shape is brought to the size: "crop" keeps the centre, "pad" keeps everything, both with
            the aspect ratio as it is; "stretch" gives it up.
        flip: images: show training every image mirrored left to right half of the time.
        kind: arrays: what an example is; "auto" decides by the shape, or says that it cannot.
        axes: arrays: the axes of one example in order, by letter: c channels, t time, z y x space; "yxc" is (height, width,
            channels). None to find it out. With an n it has the axes of the whole array: "yxn" has an example at each place
            of the last axis.
        shape: arrays of flat rows: the shape of one example, in the order of `axes`; None keeps the rows as they are.
        key: files of several arrays, or tables of several in one: the name of the one to learn.
        range: images, signals and volumes: the (smallest, largest) value that there can be, in the data's own units; samples
            are clipped to it. None maps the values that there are, and clips only where the type or the values show an end.
        missing: tables: the numbers that stand for a missing value, such as -9999; () for none. None finds known ones that are
            repeated and far from all other values.
        transform: tables: learn columns of numbers with heavy tails as their logarithm, or inverse hyperbolic sine.
        aside: tables: fraction of the numbers that training takes for missing, of columns in which some are: `impute` then
            measures its intervals on these, as a run needs that fills the rows it has learned from.
        held_out: fraction of the examples that training never sees; None = the source's own: a third for digits, else 0.1.
        examples: how many points a toy generates.
        seed: seed of the split and of the toys.
    """

    size: Annotated[int, Bound(ge=1)] | tuple[Annotated[int, Bound(ge=1)], Annotated[int, Bound(ge=1)]] | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    flip: bool = False
    kind: Literal["auto", "image", "signal", "volume", "vector"] = "auto"
    axes: Annotated[str, Bound(pattern="^[nctzyx]+$")] | None = None
    shape: tuple[Annotated[int, Bound(ge=1)], ...] | None = None
    key: str | None = None
    range: tuple[float, float] | None = None
    missing: tuple[Annotated[float, Bound(allow_inf_nan=False)], ...] | None = None
    transform: bool = True
    aside: Annotated[float, Bound(ge=0, lt=1)] = 0.0
    held_out: Annotated[float, Bound(gt=0, lt=1)] | None = None
    examples: Annotated[int, Bound(ge=LEAST, le=10_000_000)] = POINTS
    seed: Annotated[int, Bound(ge=0, lt=2**63)] = 0


def format_number(value: float) -> str:
    """Return a number of the data as a person writes it: whole ones, such as codes, with all their digits.

    >>> format_number(1234567.0), format_number(1234567.8), format_number(-1.5e-07), format_number(1 / 3)
    ('1234567', '1234567.8', '-1.5e-07', '0.3333333333')
    """
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e16 else f"{value:.10g}"


@plain(frozen=True, eq=False)
class Dataset:
    """Examples of one shape, split into those that training sees and those that it never does.

    Attributes:
        name: name of the source.
        kind: image `(channels, height, width)`, volume `(channels, depth, height, width)`, signal `(channels, length)`, vector
            `(d,)` or table `(d,)`.
        train: raw examples `(n, *shape)`: uint8 for 8-bit images, float64 for tables, float32 for the rest; a tensor, or
            `ArrayView` of what is large; NaN in unknown cells (`data/holes.py`). Use only what both have.
        held_out: raw examples `(m, *shape)`, likewise.
        labels: int64 `(n,)` in [0, number of classes), or None.
        held_out_labels: int64 `(m,)`, or None.
        classes: a name per label; empty without labels.
        normaliser: the map between raw values and model space.
        coordinates_print: sha256 over shapes, types and bytes of both parts, and the labels; every byte counts, but all NaN
            are one.
        notes: sentences about what was found in the source.
        issues: what in the source was left out, or should be looked at.
        names: of the examples, the training part first, where they have any (files).
        columns: what the coordinates of a table mean, as JSON values of `data/table/columns.py`; None for all else.
        layout: what an example was in its source, so that samples go back as the same thing.
        style: how a file of text is laid out, as JSON values of `data/text/delimited.py`; None for all else.
        clustered: whether the classes are clusters, which are made of the data and no part of their fingerprint.
        aside: of a table, the training rows with the numbers that `data.aside` has kept from training; None where it has not.
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
    style: dict[str, Any] | None = None
    names: tuple[str, ...] = field(default=(), repr=False)
    layout: Layout = field(default=None, repr=False)  # type: ignore[assignment]  # that of the kind, `Layout.plain`
    aside: Aside | None = field(default=None, repr=False)
    clustered: bool = False

    def __post_init__(self) -> None:
        """Give it the layout of its kind, if it has none of its own."""
        if self.layout is None:
            object.__setattr__(self, "layout", Layout.plain(self.kind, self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.shape[1:])

    @property
    def groups(self) -> Groups:
        """Which coordinates are those of one column: of a table; one each of everything else."""
        return Groups.single(math.prod(self.shape)) if self.columns is None else Groups.of(self.columns)

    @property
    def cells(self) -> float:
        """How many known numbers a training example holds on average: all of them, where none is NaN."""
        holes = self.normaliser.holes
        return math.prod(self.shape) * (1 if holes is None else holes.known)

    @cached_property
    def cell_means(self) -> Tensor:
        """Mean of each cell in model space over the training examples that know it, float64; 0 where none does."""
        count = total = torch.zeros(self.shape, dtype=torch.float64)
        for piece in pieces(self.train):
            x = self.normaliser.encode(piece).double()
            count, total = count + (~x.isnan()).sum(dim=0), total + x.nansum(dim=0)
        return total / count.clamp(min=1)

    def filled(self, x: Tensor) -> Tensor:
        """Return examples in model space with the mean of the cell where one is unknown, to compare them with each other."""
        if self.normaliser.holes is None:
            return x
        return torch.where(x.isnan(), self.cell_means.to(x), x)

    @cached_property
    def fingerprint(self) -> str:
        """What two data sets share only if they are the same: sha256 over `coordinates_print`, class names and columns.

        Where the data came from, a path, a time or a kind of file, is no part of it.
        """
        if (not self.classes or self.clustered) and not self.columns:
            return self.coordinates_print
        parts = ("name", "type", "values", "constant", "utc")
        columns = [{key: column[key] for key in parts if key in column} for column in self.columns or ()]
        meaning = json.dumps([self.coordinates_print, self.classes, columns], sort_keys=True)
        return hashlib.sha256(meaning.encode()).hexdigest()

    def is_what_made(self, fingerprint: str) -> bool:
        """Whether a fingerprint is that of these data; runs of 0.4 recorded `coordinates_print` as theirs."""
        return fingerprint in (self.fingerprint, self.coordinates_print)

    def x0(self, rows: Tensor | slice) -> Tensor:
        """Return training rows in model space, float32, NaN in unknown cells."""
        return self.normaliser.encode(self.train[rows])


@plain(frozen=True, eq=False)
class Examples:
    """All examples of a source, before they are split.

    Attributes:
        name: name of the source.
        kind: what an example is.
        raw: the examples `(n, *shape)`: a tensor, which is split by copying, or an array (memory-mapped), which is not copied.
        normaliser: gives the map to model space, from the training rows.
        labels: int64 `(n,)`, or None.
        classes: a name per label.
        notes: sentences about what was found.
        issues: what was left out, or should be looked at.
        columns: of a table.
        style: of a file of text.
        names: of the examples, if they have any.
        held_out: the source's own held-out fraction, used when the configuration leaves it open.
        generated: whether the configuration says how many examples there are.
        layout: what an example was in its source; None for the layout of the kind, `Layout.plain`.
        held_rows: how many of the last rows the source itself holds out; 0 where it has no division of its own.
        aside: all rows with the numbers that training does not see; None where there are none.
    """

    name: str
    kind: Kind
    raw: Tensor | NDArray[Any]
    normaliser: Callable[[Tensor | ArrayView], Normaliser]
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    issues: tuple[DataIssue, ...] = ()
    columns: list[dict[str, Any]] | None = None
    style: dict[str, Any] | None = None
    names: Sequence[str] = ()
    held_out: float = 0.1
    generated: bool = False
    layout: Layout | None = None
    held_rows: int = 0
    aside: Aside | None = None


def build(examples: Examples, config: DataConfig) -> Dataset:
    """Split the examples of a source into a `Dataset`: the last step of every format.

    Args:
        examples: of the source.
        config: how it is read.

    Returns:
        The data set.

    Raises:
        ScorefieldError: fewer than 8 examples, a configuration that asks for what the kind does not have, or NaN alone.

    >>> import torch
    >>> rows = Examples("rows", "vector", torch.randn(20, 3), Normaliser.standard)
    >>> len(build(rows, DataConfig(held_out=0.25)).held_out)
    5
    """
    name, raw, labels, notes = examples.name, examples.raw, examples.labels, examples.notes
    refuse_unused(name, examples.kind, config)
    if config.examples != POINTS and not examples.generated:
        notes = (*notes, f"data.examples = {config.examples:,} was passed over: only toys draw as many points as that.")
    if len(raw) < LEAST:
        raise ScorefieldError(f"got {len(raw)} examples in {name!r}, expected at least {LEAST}: add more data")
    if examples.held_rows and config.held_out is None:
        order = torch.arange(len(raw))
        rows, held = order[: -examples.held_rows], order[-examples.held_rows :]
    else:
        rows, held = split(len(raw), config.held_out or examples.held_out, labels, config.seed)
    train, unseen = (ArrayView(raw, part) if isinstance(raw, np.ndarray) else raw[part] for part in (rows, held))
    normaliser = examples.normaliser(train)
    holes = holes_of(train, unseen, name) if examples.kind != "table" else None
    if holes is not None:
        if config.flip and holes.absent_cells:
            absent = f"data.flip for {name!r} with cells that are unknown in every example ({holes.absent_cells:,})"
            raise ScorefieldError(f"got {absent}, expected none, for it would mirror them with the rest: leave it out")
        normaliser, notes = replace(normaliser, holes=holes), (*notes, holes.note(len(train)))
    return Dataset(
        name,
        examples.kind,
        train,
        unseen,
        labels=None if labels is None else labels[rows],
        held_out_labels=None if labels is None else labels[held],
        classes=examples.classes,
        normaliser=normaliser,
        coordinates_print=_print_of((train, unseen), labels),
        notes=notes,
        issues=examples.issues,
        columns=examples.columns,
        layout=examples.layout,  # type: ignore[arg-type]
        style=examples.style,
        aside=None if examples.aside is None else examples.aside[rows],
        names=tuple(examples.names[i] for part in (rows, held) for i in part.tolist()) if examples.names else (),
    )


def _print_of(parts: Sequence[Tensor | ArrayView], labels: Tensor | None) -> str:
    """Return sha256 over shapes, types and bytes of the parts, and the labels."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        for piece in pieces(part):
            digest.update(with_one_nan(piece).reshape(-1).numpy().data)
    if labels is not None:
        digest.update(labels.numpy().data)
    return digest.hexdigest()


class UnusedSetting(ScorefieldError):
    """The refusal of a setting that does not apply to the data."""

    def __init__(self, message: str, setting: str) -> None:
        """Hold the message and the name of the setting."""
        super().__init__(message)
        self.setting = setting

    def without(self, config: DataConfig) -> DataConfig:
        """Return a configuration without the setting."""
        return replace(config, **{self.setting: getattr(DataConfig(), self.setting)})


def refuse_unused(name: str, kind: Kind, config: DataConfig) -> None:
    """Refuse settings that would do nothing: those of images for other data, or a kind that the source does not have."""
    what = f"the {kind}{'' if kind == 'table' else 's'} {name!r}"
    images = {"size": config.size is not None, "fit": config.fit != "crop", "flip": config.flip}
    if kind != "image" and (asked := [key for key, wanted in images.items() if wanted]):
        raise UnusedSetting(f"got data.{asked[0]} for {what}, expected it for images only: leave it out", asked[0])
    arrays = {"axes": config.axes is not None, "shape": config.shape is not None}
    if kind == "table" and (asked := [key for key, wanted in arrays.items() if wanted]):
        raise UnusedSetting(f"got data.{asked[0]} for {what}, expected it for arrays only: leave it out", asked[0])
    if kind in ("table", "vector") and config.range is not None:
        raise UnusedSetting(f"got data.range for {what}, expected it for images, signals and volumes: leave it out", "range")
    if kind != "table" and config.missing is not None:
        raise UnusedSetting(f"got data.missing for {what}, expected it for tables only: leave it out", "missing")
    if kind != "table" and not config.transform:
        raise UnusedSetting(f"got data.transform for {what}, expected it for tables only: leave it out", "transform")
    if kind != "table" and config.aside:
        raise UnusedSetting(f"got data.aside for {what}, expected it for tables only: leave it out", "aside")
    if config.kind not in ("auto", kind):
        expected = f"expected auto, or an array of {config.kind}s"
        raise UnusedSetting(f"got data.kind={config.kind} for {what}, {expected}: leave it out", "kind")
