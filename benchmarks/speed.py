"""Speed: the choices that were made by stopwatch, measured again on this machine.

    .venv/bin/python benchmarks/speed.py

Each pair is timed in turns and reported as the median of each and the median of the ratios of neighbours, because a shared
machine's clock drifts. Share of peak: the floating-point operations of one training step (forward, backward, optimiser, moving
averages; torch's counter knows convolutions and matrix products) per second, over those of a bfloat16 product of 1024 x 1024
matrices timed in the same rounds. Results go to `benchmarks/results/speed.md`. About three minutes; nothing else should run
meanwhile.
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
from torch.utils.flop_counter import FlopCounterMode

from scorefield.config import override
from scorefield.data.base import DataConfig, Examples, Normaliser, build
from scorefield.devices import keep_freed
from scorefield.nets.unet import UNet
from scorefield.randomness import SampleRng
from scorefield.recipes import auto, data_stats
from scorefield.runs import build_model, classes_of
from scorefield.training.loop import Trainer

ROUNDS, SIDE = 9, 1024
NOTES = "## What was tried"


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


def default_trainer(shape: tuple[int, int, int]) -> Trainer:
    """Return what `scorefield train` makes of 30,000 images of ten classes, with bfloat16; noise is as fast as pictures."""
    raw = torch.randint(256, (30_000, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names, labels = tuple("0123456789"), torch.arange(30_000) % 10
    noise = Examples("noise", "image", raw, lambda _: Normaliser.between(0, 255), labels=labels, classes=names)
    data = build(noise, DataConfig())
    facts = data_stats(data)
    config = override(auto(facts).config, ["training.precision=bfloat16"])
    model = build_model(config, shape, facts.std, facts.mean, classes=classes_of(config, names))
    return Trainer(config, data, model, None, torch.device("cpu"))


def share_of_peak(shape: tuple[int, int, int], threads: int) -> str:
    """Return a row: GFLOP of a step, its milliseconds, its GFLOPS, those of the matrix product, and the share."""
    trainer, a = default_trainer(shape), torch.randn(SIDE, SIDE, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with FlopCounterMode(display=False) as counter:
        trainer._step()
    work = counter.get_total_flops()
    rounds = [(seconds(trainer._step), seconds(lambda: [a @ a for _ in range(20)]) / 20) for _ in range(2 * ROUNDS + 3)][3:]
    torch.set_num_threads(before)
    step, peak = median(s for s, _ in rounds), 2 * SIDE**3 / median(p for _, p in rounds)
    share = median(work / s / (2 * SIDE**3 / p) for s, p in rounds)
    size, batch = "x".join(map(str, shape)), trainer.config.training.batch
    return (
        f"| {batch} of {size} | {threads} | {work / 1e9:.1f} | {1e3 * step:.0f} | {work / step / 1e9:.0f} | {peak / 1e9:.0f} "
        f"| {100 * share:.0f} % |"
    )


def main() -> None:
    keep_freed()  # as a training does
    shares = []
    for shape, threads in (((1, 28, 28), 1), ((1, 28, 28), 2), ((3, 32, 32), 1), ((3, 32, 32), 2)):
        shares.append(share_of_peak(shape, threads))
        print(shares[-1], flush=True)
    rows = []
    for name, (one, other) in {
        "U-Net step, 64 of 1x8x8: bfloat16, float32": (step_of((1, 8, 8), True), step_of((1, 8, 8), False)),
        "U-Net step, 64 of 1x28x28: bfloat16, float32": (step_of((1, 28, 28), True), step_of((1, 28, 28), False)),
        "the same, bfloat16: contiguous, channels_last": (step_of((1, 28, 28), True), step_of((1, 28, 28), True, last=True)),
        "AdamW: fused, one tensor at a time": (optimiser_of(fused=True), optimiser_of(foreach=False)),
        "moving average: _foreach_lerp_, loop": averages(),
        "64x3x32x32 normal numbers: Noise, torch.randn": (
            lambda: SampleRng(range(64)).normal((3, 32, 32)),
            lambda: torch.randn(64, 3, 32, 32, dtype=torch.float64),
        ),
    }.items():
        a, b, ratio = compare(one, other)
        rows.append(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    head = f"# Speed: {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    table = ["| what: one, other | one, ms | other, ms | other/one |", "|---|---|---|---|", *rows]
    peak = [
        "A training step of the default image network (recipe auto), bfloat16: share of the peak of a matrix product.",
        "",
        "| batch | threads | GFLOP | ms | GFLOPS | peak | share |",
        "|---|---|---|---|---|---|---|",
        *shares,
    ]
    how = f"`python benchmarks/speed.py`, medians of {ROUNDS} interleaved rounds ({2 * ROUNDS} for shares)."
    text = "\n".join([head, "", how, "", *peak, "", *table]) + "\n"
    target = Path(__file__).parent / "results" / "speed.md"
    # What was measured once, by hand, stays below.
    kept = target.read_text(encoding="utf-8").partition(NOTES)[1:] if target.exists() else ()
    target.write_text(text + "".join(("\n", *kept) if any(kept) else ()), encoding="utf-8")


if __name__ == "__main__":
    main()
