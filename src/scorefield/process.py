"""Processes: how noise is added. Two functions say everything:  x_t = alpha(t)·x0 + sigma(t)·noise.

A process is a pair (alpha, sigma) of functions of the time t, with noise ~ N(0, I) and sigma a *standard deviation*. The rest
is derived here, once, from those two and never restated:

    drift           f(t)  = d log alpha / dt                    the SDE is  dx = f·x dt + g dw
    diffusion       g²(t) = d sigma²/dt - 2·f·sigma²
    log-SNR               = 2·log(alpha / sigma)
    transition      x_t given x_s (s < t) is N(k·x_s, sigma(t)² - k²·sigma(s)²) with k = alpha(t)/alpha(s)
    prior           x_T is close to N(alpha·mean, alpha²·Var + sigma²), which is N(0, I) or N(0, sigma²) only in the limit

Three things that texts call "noise schedule" are three things here: the process (this file), the density over t from which
training draws, and the ladder that a sampler descends (both in `levels.py`).

References: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling through stochastic
differential equations", arXiv 2011.13456. Karras, Aittala, Aila, Laine (2022), "Elucidating the design space of
diffusion-based generative models", arXiv 2206.00364. Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic
models", arXiv 2102.09672. Lipman, Chen, Ben-Hamu, Nickel, Le (2023), "Flow matching for generative modeling", arXiv 2210.02747.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from functools import cached_property
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.registry import register
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
        """Return 2·log(alpha/sigma), the shape of `t`; it falls as t grows."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @final
    def time_of_sigma(self, ratio: Tensor) -> Tensor:
        """Return the time whose noise-to-signal ratio sigma(t)/alpha(t) is `ratio` (for alpha = 1, simply sigma).

        Args:
            ratio: wanted ratios, any shape; those outside the range of the process give t_min or t_max.

        Returns:
            Times, the shape of `ratio`, float64, exact to rounding.

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
            ScorefieldError: some s > t, which is a step back in time and needs the score.
        """
        if bool((s > t).any()):
            raise ScorefieldError(f"got s = {float(s.max()):g} > t = {float(t.min()):g}, expected s <= t: swap them")
        k = self.alpha(t) / self.alpha(s)
        return k, (self.sigma(t) ** 2 - k**2 * self.sigma(s) ** 2).clamp_(min=0).sqrt()

    @final
    def prior(self, t: float, data_std: float = 0.0) -> tuple[float, float]:
        """Return (alpha, std) of the starting distribution N(alpha·mean, std²) at time t: std² = alpha²·data_std² + sigma².

        Leaving the data's own variance out (N(0, sigma_max²)) is right only for sigma_max far above the data.

        >>> VE(0.01, 4.0).prior(1.0, data_std=3.0)
        (1.0, 5.0)
        """
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(self.alpha(time)), float(self.sigma(time))
        return alpha, math.hypot(alpha * data_std, sigma)


def _ordered(low: float, high: float, name: str) -> None:
    if not low < high:
        raise ValueError(f"got {name}_min = {low:g} and {name}_max = {high:g}, expected {name}_min < {name}_max")


@register("process", "ve")
@dataclass(frozen=True)
class VE(Process):
    """Variance exploding: alpha = 1, sigma(t) = sigma_min·(sigma_max/sigma_min)^t for t in [0, 1].

    The geometric ladder of NCSN is this process at equally spaced times. Its top is close to N(0, sigma_max²) only for
    sigma_max far above the spread of the data. Reference: Song and Ermon (2019), arXiv 1907.05600; Song et al. (2021).
    """

    sigma_min: Positive = 0.01
    sigma_max: Positive = 50.0
    t_min, t_max = 0.0, 1.0

    @model_validator(mode="after")
    def _check(self) -> VE:
        _ordered(self.sigma_min, self.sigma_max, "sigma")
        return self

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def _time_at(self, ratio: Tensor) -> Tensor:
        return (ratio / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)


