"""Levels: where training looks, and where sampling steps.

    noise distribution    the distribution of t in training, given as its quantile function: u ~ U(0, 1) -> t
    ladder                the descending times that a sampler visits, noisiest first, 0-based: t_0 > t_1 > ... > t_{L-1}

A geometric ladder is geometric in the standard deviation sigma/alpha (not the variance), which is uniform in log-SNR.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.process import Positive, Process
from scorefield.registry import COMPONENT, find, register

Ladder = Callable[[Process, int], Tensor]  # and `data_std`, where the ladder asks for it

CENTRE, WIDTH = -0.25, 1.5  # of log(lambda/data_std) in the ladder log-cauchy
MOST_LEVELS = 100_000  # a ladder is held in memory; DDPM's has 1,000


def _ends(process: Process, levels: int) -> tuple[Tensor, Tensor]:
    """Return sigma/alpha at t_max and t_min, after checking the number of levels."""
    if levels < 1:
        raise ScorefieldError(f"got {levels} levels, expected at least 1: ask for 1 or more")
    if levels > 1 and process.t_max == process.t_min:
        raise ScorefieldError(
            f"got {levels} levels on a process with a single time, t = {process.t_min:g}, expected 1: "
            "choose what needs one level, such as the sampler langevin with a stated tau, or a process with noise"
        )
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    high, low = process.sigma(ends) / process.alpha(ends)
    return high, low


def _at(process: Process, ratios: Tensor) -> Tensor:
    """Return the times of the given sigma/alpha with both ends exact, whatever rounding the inversion left."""
    times = process.time_of_sigma(ratios)
    times[0] = process.t_max
    if len(times) > 1:
        times[-1] = process.t_min
    return times


def data_scale(field: Any, least: float) -> float:
    """Return the data's standard deviation, or `least` where it is smaller: data that are one point have none to measure by.

    Whatever divides by the data's standard deviation has a limit where it goes to 0, and takes it here, by a number that is far
    below the noise beside it.

    Args:
        field: any field.
        least: in the unit of x/alpha, > 0.

    >>> from scorefield import VE, Gaussian
    >>> data_scale(Gaussian([3.0], [[0.0]], VE(0.01, 100.0)), 1e-10)
    1e-10
    """
    return max(float(field.data_std), least)


def ladder_of(field: Any, name: str, levels: int) -> Tensor:
    """Return a registered ladder for a field, `(levels,)`, descending; one that takes the data's standard deviation gets it.

    >>> from scorefield import VE, Gaussian
    >>> ladder_of(Gaussian([0.0], [[4.0]], VE(0.01, 100.0)), "log-cauchy", 5).shape
    torch.Size([5])
    """
    ladder = find("ladder", name)
    asks = "data_std" in inspect.signature(ladder).parameters
    times: Tensor = ladder(field.process, levels, **({"data_std": field.data_std} if asks and field.data_std > 0 else {}))
    return times


@register("ladder", "geometric")
def geometric(process: Process, levels: int) -> Tensor:
    """Return times whose sigma/alpha descend geometrically, `(levels,)`, float64; uniform in log-SNR.

    >>> from scorefield import VE
    >>> VE(0.01, 1.0).sigma(geometric(VE(0.01, 1.0), 3))
    tensor([1.0000, 0.1000, 0.0100], dtype=torch.float64)
    """
    high, low = _ends(process, levels)
    return _at(process, high * (low / high) ** torch.linspace(0, 1, levels, dtype=torch.float64))


@register("ladder", "karras")
def karras(process: Process, levels: int, rho: float = 7.0) -> Tensor:
    """Return times with (sigma/alpha)^(1/rho) equally spaced, `(levels,)`, float64, descending: finer at low noise.

    Reference: Karras et al. (2022), arXiv 2206.00364, equation 5.
    """
    high, low = _ends(process, levels)
    u = torch.linspace(0, 1, levels, dtype=torch.float64)
    return _at(process, (high ** (1 / rho) + u * (low ** (1 / rho) - high ** (1 / rho))) ** rho)


@register("ladder", "uniform")
def uniform(process: Process, levels: int) -> Tensor:
    """Return equally spaced times from t_max to t_min, `(levels,)`, float64, descending."""
    _ends(process, levels)
    return torch.linspace(process.t_max, process.t_min, levels, dtype=torch.float64)


@register("ladder", "log-cauchy")
def log_cauchy(process: Process, levels: int, data_std: float = 1.0, centre: float = CENTRE, width: float = WIDTH) -> Tensor:
    """Return times whose log(sigma/alpha/data_std) are quantiles of a Cauchy density, `(levels,)`, float64, descending.

    Equal steps of arctan((log(lambda/data_std) - centre)/width): dense where the noise is about as large as the data, which is
    where samples decide what to become, and sparse, but never empty, towards both ends, whatever the range of the process.
    """
    ends = torch.stack(_ends(process, levels)).log() - math.log(data_std)
    first, last = ((ends - centre) / width).arctan().tolist()
    angle = torch.linspace(first, last, levels, dtype=torch.float64)
    return _at(process, data_std * torch.exp(centre + width * angle.tan()))


@register("ladder", "lowest")
def lowest(process: Process, levels: int = 1) -> Tensor:
    """Return the single time t_min, `(1,)`, float64: one noise level, for plain Langevin dynamics."""
    return torch.tensor([process.t_min], dtype=torch.float64)


class NoiseDistribution(ABC):
    """The distribution of t in training, as a quantile function."""

    @abstractmethod
    def quantile(self, process: Process, u: Tensor) -> Tensor:
        """Return the time below which a fraction u of the draws lies; u in (0, 1), any shape."""

    def parts(self, process: Process) -> int:
        """Return the number of parts of equal probability in which training losses are reported: its levels, or else 10."""
        return 10

    def times(self, process: Process) -> Tensor | None:
        """Return the few times that training visits, ascending, `(k,)`; None where it visits a continuum."""
        return None


@register("noise_distribution", "levels")
@dataclass(frozen=True, config=COMPONENT)
class Levels(NoiseDistribution):
    """Uniform over the levels of a geometric ladder, as NCSN trains: each of `levels` noise levels equally often.

    A process with a single time has a single level.

    Attributes:
        levels: their number.
    """

    levels: Annotated[int, Bound(ge=1, le=MOST_LEVELS)] = 10

    def quantile(self, process: Process, u: Tensor) -> Tensor:
        ladder = self.times(process).to(u.device)
        return ladder[(u * len(ladder)).long().clamp(max=len(ladder) - 1)]

    def times(self, process: Process) -> Tensor:
        return geometric(process, self.parts(process)).flip(0)

    def parts(self, process: Process) -> int:
        return self.levels if process.t_max > process.t_min else 1


@register("noise_distribution", "level")
@dataclass(frozen=True, config=COMPONENT)
class Level(NoiseDistribution):
    """The one level sigma/alpha = ratio, always: a single noise level, as in denoising autoencoders (Vincent 2011).

    Attributes:
        ratio: sigma/alpha, in units of the data.

    Raises:
        ScorefieldError: the process does not reach that level.
    """

    ratio: Positive = 1.0

    def quantile(self, process: Process, u: Tensor) -> Tensor:
        high, low = _ends(process, 1)
        if not float(low) * (1 - 1e-9) <= self.ratio <= float(high) * (1 + 1e-9):
            raise ScorefieldError(
                f"got the level {self.ratio:g}, expected one from {float(low):g} to {float(high):g}, the range of the process: "
                "change objective.noise_distribution.ratio or the process"
            )
        return process.time_of_sigma(torch.full_like(u, self.ratio))

    def times(self, process: Process) -> Tensor:
        return process.time_of_sigma(torch.tensor([self.ratio]))

    def parts(self, process: Process) -> int:
        return 1


@register("noise_distribution", "uniform")
@dataclass(frozen=True, config=COMPONENT)
class Uniform(NoiseDistribution):
    """Uniform over [t_min, t_max]: for VE, uniform in log sigma."""

    def quantile(self, process: Process, u: Tensor) -> Tensor:
        return process.t_min + u * (process.t_max - process.t_min)


@register("noise_distribution", "log-normal")
@dataclass(frozen=True, config=COMPONENT)
class LogNormal(NoiseDistribution):
    """ln(sigma/alpha) ~ N(mean, std²), given that it lies in the range of the process (Karras et al. 2022: mean -1.2, std 1.2).

    Attributes:
        mean, std: of ln(sigma/alpha).
        spread: share of the draws that is uniform in ln(sigma/alpha) over the whole range instead, in [0, 1). A normal density
            leaves levels three deviations away all but untrained: samples hardly change by that, likelihoods do.
    """

    mean: Annotated[float, Bound(allow_inf_nan=False)] = -1.2
    std: Positive = 1.2
    spread: Annotated[float, Bound(ge=0, lt=1)] = 0.0

    def quantile(self, process: Process, u: Tensor) -> Tensor:
        high, low = (float(end.log()) for end in _ends(process, 1))
        # Phi has digits in its left tail only: a range that lies mostly to the right of the mean is mirrored.
        mirror = -1.0 if low + high > 2 * self.mean else 1.0
        ends = sorted(mirror * (end - self.mean) / self.std for end in (low, high))
        first, last = (float(torch.special.ndtr(torch.tensor(end, dtype=torch.float64))) for end in ends)
        if not last - first > 1e-300:
            raise ScorefieldError(
                f"got training levels with ln(sigma) around {self.mean:g} and a spread of {self.std:g}, expected levels in the "
                f"range of the process, {low:.3g} to {high:.3g}: change objective.noise_distribution.mean or the process"
            )
        u = u.double()
        if self.spread == 0:
            normal = torch.special.ndtri(first + (u if mirror > 0 else 1 - u) * (last - first))
            return process.time_of_sigma(torch.exp(self.mean + mirror * self.std * normal))
        below, above = torch.full_like(u, low), torch.full_like(u, high)
        for _ in range(52):  # the distribution function of a mixture has no inverse in closed form: bisection
            middle = (below + above) / 2
            share = (torch.special.ndtr(mirror * (middle - self.mean) / self.std) - first) / (last - first)
            share = share if mirror > 0 else 1 - share
            less = (1 - self.spread) * share + self.spread * (middle - low) / (high - low) < u
            below, above = torch.where(less, middle, below), torch.where(less, above, middle)
        return process.time_of_sigma(torch.exp((below + above) / 2))


def chain_times(process: Process, steps: int | None = None) -> Tensor:
    """Return the times of a discrete chain, ascending, `(T,)`, float64.

    Args:
        process: how the data are noised.
        steps: T, equally spaced from t_min to t_max; None for times one apart, ending at t_max: DDPM's n = 1..T.

    >>> from scorefield import DDPMChain
    >>> chain_times(DDPMChain(4))
    tensor([1., 2., 3., 4.], dtype=torch.float64)
    """
    if steps is not None:
        return uniform(process, steps).flip(0)
    last = math.floor(process.t_max - process.t_min + 1e-9)
    return process.t_max - torch.arange(last, -1, -1, dtype=torch.float64)


@register("noise_distribution", "steps")
@dataclass(frozen=True, config=COMPONENT)
class Steps(NoiseDistribution):
    """Uniform over the steps of a discrete chain, as DDPM trains: times one apart, or `steps` equally spaced ones.

    Attributes:
        steps: number of times; None for all of the chain's.

    Reference: Ho, Jain, Abbeel (2020), arXiv 2006.11239, algorithm 1.
    """

    steps: Annotated[int, Bound(ge=1, le=MOST_LEVELS)] | None = None

    def quantile(self, process: Process, u: Tensor) -> Tensor:
        times = self.times(process).to(u.device)
        return times[(u * len(times)).long().clamp(max=len(times) - 1)]

    def times(self, process: Process) -> Tensor:
        return chain_times(process, self.steps)

    def parts(self, process: Process) -> int:
        return len(chain_times(process, self.steps))


__getattr__ = renamed.attributes(__name__)
