"""Given columns: rows of which some columns are given as they are, so that a field learns p(other columns | given ones), too.

    share     of the rows of a step, some columns are given, x0 without noise; the others keep the joint p(x)
    rate      of the columns that are noisy instead, u of each row uniform in (0, 1), so that few and many are learned

A loss counts noisy columns alone; with denoising matching, its minimum over fields is

    s(x_t, given) = grad log p_t(x_t in the noisy columns | x0 in the given ones)

Proof: given these, the loss is denoising matching of what the noisy columns hold. A column that is missing is unknown then:
it is neither noisy nor given, and what is learned is right if it is missing at random, given the others. That a column is not
missing is given of a noisy one, too: rows in which it is missing say nothing of its values.

A column has one coordinate or more, of which one may say that its value is missing (`data/table/columns.py`).

References: see `nets/known_cells.py`.
"""

from __future__ import annotations

import torch

from scorefield.data.table.groups import Groups
from scorefield.field import Field, ScoreModel
from scorefield.given import GivenField
from scorefield.randomness import SampleRng, stream_of
from scorefield.shapes import Sample


def with_given(model: ScoreModel, x0: Sample, groups: Groups, share: float, rng: SampleRng) -> tuple[Field, Sample]:
    """Return a field that is given columns of some rows, and the rows with NaN in what is not noisy.

    Args:
        model: one that takes given cells.
        x0: rows in model space, `(n, d)`, NaN in unknown cells.
        groups: its columns.
        share: of the rows of which columns are given.
        rng: one seed for each row; its draws do not meet those of the loss.
    """
    own = SampleRng(rng.seeds, stream=rng.stream ^ stream_of("given"), device=rng.seeds.device)
    some, rate = own.uniform() < share, own.uniform().unsqueeze(1)
    known, noisy = groups.known(x0), own.uniform((len(groups.widths),)) < rate
    noisy, clean = known & noisy, known & ~noisy
    has = torch.tensor(groups.widths, device=x0.device) > 0
    some &= (noisy & has).any(dim=1) & (clean & has).any(dim=1)  # else there is nothing to learn, or nothing given
    noisy, clean = (groups.spread(part) & some.unsqueeze(1) for part in (noisy, clean))
    says = groups.says.to(x0.device)
    noisy, clean = noisy & ~says, clean | (noisy & says)
    given = torch.where(clean, x0, torch.nan)
    return GivenField(model, given), torch.where(noisy | ~some.unsqueeze(1), x0, torch.nan)
