"""Gaussian priors and every linear operator of the registry, on vectors and images: the answer must be exact.

    x0 ~ N(m, S), y = A·x0 + s·noise    =>    x0 | y ~ N(m + K(y - A·m), S - K·A·S),  K = S·Aᵀ(A·S·Aᵀ + s²·I)⁻¹

A is read off the operator by applying it to the unit vectors. Of 10,000 draws the largest deviation of a mean and of a
covariance is counted in standard errors (those of a covariance: sqrt((C_ii·C_jj + C_ij²)/n)), at most five, and the shares of
draws inside the exact 90 % intervals are compared: their mean over the coordinates within 1 % of 90 %, and each within five
standard errors. The sampler has 20 levels and one particle for each draw: for a Gaussian prior any number must do.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from restoration.store import Cells, Values, table, verdict
from scorefield import VE, Gaussian, SampleRng, registry
from scorefield.guidance import posterior_sample
from scorefield.operators import Operator, parse
from scorefield.randomness import stream_of

NORMAL_95 = 1.6448536269514722
SHAPES: dict[str, tuple[int, ...]] = {"vector": (16,), "image": (1, 8, 8), "colour image": (3, 8, 8)}
# What is measured of each registered operator, on which kinds of sample. A name that is missing here is reported as a failure.
TEXTS: dict[str, list[tuple[str, str]]] = {
    "identity": [("identity", "vector"), ("identity", "image")],
    "mask": [("mask:left", "vector"), ("mask:top", "image"), ("mask:random:0.6", "image")],
    "crop": [("crop:5", "vector"), ("crop:5", "image")],
    "blur": [("blur:1.5", "vector"), ("blur:1.2", "image"), ("blur:1:circular", "image")],
    "downsample": [("downsample:4", "vector"), ("downsample:2", "image"), ("downsample:2:bicubic", "image")],
    "gray": [("gray", "colour image")],
    "project": [("project:6", "vector"), ("project:20", "image"), ("project:20:gaussian", "image")],
    "subsample": [("subsample:3", "vector"), ("subsample:3:1", "image")],
    "fourier": [("fourier:0.5", "vector"), ("fourier:0.3", "image")],
    "matrix": [("matrix", "vector"), ("matrix", "image")],
    "compose": [("blur:1,downsample:2", "image"), ("gray,blur:1,mask:left", "colour image"), ("blur:1,subsample:2", "vector")],
}
NONLINEAR = ("absolute", "clip", "quantise", "jpeg")
NOISES = (0.3, 0.003)  # in units of the root mean square of A·(x - m)


def prior(shape: tuple[int, ...], seed: int = 0) -> Gaussian:
    """Return a Gaussian with a random mean and a full covariance whose eigenvalues fall from 9 to 0.01."""
    d = math.prod(shape)
    rng = SampleRng([seed], stream=stream_of("gaussian prior", d))
    turn = torch.linalg.qr(rng.normal((d, d))[0]).Q
    values = torch.logspace(math.log10(9.0), -2, d, dtype=torch.float64)
    return Gaussian(rng.normal(shape)[0], turn @ torch.diag(values) @ turn.mT, VE(1e-3, 100.0))


def operator_of(text: str, d: int) -> Operator:
    """Return the operator of a text; "matrix" is a random one with fewer rows than columns."""
    if text != "matrix":
        return parse(text, seed=1)
    rows = SampleRng([5], stream=stream_of("matrix", d)).normal((max(2, d // 3), d))[0]
    found: Operator = registry.find("operator", "matrix")(rows)
    return found


def dense(operator: Operator, shape: tuple[int, ...]) -> Tensor:
    """Return A, `(m, d)`, column by column."""
    d = math.prod(shape)
    return operator(torch.eye(d, dtype=torch.float64).reshape(d, *shape)).flatten(1).mT


def one(text: str, shape: tuple[int, ...], noise: float, draws: int, settings: dict[str, Any]) -> Values:
    """Return how far draws are from the exact posterior."""
    field = prior(shape)
    operator = operator_of(text, math.prod(shape))
    matrix = dense(operator, shape)
    s = noise * math.sqrt(float((matrix @ field.covariance * matrix).sum()) / len(matrix))
    x0 = field.sample(SampleRng([7]))
    rng = SampleRng([8])
    y = operator(x0)[0]
    y = y + s * rng.normal(tuple(y.shape))[0]
    evidence = matrix @ field.covariance @ matrix.mT + s**2 * torch.eye(len(matrix), dtype=torch.float64)
    gain = torch.linalg.solve(evidence, matrix @ field.covariance).mT
    mean = field.mean + gain @ (y.reshape(-1) - matrix @ field.mean)
    covariance = field.covariance - gain @ matrix @ field.covariance
    method = registry.find("posterior", "twisted")(**settings)
    found = posterior_sample(field, operator, y, s, rng=SampleRng(range(draws)), method=method)
    x = found.x.flatten(1)
    std = covariance.diagonal().sqrt()
    seen = torch.cov(x.mT)
    errors = ((std[:, None] * std).square() + covariance**2).div(draws).sqrt()
    inside = ((x - mean).abs() <= NORMAL_95 * std).double().mean(dim=0)
    return {
        "rows": len(matrix),
        "mean_errors": float(((x.mean(dim=0) - mean) / std).abs().max()) * math.sqrt(draws),
        "covariance_errors": float(((seen - covariance) / errors).abs().max()),
        "inside": float(inside.mean()),
        "worst_inside": float(inside[(inside - 0.9).abs().argmax()]),
        "effective": float(found.effective.min()),
    }


def measure(cells: Cells, draws: int, settings: dict[str, Any]) -> None:
    """Measure every operator at both noises."""
    for name in [*registry.names("operator"), "compose"]:
        for text, kind in TEXTS.get(name, ()):
            for noise in NOISES:
                key = {"operator": text, "kind": kind, "noise": noise, "draws": draws, "settings": json.dumps(settings)}
                cells(key, lambda t=text, k=kind, n=noise: one(t, SHAPES[k], n, draws, settings))  # type: ignore[misc]


def report(cells: Cells) -> list[str]:
    """Return the table."""
    rows = []
    for key, v in cells.where():
        spread = 5 * math.sqrt(0.09 / key["draws"])
        held = abs(v["inside"] - 0.9) <= 0.01 and abs(v["worst_inside"] - 0.9) <= spread
        exact = v["mean_errors"] <= 5 and v["covariance_errors"] <= 5
        rows.append(
            (
                *(f"`{key['operator']}`", key["kind"], v["rows"], key["noise"], f"{key['draws']:,}"),
                *(f"{v['mean_errors']:.1f}", f"{v['covariance_errors']:.1f}", verdict(exact), f"{100 * v['inside']:.2f} %"),
                *(f"{100 * v['worst_inside']:.2f} %", verdict(held), f"{v['effective']:.4f}", f"{v['cpu_seconds']:.1f}"),
            )
        )
    columns = [
        *("operator", "prior of", "numbers of y", "noise", "draws", "mean, SE", "covariance, SE", "<= 5"),
        *("in 90 %", "worst coordinate", "held", "effective", "seconds"),
    ]
    missing = [name for name in registry.names("operator") if name not in TEXTS and name not in NONLINEAR]
    absent = [f"**Not measured: {', '.join(missing)}.**", ""] if missing else []
    return [*table(columns, rows), *absent]
