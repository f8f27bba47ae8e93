"""Data sets: raw values as they came, a split that never moves, and the affine map between raw values and model space.

Models see standardised numbers, people see theirs. The map between the two is affine and known, so nothing is lost:

    encode(raw) = (raw - shift)/scale          decode(x) = x·scale + shift, clipped to the legal range

Images map their legal range to [-1, 1]. Vectors map to mean 0 and variance 1, measured on the training rows alone. A density
changes by the constant |det| = prod(scale) under this map, which is what likelihoods need to report nats of the raw data.

The split walks through the rows sorted by label, and by a random number within a label, and holds out rows at even distances.
Each label is then held out in proportion to within one row, without a loop over labels; a row's number is a pure function of
the seed and its index.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass as plain
from dataclasses import field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.randomness import Noise, stream_of

Kind = Literal["image", "signal", "vector", "table"]
NUMBERS = 2**22  # of all examples at a time, wherever all of them are walked through
PIECE = 4096  # examples at a time, wherever all of them are walked through
LEAST = 8  # fewer examples than this are a mistake, not a data set
Finite = Annotated[float, Bound(allow_inf_nan=False)]
Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False)]


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
    examples: Annotated[int, Bound(ge=LEAST, le=10_000_000)] = 20000
    seed: Annotated[int, Bound(ge=0, lt=2**63)] = 0


@dataclass(frozen=True)
class Affine:
    """The map between raw values and model space.

    Attributes:
        shift: what is subtracted: one number for all coordinates, or one per column of a vector.
        scale: what it is then divided by, likewise.
        per_channel: whether there is one number per channel of a signal `(..., channels, length)` instead.
        low: smallest legal raw value (images), None for vectors.
        high: largest legal raw value (images), None for vectors.

    >>> pixels = Affine.between(0.0, 255.0)
    >>> pixels.encode(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    >>> pixels.decode(torch.tensor([0.0, 1.5]))
    tensor([127.5000, 255.0000], dtype=torch.float64)
    """

    shift: Annotated[tuple[Finite, ...], Bound(min_length=1)]
    scale: Annotated[tuple[Positive, ...], Bound(min_length=1)]
    low: Finite | None = None
    high: Finite | None = None
    per_channel: bool = False

    @model_validator(mode="after")
    def _check(self) -> Affine:
        neither = self.low is None and self.high is None
        if not neither and (self.low is None or self.high is None or self.low >= self.high):
            raise ScorefieldError(f"got low {self.low} and high {self.high}, expected low < high: give both or neither")
        return self

    @classmethod
    def between(cls, low: float, high: float) -> Affine:
        """Return the map of the legal range [low, high] to [-1, 1]."""
        return cls(shift=((low + high) / 2,), scale=((high - low) / 2,), low=low, high=high)

    @classmethod
    def standard(cls, rows: Tensor | Rows, *, common: bool = False, per_channel: bool = False) -> Affine:
        """Return the map of these rows to mean 0 and variance 1.

        Args:
            rows: raw vectors `(n, d)`, or signals `(n, channels, length)`.
            common: use one scale for all columns (the root mean variance), which keeps angles and shapes.
            per_channel: signals: one mean and one scale for all times of a channel.

        Returns:
            The map; a constant column gets scale 1.
        """
        axes = (0, 2) if per_channel else (0,)
        count, mean, squares = 0, torch.zeros(rows.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for piece in pieces(rows):  # joined as by Chan, Golub, LeVeque (1979): exactly 0 squares when constant
            x = piece.double()
            more, step = x.numel() // x.shape[1], x.mean(dim=axes) - mean
            squares = squares + x.var(dim=axes, correction=0) * more + step.square() * (count * more / (count + more))
            count, mean = count + more, mean + step * (more / (count + more))
        variance = squares / count
        variance = variance.mean(dim=0, keepdim=True) if common else variance
        scale = torch.where(variance > 0, variance.sqrt(), 1.0)
        return cls(shift=tuple(mean.tolist()), scale=tuple(scale.tolist()), per_channel=per_channel)

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and scale with the axes that they need beside x."""
        shift, scale = (torch.tensor(v, dtype=torch.float64, device=x.device) for v in (self.shift, self.scale))
        return (shift.unsqueeze(-1), scale.unsqueeze(-1)) if self.per_channel else (shift, scale)

    def encode(self, raw: Tensor) -> Tensor:
        """Return raw values `(..., d)`, signals or images in model space, float32."""
        shift, scale = self._numbers(raw)
        return ((raw - shift) / scale).float()

    def decode(self, x: Tensor) -> Tensor:
        """Return model values as raw values, float64, clipped to the legal range when there is one."""
        shift, scale = self._numbers(x)
        raw = x * scale + shift
        return raw if self.low is None else raw.clamp(self.low, self.high)

    def visible(self, raw: Tensor) -> Tensor:
        """Return raw values of images on the scale from black, 0, to white, 1.

        Raises:
            ScorefieldError: values without a legal range, which are no images.
        """
        if self.low is None or self.high is None:
            raise ScorefieldError("got values without a legal range, expected those of images: plot them instead")
        return (raw - self.low) / (self.high - self.low)


@plain(frozen=True)
class Problem:
    """Something in a source that could not be used, or should be looked at.

    Attributes:
        where: the file, row or column.
        cause: what is wrong with it, in a few words.
        used: whether it is among the examples all the same (a duplicate, an odd size).
    """

    where: str
    cause: str
    used: bool = False


def release(array: NDArray[Any]) -> None:
    """Let go of the pages that were read of a mapped file, which would count as this process's memory otherwise."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)  # the map is shared: what was written stays, in the file


def pieces(rows: Tensor | Rows) -> Iterator[Tensor]:
    """Return rows `(n, *shape)` in order, some millions of numbers at a time."""
    step = max(1, NUMBERS // max(1, rows.shape[1:].numel()))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


class Rows:
    """Some rows of an array that stays where it is, in memory or mapped from a disk: indexing copies what was asked for.

    It answers to what training needs of a tensor: `len`, `[rows]`, `[first:last]`, `shape`, `dtype`, `numel`.

    >>> Rows(np.arange(10.0).reshape(5, 2), torch.tensor([1, 3]))[torch.tensor([1])]
    tensor([[6., 7.]], dtype=torch.float64)
    """

    def __init__(self, array: NDArray[Any], rows: Tensor) -> None:
        """Hold them: an array `(n, *shape)` and int64 row numbers `(m,)`."""
        self.array, self.rows = array, rows
        self.shape = torch.Size((len(rows), *array.shape[1:]))
        self.dtype = torch.from_numpy(np.zeros(0, array.dtype)).dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Tensor | slice) -> Tensor:
        found = torch.from_numpy(np.array(self.array[self.rows[which].numpy()], order="C"))
        release(self.array)
        return found

    def is_floating_point(self) -> bool:
        """Whether the values are floats."""
        return self.dtype.is_floating_point

    def numel(self) -> int:
        """How many numbers there are."""
        return self.shape.numel()


@plain(frozen=True, eq=False)
class Dataset:
    """Examples of one shape, split into those that training sees and those that it never does.

    Attributes:
        name: name of the source.
        kind: image `(channels, height, width)`, signal `(channels, length)`, vector `(d,)` or table `(d,)`.
        train: raw examples `(n, *shape)`: uint8 for 8-bit images, float64 for tables, float32 for the rest; a tensor, or
            `Rows` of what is large. Use only what both have.
        held_out: raw examples `(m, *shape)`, likewise.
        labels: int64 `(n,)` in [0, number of classes), or None.
        held_out_labels: int64 `(m,)`, or None.
        classes: a name per label; empty without labels.
        affine: the map between raw values and model space.
        fingerprint: sha256 over shapes, types and bytes of both parts, and the labels.
        notes: sentences about what was found in the source.
        problems: what in the source was left out, or should be looked at.
        names: of the examples, the training part first, where they have any (files).
        columns: what the coordinates of a table mean, as JSON values of `data/tables.py`; None for all else.
    """

    name: str
    kind: Kind
    train: Tensor | Rows = field(repr=False)
    held_out: Tensor | Rows = field(repr=False)
    labels: Tensor | None = field(repr=False)
    held_out_labels: Tensor | None = field(repr=False)
    classes: tuple[str, ...]
    affine: Affine
    fingerprint: str
    notes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    columns: list[dict[str, Any]] | None = None
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.shape[1:])

    def x0(self, rows: Tensor | slice) -> Tensor:
        """Return training rows in model space, float32."""
        return self.affine.encode(self.train[rows])


def split(n: int, fraction: float, labels: Tensor | None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Divide n rows into training and held-out ones, each label in proportion to within one row.

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
    order = Noise(range(n), stream=stream_of("split", seed)).uniform().argsort()
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    count = min(max(round(n * fraction), 1), n - 1)
    step = torch.arange(n + 1) * count // n  # rises by one `count` times, at even distances
    held = step[1:] > step[:-1]
    return order[~held].sort().values, order[held].sort().values


def build(
    name: str,
    kind: Kind,
    raw: Tensor | NDArray[Any],
    config: DataConfig,
    *,
    affine: Callable[[Tensor | Rows], Affine],
    labels: Tensor | None = None,
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    problems: tuple[Problem, ...] = (),
    columns: list[dict[str, Any]] | None = None,
    names: Sequence[str] = (),
    held_out: float = 0.1,
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

    Returns:
        The data set.

    Raises:
        ScorefieldError: fewer than 8 examples.
    """
    if len(raw) < LEAST:
        raise ScorefieldError(f"got {len(raw)} examples in {name!r}, expected at least {LEAST}: add more data")
    rows, held = split(len(raw), config.held_out or held_out, labels, config.seed)
    train, unseen = (Rows(raw, part) if isinstance(raw, np.ndarray) else raw[part] for part in (rows, held))
    digest = hashlib.sha256()
    for part in (train, unseen):
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        for piece in pieces(part):
            digest.update(piece.reshape(-1).numpy().data)
    if labels is not None:
        digest.update(labels.numpy().data)
    known, hidden = (None, None) if labels is None else (labels[rows], labels[held])
    called = tuple(names[i] for part in (rows, held) for i in part.tolist()) if names else ()
    found = (notes, problems, columns, called)
    return Dataset(name, kind, train, unseen, known, hidden, classes, affine(train), digest.hexdigest(), *found)
