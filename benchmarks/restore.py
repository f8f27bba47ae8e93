"""Restoration against closed-form truth: mixtures, signals, nonlinear measurements, Gaussian priors, and real digits.

    OMP_NUM_THREADS=1 python benchmarks/restore.py mixtures                       20 problems, every method, azula's too
    OMP_NUM_THREADS=1 python benchmarks/restore.py mixtures --seeds 100-119       fresh ones
    OMP_NUM_THREADS=1 python benchmarks/restore.py speed                          evaluations to 1.5 times the floor
    OMP_NUM_THREADS=1 python benchmarks/restore.py learned                        the same from a field of 2 minutes of training
    OMP_NUM_THREADS=1 python benchmarks/restore.py signals
    OMP_NUM_THREADS=1 python benchmarks/restore.py nonlinear
    OMP_NUM_THREADS=1 python benchmarks/restore.py gaussians
    OMP_NUM_THREADS=1 python benchmarks/restore.py digits --run runs/mnist --data folder of mnist_train.npz and mnist_test.npz

Every cell is kept in benchmarks/results/restore/PART.jsonl as soon as it is measured, so a stopped run goes on; every run ends
with the report of its part, benchmarks/results/restore-PART.md, made from all cells there are. `--report` only makes that.
`--settings` changes the default method, as in --settings '{"levels": 50}', and names cells of its own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from restoration import digits, foreign, gaussians, learned, mixtures, nonlinear, signals
from restoration.store import Cells, head

RESULTS = Path(__file__).parent / "results"


def numbers(text: str) -> list[int]:
    """Return the numbers of "0-4,100"."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def sizes_of(text: str) -> list[tuple[int, int]]:
    """Return pairs of "8x1,80x4"."""
    return [(int(d), int(dy)) for d, dy in (part.split("x") for part in text.split(","))]


NINE = ",".join(f"{d}x{dy}" for d in (8, 80, 800) for dy in (1, 2, 4))


def run_mixtures(options: argparse.Namespace, cells: Cells) -> list[str]:
    seeds, sizes = numbers(options.seeds or "0-19"), sizes_of(options.sizes or NINE)
    if not options.report:
        settings = json.loads(options.settings)
        mixtures.measure(cells, seeds, options.only, lambda d, dy: (d, dy) in sizes, settings)
    known = sorted({key["seed"] for key, _ in cells.where()})
    lines: list[str] = []
    for group in ([s for s in known if s < 100], [s for s in known if s >= 100]):
        if group:
            lines += [f"## Seeds {group[0]} to {group[-1]} ({len(group)})", "", *mixtures.report(cells, group)]
    return lines


def run_speed(options: argparse.Namespace, cells: Cells) -> list[str]:
    seeds, sizes = numbers(options.seeds or "100-107"), sizes_of(options.sizes or "8x1,80x2,800x4")
    levels = numbers(options.levels) if options.levels else mixtures.SPEED_LEVELS
    if not options.report:
        mixtures.measure_speed(cells, seeds, sizes, levels, options.only)
    return mixtures.report_speed(cells, sorted({key["seed"] for key, _ in cells.where()}))


def run_learned(options: argparse.Namespace, cells: Cells) -> list[str]:
    if not options.report:
        learned.measure(cells, numbers(options.seeds or "0-4"), 120.0, options.work, json.loads(options.settings))
    return learned.report(cells)


def run_signals(options: argparse.Namespace, cells: Cells) -> list[str]:
    if not options.report:
        draws = options.draws or signals.DRAWS
        signals.measure(cells, numbers(options.seeds or "0-99"), draws, json.loads(options.settings))
    return signals.report(cells)


def run_nonlinear(options: argparse.Namespace, cells: Cells) -> list[str]:
    if not options.report:
        nonlinear.measure(cells, options.draws or 10_000, json.loads(options.settings))
    return nonlinear.report(cells)


def run_gaussians(options: argparse.Namespace, cells: Cells) -> list[str]:
    if not options.report:
        settings = {"levels": 20, "particles": 1} | json.loads(options.settings)
        gaussians.measure(cells, options.draws or 10_000, settings)
    return gaussians.report(cells)


def run_digits(options: argparse.Namespace, cells: Cells) -> list[str]:
    if not options.report:
        tasks = options.only or list(digits.TASKS)
        count, settings = options.count, json.loads(options.settings)
        digits.measure(cells, options.run, options.data, options.work / "digits", count, tasks, settings)
    picture = digits.picture(options.work / "digits", options.out / "restore-digits.png")
    shown = ["![digits](restore-digits.png)", "", (digits.picture.__doc__ or "").strip(), ""]
    return [*digits.report(cells), *(shown if picture else [])]


PARTS: dict[str, tuple[Callable[[argparse.Namespace, Cells], list[str]], str]] = {
    "mixtures": (run_mixtures, mixtures.__doc__ or ""),
    "speed": (run_speed, "Evaluations of the field until SW2 stays within 1.5 times the floor, on the problems of `mixtures`."),
    "learned": (run_learned, learned.__doc__ or ""),
    "signals": (run_signals, signals.__doc__ or ""),
    "nonlinear": (run_nonlinear, nonlinear.__doc__ or ""),
    "gaussians": (run_gaussians, gaussians.__doc__ or ""),
    "digits": (run_digits, digits.__doc__ or ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--seeds", help="such as 0-19,100; a seed is a problem")
    parser.add_argument("--sizes", help="such as 8x1,80x4: d x dy")
    parser.add_argument("--levels", help="of speed, such as 20,50,100")
    parser.add_argument("--only", nargs="*", default=[], help="methods to measure; all by default")
    parser.add_argument("--settings", default="{}", help="of the default method, JSON")
    parser.add_argument("--draws", type=int, help="of signals, nonlinear and gaussians")
    parser.add_argument("--run", type=Path, help="digits: a run of MNIST")
    parser.add_argument("--data", type=Path, help="digits: the folder of mnist_train.npz and mnist_test.npz")
    parser.add_argument("--count", type=int, default=100, help="of digits")
    parser.add_argument("--work", type=Path, default=Path("runs/restore"), help="where trained runs and samples are kept")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.part == "digits" and not options.report and not (options.run and options.data):
        parser.error("got no run or no data for digits, expected both: give --run and --data")
    run, about = PARTS[options.part]
    lines = run(options, Cells(options.out / "restore" / f"{options.part}.jsonl"))
    command = f"python benchmarks/restore.py {shlex.join(sys.argv[1:])}"
    version = foreign.installed()
    about = about.strip() + (f"\n\nazula {version}." if version and options.part in {"mixtures", "speed"} else "")
    path = options.out / f"restore-{options.part}.md"
    path.write_text("\n".join([*head(f"Restoration: {options.part}", command, about), *lines]), encoding="utf-8")
    print("\n".join(lines), f"\n{path}", flush=True)


if __name__ == "__main__":
    main()
