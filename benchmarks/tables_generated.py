"""Generated tables: rows drawn after a default training, beside a Gaussian mixture, a Gaussian copula and real rows.

    OMP_NUM_THREADS=1 python benchmarks/tables_generated.py                   everything, into benchmarks/results/
    OMP_NUM_THREADS=1 python benchmarks/tables_generated.py --tables iris,wine --splits 1 --steps 1000

70 % of the rows to learn from, 1,000 rows drawn, measured against the other 30 % as `scorefield evaluate` does: the AUROC of
trees that tell them from held-out rows, the mean error of the dependence of two columns, what trees lose that learned from
them, and the share nearer to training than to held-out rows. `real` is what training rows have in place of drawn ones; it is
no generator. All numbers are of one number of steps, chosen before any was seen. The mixture (its parts by BIC, 1 to 6) and
the copula (Gaussian, of normal scores) learn from the same coordinates, and what they draw is put on the values that the
columns have, as ours is.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.mixture import GaussianMixture

from scorefield import app
from scorefield.data.table.coordinates import decode, snapped
from scorefield.drawing import Drawing
from scorefield.metrics.closest_record import closest_record, closest_record_of_real
from scorefield.metrics.dependence import dependence
from scorefield.metrics.detection import detection
from scorefield.metrics.tstr import tstr
from scorefield.runs import Run, open_run
from scorefield.shapes import flat
from scorefield.specs import SampleSpec

Array = NDArray[np.float64]
ROWS, STEPS = 1000, 300
TABLES = ("iris", "wine", "breast_cancer", "diabetes", "people")
RESULTS = Path(__file__).parent / "results" / "tables-generated.md"


def people(seed: int = 0, n: int = 1000) -> dict[str, list[Any]]:
    """Return a table with every kind of column: whole and real numbers, a boolean, texts, a date, holes, and a spike at 0."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, n)
    smoker = rng.random(n) < 0.2 + 0.004 * (age - 18)
    income = np.exp(rng.normal(10 + 0.01 * age, 0.5)).round(2)
    rain = np.where(rng.random(n) < 0.6, 0.0, rng.gamma(1.5, 5, n)).round(1)
    job = np.where(age > 65, "retired", rng.choice(["office", "farm", "school"], n))
    joined = np.datetime64("2020-01-01") + (10 * (80 - age) + rng.integers(0, 200, n)).astype("timedelta64[D]")
    pressure = (100 + 0.5 * age + 10 * smoker + rng.normal(0, 8, n)).round(1)
    columns: dict[str, list[Any]] = {"age": age.tolist(), "smoker": smoker.tolist(), "income": income.tolist()}
    columns |= {"rain": rain.tolist(), "job": job.tolist(), "joined": joined.tolist(), "pressure": pressure.tolist()}
    for name, share in (("age", 0.05), ("income", 0.15), ("job", 0.1)):
        columns[name] = ["" if gone else v for v, gone in zip(columns[name], rng.random(n) < share, strict=True)]
    return columns


def table_of(name: str) -> dict[str, list[Any]]:
    """Return a table by columns, the classes of scikit-learn's as texts."""
    if name == "people":
        return people()
    data = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = data.frame
    columns = {str(label): frame[label].tolist() for label in frame}
    if name != "diabetes":
        columns["target"] = [str(data.target_names[i]) for i in data.target]
    return columns


def ours(run: Run, seed: int) -> Array:
    """Draw by the run's own sampler."""
    drawing = Drawing.of(run, SampleSpec(seed=seed), torch.device("cpu"))
    return np.asarray(run.decode(drawing.draw(ROWS)))


def mixture(run: Run, seed: int) -> Array:
    """Draw from a Gaussian mixture by EM in model space, its number of parts by BIC."""
    x = flat(run.normaliser.encode(run.data.train[:])).double().numpy()
    fits = [GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(x) for k in range(1, 7) if k * x.shape[1] < len(x)]
    best = min(fits, key=lambda fit: fit.bic(x))
    return np.asarray(run.normaliser.decode(torch.from_numpy(best.sample(ROWS)[0])))


def copula(run: Run, seed: int) -> Array:
    """Draw from a Gaussian copula with the correlations of normal scores, and every coordinate's own distribution."""
    x, rng = flat(run.data.train[:]).double().numpy(), np.random.default_rng(seed)
    shuffled = x[rng.permutation(len(x))]  # equal values get their ranks at random
    ranks = shuffled.argsort(axis=0, kind="stable").argsort(axis=0)
    scores = np.vectorize(NormalDist().inv_cdf)((ranks + 0.5) / len(x))
    z = rng.multivariate_normal(np.zeros(x.shape[1]), np.corrcoef(scores.T), ROWS, method="eigh")
    grades = np.vectorize(NormalDist().cdf)(z)
    return np.stack([np.quantile(column, u) for column, u in zip(x.T, grades.T, strict=True)], axis=1)


METHODS: dict[str, Callable[[Run, int], Array]] = {"scorefield": ours, "mixture": mixture, "copula": copula}


def measured(run: Run, drawn: Array | None) -> dict[str, str]:
    """Return the figures of drawn rows, or of training rows for None."""
    data = run.data
    assert data.columns is not None
    train, held_out = (decode(rows[:], data.columns, exact=True) for rows in (data.train, data.held_out))
    samples = train if drawn is None else decode(drawn, data.columns)
    known, unseen = (flat(run.normaliser.encode(rows[:])).double() for rows in (data.train, data.held_out))
    found = {"detection": str(detection(samples, held_out))}
    pairs = dependence(samples, held_out)
    found["dependence"] = "-" if pairs is None else str(pairs.mean)
    worth = None if drawn is None else tstr(samples, train, held_out)
    for score in ("AUROC", "R2"):
        mean = None if worth is None else worth.means.get(score)
        found[f"lost {score}"] = "-" if mean is None else f"{mean.gap} of {mean.real.value:.3g}"
    if drawn is None:
        found["nearer"] = str(closest_record_of_real(known, unseen))
    else:
        rows = flat(run.normaliser.encode(snapped(torch.from_numpy(drawn), data.columns))).double()
        found["nearer"] = str(closest_record(rows, known, unseen))
    return found


def main() -> None:
    """Train, draw, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    lines = list[str]()
    for name in asked.tables.split(","):
        for split in range(asked.splits):
            with tempfile.TemporaryDirectory() as folder:
                columns = table_of(name)
                with (Path(folder) / "table.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
                settings = ("data.held_out=0.3", f"data.seed={split}", "training.pictures=0")
                began = time.perf_counter()
                trained = app.train(
                    f"{folder}/table.csv", out=f"{folder}/run", steps=asked.steps, seed=split, settings=settings
                )
                seconds = time.perf_counter() - began
                run = open_run(trained.folder)
                print(f"{name} {split}: trained in {seconds:.0f} s", flush=True)
                for method, draw in (*METHODS.items(), ("real", None)):
                    figures = measured(run, None if draw is None else draw(run, split))
                    lines.append(f"| {name} | {split} | {method} | " + " | ".join(figures.values()) + " |")
                    print(lines[-1], flush=True)
                    head = ["table", "split", "method", *figures]
                    text = f"# Generated tables, {asked.steps} steps of training, {ROWS:,} rows drawn\n\n"
                    text += "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]) + "\n"
                    asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