@register("process", "linear-ve")
@dataclass(frozen=True)
class LinearVE(Process):
    """EDM's choice: alpha = 1 and sigma(t) = t, so that time *is* the noise level; t in [sigma_min, sigma_max].

    Reference: Karras et al. (2022), arXiv 2206.00364, table 1, last column.
    """

    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0

    @model_validator(mode="after")
    def _check(self) -> LinearVE:
        _ordered(self.sigma_min, self.sigma_max, "sigma")
        return self

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t * 1.0

    def _time_at(self, ratio: Tensor) -> Tensor:
        return ratio


def _integrated_beta(t: Tensor, low: float, high: float) -> Tensor:
    """Integral from 0 to t of beta(u) = low + u·(high - low)."""
    return low * t + 0.5 * (high - low) * t**2


def _time_of_beta(integral: Tensor, low: float, high: float) -> Tensor:
    """Time at which the integral of beta has a value: the positive root, in the form that has no cancellation near 0."""
    return 2 * integral / (low + torch.sqrt(low**2 + 2 * (high - low) * integral))


@register("process", "vp")
@dataclass(frozen=True)
class VP(Process):
    """Variance preserving: alpha = exp(-B/2), sigma² = 1 - alpha², B = integral of beta_min + t·(beta_max - beta_min).

    The continuous limit of DDPM; alpha² + sigma² = 1 at every t in [t_min, 1]. Reference: Song et al. (2021), equation 11.
    """

    beta_min: Positive = 0.1
    beta_max: Positive = 20.0
    t_min: Annotated[float, Bound(gt=0, lt=1)] = 1e-3
    t_max = 1.0

    @model_validator(mode="after")
    def _check(self) -> VP:
        _ordered(self.beta_min, self.beta_max, "beta")
        return self

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * _integrated_beta(t, self.beta_min, self.beta_max))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-_integrated_beta(t, self.beta_min, self.beta_max)))

    def _time_at(self, ratio: Tensor) -> Tensor:
        return _time_of_beta(torch.log1p(ratio**2), self.beta_min, self.beta_max)  # ratio² = exp(B) - 1


@register("process", "sub-vp")
@dataclass(frozen=True)
class SubVP(Process):
    """Sub-VP: alpha as in VP, sigma = 1 - alpha² (a standard deviation: no root), so g² = beta·(1 - alpha⁴).

    Reference: Song et al. (2021), equation 12.
    """

    beta_min: Positive = 0.1
    beta_max: Positive = 20.0
    t_min: Annotated[float, Bound(gt=0, lt=1)] = 1e-3
    t_max = 1.0

    @model_validator(mode="after")
    def _check(self) -> SubVP:
        _ordered(self.beta_min, self.beta_max, "beta")
        return self

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * _integrated_beta(t, self.beta_min, self.beta_max))

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-_integrated_beta(t, self.beta_min, self.beta_max))

    def _time_at(self, ratio: Tensor) -> Tensor:
        return _time_of_beta(2 * torch.asinh(ratio / 2), self.beta_min, self.beta_max)  # ratio = 1/alpha - alpha = 2·sinh(B/2)


