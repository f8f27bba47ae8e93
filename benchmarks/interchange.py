"""Interchange: exported models beside the runs that they were made of.

    scorefield train digits --steps 60 --out RUN
    OMP_NUM_THREADS=1 python benchmarks/interchange.py onnx RUN
    OMP_NUM_THREADS=1 python benchmarks/interchange.py imported ../shared/data

`onnx` draws by the same Euler steps with onnxruntime, from RUN's `model.onnx`, and with torch, from RUN's denoiser in float32
as the file has it, on one thread of a CPU. The two are timed in turns at batch 1 and 64, and medians are shown, with the median
of the ratios of each round.

`imported` trains a UNet2DModel of 1.1 M parameters on MNIST by diffusers' own loop (noise prediction, AdamW, an average of the
weights; IMAGES images), keeps the pipeline in the folder of temporary files, imports it, and draws SAMPLES images by diffusers'
DDIM in 50 steps and by `abm` in 20 evaluations of the import. A judge (`time_to_quality.py`) compares both with the test
images; seconds are of the processor and one thread, in turns: of the loop and the network for diffusers, of the whole command
for the import.

What it printed is kept in `benchmarks/results/interchange.md`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from scorefield import app
from scorefield.interchange.denoiser import Denoiser
from scorefield.runs import open_run

ROUNDS, STEPS, BATCHES = 15, 4, (1, 64)
Model = Callable[[dict[str, np.ndarray]], np.ndarray]


def drawn(model: Model, start: np.ndarray, sigmas: list[float], labels: np.ndarray | None) -> np.ndarray:
    """Take samples down the levels by Euler's method."""
    x = start
    for sigma, below in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        given = {"x": x, "sigma": np.full(len(x), sigma, "float32")} | ({} if labels is None else {"label": labels})
        denoised = model(given)
        x = (denoised + np.float32(below / sigma) * (x - denoised)).astype("float32")
    return x


