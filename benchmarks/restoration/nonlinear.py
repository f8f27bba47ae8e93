"""Nonlinear measurements in one and two dimensions, on mixtures, against quadrature on a grid.

The posterior is prior times likelihood at the midpoints of a fine grid, summed over the bins of a histogram. The likelihood is
written here by its own formula, not by the operator's:

    clip, absolute    N(y; H(x), s²): noise comes after;  s = 0: all x with H(x) = y
    quantise          the probability that x + s·noise is rounded to y: noise comes before

Draws have a total variation to the bins even if they are exact; its mean for as many exact draws stands beside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from restoration.store import Cells, Values, table, verdict
from scorefield import VE, GaussianMixture, SampleRng, registry
from scorefield.guidance import posterior_sample
from scorefield.operators import Absolute, Clip, Compose, Matrix, Operator, Quantise
from scorefield.randomness import stream_of

EDGE, BINS = 7.0, {1: 56, 2: 20}
FINE = {1: 500, 2: 35}  # points of the grid in each bin, along each axis; bounds of clip and quantise lie between two
LIMIT = 0.05


def mixture(d: int) -> GaussianMixture:
    """Return three components on the line, or five in the plane."""
    if d == 1:
        return GaussianMixture([0.3, 0.5, 0.2], [[-2.0], [0.5], [3.0]], [0.4, 0.8, 0.5], VE(1e-3, 100.0))
    means = [[-2.0, -1.0], [2.0, 1.5], [0.0, 0.5], [1.5, -2.5], [-3.0, 2.5]]
    return GaussianMixture([0.3, 0.2, 0.2, 0.15, 0.15], means, [0.5, 0.7, 0.9, 0.4, 0.6], VE(1e-3, 100.0))


@dataclass(frozen=True)
class Case:
    """A measurement: its name, the operator, the linear part's matrix or None, s, and the x that was measured."""

    name: str
    operator: Operator
    matrix: Tensor | None
    noise_std: float
    x0: tuple[float, ...]


ROW = torch.tensor([[0.8, -0.6]], dtype=torch.float64)
CASES = (
    Case("clip to [-1, 1], inside", Clip(-1.0, 1.0), None, 0.2, (0.4,)),
    Case("clip to [-1, 1], outside", Clip(-1.0, 1.0), None, 0.2, (2.6,)),
    Case("clip to [-1, 1], outside, no noise", Clip(-1.0, 1.0), None, 0.0, (-1.7,)),
    Case("quantise by 1", Quantise(1.0), None, 0.3, (1.2,)),
    Case("quantise by 1, no noise", Quantise(1.0), None, 0.0, (-1.2,)),
    Case("quantise by 4, no noise", Quantise(4.0), None, 0.0, (0.8,)),
    Case("absolute", Absolute(), None, 0.3, (2.3,)),
    Case("absolute, near 0", Absolute(), None, 0.3, (0.1,)),
    Case("clip to [-1, 1]", Clip(-1.0, 1.0), None, 0.2, (2.0, 0.4)),
    Case("clip to [-1, 1], no noise", Clip(-1.0, 1.0), None, 0.0, (-2.0, -1.3)),
    Case("quantise by 1", Quantise(1.0), None, 0.3, (0.2, 0.9)),
    Case("quantise by 2, no noise", Quantise(2.0), None, 0.0, (-1.6, -0.5)),
    Case("absolute", Absolute(), None, 0.3, (2.1, 1.4)),
    Case("absolute of a projection", Compose(Matrix(ROW), Absolute()), ROW, 0.2, (2.0, 1.0)),
    Case("clip of a projection", Compose(Matrix(ROW), Clip(-1.0, 1.0)), ROW, 0.2, (2.0, -0.5)),
    Case("quantise of a projection", Compose(Matrix(ROW), Quantise(1.0)), ROW, 0.2, (2.0, 1.0)),
)


def measured(case: Case) -> Tensor:
    """Return y."""
    x = torch.tensor([case.x0], dtype=torch.float64)
    u = x if case.matrix is None else x @ case.matrix.mT
    noise = case.noise_std * SampleRng([3], stream=stream_of(case.name)).normal(tuple(u.shape[1:]))
    if isinstance(_last(case), Quantise):
        return _function(case, u + noise)[0]
    return (_function(case, u) + noise)[0]


