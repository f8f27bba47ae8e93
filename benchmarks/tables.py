"""Tables: holes filled in rows that no method saw, beside what people use for it.

    python benchmarks/tables.py --tasks FOLDER             writes what other imputers need, see baselines/imputers.py
    OMP_NUM_THREADS=1 python benchmarks/tables.py --peers FOLDER --keep FILE     all methods, into results/tables.md

70 % of the rows to learn from, complete; 20 % of the cells of the others missing, 20 draws. Missing

    completely at random    each cell with the same chance
    at random               never in the column that varies most; in the others with a chance of 0 to 40 %, which rises with the
                            rank of that column's value: rows with large values have more holes

In units of the columns' standard deviations: root mean square error of the mean of the draws, CRPS, energy distance between
completed and true rows; and the share of the missing cells that intervals of 90 % hold, of the peers by `conformal.interval` of
their draws, of a single best guess none. Seconds are of the processor, to learn and to fill.

5 neighbours is scikit-learn's KNNImputer, a single best guess; chained ridge its IterativeImputer with posterior draws; mixture
is a Gaussian mixture by EM with 1 to 6 parts by BIC and its exact conditional.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.mixture import GaussianMixture

from scorefield import app
from scorefield.conformal import interval

Array = NDArray[np.float64]
DRAWS, SHARE = 20, 0.2
RESULTS = Path(__file__).parent / "results"
MISSING = ("completely at random", "at random")
COLUMNS = ("rmse", "crps", "energy", "held", "seconds")


class Filled(NamedTuple):
    """What a method says: draws (D, n, d), low and high ends (n, d) or None, and seconds of learning and filling."""

    draws: Array
    low: Array | None
    high: Array | None
    fit: float
    fill: float
    said: str = ""


class Task(NamedTuple):
    """Rows to learn from, the other rows, which of their cells are missing, and which columns hold classes."""

    name: str
    train: Array
    test: Array
    missing: NDArray[np.bool_]
    categories: list[int]
    seed: int

    @property
    def holes(self) -> Array:
        """The other rows, NaN where a cell is missing."""
        return np.where(self.missing, np.nan, self.test)

    def standard(self, rows: Array) -> Array:
        """Return rows in units of the training rows' standard deviations."""
        return (rows - self.train.mean(axis=0)) / self.train.std(axis=0)


def table_of(name: str) -> Array:
    """Return the numbers of a table of scikit-learn, the class of iris among them as its published protocol has it."""
    data = getattr(datasets, f"load_{name}")()
    return np.c_[data.data, data.target] if name == "iris" else np.asarray(data.data)


def task_of(name: str, split: int, missing: str) -> Task:
    """Return a table divided, with missing cells."""
    whole, rng = table_of(name), np.random.default_rng(split)
    order, cut = rng.permutation(len(whole)), int(0.7 * len(whole))
    train, test = whole[order[:cut]], whole[order[cut:]]
    chance = np.full(test.shape, SHARE)
    if missing == "at random":
        of = int(np.argmax([len(np.unique(column)) for column in train.T]))
        chance[:] = 2 * SHARE * (test[:, of].argsort().argsort()[:, None] + 0.5) / len(test)
        chance[:, of] = 0.0
    mask = rng.random(test.shape) < chance
    mask[mask.all(axis=1), 0] = False
    return Task(name, train, test, mask, [4] if name == "iris" else [], split)


# --- methods: those of other libraries than scikit-learn are in baselines/imputers.py ---------------------------------------


