"""Predictions: one network output, every view of it.

A network's raw output y estimates a known linear combination of the two unknowns of  x_t = alpha·x0 + sigma·noise.  Since
noise = -sigma·score (in expectation, Tweedie's identity), the two unknowns may be taken as (x0, score), and

    [x_t]   [alpha  -sigma²]   [x0   ]
    [ y ] = [  a       c   ] · [score]          y = a·x0 + c·score

is solved by  denoised = (c·x_t + sigma²·y)/det,  score = (alpha·y - a·x_t)/det,  det = alpha·c + sigma²·a.  A
`Parametrisation` is the pair (a, c), the scale of the network's input and its noise label; all the usual ones are instances of
a few lines. The pair is written on the score rather than on the noise because the score stays finite at
sigma = 0, where the noise does not. Where det = 0 the output has no information about x0 beyond x_t, and the pair is refused.

References: Robbins (1956), who credits Tweedie; Miyasawa (1961); Efron (2011), "Tweedie's formula and selection bias".
Salimans, Ho (2022), "Progressive distillation", arXiv 2202.00512. Karras et al. (2022), arXiv 2206.00364.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from typing import ClassVar, Literal, final

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.noise_label import Label
from scorefield.process import Positive, Process
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample, Sample, over


@plain_dataclass(frozen=True, eq=False)
class Prediction:
    """The output of a field at (x_t, t): `.score`, `.denoised`, `.noise` and `.velocity`, all views of one output.

    Attributes:
        process: the process that made x_t.
        x: the noisy samples x_t, `(batch, *shape)`.
        t: their times, `(batch,)`.
        output: y = a·x0 + c·score, `(batch, *shape)`.
        a: coefficient of x0, `(batch,)`; of t and the conditioning, not of x.
        c: coefficient of the score, likewise.
    """

    process: Process
    x: Sample
    t: PerSample
    output: Sample
    a: PerSample
    c: PerSample
    _one_time: ClassVar[bool] = False

    @classmethod
    def of_score(cls, process: Process, x: Sample, t: PerSample, score: Sample) -> Prediction:
        """Wrap a known score: (a, c) = (0, 1)."""
        return cls(process, x, t, score, torch.zeros_like(t), torch.ones_like(t))

    @classmethod
    def of_denoised(cls, process: Process, x: Sample, t: PerSample, denoised: Sample) -> Prediction:
        """Wrap a known posterior mean E[x0 | x_t]: (a, c) = (1, 0)."""
        return cls(process, x, t, denoised, torch.ones_like(t), torch.zeros_like(t))

    def moved(self, x: Sample, t: PerSample) -> Prediction:
        """Return the prediction at (x, t) whose denoised image is that of this one, where x/alpha is the same for both.

        The denoised image is nearly the same at two levels close to each other, while the score changes with 1/sigma².
        """
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        scale = over(alpha / self.alpha * (self.sigma / sigma) ** 2, x)
        return Prediction.of_score(self.process, x, t, scale * self.score)

    def with_one_time(self) -> Prediction:
        """Return itself, told that t, a and c are the same for all samples: its views then take the first of each.

        Where samples are short, one number for each takes longer than all else in a sampler's step.
        """
        if not self._one_time:
            self.__dict__.pop("_numbers", None), self.__dict__.pop("_det", None)
            self.__dict__["_one_time"] = True
        return self

    @cached_property
    def _numbers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, c, alpha and sigma, of each sample or one for all of them."""
        t, a, c = (number[:1] if self._one_time else number for number in (self.t, self.a, self.c))
        return a, c, self.process.alpha(t), self.process.sigma(t)

    @property
    def alpha(self) -> PerSample:
        """Signal scale of each sample, `(batch,)`."""
        return self._numbers[2].expand_as(self.t)

    @property
    def sigma(self) -> PerSample:
        """Noise standard deviation of each sample, `(batch,)`."""
        return self._numbers[3].expand_as(self.t)

    @cached_property
    def _det(self) -> Tensor:
        a, c, alpha, sigma = self._numbers
        return alpha * c + sigma**2 * a

    def check(self) -> Prediction:
        """Return itself; raises `ScorefieldError` where the output repeats x_t (det = 0), so that the views are not defined.

        The views do not check this: on a GPU every check would wait for all pending work. `ScoreModel` checks once, at all
        times of its process, and `simulate` at the first prediction of any other field.
        """
        _determinant(self.alpha, self.sigma, self.a, self.c)
        return self

    def _scaled(self, number: Tensor, y: Sample) -> Sample:
        return number.to(y.dtype) * y if self._one_time else over(number, y) * y

    def _mixed(self, by_x: Tensor, by_y: Tensor) -> Sample:
        return self._scaled(by_x, self.x) + self._scaled(by_y, self.output)  # addcmul is slower where it broadcasts

    @cached_property
    def denoised(self) -> Sample:
        """E[x0 | x_t] = (x_t + sigma²·score)/alpha, `(batch, *shape)`."""
        _, c, _, sigma = self._numbers
        return self._mixed(c / self._det, sigma**2 / self._det)

    @cached_property
    def score(self) -> Sample:
        """Gradient of log p_t at x_t, `(batch, *shape)`."""
        a, _, alpha, _ = self._numbers
        return self._mixed(-a / self._det, alpha / self._det)

    @cached_property
    def noise(self) -> Sample:
        """E[noise | x_t] = -sigma·score, `(batch, *shape)`."""
        return self._scaled(-self._numbers[3], self.score)

    @cached_property
    def velocity(self) -> Sample:
        """Probability-flow velocity dx/dt = alpha'·denoised + sigma'·noise = f·x - g²·score/2, `(batch, *shape)`."""
        alpha_rate, sigma_rate = self.process.rates(self.t)
        return over(alpha_rate, self.x) * self.denoised + over(sigma_rate, self.x) * self.noise


