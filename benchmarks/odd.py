"""Odd rows: half of the normal rows to learn from, AUROC of the others against the odd ones; and false alarms at a rate.

    OMP_NUM_THREADS=1 python benchmarks/odd.py                 everything, into benchmarks/results/odd.md
    OMP_NUM_THREADS=1 python benchmarks/odd.py auroc --splits 2
    OMP_NUM_THREADS=1 python benchmarks/odd.py rate            rows of a mixture: a learned run and the exact field

Tables of scikit-learn: breast cancer (malignant ones are odd), wine (class 0), digits (eights; means of two digits), diabetes
(its columns shuffled, each by itself, so that no single number is odd). `ScoreDensity.score_odd` is ours, with its two voices
beside it; peers are fitted on the same rows, standardised. PyOD's ECOD and COPOD run where `pyod` is installed.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

import scorefield
from scorefield import SampleRng, ScoreDensity
from scorefield.anomaly.detector import Detector

Array = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
Found = list[tuple[str, str, dict[str, float]]]
"""Table, method, what was measured."""


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


def peers_of(train: Array, rows: Array) -> dict[str, Callable[[], Array]]:
    """Return what others say of standardised rows, higher being odder."""
    found: dict[str, Callable[[], Array]] = {
        "isolation forest": lambda: -IsolationForest(random_state=0).fit(train).score_samples(rows),
        "5 neighbours": lambda: NearestNeighbors(n_neighbors=5).fit(train).kneighbors(rows)[0].mean(axis=1),
        "mixture": lambda: -best_mixture(train).score_samples(rows),
    }
    try:
        from pyod.models.copod import COPOD
        from pyod.models.ecod import ECOD
    except ImportError:
        return found
    return found | {
        "pyod ECOD": lambda: ECOD().fit(train).decision_function(rows),
        "pyod COPOD": lambda: COPOD().fit(train).decision_function(rows),
    }


def best_mixture(train: Array) -> GaussianMixture:
    """Return a Gaussian mixture by EM, its number of parts by BIC."""
    fits = [GaussianMixture(k, reg_covar=1e-2, random_state=0).fit(train) for k in range(1, 7)]
    return min(fits, key=lambda fit: fit.bic(train))


def auroc(splits: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    for split in range(splits):
        for name, normal, odd in odd_sets(split):
            order, half = np.random.default_rng(split).permutation(len(normal)), len(normal) // 2
            train, rest = normal[order[:half]], normal[order[half:]]
            label, began = np.r_[np.zeros(len(rest)), np.ones(len(odd))], time.perf_counter()
            density = ScoreDensity(random_state=split).fit(train)
            fit, began = time.perf_counter() - began, time.perf_counter()
            found, _ = density._oddness(np.r_[rest, odd])
            seconds = time.perf_counter() - began
            mean, std = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-9)
            scores: dict[str, Array] = {"ours": found.surprise, "  density": found.density, "  norms": found.norms}
            times = {"ours": (fit, seconds)}
            for key, peer in peers_of((train - mean) / std, (np.r_[rest, odd] - mean) / std).items():
                began = time.perf_counter()
                scores[key] = peer()
                times[key] = (0.0, time.perf_counter() - began)
            for method, value in scores.items():
                took = times.get(method, (0.0, 0.0))
                result = {"auroc": float(roc_auc_score(label, value)), "fit": took[0], "seconds": took[1]}
                print(f"  {name} {split} {method}: {result['auroc']:.3f}", flush=True)
                yield name, method, result


def rates(draws: int = 20_000) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield the share of false alarms at 1 % among new draws of a mixture, of an exact field and of a learned one."""
    field = scorefield.GaussianMixture(
        [0.3, 0.7], [[-2.0] * 5, [1.0, 0.0, 2.0, 0.0, 1.0]], [0.4, 1.0], scorefield.VE(0.01, 30.0)
    )
    for seed in range(3):
        train, fresh = (field.sample(SampleRng(range(n), stream=10 * seed + k)) for k, n in ((1, 20_000), (2, draws)))
        found = Detector(field, train[2000:], train[:2000])(fresh).p_value
        yield "mixture, 5 columns", "exact field", {"alarms": float((found <= 0.01).double().mean()), "held out": 2000}
        density = ScoreDensity(random_state=seed).fit(train.numpy())
        p = density.score_odd(fresh.numpy(), p_value=True)
        yield "mixture, 5 columns", "learned", {"alarms": float((p <= 0.01).mean()), "held out": float(len(density._unseen))}


def table(found: Found, keys: list[str], digits: int = 3) -> list[str]:
    """Return the means over splits as a table of Markdown."""
    lines = [f"| table | method | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for name, method in dict.fromkeys((one[0], one[1]) for one in found):
        rows = [one[2] for one in found if one[:2] == (name, method)]
        lines.append(
            f"| {name} | {method} | {' | '.join(f'{np.mean([row[key] for row in rows]):.{digits}f}' for key in keys)} |"
        )
    return lines


def overall(found: Found) -> list[str]:
    """Return each method's mean over the tables, and how far it is below the best peer or itself of a row, at worst."""
    mean = {
        key: float(np.mean([one[2]["auroc"] for one in found if one[:2] == key]))
        for key in dict.fromkeys(one[:2] for one in found)
    }
    tables, methods = (list(dict.fromkeys(key[i] for key in mean)) for i in (0, 1))
    best = {name: max(mean[name, method] for method in methods if not method.startswith(" ")) for name in tables}
    lines = ["| method | mean | furthest below the best of a row |", "|---|---|---|"]
    for method in methods:
        values = [mean[name, method] for name in tables]
        worst = max(best[name] - mean[name, method] for name in tables)
        lines.append(f"| {method} | {np.mean(values):.3f} | {worst:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("auroc", "rate", "all"), default="all")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "odd.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    machine = f"{platform.machine()}, one core, PyTorch {torch.__version__.split('+')[0]}"
    lines, results = ["# Odd rows", "", f"{date.today()}, {machine}; seeds 0 to {options.splits - 1}.", ""], dict[str, Found]()
    if options.part in ("auroc", "all"):
        results["auroc"] = list(auroc(options.splits))
        lines += [
            f"## AUROC, means over {options.splits} splits (`python benchmarks/odd.py auroc --splits {options.splits}`)",
            "",
        ]
        lines += [*overall(results["auroc"]), "", *table(results["auroc"], ["auroc", "fit", "seconds"]), ""]
    if options.part in ("rate", "all"):
        results["rate"] = list(rates())
        lines += [
            "## False alarms among 20,000 new rows at a rate of 1 %, means over 3 seeds (`python benchmarks/odd.py rate`)"
        ]
        lines += ["", *table(results["rate"], ["alarms", "held out"], 4), ""]
    options.out.write_text("\n".join(lines))
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
