"""Distance to closest record (DCR): is a generated row nearer to the training rows than to held-out ones?

    share = share of generated rows whose nearest row, of equally many training and held-out rows, is a training row

A generator that does not depend on which rows it was trained on, however bad, has 1/2; copies have 1. Smaller distances to the
training rows alone prove nothing: blurred rows lie near everything. Training rows are more than held-out ones, and so nearer by
number. No subset of them has to be drawn: if a share f of the rows were copies and the others independent, the share with all
n training and m held-out rows would be f + (1 - f)·n/N, N = n + m; it is solved for f, and the share with equal sets is
(1 + f)/2.

Let c_j be the number of generated rows whose nearest one, in the pool of all N, is row j. Given the generated rows and the
pool, the sum of c_j over held-out j has, when "training" and "held-out" are shuffled, the mean and the variance of a draw
without replacement, exactly, as long as c does not depend on these labels:

    mean = m/N·sum c,    variance = m·n/(N·(N - 1))·sum (c - mean c)²

Tables have equal rows, and rows that are equally far. Equal rows of the pool therefore count as one place, whose count they
share, and of places that are equally far the order of a hash of their values chooses one.

References: Zhao, Kunar, Birke, Chen (2021), "CTAB-GAN: effective table data synthesizing", arXiv 2102.08369. Platzer, Reutterer
(2021), "Holdout-based empirical assessment of mixed-type synthetic data", arXiv 2104.00635.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, check
from scorefield.metrics.neighbours import neighbours
from scorefield.randomness import subsample

ASKED = 5000  # real rows of which the share is measured
BATCH = 4096  # rows that are hashed at a time


def closest_record(samples: Tensor, train: Tensor, held_out: Tensor) -> Estimate:
    """Return the share of samples that are nearer to training rows than to as many held-out rows, about [0, 1].

    Args:
        samples: `(rows, d)` in model space, where every column has about variance 1.
        train: training rows `(n, d)`.
        held_out: rows that were not trained on, `(m, d)`.

    Raises:
        ScorefieldError: fewer than 2 rows of a set, or shapes that disagree.
        NotFinite: NaN or infinity.

    >>> from scorefield import SampleRng
    >>> train, held_out = (SampleRng(range(200), stream=i).normal((3,)) for i in range(2))
    >>> closest_record(train, train, held_out).value
    1.0
    """
    for real in (train, held_out):
        check(samples, real, 2)
    surplus = drawn(samples, train, held_out)
    return Estimate((1 + surplus.value) / 2, surplus.standard_error / 2)


def closest_record_of_real(train: Tensor, held_out: Tensor) -> Estimate:
    """Return the share of real rows, of both sets, whose nearest other one is a training row, as for equally many of both.

    It is 1/2 within its error unless training and held-out rows differ, as those of different years may.

    Args:
        train: training rows `(n, d)`, at least 2.
        held_out: rows that were not trained on, `(m, d)`, at least 2.
    """
    check(train, held_out, 2)
    place, points = places(train, held_out)
    asked = place[subsample(len(place), ASKED)]
    alone = place.bincount()[asked] == 1  # the nearest other row of one that has equals is one of these
    nearest = asked.clone()
    if bool(alone.any()):
        nearest[alone] = neighbours(points[asked[alone]], points, 1, themselves=asked[alone])[1][:, 0]
    surplus = _drawn(nearest, place, len(train))
    return Estimate((1 + surplus.value) / 2, surplus.standard_error / 2)


def drawn(samples: Tensor, train: Tensor, held_out: Tensor) -> Estimate:
    """Return f, the share of samples that are drawn to training rows, with its error under shuffled labels.

    Args:
        samples, train, held_out: as of `closest_record`.
    """
    place, points = places(train, held_out)
    return _drawn(neighbours(samples, points, 1)[1][:, 0], place, len(train))


def _drawn(nearest: Tensor, place: Tensor, n: int) -> Estimate:
    """Return f of the places that are nearest to some rows, given the place of every row of the pool, training rows first."""
    counts, members = nearest.bincount(minlength=int(place.max()) + 1).double(), place.bincount().double()
    attracted = (counts / members)[place]
    total, pool = len(nearest), len(place)
    m = pool - n
    variance = m * n / (pool * (pool - 1)) * float((attracted - attracted.mean()).square().sum())
    surplus = (m / pool * total - float(attracted[n:].sum())) / total
    return Estimate(surplus * pool / m, math.sqrt(variance) / total * pool / m)


def places(train: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of every row, training rows first, `(n + m,)`, and a row of each place, in the order of its hash."""
    hashes = [
        hashlib.blake2b(row, digest_size=16).digest()
        for part in (train, held_out)
        for batch in torch.split(part, BATCH)
        for row in (batch + 0.0).cpu().numpy()  # -0 is 0
    ]
    _, first, place = np.unique(np.array(hashes, dtype="S16"), return_index=True, return_inverse=True)
    of_train = first < len(train)
    points = train.new_empty(len(first), train.shape[1])
    points[of_train], points[~of_train] = train[first[of_train]], held_out[first[~of_train] - len(train)]
    return torch.from_numpy(place), points
