"""Guidance: how often a judge calls samples the class that was asked for, and what it costs in variety, on a trained run.

    .venv/bin/python benchmarks/guidance.py RUN -n 2000 --strengths 1 1.5 2 3 --interval 0.2 5 --auto 1.5 2

RUN is a run of labelled images, such as eight minutes of MNIST:

    .venv/bin/scorefield train mnist_train.npz --time 8m --out runs/mnist

For every strength g, with and without the interval, and for autoguidance, n samples with the classes of the data are drawn by
the run's own sampler from the same seeds. Three figures: the share that a small classifier, trained on the same images, calls
the class that was asked for; the Frechet distance in its features to as many held-out examples, beside that of real training
examples; and the mean spread of its features within a class, over that of held-out examples (below 1: less variety). Each row
is kept in `--out`.json as soon as it is measured, and rows that are there are not measured again. Sixteen rows of 2,000 samples
of 28 x 28 pixels take about an hour on one core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scorefield
from scorefield.drawing import Drawing
from scorefield.metrics.features import Learned, learn
from scorefield.randomness import subsample
from scorefield.registry import find
from scorefield.runs import Run, open_run
from scorefield.specs import SampleSpec

RESULTS = Path(__file__).parent / "results"


def pixels(run: Run, raw: Tensor) -> Tensor:
    """Return images in the data's own unit as uint8."""
    low, high = run.normaliser.low, run.normaliser.high
    assert low is not None and high is not None
    return ((raw.double() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)


def spread(features: Tensor, labels: Tensor) -> Tensor:
    """Return the variance of the features within each class, `(classes,)`."""
    return torch.stack([features[labels == k].var(dim=0).sum() for k in labels.unique()])


def real(run: Run, n: int) -> tuple[Learned, Tensor, Tensor, dict[str, float]]:
    """Return the judge, features and labels of held-out examples, and the figures of real ones in the place of samples."""
    data = run.data
    assert data.labels is not None and data.held_out_labels is not None
    judge = learn(pixels(run, data.train[:]), data.labels)
    rows, others = subsample(len(data.held_out), n), subsample(len(data.train), n)  # for a file may be sorted by class
    held, known = pixels(run, data.held_out[rows]), data.held_out_labels[rows]
    features, train = judge(held).double(), judge(pixels(run, data.train[others])).double()
    figures = {
        "share": float((judge.classify(held) == known).double().mean()),
        "fd": float(find("metric", "frechet")()(train, features).value),
        "spread": 1.0,
    }
    return judge, features, known, figures


def measured(run: Run, spec: SampleSpec, n: int, judge: Learned, features: Tensor, known: Tensor) -> dict[str, float]:
    """Return the figures of n samples."""
    drawing = Drawing.of(run, spec)
    x = drawing.draw(n, batch=200, view=lambda share, text, _: print(f"\r  {share:4.0%} {text}", end="", file=sys.stderr))
    asked = drawing.labels(range(n))
    assert asked is not None
    images = pixels(run, run.decode(x))
    seen = judge(images).double()
    distance = find("metric", "frechet")()(seen, features)
    right = (judge.classify(images) == asked).double()
    return {
        "share": float(right.mean()),
        "share_error": float(right.std() / n**0.5),
        "fd": float(distance.value),
        "fd_error": float(distance.standard_error),
        "spread": float((spread(seen, asked) / spread(features, known)).mean()),
    }


def specs(arguments: argparse.Namespace) -> dict[str, SampleSpec]:
    """Return what is drawn, by name."""
    found = {}
    for g in arguments.strengths:
        found[f"g = {g:g}"] = SampleSpec(guidance=g, seed=arguments.seed)
        for low, high in (arguments.interval or ()) if g != 1 else ():
            found[f"g = {g:g}, {low:g} to {high:g}"] = SampleSpec(
                guidance=g, guidance_interval=(low, high), seed=arguments.seed
            )
    for g in arguments.auto:
        found[f"autoguidance {g:g}"] = SampleSpec(autoguidance=g, seed=arguments.seed)
    return found


def table(rows: dict[str, dict[str, float]], about: str) -> str:
    """Return the rows as a page."""
    lines = [
        "# Guidance",
        "",
        about,
        "",
        "Share: of the samples, how many a classifier that was trained on the same images calls the class that was asked for.",
        "FD: Frechet distance in its features to held-out examples. Spread: their variance within a class, over that of those.",
        "",
        "| | share | FD | spread |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        errors = [f" ± {row[f'{key}_error']:.2g}" if f"{key}_error" in row else "" for key in ("share", "fd")]
        lines.append(f"| {name} | {row['share']:.3f}{errors[0]} | {row['fd']:.3g}{errors[1]} | {row['spread']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--strengths", type=float, nargs="*", default=[1.0, 1.5, 2.0, 3.0])
    parser.add_argument("--interval", type=float, nargs=2, action="append", help="in sigma/alpha; may be repeated")
    parser.add_argument("--auto", type=float, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "guidance")
    arguments = parser.parse_args()
    run = open_run(arguments.run, arguments.data)
    kept = arguments.out.with_suffix(".json")
    made = {"model": run.made_from["model_sha256"], "n": arguments.n, "scorefield": scorefield.__version__}
    stored: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    rows = stored.get("rows", {}) if stored.get("made") == made else {}
    judge, features, known, figures = real(run, arguments.n)
    rows["real examples"] = {**rows.get("real examples", {}), **figures}
    for name, spec in specs(arguments).items():
        if name not in rows or rows[name].get("seed") != arguments.seed:
            rows[name] = measured(run, spec, arguments.n, judge, features, known) | {"seed": arguments.seed}
            print(f"\r{name}: {rows[name]}", flush=True)
        about = (
            f"{datetime.date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
            f"scorefield {scorefield.__version__}.\n"
            f"`python benchmarks/guidance.py {' '.join(sys.argv[1:])}`: {arguments.n:,} samples a row, seed {arguments.seed}, "
            f"by {run.config.sampler} on {run.config.levels} levels, from a run of {run.manifest['data']['name']} with "
            f"{run.manifest['progress']['step']:,} steps of {run.config.training.batch}."
        )
        kept.write_text(json.dumps({"about": about, "made": made, "rows": rows, "specs": asdict(spec)}, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(table(rows, about))
    print(arguments.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
