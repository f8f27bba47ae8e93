"""The stages of a tuning: the criterion, the candidates, successive halving, and the choice.

All candidates are measured on the same seeds (`halving.py`), and the choice is a function of their figures (`choice.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

import torch

from scorefield import registry
from scorefield.drawing import Tuned
from scorefield.drawn_field import as_drawn
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, Stages
from scorefield.runs import Run, open_run
from scorefield.tuning.candidates import candidates_of
from scorefield.tuning.choice import Choice, choose, costs_of
from scorefield.tuning.criterion import Criterion
from scorefield.tuning.halving import Halved, Sampled, affordable, successive_halving
from scorefield.tuning.report import Measurement, TuningReport, sentence_of

EVALUATIONS = (5, 8, 12, 18, 27, 40)
SAMPLES = {"image": 512, "volume": 512}  # of other kinds OTHERS: their figure needs more samples, and their samples cost less
OTHERS = 2048
LEAST = 64  # samples: the first round has an eighth of them


@dataclass(frozen=True)
class TuneSpec:
    """What is tried, and what may be lost.

    Attributes:
        samplers: registered names; None for all that jump from level to level in a declared number of evaluations.
        evaluations: numbers of evaluations of the network for one sample, at most; each at least 2.
        n: samples from each candidate that is measured to the end, at least 64; None for 512 images or volumes, or 2,048 of
            anything else, or a half, a quarter or an eighth of that where it would take longer than `seconds`.
        within: how much worse than the best figure the chosen one may be, as a share of it, at least 0; what chance explains is
            always allowed.
        seconds: see n.
        seed: of the samples.
    """

    __flat__: ClassVar[bool] = True

    samplers: Sequence[str] | None = None
    evaluations: Sequence[int] = EVALUATIONS
    n: int | None = None
    within: float = 0.05
    seconds: float = 180.0
    seed: int = 0

    def check(self) -> None:
        """Raise `ScorefieldError` for a value out of range."""
        if self.n is not None and self.n < LEAST:
            raise ScorefieldError(f"got -n {self.n}, expected at least {LEAST} samples to compare candidates: ask for more")
        if not self.evaluations or min(self.evaluations) < 2:
            raise ScorefieldError(f"got evaluations {list(self.evaluations)}, expected numbers of at least 2: ask for more")
        if not 0 <= self.within < math.inf:
            raise ScorefieldError(
                f"got --within {self.within:g}, expected a share of the best figure, such as 0.05: give 0 or more"
            )

    def check_samplers(self) -> None:
        """Raise `ScorefieldError` for an unknown sampler, with a did-you-mean."""
        for name in self.samplers or ():
            registry.find("sampler", name)


def compare(run: Run, spec: TuneSpec, device: torch.device, progress: Progress) -> tuple[TuningReport, Tuned]:
    """Measure candidates on a run and choose one; nothing is written.

    Args:
        run: an opened run whose data are there.
        spec: what is tried, and what may be lost.
        device: where samples are drawn.
        progress: called with the fraction done and words.

    Returns:
        The report, and the choice as the run's default.

    Raises:
        ScorefieldError: data that are gone or have changed, or no candidate that draws finite samples.
    """
    stages, left_out = Stages(progress, reference=10.0, levels=15.0, draw=70.0, compare=5.0), dict[str, str]()
    criterion = Criterion.of(run, stages("reference"))
    budgets = sorted(set(spec.evaluations))
    candidates = candidates_of(run, spec.samplers, budgets, device, left_out, stages("levels"))
    n = spec.n or affordable(run, candidates, SAMPLES.get(run.kind, OTHERS), spec.seconds, device)
    halved = successive_halving(criterion, candidates, n, spec.seed, device, left_out, stages("draw"))
    if not halved.finished:
        raise ScorefieldError(
            f"got finite samples from no candidate (the first: {next(iter(left_out.values()), 'none suits')}), expected at "
            "least one: name others with --samplers, or train the run for longer"
        )
    finished, dropped = _costs(halved)
    choice = _chosen(criterion, halved.finished, finished, spec.within, stages("compare"))
    report = _report(criterion, spec, n, halved, (finished, dropped), choice, left_out)
    return report, _tuned(run, report, halved.finished[choice.chosen])


def _costs(halved: Halved) -> tuple[list[float], list[float]]:
    """Return the seconds of one sample of finished and of dropped candidates."""
    paces = dict[str, list[float]]()
    for one in chain(halved.finished, halved.dropped):
        paces.setdefault(one.candidate.name, []).extend(one.pace)

    def costs(those: list[Sampled]) -> list[float]:
        return costs_of([one.candidate.name for one in those], [one.evaluations for one in those], paces, halved.seconds)

    return costs(halved.finished), costs(halved.dropped)


def _chosen(criterion: Criterion, finished: list[Sampled], costs: Sequence[float], within: float, progress: Progress) -> Choice:
    """Take the jackknife of every candidate, and choose."""
    without = list[torch.Tensor]()
    for i, one in enumerate(finished):
        progress(i / len(finished), f"comparing {len(finished)} candidates on the same seeds")
        without.append(criterion.without(torch.cat(one.rows)))
    return choose([one.figure.value for one in finished], torch.stack(without), costs, within)


def _measurement(sampled: Sampled, cost: float) -> Measurement:
    """Return what was measured of a candidate, without a comparison."""
    one = sampled.candidate
    return Measurement(
        sampler=one.name,
        steps=one.steps,
        ladder=one.ladder,
        levels=len(one.times),
        evaluations=sampled.evaluations,
        samples=sampled.samples,
        figure=sampled.figure,
        seconds=1000 * cost,
        recipe=one.recipe,
    )


def _report(
    criterion: Criterion,
    spec: TuneSpec,
    n: int,
    halved: Halved,
    costs: tuple[list[float], list[float]],
    choice: Choice,
    left_out: dict[str, str],
) -> TuningReport:
    """Put everything that was measured into a report."""
    run, extractor = criterion.run, criterion.reference.extractor
    plain, dropped = (
        [_measurement(one, cost) for one, cost in zip(those, seconds, strict=True)]
        for those, seconds in zip((halved.finished, halved.dropped), costs, strict=True)
    )
    measurements = [
        replace(
            one,
            loss=choice.losses[i],
            beaten_by=None if (better := choice.beaten_by[i]) is None else plain[better].label,
            front=i in choice.front,
            chosen=i == choice.chosen,
        )
        for i, one in enumerate(plain)
    ]
    return TuningReport(
        run=run.path.name,
        figure=criterion.label,
        early=criterion.early_label,
        features=f"{extractor.name}-{extractor.version_hash[:8]}",
        samples=n,
        reference=len(criterion.real),
        seed=spec.seed,
        floor=criterion.floor(n),
        within=spec.within,
        measurements=tuple(sorted(measurements, key=lambda one: (one.seconds, one.figure.value))),
        dropped=tuple(dropped),
        left_out=left_out,
        sentence=sentence_of(criterion.label, measurements, spec.within),
        made_from=run.made_from,
        holds=open_run(run.path).made_from == run.made_from,
        asks=as_drawn(run).asks,
    )


def _tuned(run: Run, report: TuningReport, sampled: Sampled) -> Tuned:
    """Return the choice as the run's default."""
    chosen, times = report.chosen, tuple(sampled.candidate.times.tolist())
    return Tuned(
        chosen.sampler, chosen.steps, chosen.ladder, times, chosen.evaluations, run.manifest["model_sha256"], report.sentence
    )
