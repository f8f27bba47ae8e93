"""Weighted particles: how many of them count, and how they are resampled.

K particles with weights w_i, sum 1, count as much as 1/sum w_i² equally weighted ones (Kong 1992). Where that is far below K,
most of the work is spent on particles that will not matter, and they are drawn anew by weight. Systematic resampling takes one
uniform number u for all of them: particle i is taken as often as numbers (u + j)/K, j = 0, ..., K - 1, fall into its share of
[0, 1). That is floor(K·w_i) or ceil(K·w_i) times, K·w_i in the mean.

References: Kong (1992), "A note on importance sampling using standardized weights". Kitagawa (1996), "Monte Carlo filter and
smoother for non-Gaussian nonlinear state space models", JCGS 5(1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective(log_w: Tensor) -> Tensor:
    """Return the effective number of particles, 1/sum w², between 1 and K, `(...)`.

    Args:
        log_w: log-weights up to a constant, `(..., K)`.

    >>> effective(torch.zeros(4)).item(), effective(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])).item()
    (4.0, 2.0)
    """
    return 1 / log_w.softmax(dim=-1).square().sum(dim=-1)


def systematic(log_w: Tensor, u: Tensor) -> Tensor:
    """Return which particles are taken, `(..., K)`, int64, in ascending order: particle i K·w_i times in the mean.

    Args:
        log_w: log-weights up to a constant, `(..., K)`.
        u: one number in [0, 1) for each set of particles, `(...)`.

    >>> systematic(torch.tensor([0.5, 0.25, 0.25, 0.0]).log(), torch.tensor(0.5)).tolist()
    [0, 0, 1, 2]
    """
    k = log_w.shape[-1]
    shares = log_w.softmax(dim=-1).cumsum(dim=-1)
    shares = shares / shares[..., -1:]  # rounding leaves the last beside 1
    points = (u.to(shares.dtype).unsqueeze(-1) + torch.arange(k, device=u.device)) / k
    points = points.clamp(max=1 - torch.finfo(shares.dtype).eps)  # rounding may put the last on 1, which belongs to none
    # Right: a point on the edge of a share belongs to the next one, so that a particle without weight is never taken.
    return torch.searchsorted(shares, points, right=True)


def filters_of(n: int, cond: Tensor | None) -> list[Tensor]:
    """Return which of n particles are in each filter: those of one condition, whose states could take each other's place.

    >>> filters_of(4, torch.tensor([1, 0, 1, 1]))
    [tensor([1]), tensor([0, 2, 3])]
    """
    if cond is None:
        return [torch.arange(n)]
    kinds, which = torch.unique(cond, dim=0, return_inverse=True)
    return [(which == k).nonzero().flatten() for k in range(len(kinds))]
