"""Two ways to draw from p(missing | known), and which of them suits a learned field.

    weighted particles     `conditional.py`    exact in the limit of many, for any field
    learned conditional    `learned.py`        of a field that was trained with given columns: as good as that training, and
                                               about ten times as fast

Rows that training did not see decide: where their numbers are hidden at random, and found again, the way with the least CRPS is
taken; the learned one unless particles are better by two standard errors over rows, for they cost ten times as much.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.data.table.groups import Groups
from scorefield.field import Field, ScoreModel
from scorefield.guidance.conditional import LEARNED, PARTICLES, WAYS, Conditional, Way, conditional_draws, crps
from scorefield.guidance.learned import learned_draws
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of

HIDDEN, TRIED = 0.25, 80  # share of the numbers that are hidden, and rows
CLEAR = 2.0  # standard errors, by which particles must be better


def ways_of(field: Field) -> tuple[Way, ...]:
    """Return the ways that a field can be drawn from, the learned one first, with the particles that suit most fields."""
    return (LEARNED, WAYS[1]) if isinstance(field, ScoreModel) and field.takes_given else WAYS


def best_of(errors: Sequence[Tensor], ways: Sequence[Way]) -> int:
    """Return which of several ways is taken, by the CRPS of the same rows, `(n,)`, by each.

    >>> few, apart = torch.tensor([1.0, 1.2]), torch.tensor([0.9, 1.2])
    >>> best_of([few, apart], ways=(LEARNED, WAYS[1])), best_of([few, few - 0.1], ways=(LEARNED, WAYS[1]))
    (0, 1)
    """
    if not ways[0].learned:
        means = [float(one.mean()) for one in errors]
        return means.index(min(means))
    gains = [errors[0] - one for one in errors]
    clear = [len(gain) > 1 and float(gain.mean()) > CLEAR * float(gain.std()) / math.sqrt(len(gain)) for gain in gains]
    return max((i for i, yes in enumerate(clear) if yes), key=lambda i: float(gains[i].mean()), default=0)


def by_row(errors: Tensor, row: Tensor) -> Tensor:
    """Return the mean error of each row, of errors `(k,)` and the numbers of their rows, for rows that have any.

    >>> by_row(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([7, 7, 2]))
    tensor([5., 2.])
    """
    rows: Tensor
    rows, place = torch.unique(row, return_inverse=True)
    sums = torch.zeros(len(rows), dtype=errors.dtype).index_add(0, place, errors)
    return sums / torch.bincount(place)


def draws_by(
    way: Way,
    field: Field,
    known: Tensor,
    draws: int = 1,
    *,
    rng: SampleRng,
    groups: Groups,
    particles: int = PARTICLES,
    progress: Progress = silent,
) -> Conditional:
    """Draw the missing numbers of rows given the known ones, as `conditional_draws` and `learned_draws` do."""
    if way.learned and isinstance(field, ScoreModel):
        return learned_draws(field, known, groups, draws, rng=rng, progress=progress)
    return conditional_draws(field, known, draws, rng=rng, particles=particles, way=way, progress=progress)


def best_way(field: Field, rows: Tensor, groups: Groups) -> Way:
    """Return the way that suits a field, by rows that it was not trained on.

    Args:
        field: of vectors.
        rows: in model space, `(n, d)`, NaN in unknown cells; without any, the first of `ways_of` is returned.
        groups: their columns.
    """
    device, ways = field.data_mean.device, ways_of(field)
    number = torch.arange(min(TRIED, 4 * len(rows)))
    truth = rows[number % max(len(rows), 1)].double().to(device)
    hidden = SampleRng(number, stream=stream_of("conditional", "hide")).uniform(rows.shape[1:]).to(device) < HIDDEN
    hidden &= ~truth.isnan()
    if not bool(hidden.any()):
        return ways[0]
    errors = list[Tensor]()
    for way in ways:
        rng = SampleRng(number, stream=stream_of("conditional", "try"), device=device)
        known = truth.masked_fill(hidden, torch.nan)
        found = draws_by(way, field, known, 10, rng=rng, groups=groups, particles=4)
        row = (number % len(rows)).unsqueeze(1).expand(truth.shape)
        errors.append(by_row(crps(found.x, truth)[hidden].cpu(), row[hidden.cpu()]))
    return ways[best_of(errors, ways)]
