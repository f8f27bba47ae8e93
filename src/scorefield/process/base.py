"""Processes: how noise is added. Two functions determine everything:  x_t = alpha(t)·x0 + sigma(t)·noise.

A process is a pair (alpha, sigma) of functions of the time t, with noise ~ N(0, I) and sigma a *standard deviation*. The rest
is derived here, once, from those two and never restated:

    drift           f(t)  = d log alpha / dt                    the SDE is  dx = f·x dt + g dw
    diffusion       g²(t) = d sigma²/dt - 2·f·sigma²
    log-SNR               = 2·log(alpha / sigma)
    transition      x_t given x_s (s < t) is N(k·x_s, sigma(t)² - k²·sigma(s)²) with k = alpha(t)/alpha(s)
    prior           x_T is close to N(alpha·mean, alpha²·Var + sigma²), which is N(0, I) or N(0, sigma²) only in the limit

Three things that texts call "noise schedule" are three things here: the process, the noise distribution from which training
draws t, and the ladder that a sampler descends (both in `levels.py`).

References: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling through stochastic
differential equations", arXiv 2011.13456. Karras, Aittala, Aila, Laine (2022), "Elucidating the design space of
diffusion-based generative models", arXiv 2206.00364. Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic
models", arXiv 2102.09672. Lipman, Chen, Ben-Hamu, Nickel, Le (2023), "Flow matching for generative modeling", arXiv 2210.02747.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field as Bound
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.shapes import PerSample, Sample, over

Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False)]


def _slope(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of time and its derivative, by automatic differentiation."""
    with torch.enable_grad():
        t = t.detach().requires_grad_(True)
        value = function(t)
        if not value.requires_grad:  # a constant, such as alpha = 1
            return value, torch.zeros_like(t)
        (slope,) = torch.autograd.grad(value.sum(), t)
    return value.detach(), slope


class Process(ABC):
    """The noising of data: x_t = alpha(t)·x0 + sigma(t)·noise for t in [t_min, t_max], larger t = noisier.

    Attributes:
        discrete: a declared fact that the tests measure: it is a chain whose steps are the whole numbers of t, and drift and
            diffusion jump there.
    """

    discrete: ClassVar[bool] = False

    @classmethod
    def example(cls) -> Process:
        """Return one of the kind with its usual settings, to measure it by."""
        return cls()

    @property
    @abstractmethod
    def t_min(self) -> float:
        """Smallest time that training and sampling use."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Largest time."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the signal scale at time t, the shape of `t`."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the noise standard deviation at time t, the shape of `t`."""

    @final
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (d alpha/dt, d sigma/dt), each the shape of `t`."""
        return _slope(self.alpha, t)[1], _slope(self.sigma, t)[1]

    @final
    def drift(self, t: Tensor) -> Tensor:
        """Return f(t) = d log alpha/dt of the SDE dx = f·x dt + g dw, the shape of `t`."""
        alpha, slope = _slope(self.alpha, t)
        return slope / alpha

    @final
    def diffusion(self, t: Tensor) -> Tensor:
        """Return g(t) = sqrt(d sigma²/dt - 2·f·sigma²) of the SDE dx = f·x dt + g dw, the shape of `t`.

        For a VE process this is g² = d sigma²/dt; for sub-VP it is beta·(1 - alpha⁴).
        """
        variance, slope = _slope(lambda u: self.sigma(u) ** 2, t)
        return (slope - 2 * self.drift(t) * variance).clamp_(min=0).sqrt()

    @final
    def log_snr(self, t: Tensor) -> Tensor:
        """Return 2·log(alpha/sigma), the shape of `t`; it decreases as t grows."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @final
    def time_of_sigma(self, ratio: Tensor) -> Tensor:
        """Return the time whose noise-to-signal ratio sigma(t)/alpha(t) is `ratio` (for alpha = 1, simply sigma).

        Args:
            ratio: wanted ratios, any shape; those outside the range of the process give t_min or t_max.

        Returns:
            Times, the shape of `ratio`, float64, exact to rounding.

        >>> from scorefield import VE
        >>> VE(0.01, 10.0).time_of_sigma(torch.tensor([10.0, 1.0]))
        tensor([1.0000, 0.6667], dtype=torch.float64)
        """
        # Squares stay finite up to 1e154; no process comes near the bound.
        return self._time_at(ratio.double().clamp(min=0, max=1e100)).clamp(self.t_min, self.t_max)

    def _time_at(self, ratio: Tensor) -> Tensor:
        """Return the time at which sigma/alpha is `ratio`, in [0, 1e100], float64; outside the range any time beyond that end.

        A process without a closed form inherits this bisection on log sigma/alpha, 80 evaluations of alpha and sigma.
        """
        goal = -2 * ratio.log()
        low, high = torch.full_like(goal, self.t_min), torch.full_like(goal, self.t_max)
        for _ in range(80):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) > goal  # too little noise yet: go up
            low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
        return torch.where(self.log_snr(high) > goal, high, low)

    @final
    def perturb(self, x0: Sample, t: PerSample, noise: Sample) -> Sample:
        """Return x_t = alpha(t)·x0 + sigma(t)·noise.

        Args:
            x0: clean samples, `(batch, *shape)`.
            t: one time per sample, `(batch,)`.
            noise: a draw of N(0, I) in the shape of `x0`, never scaled.
        """
        return over(self.alpha(t), x0) * x0 + over(self.sigma(t), x0) * noise

    @final
    def transition(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return (k, std) of x_t given x_s = N(k·x_s, std²·I) for s <= t.

        Raises:
            ScorefieldError: an s > t, which is a step back in time and needs the score.
        """
        if bool((s > t).any()):
            raise ScorefieldError(f"got s = {float(s.max()):g} > t = {float(t.min()):g}, expected s <= t: swap them")
        k = self.alpha(t) / self.alpha(s)
        return k, (self.sigma(t) ** 2 - k**2 * self.sigma(s) ** 2).clamp_(min=0).sqrt()

    @final
    def prior(self, t: float, data_std: float = 0.0) -> tuple[float, float]:
        """Return (alpha, std) of the starting distribution N(alpha·mean, std²) at time t: std² = alpha²·data_std² + sigma².

        Leaving the data's own variance out (N(0, sigma_max²)) is right only for sigma_max far above the data.

        >>> from scorefield import VE
        >>> VE(0.01, 4.0).prior(1.0, data_std=3.0)
        (1.0, 5.0)
        """
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(self.alpha(time)), float(self.sigma(time))
        return alpha, math.hypot(alpha * data_std, sigma)
