"""Signals of independent jumps, Gaussian ones: 64 numbers whose increments are N(0, 1), a Gaussian prior, S_ij = min(i, j).

For these the estimator of minimum mean squared error is linear and known. Four measurements: identity, a convolution, every
fourth number, a quarter of the Fourier coefficients, each at 25 dB: s² = trace(A·S·Aᵀ)/m·10^-2.5. The mean of the draws is
compared with the exact posterior mean on the same signals, in dB of their mean squared errors, which is also the difference
in PSNR; and the interval between the k-th smallest and k-th largest of n draws, 2k/(n + 1) = 0.1, must hold the true number in
88 to 92 % of all cases: for exact draws it does so in 90 % exactly.

Reference: Bohra, del Aguila Pla, Giovannelli, Unser (2023), "A statistical framework to investigate the optimality of
signal-reconstruction methods", arXiv 2203.09920.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch

from restoration.gaussians import dense
from restoration.store import Cells, Values, table, verdict
from scorefield import VE, Gaussian, SampleRng, registry
from scorefield.guidance import posterior_sample
from scorefield.operators import parse
from scorefield.randomness import stream_of

LENGTH, DECIBELS = 64, 25.0
OPERATORS = ("identity", "blur:2", "subsample:4", "fourier:0.25")
DRAWS = 299  # 15 on either side


def prior() -> Gaussian:
    """Return the law of a sum of standard normal jumps."""
    place = torch.arange(1, LENGTH + 1, dtype=torch.float64)
    return Gaussian(torch.zeros(LENGTH), torch.minimum(place[:, None], place), VE(1e-3, 500.0))


def one(text: str, seed: int, draws: int, settings: dict[str, Any]) -> Values:
    """Return the squared errors on one signal, and how many numbers the intervals hold."""
    field, operator = prior(), parse(text, seed=seed)
    matrix = dense(operator, field.shape)
    s = math.sqrt(float((matrix @ field.covariance * matrix).sum()) / len(matrix) * 10 ** (-DECIBELS / 10))
    x0 = field.sample(SampleRng([seed], stream=stream_of("signal")))
    y = operator(x0)[0]
    y = y + s * SampleRng([seed], stream=stream_of("noise of a signal")).normal(tuple(y.shape))[0]
    evidence = matrix @ field.covariance @ matrix.mT + s**2 * torch.eye(len(matrix), dtype=torch.float64)
    best = field.covariance @ matrix.mT @ torch.linalg.solve(evidence, y.reshape(-1))
    method = registry.find("posterior", "twisted")(**settings)
    rng = SampleRng(range(draws), stream=stream_of("draws of a signal", seed))
    x = posterior_sample(field, operator, y, s, rng=rng, method=method).x
    k = round(0.05 * (draws + 1))
    ordered = x.sort(dim=0).values
    inside = (ordered[k - 1] <= x0[0]) & (x0[0] <= ordered[draws - k])
    return {
        "ours": float((x.mean(dim=0) - x0[0]).square().mean()),
        "best": float((best - x0[0]).square().mean()),
        "power": float(x0.square().mean()),
        "peak": float(x0.max() - x0.min()),
        "inside": int(inside.sum()),
    }


def measure(cells: Cells, seeds: list[int], draws: int, settings: dict[str, Any]) -> None:
    """Measure every operator on every signal."""
    for seed in seeds:
        for text in OPERATORS:
            key = {"operator": text, "seed": seed, "draws": draws, "settings": json.dumps(settings)}
            cells(key, lambda t=text, n=seed: one(t, n, draws, settings))  # type: ignore[misc]


def report(cells: Cells) -> list[str]:
    """Return the table."""
    rows = []
    for kind in dict.fromkeys((key["operator"], key["draws"], key["settings"]) for key, _ in cells.where()):
        found = [v for _, v in cells.where(operator=kind[0], draws=kind[1], settings=kind[2])]

        def psnr(part: str, found: list[Values] = found) -> float:
            return sum(10 * math.log10(v["peak"] ** 2 / v[part]) for v in found) / len(found)

        def snr(part: str, found: list[Values] = found) -> float:
            return 10 * math.log10(sum(v["power"] for v in found) / sum(v[part] for v in found))

        lost = snr("best") - snr("ours")
        shares = torch.tensor([v["inside"] / LENGTH for v in found], dtype=torch.float64)
        share, error = float(shares.mean()), float(shares.std()) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
        rows.append(
            (
                *(f"`{kind[0]}`", len(found), kind[1], kind[2], f"{snr('ours'):.2f}", f"{snr('best'):.2f}", f"{lost:.3f}"),
                *(verdict(lost <= 0.05), f"{psnr('ours'):.2f}", f"{psnr('best'):.2f}"),
                *(f"{100 * share:.1f} ± {100 * error:.1f} %", verdict(0.88 <= share <= 0.92)),
                f"{sum(v['cpu_seconds'] for v in found) / len(found):.1f}",
            )
        )
    columns = [
        *("operator", "signals", "draws", "settings", "SNR of our mean, dB", "of the MMSE", "lost", "<= 0.05"),
        *("PSNR of our mean", "of the MMSE", "in 90 % intervals", "88 to 92 %", "seconds each"),
    ]
    return table(columns, rows)
