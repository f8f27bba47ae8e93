"""The choice: the cheapest candidate that is as good as the best, as a function of figures, their jackknife and costs alone.

All candidates draw samples from the same seeds, so in a difference of two figures what the seeds have in common cancels. Its
standard error is that of a jackknife which leaves out a twentieth of the seeds, the same of both. Candidate i is beaten by j if

    figure(i) - figure(j) > max(within·|figure(j)|, c·standard error of that difference)

and chosen is the cheapest candidate on the front of figure against cost that no other beats. There always is one: nothing beats
the candidate with the best figure. To ask only whether the best beats it would be weaker: the best may be a stochastic sampler,
which shares less with i. Then even a plain loss against a finer ladder of i's own sampler would be smaller than the error.

Each of k candidates is compared with k - 1 others, and among many that are equal a few differ by chance. c is the point that
Student's t with 19 degrees of freedom exceeds with probability 0.05/(k - 1) (Bonferroni: 1.7 for two candidates, 3.3 for 30).
So the candidate that is truly best counts as beaten with a probability of at most 5 %, however the candidates are correlated:
Hsu's comparison with the best, each difference with its own error.

Reference: Hsu (1984), "Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals of
Statistics 12, 1136-1144.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate

CHANCE = 0.05  # that the best of all counts as beaten
PACE = 4  # a sampler's pace counts in quarters: smaller differences are noise of the clock, which must not choose


@dataclass(frozen=True)
class Choice:
    """Which candidate is chosen, and how the others compare; all by their places.

    Attributes:
        chosen: the cheapest on the front that no other beats.
        front: those of which no cheaper one has a better figure, the cheapest first.
        losses: figure less that of the best, with the standard error of the difference.
        beaten_by: the candidate that beats this one by most; None where none does.
    """

    chosen: int
    front: tuple[int, ...]
    losses: tuple[Estimate, ...]
    beaten_by: tuple[int | None, ...]


def choose(figures: Sequence[float], without: Tensor, costs: Sequence[float], within: float) -> Choice:
    """Choose the cheapest candidate that is as good as the best.

    Args:
        figures: of k candidates; lower is better.
        without: figures without each group of seeds, `(k, groups)`, float64.
        costs: of k candidates, in any unit.
        within: share of a better figure that may be lost, at least 0.

    >>> same = torch.zeros(3, 20, dtype=torch.float64)
    >>> choose([1.0, 1.04, 1.5], same, [30.0, 20.0, 10.0], within=0.05).chosen  # 4 % worse and cheaper; 50 % worse
    1
    """
    errors = errors_of(without)
    excess = excesses(torch.tensor(figures, dtype=torch.float64), errors, within, without.shape[1]).tolist()
    beaten_by = tuple(row.index(max(row)) if max(row) > 0 else None for row in excess)
    front, best = front_of(figures, costs), figures.index(min(figures))
    losses = tuple(Estimate(figure - figures[best], float(errors[i, best])) for i, figure in enumerate(figures))
    return Choice(next(i for i in front if beaten_by[i] is None), tuple(front), losses, beaten_by)


def front_of(figures: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the places of candidates that nothing dominates, the cheapest first: each is better than all that cost no more.

    >>> front_of([3.0, 1.0, 2.0, 1.5], [5.0, 20.0, 10.0, 20.0])
    [0, 2, 1]
    """
    front = list[int]()
    for i in sorted(range(len(figures)), key=lambda i: (costs[i], figures[i])):
        if not front or figures[i] < figures[front[-1]]:
            front.append(i)
    return front


def errors_of(without: Tensor) -> Tensor:
    """Return the standard errors of all differences, `(k, k)`, of figures without each group of seeds, `(k, groups)`."""
    groups = without.shape[1]
    differences = without[:, None] - without[None]
    variance = (differences - differences.mean(dim=2, keepdim=True)).square().sum(dim=2)
    return ((groups - 1) / groups * variance).sqrt()


def critical(candidates: int, groups: int = 20) -> float:
    """Return c: by chance one of so many candidates loses c standard errors to any other in at most 5 % of cases.

    >>> round(critical(2), 2), round(critical(30), 2)
    (1.73, 3.34)
    """
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, 1 - CHANCE / max(1, candidates - 1)))


def excesses(figures: Tensor, errors: Tensor, within: float, groups: int = 20) -> Tensor:
    """Return by how much j beats i, `(k, k)`: above 0 where the loss is more than chance and `within` allow."""
    allowed = torch.maximum(within * figures.abs().expand(len(figures), -1), critical(len(figures), groups) * errors)
    return figures[:, None] - figures - allowed


def costs_of(
    samplers: Sequence[str], evaluations: Sequence[int], paces: Mapping[str, Sequence[float]], seconds: float
) -> list[float]:
    """Return the seconds of one sample of each candidate: evaluations times the time of one.

    An evaluation takes the same time in all samplers, but for the sampler's own computations. Their pace is the median over
    everything that a sampler drew, rounded to quarters and at least a quarter.

    Args:
        samplers: name of each candidate's sampler.
        evaluations: of the network, for one sample of each candidate.
        paces: name -> time of one evaluation over that of the median candidate, for every batch.
        seconds: of one evaluation of one sample of the median candidate.

    >>> costs_of(["heun", "ddim"], [8, 10], {"heun": [1.1, 0.9, 1.0], "ddim": [1.6]}, 0.5)
    [4.0, 7.5]
    """
    return [
        seconds * count * max(1, round(PACE * median(paces[name]))) / PACE
        for name, count in zip(samplers, evaluations, strict=True)
    ]
