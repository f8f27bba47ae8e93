"""Distil: a run in, the weights of a generator out, within a budget.

refuse    a run whose field no generator can be made of
match     steps of `matching.py` until the budget is spent, or a person stops it: what is there then is used
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.data.table.columns import width
from scorefield.distillation.matching import Matcher, Matching
from scorefield.drawn_field import as_drawn, field_of
from scorefield.durations import duration
from scorefield.errors import ScorefieldError
from scorefield.field import EnergyModel
from scorefield.generator import few_levels
from scorefield.levels import LogNormal, NoiseDistribution
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run
from scorefield.specs import DistillSpec
from scorefield.training.precision import by_device, by_stopwatch

SECONDS = 300.0
PILOT = 32  # samples of a step in the choice of precision


@dataclass(frozen=True, eq=False)
class Distilled:
    """What came of it.

    Attributes:
        weights: of the generator.
        steps, images, seconds: how much was done.
        history: (step, seconds, difference, loss of the samples' own denoiser) now and then.
        reasons: for what was chosen.
        stopped: whether a person ended it.
    """

    weights: dict[str, Tensor]
    steps: int
    images: int
    seconds: float
    history: tuple[tuple[int, float, float, float], ...]
    reasons: tuple[str, ...]
    stopped: bool


def check(run: Run, spec: DistillSpec) -> None:
    """Raise `ScorefieldError` for a run that cannot be distilled, or a budget of nothing."""
    for name, budget in (("--time", spec.seconds), ("--steps", spec.steps)):
        if budget is not None and not 0 < budget < math.inf:
            raise ScorefieldError(f"got {name} {budget:g}, expected more than 0: give it some")
    if run.evaluations is not None:
        of = run.manifest["distilled"].get("from", "the run that it was made of")
        raise ScorefieldError(f"got {run.path}, which is distilled already, expected a trained run: distil {of}")
    columns = run.manifest["data"].get("columns") or []
    if discrete := [column["name"] for column in columns if width(column) > 1 or column["type"] in ("category", "boolean")]:
        raise ScorefieldError(
            f"got {run.path}, a table with columns of other things than numbers ({', '.join(discrete[:3])}), expected "
            "numbers alone: a generator draws numbers between the values that such columns have; use the run as it is"
        )
    process = run.config.process
    if process.t_max == process.t_min:
        raise ScorefieldError(f"got {run.path}, a run of one noise level, expected many: train one with --recipe auto")
    if isinstance(run.field, EnergyModel):
        raise ScorefieldError(f"got {run.path}, a run of an energy, expected one whose network is the score: train with edm")
    if run.has_raw_times:
        raise ScorefieldError(
            f"got {run.path}, whose network accepts whole times only, expected one of continuous times: "
            "train it again with --recipe auto"
        )
    few_levels(process, spec.evaluations, float(run.manifest["data"]["std"]))


def distil(
    run: Run, spec: DistillSpec, device: torch.device, progress: Progress = silent, stop: Callable[[], bool] = lambda: False
) -> Distilled:
    """Make a generator of what samples of a run are drawn from: its field, with its own autoguidance.

    Args:
        run: `check`ed.
        spec: how.
        device: where to compute.
        progress: called after every step.
        stop: asked after every step.

    Raises:
        ScorefieldError: a time too short for a single step.
        NotFinite: a loss that is no number.
    """
    field, how = run.field.to(device), Matching()
    seconds = spec.seconds if spec.seconds is not None or spec.steps is not None else SECONDS
    began = time.perf_counter()
    noise: NoiseDistribution = getattr(run.config.objective, "noise_distribution", None) or LogNormal()
    counts = torch.tensor(run.manifest["data"]["class_counts"], device=device) if run.classes else None
    precision, why = "float32", by_device(device)
    if seconds is not None:
        progress(0.0, "choosing the precision")
        rng = SampleRng(range(PILOT), stream=stream_of("pilot"), device=device)
        few = rng.normal(run.shape).float() * field.data_std
        cond = None if counts is None else rng.choose(counts)
        pilot = copy.deepcopy(field).requires_grad_(True)
        why = by_stopwatch(pilot, run.config.objective, few, cond, seconds / 10)
    precision = why[0]
    asked = as_drawn(run)
    drawn = field_of(run, device, asked)
    matcher = Matcher(drawn, field, noise, spec.evaluations, how, classes=counts, precision=precision)
    reasons = [f"precision = {precision}: {why[1]}", f"levels: {', '.join(f'{t:.3g}' for t in matcher.times.tolist())}"]
    reasons += [f"autoguidance = {asked.autoguidance:g}, as samples of the run are drawn"] if asked.asks else []
    history, share, stopped = list[tuple[int, float, float, float]](), 0.0, False
    while share < 1 and not stopped:
        rows = range(matcher.step * how.batch, (matcher.step + 1) * how.batch)
        rng = SampleRng(rows, stream=stream_of("distil", spec.seed), device=device)
        moved, loss = matcher.take_step(rng, share)
        spent = time.perf_counter() - began
        share = max(spent / seconds if seconds else 0.0, matcher.step / spec.steps if spec.steps else 0.0)
        stopped = stop() and share < 1
        if matcher.step & (matcher.step - 1) == 0 or matcher.step % 50 == 0 or share >= 1:
            history.append((matcher.step, round(spent, 2), moved, loss))
        left = f", {duration(spent * (1 / share - 1))} left" if share < 1 else ""
        progress(
            min(share, 1.0), f"step {matcher.step}, difference {moved:.3f}, {matcher.step * how.batch / spent:,.0f}/s{left}"
        )
    if seconds is not None and matcher.step < how.warmup and not spec.steps:
        raise ScorefieldError(
            f"got {duration(seconds)}, in which {matcher.step} steps were done, expected the {how.warmup} with which it begins "
            "at least: give it more --time"
        )
    weights = {key: value.cpu() for key, value in matcher.average.state_dict().items()}
    return Distilled(
        weights, matcher.step, matcher.step * how.batch, time.perf_counter() - began, tuple(history), tuple(reasons), stopped
    )
