"""Interchange: exported models beside the runs that they were made of.

    scorefield train digits --steps 60 --out RUN
    OMP_NUM_THREADS=1 python benchmarks/interchange.py onnx RUN

`onnx` draws by the same Euler steps with onnxruntime, from RUN's `model.onnx`, and with torch, from RUN's denoiser in float32
as the file has it, on one thread of a CPU. The two are timed in turns at batch 1 and 64, and medians are shown, with the median
of the ratios of each round. What it printed is kept in `benchmarks/results/interchange.md`.
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


PARTS = {"onnx": onnx}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PARTS:
        raise SystemExit(f"expected one of {', '.join(PARTS)}, and a run's folder")
    PARTS[sys.argv[1]](sys.argv[2])
