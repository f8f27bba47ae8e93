"""What a training step of each way of score matching costs, as the dimension grows.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/cost_of_matching.py

Prediction: the exact trace takes d backward passes, so its time grows like d while the hidden layers are most of a pass, and
towards d² where the first and last layer are; sliced, finite-difference and denoising matching take a fixed number of passes
whatever d, so theirs grow only with those two layers. One loss and its gradient by the weights, for a batch of 64, on an MLP
with SiLU, are timed in turns (a shared machine's clock drifts), in processor time, and reported as medians. Writes
`benchmarks/results/cost-of-matching.md` and `docs/cost-of-matching.png`. About two minutes.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import time
from pathlib import Path
from statistics import median

import torch

from scorefield import VE, SampleRng, ScoreModel
from scorefield.field import EnergyModel
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.objectives.base import Objective
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.implicit import Implicit
from scorefield.objectives.sliced import FiniteDifference, Sliced
from scorefield.prediction import Energy, Score

ROOT = Path(__file__).parent.parent
DIMENSIONS = (2, 8, 32, 128, 512, 1024)
BATCH, WIDTH, DEPTH, ROUNDS = 64, 128, 4, 9
AFFORDABLE = 10.0  # seconds a step: the exact trace is left out from where it would take longer
WAYS: dict[str, tuple[Objective, bool]] = {  # and whether the model is an energy
    "exact trace": (Implicit(), False),
    "sliced": (Sliced(), False),
    "finite difference": (FiniteDifference(), False),
    "denoising": (Denoising(), False),
    "sliced, energy": (Sliced(), True),
    "finite difference, energy": (FiniteDifference(), True),
    "denoising, energy": (Denoising(), True),
}


def model(size: int, energy: bool) -> ScoreModel:
    """Return a field whose weights are all away from zero, so that no product is trivial."""
    network = MLP((size,), width=WIDTH, depth=DEPTH)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    process = VE(0.1, 10.0)
    if energy:
        return EnergyModel(Potential(network), Energy(), process, (size,))
    return ScoreModel(network, Score(), process, (size,))


def seconds(objective: Objective, field: ScoreModel, x0: torch.Tensor) -> float:
    """Return the processor time of one loss and its gradient by the weights."""
    field.zero_grad()
    start = time.process_time()
    objective(field, x0, rng=SampleRng(range(len(x0)))).mean().backward()
    return time.process_time() - start


def measure(size: int, names: list[str]) -> dict[str, float]:
    """Return the median seconds of a step for each way, taken in turns after one round of warming up."""
    fields = {energy: model(size, energy) for energy in (False, True)}
    x0 = SampleRng(range(BATCH), stream=1).normal((size,)).float()
    rounds = [{name: seconds(WAYS[name][0], fields[WAYS[name][1]], x0) for name in names} for _ in range(ROUNDS + 1)]
    return {name: median(one[name] for one in rounds[1:]) for name in names}


def slope(times: dict[int, float]) -> float:
    """Return the exponent of the power law between the two largest dimensions."""
    (d0, t0), (d1, t1) = sorted(times.items())[-2:]
    return math.log(t1 / t0) / math.log(d1 / d0)


def picture(table: dict[str, dict[int, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    colours = {"exact trace": "tab:red", "sliced": "tab:blue", "finite difference": "tab:orange", "denoising": "tab:green"}
    for name, times in table.items():
        base, _, energy = name.partition(", ")
        axes.loglog(
            list(times),
            [1e3 * t for t in times.values()],
            "o--" if energy else "o-",
            color=colours[base],
            markerfacecolor="white" if energy else colours[base],
            label=name,
        )
    axes.set_xticks(DIMENSIONS, [str(d) for d in DIMENSIONS])
    axes.minorticks_off()
    axes.set(xlabel="dimension of the data", ylabel="milliseconds a training step")
    axes.set_title(f"One loss and its gradient, batch {BATCH}, an MLP with SiLU", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    torch.manual_seed(0)
    table: dict[str, dict[int, float]] = {name: {} for name in WAYS}
    for size in DIMENSIONS:
        times = table["exact trace"]
        dear = bool(times) and max(times.values()) * size / max(times) > AFFORDABLE
        for name, value in measure(size, [name for name in WAYS if not (dear and name == "exact trace")]).items():
            table[name][size] = value
        print(size, {name: f"{1e3 * row[size]:.2f} ms" for name, row in table.items() if size in row}, flush=True)
    head = (
        f"# Cost of matching: {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} thread, torch {torch.__version__}"
    )
    say = (
        f"`OMP_NUM_THREADS=1 python benchmarks/cost_of_matching.py`: milliseconds of processor time of one loss and its "
        f"gradient by the weights, batch {BATCH}, MLP of width {WIDTH} and depth {DEPTH} with SiLU, float32; medians of "
        f"{ROUNDS} interleaved rounds. The last column is the exponent of d between the two largest dimensions."
    )
    lines = [f"| way | {' | '.join(f'd = {d}' for d in DIMENSIONS)} | exponent |", "|---" * (len(DIMENSIONS) + 2) + "|"]
    for name, row in table.items():
        cells = (f"{1e3 * row[d]:.2f}" if d in row else "-" for d in DIMENSIONS)
        lines.append(f"| {name} | {' | '.join(cells)} | {slope(row):.2f} |")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "cost-of-matching.md").write_text("\n".join([head, "", say, "", *lines]) + "\n", encoding="utf-8")
    picture(table, ROOT / "docs" / "cost-of-matching.png")


if __name__ == "__main__":
    main()
