"""The learned conditional of a table beside the true one: KL divergence by a histogram, from rows with holes.

    OMP_NUM_THREADS=1 python benchmarks/tables_conditional.py

A mixture of three Gaussians in four columns, one cell in five missing at random, is learned by `scorefield impute`'s way: a run
of a table, holes and all. Then for rows that it never saw each column in turn is drawn given the other three, DRAWS times. The
true p(x_j | rest) is a mixture of Gaussians in one dimension. Its quantiles cut the line into BINS of equal probability, and

    KL(draws || truth) = sum_b q_b·ln(q_b·BINS)      q_b: share of the draws in bin b, in nats

of which exact draws have (BINS - 1)/(2·DRAWS) by chance alone, which is measured beside it by draws of the truth. What is finer
than a bin is not seen. `one Gaussian` is the KL of the conditional of a Gaussian with the true mean and covariance: what a
method reaches that knows two moments exactly.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from scorefield import app

Array = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "tables-conditional.md"
NAMES = "abcd"
BINS, DRAWS, ROWS, SEEDS = 20, 1000, 60, 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[-2.0, 0.0, 1.0, 0.0], [2.0, 1.0, -1.0, 0.5], [0.0, -2.0, 0.0, 2.0]])
SCALES = np.array([[[1.0, 0, 0, 0], [0.6, 0.5, 0, 0], [0, 0.3, 0.6, 0], [0.2, 0, 0, 0.7]],
                   [[0.6, 0, 0, 0], [-0.5, 0.5, 0, 0], [0.4, 0, 0.5, 0], [0, 0.6, 0, 0.4]],
                   [[0.5, 0, 0, 0], [0.1, 0.5, 0, 0], [-0.4, 0.2, 0.7, 0], [0, 0, 0.5, 0.5]]])  # fmt: skip
COVARIANCES = SCALES @ SCALES.transpose(0, 2, 1)


def drawn(count: int, rng: np.random.Generator) -> Array:
    """Draw rows of the mixture."""
    part = rng.choice(3, count, p=WEIGHTS)
    return MEANS[part] + np.einsum("nij,nj->ni", SCALES[part], rng.normal(size=(count, 4)))


def conditional(row: Array, j: int) -> tuple[Array, Array, Array]:
    """Return weights, means and deviations of p(x_j | the rest of the row)."""
    rest = [i for i in range(4) if i != j]
    logs, means, stds = [], [], []
    for weight, mean, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True):
        off, inverse = row[rest] - mean[rest], np.linalg.inv(c[np.ix_(rest, rest)])
        logs.append(np.log(weight) - 0.5 * (off @ inverse @ off - np.linalg.slogdet(inverse)[1]))
        means.append(mean[j] + c[j, rest] @ inverse @ off)
        stds.append(np.sqrt(c[j, j] - c[j, rest] @ inverse @ c[rest, j]))
    p = np.exp(np.array(logs) - max(logs))
    return p / p.sum(), np.array(means), np.array(stds)


def share_below(x: Array, law: tuple[Array, Array, Array]) -> Array:
    """Return the distribution function at x: uniform for exact draws."""
    p, means, stds = law
    return (p * norm.cdf((np.asarray(x)[..., None] - means) / stds)).sum(axis=-1)


def kl(u: Array) -> float:
    """Return the KL of draws whose values of the distribution function are u."""
    q = np.bincount(np.minimum((u * BINS).astype(int), BINS - 1), minlength=BINS) / len(u)
    return float((q * np.log(np.where(q > 0, q, 1.0) * BINS)).sum())


def measured(rows: int, seed: int, steps: int | None) -> dict[str, float]:
    """Return mean KLs over rows and columns."""
    rng = np.random.default_rng(seed)
    train, test = drawn(rows, rng), drawn(ROWS, rng)
    holes = np.where(rng.random(train.shape) < 0.2, np.nan, train)
    holes = holes[~np.isnan(holes).all(axis=1)]
    mean = WEIGHTS @ MEANS
    whole = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES) + np.einsum("k,ki,kj->ij", WEIGHTS, MEANS - mean, MEANS - mean)
    found: dict[str, list[float]] = {"ours": [], "exact draws": [], "one Gaussian": []}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        table = {name: [None if np.isnan(v) else float(v) for v in column] for name, column in zip(NAMES, holes.T, strict=True)}
        app.train(table, out=run, steps=steps, seed=seed, settings=("training.pictures=0",))
        for j, name in enumerate(NAMES):
            source = {own: [None] * ROWS if own == name else list(map(float, test[:, i])) for i, own in enumerate(NAMES)}
            report = app.impute(run, source, draws=DRAWS, seed=seed)
            own = np.array([report.table(draw)[name] for draw in range(DRAWS)], dtype=float)
            rest = [i for i in range(4) if i != j]
            gain = whole[j, rest] @ np.linalg.inv(whole[np.ix_(rest, rest)])
            deviation = np.sqrt(whole[j, j] - gain @ whole[rest, j])
            for row, values in zip(test, own.T, strict=True):
                law = conditional(row, j)
                found["ours"].append(kl(share_below(values, law)))
                found["exact draws"].append(kl(rng.random(DRAWS)))
                near = mean[j] + gain @ (row[rest] - mean[rest]) + deviation * rng.normal(size=DRAWS)
                found["one Gaussian"].append(kl(share_below(near, law)))
        way = report.to_dict()["way"]
    print(rows, seed, way, {key: round(float(np.mean(values)), 4) for key, values in found.items()}, flush=True)
    return {key: float(np.mean(values)) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="300,3000")
    parser.add_argument("--steps", type=int, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["# The learned conditional of a table", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    lines += [
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, one core, seeds 0 to {SEEDS - 1}, {ROWS} rows x 4 columns",
        "",
    ]
    lines += ["| rows to learn from | ours | exact draws | one Gaussian |", "|---|---|---|---|"]
    for rows in map(int, options.rows.split(",")):
        all_ = [measured(rows, seed, options.steps) for seed in range(SEEDS)]
        lines.append(f"| {rows:,} | " + " | ".join(f"{np.mean([one[key] for one in all_]):.4f}" for key in all_[0]) + " |")
    RESULTS.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
