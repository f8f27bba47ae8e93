"""Ways of sampling a run - a sampler, a ladder, a number of evaluations - drawn from and measured side by side.

All ways draw the same samples, in the sense that sample i has the same seed in each, and all are measured by one figure against
the run's held-out data: the Frechet distance on the features that `evaluate` uses for images, the energy distance of the
coordinates for everything else.

Successive halving: after an eighth of the samples the half of the ways that is nearest to the front goes on, after a quarter
half of those, and so on, so that every doubling costs no more than half of the first eighth; the front itself always goes on. A
way's distance to the front is its figure less the smallest figure of all ways that take no more evaluations. The Frechet
distance of few samples is mostly its own bias, so that images are judged by the kernel distance until all samples are drawn: it
has none.

Seconds are measured on batches that all ways draw in turn, so that a machine that is busy for a while slows all of them, and a
way's are relative to the median of its round.

Reference: Jamieson, Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization", arXiv
1502.07943.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from scorefield import registry
from scorefield.drawing import OPTIMISED, Batch, Drawing, SampleSpec, choose_sampler
from scorefield.errors import ScorefieldError
from scorefield.evaluation.reference import Reference, reference_of
from scorefield.metrics.base import Estimate, Metric
from scorefield.progress import Progress
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import Run
from scorefield.samplers import Sampler
from scorefield.verification.bench import within_evaluations

REAL = 2000  # real examples of vectors, signals and tables, whose figure looks at all pairs
GROUPS = 20  # of the jackknife
ALIKE = 1e-3  # of the data's standard deviation: samples nearer than this are the same
EIGHTHS = (1, 2, 4, 8)  # of the samples, after which the ways are halved
SHARE = 2.5 / 8  # of drawing all samples from all ways that the halving leaves: an eighth, and three times half of one


def named(sampler: str, ladder: str | None) -> str:
    """Return the name of a sampler on a ladder; None for the ladder that suits it.

    >>> named("adams", None), named("adams", "optimised")
    ('abm', 'abm (optimised ladder)')
    """
    return f"{sampler} ({ladder} ladder)" if ladder else sampler


@dataclass(eq=False)
class Trial:
    """A way of sampling under measurement.

    Attributes:
        name, steps, ladder: as `choose_sampler` takes them.
        sampler, times: what that gives.
        own: whether it is the recipe's.
        evaluations: of the network for one sample.
        seen: the samples so far, as the figure sees them.
        pace: the time of one evaluation over that of the median way, for every batch.
        figure: of the samples so far.
    """

    name: str
    steps: int
    ladder: str | None
    sampler: Sampler
    times: Tensor
    own: bool
    evaluations: int = 0
    seen: list[Tensor] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    figure: Estimate = field(default_factory=lambda: Estimate(math.inf, math.inf))

    @property
    def label(self) -> str:
        return f"{named(self.name, self.ladder)}, {len(self.times)} levels"

    @property
    def work(self) -> int:
        """Evaluations of one sample, as far as they are declared."""
        return len(self.times) * self.sampler.steps_per_level * (self.sampler.evaluations_per_step or 1)


@dataclass(frozen=True)
class Gauge:
    """What is measured, of samples in model space.

    Attributes:
        run: the opened run.
        reference: its real examples.
        metric, label: the figure, lower being better, and its name.
        early, early_label: the same of few samples.
        real: the held-out examples, as both see them.
    """

    run: Run
    reference: Reference
    metric: Metric
    label: str
    early: Metric
    early_label: str
    real: Tensor

    @staticmethod
    def of(run: Run, progress: Progress) -> Gauge:
        """Return the figure that suits the run's data; raises `ScorefieldError` if they are gone or have changed."""
        reference = reference_of(run, progress=progress)
        name, early = ("frechet", "kernel") if run.kind == "image" else ("energy", "energy")
        metric, first = reference.metrics[name], reference.metrics[early]
        real = reference.held_out[metric.space]
        rows = torch.arange(len(real)) if run.kind == "image" else subsample(len(real), REAL)
        return Gauge(run, reference, metric, reference.label(name), first, reference.label(early), real[rows])

    def see(self, x: Tensor) -> Tensor:
        """Return samples as the metric wants them, `(n, d)`."""
        return self.reference.sets(self.reference.on_grid(self.run.decode(x)))[self.metric.space]

    def __call__(self, seen: Tensor) -> Estimate:
        """Return the figure of what `see` returned."""
        return self.metric(seen, self.real)

    def without(self, seen: Tensor) -> Tensor:
        """Return the figure without each group of a jackknife over the seeds, `(GROUPS,)`, float64."""
        group = torch.arange(len(seen)) % GROUPS
        return torch.tensor([self(seen[group != g]).value for g in range(GROUPS)], dtype=torch.float64)

    def floor(self, n: int) -> float:
        """Return what n independent draws of training examples score, averaged over five."""
        known = self.reference.known[self.metric.space]
        draws = [SampleRng(range(n), stream=stream_of("tune", "floor", i)).choose(torch.ones(len(known))) for i in range(5)]
        return sum(self(known[rows]).value for rows in draws) / len(draws)


