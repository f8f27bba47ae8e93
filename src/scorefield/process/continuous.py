"""Continuous processes: alpha(t) and sigma(t) as formulas, each with the time of a noise level in closed form.

References are in the head of `base.py`.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.process.base import Positive, Process
from scorefield.registry import COMPONENT, register


def _ordered(low: float, high: float, name: str) -> None:
    if not low < high:
        raise ValueError(f"got {name}_min = {low:g} and {name}_max = {high:g}, expected {name}_min < {name}_max")


@register("process", "ve")
@dataclass(frozen=True, config=COMPONENT)
class VE(Process):
    """Variance exploding: alpha = 1, sigma(t) = sigma_min·(sigma_max/sigma_min)^t for t in [0, 1].

    The geometric ladder of NCSN is this process at equally spaced times. Its top is close to N(0, sigma_max²) only for
    sigma_max far above the spread of the data. Reference: Song and Ermon (2019), arXiv 1907.05600; Song et al. (2021).

    Attributes:
        sigma_min, sigma_max: standard deviation of the noise at t = 0 and t = 1, in units of the data.
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
@dataclass(frozen=True, config=COMPONENT)
class LinearVE(Process):
    """EDM's choice: alpha = 1 and sigma(t) = t, so that time *is* the noise level; t in [sigma_min, sigma_max].

    Attributes:
        sigma_min, sigma_max: smallest and largest noise level, in units of the data.

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
@dataclass(frozen=True, config=COMPONENT)
class VP(Process):
    """Variance preserving: alpha = exp(-B/2), sigma² = 1 - alpha², B = integral of beta_min + t·(beta_max - beta_min).

    The continuous limit of DDPM; alpha² + sigma² = 1 at every t in [t_min, 1]. Reference: Song et al. (2021), equation 11.

    Attributes:
        beta_min, beta_max: rate of noising at t = 0 and t = 1.
        t_min: smallest time, in (0, 1); at t = 0 there is no noise and the score may not exist.
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
@dataclass(frozen=True, config=COMPONENT)
class SubVP(Process):
    """Sub-VP: alpha as in VP, sigma = 1 - alpha² (a standard deviation: no root), so g² = beta·(1 - alpha⁴).

    Attributes:
        beta_min, beta_max: rate of noising at t = 0 and t = 1.
        t_min: smallest time, in (0, 1); at t = 0 there is no noise and the score may not exist.

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
@dataclass(frozen=True, config=COMPONENT)
class Cosine(Process):
    """Cosine: alpha² = cos²(angle(t))/cos²(angle(0)) with angle(t) = (t + s)/(1 + s)·pi/2, sigma² = 1 - alpha².

    The continuous form of Nichol and Dhariwal's schedule; the discrete one, with beta clipped at 0.999, is
    `DDPMChain(kind="cosine")`. t_max stays below 1, where the signal, and with it log-SNR, would vanish.

    Attributes:
        offset: s, which keeps the first steps of a chain from being too small.
        t_min, t_max: smallest and largest time, in (0, 1).
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
@dataclass(frozen=True, config=COMPONENT)
class RectifiedFlow(Process):
    """Linear flow (rectified flow, flow matching): alpha = 1 - t, sigma = t, for t in [t_min, t_max] inside (0, 1).

    At t = 1 nothing of the data is left and the score view of a velocity is 0/0, so t_max stops just short.

    Attributes:
        t_min, t_max: smallest and largest time, in (0, 1).

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


@register("process", "noiseless")
@dataclass(frozen=True, config=COMPONENT)
class Noiseless(Process):
    """No noise at all: alpha = 1, sigma = 0 at the only time t = 0; for scores of the data itself (implicit matching)."""

    t_min, t_max = 0.0, 0.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return torch.zeros_like(ratio)
