"""Discrete chains: the n-th step multiplies alpha² by 1 - beta_n, sigma² = 1 - alpha², n = 1..T.

Between whole numbers log alpha² is linear in t. That is the SDE with a constant beta in each step, and the two agree at t = n.

References: Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", arXiv 2006.11239. Nichol, Dhariwal (2021),
"Improved denoising diffusion probabilistic models", arXiv 2102.09672.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.process.base import Process
from scorefield.registry import COMPONENT, register


@plain_dataclass(frozen=True, eq=False)
class _Signal:
    """log alpha² of a chain at n = 0..T, `(T+1,)`, and what follows from it at any time in [0, T]."""

    log_power: Tensor

    @classmethod
    def of(cls, betas: Tensor) -> _Signal:
        """Return the table of a chain with betas 1..T; raises ValueError where alpha² would be too small for a number."""
        table = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
        if not float(table[-1]) > -600:
            raise ValueError(
                f"got {len(betas)} betas that leave exp({float(table[-1]):.3g}) of the signal's variance, expected more than "
                "exp(-600): lower the number of steps or the betas"
            )
        return cls(table)

    def at(self, t: Tensor) -> Tensor:
        """Return log alpha² at t, the shape of `t`."""
        table = self.log_power.to(t.device)
        n = t.detach().floor().long().clamp(0, len(table) - 2)
        return table[n] + (t - n) * (table[n + 1] - table[n])

    def alpha(self, t: Tensor) -> Tensor:
        """Return alpha at t, the shape and type of `t`."""
        return torch.exp(0.5 * self.at(t)).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """Return sigma at t, the shape and type of `t`."""
        return torch.sqrt(-torch.expm1(self.at(t))).to(t.dtype)

    def time_at(self, ratio: Tensor) -> Tensor:
        """Return the t at which sigma/alpha is `ratio`; beyond the last entry of the table, T and more."""
        falls, goal = -self.log_power.to(ratio.device), torch.log1p(ratio**2)  # alpha² = 1/(1 + ratio²)
        n = (torch.searchsorted(falls, goal, right=True) - 1).clamp(0, len(falls) - 2)
        return n + (goal - falls[n]) / (falls[n + 1] - falls[n])


@register("process", "ddpm-chain")
@dataclass(frozen=True, config=COMPONENT)
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
        _Signal.of(self.betas)
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
    def _signal(self) -> _Signal:
        return _Signal.of(self.betas)

    def alpha(self, t: Tensor) -> Tensor:
        return self._signal.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self._signal.sigma(t)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return self._signal.time_at(ratio)


@register("process", "tabulated")
@dataclass(frozen=True, config=COMPONENT)
class Tabulated(Process):
    """A discrete chain with any betas: alpha²(n) = (1 - beta_1)···(1 - beta_n), sigma² = 1 - alpha², n = 1..T.

    Between whole numbers log alpha² is linear, which is the SDE with beta(t) constant in each step: at t = n the two agree
    exactly. `DDPMChain` names the published chains by four numbers. Reference: Ho, Jain, Abbeel (2020), arXiv 2006.11239.

    Attributes:
        betas: variance that each step adds, in (0, 1), first step first.
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
            raise ValueError(f"got {len(self.betas)} betas, expected at least 2: give one for each step")
        _Signal.of(torch.tensor(self.betas, dtype=torch.float64))
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
    def _signal(self) -> _Signal:
        return _Signal.of(torch.tensor(self.betas, dtype=torch.float64))

    def alpha(self, t: Tensor) -> Tensor:
        return self._signal.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self._signal.sigma(t)

    def _time_at(self, ratio: Tensor) -> Tensor:
        return self._signal.time_at(ratio)