def _suits(sampler: Sampler) -> bool:
    """Whether it goes down a ladder in declared evaluations, rather than dwelling, or choosing its own steps."""
    return not sampler.dwells and sampler.evaluations_per_step is not None


def _different(run: Run, samplers: dict[str, Sampler], steps: int, device: torch.device, left_out: dict[str, str]) -> list[str]:
    """Return the names of samplers that differ: two samples of the others are those of one before, the recipe's own first."""
    own, kept = registry.name_of("sampler", run.config.sampler), dict[str, Tensor]()
    for name in sorted(samplers, key=lambda name: (name != own, name)):
        try:
            x = Drawing.of(run, SampleSpec(name, steps), device).draw(2)
        except ScorefieldError:  # it is named where it is tried
            kept[name] = torch.tensor(torch.nan)
            continue
        for other, known in kept.items():
            if float((x - known).square().mean().sqrt()) < ALIKE * run.field.data_std:
                left_out[name] = f"its samples are those of {other}"
                break
        else:
            kept[name] = x
    return sorted(kept)


def trials_of(
    run: Run,
    names: Sequence[str] | None,
    budgets: Sequence[int],
    device: torch.device,
    left_out: dict[str, str],
    progress: Progress,
) -> list[Trial]:
    """Return every way to try; what cannot be tried goes to `left_out` with the reason.

    Args:
        run: an opened run.
        names: registered samplers; None for those that jump in a declared number of evaluations and differ.
        budgets: evaluations of one sample, at most.
        device: where.
        left_out: name -> why; added to.
        progress: called with the fraction done and words.
    """
    own, kinds = registry.name_of("sampler", run.config.sampler), registry.every("sampler")
    samplers = {name: run.config.sampler if name == own else kinds[name]() for name in names or kinds}
    if not names:
        samplers = {name: sampler for name, sampler in samplers.items() if _suits(sampler)}
        samplers = {name: samplers[name] for name in _different(run, samplers, min(budgets), device, left_out)}
    wanted = list[tuple[str, int, str | None]]()
    for name, sampler in samplers.items():
        counts = []
        for budget in budgets:
            chosen, levels = within_evaluations(sampler, budget)
            counts.append(levels * chosen.steps_per_level)
        wanted += [(name, count, None) for count in counts]
        if sampler.remembers and sampler.evaluations_per_step == 1:  # the kind that such ladders are made for
            wanted += [(name, count, OPTIMISED) for count in counts]
    if own in samplers and _suits(samplers[own]):
        wanted.append((own, run.config.levels * run.config.sampler.steps_per_level, None))
    found, made = dict[tuple[str, tuple[float, ...]], Trial](), dict[int, Tensor]()
    for i, (name, steps, ladder) in enumerate(dict.fromkeys(wanted)):
        progress(i / len(wanted), f"choosing levels of {named(name, ladder)}")
        try:
            if ladder != OPTIMISED:
                sampler, times = choose_sampler(run, SampleSpec(name, steps, ladder), device)
            else:
                sampler, count = samplers[name].within(steps)
                if count not in made:  # one for all samplers: it is made for the run
                    made[count] = choose_sampler(run, SampleSpec(name, steps, ladder), device)[1].cpu()
                times = made[count]
        except ScorefieldError as error:
            left_out[f"{named(name, ladder)}, {steps} steps"] = str(error)
            continue
        mine = ladder is None and name == own and len(times) == run.config.levels
        found.setdefault((name, tuple(times.tolist())), Trial(name, steps, ladder, sampler, times, mine))
    return list(found.values())


