"""The report of a tuning: what was measured of every candidate, what was chosen and why, and a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scorefield import renamed
from scorefield.metrics.base import Estimate
from scorefield.tuning.candidates import named
from scorefield.tuning.choice import CHANCE, critical


@renamed.report
@dataclass(frozen=True)
class Measurement:
    """A way of sampling, measured.

    Attributes:
        sampler, steps, ladder: as in `SampleSpec`; ladder None for the one that suits the sampler.
        levels: of noise.
        evaluations: of what is drawn from, for one sample.
        samples: how many were drawn.
        figure: of those.
        seconds: for 1,000 samples.
        loss: figure less the best one, on the same seeds; None for a candidate that was dropped.
        beaten_by: label of the candidate that beats it, if any.
        recipe: whether it is the recipe's.
        front: whether no cheaper candidate has a better figure.
        chosen: whether it is the run's default now.
    """

    sampler: str
    steps: int
    ladder: str | None
    levels: int
    evaluations: int
    samples: int
    figure: Estimate
    seconds: float
    loss: Estimate | None = None
    beaten_by: str | None = None
    recipe: bool = False
    front: bool = False
    chosen: bool = False

    @property
    def name(self) -> str:
        """Sampler and ladder."""
        return named(self.sampler, self.ladder)

    @property
    def label(self) -> str:
        """Sampler, ladder and evaluations."""
        recipe = ", the recipe's own" if self.recipe else ""
        return f"{self.name}, {self.evaluations} evaluations{recipe}"


@renamed.report
@dataclass(frozen=True)
class TuningReport:
    """Which way of sampling a run is the cheapest that is as good as the best.

    Attributes:
        run: its folder's name.
        figure: name of the figure; lower is better.
        early: name of the figure of dropped candidates.
        features: name and hash of the extractor.
        samples, reference, seed: number of samples and of held-out examples; seed of the samples.
        floor: figure of as many real training examples, drawn independently.
        within: share of the best figure that may be lost.
        measurements: of candidates with all samples, the cheapest first.
        dropped: of candidates that were dropped, with fewer samples.
        left_out: name -> why it could not be measured.
        sentence: what was chosen and why.
        made_from: weights, step, data and version of the figures.
        holds: whether the run still has these weights; where training has gone on, the choice is not used.
        asks: how often an evaluation asks the network, in words; None for once.
        written: the files; none for a run that cannot be written, which then has no new default: see `flags`.
    """

    run: str
    figure: str
    early: str
    features: str
    samples: int
    reference: int
    seed: int
    floor: float
    within: float
    measurements: tuple[Measurement, ...]
    dropped: tuple[Measurement, ...]
    left_out: dict[str, str]
    sentence: str
    made_from: dict[str, Any]
    holds: bool
    asks: str | None = None
    written: tuple[Path, ...] = ()

    @property
    def chosen(self) -> Measurement:
        """The run's default now, where it could be written."""
        return next(one for one in self.measurements if one.chosen)

    @property
    def flags(self) -> str:
        """What to add to `scorefield sample` to draw as was chosen."""
        ladder = f" --ladder {self.chosen.ladder}" if self.chosen.ladder else ""
        return f"--sampler {self.chosen.sampler} --steps {self.chosen.steps}{ladder}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, without the places of its files."""
        return {name: value for name, value in asdict(self).items() if name != "written"}


def sentence_of(figure: str, measurements: Sequence[Measurement], within: float) -> str:
    """Say which candidate was chosen, what it loses, and what it saves.

    Args:
        figure: name of the figure.
        measurements: of candidates with all samples, one of them chosen.
        within: share of the best figure that may be lost.
    """
    chosen = next(one for one in measurements if one.chosen)
    best = min(measurements, key=lambda one: one.figure.value)
    recipe = next((one for one in measurements if one.recipe), None)
    said = f"{chosen.label}, {chosen.seconds:.3g} s for 1,000 samples: {figure} {chosen.figure}, "
    assert chosen.loss is not None
    if chosen.loss.value <= 0:
        said += "the best of all"
    else:
        allowed = "what chance explains" if chosen.loss.value > within * abs(best.figure.value) else f"{within:.0%}"
        said += f"{chosen.loss} above the best ({best.label}, {best.seconds:.3g} s), which is within {allowed}"
    if recipe is not None and not recipe.chosen and recipe.label not in (chosen.label, best.label):
        said += f"; {recipe.label}, takes {recipe.seconds:.3g} s and has {recipe.figure}"
    return said


def tuning_table(report: TuningReport) -> str:
    """Return the report as Markdown."""
    made = report.made_from
    lines = [
        f"# The cheapest way of sampling {report.run}",
        "",
        _outcome(report),
        "",
        f"| sampler | evaluations | s per 1,000 | {report.figure} | above the best | front | beaten by |",
        "|---|---|---|---|---|---|---|",
        *map(_row, report.measurements),
        "",
        *_method(report),
    ]
    if report.dropped:
        lines += ["", f"Dropped early; evaluations: {report.early} (number of samples):", "", *_dropped(report)]
    if report.left_out:
        lines += ["", "Left out:", "", *(f"- {label}: {why}" for label, why in report.left_out.items())]
    lines += ["", f"Of the weights of step {made['step']}, sha256 {str(made['model_sha256'])[:12]}."]
    return "\n".join(lines) + "\n"


def _outcome(report: TuningReport) -> str:
    """Say what follows for the run."""
    if not report.holds:
        step = report.made_from["step"]
        return f"Training has gone on meanwhile, so the run must be tuned again; of step {step} it is {report.sentence}."
    if not report.written:
        return f"The run cannot be written; scorefield sample {report.flags} draws by {report.sentence}."
    return f"The default is now {report.sentence}."


def _row(one: Measurement) -> str:
    """Return the line of a candidate."""
    recipe = ", the recipe's own" if one.recipe else ""
    front = "**chosen**" if one.chosen else "yes" if one.front else ""
    return (
        f"| {one.name}{recipe} | {one.evaluations} | {one.seconds:.3g} | {one.figure} | {one.loss} "
        f"| {front} | {one.beaten_by or ''} |"
    )


def _method(report: TuningReport) -> list[str]:
    """Say how the candidates were compared."""
    count = len(report.measurements)
    return [
        f"{report.samples:,} samples from each, on the same seeds ({report.seed}), against {report.reference:,} held-out "
        f"examples; features: {report.features}.",
        f"As many real training examples, drawn independently, score {report.floor:.3g}. A candidate is beaten by another",
        f"whose figure is lower by more than {report.within:.0%} and by more than {critical(count):.1f} standard errors of the",
        f"difference, which the shared seeds make small: among {count} candidates the best of all counts as beaten in at most",
        f"{CHANCE:.0%} of cases. Chosen is the cheapest on the front that is not beaten. Seconds are evaluations times the",
        "median time of one; a sampler's own computations count in steps of a quarter, for less is noise of the clock.",
        *([f"In this run {report.asks}."] if report.asks else []),
    ]


def _dropped(report: TuningReport) -> list[str]:
    """Return a line for each sampler and ladder whose candidates were dropped."""
    lines = []
    for name in dict.fromkeys(one.name for one in report.dropped):
        these = sorted((one for one in report.dropped if one.name == name), key=lambda one: one.evaluations)
        counts = (f"{one.evaluations}: {one.figure.value:.3g} ({one.samples})" for one in these)
        lines.append(f"- {name} - {', '.join(counts)}")
    return lines