def _determinant(alpha: Tensor, sigma: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """Return alpha·c + sigma²·a, `(batch,)`; raises `ScorefieldError` where the two terms cancel, or both are 0."""
    one, other = alpha * c, sigma**2 * a
    det, size = one + other, one.abs() + other.abs()
    if not bool((det.abs() > 1e-12 * size).all()):
        worst = int((det.abs() - 1e-12 * size).argmin())
        raise ScorefieldError(
            f"got an output with a = {float(a[worst]):g}, c = {float(c[worst]):g} at alpha = {float(alpha[worst]):g}, sigma = "
            f"{float(sigma[worst]):g}, which repeats x_t and so says nothing about the score; expected "
            "alpha·c + sigma²·a != 0: choose another parametrisation or keep t inside the range"
        )
    return det


class Parametrisation(ABC):
    """The meaning of a network's output, y = a·x0 + c·score, for an input scaled by `input_scale` and a noise label.

    Attributes:
        noise_label: what the network is given of the noise level: log-sigma, sigma, t, log-snr, c-noise, alpha-bar, step, none,
            or L for the index of the nearest of L levels (`noise_label.py`).
    """

    noise_label: Label

    @abstractmethod
    def pair(self, alpha: PerSample, sigma: PerSample) -> tuple[PerSample, PerSample]:
        """Return (a, c) of y = a·x0 + c·score, each `(batch,)`; a term b·noise is c = -sigma·b."""

    @abstractmethod
    def input_scale(self, alpha: PerSample, sigma: PerSample) -> PerSample:
        """Return the factor on x_t before it enters the network, `(batch,)`."""

    @final
    def check(self, process: Process) -> None:
        """Raise `ScorefieldError` where the pair is ill-posed somewhere in the range of a process: where det is, or crosses, 0.

        >>> from scorefield import VP, Noiseless
        >>> V().check(VP())
        >>> V().check(Noiseless())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        scorefield.errors.ScorefieldError: got an output with a = -0, c = -0 at alpha = 1, sigma = 0, which repeats x_t ...
        """
        times = torch.linspace(process.t_min, process.t_max, 1025, dtype=torch.float64)
        alpha, sigma = process.alpha(times), process.sigma(times)
        det = _determinant(alpha, sigma, *self.pair(alpha, sigma))
        if crossed := int((det.sign() != det[0].sign()).int().argmax()):
            raise ScorefieldError(
                f"got the parametrisation {self} on {process}, whose output repeats x_t somewhere between t = "
                f"{float(times[crossed - 1]):g} and {float(times[crossed]):g}, expected alpha·c + sigma²·a != 0: choose another"
            )


def _unit_input(alpha: Tensor, sigma: Tensor, data_std: float) -> Tensor:
    return 1 / torch.sqrt(alpha**2 * data_std**2 + sigma**2)


@register("parametrisation", "score")
@dataclass(frozen=True, config=COMPONENT)
class Score(Parametrisation):
    """y = score, as in NCSN (2019): the network's output must grow like 1/sigma.

    Reference: Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", arXiv 1907.05600.
    """

    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), torch.ones_like(alpha)

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@register("parametrisation", "scaled-score")
@dataclass(frozen=True, config=COMPONENT)
class ScaledScore(Parametrisation):
    """y = sigma·score, as in NCSNv2: s(x, sigma) = y(x)/sigma, so that the output has unit size at every level.

    Reference: Song, Ermon (2020), "Improved techniques for training score-based generative models", arXiv 2006.09011.
    """

    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), sigma

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@register("parametrisation", "noise")
@dataclass(frozen=True, config=COMPONENT)
class NoisePrediction(Parametrisation):
    """y = noise, as in DDPM: score = -y/sigma (Ho, Jain, Abbeel 2020, arXiv 2006.11239)."""

    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), -sigma

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@register("parametrisation", "denoised")
@dataclass(frozen=True, config=COMPONENT)
class Denoiser(Parametrisation):
    """y = x0, the posterior mean itself, from an input of unit variance; ill-posed only at sigma = 0.

    Attributes:
        data_std: standard deviation of the data.
    """

    data_std: Positive = 1.0
    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(alpha), torch.zeros_like(alpha)

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return _unit_input(alpha, sigma, self.data_std)


