"""Coverage of errors: in how many repeats does value ± 1.96 standard errors hold the mean of all repeats? It should be 95 %.

    OMP_NUM_THREADS=1 python benchmarks/coverage_of_errors.py

A reference is drawn and fixed; then the samples are drawn again and again. Beside the coverage stands the claimed error, root
mean square over the repeats, over the spread of the values, which should be 1; above 1 the error is an upper bound. With
2 x 80 repeats coverage is known to 1.7 % and the ratio to 6 % (with 2 x 16 of c2st to 4 % and 13 %). All is averaged over two
references, as how well the reference happens to fit decides how much a distance near 0 moves. The table is kept in
`benchmarks/results/coverage_of_errors.md`.
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from scorefield import SampleRng, registry
from scorefield.metrics.base import Estimate
from scorefield.randomness import stream_of

RESULTS = Path(__file__).parent / "results" / "coverage_of_errors.md"
CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "the same distribution": lambda z: z,
    "moved by 0.4 a coordinate": lambda z: z + 0.4,
    "1.4 times as wide": lambda z: 1.4 * z,
    "half of it alone": lambda z: torch.cat([z[:, :1].abs(), z[:, 1:]], dim=1),
}


def draw(n: int, d: int, *names: object) -> Tensor:
    return SampleRng(range(n), stream=stream_of(*names)).normal((d,))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=80, help="for each of the references")
    parser.add_argument("--references", type=int, default=2)
    parser.add_argument("--slow", type=int, default=16, help="repeats of the classifier, which takes a hundred times as long")
    options = parser.parse_args()
    n, m, d, started = 500, 500, 5, time.process_time()
    metrics = {name: kind() for name, kind in registry.every("metric").items()}
    cells: dict[str, list[str]] = {name: [] for name in metrics}
    for case, spoil in CASES.items():
        coverage: dict[str, list[float]] = {name: [] for name in metrics}
        ratio: dict[str, list[float]] = {name: [] for name in metrics}
        for index in range(options.references):
            reference = draw(m, d, "reference", index)
            found: dict[str, list[Estimate]] = {name: [] for name in metrics}
            for i in range(options.repeats):
                samples = spoil(draw(n, d, "samples", index, i))
                for name, metric in metrics.items():
                    if name != "c2st" or i < options.slow:
                        found[name].append(metric(samples, reference))
            for name, each in found.items():
                mean, spread = fmean(e.value for e in each), stdev(e.value for e in each)
                coverage[name].append(fmean(abs(e.value - mean) < 1.96 * e.standard_error for e in each))
                ratio[name].append(fmean(e.standard_error**2 for e in each) / max(spread**2, 1e-12))
        for name in metrics:
            cells[name].append(f"{fmean(coverage[name]):.1%} ({math.sqrt(fmean(ratio[name])):.2f})")
        print(case, {name: each[-1] for name, each in cells.items()}, file=sys.stderr, flush=True)
    lines = ["| metric | " + " | ".join(CASES) + " |", "|---" * (len(CASES) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(each) + " |" for name, each in cells.items()]
    text = [
        "# Coverage of the metrics' standard errors",
        "",
        f"`python benchmarks/coverage_of_errors.py`, {datetime.date.today()}, {platform.machine()}, torch {torch.__version__}, "
        f"{time.process_time() - started:.0f} s of CPU time.",
        "",
        f"{n} samples in {d} dimensions against {m} fixed real examples of N(0, I); {options.references} references with "
        f"{options.repeats} repeats each ({options.slow} of c2st). Share of repeats whose value ± 1.96 standard errors holds",
        "the mean over the repeats, and in brackets the claimed error over the spread of the values.",
        "",
        *lines,
    ]
    RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
