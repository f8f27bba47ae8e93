"""The checks of `scorefield verify` on measurements: adjoints, and posteriors that are known in closed form.

    adjoint     <A·x, y> = <x, Aᵀ·y> for every linear operator and a composition
    Gaussian    x0 ~ N(m, S), some numbers of it measured: a method that keeps its weights must give the posterior with one
                particle for each draw and five levels
    mixture     the public benchmark in 8 dimensions (`mixture_posterior`): sliced Wasserstein-2 over that of two exact sets

A method that keeps no weights is biased, and says so; its line only informs of how much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from scorefield import registry
from scorefield.errors import ScorefieldError
from scorefield.exact import Gaussian
from scorefield.guidance.posterior import Method, posterior_sample
from scorefield.operators import Mask, Matrix, Operator, parse
from scorefield.process import VE
from scorefield.randomness import SampleRng, stream_of
from scorefield.shapes import total
from scorefield.verification.checks import Check
from scorefield.verification.mixture_posterior import Problem

# Of every linear operator and one composition: what a person would write, and the shape of a sample.
EXAMPLES: dict[str, tuple[str, tuple[int, ...]]] = {
    "blur": ("blur:1.5", (1, 9, 8)),
    "crop": ("crop:5", (2, 9, 8)),
    "downsample": ("downsample:2:bicubic", (1, 8, 8)),
    "fourier": ("fourier:0.3", (1, 9, 8)),
    "gray": ("gray", (3, 8, 8)),
    "identity": ("identity", (2, 8, 8)),
    "mask": ("mask:random:0.5", (2, 9, 8)),
    "project": ("project:7:gaussian", (1, 8, 8)),
    "subsample": ("subsample:3:1", (2, 20)),
    "composition": ("gray,blur:1:circular,downsample:2", (3, 8, 8)),
}
MATRIX = Matrix([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
LIMIT = 1.3  # of a method with weights, sliced Wasserstein-2 over the floor


def adjoints() -> Iterator[Check]:
    """The adjoint of every linear operator, against its definition."""
    for name in [*registry.names("operator"), "composition"]:
        if name != "composition" and not registry.find("operator", name).linear:
            continue
        if name not in EXAMPLES and name != "matrix":
            yield Check("operator", name, "<A·x, y> = <x, Aᵀ·y>", "no example is known here", None, {})
            continue
        operator, shape = (MATRIX, (3,)) if name == "matrix" else (parse(EXAMPLES[name][0], seed=1), EXAMPLES[name][1])
        error = adjoint_error(operator, shape)
        shown = f"error {error:.0e} ({operator!r})"
        yield Check("operator", name, "<A·x, y> = <x, Aᵀ·y>", shown, error <= 1e-10, {"error": error})


def adjoint_error(operator: Operator, shape: tuple[int, ...]) -> float:
    """Return the largest |<A·x, y> - <x, Aᵀ·y>|/(|A·x|·|y|) of 8 random pairs, float64."""
    rng = SampleRng(range(8), stream=stream_of("adjoint"))
    x, y = rng.normal(shape), rng.normal(operator.shape_out(shape))
    measured = operator(x)
    off = total(measured * y) - total(x * operator.adjoint(y, shape))
    return float((off.abs() / (total(measured**2) * total(y**2)).sqrt()).max())


def _method(kind: Any, **settings: Any) -> Method:
    """Return a method that keeps its weights with those of the settings that it has, another one as it is."""
    method: Method = kind()
    if not kind.keeps_weights:
        return method
    known = {field.name for field in fields(kind)}
    return replace(method, **{k: v for k, v in settings.items() if k in known})  # type: ignore[type-var]


def gaussian_posteriors(draws: int) -> Iterator[Check]:
    """Mean and covariance of every method on a Gaussian prior, of which two numbers of four are measured.

    In the exact posterior's own units u = L⁻¹(x - mean) has mean 0 and covariance I, whose estimates from n draws have standard
    errors 1/sqrt(n), and sqrt(2/n) on the diagonal. Of a method that keeps no weights a quarter of the draws is made.
    """
    field, s = _gaussian(), 0.3
    y = torch.tensor([1.2, -0.4], dtype=torch.float64)
    mean, covariance = exact_posterior(field, torch.eye(4, dtype=torch.float64)[:2], y, s)
    for name, kind in registry.every("posterior").items():
        exact: bool = kind.keeps_weights
        declared = "the posterior: 1 particle, 5 levels" if exact else "an approximation"
        method, count = _method(kind, particles=1, levels=5), draws if exact else draws // 4
        try:
            found = posterior_sample(field, Mask([True, True, False, False]), y, s, rng=SampleRng(range(count)), method=method)
        except ScorefieldError as refusal:
            yield Check("posterior: Gaussian", name, declared, str(refusal), False if exact else None, {})
            continue
        u = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (found.x - mean).mT, upper=False).mT
        off, spread = deviations(u)
        values = {"mean_standard_errors": off, "covariance_standard_errors": spread}
        shown = f"mean {off:.1f} SE, covariance {spread:.1f} SE"
        if exact:
            values["uneven"] = uneven = 1 - float(found.effective.min())
            shown += f", weights even to {uneven:.0e}"
            yield Check("posterior: Gaussian", name, declared, shown, max(off, spread) <= 5 and uneven <= 1e-9, values)
        else:
            yield Check("posterior: Gaussian", name, declared, f"{shown}, {count} draws", None, values)


def _gaussian() -> Gaussian:
    root = SampleRng(range(4), stream=stream_of("a Gaussian prior")).normal((4,))
    return Gaussian([0.5, -1.0, 2.0, 0.0], root @ root.mT + 0.1 * torch.eye(4, dtype=torch.float64), VE(0.01, 100.0))


def exact_posterior(field: Gaussian, matrix: Tensor, y: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of x0 given y = A·x0 + s·noise, by inverse covariances."""
    covariance = torch.linalg.inv(torch.linalg.inv(field.covariance) + matrix.mT @ matrix / s**2)
    return field.mean + covariance @ matrix.mT @ (y - matrix @ field.mean) / s**2, covariance


