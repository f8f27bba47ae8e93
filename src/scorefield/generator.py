"""Generators: from x_t to x_0 in one evaluation, where a field gives the mean of all x_0 that x_t may have come from.

    field       D(x_t, t) = E[x0 | x_t]        blurred at high noise: samples take many small steps
    generator   G(x_t, t) = x0                 one draw, whose distribution over x_t is that of the data

G is a flow map (x_t, t, s) -> x_s whose s is 0; from there it comes to any level by fresh noise, x_s = alpha_s·x0 + sigma_s·z.
So K evaluations are K levels: the first from the prior N(alpha·mean, alpha²·std² + sigma²), each later one from the sample
before it, noised again, which it corrects. That is `Consistent` with eta = 1, and the denoising step at the end of the loop is
the last evaluation.

    lambda_j = data_std·HIGH·(LOW/HIGH)^(j/(K - 1)),  j = 0..K-1        lambda = sigma/alpha

At HIGH = 5 deviations the noise hides all but the coarsest of x_0, while a network still sees its input well. Where
t_max has less noise than that, it begins there.

`distillation/` makes a generator of a trained field. References: Song, Dhariwal, Chen, Sutskever (2023), "Consistency models",
arXiv 2303.01469, for the sampling. Zhou et al. (2024), "Score identity distillation", arXiv 2404.04057, for HIGH.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.process import Process
from scorefield.samplers.langevin import Consistent

HIGH, LOW = 5.0, 0.8  # noise of the first and the last level, in the data's standard deviation
SAMPLER = Consistent(eta=1.0)


def few_levels(process: Process, levels: int, data_std: float) -> Tensor:
    """Return the times at which a generator is asked, `(levels,)`, float64, descending.

    Args:
        process: of the field.
        levels: K, 1 or more.
        data_std: the data's standard deviation, > 0.

    Raises:
        ScorefieldError: no levels, or a process with less noise than so many levels need.

    >>> from scorefield import VE
    >>> VE(0.01, 80.0).sigma(few_levels(VE(0.01, 80.0), 2, 0.5))
    tensor([2.5000, 0.4000], dtype=torch.float64)
    """
    if levels < 1:
        raise ScorefieldError(f"got {levels} evaluations, expected at least 1: ask for more")
    share = torch.linspace(0, 1, levels, dtype=torch.float64)
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    most, least = (process.sigma(ends) / process.alpha(ends)).tolist()
    high, low = min(HIGH * data_std, most), LOW * data_std
    if not least < (low if levels > 1 else high):
        raise ScorefieldError(
            f"got noise from {least:g} to {most:g} for data of standard deviation {data_std:g}, expected some beside it: "
            "choose a process with more levels"
        )
    return process.time_of_sigma(high * (low / high) ** share)
