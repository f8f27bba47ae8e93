"""The survey: one walk through the examples, which keeps of each a digest of its bytes and at most 256 numbers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scorefield.data.base import PIECE, ArrayView, Dataset
from scorefield.data.planes import PICTURED
from scorefield.progress import Progress

MOST = 100_000  # examples looked at
NUMBERS = 2**28  # numbers looked at
FEATURES = 256  # numbers of each example that the search compares


@dataclass
class Survey:
    """What one walk through the examples leaves: a summary of each, and which of all examples they are.

    Attributes:
        rows: of the examples looked at, counted through the training part and then the held-out one.
        training: how many of them are of the training part.
        digests: of the raw bytes of each.
        features: at most about 256 numbers of each, `(n, f)`.
        blank: rows of images, volumes and signals whose values are all equal.
        unknown: rows of examples without a single known cell.
        low, high: of each coordinate over the training examples, in model space.
        raw: smallest and largest raw value.
        std: standard deviation over all coordinates of the training examples, in model space.
        grey: whether all three channels of all images are equal.
    """

    rows: Tensor
    training: int
    digests: list[bytes]
    features: Tensor
    blank: list[int]
    unknown: list[int]
    low: Tensor
    high: Tensor
    raw: tuple[float, float]
    std: float
    grey: bool


@dataclass
class _Tally:
    """What is summed up on the walk."""

    low: Tensor
    high: Tensor
    grey: bool
    whole: bool
    least: float = math.inf
    most: float = -math.inf
    sum: float = 0.0
    squares: float = 0.0
    digests: list[bytes] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)

    def add(self, raw: Tensor, x: Tensor) -> None:
        """Add examples, as they came and in model space."""
        numbers = raw.reshape(len(raw), -1).numpy()
        self.digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in numbers]
        there = raw if self.whole else raw[~raw.isnan()]
        if there.numel():
            self.least, self.most = min(self.least, float(there.min())), max(self.most, float(there.max()))
        alike = raw[:, :1] == raw
        self.grey = self.grey and bool((alike if self.whole else alike | raw.isnan()).all())
        self.features.append(_features(x))

    def add_training(self, flat: Tensor) -> None:
        """Add training examples in model space, `(n, d)`, to what is measured on those alone."""
        self.low, self.high = torch.minimum(self.low, flat.amin(0)), torch.maximum(self.high, flat.amax(0))
        self.sum += float(flat.sum(dtype=torch.float64))
        self.squares += float(torch.linalg.vector_norm(flat, dtype=torch.float64)) ** 2


def survey_of(data: Dataset, progress: Progress) -> Survey:
    """Look at every example once, a few thousand at a time; of very many examples, at a part that is evenly spread.

    Args:
        data: the data set.
        progress: called with the share done and a few words.
    """
    total, size = len(data.train) + len(data.held_out), math.prod(data.shape)
    share = min(1.0, min(MOST, NUMBERS // size) / total)
    parts = [evenly(len(part), math.ceil(len(part) * share)) for part in (data.train, data.held_out)]
    grey = data.kind in PICTURED and data.shape[0] == 3
    whole = data.normaliser.holes is None
    tally = _Tally(torch.full((size,), math.inf), torch.full((size,), -math.inf), grey, whole)
    step, done = max(1, min(PIECE, 2**24 // size)), 0
    for part, rows, first in zip((data.train, data.held_out), parts, (0, len(data.train)), strict=True):
        for batch in torch.split(rows, step):
            raw = part[batch]
            x = data.normaliser.encode(raw)
            if not whole:
                tally.unknown += (batch + first)[x.flatten(1).isnan().all(dim=1)].tolist()
                x = data.filled(x)
            flat = x.flatten(1)
            tally.add(raw, x)
            if data.kind in (*PICTURED, "signal"):
                tally.blank += (batch + first)[flat.amin(1) == flat.amax(1)].tolist()
            if not first:
                tally.add_training(flat)
            done += len(batch)
            progress(done / sum(map(len, parts)), f"looking at example {done:,}")
    count = len(parts[0]) * size
    return Survey(
        rows=torch.cat([parts[0], parts[1] + len(data.train)]),
        training=len(parts[0]),
        digests=tally.digests,
        features=torch.cat(tally.features),
        blank=tally.blank,
        unknown=tally.unknown,
        low=tally.low,
        high=tally.high,
        raw=(tally.least, tally.most),
        std=math.sqrt(max(tally.squares / count - (tally.sum / count) ** 2, 0.0)),
        grey=tally.grey,
    )


def evenly(n: int, most: int) -> Tensor:
    """Return at most `most` of 0..n-1 at even distances."""
    count = max(1, min(n, most))
    return torch.arange(count) * n // count


def _features(x: Tensor) -> Tensor:
    """Return at most about 256 numbers of each example `(n, *shape)`: averages over tiles of it."""
    channels, axes = x.shape[1], x.ndim - 2
    if axes > 1:
        side = max(1, int((FEATURES // min(channels, FEATURES)) ** (1 / axes) + 1e-9))
        if max(x.shape[2:]) > side:
            size: Any = tuple(min(side, places) for places in x.shape[2:])
            x = F.adaptive_avg_pool2d(x, size) if axes == 2 else F.adaptive_avg_pool3d(x, size)
    elif x.flatten(1).shape[1] > FEATURES:
        x = F.adaptive_avg_pool1d(x.flatten(1).unsqueeze(1), FEATURES)
    return x.flatten(1)


def encoded(data: Dataset, rows: Tensor) -> Tensor:
    """Return examples of both parts in model space, filled, flat `(n, d)`, in the order asked for."""
    training = len(data.train)
    out = torch.empty(len(rows), math.prod(data.shape))
    for part, mine, first in ((data.train, rows < training, 0), (data.held_out, rows >= training, training)):
        if bool(mine.any()):
            out[mine] = data.filled(data.normaliser.encode(part[rows[mine] - first])).flatten(1)
    return out


def where(data: Dataset, index: int) -> str:
    """Return the name of an example, counted through the training part and then the held-out one."""
    if data.names:
        return data.names[index]
    training = len(data.train)
    part, i = (data.train, index) if index < training else (data.held_out, index - training)
    if isinstance(part, ArrayView):
        return f"row {int(part.rows[i])}"
    return f"{'training' if index < training else 'held-out'} example {i}"
