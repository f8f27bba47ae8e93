"""A busy machine: commands beside programs that use the cores, by the code as it is and as it was before.

    git worktree add ../before COMMIT
    .venv/bin/python benchmarks/busy.py --before ../before/src --others 0 1 2

For each number of busy programs (`while True: pass`), in turns: `train digits --steps 150`, then `evaluate` of the run, from
command to prompt. The code before counts as the first column. Results: benchmarks/results/busy.md, written by hand from what
is printed. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1] / "src"


def command(source: Path, *words: str) -> float:
    """Return the seconds of a command of the package in a folder of sources."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(source)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "scorefield", *words], env=environment, capture_output=True, text=True, check=True
    )
    said = [line.strip() for line in done.stderr.splitlines() if "threads: other" in line]
    print(f"    {words[0]}: {time.perf_counter() - start:.1f} s {said}", flush=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="folder of sources of the code before")
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 2], help="busy programs beside the command")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only-train", action="store_true")
    asked = parser.parse_args()
    for others in asked.others:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            for name, source in (("before", asked.before), ("now", HERE)):
                with tempfile.TemporaryDirectory() as folder:
                    print(f"{others} busy, {name}", flush=True)
                    command(source, "train", "digits", "--steps", str(asked.steps), "--out", f"{folder}/run")
                    if not asked.only_train:
                        command(source, "evaluate", f"{folder}/run")
        finally:
            for one in busy:
                one.kill()


if __name__ == "__main__":
    main()