@register("parametrisation", "v")
@dataclass(frozen=True, config=COMPONENT)
class V(Parametrisation):
    """y = alpha·noise - sigma·x0 (Salimans, Ho 2022, arXiv 2202.00512); made for alpha² + sigma² = 1."""

    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return -sigma, -sigma * alpha

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@register("parametrisation", "velocity")
@dataclass(frozen=True, config=COMPONENT)
class Velocity(Parametrisation):
    """y = noise - x0, the target of flow matching; the probability-flow velocity itself when the process is `RectifiedFlow`.

    Reference: Lipman et al. (2023), arXiv 2210.02747.
    """

    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(alpha), -sigma

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(alpha)


@register("parametrisation", "edm")
@dataclass(frozen=True, config=COMPONENT)
class EDM(Parametrisation):
    """EDM preconditioning: y = (sigma·x0/sd - alpha·sd·noise)/r with r = sqrt(alpha²·sd² + sigma²).

    Read as geometry: x_t/r and y are two unit-variance, uncorrelated combinations of the same (x0, noise), so the network
    sees a unit-variance input, must produce a unit-variance output, and never has to undo its input. For alpha = 1 this is
    D = c_skip·x + c_out·y with c_skip = sd²/(sigma² + sd²), c_out = sigma·sd/sqrt(sigma² + sd²) and label ln(sigma).

    Attributes:
        data_std: sd, the standard deviation of the data, measured on the data.

    Reference: Karras et al. (2022), arXiv 2206.00364, table 1.
    """

    data_std: Positive = 0.5
    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        by_r = _unit_input(alpha, sigma, self.data_std)
        return sigma / self.data_std * by_r, sigma * alpha * self.data_std * by_r

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return _unit_input(alpha, sigma, self.data_std)


@register("parametrisation", "energy")
@dataclass(frozen=True, config=COMPONENT)
class Energy(Parametrisation):
    """score = -grad E of E = |x_t|²/(2·r²) + alpha·sd/sigma·phi(x_t/r), r² = alpha²·sd² + sigma²: EDM for a scalar network phi.

    Its score is -x_t/r² - alpha·sd/(sigma·r)·grad phi, EDM's with the output y = -grad phi: at every level phi has an input of
    unit variance and must have a gradient of unit variance. Without noise (sigma = 0) the factor before phi is 1.

    Attributes:
        data_std: sd, the standard deviation of the data.
        form: how phi is made of the network (`nets/energy.py`).

    Reference: Salimans, Ho (2021), "Should EBMs model the energy or the score?"; Karras et al. (2022), arXiv 2206.00364.
    """

    data_std: Positive = 1.0
    form: Literal["inner", "residual", "plain"] = "inner"
    noise_label: Label = "log-sigma"

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), torch.ones_like(alpha)

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return _unit_input(alpha, sigma, self.data_std)

    def gain(self, alpha: PerSample, sigma: PerSample) -> PerSample:
        """Return the factor on phi, `(batch,)`."""
        return torch.where(sigma > 0, alpha * self.data_std / sigma, 1.0)


__getattr__ = renamed.attributes(__name__)
