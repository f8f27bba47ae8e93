"""Two ways to draw from p(missing | known), and which of them suits a learned field.

    weighted particles     `conditional.py`    exact in the limit of many, for any field
    learned conditional    `learned.py`        of a field that was trained with given columns: as good as that training, and
                                               about ten times as fast

Rows that training did not see decide: where their numbers are hidden at random, and found again, the way with the least CRPS is
taken; the learned one unless particles are better by more than it may be by chance.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.data.table.groups import Groups
from scorefield.field import Field, ScoreModel
from scorefield.guidance.conditional import EXACT, LEARNED, PARTICLES, WAYS, Conditional, Way, conditional_draws, crps
from scorefield.guidance.learned import learned_draws
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of

HIDDEN, TRIED = 0.25, 80  # share of the numbers that are hidden, and rows
LEAD = 0.97  # of the CRPS of the learned conditional, by which particles must be better: they cost ten times as much


def ways_of(field: Field) -> tuple[Way, ...]:
    """Return the ways that a field can be drawn from, the learned one first."""
    return (LEARNED, *WAYS) if isinstance(field, ScoreModel) and field.takes_given else WAYS


def best_of(errors: Sequence[float], ways: Sequence[Way]) -> int:
    """Return which of several ways is taken, by their CRPS.

    >>> best_of([1.0, 0.98, 0.99], (LEARNED, *WAYS)), best_of([1.0, 0.9, 0.89], (LEARNED, *WAYS))
    (0, 2)
    """
    least = min(errors)
    return 0 if ways[0].learned and least >= LEAD * errors[0] else errors.index(least)


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
        rows: in model space, `(n, d)`, NaN in unknown cells; without any, that of an exact field is returned.
        groups: their columns.
    """
    device, ways = field.data_mean.device, ways_of(field)
    number = torch.arange(min(TRIED, 4 * len(rows)))
    truth = rows[number % max(len(rows), 1)].double().to(device)
    hidden = SampleRng(number, stream=stream_of("conditional", "hide")).uniform(rows.shape[1:]).to(device) < HIDDEN
    hidden &= ~truth.isnan()
    if not bool(hidden.any()):
        return EXACT
    errors = list[float]()
    for way in ways:
        rng = SampleRng(number, stream=stream_of("conditional", "try"), device=device)
        known = truth.masked_fill(hidden, torch.nan)
        found = draws_by(way, field, known, 10, rng=rng, groups=groups, particles=4)
        errors.append(float(crps(found.x, truth)[hidden].mean()))
    return ways[best_of(errors, ways)]
