"""Overhead: the time a sampler takes outside the network, per evaluation, against what any sampler must spend.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py

The field costs nothing: it returns a stored array, wrapped as a `Prediction` (of the noise, as most networks are), so that what
is measured is the loop, the views and the noise. The floor of a step is two elementwise operations on the state and, where the
sampler draws, one draw: x + a·y and torch.randn on the same 4096 x 2 float64 numbers. Samplers and floors are timed in turns,
because a shared machine's clock drifts; the tables hold medians, and medians of ratios to the floors of the same round.
What it printed before and after is kept in `benchmarks/results/overhead.md`.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from scorefield import LinearVE, NoisePrediction, Prediction, SampleRng, registry
from scorefield.levels import ladder_of
from scorefield.samplers import DDIM, DPMSolver, Heun, Sampler, simulate

ROUNDS, LEVELS, SHAPE = 25, 51, (4096, 2)
SAMPLERS: dict[str, Sampler] = {name: kind() for name, kind in registry.every("sampler").items()} | {
    "ddim, eta 1": DDIM(eta=1.0),
    "dpm-solver++, sde 2m": DPMSolver(2, eta=1.0),
    "heun, churn 10": Heun(churn=10.0),
}
del SAMPLERS["adaptive"]  # its steps, and so its work, depend on the field


class Stored:
    """A field that has its answer ready."""

    process, shape, data_std = LinearVE(), SHAPE[1:], 1.0

    def __init__(self, scale: float = 0.1) -> None:
        self.data_mean = torch.zeros(self.shape, dtype=torch.float64)
        self.answer = scale * torch.ones(SHAPE, dtype=torch.float64)
        self.kind, self.spent, self.evaluations = NoisePrediction(), 0.0, 0

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        self.evaluations += 1
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        return Prediction(self.process, x, t, self.answer, *self.kind.pair(alpha, sigma))

    def energy(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.answer[:, 0]


def per_evaluation(sampler: Sampler) -> Callable[[], float]:
    """Return a measurement of the microseconds per evaluation, the start of a run (its coefficients) left out."""
    field = Stored()
    shortened, levels = sampler.within(LEVELS)
    ladder, rng = ladder_of(field, sampler.ladder, levels), SampleRng(range(SHAPE[0]))
    x = rng.normal(SHAPE[1:])

    def once() -> float:
        snapshots = simulate(field, shortened, ladder, x, rng=rng, denoise=False)
        next(snapshots)
        next(snapshots)  # a generator starts at its first step: the coefficients are ready after it
        begun, start = field.evaluations, time.perf_counter()
        for _ in snapshots:
            pass
        return 1e6 * (time.perf_counter() - start) / (field.evaluations - begun)

    return once


def microseconds(work: Callable[[], object], repeats: int = 50) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        return 1e6 * (time.perf_counter() - start) / repeats

    return once


def main() -> None:
    torch.set_num_threads(1)
    x, y = torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)
    rng = SampleRng(range(SHAPE[0]))
    floors = {
        "floor: two operations": microseconds(lambda: x + 0.3 * y),
        "floor: two operations and torch.randn": microseconds(lambda: x + 0.3 * torch.randn(SHAPE, dtype=torch.float64)),
        "one draw of Noise": microseconds(lambda: rng.normal(SHAPE[1:])),
    }
    measures = floors | {name: per_evaluation(sampler) for name, sampler in sorted(SAMPLERS.items())}
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS + 1)][1:]
    calm, drawing = list(floors)[:2]
    lines = [
        f"# Overhead: {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/overhead.py`: {SHAPE[0]} x {SHAPE[1]} float64, a field that costs nothing, "
        f"medians of {ROUNDS} interleaved rounds.",
        "",
        "| what | microseconds per evaluation | over two operations | over two operations and a draw |",
        "|---|---|---|---|",
    ]
    for name in measures:
        ratios = [median(one[name] / one[floor] for one in rounds) for floor in (calm, drawing)]
        lines.append(f"| {name} | {median(one[name] for one in rounds):.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
