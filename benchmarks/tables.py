"""Tables: holes filled in rows that no method saw, and odd rows found, beside what scikit-learn has for it.

    OMP_NUM_THREADS=1 python benchmarks/tables.py                 everything, into benchmarks/results/tables.md
    OMP_NUM_THREADS=1 python benchmarks/tables.py impute --tables iris,wine --splits 3
    OMP_NUM_THREADS=1 python benchmarks/tables.py odd

Imputation: 70 % of the rows to learn from, 20 % of the cells of the others hidden at random, 20 draws. In units of the columns'
standard deviations: root mean square error of the mean of the draws, CRPS, energy distance between completed and true rows; and
the share of the cells that intervals of 90 % hold (of the peers by `conformal.interval` of their draws). `before` is the filter
of `guidance/replacement.py`, by which ScoreDensity imputed until 0.7, on the same field.

Odd rows: half of the normal rows to learn from, AUROC of the others against the odd ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from scorefield import SampleRng, app
from scorefield.anomaly.detector import Detector
from scorefield.conformal import interval
from scorefield.guidance.replacement import fill_in
from scorefield.runs import open_run

Array = NDArray[np.float64]
DRAWS, STEPS = 20, 300
RESULTS = Path(__file__).parent / "results"
Filled = tuple[Array, Array, Array, float]  # draws (D, n, d), low and high ends (n, d), seconds


def table_of(name: str) -> Array:
    """Return the numbers of a table of scikit-learn, the class of iris among them as its published protocol has it."""
    data = getattr(datasets, f"load_{name}")()
    return np.c_[data.data, data.target] if name == "iris" else np.asarray(data.data)


# --- imputation -----------------------------------------------------------------------------------------------------------


def ours(train: Array, holes: Array, seed: int, folder: Path) -> dict[str, Filled]:
    """Train, fill and, with the same field, fill as before."""
    np.savetxt(folder / "train.csv", train, delimiter=",", header=names(train), comments="", fmt="%.17g")
    began = time.perf_counter()
    app.train(str(folder / "train.csv"), out=folder / "run", steps=STEPS, seed=seed, settings=("training.pictures=0",))
    fit = time.perf_counter() - began
    labels = names(train).split(",")
    source = {label: [None if np.isnan(v) else float(v) for v in column] for label, column in zip(labels, holes.T, strict=True)}
    app.impute(folder / "run", {label: [None] for label in labels})  # measures what is kept in the run
    began = time.perf_counter()
    report = app.impute(folder / "run", source, draws=DRAWS, seed=seed)
    seconds = time.perf_counter() - began
    draws, ends = np.stack([numbers(report.table(draw), labels) for draw in range(DRAWS)]), [holes.copy(), holes.copy()]
    for (row, label), cell in report.imputed.cells.items():
        low, high = (cell.low, cell.high) if cell.low is not None else (cell.value, cell.value)
        ends[0][row, labels.index(label)], ends[1][row, labels.index(label)] = float(low), float(high)
    print(f"    trained in {fit:.1f} s, intervals widened by {report.imputed.widened:.0%} on {report.imputed.measured} cells")
    return {"ours": (draws, *ends, seconds)}


def before(folder: Path, holes: Array, seed: int) -> Filled:
    """Fill by the filter of 0.7 on the field that `ours` trained; every column must be one coordinate."""
    run = open_run(folder / "run")
    shift, scale = run.normaliser.shifts(run.shape), run.normaliser.scales(run.shape)
    known, began = (torch.from_numpy(holes) - shift) / scale, time.perf_counter()
    parts = [fill_in(run.field, known, rng=SampleRng(range(len(known)), stream=1000 * seed + draw)).x for draw in range(DRAWS)]
    draws = (torch.stack(parts) * scale + shift).numpy()
    return (draws, *ends_of(draws), time.perf_counter() - began)


def chained_ridge(train: Array, holes: Array, seed: int) -> Filled:
    """Chained Bayesian ridge regressions with posterior draws."""
    began = time.perf_counter()
    drawn = [
        IterativeImputer(sample_posterior=True, random_state=100 * seed + k).fit(train).transform(holes) for k in range(DRAWS)
    ]
    return (np.stack(drawn), *ends_of(np.stack(drawn)), time.perf_counter() - began)


def mixture(train: Array, holes: Array, seed: int) -> Filled:
    """A Gaussian mixture by EM, its number of parts by BIC, and its exact conditional."""
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    fits = [GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(train) for k in range(1, 7)]
    best = min(fits, key=lambda fit: fit.bic(train))
    draws = np.repeat(holes[None], DRAWS, axis=0)
    for i, row in enumerate(holes):
        m = np.isnan(row)
        if not m.any():
            continue
        logs, parts = [], []
        for weight, mean, c in zip(best.weights_, best.means_, best.covariances_, strict=True):
            gain = c[m][:, ~m] @ np.linalg.inv(c[~m][:, ~m])
            off = (row - mean)[~m]
            logs.append(np.log(weight) - 0.5 * (off @ np.linalg.solve(c[~m][:, ~m], off) + np.linalg.slogdet(c[~m][:, ~m])[1]))
            parts.append((mean[m] + gain @ off, np.linalg.cholesky(c[m][:, m] - gain @ c[~m][:, m] + 1e-12 * np.eye(m.sum()))))
        p = np.exp(np.array(logs) - max(logs))
        for draw, k in enumerate(rng.choice(len(p), DRAWS, p=p / p.sum())):
            draws[draw, i, m] = parts[k][0] + parts[k][1] @ rng.normal(size=m.sum())
    return (draws, *ends_of(draws), time.perf_counter() - began)


def ends_of(draws: Array) -> tuple[Array, Array]:
    low, high = interval(torch.from_numpy(draws), 0.9)
    return low.numpy(), high.numpy()


def names(rows: Array) -> str:
    return ",".join(f"x{i}" for i in range(rows.shape[1]))


def numbers(table: dict[str, list[Any]], labels: list[str]) -> Array:
    return np.array([[float(value) for value in table[label]] for label in labels]).T


def scored(truth: Array, missing: NDArray[np.bool_], filled: Filled) -> dict[str, float]:
    """Return what is measured of one method, in standardised units."""
    draws, low, high, seconds = filled
    each = np.abs(draws - truth).mean(axis=0)
    ordered, count = np.sort(draws, axis=0), len(draws)
    weights = (2 * np.arange(1, count + 1) - count - 1)[:, None, None]
    crps = each - (weights * ordered).sum(axis=0) / (count * (count - 1))
    a, b = torch.from_numpy(truth), [torch.from_numpy(one) for one in draws[:5]]
    within = float(torch.cdist(a, a).mean())
    energy = np.mean([2 * float(torch.cdist(a, one).mean()) - float(torch.cdist(one, one).mean()) - within for one in b])
    slack = 1e-9
    held = (truth >= low - slack) & (truth <= high + slack)
    return {
        "rmse": float(np.sqrt(((draws.mean(axis=0) - truth)[missing] ** 2).mean())),
        "crps": float(crps[missing].mean()),
        "energy": float(energy),
        "held": float(held[missing].mean()),
        "seconds": seconds,
    }


def imputation(tables: list[str], splits: int, slow: bool) -> Iterator[tuple[str, str, dict[str, float]]]:
    for name in tables:
        whole = table_of(name)
        for split in range(splits):
            rng = np.random.default_rng(split)
            order, cut = rng.permutation(len(whole)), int(0.7 * len(whole))
            train, test = whole[order[:cut]], whole[order[cut:]]
            missing = rng.random(test.shape) < 0.2
            missing[missing.all(axis=1), 0] = False
            holes, mean, std = np.where(missing, np.nan, test), train.mean(axis=0), train.std(axis=0)

            def standard(filled: Filled, mean: Array = mean, std: Array = std) -> Filled:
                return ((filled[0] - mean) / std, (filled[1] - mean) / std, (filled[2] - mean) / std, filled[3])

            with tempfile.TemporaryDirectory() as folder:
                found = ours(train, holes, split, Path(folder))
                if slow and open_run(Path(folder) / "run").shape == (train.shape[1],):
                    found["before"] = before(Path(folder), holes, split)
            z, gaps = (train - mean) / std, (holes - mean) / std
            scores = {key: standard(one) for key, one in found.items()}
            scores |= {"chained ridge": chained_ridge(z, gaps, split), "mixture": mixture(z, gaps, split)}
            for method, one in scores.items():
                result = scored((test - mean) / std, missing, one)
                print(
                    f"  {name} {split} {method}: " + ", ".join(f"{key} {value:.3f}" for key, value in result.items()),
                    flush=True,
                )
                yield name, method, result


# --- odd rows ---------------------------------------------------------------------------------------------------------------


def odd_sets(seed: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield a name, normal rows and odd ones."""
    rng = np.random.default_rng(seed)
    cancer, wine, digits = datasets.load_breast_cancer(), datasets.load_wine(), datasets.load_digits()
    yield "breast cancer, malignant", cancer.data[cancer.target == 1], cancer.data[cancer.target == 0]
    yield "wine, class 0", wine.data[wine.target != 0], wine.data[wine.target == 0]
    yield "digits, 8", digits.data[digits.target != 8], digits.data[digits.target == 8]
    pairs = [digits.data[rng.permutation(len(digits.data))[:400]] for _ in range(2)]
    yield "digits, means of two", digits.data, (pairs[0] + pairs[1]) / 2
    diabetes = datasets.load_diabetes().data
    yield "diabetes, shuffled", diabetes, np.stack([rng.permutation(column) for column in diabetes.T], axis=1)