@register("process", "cosine")
@dataclass(frozen=True)
class Cosine(Process):
    """Cosine: alpha² = cos²(angle(t))/cos²(angle(0)) with angle(t) = (t + s)/(1 + s)·pi/2, sigma² = 1 - alpha².

    The continuous form of Nichol and Dhariwal's schedule; the discrete one, with beta clipped at 0.999, is
    `DDPMChain(kind="cosine")`. t_max stays below 1, where the signal, and with it log-SNR, would vanish.
    """

    offset: Annotated[float, Bound(ge=0, lt=1)] = 0.008
    t_min: Annotated[float, Bound(gt=0, lt=1)] = 1e-3
    t_max: Annotated[float, Bound(gt=0, lt=1)] = 0.995

    @model_validator(mode="after")
    def _check(self) -> Cosine:
        _ordered(self.t_min, self.t_max, "t")
        return self

    def _angle(self, t: Tensor) -> Tensor:
        return (t + self.offset) / (1 + self.offset) * (math.pi / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return self._angle(t).cos() / self._angle(torch.zeros_like(t)).cos()

    def sigma(self, t: Tensor) -> Tensor:
        # cos²a - cos²b = sin(b - a)·sin(b + a): the difference 1 - alpha² without cancellation near t = 0.
        start, here = self._angle(torch.zeros_like(t)), self._angle(t)
        return torch.sqrt(torch.sin(here - start) * torch.sin(here + start)) / start.cos()

    def _time_at(self, ratio: Tensor) -> Tensor:
        start = self._angle(torch.zeros(1, dtype=torch.float64, device=ratio.device))
        # tan²(angle) = tan²(start) + ratio²/cos²(start): the arc tangent keeps the digits that an arc cosine loses near t = 0.
        angle = torch.atan(torch.hypot(start.tan(), ratio / start.cos()))
        return angle / (math.pi / 2) * (1 + self.offset) - self.offset


@register("process", "rectified-flow")
@dataclass(frozen=True)
class RectifiedFlow(Process):
    """Linear flow (rectified flow, flow matching): alpha = 1 - t, sigma = t, for t in [t_min, t_max] inside (0, 1).

    At t = 1 nothing of the data is left and the score view of a velocity is 0/0, so t_max stops just short.
    Reference: Lipman et al. (2023), arXiv 2210.02747; Liu, Gong, Liu (2023), arXiv 2209.03003.
    """

    t_min: Annotated[float, Bound(gt=0, lt=1)] = 1e-3
    t_max: Annotated[float, Bound(gt=0, lt=1)] = 0.999

    @model_validator(mode="after")
    def _check(self) -> RectifiedFlow:
        _ordered(self.t_min, self.t_max, "t")
        return self

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t * 1.0

    def _time_at(self, ratio: Tensor) -> Tensor:
        return ratio / (1 + ratio)


def _table(betas: Tensor) -> Tensor:
    """Return log alpha² at n = 0..T of a chain with betas 1..T; raises ValueError where alpha² would be no number above 0."""
    table = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
    if not float(table[-1]) > -600:
        raise ValueError(
            f"got {len(betas)} betas that leave exp({float(table[-1]):.3g}) of the signal's variance, expected more than "
            "exp(-600): lower the number of steps or the betas"
        )
    return table


def _between(table: Tensor, t: Tensor) -> Tensor:
    """Return log alpha² at any t in [0, T]: linear between whole numbers, which is the SDE with beta constant in each step."""
    table = table.to(t.device)
    n = t.detach().floor().long().clamp(0, len(table) - 2)
    return table[n] + (t - n) * (table[n + 1] - table[n])


def _time_between(table: Tensor, ratio: Tensor) -> Tensor:
    """Return the t at which a table of log alpha² gives the ratio sigma/alpha; beyond its last entry, T and more."""
    falls, goal = -table.to(ratio.device), torch.log1p(ratio**2)  # alpha² = 1/(1 + ratio²)
    n = (torch.searchsorted(falls, goal, right=True) - 1).clamp(0, len(falls) - 2)
    return n + (goal - falls[n]) / (falls[n + 1] - falls[n])


@register("process", "ddpm-chain")
@dataclass(frozen=True)
class DDPMChain(Process):
    """DDPM's discrete chain: alpha²(n) = (1 - beta_1)···(1 - beta_n), sigma² = 1 - alpha², n = 1..steps.

    Between whole numbers log alpha² is linear (see `Tabulated`). The betas are

        linear          equally spaced from beta_first to beta_last
        scaled-linear   squares of equally spaced roots (latent diffusion)
        cosine          1 - abar(n)/abar(n-1), abar = cos²((n/T + 0.008)/1.008·pi/2), at most 0.999; the two ends are not used

    Attributes:
        steps: T.
        beta_first, beta_last: variance that the first and the last step add, in (0, 1).
        kind: how beta goes from one to the other.

    References: Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", arXiv 2006.11239. Nichol, Dhariwal (2021),
    arXiv 2102.09672, equation 17. Rombach et al. (2022), arXiv 2112.10752.
    """

    steps: Annotated[int, Bound(ge=2, le=1_000_000)] = 1000
    beta_first: Annotated[float, Bound(gt=0, lt=1)] = 1e-4
    beta_last: Annotated[float, Bound(gt=0, lt=1)] = 0.02
    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    discrete: ClassVar[bool] = True
    t_min = 1.0

    @model_validator(mode="after")
    def _check(self) -> DDPMChain:
        _table(self.betas)
        return self

    @property
    def t_max(self) -> float:
        return float(self.steps)

    @cached_property
    def betas(self) -> Tensor:
        """beta_1..beta_T, `(T,)`, float64."""
        if self.kind == "cosine":
            n = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
            abar = torch.cos((n + 0.008) / 1.008 * (math.pi / 2)) ** 2
            return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)
        power = 2 if self.kind == "scaled-linear" else 1
        first, last = self.beta_first ** (1 / power), self.beta_last ** (1 / power)
        return torch.linspace(first, last, self.steps, dtype=torch.float64) ** power

    @cached_property
    def _log_abar(self) -> Tensor:
        return _table(self.betas)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(0.5 * _between(self._log_abar, t)).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(_between(self._log_abar, t))).to(t.dtype)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return _time_between(self._log_abar, ratio)


