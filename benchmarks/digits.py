"""Digits: how good three minutes of training are, over seeds, beside the real-against-real floor.

    .venv/bin/python benchmarks/digits.py --seeds 0 1 2 --time 3m

Each seed trains the default recipe on scikit-learn's digits from scratch, draws 1,000 samples with the run's own sampler and
measures them against the held-out third. One line a seed and the medians go to `benchmarks/results/digits.json` and `.md`.
Takes about five minutes a seed on two cores; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import scorefield
from scorefield import app
from scorefield.durations import seconds_of
from scorefield.metrics.memorisation import MODEL_SPACE

RESULTS = Path(__file__).parent / "results"


def table(result: dict[str, Any], name: str) -> str:
    """Return the results as Markdown, a column for each seed."""
    rows = [*result["rows"], {"seed": "median", **result["median"]}]
    lines = [
        f"# {name}: {result['date']}, {result['machine']}, scorefield {result['scorefield']}",
        "",
        f"`{result['command']}`",
        "",
    ]
    lines += ["|" + "".join(f" {figure(row['seed'])} |" for row in [{"seed": "seed"}, *rows]), "|---" * (len(rows) + 1) + "|"]
    lines += [f"| {key} | " + " | ".join(figure(row[key]) for row in rows) + " |" for key in rows[0] if key != "seed"]
    return "\n".join(lines) + "\n"


def figure(value: Any) -> str:
    """Return a number without the digits that its binary form adds."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time", default="3m")
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="settings, as in scorefield train")
    parser.add_argument("--name", default="digits", help="of the result files")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "digits"
            trained = app.train(
                "digits",
                out=folder,
                seconds=seconds_of(arguments.time),
                recipe=arguments.recipe,
                settings=tuple(arguments.set),
                seed=seed,
            )
            start = time.perf_counter()
            quality = app.evaluate(folder, n=1000)
            report = app.inspect(folder)
        near = quality.memorisation.spaces[MODEL_SPACE]
        figures = {name: round(value.value, 4) for name, value in quality.figures.items()}
        floor = {f"{name} floor": round(value.value, 4) for name, value in quality.floor.items()}
        rows.append(
            {
                "seed": seed,
                "steps": trained.step,
                "training seconds": round(trained.seconds, 1),
                "evaluation seconds": round(time.perf_counter() - start, 1),
                "levels": len(report.sigmas),
                "held-out loss": round(trained.held_out, 4),
                **figures,
                **floor,
                "frechet / floor": round(figures["frechet"] / floor["frechet floor"], 3),
                "frechet, independent real": round(quality.independent["frechet"].value, 4),
                "frechet / independent real": round(figures["frechet"] / quality.independent["frechet"].value, 3),
                "smallest class": round(min(share.value for share in quality.classes.values()), 3),
                "largest class": round(max(share.value for share in quality.classes.values()), 3),
                "nearest training / held-out": round(near.to_training / near.held_out_to_training, 3),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} thr.",
        "scorefield": scorefield.__version__,
        "command": " ".join(["python", "benchmarks/digits.py", *sys.argv[1:]]),
        "rows": rows,
        "median": {key: median(row[key] for row in rows) for key in rows[0] if key != "seed"},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(table(result, arguments.name.capitalize()), encoding="utf-8")


if __name__ == "__main__":
    main()