def _last(case: Case) -> Operator:
    return case.operator.operators[-1] if isinstance(case.operator, Compose) else case.operator


def _function(case: Case, u: Tensor) -> Tensor:
    """Return g(u), by its own formula."""
    last = _last(case)
    if isinstance(last, Clip):
        return u.clamp(-1.0, 1.0)
    return u.abs() if isinstance(last, Absolute) else (u / last.step).round() * last.step  # type: ignore[attr-defined]


def _likelihood(case: Case, x: Tensor, y: Tensor) -> Tensor:
    """Return p(y | x) of rows, but for a constant."""
    u = x if case.matrix is None else x @ case.matrix.mT
    last, s = _last(case), case.noise_std
    if s == 0:
        return (_function(case, u) == y).all(dim=1).double()
    if isinstance(last, Quantise):
        high, low = ((y + side * last.step / 2 - u) / s for side in (1, -1))
        return (torch.special.ndtr(high) - torch.special.ndtr(low)).prod(dim=1)
    return torch.exp(-0.5 * ((y - _function(case, u)) / s).square().sum(dim=1))


def bins_of(x: Tensor) -> Tensor:
    """Return the histogram's bin of each row; what is outside counts to its edge."""
    d = x.shape[1]
    place = ((x + EDGE) / (2 * EDGE) * BINS[d]).long().clamp(0, BINS[d] - 1)
    return place[:, 0] if d == 1 else place[:, 0] * BINS[d] + place[:, 1]


def truth(case: Case, y: Tensor) -> Tensor:
    """Return the posterior's probability of every bin, by the midpoint rule."""
    d = len(case.x0)
    count = BINS[d] * FINE[d]
    axis = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 * EDGE - EDGE
    grid = axis[:, None] if d == 1 else torch.cartesian_prod(axis, axis)
    field = mixture(d)
    prior = torch.zeros(len(grid), dtype=torch.float64)
    for weight, mean, std in zip(field.weights, field.means, field.stds, strict=True):
        prior += weight / std**d * torch.exp(-0.5 * ((grid - mean) / std).square().sum(dim=1))
    mass = prior * _likelihood(case, grid, y)
    found = torch.zeros(BINS[d] ** d, dtype=torch.float64).index_add_(0, bins_of(grid), mass)
    return found / found.sum()


def one(case: Case, draws: int, settings: dict[str, Any]) -> Values:
    """Return the total variation of draws to the truth, and that of as many exact draws."""
    d, y = len(case.x0), measured(case)
    shares = truth(case, y)
    method = registry.find("posterior", "twisted")(**settings)
    found = posterior_sample(mixture(d), case.operator, y, case.noise_std, rng=SampleRng(range(draws)), method=method)
    counts = bins_of(found.x).bincount(minlength=len(shares)) / draws
    exact = []
    for index in range(20):
        drawn = SampleRng(range(draws), stream=stream_of("exact bins", index)).choose(shares)
        exact.append(float(0.5 * (drawn.bincount(minlength=len(shares)) / draws - shares).abs().sum()))
    return {
        "variation": float(0.5 * (counts - shares).abs().sum()),
        "of_exact": sum(exact) / len(exact),
        "y": [round(float(v), 3) for v in y],
        "effective": float(found.effective.min()),
        "bins": int((shares > 1 / draws).sum()),
    }


def measure(cells: Cells, draws: int, settings: dict[str, Any]) -> None:
    """Measure every case."""
    for case in CASES:
        key = {"case": case.name, "d": len(case.x0), "draws": draws, "settings": json.dumps(settings)}
        cells(key, lambda case=case: one(case, draws, settings))  # type: ignore[misc]


def report(cells: Cells) -> list[str]:
    """Return the table."""
    rows = [
        (
            *(key["d"], key["case"], ", ".join(map(str, v["y"])), f"{key['draws']:,}", v["bins"], f"{v['variation']:.3f}"),
            *(f"{v['of_exact']:.3f}", verdict(v["variation"] <= LIMIT), f"{v['effective']:.2f}", f"{v['cpu_seconds']:.1f}"),
        )
        for key, v in sorted(cells.where(), key=lambda pair: pair[0]["d"])
    ]
    columns = ["d", "measurement", "y", "draws", "bins", "TV", "of exact draws", f"<= {LIMIT}", "effective", "seconds"]
    return table(columns, rows)
