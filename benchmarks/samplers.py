"""Every sampler on the two bench mixtures: sliced Wasserstein-2 over the floor at 10, 20, 50, 100 and 1,000 evaluations.

    python benchmarks/samplers.py            20,000 samples a set; about 40 minutes on 2 cores

Writes benchmarks/results/samplers.md and .json after every row, so that a stopped run keeps what it measured. Seeds are fixed:
the samples of set i use stream ("bench", i), the exact sets streams ("exact", ...), see `scorefield.verification.bench`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import torch

from scorefield import registry
from scorefield.verification.bench import BUDGETS
from scorefield.verification.checks import bench_rows, benches, verdict

RESULTS = Path(__file__).parent / "results"


Row = dict[str, Any]


def table(rows: list[Row], title: str) -> list[str]:
    """Return a Markdown table of one mixture: ratio ± standard error, and the largest weight error in brackets."""
    lines = [f"## {title}", "", "| sampler | " + " | ".join(f"{b:,}" for b in BUDGETS) + " |", "|---" * 6 + "|"]
    cells = {(row["sampler"], row["budget"]): row for row in rows}
    for name in dict.fromkeys(row["sampler"] for row in rows):
        line = []
        for budget in BUDGETS:
            row = cells.get((name, budget))
            mark = {True: " ✓", False: " **FAIL**", None: ""}[row["passed"]] if row else ""
            line.append(f"{row['ratio']:.2f} ± {row['error']:.2f} [{row['weights']:.1f}]{mark}" if row else "")
        lines.append(f"| {name} | " + " | ".join(line) + " |")
    best = []
    for budget in BUDGETS:
        scored = sorted((row["ratio"], row["sampler"]) for row in rows if row["budget"] == budget)
        named = [f"{name} {ratio:.2f}" for ratio, name in scored if name != "adaptive"]
        best.append(f"{budget:,}: " + ", ".join(named[:4]))
    return [*lines, "", "Best at " + "; ".join(best) + ".", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=[], help="samplers to measure again; all others keep their rows")
    parser.add_argument("--mixture", choices=["ring", "spread"], help="which mixture; both by default")
    parser.add_argument("--out", type=Path, default=RESULTS / "samplers.md")
    options = parser.parse_args()
    store = options.out.with_suffix(".json")
    rows: list[Row] = json.loads(store.read_text(encoding="utf-8")) if store.exists() else []
    head = [
        "# Samplers on the bench",
        "",
        f"{datetime.date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}.",
        f"`python benchmarks/samplers.py`, {options.samples:,} samples a set; the sets of every row are in samplers.json",
        "",
        "Exact scores, VE(0.01, 80), each sampler with its own default ladder, the final denoising counted. Cells: sliced",
        "Wasserstein-2 to exact samples over the floor (two exact sets, mean of 24 pairs) ± its standard error, mean of",
        "the sets (at 1,000 evaluations at most two), and in brackets the largest error of a mode's weight in",
        "standard errors. `adaptive` takes what its tolerance needs. ✓ and FAIL: the promises of `scorefield verify`.",
        "",
    ]
    for bench in benches(options.samples, options.sets):
        if options.mixture and options.mixture not in bench.name:
            continue
        samplers = {name: kind for name, kind in registry.every("sampler").items() if name in options.only or not options.only}
        for name, sampler, budget, score in bench_rows(bench, BUDGETS, lambda _, text: print(text, flush=True), samplers):
            row: Row = {"mixture": bench.name, "sampler": name, "budget": budget, **dataclasses.asdict(score)}
            row |= {"passed": verdict(name, sampler, budget, score), "floor": bench.floor, "sets": options.sets}
            key = ("mixture", "sampler", "budget")
            rows = [old for old in rows if any(old[part] != row[part] for part in key)] + [row]
            body = list(head)
            for title in dict.fromkeys(row["mixture"] for row in rows):
                mine = sorted((row for row in rows if row["mixture"] == title), key=lambda row: row["sampler"])
                body += table(mine, f"{title}, floor {mine[0]['floor']:.4f}")
            options.out.write_text("\n".join(body), encoding="utf-8")
            store.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