def affordable(run: Run, trials: list[Trial], most: int, seconds: float, device: torch.device) -> int:
    """Return `most` samples, or a half, a quarter or an eighth of them, where a race with more takes longer than that."""
    if not trials:
        return most
    quick, rate = min(trials, key=lambda trial: trial.work), math.inf
    for _ in range(2):  # the first time is longer
        began = time.perf_counter()
        with contextlib.suppress(ScorefieldError):  # not finite: the race says so
            Drawing(run, quick.sampler, quick.times, device=device).draw(32)
        rate = min(rate, (time.perf_counter() - began) / (32 * quick.work))
    whole = SHARE * sum(trial.work for trial in trials) * rate
    return next((n for n in (most, most // 2, most // 4) if whole * n <= seconds), most // 8)


def _nearest_half(trials: list[Trial]) -> list[Trial]:
    """Return the half that is nearest to the front, the whole front, and the recipe's own."""
    gaps = [t.figure.value - min(o.figure.value for o in trials if o.evaluations <= t.evaluations) for t in trials]
    order = sorted(range(len(trials)), key=lambda i: (gaps[i], trials[i].evaluations, i))
    kept = {*order[: math.ceil(len(trials) / 2)], *(i for i, trial in enumerate(trials) if trial.own or gaps[i] == 0)}
    return [trial for i, trial in enumerate(trials) if i in kept]


def _step(gauge: Gauge, trial: Trial, first: int, count: int, seed: int, device: torch.device) -> float:
    """Draw some more samples; returns how long one evaluation of one of them took."""

    def look(_fraction: float, _text: str, batch: Batch) -> None:
        trial.evaluations = batch.snapshot.evaluations

    ours = SampleSpec(seed=stream_of("tune", seed))  # `evaluate` must not judge by the very samples that were chosen by
    began = time.perf_counter()
    drawing = Drawing(gauge.run, trial.sampler, trial.times, ours, device)
    x = drawing.draw(count, start=first, batch=count, view=look)
    rate = (time.perf_counter() - began) / (count * trial.evaluations)
    trial.seen.append(gauge.see(x))
    return rate


def race(
    gauge: Gauge, trials: list[Trial], n: int, seed: int, device: torch.device, left_out: dict[str, str], progress: Progress
) -> tuple[list[Trial], list[Trial], float]:
    """Draw n samples from the best ways and fewer from the others.

    Args:
        gauge: what they are measured by.
        trials: the ways.
        n: samples from each way that is measured to the end, at least 64.
        seed: of the samples.
        device: where.
        left_out: name -> why; those that do not draw samples with a finite figure are added.
        progress: called with the fraction done and words.

    Returns:
        The ways that were measured to the end, those left behind, and the seconds of one evaluation of one sample.
    """
    going, behind, drawn, done = list(trials), list[Trial](), 0, 0.0
    whole, batch, usual = SHARE * n * sum(trial.work for trial in trials), min(256, n // 8), list[float]()
    for eighths in EIGHTHS:
        usual.clear()  # the seconds of the last round count: it has the most samples
        while drawn < n * eighths // 8:
            count, rates = min(batch, n * eighths // 8 - drawn), list[float]()
            for trial in list(going):
                progress(done / whole, f"{len(going)} ways, samples {drawn} to {drawn + count - 1}: {trial.label}")
                done += count * trial.work
                try:
                    rates.append(_step(gauge, trial, drawn, count, seed, device))
                except ScorefieldError as error:
                    left_out[trial.label] = str(error)
                    going.remove(trial)
            if not going:
                return [], behind, math.nan
            for trial, rate in zip(going, rates, strict=True):
                trial.pace.append(rate / median(rates))
            usual.append(median(rates))
            drawn += count
        for trial in list(going):
            seen = torch.cat(trial.seen)
            try:
                trial.figure = gauge(seen) if drawn == n else gauge.early(seen, gauge.real)
            except ScorefieldError as error:  # finite samples may be so far off that their features are not
                left_out[trial.label] = str(error)
                going.remove(trial)
        if not going:
            return [], behind, math.nan
        if drawn < n:
            kept = _nearest_half(going)
            behind, going = behind + [trial for trial in going if trial not in kept], kept
    return going, behind, median(usual)
