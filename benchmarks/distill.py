"""Distilled runs beside the runs that they are made of: quality, variety and speed in 1 and 2 evaluations.

    python benchmarks/distill.py runs --data ../shared/data --sets digits mnist     by the commands, as a person runs them
    OMP_NUM_THREADS=1 python benchmarks/distill.py toys                             from exact fields

runs    A run without labels (27,904 images of digits, 80,000 of MNIST; clusters and autoguidance as by default) is distilled
        for --time, once for each number of evaluations. A judge (`trilemma.py`) compares 2,000 samples (digits: 1,000) with
        held-out images. Seconds are those of drawing by the wall clock, of the model alone, after a first batch, in turns.
toys    A ring of eight Gaussians in the plane, and six in 32 dimensions. Teacher is the exact field; the generator begins as a
        network that was regressed on it, learns pairs of its flow ("regressed"), and is matched. Sliced Wasserstein distance
        of 4,000 draws to as many exact ones, beside that of other exact draws, and of `abm` with the exact field in 10
        evaluations.

What was measured is kept in `--keep` and results/distill.json, so that a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from trilemma import Bench

from scorefield import EDM, VE, GaussianMixture, SampleRng
from scorefield.devices import CPU, keep_freed
from scorefield.distillation.matching import Matcher, Matching
from scorefield.distillation.pairs import Regression, draw_pairs
from scorefield.drawing import Drawing
from scorefield.field import ScoreModel
from scorefield.generator import SAMPLER, few_levels
from scorefield.levels import LogNormal, ladder_of
from scorefield.metrics.two_sample import SlicedWasserstein
from scorefield.nets.mlp import MLP
from scorefield.runs import open_run
from scorefield.samplers import ABM, sample
from scorefield.specs import SampleSpec

RESULTS = Path(__file__).parent / "results"
TEACHER = {"digits": 436, "mnist": 1250}  # steps of 64 images
SAMPLES = {"digits": 1000, "mnist": 2000}
RATES = ("precision", "recall", "density", "coverage")


def command(*words: str | Path) -> None:
    """Run scorefield as a person does, unless what it makes is there."""
    subprocess.run([sys.executable, "-m", "scorefield", *map(str, words)], check=True, stdout=sys.stderr)


def runs_of(name: str, source: Path | str, keep: Path, seconds: str, seed: int) -> dict[str, Path]:
    """Return a trained run and its distilled ones, made where they are not there."""
    teacher = keep / f"{name}-{seed}"
    if not (teacher / "config.json").exists():
        how = ["training.precision=bfloat16", "training.pictures=0", *(["training.labels=0"] if name == "digits" else [])]
        settings = [word for one in how for word in ("--set", one)]
        command("train", source, "--steps", str(TEACHER[name]), *settings, "--seed", str(seed), "--out", teacher)
    found = {"teacher": teacher}
    for evaluations in (1, 2):
        out = keep / f"{name}-{seed}-distilled-{evaluations}"
        if not out.exists():
            command("distill", teacher, "--time", seconds, "--evaluations", str(evaluations), "--out", out)
        found[f"distilled, {evaluations}"] = out
    return found


def drawn_in(runs: dict[str, Path], rounds: int = 3, batch: int = 250) -> dict[str, float]:
    """Return seconds for 1,000 samples of each run: medians over rounds in turns, of a batch after a first one."""
    drawings = {name: Drawing.of(open_run(path), SampleSpec(), CPU) for name, path in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, drawing in drawings.items():
            began = time.perf_counter()
            drawing.draw(batch, batch=batch)
            seconds[name] += [(time.perf_counter() - began) * 1000 / batch] if round_ else []
    return {name: median(values) for name, values in seconds.items()}


def measured(name: str, data: Path, keep: Path, seconds: str, seed: int) -> list[dict[str, Any]]:
    """Return a row for each run."""
    bench = Bench.open(name, data, keep, SAMPLES[name])
    if name != "digits" and not (keep / "unlabelled.npz").exists():
        np.savez(keep / "unlabelled.npz", images=np.load(data / "mnist_train.npz")["images"])
    runs = runs_of(name, "digits" if name == "digits" else keep / "unlabelled.npz", keep, seconds, seed)
    paces, rows = drawn_in(runs), list[dict[str, Any]]()
    for key, path in runs.items():
        drawing = Drawing.of(open_run(path), SampleSpec(seed=1), CPU)
        x = drawing.draw(SAMPLES[name]).clamp(-1, 1).float()
        made = open_run(path).manifest
        images = made.get("distilled", made["progress"])["images"]
        rows.append({"set": name, "run": key, "seed": seed, "images": images, "s": paces[key], **bench.measure(x)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


# --- exact fields -----------------------------------------------------------------------------------------------------


def toys() -> dict[str, GaussianMixture]:
    """Return the fields."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    around = torch.stack([angle.cos(), angle.sin()], dim=1) * 2
    means = np.random.default_rng(1).normal(size=(6, 32)) * 1.5
    return {
        "ring": GaussianMixture([1 / 8] * 8, around.tolist(), [0.15] * 8, VE(0.005, 40.0)),
        "mixture in 32-D": GaussianMixture([1 / 6] * 6, means.tolist(), [0.5] * 6, VE(0.005, 60.0)),
    }


