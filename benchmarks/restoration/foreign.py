"""The methods of azula 0.11, where it is installed: its own samplers, 200 steps, its own defaults, the same exact denoiser.

The schedule is its `VPSchedule()` or `VESchedule()`; every method is measured with both, and what takes a random step takes
`DDPMSampler`. Where a method asks for more than y, A and the noise, it is given the truth: the data's exact covariance (JFPS),
the exact pseudo-inverse (PiGDM), the twist of an isotropic Gaussian with the data's variance (TDS).

Reference: azula, https://github.com/probabilists/azula, pinned as installed (its version is in the report).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorefield import LinearVE
from scorefield.moments import Moments
from scorefield.verification.mixture_posterior import Problem

STEPS = 200


def installed() -> str | None:
    """Return azula's version, or None."""
    return importlib.metadata.version("azula") if importlib.util.find_spec("azula") else None


def _denoiser(problem: Problem, schedule: Any) -> tuple[Any, Callable[[], int]]:
    """Return the exact denoiser as azula has it, and how often it was evaluated."""
    from azula.denoise import Denoiser, DiracPosterior

    field = problem.field(LinearVE(1e-6, 1e6))
    count = [0]

    class Exact(Denoiser):  # type: ignore[misc, no-any-unimported]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            count[0] += 1
            alpha, sigma = schedule(t)
            return DiracPosterior(mean=field(x_t / alpha, (sigma / alpha).expand(len(x_t))).denoised)

    return Exact(), lambda: count[0]


def _moments(problem: Problem) -> Moments:
    centre = problem.weights @ problem.means
    spread = (problem.means - centre) * problem.weights.sqrt()[:, None]
    return Moments.of_covariance(centre, spread.mT @ spread + torch.eye(problem.d, dtype=torch.float64))


def _builders(problem: Problem, denoiser: Any, settings: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return samplers by name."""
    from azula import guidance
    from azula.linalg.covariance import FullCovariance, IsotropicCovariance
    from azula.sample import DDPMSampler

    y, noise = problem.y, problem.noise_std
    matrix, inverse = problem.matrix, torch.linalg.pinv(problem.matrix)
    tau2 = problem.field().data_std ** 2

    def measure(x: Tensor) -> Tensor:
        return x @ matrix.mT

    def twist(x: Tensor, ratio: Tensor) -> Tensor:
        left = ratio**2 * tau2 / (ratio**2 + tau2)
        law = torch.distributions.MultivariateNormal(
            measure(x), left * matrix @ matrix.mT + noise**2 * torch.eye(len(y), dtype=torch.float64)
        )
        return law.log_prob(y.expand(len(x), -1))

    def jfps() -> Any:
        moments = _moments(problem)
        covariance = FullCovariance(moments.vectors, moments.variances)
        return guidance.JFPSDenoiser(denoiser, y, measure, IsotropicCovariance(noise**2), covariance)

    def of(denoiser: Any) -> Any:
        return DDPMSampler(denoiser, **settings)

    return {
        "dps": lambda: guidance.DPSSampler(denoiser, y, measure, **settings),
        "dps, zeta 3": lambda: guidance.DPSSampler(denoiser, y, measure, zeta=3.0, **settings),
        "pgdm": lambda: guidance.PGDMSampler(denoiser, y, measure, lambda v: v @ inverse.mT, **settings),
        "mmps": lambda: of(guidance.MMPSDenoiser(denoiser, y, measure, IsotropicCovariance(noise**2))),
        "mmps, dy iterations": lambda: of(
            guidance.MMPSDenoiser(denoiser, y, measure, IsotropicCovariance(noise**2), iterations=len(y))
        ),
        "tmpd": lambda: of(guidance.TMPDenoiser(denoiser, y, measure, noise**2)),
        "diffpir": lambda: of(guidance.DiffPIRDenoiser(denoiser, y, measure, noise**2)),
        "jfps": lambda: of(jfps()),
        "tds": lambda: guidance.TDSSampler(denoiser, twist, **settings),
    }


NAMES = ("dps", "dps, zeta 3", "pgdm", "mmps", "mmps, dy iterations", "tmpd", "diffpir", "jfps", "tds")
SCHEDULES = ("VP", "VE")


def draw(problem: Problem, name: str, schedule: str, n: int, steps: int = STEPS) -> tuple[Tensor, int]:
    """Return draws of a method, `(n, d)`, and how often it evaluated the denoiser.

    Its random numbers are torch's global ones; they are seeded here and put back.
    """
    from azula import noise

    denoiser, count = _denoiser(problem, getattr(noise, f"{schedule}Schedule")())
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10_000 + problem.seed)
        torch.set_default_dtype(torch.float64)
        try:
            sampler = _builders(problem, denoiser, {"steps": steps, "silent": True, "dtype": torch.float64})[name]()
            field = problem.field()
            x = sampler.init((n, problem.d), mean=field.data_mean, var=torch.tensor(field.data_std**2))
            x = sampler(x)
        finally:
            torch.set_default_dtype(before)
    assert math.prod(x.shape) == n * problem.d
    return x.detach(), count()