def deviations(u: Tensor) -> tuple[float, float]:
    """Return the largest deviations of mean and covariance of rows from those of N(0, I), in standard errors."""
    n, d = u.shape
    eye = torch.eye(d, dtype=u.dtype)
    second = (u.mT @ u / n - eye) / ((1 + eye) / n).sqrt()
    return float(u.mean(dim=0).abs().max()) * math.sqrt(n), float(second.abs().max())


def mixture_posteriors(draws: int, problems: int = 8) -> Iterator[Check]:
    """Sliced Wasserstein-2 over the floor on problems of the public benchmark, d = 8, the median; with 100 levels.

    The median, as the benchmark's: where one mode has nearly all the weight a few draws of another one are many floors.
    Methods without weights are at 3 floors and more: `benchmarks/results/restore-mixtures.md` has them.
    """
    chosen = [Problem.make(8, 1 + seed % 2, seed) for seed in range(500, 500 + problems)]
    sets = [[problem.slices(problem.exact(draws, index)) for index in range(6)] for problem in chosen]
    for name, kind in registry.every("posterior").items():
        if not kind.keeps_weights:
            continue
        ratios, method = list[float](), _method(kind, levels=100)
        for problem, six in zip(chosen, sets, strict=True):
            floor = sum(problem.distance(six[i], six[i + 1]) for i in (0, 2, 4)) / 3
            rng = SampleRng(range(draws), stream=stream_of("verify", problem.seed))
            given = Matrix(problem.matrix), problem.y, problem.noise_std
            found = posterior_sample(problem.field(), *given, rng=rng, method=method)
            sliced = problem.slices(found.x)
            ratios.append(sum(problem.distance(sliced, other) for other in six) / 6 / floor)
        ratio = median(ratios)
        shown = f"{ratio:.2f} floors, {found.evaluations * found.particles} evaluations a draw"
        values = {"ratio": ratio, "smallest": min(ratios), "largest": max(ratios)}
        yield Check("posterior: mixture", name, f"SW2 <= {LIMIT} floors", shown, ratio <= LIMIT, values)
