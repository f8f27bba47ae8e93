"""Conformal: intervals and p-values that hold at their level, whatever the model, as long as rows are exchangeable.

D draws of a model that is right and the true value are D + 1 exchangeable numbers. The true one lies below the k-th smallest
draw with the probability k/(D + 1), so the interval from the draw of rank (1 - c)/2·(D + 1) to that of rank (1 + c)/2·(D + 1)
holds it with probability c. Quantiles of the draws as they are usually taken are narrower: of 20 draws, their 90 % holds 81 %.

Of a model that is not right the intervals are widened by what is measured on n rows that it never saw. With the score of a row

    e = max(low - truth, truth - high)/(half the width + LEAST·unit)

and q the ceil((n + 1)·c)-th smallest of the n scores, the interval [low - q·(...), high + q·(...)] of a new row holds its value
with probability c at least, since its score has one of n + 1 ranks with equal probability (split conformal prediction). Where
the scores are of few rows, with several cells each, the share of them that the model's own intervals hold has a standard error
that is not small. Then c less one standard error is asked for: intervals are widened as far as the rows say for sure.

Likewise (1 + number of scores >= its own)/(n + 1) is a p-value of a new row: at most r with probability at most r.

References: Vovk, Gammerman, Shafer (2005), "Algorithmic learning in a random world". Romano, Patterson, Candes (2019),
"Conformalized quantile regression", arXiv 1905.03222. Bates, Candes, Lei, Romano, Sesia (2023), "Testing for outliers with
conformal p-values", arXiv 2104.08279.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = 0.1  # of the unit of a number: draws that agree leave no width of which a share could be taken


def interval(draws: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval that holds another draw with this probability, each `(...)`.

    Args:
        draws: `(D, ...)`. Of fewer than (1 + c)/(1 - c) the ends are the smallest and the largest, which hold (D - 1)/(D + 1).
        share: c, in (0, 1).

    >>> [round(float(end), 2) for end in interval(torch.arange(1.0, 20.0), 0.9)]
    [1.0, 19.0]
    """
    ordered, count = draws.sort(dim=0).values, len(draws)
    ends = list[Tensor]()
    for rank in ((1 - share) / 2 * (count + 1), (1 + share) / 2 * (count + 1)):
        place = min(max(rank - 1, 0.0), count - 1.0)
        below = min(int(place + 1e-9), count - 1)
        above = min(below + 1, count - 1)
        ends.append(ordered[below] + max(place - below, 0.0) * (ordered[above] - ordered[below]))
    return ends[0], ends[1]


def widened(low: Tensor, high: Tensor, unit: Tensor, by: float) -> tuple[Tensor, Tensor]:
    """Return the ends of intervals that are widened by q = `by`; `unit` is the size of the numbers, such as a deviation."""
    more = by * ((high - low) / 2 + LEAST * unit)
    return low - more, high + more


def widening(scores: Tensor, rows: Tensor, share: float) -> float:
    """Return q >= 0 of cells that the model never saw; infinite where they are too few to tell.

    Args:
        scores: `scores_of` them, `(n,)`.
        rows: in which row each of them is, `(n,)`, int64.
        share: c.

    >>> widening(torch.arange(-99.0, 101.0), torch.zeros(200).long(), 0.9)  # one row has no error that could be known
    81.0
    """
    members, which = rows.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    held = torch.zeros(len(members), dtype=torch.float64).index_add_(0, which, (scores <= 0).double())
    held = held / which.bincount(minlength=len(members))
    error = float(held.std()) / math.sqrt(len(members)) if len(members) > 1 else 0.0
    rank = math.ceil((len(scores) + 1) * (share - error) - 1e-9)
    return max(0.0, float(scores.sort().values[rank - 1])) if rank <= len(scores) else math.inf


def scores_of(truth: Tensor, low: Tensor, high: Tensor, unit: Tensor) -> Tensor:
    """Return the score e of each value, all `(n,)`: above 0 outside its interval."""
    return torch.maximum(low - truth, truth - high) / ((high - low) / 2 + LEAST * unit)


def p_values(scores: Tensor, unseen: Tensor) -> Tensor:
    """Return the p-value of each score, high ones being odd, among those of n rows that the model never saw.

    >>> p_values(torch.tensor([1.5, 0.5]), torch.tensor([1.0, 2.0, 3.0]))
    tensor([0.7500, 1.0000], dtype=torch.float64)
    """
    ordered = unseen.sort().values
    above = len(ordered) - torch.searchsorted(ordered, scores.contiguous(), right=False)
    return (1 + above).double() / (len(ordered) + 1)
