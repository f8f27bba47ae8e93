"""A table of 100,000 rows and 20 columns: trained, 1,000 rows filled 20 times, 10,000 rows scored for oddness.

    OMP_NUM_THREADS=2 python benchmarks/tables_large.py            into results/tables-large.md
    OMP_NUM_THREADS=2 python benchmarks/tables_large.py --rows 10000 --seconds 20

The table is made: 4 kinds of rows, each with 12 correlated numbers, 2 whole numbers, 2 of long tails, 1 that is 0 for many, and
3 texts of 3, 5 and 8 values whose shares depend on the kind. Rows are odd where 6 columns are those of another row. Each step
is a command of its own, whose time on the wall and largest memory are taken, and what its bar showed.

Target: 5 minutes in all on 2 cores, 2 GB of memory in any step.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

RESULTS = Path(__file__).parent / "results" / "tables-large.md"
Array = NDArray[np.float64]
NAMES = [f"number {i}" for i in range(12)] + ["count a", "count b", "price", "income", "rain", "colour", "size", "place"]
TEXTS = {17: ("red", "green", "blue"), 18: ("XS", "S", "M", "L", "XL"), 19: tuple(f"town {c}" for c in "abcdefgh")}


def made(rows: int, seed: int = 0) -> Array:
    """Return a table of numbers, texts as numbers of their values."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
    means, mixing = 2.0 * rng.normal(size=(4, 12)), rng.normal(size=(4, 12, 12)) / 3.0
    white = rng.normal(size=(rows, 12))
    numbers = means[kind] + np.einsum("nij,nj->ni", mixing[kind], white)
    counts = rng.poisson(np.exp(np.stack([0.3 * numbers[:, 0] + 1.0, 0.2 * numbers[:, 1] + 2.0], axis=1)).clip(0, 500))
    price, income = np.exp(0.5 * numbers[:, 2] + 0.3 * rng.normal(size=rows)), np.exp(rng.normal(3.0 + 0.3 * kind, 0.8))
    rain = np.where(rng.random(rows) < 0.6 - 0.1 * kind, 0.0, rng.gamma(1.0 + kind, 2.0))
    texts = []
    for values in TEXTS.values():
        shares = rng.dirichlet(np.ones(len(values)), size=4)
        texts.append((rng.random((rows, 1)) > shares[kind].cumsum(axis=1)).sum(axis=1).clip(0, len(values) - 1))
    rounded = np.round(np.c_[numbers, price, income, rain], 4)
    return np.c_[rounded[:, :12], counts, rounded[:, 12:], np.stack(texts, axis=1)]


def save(path: Path, table: Array, missing: NDArray[np.bool_] | None = None) -> None:
    """Write a table of text, cells that are missing empty."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        for i, row in enumerate(table):
            cells = [TEXTS[j][int(v)] if j in TEXTS else f"{v:g}" if j < 17 else "" for j, v in enumerate(row)]
            writer.writerow([
                "" if missing is not None and missing[i, j] else cell for j, cell in enumerate(cells)
            ])  # fmt: skip


def step(words: list[str], log: Path) -> dict[str, Any]:
    """Run a command of scorefield; return its seconds, largest memory in GB, and the percents that its bar showed."""
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "scorefield", *words], stdout=file, stderr=file)
        _, status, used = os.wait4(process.pid, 0)
    said = log.read_text()
    if status:
        raise SystemExit(f"{' '.join(words)}: {said[-2000:]}")
    percents = [int(found) for found in re.findall(r"(\d+)%", said)]
    return {
        "wall": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "gb": used.ru_maxrss / 1e6,
        "bar": percents,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fill", type=int, default=1_000)
    parser.add_argument("--odd", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=120, help="of training")
    parser.add_argument("--keep", type=Path, help="a folder for the tables and the run; default: one that is removed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        whole, rng = made(options.rows + options.fill + options.odd), np.random.default_rng(1)
        train, rest = whole[: options.rows], whole[options.rows :]
        fill, odd = rest[: options.fill], rest[options.fill :].copy()
        missing, is_odd = rng.random(fill.shape) < 0.2, rng.random(len(odd)) < 0.1
        for i in np.flatnonzero(is_odd):
            columns = rng.permutation(odd.shape[1])[:6]
            odd[i, columns] = whole[rng.integers(options.rows), columns]
        save(folder / "train.csv", train), save(folder / "holes.csv", fill, missing), save(folder / "odd.csv", odd)
        run = str(folder / "run")
        steps = {
            f"train, {options.seconds} s": [
                "train",
                str(folder / "train.csv"),
                "--time",
                f"{options.seconds}s",
                "--out",
                run,
            ],
            f"impute {options.fill:,} rows, 20 draws": [
                "impute",
                run,
                str(folder / "holes.csv"),
                "--out",
                str(folder / "f.csv"),
            ],
            f"odd, {options.odd:,} rows": ["odd", run, str(folder / "odd.csv"), "--out", str(folder / "o.csv")],
        }
        lines, walls = list[str](), list[float]()
        for name, words in steps.items():
            result = step([*words, "--force"] if words[0] != "train" else words, folder / f"{words[0]}.log")
            walls.append(result["wall"])
            bar = f"{len(result['bar'])} reports, up to {max(result['bar'], default=0)} %"
            lines.append(f"| {name} | {result['wall']:.1f} | {result['cpu']:.1f} | {result['gb']:.2f} | {bar} |")
            print(lines[-1], flush=True)
        said = quality(folder, fill, missing, is_odd)
    when = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, seed 0"
    head = ["# A large table", "", (__doc__ or "").split("\n\n", 2)[2].strip(), "", when, ""]
    head += ["| step | seconds on the wall | of the processor | largest memory, GB | bar |", "|---" * 5 + "|"]
    options.out.write_text("\n".join([*head, *lines, f"| all | {sum(walls):.1f} | | | |", "", *said, ""]))


def quality(folder: Path, fill: Array, missing: NDArray[np.bool_], is_odd: NDArray[np.bool_]) -> list[str]:
    """Return what was found of the true cells and of the odd rows."""
    with (folder / "f-intervals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    held = list[bool]()
    for row in rows:
        number, name = int(row["row"]), row["column"]
        if row.get("low"):
            j, slack = NAMES.index(name), 1e-6
            held.append(float(row["low"]) - slack <= fill[number, j] <= float(row["high"]) + slack)
    with (folder / "o.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    key = next(key for key in found[0] if "surprise" in key or "oddness" in key)
    scores = [float(row[key]) for row in found]
    area = roc_auc_score(is_odd, scores) if len(scores) == len(is_odd) else float("nan")
    return [
        f"Intervals of 90 % hold {np.mean(held):.1%} of {len(held):,} cells.",
        "",
        f"Odd rows are told apart with an AUROC of {area:.3f}.",
    ]


if __name__ == "__main__":
    main()
