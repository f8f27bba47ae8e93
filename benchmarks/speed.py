"""Speed: the choices that were made by stopwatch, measured again on this machine.

    .venv/bin/python benchmarks/speed.py

Each pair is timed in turns and reported as the median of each and the median of the ratios of neighbours, because a shared
machine's clock drifts. Results go to `benchmarks/results/speed.md`. About two minutes; nothing else should run meanwhile.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from scorefield.nets.unet import UNet
from scorefield.randomness import Noise

ROUNDS = 9


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
    """Return both medians in milliseconds and the median ratio other/one, after one round of warming up."""
    pairs = [(seconds(one), seconds(other)) for _ in range(ROUNDS + 1)][1:]
    return 1e3 * median(a for a, _ in pairs), 1e3 * median(b for _, b in pairs), median(b / a for a, b in pairs)


def step_of(shape: tuple[int, int, int], bfloat16: bool, last: bool = False) -> Callable[[], object]:
    """Return a forward and backward pass of a U-Net of two resolutions on 64 images."""
    net, x = UNet(shape, channels=(32, 64)), torch.zeros(64, *shape)
    label = torch.zeros(64)
    if last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = ((net(x, label).float() - 1) ** 2).mean()
        loss.backward()

    return work


def optimiser_of(**how: bool) -> Callable[[], object]:
    net = UNet((1, 28, 28), channels=(32, 64))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    return torch.optim.AdamW(net.parameters(), lr=1e-4, **how).step


def averages() -> tuple[Callable[[], object], Callable[[], object]]:
    net, kept = UNet((1, 28, 28), channels=(32, 64)), UNet((1, 28, 28), channels=(32, 64)).requires_grad_(False)
    new, old = [p.detach() for p in net.parameters()], list(kept.parameters())

    def loop() -> None:
        for a, b in zip(old, new, strict=True):
            a.mul_(0.999).add_(b, alpha=0.001)

    return lambda: torch._foreach_lerp_(old, new, 0.001), loop


def main() -> None:
    rows = []
    for name, (one, other) in {
        "U-Net step, 64 of 1x8x8: bfloat16, float32": (step_of((1, 8, 8), True), step_of((1, 8, 8), False)),
        "U-Net step, 64 of 1x28x28: bfloat16, float32": (step_of((1, 28, 28), True), step_of((1, 28, 28), False)),
        "the same, bfloat16: contiguous, channels_last": (step_of((1, 28, 28), True), step_of((1, 28, 28), True, last=True)),
        "AdamW: fused, one tensor at a time": (optimiser_of(fused=True), optimiser_of(foreach=False)),
        "moving average: _foreach_lerp_, loop": averages(),
        "64x3x32x32 normal numbers: Noise, torch.randn": (
            lambda: Noise(range(64)).normal((3, 32, 32)),
            lambda: torch.randn(64, 3, 32, 32, dtype=torch.float64),
        ),
    }.items():
        a, b, ratio = compare(one, other)
        rows.append(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    head = f"# Speed: {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    table = ["| what: one, other | one, ms | other, ms | other/one |", "|---|---|---|---|", *rows]
    text = "\n".join([head, "", f"`python benchmarks/speed.py`, medians of {ROUNDS} interleaved rounds.", "", *table]) + "\n"
    (Path(__file__).parent / "results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results" / "speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
