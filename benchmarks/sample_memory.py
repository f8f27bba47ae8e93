"""How much memory `scorefield sample` takes: the most that its process holds, for many samples of 32x32x3, by kind of output.

    python benchmarks/sample_memory.py [--samples 20000]

A run with a small network is trained for two steps on random pictures (the size of the network is another matter: it is asked
for 256 samples at a time, whatever their number). Each row is a process of its own, whose largest resident set is read from the
system. Needs Linux, and about 100 MB of disk.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SMALL = ("network.channels=8,16", "network.blocks=1", "training.precision=float32", "training.pictures=0")
OUTS = ("samples.npz", "samples.png", "samples")


def largest(*words: object) -> tuple[float, float]:
    """Run the command; return the most memory that it held, in MB (10^6 bytes), and its seconds."""
    begin = time.perf_counter()
    if (child := os.fork()) == 0:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os.execv(sys.executable, [sys.executable, "-m", "scorefield", *map(str, words)])
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{words} failed")
    return used.ru_maxrss * 1024 / 1e6, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data, run = Path(place, "pictures.npy"), Path(place, "run")
        np.save(data, np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8))
        settings = [word for one in SMALL for word in ("--set", one)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        train = [sys.executable, "-m", "scorefield", "train", data, "--out", run, "--steps", "2", *settings]
        subprocess.run(train, check=True, **quiet)
        print("| samples | output | most memory, MB | seconds |\n|---|---|---|---|", flush=True)
        for n in (256, asked.samples):
            for name in OUTS:
                memory, seconds = largest("sample", run, "-n", n, "--steps", 1, "--out", Path(place, f"{n}-{name}"))
                print(f"| {n:,} | {name} | {memory:.0f} | {seconds:.0f} |", flush=True)
    print(f"\n{resource.getpagesize()}-byte pages, {os.cpu_count()} CPUs, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")


if __name__ == "__main__":
    main()
