"""The named weightings.

A weighting lambda belongs to the objective and is written **on the score**,

    loss = 1/2·lambda(t)·‖s(x_t, t) - target‖²,

for every parametrisation. Errors of the other views are multiples of the score's, error_noise = -sigma·error_score and
error_x0 = (sigma²/alpha)·error_score, so a weight that a paper puts on its own prediction becomes, with SNR = alpha²/sigma²,

    weight w on the noise (DDPM)             lambda = w·sigma²
    weight w on the denoised image (EDM)     lambda = w·sigma⁴/alpha² = w·sigma²/SNR

A weighting may also learn: `prepare` returns what it learns, and `minimised` is the loss that follows from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field as default
from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.process import Positive, Process
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample


class Weighting(ABC):
    """A positive weight on the squared error of the score."""

    @abstractmethod
    def __call__(self, process: Process, t: PerSample) -> PerSample:
        """Return lambda at times t, `(batch,)`."""

    def prepare(self, field: Field) -> nn.Module | None:
        """Return what the weighting learns, as a new module whose parts have names of their own; None for most."""
        return None

    def minimised(self, loss: PerSample, field: Field, t: PerSample, size: int, learned: nn.Module | None = None) -> PerSample:
        """Return what training minimises, `(batch,)`: the weighted loss itself, unless the weighting learns.

        Args:
            loss: 1/2·lambda·‖error‖², `(batch,)`.
            field: what is trained.
            t: times, `(batch,)`.
            size: number of coordinates of a sample.
            learned: what `prepare` returned.
        """
        return loss


@register("weighting", "sigma2")
@dataclass(frozen=True, config=COMPONENT)
class SigmaSquared(Weighting):
    """lambda = sigma²: every level has the same weight, since sigma·score has unit size (Song, Ermon 2019)."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.sigma(t) ** 2


@register("weighting", "uniform")
@dataclass(frozen=True, config=COMPONENT)
class Unweighted(Weighting):
    """lambda = 1: the plain Fisher divergence, which low noise dominates by 1/sigma²."""

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@register("weighting", "edm")
@dataclass(frozen=True, config=COMPONENT)
class EDMWeight(Weighting):
    """lambda = sigma²·(sigma² + alpha²·sd²)/(alpha·sd)²: unit weight on the unit-variance EDM output (Karras et al. 2022).

    Attributes:
        data_std: sd, the standard deviation of the data.
    """

    data_std: Positive = 0.5

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t), process.sigma(t)
        return sigma**2 * (sigma**2 + (alpha * self.data_std) ** 2) / (alpha * self.data_std) ** 2


@register("weighting", "power")
@dataclass(frozen=True, config=COMPONENT)
class Power(Weighting):
    """lambda = sigma^exponent, any positive weight of that family; 2 is `sigma2`, 0 is `uniform`.

    Attributes:
        exponent: of sigma.
    """

    exponent: float = 2.0

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.sigma(t) ** self.exponent


@register("weighting", "min-snr")
@dataclass(frozen=True, config=COMPONENT)
class MinSNR(Weighting):
    """lambda = sigma²·min(SNR, gamma)/SNR: weight min(SNR, gamma) on the denoised image, min(1, gamma/SNR) on the noise.

    It gives less weight to low noise than 1/2·‖noise_hat - noise‖² does.

    Attributes:
        gamma: signal-to-noise ratio above which the weight on the denoised image stops growing.

    Reference: Hang et al. (2023), "Efficient diffusion training via min-SNR weighting strategy", arXiv 2303.09556.
    """

    gamma: Positive = 5.0

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        sigma2 = process.sigma(t) ** 2
        return sigma2 * (self.gamma * sigma2 / process.alpha(t) ** 2).clamp(max=1.0)


@register("weighting", "likelihood")
@dataclass(frozen=True, config=COMPONENT)
class Likelihood(Weighting):
    """lambda = g²: with t uniform, the loss bounds the Kullback-Leibler divergence of the reverse SDE's samples from the data.

    KL(data ‖ samples) <= integral of 1/2·g²(t)·E‖s - grad log p_t‖² dt + KL at t_max, so that (t_max - t_min) times the excess
    loss under the noise distribution `uniform` is the integral. Reference: Song, Durkan, Murray, Ermon (2021), "Maximum
    likelihood training of score-based diffusion models", arXiv 2101.09258, theorem 1.
    """

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return process.diffusion(t) ** 2


class LevelTable(nn.Module):
    """u as a function of the noise level: linear between knots that are equally spaced in log SNR, 0 before training."""

    def __init__(self, knots: int) -> None:
        """Hold `knots` numbers, from t_min to t_max."""
        super().__init__()
        self.values = nn.Parameter(torch.zeros(knots))

    def forward(self, process: Process, t: PerSample) -> PerSample:
        """Return u at times t, `(batch,)`, float64."""
        ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64, device=t.device)
        low, high = process.log_snr(ends).unbind()
        where = ((process.log_snr(t.double()) - low) / (high - low)).clamp(0, 1) * (len(self.values) - 1)
        left = where.floor().long().clamp(max=len(self.values) - 2)
        values = self.values.double()
        return torch.lerp(values[left], values[left + 1], where - left)


@register("weighting", "learned")
@dataclass(frozen=True, config=COMPONENT)
class Learned(Weighting):
    """Another weighting, balanced by what is learned of each level: loss/e^u + d/2·u with u a function of the level.

    For a given network the best u has e^u = 2·E loss/d, the mean squared error per coordinate at that level, so every level
    gets the same weight. In a run u is a `LevelTable`, trained with the network; for a field that learns nothing, such as an
    exact one, u = 0. This is half of the loss of Karras et al., whose u is a small network of sigma.

    Attributes:
        weighting: lambda before it is balanced.
        knots: numbers in the table of u.

    References: Kendall, Gal, Cipolla (2018), "Multi-task learning using uncertainty to weigh losses", arXiv 1705.07115.
    Karras et al. (2024), "Analyzing and improving the training dynamics of diffusion models", arXiv 2312.02696, equation 21.
    """

    weighting: Weighting = default(default_factory=SigmaSquared)
    knots: Annotated[int, Bound(ge=2)] = 16

    TABLE = "loss_by_level"

    def __call__(self, process: Process, t: Tensor) -> Tensor:
        return self.weighting(process, t)

    def prepare(self, field: Field) -> nn.ModuleDict:
        return nn.ModuleDict({self.TABLE: LevelTable(self.knots)})

    def minimised(self, loss: PerSample, field: Field, t: PerSample, size: int, learned: nn.Module | None = None) -> PerSample:
        if learned is None and not isinstance(field, nn.Module):
            return loss
        if not isinstance(learned, nn.ModuleDict) or self.TABLE not in learned:
            raise ScorefieldError(
                "got no table for a learned weighting, expected the one that is learned with the model: "
                "pass learned=, which objective.prepare(model) returns"
            )
        u: Tensor = learned[self.TABLE](field.process, t).to(loss.dtype)
        return loss * torch.exp(-u) + 0.5 * size * u
