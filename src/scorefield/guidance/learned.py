"""Draws from p(missing | known), of a field that was trained with given columns: the probability flow, with no particles.

    dx/dt = the probability flow of grad log p_t(x_t in the missing columns | x0 in the known ones)

It is asked 20 times for each draw, where particles ask 20 times for each of 8; and a draw is as good as the field has learned
this conditional, while the particles' weights correct what is only proposed.

References: Tashiro, Song, Song, Ermon (2021), "CSDI: conditional score-based diffusion models for probabilistic time series
imputation", arXiv 2107.03502. Song et al. (2021), arXiv 2011.13456, for the flow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.data.table.groups import Groups
from scorefield.field import ScoreModel
from scorefield.given import GivenField
from scorefield.guidance.conditional import Conditional
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.samplers.base import sample
from scorefield.samplers.multistep import ABM

BATCH = 2**12  # rows of draws at a time; it changes the memory, not the draws


def learned_draws(
    model: ScoreModel, known: Tensor, groups: Groups, draws: int = 1, *, rng: SampleRng, progress: Progress = silent
) -> Conditional:
    """Draw the missing columns of rows given the known ones.

    Args:
        model: a field of vectors that takes given cells.
        known: rows in model space, `(n, d)`, NaN where a number is missing: its whole column is drawn then. What says that
            a value is missing must be there, and say no.
        groups: its columns.
        draws: for each row, >= 1.
        rng: one seed for each row, whose draws are the same whatever the other rows are.
        progress: called with the share of the work that is done.

    Returns:
        The `Conditional`; each draw counts.
    """
    n, size = len(known), max(1, BATCH // draws)
    there = groups.spread(groups.known(known)) | groups.says.to(known.device)  # that a value is not missing is given
    clean = torch.where(there, known, torch.nan)
    found = list[Tensor]()
    for first in range(0, n, size):
        part = clean[first : first + size].double()
        count, own = len(part), rng[first : first + size]
        seeds = (own.uniform((draws,)).flatten() * 2.0**52).long()
        field = GivenField(model, part.repeat_interleave(draws, dim=0))
        each = SampleRng(seeds, stream=own.stream, device=own.seeds.device)
        x = sample(field, ABM(), rng=each).reshape(count, draws, -1)
        found.append(torch.where(part.isnan().unsqueeze(1), x, known[first : first + size].unsqueeze(1)))
        progress(min(1.0, (first + size) / n), f"rows {first} to {first + count - 1}")
    x = torch.cat(found).transpose(0, 1) if found else known.double().expand(draws, *known.shape)
    return Conditional(x, x.mean(dim=0), x.new_ones(n), ABM.levels)
