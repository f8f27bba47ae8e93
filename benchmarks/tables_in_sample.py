"""Tables filled in sample, by the published protocol: learn from a table with holes, then fill these holes.

    python benchmarks/tables_in_sample.py --tasks FOLDER     writes what other imputers need, see baselines/imputers.py
    OMP_NUM_THREADS=1 python benchmarks/tables_in_sample.py --peers FOLDER     ours and theirs, into results/tables-in-sample.md

Protocol of Jolicoeur-Martineau, Fatras, Kachman (2024), "Generating and imputing tabular data via diffusion and flow-based
gradient-boosted trees", arXiv 2309.09968. 3 times: 4 of 5 rows, drawn by class; 20 % of the cells missing completely at random,
none in the target, which every imputer sees as a column more. 5 completed tables. All is measured in units of the columns'
range, a class as one-hot coordinates of 1/2:

    min     of each row the smallest over 5 tables of the sum of absolute errors over its holes; their sum per hole    (MinMAE)
    avg     mean absolute error of a hole, over holes and tables                                                      (AvgMAE)
    W       Wasserstein distance of the completed rows to the true ones, with the sum of absolute differences as cost
    spread  mean absolute deviation of the tables from their median, per hole                                       (MedianMAD,
             there the sum over the tables)

and beside these, which the protocol has not: `median` and `W of median`, the mean absolute error and the distance of the
median of the tables, for ours of --draws 1; `held`, the share of holes that the interval of 90 % holds; seconds of one core to
learn and fill.

A single best guess has the smallest `avg`, and nothing of `spread`; draws that are as wide as what is not known have a larger
one: for a Gaussian that is known but for noise, sqrt(2) times.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn import datasets
from sklearn.model_selection import train_test_split

from scorefield import app
from scorefield.specs import TrainSpec

Array = NDArray[np.float64]
DRAWS, MASKS, SHARE = 5, 3, 0.2
RESULTS = Path(__file__).parent / "results" / "tables-in-sample.md"
PUBLISHED = {  # min, avg, W and the sum of the spreads, of the results that the authors have published as a file
    "iris": {"MissForest": (0.0607, 0.0716, 0.0501, 0.0378), "miceforest": (0.0450, 0.0823, 0.0564, 0.1475),
             "Forest-VP": (0.0412, 0.0969, 0.0704, 0.2632)},
    "wine": {"MissForest": (0.0946, 0.1064, 0.2739, 0.0543), "miceforest": (0.0793, 0.1122, 0.2888, 0.1845),
             "Forest-VP": (0.0846, 0.1287, 0.3479, 0.2630)},
    "breast_cancer": {"MissForest": (0.0329, 0.0364, 0.2182, 0.0209), "miceforest": (0.0294, 0.0398, 0.2386, 0.0732),
                      "Forest-VP": (0.0424, 0.0594, 0.3567, 0.1440)},
    "california": {"MissForest": (0.0316, 0.0388, np.nan, 0.0252), "miceforest": (0.0214, 0.0560, np.nan, 0.1630),
                   "Forest-VP": (0.0304, 0.0819, np.nan, 0.2606)},
}  # fmt: skip


def table_of(name: str) -> tuple[Array, Array, list[int], list[int], bool] | None:
    """Return numbers, target, columns that hold classes and whole numbers, and whether the target is a class."""
    if name == "california":
        try:
            data = datasets.fetch_california_housing(download_if_missing=False)
        except OSError:
            return None
        return data.data, data.target, [], [1, 4], False
    data = getattr(datasets, f"load_{name}")()
    size = data.data.shape[1]
    return data.data, data.target.astype(float), [size] if data.target.max() > 1 else [], [], True


def masked(name: str, number: int) -> dict[str, Any] | None:
    """Return the true rows and those with holes of one repetition."""
    loaded = table_of(name)
    if loaded is None:
        return None
    x, y, categories, integers, by_class = loaded
    rows, _, target, _ = train_test_split(x, y, test_size=0.2, random_state=number, stratify=y if by_class else None)
    mask = np.random.default_rng(number).random(rows.shape) < SHARE
    rows, target, mask = (part[~mask.all(axis=1)] for part in (rows, target, mask))
    true, missing = np.c_[rows, target], np.c_[mask, np.zeros(len(mask), dtype=bool)]
    return {
        "true": true, "learn": np.where(missing, np.nan, true), "fill": np.empty((0, true.shape[1])), "categories": categories,
        "integers": integers, "draws": DRAWS, "seed": number,
    }  # fmt: skip


def ours(task: dict[str, Any], steps: int | None) -> tuple[Array, Array, Array, Array, float]:
    """Return the tables, the medians, the ends of the intervals, and the seconds."""
    labels = [f"x{i}" for i in range(task["learn"].shape[1])]
    values = {
        label: [None if np.isnan(v) else f"class {v:g}" if i in task["categories"] else float(v) for v in column]
        for i, (label, column) in enumerate(zip(labels, task["learn"].T, strict=True))
    }
    began, seed = time.process_time(), int(task["seed"])
    training = None if steps is None else TrainSpec(steps=steps, seed=seed)
    report = app.impute(values, draws=DRAWS, seed=seed, training=training)
    seconds = time.process_time() - began
    draws = np.stack([_numbers(report.table(draw), labels) for draw in range(DRAWS)])
    low, high = task["learn"].copy(), task["learn"].copy()
    for (row, label), cell in report.imputed.cells.items():
        ends = (cell.low, cell.high) if cell.low is not None else (cell.value, cell.value)
        low[row, labels.index(label)], high[row, labels.index(label)] = map(_number, ends)
    return draws, _numbers(report.table(), labels), low, high, seconds


def _numbers(table: dict[str, list[Any]], labels: list[str]) -> Array:
    return np.array([[_number(value) for value in table[label]] for label in labels]).T


def _number(value: Any) -> float:
    return float(str(value).removeprefix("class "))


def scored(task: dict[str, Any], draws: Array, median: Array | None = None) -> dict[str, float]:
    """Return what the protocol measures, and the error of the median."""
    holes, true, median = np.isnan(task["learn"]), task["true"], np.median(draws, axis=0) if median is None else median
    low, width = true.min(axis=0), np.ptp(true, axis=0)
    categories, count = task["categories"], holes.sum()

    def scaled(rows: Array) -> Array:
        numbers = np.delete((rows - low) / np.where(width > 0, width, 1.0), categories, axis=1)
        hot = [0.5 * (rows[:, i, None] == np.unique(true[:, i])) for i in categories]
        return np.concatenate([numbers, *hot], axis=1)

    truth, own, middle = scaled(true), np.stack([scaled(one) for one in draws]), scaled(median)
    errors = np.abs(own - truth).sum(axis=2)

    def distance(rows: Array) -> float:
        cost = cdist(truth, rows, "cityblock")
        return float(cost[linear_sum_assignment(cost)].mean()) if len(truth) < 5000 else np.nan

    return {
        "min": float(errors.min(axis=0).sum() / count),
        "avg": float(errors.mean(axis=0).sum() / count),
        "median": float(np.abs(middle - truth).sum() / count),
        "W": float(np.mean([distance(one) for one in own])),
        "W of median": distance(middle),
        "spread": float(np.abs(own - middle).sum() / count / len(draws)),
    }


def lines_of(name: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return rows of a table of Markdown: means over repetitions, then the published ones."""
    keys, lines = ["min", "avg", "median", "W", "W of median", "spread", "held", "seconds"], list[str]()
    for method, rows in found.items():
        means = [np.mean([row.get(key, np.nan) for row in rows]) for key in keys]
        cells = [("" if np.isnan(value) else f"{value:.1f}" if key == "seconds" else f"{value:.4f}")
                 for key, value in zip(keys, means, strict=True)]  # fmt: skip
        lines.append(f"| {name} | {method} | {len(rows)} | {' | '.join(cells)} |")
    for method, (least, avg, w, spread) in PUBLISHED.get(name, {}).items():
        distance = "" if np.isnan(w) else f"{w:.4f}"
        lines.append(
            f"| {name} | {method}, published | 3 | {least:.4f} | {avg:.4f} | | {distance} | | {spread / DRAWS:.4f} | | |"
        )
    return lines