@register("process", "tabulated")
@dataclass(frozen=True)
class Tabulated(Process):
    """A discrete chain with any betas: alpha²(n) = (1 - beta_1)···(1 - beta_n), sigma² = 1 - alpha², n = 1..T.

    Between whole numbers log alpha² is linear, which is the SDE with beta(t) constant in each step: at t = n the two agree
    exactly. `DDPMChain` names the published chains by four numbers. Reference: Ho, Jain, Abbeel (2020), arXiv 2006.11239.
    """

    betas: tuple[Annotated[float, Bound(gt=0, lt=1)], ...] = field(repr=False)
    discrete: ClassVar[bool] = True
    t_min = 1.0

    @classmethod
    def example(cls) -> Tabulated:
        return cls.linear()

    @model_validator(mode="after")
    def _check(self) -> Tabulated:
        if len(self.betas) < 2:
            raise ValueError(f"got {len(self.betas)} betas, expected at least 2")
        _table(torch.tensor(self.betas, dtype=torch.float64))
        return self

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tabulated:
        """Return the betas of `DDPMChain(steps, first, last)`, all of them written out."""
        return cls(tuple(DDPMChain(steps, first, last).betas.tolist()))

    @classmethod
    def cosine(cls, steps: int = 1000) -> Tabulated:
        """Return the betas of `DDPMChain(steps, kind="cosine")`, all of them written out."""
        return cls(tuple(DDPMChain(steps, kind="cosine").betas.tolist()))

    @property
    def t_max(self) -> float:
        return float(len(self.betas))

    @cached_property
    def _log_abar(self) -> Tensor:
        return _table(torch.tensor(self.betas, dtype=torch.float64))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(0.5 * _between(self._log_abar, t)).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(_between(self._log_abar, t))).to(t.dtype)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return _time_between(self._log_abar, ratio)


@register("process", "noiseless")
@dataclass(frozen=True)
class Noiseless(Process):
    """No noise at all: alpha = 1, sigma = 0 at the only time t = 0; for scores of the data itself (implicit matching)."""

    t_min, t_max = 0.0, 0.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return torch.zeros_like(ratio)


__getattr__ = renamed.attributes(__name__)
