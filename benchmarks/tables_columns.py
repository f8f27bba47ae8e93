"""Columns of generated tables: heavy tails, spikes and legal values, of runs with and without transforms.

    OMP_NUM_THREADS=1 python benchmarks/tables_columns.py               five seeds, into benchmarks/results/tables-columns.md
    OMP_NUM_THREADS=1 python benchmarks/tables_columns.py --seeds 1 --steps 300

A table of 4,000 rows: age, income (0 for three of ten, else log-normal to the cent), smoker, a day, a log-normal number, one of
Student's law with 3 degrees of freedom, and a share in [0, 1]. Age, income, smoker and the log-normal number depend on each
other. 20,000 rows are drawn from each run. The 99 % quantile is compared with that of the rows that trained it, and with the
law's own. Of the rows it has a standard error of its own, sqrt(0.99·0.01/n)/(q f(q)): what a perfect sampler would be off by.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from scorefield import app
from scorefield.data.table.tables import csv_of

ROWS, DRAWN = 4000, 20_000
RESULTS = Path(__file__).parent / "results"
LAWS = {"income": stats.lognorm(1, scale=math.exp(9)), "size": stats.lognorm(1), "return": stats.t(3)}
FIRST, DAYS = datetime.date(2023, 1, 1), 365


def table_of(seed: int) -> dict[str, list[Any]]:
    """Return the table."""
    r = np.random.default_rng(seed)
    z = r.multivariate_normal([0, 0, 0], [[1, 0.6, 0.3], [0.6, 1, 0], [0.3, 0, 1]], ROWS)
    return {
        "age": np.clip(np.round(45 + 12 * z[:, 0]), 18, 90).astype(int).tolist(),
        "income": np.where(r.random(ROWS) < 0.3, 0, np.exp(9 + z[:, 1])).round(2).tolist(),
        "smoker": np.where(r.random(ROWS) < 1 / (1 + np.exp(z[:, 0])), "yes", "no").tolist(),
        "day": [FIRST + datetime.timedelta(int(day)) for day in r.integers(DAYS, size=ROWS)],
        "size": np.exp(z[:, 2]).tolist(),
        "return": r.standard_t(3, ROWS).tolist(),
        "share": r.beta(0.8, 0.6, ROWS).tolist(),
    }


def is_legal(row: dict[str, str], table: dict[str, list[Any]]) -> bool:
    """Whether a row holds values that its columns can have."""
    income = float(row["income"])
    day = (datetime.date.fromisoformat(row["day"]) - FIRST).days
    return (
        row["age"].isdigit()
        and min(table["age"]) <= int(row["age"]) <= max(table["age"])
        and (income == 0 or (income > 0 and round(income, 2) == income))
        and row["smoker"] in ("yes", "no")
        and 0 <= day < DAYS
        and float(row["size"]) > 0
        and 0 <= float(row["share"]) <= 1
    )


def measured(seed: int, steps: int, transform: bool, folder: Path) -> dict[str, float]:
    """Train, draw and compare."""
    table = table_of(seed)
    (folder / "table.csv").write_bytes(csv_of(table))
    settings = (f"data.transform={str(transform).lower()}", "training.pictures=0")
    app.train(str(folder / "table.csv"), out=folder / f"run-{transform}", steps=steps, seed=seed, settings=settings)
    app.sample(folder / f"run-{transform}", n=DRAWN, batch=4000, seed=seed, out=folder / f"{transform}.csv")
    with open(folder / f"{transform}.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found: dict[str, float] = {"legal": float(np.mean([is_legal(row, table) for row in rows]))}
    drawn = {name: np.array([float(row[name]) for row in rows]) for name in LAWS}
    data = {name: np.array(table[name]) for name in LAWS}
    share = float((data["income"] == 0).mean())
    error = math.sqrt(share * (1 - share) * (1 / ROWS + 1 / DRAWN))
    found["zeros"], found["zeros of the table"] = float((drawn["income"] == 0).mean()), share
    found["zeros, standard errors"] = (found["zeros"] - share) / error
    for name, law in LAWS.items():
        x, y = (one[name][one[name] != 0] for one in (drawn, data))
        q = law.ppf(0.99)
        found[name] = float(np.quantile(x, 0.99) / np.quantile(y, 0.99) - 1)
        found[f"{name}, law"] = float(np.quantile(x, 0.99) / q - 1)
        found[f"{name}, error"] = float(math.sqrt(0.0099 * (1 / len(y) + 1 / len(x))) / (q * law.pdf(q)))
    return found


def main() -> None:
    """Run all seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    asked = parser.parse_args()
    head = (
        "| transforms | seed | income 99 % | log-normal 99 % | Student 3 99 % | zeros (of the table) | zeros, errors | legal |"
    )
    lines, kept = [head, "|" + "---|" * 8], {True: list[bool](), False: list[bool]()}
    for transform in (True, False):
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                one = measured(seed, asked.steps, transform, Path(folder))
            kept[transform] += [abs(one[name]) <= 0.1 for name in LAWS]
            tails = " | ".join(f"{one[name]:+.1%} ({one[name + ', law']:+.1%}; ± {one[name + ', error']:.1%})" for name in LAWS)
            zeros = f"{one['zeros']:.4f} ({one['zeros of the table']:.4f}) | {one['zeros, standard errors']:+.1f}"
            lines.append(f"| {'yes' if transform else 'no'} | {seed} | {tails} | {zeros} | {one['legal']:.2%} |")
            print(lines[-1], flush=True)
    about = (__doc__ or "").split("\n\n")
    text = "\n\n".join(
        [
            "# Columns of generated tables",
            about[2].replace("\n", " ").strip(),
            f"{asked.steps} training steps, {asked.seeds} seeds. A cell says by how much the quantile is off that of the rows "
            "(off that of the law; ± standard error of the quantile of as many rows).",
            "\n".join(lines),
            f"Within 10 % of the rows' own quantile: {sum(kept[True])} of {len(kept[True])} with transforms, "
            f"{sum(kept[False])} of {len(kept[False])} without.",
        ]
    )
    (RESULTS / "tables-columns.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