def regressed(field: GaussianMixture, noise: LogNormal, steps: int = 3000, batch: int = 256) -> ScoreModel:
    """Return a network that has learned an exact field's denoiser."""
    torch.manual_seed(0)
    size, std = field.shape[0], float(field.data_std)
    mean = field.data_mean.float()
    network = ScoreModel(MLP((size,), width=128, depth=4), EDM(data_std=std), field.process, (size,), mean, std)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for i in range(steps):
        rng = SampleRng(range(i * batch, (i + 1) * batch), stream=5)
        t = noise.quantile(field.process, rng.uniform())
        lam = field.process.sigma(t).unsqueeze(1)
        x = field.sample(rng) + lam * rng.normal((size,))
        off = network(x.float(), t).denoised - field(x, t).denoised.float()
        loss = (off.square() * ((lam**2 + std**2) / (lam * std) ** 2).float()).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - i / steps) + 1e-5
        optimiser.step()
    return network


def from_exact(name: str, steps: int = 3000, batch: int = 256, n: int = 4000) -> list[dict[str, Any]]:
    """Return a row for each way to draw."""
    field, distance = toys()[name], SlicedWasserstein()
    noise = LogNormal(math.log(field.data_std) - 0.5, 1.4, spread=0.05)
    real, others = (field.sample(SampleRng(range(n), stream=stream)) for stream in (11, 12))
    ten = sample(field, ABM(), ladder_of(field, ABM.ladder, 10), rng=SampleRng(range(n), stream=3))
    found = {"exact draws": others, "abm of the exact field, 10": ten}
    network = regressed(field, noise)
    found["abm of the network, 10"] = sample(
        network, ABM(), ladder_of(network, ABM.ladder, 10), rng=SampleRng(range(n), stream=3)
    )
    for evaluations in (1, 2, 4):
        matcher = Matcher(field, network, noise, evaluations, Matching(batch))
        pairs = draw_pairs(field, matcher.times, SampleRng(range(10 * steps), stream=8), None)
        regression = Regression(matcher.generator, pairs, matcher.times, matcher.how)
        for i in range(steps):
            regression.take_step(SampleRng(range(i * batch, (i + 1) * batch), stream=9), i / steps)
        matcher.begin_average()
        levels = few_levels(field.process, evaluations, field.data_std)
        found[f"regressed, {evaluations}"] = sample(matcher.average, SAMPLER, levels, rng=SampleRng(range(n), stream=3))
        for i in range(steps):
            matcher.take_step(SampleRng(range(i * batch, (i + 1) * batch), stream=7), i / steps)
        found[f"distilled, {evaluations}"] = sample(matcher.average, SAMPLER, levels, rng=SampleRng(range(n), stream=3))
    rows = []
    for key, x in found.items():
        value = distance(x, real)
        rows.append({"set": name, "run": key, "distance": [round(value.value, 4), round(value.standard_error, 4)]})
        print(json.dumps(rows[-1]), flush=True)
    return rows


# --- the report -------------------------------------------------------------------------------------------------------


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as tables of Markdown."""
    lines = ["| data | run | seed | samples seen | FD | of the teacher's | " + " | ".join(RATES) + " | s per 1,000 |"]
    lines.append("|---" * (7 + len(RATES)) + "|")
    for row in (row for row in rows if "fd" in row):
        teacher = next(one for one in rows if (one["set"], one.get("seed"), one["run"]) == (row["set"], row["seed"], "teacher"))
        rates = " | ".join(f"{row[key][0]:.2f} ± {row[key][1]:.2f}" for key in RATES)
        share = f"{row['fd'][0] / teacher['fd'][0]:.2f}"
        fd = f"{row['fd'][0]:.2f} ± {row['fd'][1]:.2f} | {share}"
        lines.append(f"| {row['set']} | {row['run']} | {row['seed']} | {row['images']:,} | {fd} | {rates} | {row['s']:.2f} |")
    lines += ["", "| exact field | drawn by, evaluations | sliced Wasserstein distance |", "|---|---|---|"]
    for row in (row for row in rows if "distance" in row):
        lines.append(f"| {row['set']} | {row['run']} | {row['distance'][0]:.3f} ± {row['distance'][1]:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("runs", "toys"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=TEACHER, default=list(TEACHER))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--time", default="5m", help="of each distillation")
    parser.add_argument("--keep", type=Path, default=Path("runs/distill"))
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    keep_freed()  # as the commands do
    kept = RESULTS / "distill.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text())["rows"] if kept.exists() else []
    if options.part == "toys":
        fresh = [row for name in toys() for row in from_exact(name)]
    else:
        fresh = [
            row
            for name in options.sets
            for seed in range(options.seeds)
            for row in measured(name, options.data, options.keep, options.time, seed)
        ]
    new = {(row["set"], row["run"], row.get("seed")) for row in fresh}
    rows = [row for row in rows if (row["set"], row["run"], row.get("seed")) not in new] + fresh
    about = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    kept.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    head = ["# Distilled runs", "", (__doc__ or "").strip(), "", about, ""]
    (RESULTS / "distill.md").write_text("\n".join([*head, *lines_of(rows), ""]))


if __name__ == "__main__":
    main()
