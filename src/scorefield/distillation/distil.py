"""Distil: a run in, the weights of a generator out, within a budget.

refuse     a run whose field no generator can be made of
draw       pairs of the field's own flow, a twelfth of the time
regress    the generator on them, a quarter
match      distributions until the budget is spent, or a person stops it: what is there then is used
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
from scorefield.distillation.pairs import Pairs, Regression, draw_pairs
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
REGRESS, MATCH = 1 / 12, 1 / 3  # shares of the time at which pairs are left, and the regression on them
PAIRS, PAIRS_A_STEP = 128, 10  # pairs at a time, and of a budget of steps
MOST_PAIRS, MOST_NUMBERS = 1 << 14, 1 << 26  # of all pairs: each is met again, and 256 MB are enough


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
        ScorefieldError: a time too short to begin, or a stop before the first step.
        NotFinite: a loss that is no number.
    """
    field, how = run.field.to(device), Matching()
    seconds = spec.seconds if spec.seconds is not None or spec.steps is not None else SECONDS
    clock = _Clock(seconds, spec.steps, progress, stop)
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
    clock.begin()
    reasons.append(_begin(matcher, clock, spec.seed))
    history = list[tuple[int, float, float, float]]()
    share = 0.0
    while share < 1 and not clock.stopped:
        moved, loss = matcher.take_step(_rows(matcher.step, how.batch, "distil", spec.seed, device), share)
        share = clock.share(MATCH, 1.0, matcher.step, 1.0)
        if matcher.step & (matcher.step - 1) == 0 or matcher.step % 50 == 0 or share >= 1:
            history.append((matcher.step, round(clock.spent, 2), moved, loss))
        clock.say(MATCH, 1.0, share, f"step {matcher.step}, difference {moved:.3f}")
    if seconds is not None and matcher.step < how.warmup and not spec.steps and not clock.stopped:
        raise ScorefieldError(
            f"got {duration(seconds)}, in which {matcher.step} steps were done, expected the {how.warmup} with which it begins "
            "at least: give it more --time"
        )
    weights = {key: value.cpu() for key, value in matcher.average.state_dict().items()}
    images = matcher.step * how.batch
    return Distilled(weights, matcher.step, images, clock.spent, tuple(history), tuple(reasons), clock.stopped)


def _begin(matcher: Matcher, clock: _Clock, seed: int) -> str:
    """Regress the generator on pairs of the field's flow, and return what was done."""
    how, device, parts, share = matcher.how, matcher.device, list[Pairs](), 0.0
    most = min(MOST_PAIRS, MOST_NUMBERS / ((len(matcher.times) + 1) * math.prod(matcher.field.shape))) / PAIRS
    while share < 1 and not clock.stopped:
        rng = _rows(len(parts), PAIRS, "pairs", seed, device)
        parts.append(draw_pairs(matcher.field, matcher.times, rng, matcher.classes, matcher.precision))
        share = max(clock.share(0.0, REGRESS, len(parts), PAIRS_A_STEP / PAIRS), len(parts) / most)
        clock.say(0.0, REGRESS, share, f"{len(parts) * PAIRS:,} pairs of noise and sample")
    pairs, share = Pairs.joined(parts), 0.0
    regression = Regression(matcher.generator, pairs, matcher.times, how, matcher.precision)
    while share < 1 and not clock.stopped:
        loss = regression.take_step(_rows(regression.step, how.batch, "regression", seed, device), share)
        share = clock.share(REGRESS, MATCH, regression.step, 1.0)
        clock.say(REGRESS, MATCH, share, f"regression on {len(pairs):,} pairs, step {regression.step}, loss {loss:.3f}")
    if not regression.step:
        raise ScorefieldError(
            "got a stop before the first step of the distillation, expected one after it: nothing is written; it begins with "
            "pairs of noise and sample, from which it has not learned yet, so give it longer"
        )
    matcher.begin_average()
    return f"begun by {regression.step} steps of regression on {len(pairs):,} pairs of the field's flow"


def _rows(done: int, batch: int, stream: str, seed: int, device: torch.device) -> SampleRng:
    """Return the seeds of a batch after so many."""
    return SampleRng(range(done * batch, (done + 1) * batch), stream=stream_of(stream, seed), device=device)


class _Clock:
    """The budget: seconds of all parts together, or steps of each.

    Attributes:
        stopped: whether a person ended it.
    """

    def __init__(self, seconds: float | None, steps: int | None, progress: Progress, stop: Callable[[], bool]) -> None:
        self.seconds, self.steps, self.progress, self.stop = seconds, steps, progress, stop
        self.began, self.stopped = time.perf_counter(), False
        self.before = 0.0

    def begin(self) -> None:
        """Leave what was spent so far out of the parts, which share what is left."""
        self.before = self.spent

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def share(self, start: float, end: float, done: int, each: float) -> float:
        """Return how much of a part is done, 0 to 1 and beyond, and ask whether to stop.

        Args:
            start, end: the shares of the time between which it is done.
            done: its steps so far.
            each: how many of them it has for each step of a budget of steps.
        """
        whole = (self.spent - self.before) / max(self.seconds - self.before, 1e-9) if self.seconds else 0.0
        by_time = (whole - start) / (end - start) if self.seconds else 0.0
        by_steps = done / max(1.0, each * self.steps) if self.steps else 0.0
        share = max(by_time, by_steps)
        self.stopped = self.stop() and not (share >= 1 and end == 1)
        return share

    def say(self, start: float, end: float, share: float, words: str) -> None:
        """Show how much of the whole is done."""
        whole = start + (end - start) * min(share, 1.0)
        left = f", {duration((self.spent - self.before) * (1 / whole - 1))} left" if whole < 1 else ""
        self.progress(whole, words + left)
