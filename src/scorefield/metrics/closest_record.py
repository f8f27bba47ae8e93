"""Distance to closest record (DCR): is a generated row nearer to the training rows than to held-out ones?

    share = share of generated rows whose nearest row, of equally many training and held-out rows, is a training row

A generator that does not depend on which rows it was trained on, however bad, has 1/2; copies have 1. Smaller distances to
the training rows alone prove nothing: blurred rows lie near everything. Training rows are more than held-out ones, and so
nearer by number. No subset of them has to be drawn: if a share f of the rows were copies and the others independent, the
share with all n training and m held-out rows would be f + (1 - f)·n/(n + m); it is solved for f, and the share with equal
sets is (1 + f)/2.

The standard error is over the ways to name n of the n + m real rows training rows, given the generated ones; ties count by
half.

References: Zhao, Kunar, Birke, Chen (2021), "CTAB-GAN: effective table data synthesizing", arXiv 2102.08369. Platzer,
Reutterer (2021), "Holdout-based empirical assessment of mixed-type synthetic data", arXiv 2104.00635.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, check
from scorefield.metrics.neighbours import neighbours
from scorefield.randomness import subsample

ASKED = 5000  # real rows of which the share is measured


def closest_record(samples: Tensor, train: Tensor, held_out: Tensor) -> Estimate:
    """Return the share of samples that are nearer to training rows than to as many held-out rows, about [0, 1].

    Args:
        samples: `(n, d)` in model space, where every column has about variance 1.
        train: training rows `(k, d)`.
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
    near, far = (neighbours(samples, real, 1) for real in (train, held_out))
    surplus = drawn(near[0][:, 0], near[1][:, 0], far[0][:, 0], far[1][:, 0], len(train), len(held_out))
    return Estimate((1 + surplus.value) / 2, surplus.standard_error / 2)


def closest_record_of_real(train: Tensor, held_out: Tensor) -> Estimate:
    """Return the share of real rows, of both sets, whose nearest other one is a training row, as for equally many of both.

    It is 1/2 within its error unless training and held-out rows differ, as those of different years may.

    Args:
        train: training rows `(k, d)`, at least 2.
        held_out: rows that were not trained on, `(m, d)`, at least 2.
    """
    check(train, held_out, 2)
    real = torch.cat([train, held_out])
    rows = subsample(len(real), ASKED)
    distance, nearest = (one[:, 0] for one in neighbours(real[rows], real, 1, themselves=rows))
    far = torch.full_like(distance, torch.inf)
    trained = nearest < len(train)
    near, other = torch.where(trained, distance, far), torch.where(trained, far, distance)
    surplus = drawn(near, nearest * trained, other, (nearest - len(train)) * ~trained, len(train), len(held_out))
    return Estimate((1 + surplus.value) / 2, surplus.standard_error / 2)


def drawn(near: Tensor, where: Tensor, other: Tensor, there: Tensor, n: int, m: int) -> Estimate:
    """Return f, the share of samples drawn to training rows, with its error under shuffled labels; ties count by half.

    Args:
        near, where: distance of each sample to its nearest training row, and which one that is, `(samples,)`.
        other, there: the same of held-out rows.
        n, m: how many training and held-out rows there are.
    """
    held = (other < near).double() + 0.5 * (other == near).double()
    attracted = torch.zeros(n + m, dtype=torch.float64)
    attracted.index_add_(0, where, 1 - held)
    attracted.index_add_(0, there + n, held)
    total, pool = float(attracted.sum()), n + m
    variance = m * n / (pool * (pool - 1)) * float((attracted - attracted.mean()).square().sum())
    surplus = (m / pool * total - float(attracted[n:].sum())) / total
    return Estimate(surplus * pool / m, math.sqrt(variance) / total * pool / m)