def onnx(path: str) -> None:
    """Print images a second of both."""
    import onnxruntime

    run, threads = open_run(path), torch.get_num_threads()
    denoiser = Denoiser(run.field, len(run.classes)).eval()

    def with_torch(given: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = denoiser(*(torch.from_numpy(part) for part in given.values())).numpy()
        return result

    with tempfile.TemporaryDirectory() as place:
        report = app.export(path, "onnx", out=Path(place) / "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(report.folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        about = json.loads((report.folder / "model.json").read_text())
    ways: dict[str, Model] = {"torch": with_torch, "onnxruntime": lambda given: session.run(None, given)[0]}
    sigmas = list(np.geomspace(about["sigma"][1], about["sigma"][0], STEPS))
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, opset {about['opset']}"
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}, ")
    print(
        f"{threads} thread; {run.manifest['parameters']:,} parameters, {run.kind} {run.shape}; {STEPS} evaluations a sample, "
    )
    print(f"medians of {ROUNDS} rounds in turns; outputs differ by {report.difference:.1g}\n")
    print("| batch | torch, images/s | onnxruntime, images/s | ratio |\n|---|---|---|---|")
    for batch in BATCHES:
        start = (sigmas[0] * np.random.default_rng(0).standard_normal((batch, *run.shape))).astype("float32")
        labels = np.arange(batch) % len(run.classes) if run.classes else None
        spent = {name: list[float]() for name in ways}
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                for _ in range(max(1, 16 // batch)):
                    drawn(way, start, sigmas, labels)
                if turn:  # the first is warm-up
                    spent[name].append((time.perf_counter() - began) / max(1, 16 // batch))
        speed = {name: batch / median(times) for name, times in spent.items()}
        ratio = median(one / other for one, other in zip(spent["torch"], spent["onnxruntime"], strict=True))
        print(f"| {batch} | {speed['torch']:.1f} | {speed['onnxruntime']:.1f} | {ratio:.2f} |")


IMAGES, BATCH = 102_400, 64
SAMPLES, PART, DRAWN = 2000, 250, 125  # images, of each turn, at once
BLOCKS = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D")


def trained_pipeline(images: np.ndarray, place: Path) -> None:
    """Train a UNet2DModel by diffusers' own loop and save its pipeline."""
    import diffusers
    from diffusers.training_utils import EMAModel
    from time_to_quality import model_space

    torch.manual_seed(0)
    settings = {"sample_size": 28, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 8}
    settings |= {"block_out_channels": (32, 64, 64), "down_block_types": BLOCKS}
    network = diffusers.UNet2DModel(**settings, up_block_types=tuple(name.replace("Down", "Up") for name in reversed(BLOCKS)))
    scheduler, average = diffusers.DDPMScheduler(), EMAModel(network.parameters(), decay=0.995, use_ema_warmup=True)
    optimiser, x = torch.optim.AdamW(network.parameters(), lr=1e-3), model_space(images)
    for step in range(IMAGES // BATCH):
        noise, t = torch.randn(BATCH, 1, 28, 28), torch.randint(1000, (BATCH,))
        with torch.autocast("cpu", torch.bfloat16):
            guess = network(scheduler.add_noise(x[torch.randint(len(x), (BATCH,))], noise, t), t).sample
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(guess.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, step / 100) * 0.5 * (1 + float(np.cos(np.pi * step * BATCH / IMAGES)))
        optimiser.step()
        average.step(network.parameters())
    average.copy_to(network.parameters())
    diffusers.DDPMPipeline(network, scheduler).save_pretrained(place)


def imported(path: str) -> None:
    """Print FD and seconds of a pipeline drawn by its library's DDIM, and of its import by abm."""
    import diffusers
    from time_to_quality import judge_of, measure, model_space

    train, test = (np.load(Path(path) / f"mnist_{part}.npz") for part in ("train", "test"))
    judge = judge_of(train["images"], train["labels"], Path(tempfile.gettempdir()) / "scorefield-mnist-judge.pt")
    real = model_space(test["images"][np.random.default_rng(0).permutation(len(test["images"]))])
    place = Path(tempfile.mkdtemp())
    if not (pipeline := Path(tempfile.gettempdir()) / "scorefield-mnist-pipeline").exists():
        trained_pipeline(train["images"], pipeline)
    app.import_(pipeline, place / "run")
    theirs = diffusers.DDPMPipeline.from_pretrained(pipeline)
    few, spent, found = diffusers.DDIMScheduler.from_config(theirs.scheduler.config), {}, {}
    few.set_timesteps(50)

    def ddim(part: int) -> torch.Tensor:
        drawn = []
        with torch.no_grad():
            for group in range(PART // DRAWN):
                generator = torch.Generator().manual_seed(PART * part + group)
                state = torch.randn(DRAWN, 1, 28, 28, generator=generator)
                for t in few.timesteps:
                    state = few.step(theirs.unet(state, t).sample, t, state).prev_sample
                drawn.append(state.clamp(-1, 1))
        return torch.cat(drawn)

    def abm(part: int) -> torch.Tensor:
        app.sample(place / "run", n=PART, seed=PART * part, batch=DRAWN, out=place / f"{part}.npz")
        return model_space(np.load(place / f"{part}.npz")["images"])

    ways = {"diffusers, DDIM 50": ddim, "its import, abm 20": abm}
    for part in range(SAMPLES // PART):
        for name, draw in ways.items():
            start = time.process_time()
            found.setdefault(name, []).append(draw(part))
            spent.setdefault(name, []).append(time.process_time() - start)
    print(f"{datetime.date.today()}, {platform.machine()}, load {os.getloadavg()[0]:.1f}, diffusers {diffusers.__version__}\n")
    print("| drawn by | FD | precision | recall | coverage | processor seconds |\n|---|---|---|---|---|---|")
    for name, samples in found.items():
        row = measure(judge, torch.cat(samples), real)
        rates = " | ".join(f"{row[key]:.2f}" for key in ("precision", "recall", "coverage"))
        print(f"| {name} | {row['fd']:.2f} ± {row['fd_error']:.2f} | {rates} | {sum(spent[name]):.0f} |", flush=True)
    ratios = [theirs / ours for theirs, ours in zip(*spent.values(), strict=True)]
    print(f"\nmedian of the {len(ratios)} ratios of seconds {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


PARTS = {"onnx": onnx, "imported": imported}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PARTS:
        raise SystemExit("expected onnx and a run's folder, or imported and the folder of data")
    PARTS[sys.argv[1]](sys.argv[2])
