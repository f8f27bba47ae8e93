"""Unseen: what a field shows far from the data, without any.

Where the noise is much larger than the data, p_t is close to N(alpha·mean, r²), r² = alpha²·sd² + sigma², of any data:

    score = -(x - alpha·mean)/r²       slope = -r²·E score·(x - alpha·mean)/E‖x - alpha·mean‖²       1 for every true score

to (alpha·sd/sigma)². A wrong sign has -1, another factor that factor. It is measured at the noisiest level, on draws of this
normal distribution, if sigma is at least `FAR` times alpha·sd there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.field import ScoreModel
from scorefield.randomness import SampleRng
from scorefield.shapes import over, total

FAR = 5.0  # the slope is then 1 to 4 %
DRAWS = 64
OFF = 0.2  # of the slope, that training does not leave there


def slope_far_away(model: ScoreModel, cond: Tensor | None) -> tuple[float, float] | None:
    """Return the slope and its standard error; None where the process has no such noise."""
    process = model.process
    t = torch.full((DRAWS,), process.t_max, dtype=torch.float64)
    alpha, sigma = process.alpha(t), process.sigma(t)
    if float(sigma[0]) < FAR * float(alpha[0]) * model.data_std or process.t_max == process.t_min:
        return None
    if cond is not None:
        cond = cond[torch.arange(DRAWS, device=cond.device) % len(cond)]
    device = model.data_mean.device
    r2 = (alpha**2 * model.data_std**2 + sigma**2).to(device)
    z = SampleRng(range(DRAWS), stream=77, device=device).normal(model.shape)
    away = over(r2.sqrt(), z) * z
    with torch.no_grad():
        score = model(over(alpha.to(device), z) * model.data_mean.double() + away, t.to(device), cond).score
    ours, size = total(-over(r2, z) * score * away), total(away**2)
    slope = float(ours.sum() / size.sum())
    return slope, float((ours - slope * size).std()) / math.sqrt(DRAWS) / float(size.mean())


def far_slope(model: ScoreModel, cond: Tensor | None) -> str | None:
    """Return what is wrong far from the data, in words; None if nothing is."""
    found = slope_far_away(model, cond)
    if found is None:
        return None
    slope, error = found
    if not math.isfinite(slope):
        return "its score is not a finite number at the noisiest level"
    if abs(slope - 1) <= max(OFF, 5 * error):
        return None
    what = "has the wrong sign" if abs(slope + 1) < OFF else f"is {slope:.3g} times what it must be"
    return f"where the noise is far larger than any data, its score {what} (slope {slope:.3g} ± {error:.1g})"