def ours(task: Task, steps: int | None) -> Filled:
    """Train, measure what is kept in the run, and fill."""
    labels = names(task.train).split(",")
    source = {
        label: [None if np.isnan(v) else float(v) for v in column] for label, column in zip(labels, task.holes.T, strict=True)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savetxt(folder / "train.csv", task.train, delimiter=",", header=names(task.train), comments="", fmt="%.17g")
        began = time.process_time()
        app.train(str(folder / "train.csv"), out=folder / "run", steps=steps, seed=task.seed, settings=("training.pictures=0",))
        app.impute(folder / "run", {label: [None] for label in labels})
        fit, began = time.process_time() - began, time.process_time()
        report = app.impute(folder / "run", source, draws=DRAWS, seed=task.seed)
        fill = time.process_time() - began
        kept = folder / "run" / "imputing.json"
        way = json.loads(kept.read_text()) if kept.exists() else {}
    draws = np.stack([numbers(report.table(draw), labels) for draw in range(DRAWS)])
    low, high = task.holes, task.holes
    for (row, label), cell in report.imputed.cells.items():
        ends = (cell.low, cell.high) if cell.low is not None else (cell.value, cell.value)
        low[row, labels.index(label)], high[row, labels.index(label)] = map(float, ends)
    said = ", ".join(f"{key} {value}" for key, value in way.items() if key not in ("made_from", "scores"))
    return Filled(draws, low, high, fit, fill, f"{said}, widened {report.imputed.widened:.2f} on {report.imputed.measured}")


def chained_ridge(task: Task) -> Filled:
    """Chained Bayesian ridge regressions with posterior draws."""
    began, z, gaps = time.process_time(), task.standard(task.train), task.standard(task.holes)
    drawn = [
        IterativeImputer(sample_posterior=True, random_state=100 * task.seed + k).fit(z).transform(gaps) for k in range(DRAWS)
    ]
    return of_draws(task, np.stack(drawn), began)


def neighbours(task: Task) -> Filled:
    """The mean of the 5 nearest rows: a single best guess."""
    began, z = time.process_time(), task.standard(task.train)
    guess = KNNImputer(n_neighbors=5).fit(z).transform(task.standard(task.holes))
    return of_draws(task, np.repeat(guess[None], DRAWS, axis=0), began)._replace(low=None, high=None)


def mixture(task: Task) -> Filled:
    """A Gaussian mixture by EM, its number of parts by BIC, and its exact conditional."""
    began, rng, train, holes = (
        time.process_time(),
        np.random.default_rng(task.seed),
        *map(task.standard, (task.train, task.holes)),
    )
    fits = [GaussianMixture(k, reg_covar=1e-3, random_state=task.seed).fit(train) for k in range(1, 7)]
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
    return of_draws(task, draws, began)


SKLEARN: dict[str, Callable[[Task], Filled]] = {
    "5 neighbours": neighbours,
    "chained ridge": chained_ridge,
    "mixture": mixture,
}


def of_draws(task: Task, z: Array, began: float) -> Filled:
    """Return what standardised draws say, since `began`."""
    draws = z * task.train.std(axis=0) + task.train.mean(axis=0)
    return Filled(draws, *ends_of(draws), 0.0, time.process_time() - began)


def ends_of(draws: Array) -> tuple[Array, Array]:
    """Return the ends of intervals of 90 %."""
    low, high = interval(torch.from_numpy(draws), 0.9)
    return low.numpy(), high.numpy()


def peers(folder: Path, name: str) -> dict[str, Filled]:
    """Return what baselines/imputers.py has made of a task."""
    found = {}
    for path in sorted(folder.glob(f"*/{name}.npz")):
        kept = np.load(path)
        draws, method = kept["draws"], path.parent.name
        single = bool(np.ptp(draws, axis=0).max() == 0)
        found[method] = Filled(draws, *((None, None) if single else ends_of(draws)), 0.0, float(kept["seconds"]))
    return found


def names(rows: Array) -> str:
    return ",".join(f"x{i}" for i in range(rows.shape[1]))


def numbers(table: dict[str, list[Any]], labels: list[str]) -> Array:
    return np.array([[float(value) for value in table[label]] for label in labels]).T


# --- measures ---------------------------------------------------------------------------------------------------------------


def scored(task: Task, filled: Filled) -> dict[str, float]:
    """Return what is measured of one method, in standardised units."""
    missing, truth, draws = task.missing, task.standard(task.test), task.standard(filled.draws)
    ordered, count = np.sort(draws, axis=0), len(draws)
    weights = (2 * np.arange(1, count + 1) - count - 1)[:, None, None]
    crps = np.abs(draws - truth).mean(axis=0) - (weights * ordered).sum(axis=0) / (count * (count - 1))
    a, b = torch.from_numpy(truth), [torch.from_numpy(one) for one in draws[:5]]
    within = float(torch.cdist(a, a).mean())
    energy = np.mean([2 * float(torch.cdist(a, one).mean()) - float(torch.cdist(one, one).mean()) - within for one in b])
    result = {
        "rmse": float(np.sqrt(((draws.mean(axis=0) - truth)[missing] ** 2).mean())),
        "crps": float(crps[missing].mean()),
        "energy": float(energy),
        "cells": float(missing.sum()),
        "fit": filled.fit,
        "fill": filled.fill,
        "seconds": filled.fit + filled.fill,
    }
    if filled.low is not None and filled.high is not None:
        slack = 1e-9 * np.abs(task.test)
        inside = (task.test >= filled.low - slack) & (task.test <= filled.high + slack)
        result["held"] = float(inside[missing].mean())
    return result


# --- the run: what was measured is kept, so that it goes on where it was stopped --------------------------------------------


def measured(tables: list[str], splits: int, steps: int | None, folder: Path | None, keep: Path) -> Iterator[dict[str, Any]]:
    """Yield a result for each table, split, kind of missing cells and method."""
    kept = json.loads(keep.read_text()) if keep.exists() else []
    yield from kept
    there = {(one["table"], one["split"], one["missing"], one["method"]) for one in kept}
    for split in range(splits):
        for name in tables:
            for missing in MISSING:
                task = task_of(name, split, missing)
                there_are = {} if folder is None else peers(folder, file_of(task, missing))
                methods: dict[str, Callable[[Task], Filled]] = {"ours": lambda task: ours(task, steps)} | SKLEARN
                methods |= {key: lambda _, own=one: own for key, one in there_are.items()}
                for method, run in methods.items():
                    if (name, split, missing, method) in there:
                        continue
                    filled = run(task)
                    where = {"table": name, "split": split, "missing": missing, "method": method}
                    kept.append(where | scored(task, filled))
                    keep.write_text(json.dumps(kept, indent=1))
                    shown = ", ".join(f"{key} {kept[-1].get(key, np.nan):.3f}" for key in COLUMNS)
                    print(f"{name} {split} {missing} {method}: {shown} {filled.said}", flush=True)
                    yield kept[-1]


def file_of(task: Task, missing: str) -> str:
    return f"{task.name}-out-{task.seed}-{'mcar' if missing == MISSING[0] else 'mar'}"


def write_tasks(tables: list[str], splits: int, folder: Path) -> None:
    """Write what baselines/imputers.py reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in tables:
        for task, missing in ((task_of(name, split, missing), missing) for split in range(splits) for missing in MISSING):
            np.savez_compressed(
                folder / f"{file_of(task, missing)}.npz", learn=task.train, fill=task.holes, categories=task.categories,
                integers=[], draws=DRAWS, seed=task.seed,
            )  # fmt: skip


def lines_of(found: list[dict[str, Any]], missing: str) -> list[str]:
    """Return the means over splits as a table of Markdown."""
    lines = [f"| table | method | splits | cells | {' | '.join(COLUMNS)} | fill |", "|---" * (len(COLUMNS) + 5) + "|"]
    own = [one for one in found if one["missing"] == missing]
    for name in dict.fromkeys(one["table"] for one in own):
        for method in dict.fromkeys(one["method"] for one in own if one["table"] == name):
            rows = [one for one in own if (one["table"], one["method"]) == (name, method)]
            means = [np.mean([row.get(key, np.nan) for row in rows]) for key in (*COLUMNS, "fill")]
            shares = {"rmse": 3, "crps": 4, "energy": 4, "held": 3, "seconds": 1, "fill": 2}
            cells = ["" if np.isnan(m) else f"{m:.{digits}f}" for m, digits in zip(means, shares.values(), strict=True)]
            lines.append(f"| {name} | {method} | {len(rows)} | {sum(row['cells'] for row in rows):.0f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="iris,wine,breast_cancer,diabetes")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="of training; default: what `scorefield train` takes")
    parser.add_argument("--tasks", type=Path, help="write the tasks of baselines/imputers.py into a folder, and end")
    parser.add_argument("--peers", type=Path, help="a folder with what baselines/imputers.py has made of them")
    parser.add_argument("--keep", type=Path, help="results that are kept between calls; default: the report's .json")
    parser.add_argument("--out", type=Path, default=RESULTS / "tables.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    tables = options.tables.split(",")
    if options.tasks is not None:
        write_tasks(tables, options.splits, options.tasks)
        return
    keep = options.keep if options.keep is not None else options.out.with_suffix(".json")
    found = list(measured(tables, options.splits, options.steps, options.peers, keep))
    when = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, one core, seeds 0 to {options.splits - 1}, steps of training: "
    lines = ["# Tables filled out of sample", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    lines += [when + ("the default" if options.steps is None else str(options.steps)), ""]
    for missing in MISSING:
        lines += [f"## Missing {missing}", "", *lines_of(found, missing), ""]
    options.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
