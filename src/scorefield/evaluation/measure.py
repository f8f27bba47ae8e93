"""The stages of an evaluation: real examples, samples, figures and floors, the baseline, then every other part.

Several processes draw the samples together, and those of a baseline that is a run; the first one measures.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from scorefield.drawing import Drawing, sampling_id
from scorefield.evaluation.attempts import Attempts
from scorefield.evaluation.baseline import Baseline, BaselineResult, compared, draw_timed
from scorefield.evaluation.parts import Parts, parts_of
from scorefield.evaluation.reference import Reference, Sets, reference_of
from scorefield.evaluation.report import QualityReport
from scorefield.metrics.base import Estimate
from scorefield.metrics.features import Learned
from scorefield.progress import Progress, Stages
from scorefield.specs import SampleSpec


@dataclass(frozen=True)
class EvaluateSpec:
    """What is drawn and how it is measured.

    Attributes:
        n: number of samples, at least 20.
        features: a registered extractor (data, lite0, identity), a file with weights, or a module. None means `data` for
            images and volumes, learned from the run's own training examples once and stored in the run, and `identity` for
            everything else.
        sampler, steps, seed: as in `SampleSpec`.
        batch: samples drawn at a time; changes memory, not samples.
        target: the column of a table that trees predict; None for each in turn, at most 8.
    """

    __flat__: ClassVar[bool] = True

    n: int = 1000
    features: str | Path | nn.Module | None = None
    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    batch: int = 256
    target: str | None = None

    @property
    def drawing(self) -> SampleSpec:
        """How the samples are drawn."""
        return SampleSpec(self.sampler, self.steps, seed=self.seed)


@dataclass(frozen=True, eq=False)
class Samples:
    """Drawn samples: in the data's units, `(n, *shape)`, in both spaces of the reference, and what drawing them cost."""

    raw: Tensor
    sets: Sets
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """Metric name -> estimate: on samples, on different real examples, and on real examples drawn independently."""

    samples: dict[str, Estimate]
    floor: dict[str, Estimate]
    independent: dict[str, Estimate]


def measure(
    drawing: Drawing, spec: EvaluateSpec, baseline: Baseline | None, progress: Progress
) -> tuple[QualityReport, Reference, Tensor]:
    """Draw samples of a run and measure them, without a verdict.

    Args:
        drawing: how samples are drawn from the run; of several processes this is the first, and the others `assist`.
        spec: how many, and what measures them.
        baseline: what to compare with.
        progress: called with the fraction done and words.

    Returns:
        The report, the real examples, and the samples in the data's units, `(n, *shape)`.

    Raises:
        ScorefieldError: data that are gone or have changed, too few held-out examples, an extractor that does not suit.
    """
    stages, attempt = _stages(progress, spec.n, drawing.run.kind == "table", baseline), Attempts()
    reference = drawing.world.agreed(lambda: reference_of(drawing.run, spec.features, progress=stages("real")))
    samples = _samples(drawing, spec, reference, stages)
    figures = _figures(reference, samples, spec.n, stages)
    result = None
    if baseline is not None:
        comparing = stages("baseline")
        result = attempt(
            f"comparison with {baseline.name}",
            lambda: compared(baseline, reference, spec.n, figures.samples, comparing),
        )
    attempt.failed += [f"{reference.label(name)}: {why}" for name, why in reference.failed.items()]
    parts = parts_of(drawing.run, reference, samples.raw, samples.sets, drawing.device, spec.target, attempt, stages)
    report = _report(drawing, spec, reference, samples, figures, parts, result, attempt.failed)
    return report, reference, samples.raw


def assist(drawing: Drawing, spec: EvaluateSpec, baseline: Drawing | None) -> None:
    """Draw this process's share of what `measure` draws in the first one."""
    drawing.world.agreed(lambda: None)  # the real examples, which the first process opens and measures
    deque(drawing.batches(spec.n, batch=spec.batch), maxlen=0)
    if baseline is not None:
        with contextlib.suppress(Exception):  # the first process names the fault, and reports the rest
            deque(baseline.batches(spec.n), maxlen=0)


def _stages(progress: Progress, n: int, table: bool, baseline: Baseline | None) -> Stages:
    """Return the stages with about the seconds that each takes."""
    size = n / 1000
    return Stages(
        progress,
        **{"real": 12.0, "draw": 20.0 * size, "look": size, "measure": 2.0 * size, "floor": 8.0},
        **{
            "baseline": 0.0 if baseline is None else 23.0 * size,
            "likelihood": 8.0,
            "score": 6.0,
            "copies": 3.0,
            "table": 5.0 * table,
        },
    )


def _samples(drawing: Drawing, spec: EvaluateSpec, reference: Reference, stages: Stages) -> Samples:
    """Draw samples, put them on the values that data can have, and extract their features."""
    x, evaluations, seconds = draw_timed(stages("draw"), lambda view: drawing.draw(spec.n, batch=spec.batch, view=view))
    raw = reference.on_grid(drawing.run.decode(x))
    asked = evaluations * drawing.spec.times  # of the network
    return Samples(raw, reference.sets(raw, stages("look")), asked, seconds)


def _figures(reference: Reference, samples: Samples, n: int, stages: Stages) -> Figures:
    """Measure samples, and real examples in place of samples."""
    return Figures(reference.figures(samples.sets, progress=stages("measure")), *reference.floors(n, stages("floor")))


def _report(
    drawing: Drawing,
    spec: EvaluateSpec,
    reference: Reference,
    samples: Samples,
    figures: Figures,
    parts: Parts,
    baseline: BaselineResult | None,
    left_out: list[str],
) -> QualityReport:
    """Put everything that was measured into a report."""
    run, extractor = drawing.run, reference.extractor
    return QualityReport(
        run=run.path.name,
        samples=spec.n,
        reference=len(reference.held_out_rows),
        floor_samples=min(spec.n, len(reference.known_rows)),
        sampler=drawing.said,
        levels=len(drawing.ladder),
        evaluations=samples.evaluations,
        seed=spec.seed,
        seconds=samples.seconds,
        extractor={
            "name": extractor.name,
            "hash": extractor.version_hash,
            "features": samples.sets["features"].shape[1],
            "learned": isinstance(extractor, Learned),
            "training_examples": len(reference.known_rows),
        },
        accuracy=parts.classes.accuracy,
        figures=figures.samples,
        floor=figures.floor,
        independent=figures.independent,
        better={name: metric.better for name, metric in reference.metrics.items()},
        labels={name: reference.label(name) for name in figures.samples},
        classes=parts.classes.samples,
        real_classes=parts.classes.held_out,
        memorisation=parts.memorisation,
        likelihood=parts.likelihood,
        diagnosis=parts.diagnosis,
        marginals=parts.marginals,
        real_marginals=parts.real_marginals,
        table=parts.table,
        baseline=baseline,
        verdict=(),
        left_out=tuple(left_out),
        made_from={**run.made_from, "sampling": sampling_id(drawing.sampler, drawing.ladder)},
        written=(),
        processes=drawing.world.size,
    )
