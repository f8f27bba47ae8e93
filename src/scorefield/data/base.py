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
from collections.abc import Callable
from dataclasses import dataclass as plain
from dataclasses import field
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.randomness import Noise, stream_of

LEAST = 8  # fewer examples than this are a mistake, not a data set
Finite = Annotated[float, Bound(allow_inf_nan=False)]
Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class DataConfig:
    """How a source is read.

    Attributes:
        size: images: resize the short side to this with Lanczos and crop the centre square; None keeps them as they are.
        held_out: fraction of the examples that training never sees; None = the source's own: a third for digits, else 0.1.
        examples: how many points a toy generates.
        seed: seed of the split and of the toys.
    """

    size: Annotated[int, Bound(ge=1)] | None = None
    held_out: Annotated[float, Bound(gt=0, lt=1)] | None = None
    examples: Annotated[int, Bound(ge=LEAST)] = 20000
    seed: Annotated[int, Bound(ge=0, lt=2**63)] = 0


@dataclass(frozen=True)
class Affine:
    """The map between raw values and model space.

    Attributes:
        shift: what is subtracted: one number for all coordinates, or one per column of a vector.
        scale: what it is then divided by, likewise.
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
    def standard(cls, rows: Tensor, *, common: bool = False) -> Affine:
        """Return the map of these rows to mean 0 and variance 1.

        Args:
            rows: raw vectors `(n, d)`.
            common: use one scale for all columns (the root mean variance), which keeps angles and shapes.

        Returns:
            The map; a constant column gets scale 1.
        """
        x = rows.double()
        variance = x.var(dim=0, correction=0)  # by Welford: exactly 0 when constant
        variance = variance.mean(dim=0, keepdim=True) if common else variance
        scale = torch.where(variance > 0, variance.sqrt(), 1.0)
        return cls(shift=tuple(x.mean(dim=0).tolist()), scale=tuple(scale.tolist()))

    def encode(self, raw: Tensor) -> Tensor:
        """Return raw values `(..., d)` or images in model space, float32."""
        shift, scale = (torch.tensor(v, dtype=torch.float64, device=raw.device) for v in (self.shift, self.scale))
        return ((raw - shift) / scale).float()

    def decode(self, x: Tensor) -> Tensor:
        """Return model values as raw values, float64, clipped to the legal range when there is one."""
        shift, scale = (torch.tensor(v, dtype=torch.float64, device=x.device) for v in (self.shift, self.scale))
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


@plain(frozen=True, eq=False)
class Dataset:
    """Examples of one shape, split into those that training sees and those that it never does.

    Attributes:
        name: name of the source.
        kind: image `(channels, height, width)` or vector `(d,)`.
        train: raw examples `(n, *shape)`: uint8 for 8-bit images, float32 for the rest.
        held_out: raw examples `(m, *shape)`, likewise.
        labels: int64 `(n,)` in [0, number of classes), or None.
        held_out_labels: int64 `(m,)`, or None.
        classes: a name per label; empty without labels.
        affine: the map between raw values and model space.
        fingerprint: sha256 over shapes, types and bytes of both parts, and the labels.
        notes: sentences about what was found in the source.
    """

    name: str
    kind: Literal["image", "vector"]
    train: Tensor = field(repr=False)
    held_out: Tensor = field(repr=False)
    labels: Tensor | None = field(repr=False)
    held_out_labels: Tensor | None = field(repr=False)
    classes: tuple[str, ...]
    affine: Affine
    fingerprint: str
    notes: tuple[str, ...]

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
    kind: Literal["image", "vector"],
    raw: Tensor,
    config: DataConfig,
    *,
    affine: Callable[[Tensor], Affine],
    labels: Tensor | None = None,
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    held_out: float = 0.1,
) -> Dataset:
    """Split raw examples into a `Dataset`: what every source ends with.

    Args:
        name: name of the source.
        kind: what an example is.
        raw: all examples `(n, *shape)`.
        config: how the source is read.
        affine: the map to model space, from the training rows.
        labels: int64 `(n,)`, or None.
        classes: a name per label.
        notes: sentences about what was found.
        held_out: the source's own held-out fraction, used when the configuration leaves it open.

    Returns:
        The data set.

    Raises:
        ScorefieldError: fewer than 8 examples.
    """
    if len(raw) < LEAST:
        raise ScorefieldError(f"got {len(raw)} examples in {name!r}, expected at least {LEAST}: add more data")
    rows, held = split(len(raw), config.held_out or held_out, labels, config.seed)
    train, unseen = raw[rows], raw[held]
    digest = hashlib.sha256()
    for part in (train, unseen):
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        digest.update(part.reshape(-1).numpy().data)
    if labels is not None:
        digest.update(labels.numpy().data)
    known, hidden = (None, None) if labels is None else (labels[rows], labels[held])
    return Dataset(name, kind, train, unseen, known, hidden, classes, affine(train), digest.hexdigest(), notes)
