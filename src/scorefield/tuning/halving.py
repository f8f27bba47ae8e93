"""Successive halving: candidates that are far from the front are dropped before all their samples are drawn.

All candidates draw the same samples, in the sense that sample i has the same seed in each. After an eighth of the samples the
half of the candidates that is nearest to the front goes on, after a quarter half of those, and so on, so that every doubling
costs no more than half of the first eighth. The front itself always goes on. A candidate's distance to the front is its figure
less the smallest figure of all candidates that take no more evaluations.

Time is measured on batches that all candidates draw in turn, so that a busy machine slows all of them. A candidate's pace is
relative to the median of its round.

Reference: Jamieson, Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization", arXiv
1502.07943.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from scorefield.drawing import Batch, Drawing
from scorefield.drawn_field import as_drawn
from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.progress import Progress
from scorefield.randomness import stream_of
from scorefield.runs import Run
from scorefield.specs import SampleSpec
from scorefield.tuning.candidates import Candidate
from scorefield.tuning.criterion import Criterion

EIGHTHS = (1, 2, 4, 8)  # of the samples, after which half of the candidates are dropped
SHARE = 2.5 / 8  # of drawing all samples from all candidates: an eighth, then three rounds of half an eighth each


@dataclass(eq=False)
class Sampled:
    """A candidate with what was drawn from it.

    Attributes:
        candidate: the way of sampling.
        evaluations: of the network for one sample.
        rows: batches of samples, as the criterion takes them.
        pace: time of one evaluation over that of the median candidate, for every batch.
        figure: of all samples so far.
    """

    candidate: Candidate
    evaluations: int = 0
    rows: list[Tensor] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    figure: Estimate = field(default_factory=lambda: Estimate(math.inf, math.inf))

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return sum(len(batch) for batch in self.rows)


class Halved(NamedTuple):
    """Candidates with all samples, dropped candidates with fewer, and the seconds of one evaluation of one sample."""

    finished: list[Sampled]
    dropped: list[Sampled]
    seconds: float


def affordable(run: Run, candidates: list[Candidate], most: int, seconds: float, device: torch.device) -> int:
    """Return `most` samples, or a half, a quarter or an eighth of that where halving with more takes longer than `seconds`."""
    if not candidates:
        return most
    quick, rate = min(candidates, key=lambda candidate: candidate.work), math.inf
    for _ in range(2):  # the first time is longer
        began = time.perf_counter()
        with contextlib.suppress(ScorefieldError):  # not finite: the halving reports it
            Drawing(run, quick.sampler, quick.times, device=device).draw(32)
        rate = min(rate, (time.perf_counter() - began) / (32 * quick.work))
    whole = SHARE * sum(candidate.work for candidate in candidates) * rate
    return next((n for n in (most, most // 2, most // 4) if whole * n <= seconds), most // 8)


def nearest_half(measured: list[Sampled]) -> list[Sampled]:
    """Return the half that is nearest to the front, the whole front, and the recipe's own."""
    gaps = [one.figure.value - min(o.figure.value for o in measured if o.evaluations <= one.evaluations) for one in measured]
    order = sorted(range(len(measured)), key=lambda i: (gaps[i], measured[i].evaluations, i))
    front = (i for i, one in enumerate(measured) if one.candidate.recipe or gaps[i] == 0)
    stay = {*order[: math.ceil(len(measured) / 2)], *front}
    return [one for i, one in enumerate(measured) if i in stay]


def draw_batch(criterion: Criterion, sampled: Sampled, first: int, count: int, seed: int, device: torch.device) -> float:
    """Draw samples `first` to `first + count - 1` of a candidate; return the seconds of one evaluation of one sample."""

    def view(_fraction: float, _text: str, batch: Batch) -> None:
        sampled.evaluations = batch.snapshot.evaluations

    # `evaluate` must not judge by the samples that chose the sampler.
    spec = as_drawn(criterion.run, SampleSpec(seed=stream_of("tune", seed)))
    began = time.perf_counter()
    drawing = Drawing(criterion.run, sampled.candidate.sampler, sampled.candidate.times, spec, device)
    x = drawing.draw(count, start=first, batch=count, view=view)
    rate = (time.perf_counter() - began) / (count * sampled.evaluations)
    sampled.rows.append(criterion.rows(x))
    return rate


def successive_halving(
    criterion: Criterion,
    candidates: list[Candidate],
    n: int,
    seed: int,
    device: torch.device,
    left_out: dict[str, str],
    progress: Progress,
) -> Halved:
    """Draw n samples from the best candidates and fewer from the others.

    Args:
        criterion: the figure by which they are compared.
        candidates: what to draw from.
        n: samples from each candidate that is measured to the end, at least 64.
        seed: of the samples.
        device: where samples are drawn.
        left_out: name -> reason; candidates without samples of a finite figure are added.
        progress: called with the fraction done and words.
    """
    work = SHARE * n * sum(candidate.work for candidate in candidates)
    halving = _Halving(criterion, seed, device, left_out, progress, work)
    going, dropped, drawn = [Sampled(candidate) for candidate in candidates], list[Sampled](), 0
    batch, rates = min(256, n // 8), list[float]()
    for eighths in EIGHTHS:
        rates.clear()  # the last round has the most samples: its seconds count
        while drawn < n * eighths // 8:
            count = min(batch, n * eighths // 8 - drawn)
            going, rate = halving.draw(going, drawn, count)
            if not going:
                return Halved([], dropped, math.nan)
            rates.append(rate)
            drawn += count
        going = halving.measure(going, whole=drawn == n)
        if not going:
            return Halved([], dropped, math.nan)
        if drawn < n:
            nearest = nearest_half(going)
            dropped, going = dropped + [one for one in going if one not in nearest], nearest
    return Halved(going, dropped, median(rates))


@dataclass(eq=False)
class _Halving:
    """What all rounds of a successive halving share.

    Attributes:
        criterion, seed, device, left_out, progress: as in `successive_halving`.
        work: evaluations that the halving takes, about.
        done: evaluations so far, as far as they are declared.
    """

    criterion: Criterion
    seed: int
    device: torch.device
    left_out: dict[str, str]
    progress: Progress
    work: float
    done: float = 0.0

    def draw(self, going: list[Sampled], first: int, count: int) -> tuple[list[Sampled], float]:
        """Draw samples from all candidates in turn; return those with finite ones, and the median time of an evaluation."""
        finite, rates = list[Sampled](), list[float]()
        for sampled in going:
            candidate = sampled.candidate
            text = f"{len(going)} candidates, samples {first} to {first + count - 1}: {candidate.label}"
            self.progress(self.done / self.work, text)
            self.done += count * candidate.work
            try:
                rates.append(draw_batch(self.criterion, sampled, first, count, self.seed, self.device))
                finite.append(sampled)
            except ScorefieldError as error:
                self.left_out[candidate.label] = str(error)
        for sampled, rate in zip(finite, rates, strict=True):
            sampled.pace.append(rate / median(rates))
        return finite, median(rates) if rates else math.nan

    def measure(self, going: list[Sampled], whole: bool) -> list[Sampled]:
        """Take the figures of candidates, with all samples if `whole`; return those that have one."""
        measured = list[Sampled]()
        for sampled in going:
            rows = torch.cat(sampled.rows)
            try:
                sampled.figure = self.criterion(rows) if whole else self.criterion.of_few(rows)
                measured.append(sampled)
            except ScorefieldError as error:  # finite samples may be so far off that their features are not
                self.left_out[sampled.candidate.label] = str(error)
        return measured
