"""Reading: what two trees take to open 10,000 images and to walk through one epoch of batches, without a network.

    python benchmarks/reading.py ../before . --pairs 5

It writes 10,000 smooth colour images of 64x64 with some noise, as PNG and as JPEG, into a temporary folder. Each measurement is
a process of its own, A and B in turns, and which begins changes from pair to pair. B is measured three times: its first
opening, with an empty cache, which is written besides; its second, from the cache; and the first with the cache switched off.
"epoch" asks for all training rows, 64 at a time, in model space. CPU is user and system time of the process and its workers,
which a busy machine disturbs less than the time on the wall; a ratio A/B is of two neighbours, and the table has medians.

hashing, a list of paths made twice and threads that wait for each other are the rest. One opening in two processes leaves about
(0.2 + 0.07)/2 ms: 3x; a cache leaves the sum over the bytes and a copy: 8x. Writes `benchmarks/results/reading.md`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from same_bytes import environment

PROGRAM = """
import json, resource, sys, time, torch
from scorefield.data import DataConfig, open_source
def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
times = [(time.perf_counter(), cpu())]
data = open_source(sys.argv[1], DataConfig())
times.append((time.perf_counter(), cpu()))
for first in range(0, len(data.train), 64):
    data.x0(torch.arange(first, min(first + 64, len(data.train))))
times.append((time.perf_counter(), cpu()))
print(json.dumps({"print": data.coordinates_print, "times": times}))
"""


def make(folder: Path, count: int) -> None:
    """Write the images."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for number in range(count):
        places, widths = rng.uniform(0, 64, (3, 2)), rng.uniform(4, 20, 3)
        planes = [255 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * w * w)) for (a, b), w in zip(places, widths, strict=True)]
        image = Image.fromarray((np.stack(planes, -1) + rng.normal(0, 6, (64, 64, 3))).clip(0, 255).astype(np.uint8))
        for ending in ("png", "jpg"):
            (folder / ending).mkdir(exist_ok=True)
            image.save(folder / ending / f"{number:05}.{ending}")


def measured(tree: Path, source: Path, cache: str) -> tuple[str, list[float]]:
    """Return the fingerprint, and seconds on the wall and of CPU: of opening, and of an epoch."""
    variables = environment(tree) | {"SCOREFIELD_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source)], capture_output=True, text=True, env=variables, check=True
    )
    found = json.loads(done.stdout)
    (a, b), (c, d), (e, f) = found["times"]
    return found["print"], [c - a, d - b, e - c, f - d]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    rows = list[str]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, options.count)
        time.sleep(3)  # what was written just now is not remembered
        for ending in ("png", "jpg"):
            cases: dict[str, list[list[float]]] = {"A": [], "B first": [], "B second": [], "B without a cache": []}
            prints = set[str]()
            for pair in range(options.pairs):
                cache = str(folder / f"cache-{ending}-{pair}")
                order = ["A", "B first", "B second", "B without a cache"]
                for case in order if pair % 2 == 0 else ["B first", "B second", "A", "B without a cache"]:
                    tree = options.a if case == "A" else options.b
                    stamp, times = measured(tree, folder / ending, "off" if case.endswith("a cache") else cache)
                    prints.add(stamp)
                    cases[case].append(times)
            assert len(prints) == 1, "both trees read the same bytes"
            for case, found in cases.items():
                wall = [one[0] + one[2] for one in found]
                cpu = [one[1] + one[3] for one in found]
                faster = [(a[0] + a[2]) / total for a, total in zip(cases["A"], wall, strict=True)]
                leaner = [(a[1] + a[3]) / total for a, total in zip(cases["A"], cpu, strict=True)]
                parts = [f"{median(one[i] for one in found):.2f}" for i in (0, 2)]
                rows.append(
                    f"| {ending} | {case} | {parts[0]} | {parts[1]} | {median(wall):.2f} | {median(cpu):.2f} "
                    f"| {median(faster):.1f} | {median(leaner):.1f} |"
                )
                print(rows[-1], flush=True)
    about = f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    head = "| images | tree | opening, s | epoch, s | both, s | both, CPU s | A/B | A/B of CPU |\n" + "|---" * 8 + "|"
    text = (
        f"# Reading {options.count:,} images of 64x64: {about}\n\n"
        f"`python benchmarks/reading.py`, medians of {options.pairs} pairs in turns.\n\n{head}\n"
    )
    (Path(__file__).parent / "results" / "reading.md").write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
