"""Calibration: at a noise level, is the field's guess of the noise the conditional mean that it must be?

With x_t = alpha·x0 + sigma·noise and n(x_t) = -sigma·score(x_t), the field's guess of the noise:

    orthogonality  E (noise - n)·g(x_t) = 0 for every g if and only if n(x_t) = E[noise | x_t]: for the score of noised data,
                   whatever they are, and for no other field. Here g = n, x_t - alpha·mean and 1. Each is a mean over
                   independent examples of something whose mean is 0: a t test has its stated rate of false alarms.
    slope          E n·noise/E‖n‖² = 1, from g = n: -1 with a wrong sign, 1/c where the score is c times too long.
    calibration    (E‖sigma·s + noise‖² + E‖sigma·s‖²)/d = 1, from g = n again, since E‖noise‖² = d.
    Stein          E n·x_t = sigma·d for the score of any density by partial integration, E s(x)·x = -d; it follows from
                   g = x_t, since E noise·x_t = sigma·d, and is tested by it with a smaller error.
    recoverable    by how much E‖noise - n‖²/d falls when n is replaced by its best combination with x_t and 1: b'G⁻¹b with
                   b = E g·(noise - n)/d and G = E g·g'/d. A true score has 0. It is what is wrong in the sense that matters:
                   a sampler's error in nats is half the integral of E‖n - E[noise | x_t]‖² over log sigma²/alpha², of which
                   this part can be measured without knowing the truth.

The first three hold for every denoiser that is a conditional mean, of any density of x0; Stein's alone holds for every score,
also one of another density than the data's, if x is drawn from that one.

References: Robbins (1956); Stein (1981), "Estimation of the mean of a multivariate normal distribution"; Song et al. (2021),
"Maximum likelihood training of score-based diffusion models", arXiv 2101.09258, for the error in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.shapes import Sample, total
from scorefield.verification.readings import Reading, guess

TESTS = 3  # at a level
FALSE_ALARM = 1e-3  # of a true score, over all levels and tests


@dataclass(frozen=True)
class Level:
    """What was measured at a noise level; errors are standard errors.

    Attributes:
        t, noise: time, and sigma/alpha there.
        loss, loss_error: E‖noise - n‖²/d.
        least: the least loss of a guess that knows mean and variance alone.
        slope, slope_error: of the noise on the guess, 1 for a true score.
        calibration, calibration_error: 1 for a true score.
        recoverable: what the best combination of guess, input and a constant takes off the loss.
        deviations: the tests with g = n, x_t and 1, in standard errors.
        certain: whether the largest of them is no chance.
    """

    t: float
    noise: float
    loss: float
    loss_error: float
    least: float
    slope: float
    slope_error: float
    calibration: float
    calibration_error: float
    recoverable: float
    deviations: tuple[float, ...]
    certain: bool


def critical_of(tests: int, examples: int, rate: float = FALSE_ALARM) -> float:
    """Return the standard errors that one of some t tests of a true score exceeds with this probability at most.

    The quantile of Student's t by its expansion in 1/(n - 1) (Abramowitz and Stegun 26.7.5).

    >>> round(critical_of(1, 100_000, 0.05), 2), round(critical_of(1, 31, 0.05), 2)
    (1.96, 2.04)
    """
    z = -float(torch.special.ndtri(torch.tensor(rate / tests / 2, dtype=torch.float64)))
    n = examples - 1
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def calibrate(
    claimed: Reading, x0: Sample, t: float, noise: Sample, cond: Tensor | None, critical: float
) -> tuple[Level, tuple[float, float]]:
    """Measure a level.

    Returns:
        What was measured; and of n = A·x_t + B·y, which is linear in the network's output y, E (noise - A·x_t)·B·y and
        E‖B·y‖², from which the factor on y follows that explains the noise best.
    """
    d, n = x0[0].numel(), len(x0)
    time = torch.tensor([t], dtype=torch.float64)
    found, x = guess(claimed, x0, time.expand(n).to(x0.device), noise, cond)
    alpha, sigma = claimed.model.process.alpha(time), claimed.model.process.sigma(time)
    mean = x0.mean(dim=0)
    variance = float(total((x0 - mean) ** 2).mean()) / d
    against = [found, x - float(alpha) * mean, torch.ones_like(x)]
    off = noise - found
    products = torch.stack([total(g * off) / d for g in against]).cpu()  # (tests, n)
    gram = torch.stack([torch.stack([total(g * h).mean() / d for h in against]) for g in against]).cpu()
    loss, size = (total(off**2) / d).cpu(), float(gram[0, 0])
    average, error = products.mean(dim=1), products.std(dim=1) / math.sqrt(n)
    if bool(torch.cat([loss, gram.flatten()]).isfinite().all()):
        recoverable = float(average @ torch.linalg.pinv(gram, hermitian=True) @ average)
        deviations = tuple((average / error.clamp(min=1e-300)).tolist())
    else:
        recoverable, deviations = math.inf, (math.inf,) * TESTS
    row = Level(
        t=t,
        noise=float(sigma / alpha),
        loss=float(loss.mean()),
        loss_error=float(loss.std()) / math.sqrt(n),
        least=float(alpha**2 * variance / (alpha**2 * variance + sigma**2)),
        slope=1 + float(average[0]) / size if size > 0 else math.nan,
        slope_error=float(error[0]) / size if size > 0 else math.nan,
        calibration=1 - 2 * float(average[0]),
        calibration_error=2 * float(error[0]),
        recoverable=recoverable,
        deviations=deviations,
        certain=max(map(abs, deviations)) > critical,
    )
    a, c = claimed.model.parametrisation.pair(alpha, sigma)
    by_x = float(sigma * a / (alpha * c + sigma**2 * a))
    by_y = found - by_x * x
    return row, (float(total((noise - by_x * x) * by_y).mean()), float(total(by_y**2).mean()))


def factor_of(pairs: Sequence[tuple[float, float]], weights: Tensor) -> float:
    """Return the factor on the output that explains the noise best over all levels; 1 where there is none."""
    weighed = [(w * one, w * size) for w, (one, size) in zip(weights.tolist(), pairs, strict=True)]
    below = sum(size for _, size in weighed)
    c = sum(one for one, _ in weighed) / below if below > 0 else math.nan
    return c if math.isfinite(c) and c != 0 else 1.0