def oddness(splits: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    from scorefield.estimator import ScoreDensity

    for split in range(splits):
        for name, normal, odd in odd_sets(split):
            order, half = np.random.default_rng(split).permutation(len(normal)), len(normal) // 2
            train, rest = normal[order[:half]], normal[order[half:]]
            label = np.r_[np.zeros(len(rest)), np.ones(len(odd))]
            density = ScoreDensity(max_steps=STEPS, random_state=split).fit(train)
            z = [torch.from_numpy(((part - density.mean_) / density.scale_).clip(-10, 10)) for part in (train, rest, odd)]
            began = time.perf_counter()
            found = Detector(density.field_, z[0], z[0])(torch.cat(z[1:]))
            seconds = time.perf_counter() - began
            scaled = [(part - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-9) for part in (train, rest, odd)]
            both = np.concatenate(scaled[1:])
            peers: dict[str, Callable[[], Array]] = {
                "isolation forest": lambda s=scaled, b=both: -IsolationForest(random_state=0).fit(s[0]).score_samples(b),
                "5 neighbours": lambda s=scaled, b=both: (
                    NearestNeighbors(n_neighbors=5).fit(s[0]).kneighbors(b)[0].mean(axis=1)
                ),
                "mixture": lambda s=scaled, b=both: -_best(s[0]).score_samples(b),
            }
            values = {"sum": found.surprise, "density": found.density, "norms": found.norms}
            scores = {key: np.asarray(value) for key, value in values.items()} | {key: peer() for key, peer in peers.items()}
            for method, value in scores.items():
                result = {"auroc": float(roc_auc_score(label, value)), "seconds": seconds}
                print(f"  {name} {split} {method}: {result['auroc']:.3f}", flush=True)
                yield name, method, result


def _best(train: Array) -> GaussianMixture:
    fits = [GaussianMixture(k, reg_covar=1e-2, random_state=0).fit(train) for k in range(1, 7)]
    return min(fits, key=lambda fit: fit.bic(train))


# --- report -----------------------------------------------------------------------------------------------------------------


def table(found: list[tuple[str, str, dict[str, float]]], keys: list[str]) -> list[str]:
    """Return the means over splits as a table of Markdown."""
    lines = [f"| table | method | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for name, method in dict.fromkeys((one[0], one[1]) for one in found):
        rows = [one[2] for one in found if one[:2] == (name, method)]
        lines.append(f"| {name} | {method} | {' | '.join(f'{np.mean([row[key] for row in rows]):.3f}' for key in keys)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("impute", "odd", "all"), default="all")
    parser.add_argument("--tables", default="iris,wine,breast_cancer,diabetes")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--before", action="store_true", help="the filter of 0.7, too, which is slow")
    parser.add_argument("--out", type=Path, default=RESULTS / "tables.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    lines, results = ["# Tables", ""], {}
    if options.part in ("impute", "all"):
        results["impute"] = list(imputation(options.tables.split(","), options.splits, options.before))
        lines += [f"## Imputation, means over {options.splits} splits, one core", ""]
        lines += [*table(results["impute"], ["rmse", "crps", "energy", "held", "seconds"]), ""]
    if options.part in ("odd", "all"):
        results["odd"] = list(oddness(options.splits))
        lines += [f"## Odd rows, AUROC, means over {options.splits} splits", "", *table(results["odd"], ["auroc"]), ""]
    options.out.write_text("\n".join(lines))
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
