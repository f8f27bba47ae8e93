"""Time to quality: MNIST, 28 x 28, two cores, eight minutes of training; how good are the samples?

    OMP_NUM_THREADS=2 .venv/bin/python benchmarks/time_to_quality.py --data ../shared/data
    OMP_NUM_THREADS=2 .venv/bin/python benchmarks/time_to_quality.py --data ../shared/data --only default without-labels

Each baseline gets exactly the same seconds of training on the training images, then draws 2,000 samples, which one judge
compares with the 10,000 test images: Frechet distance, precision, recall, density and coverage on the features of a classifier
that is trained here, on the training images, with a fixed seed. Ours are trained by the commands that a user types, on a file
that holds the training images; nothing else is set. A peer is trained where its package is installed, as its own documentation
shows, and left out where not. The first row is real test images against the others: the floor.

    default           scorefield train mnist.npz --time 8m; scorefield sample RUN -n 2000 (labels are in the file, and are used)
    without-labels    the same on a file without them
    diffusers         UNet2DModel of 1.1 M parameters, DDPM's noise prediction with AdamW, EMA, 50 steps of DDIM (no labels)
    diffusers-labels  the same, told the class

Results go to `benchmarks/results/time-to-quality.json` (merged by name) and `.md`. Ten minutes a baseline; nothing else should
run meanwhile.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import scorefield
from scorefield.metrics.frechet import Frechet
from scorefield.metrics.judge import Judge, train_judge
from scorefield.metrics.prdc import Coverage, PRDensity, Precision, Recall

RESULTS = Path(__file__).parent / "results"
JUDGE_STEPS = 1500
SAMPLES = 2000


def model_space(images: Any) -> Tensor:
    """Return 8-bit images `(n, 28, 28)` as `(n, 1, 28, 28)` in [-1, 1]."""
    return torch.from_numpy(np.asarray(images)[:, None].astype(np.float32) / 127.5 - 1)


def judge_of(images: Any, labels: Any, place: Path) -> Judge:
    """Return the judge, trained once and kept."""
    judge = Judge(1, 10)
    if place.exists():
        judge.load_state_dict(torch.load(place, weights_only=True))
        return judge.eval()
    print(f"training the judge for {JUDGE_STEPS} steps, a few minutes", flush=True)
    judge = train_judge(model_space(images), torch.from_numpy(labels.astype(np.int64)), steps=JUDGE_STEPS)
    torch.save(judge.state_dict(), place)
    return judge


def measure(judge: Judge, samples: Tensor, real: Tensor) -> dict[str, Any]:
    """Compare samples with real images on the judge's features; the balls of precision and the rest around as many of each."""
    drawn, features = judge.features(samples), judge.features(real)
    distance = Frechet()(drawn, features)
    some = features[: len(drawn)]
    kinds = {"precision": Precision(), "recall": Recall(), "density": PRDensity(), "coverage": Coverage()}
    rates = {name: metric(drawn, some).value for name, metric in kinds.items()}
    shares = judge.classify(samples).bincount(minlength=10).double() / len(samples)
    return {"fd": distance.value, "fd_error": distance.standard_error, **rates, "rarest_class": float(shares.min())}


def ours(images: Any, labels: Any, seconds: float, seed: int, place: Path) -> tuple[Tensor, dict[str, Any]]:
    """Train and sample as a user does, by the command."""
    known = {} if labels is None else {"labels": labels}
    np.savez(place / "mnist.npz", images=images, **known)
    command = [sys.executable, "-m", "scorefield"]
    run, out = place / "run", place / "samples.npz"
    subprocess.run(
        [*command, "train", str(place / "mnist.npz"), "--time", f"{seconds:g}s", "--out", str(run), "--seed", str(seed)],
        check=True,
    )
    start = time.perf_counter()
    subprocess.run([*command, "sample", str(run), "-n", str(SAMPLES), "--out", str(out), "--seed", str(seed)], check=True)
    took = time.perf_counter() - start
    manifest, config = (json.loads((run / name).read_text()) for name in ("manifest.json", "config.json"))
    progress = manifest["progress"]
    facts = {"parameters": manifest["parameters"], "images": progress["images"], "training_seconds": progress["seconds"]}
    return model_space(np.load(out)["images"]), {**facts, "sampling_seconds": took, "sampler": config["sampler"]["name"]}