def measured(name: str, masks: int, steps: int | None, peers: Path | None, keep: Path) -> dict[str, list[dict[str, float]]]:
    """Return the results of each imputer, one a mask; those of ours are kept, so that it goes on where it was stopped."""
    kept: dict[str, dict[str, float]] = json.loads(keep.read_text()) if keep.exists() else {}
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(masks):
        task, place = masked(name, number), f"{name}-in-{number}"
        assert task is not None
        if place not in kept:
            draws, median, low, high, seconds = ours(task, steps)
            holes, slack = np.isnan(task["learn"]), 1e-9
            held = float(((task["true"] >= low - slack) & (task["true"] <= high + slack))[holes].mean())
            kept[place] = scored(task, draws, median) | {"held": held, "seconds": seconds}
            keep.write_text(json.dumps(kept, indent=1))
            print(f"{place}: " + ", ".join(f"{key} {value:.4f}" for key, value in kept[place].items()), flush=True)
        found.setdefault("ours", []).append(kept[place])
        for path in sorted(peers.glob(f"*/{place}.npz")) if peers is not None else ():
            of = np.load(path)
            found.setdefault(path.parent.name, []).append(scored(task, of["draws"]) | {"seconds": float(of["seconds"])})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="iris,wine,breast_cancer,california")
    parser.add_argument("--masks", type=int, default=MASKS)
    parser.add_argument("--steps", type=int, default=None, help="of training; default: as `scorefield impute TABLE` has it")
    parser.add_argument("--tasks", type=Path, help="write the tasks of baselines/imputers.py into a folder, and end")
    parser.add_argument("--peers", type=Path, help="a folder with what baselines/imputers.py has made of them")
    parser.add_argument("--keep", type=Path, help="ours, kept between calls; default: the report's .json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    lines = list[str]()
    for name in options.tables.split(","):
        if masked(name, 0) is None:
            lines.append(f"| {name} | not measured: there is no copy of it on this machine | | | | | | | | | |")
            lines += lines_of(name, {})
        elif options.tasks is not None:
            options.tasks.mkdir(parents=True, exist_ok=True)
            for number in range(options.masks):
                np.savez_compressed(options.tasks / f"{name}-in-{number}.npz", **(masked(name, number) or {}))
        else:
            keep = options.keep if options.keep is not None else options.out.with_suffix(".json")
            lines += lines_of(name, measured(name, options.masks, options.steps, options.peers, keep))
    if options.tasks is not None:
        return
    head = ["# Tables filled in sample", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, one core, seeds 0 to {options.masks - 1}"
    columns = "| table | imputer | masks | min | avg | median | W | W of median | spread | held | seconds |"
    options.out.write_text("\n".join([*head, when, "", columns, "|---" * 11 + "|", *lines, ""]))


if __name__ == "__main__":
    main()
