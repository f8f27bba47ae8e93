"""Speed of two trees: training, sampling, importing and asking for help, in turns, as a table of ratios.

    python benchmarks/speed_ab.py ../before . --pairs 9

Each measurement is a process of its own, with one thread, on the CPU; A and B follow each other, and which of the two begins
changes from pair to pair, because a shared machine's clock drifts. A ratio is of two neighbours, B/A; the table has the median
of the ratios and their quartiles. What takes a fraction of a second is measured in ten times as many pairs. CPU is user and
system seconds of the process, which a busy machine disturbs less than its wall time; "loop" is the seconds of training that the
run itself logs, without reading data and what is measured at the end. Each tree draws from runs that it has trained. What a
tree does by itself is in `speed.py` (choices) and `overhead.py` (samplers). Nine pairs take about half an hour on two cores;
`--only TEXT` keeps the rows with TEXT in their names.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from same_bytes import environment

COMMAND = ("-m", "scorefield")
TRAIN = ("train", "--seed", "0", "--steps", "100", "--out", "made")


@dataclass(frozen=True)
class Work:
    """Something to time: the arguments of Python, and whether it leaves a run with a log in `made`, and whether it is short."""

    name: str
    arguments: tuple[str, ...]
    trains: bool = False
    short: bool = False


WORKS = (
    Work("train digits, 100 steps", (*COMMAND, *TRAIN, "digits"), trains=True),
    Work("train two-moons, 100 steps", (*COMMAND, *TRAIN, "two-moons"), trains=True),
    Work("sample 64 digits", (*COMMAND, "sample", "of-digits", "-n", "64", "--out", "made.npz", "--force")),
    Work("sample 2,000 two-moons", (*COMMAND, "sample", "of-two-moons", "-n", "2000", "--out", "made.npz", "--force")),
    Work("import scorefield", ("-c", "import scorefield"), short=True),
    Work("scorefield --help", (*COMMAND, "--help"), short=True),
)


def run(arguments: tuple[str, ...], tree: Path, folder: Path) -> tuple[float, float]:
    """Run Python with a tree's code and return the CPU seconds and wall seconds that it took."""
    start = time.perf_counter()
    with (folder / "said").open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment(tree), stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(child.pid, 0)
    wall, child.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
    if child.returncode:
        text = (folder / "said").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"got exit code {child.returncode} from {' '.join(arguments)} of {tree}, expected 0:\n{text[-2000:]}")
    return used.ru_utime + used.ru_stime, wall


def measured(work: Work, tree: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of a work by what was measured."""
    shutil.rmtree(folder / "made", ignore_errors=True)
    cpu, wall = run(work.arguments, tree, folder)
    found = {"CPU": cpu, "wall": wall}
    if work.trains:
        lines = (folder / "made" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        found["loop"] = max(float(json.loads(line)["seconds"]) for line in lines)
    return found


def prepare(tree: Path, folder: Path, works: list[Work]) -> None:
    """Train what the tree draws from, and load its code once, so that it lies compiled on the disk."""
    folder.mkdir()
    run((*COMMAND, "--help"), tree, folder)
    for source in ("digits", "two-moons"):
        if any(f"of-{source}" in work.arguments for work in works):
            run((*COMMAND, "train", source, "--steps", "20", "--seed", "0", "--out", f"of-{source}"), tree, folder)


def rows(work: Work, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    """Return the rows of a work: medians of A and B, and of the ratios with their quartiles."""
    lines = []
    for what in pairs[0][0]:
        a, b = [one[what] for one, _ in pairs], [other[what] for _, other in pairs]
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        lines.append(
            f"| {work.name} | {what} | {median(a):.3f} | {median(b):.3f} | {median(ratios):.3f} | {low:.3f} to {high:.3f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, help="a tree, the one before")
    parser.add_argument("b", type=Path, help="a tree, the one after")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows with this in their names")
    parser.add_argument("--out", type=Path, help="where the table goes, too")
    asked = parser.parse_args()
    works = [work for work in WORKS if asked.only in work.name]
    if asked.pairs < 1 or not works:
        parser.error(f"got --pairs {asked.pairs} and --only {asked.only!r}, expected a pair and a row at least")
    lines = [
        f"# Speed of two trees: {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, one thread",
        "",
        f"`python benchmarks/speed_ab.py`: {asked.pairs} interleaved pairs; medians, and of the ratios the quartiles.",
        "",
        "| what | seconds of | A | B | B/A | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        sides = [(tree, Path(temporary) / name) for name, tree in (("a", asked.a), ("b", asked.b))]
        for tree, folder in sides:
            prepare(tree, folder, works)
        for work in works:
            pairs = []
            for index in range(asked.pairs * (10 if work.short else 1)):
                turns = sides if index % 2 == 0 else sides[::-1]
                found = {folder.name: measured(work, tree, folder) for tree, folder in turns}
                pairs.append((found["a"], found["b"]))
            lines += rows(work, pairs)
            print("\n".join(rows(work, pairs)), flush=True)
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