def diffusers(images: Any, labels: Any, seconds: float, seed: int, place: Path) -> tuple[Tensor, dict[str, Any]]:
    """The loop of its own tutorial: UNet2DModel, DDPMScheduler, AdamW 1e-3 with a cosine to 0 over the time, EMA; DDIM 50."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    blocks = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D")
    network = UNet2DModel(
        **{"sample_size": 28, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 8},
        block_out_channels=(32, 64, 64),
        down_block_types=blocks,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(blocks)),
        num_class_embeds=None if labels is None else 10,
    )
    scheduler, average = (
        DDPMScheduler(num_train_timesteps=1000),
        EMAModel(network.parameters(), decay=0.999, use_ema_warmup=True),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    x, y = model_space(images), None if labels is None else torch.from_numpy(labels.astype(np.int64))
    seen, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        rows = torch.randint(len(x), (128,))
        noise, t = torch.randn(128, 1, 28, 28), torch.randint(1000, (128,))
        told = None if y is None else y[rows]
        with torch.autocast("cpu", torch.bfloat16):
            guess = network(scheduler.add_noise(x[rows], noise, t), t, class_labels=told).sample
        loss = F.mse_loss(guess.float(), noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (seen + 128) / 64_000) * 0.5 * (1 + float(np.cos(np.pi * spent / seconds)))
        optimiser.step()
        average.step(network.parameters())
        seen += 128
    spent = time.perf_counter() - start
    average.copy_to(network.parameters())
    network.eval()
    few = DDIMScheduler(num_train_timesteps=1000)
    few.set_timesteps(50)
    drawn, start = [], time.perf_counter()
    with torch.no_grad():
        for _ in range(SAMPLES // 250):
            state = torch.randn(250, 1, 28, 28)
            told = None if y is None else y[torch.randint(len(y), (250,))]
            for t in few.timesteps:
                guess = network(state, t, class_labels=told).sample
                state = few.step(guess, t, state).prev_sample
            drawn.append(state.clamp(-1, 1))
    facts = {"parameters": sum(p.numel() for p in network.parameters()), "images": seen, "training_seconds": spent}
    return torch.cat(drawn), {**facts, "sampling_seconds": time.perf_counter() - start, "sampler": "ddim, 50"}


BASELINES: dict[str, tuple[Callable[..., tuple[Tensor, dict[str, Any]]], bool]] = {
    "default": (ours, True),
    "without-labels": (ours, False),
    "diffusers": (diffusers, False),
    "diffusers-labels": (diffusers, True),
}


def table(rows: dict[str, dict[str, Any]], facts: str) -> str:
    """Return the results as Markdown."""
    lines = ["# Time to quality on MNIST", "", facts, ""]
    lines.append(
        "| | seconds of training | images seen | parameters | FD | precision | recall | density | coverage | rarest class | "
        f"s to draw {SAMPLES:,} |"
    )
    lines.append("|---" * 11 + "|")
    for name, row in rows.items():
        run = [f"{row.get(key):,.0f}" if row.get(key) else "" for key in ("training_seconds", "images", "parameters")]
        rates = [f"{row[key]:.2f}" for key in ("precision", "recall", "density", "coverage")]
        drawn = f"{row['sampling_seconds']:.0f}" if "sampling_seconds" in row else ""
        lines.append(
            f"| {name} | {' | '.join(run)} | {row['fd']:.2f} ± {row['fd_error']:.1g} | {' | '.join(rates)} | "
            f"{100 * row['rarest_class']:.1f} % | {drawn} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mnist_train.npz and mnist_test.npz")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument(
        "--judge", type=Path, default=Path(tempfile.gettempdir()) / "scorefield-mnist-judge.pt", help="kept here"
    )
    parser.add_argument("--pictures", type=Path, default=None, help="folder for a grid of each baseline's samples")
    arguments = parser.parse_args()
    train, test = (np.load(arguments.data / f"mnist_{part}.npz") for part in ("train", "test"))
    judge = judge_of(train["images"], train["labels"], arguments.judge)
    shuffled = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))  # the file is sorted by class
    real = model_space(test["images"])[shuffled]
    kept = RESULTS / "time-to-quality.json"
    rows = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    rows = {"real test images": measure(judge, real[:SAMPLES], real[SAMPLES:])} | rows
    for name in arguments.only:
        baseline, told = BASELINES[name]
        with tempfile.TemporaryDirectory() as place:
            try:
                labels = train["labels"] if told else None
                samples, facts = baseline(train["images"], labels, arguments.seconds, arguments.seed, Path(place))
            except ImportError as error:
                print(f"{name}: left out ({error})", flush=True)
                continue
        rows[name] = {**facts, **measure(judge, samples, real), "seed": arguments.seed}
        print(name, json.dumps(rows[name]), flush=True)
        if arguments.pictures:
            from scorefield import pictures

            arguments.pictures.mkdir(exist_ok=True)
            (arguments.pictures / f"{name}.png").write_bytes(pictures.png(pictures.grid((samples[:100].double() + 1) / 2, 10)))
        about = (
            f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, scorefield "
            f"{scorefield.__version__}, judge {judge.name}, {SAMPLES:,} samples against 10,000 test images, seed "
            f"{arguments.seed}. "
            "`OMP_NUM_THREADS=2 python benchmarks/time_to_quality.py --data ../shared/data`"
        )
        kept.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
        (RESULTS / "time-to-quality.md").write_text(table(rows, about))


if __name__ == "__main__":
    main()
