"""Tune: the cheapest way of sampling a run that cannot be told from the best.

All ways are measured on the same seeds (`ways.py`), so in a difference of two what the seeds have in common cancels; its
standard error is that of a jackknife which leaves out a twentieth of the seeds, the same of both. Way w is beaten by v if

    figure(w) - figure(v) > max(within·|figure(v)|, c·standard error of that difference)

and chosen is the cheapest way on the front of figure against cost that none beats. There always is one: nothing beats the way
with the best figure. To ask only whether the best beats it would be weaker: the best may be a stochastic sampler, which shares
less with w, and then even a plain loss against a finer ladder of w's own sampler would drown in the error.

w is compared with all k - 1 others, and among many that are equal some differ by chance. c is the point that Student's t with
19 degrees of freedom exceeds with probability 0.05/(k - 1) (Bonferroni: 1.7 for two ways, 3.3 for 30), so that the way that is
truly best is taken for beaten with a probability of at most 5 %, whatever the ways have in common: Hsu's comparison with the
best, each difference with an error of its own.

Reference: Hsu (1984), "Constrained simultaneous confidence intervals for multiple comparisons with the best", Annals of
Statistics 12, 1136-1144.

Cost is evaluations times the time of one. One evaluation takes the same in all samplers but for what they do beside it: a
sampler's pace, its median over all it drew, counts in steps of a quarter, because less is noise of the clock, which must not
choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from scorefield import files, pictures, registry
from scorefield.config import to_dict
from scorefield.drawing import NotWritten, Tuned, pick_device, trained
from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.progress import Progress, Stages, silent
from scorefield.runs import Run, open_run
from scorefield.tuning.halving import GROUPS, Gauge, Trial, affordable, named, race, trials_of

EVALUATIONS = (5, 8, 12, 18, 27, 40)
SAMPLES = {"image": 512}  # of other kinds OTHERS: their figure needs more samples, and their samples cost less
OTHERS = 2048
CHANCE = 0.05  # that the best of all is taken for beaten
LEAST = 64  # samples: an eighth of them must still be some


@dataclass(frozen=True)
class Way:
    """One way of sampling, measured.

    Attributes:
        sampler, steps, ladder: as `sample` takes them; ladder None for the one that suits the sampler.
        levels: of noise.
        evaluations: of the network for one sample.
        samples: how many were drawn.
        figure: of those.
        seconds: for 1,000 samples.
        loss: figure less the best one, on the same seeds; None of a way that was left behind.
        beaten: by which way, if any.
        own: whether it is the recipe's.
        front: whether no cheaper way has a better figure.
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
    beaten: str | None = None
    own: bool = False
    front: bool = False
    chosen: bool = False

    @property
    def label(self) -> str:
        """Name, ladder and evaluations."""
        own = ", the recipe's own" if self.own else ""
        return f"{named(self.sampler, self.ladder)}, {self.evaluations} evaluations{own}"


@dataclass(frozen=True)
class TuningReport:
    """Which way of sampling a run is the cheapest that cannot be told from the best.

    Attributes:
        run: its folder's name.
        figure: name of the figure; lower is better.
        early: name of the figure of those that were left behind.
        features: name and hash of what it looks at.
        samples, reference, seed: how many samples and held-out examples; seed of the samples.
        floor: what as many real training examples score, drawn independently.
        within: share of the best figure that may be lost.
        ways: those measured with all samples, the cheapest first.
        behind: those that were left behind, with what they had scored by then.
        left_out: name -> why it could not be measured.
        sentence: what was chosen and why.
        made_from: weights, step, data and version that were measured.
        holds: whether the weights are still those that were measured; where training has gone on the choice is not used.
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
    ways: tuple[Way, ...]
    behind: tuple[Way, ...]
    left_out: dict[str, str]
    sentence: str
    made_from: dict[str, Any]
    holds: bool
    written: tuple[Path, ...] = ()

    @property
    def chosen(self) -> Way:
        """The run's default now, where it could be written."""
        return next(way for way in self.ways if way.chosen)

    @property
    def flags(self) -> str:
        """What to add to `scorefield sample` for the chosen way."""
        ladder = f" --ladder {self.chosen.ladder}" if self.chosen.ladder else ""
        return f"--sampler {self.chosen.sampler} --steps {self.chosen.steps}{ladder}"


def _front(figures: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Return the places of those that nothing dominates, the cheapest first: each is better than all that cost no more.

    >>> _front([3.0, 1.0, 2.0, 1.5], [5.0, 20.0, 10.0, 20.0])
    [0, 2, 1]
    """
    front = list[int]()
    for i in sorted(range(len(figures)), key=lambda i: (costs[i], figures[i])):
        if not front or figures[i] < figures[front[-1]]:
            front.append(i)
    return front


def _check(n: int | None, evaluations: Sequence[int], within: float) -> None:
    if n is not None and n < LEAST:
        raise ScorefieldError(f"got -n {n}, expected at least {LEAST} samples to tell ways of sampling apart: ask for more")
    if not evaluations or min(evaluations) < 2:
        raise ScorefieldError(f"got evaluations {list(evaluations)}, expected numbers of at least 2: ask for more")
    if not 0 <= within < math.inf:
        raise ScorefieldError(f"got --within {within:g}, expected a share of the best figure, such as 0.05: give 0 or more")


def tune(
    run: str | Path,
    *,
    data: Any = None,
    samplers: Sequence[str] | None = None,
    evaluations: Sequence[int] = EVALUATIONS,
    n: int | None = None,
    within: float = 0.05,
    seconds: float = 180.0,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> TuningReport:
    """Try samplers at rising numbers of evaluations, and make the cheapest within a stated loss of the best the run's default.

    What is chosen goes into the run's `sampling.json`, what was measured into `tuning.json`, `.md` and `.png`. For a run that
    cannot be written all that is in the report, whose `flags` draw as was chosen.

    Args:
        run: the run's folder.
        data: what the run was trained on, or its place, as `train` takes it; None where it was.
        samplers: registered names; None for all that jump from level to level in a declared number of evaluations.
        evaluations: of the network for one sample, at most.
        n: samples from each way that is measured to the end; None for 512 images or 2,048 of anything else, and a half, a
            quarter or an eighth of that where it would take longer than `seconds`.
        within: how much worse than the best figure the chosen one's may be, as a share of it; what chance explains, always.
        seconds: see n.
        seed: of the samples.
        device: auto, cpu or cuda.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: an unknown sampler, too few samples, data that are gone or have changed, nothing that draws finite
            samples.
        NotWritten: what was found could not be written in the end; it is in the error.
    """
    _check(n, evaluations, within)
    opened, where = trained(open_run(run, data)), pick_device(device)
    keep = files.can_write(opened.path)
    for name in samplers or ():
        registry.find("sampler", name)  # refused before the work
    stages, left_out = Stages(progress, reference=10.0, levels=15.0, draw=70.0, compare=5.0), dict[str, str]()
    gauge = Gauge.of(opened, stages("reference"))
    trials = trials_of(opened, samplers, sorted(set(evaluations)), where, left_out, stages("levels"))
    if n is None:
        n = affordable(opened, trials, SAMPLES.get(opened.kind, OTHERS), seconds, where)
    ended, behind, each = race(gauge, trials, n, seed, where, left_out, stages("draw"))
    if not ended:
        raise ScorefieldError(
            f"got finite samples from no way of sampling (the first: {next(iter(left_out.values()), 'none suits')}), expected "
            "some: name others with --samplers, or train the run for longer"
        )
    ways, chosen = _compared(gauge, ended, _costs(ended, behind, each), within, n, stages("compare"))
    paces = _costs(behind, ended, each)
    own = next((way for way in ways if way.own), None)
    report = TuningReport(
        run=opened.path.name,
        figure=gauge.label,
        early=gauge.early_label,
        features=f"{gauge.reference.extractor.name}-{gauge.reference.extractor.version_hash[:8]}",
        samples=n,
        reference=len(gauge.real),
        seed=seed,
        floor=gauge.floor(n),
        within=within,
        ways=tuple(sorted(ways, key=lambda way: (way.seconds, way.figure.value))),
        behind=tuple(_way(trial, 1000 * cost) for trial, cost in zip(behind, paces, strict=True)),
        left_out=left_out,
        sentence=_sentence(gauge.label, ways[chosen], min(ways, key=lambda way: way.figure.value), own, within),
        made_from=opened.made_from,
        holds=open_run(opened.path).made_from == opened.made_from,
    )
    return _written(opened, report, ended[chosen].times) if keep else report


def _costs(trials: list[Trial], others: list[Trial], each: float) -> list[float]:
    """Return the seconds of one sample of each way."""
    paces = dict[str, list[float]]()
    for trial in (*trials, *others):
        paces.setdefault(trial.name, []).extend(trial.pace)
    return [each * trial.evaluations * max(1, round(4 * median(paces[trial.name]))) / 4 for trial in trials]


def _errors(without: Tensor) -> Tensor:
    """Return the standard errors of all differences, `(k, k)`, of figures without each group of seeds, `(k, GROUPS)`."""
    apart = without[:, None] - without[None]
    variance = (apart - apart.mean(dim=2, keepdim=True)).square().sum(dim=2)
    return ((GROUPS - 1) / GROUPS * variance).sqrt()


def _critical(ways: int) -> float:
    """Return c: how many standard errors one of so many ways loses by chance to any other in at most 5 % of cases.

    >>> round(_critical(2), 2), round(_critical(30), 2)
    (1.73, 3.34)
    """
    from scipy.special import stdtrit

    return float(stdtrit(GROUPS - 1, 1 - CHANCE / max(1, ways - 1)))


def _excesses(figures: Tensor, errors: Tensor, within: float) -> Tensor:
    """Return by how much way j beats way i, `(k, k)`: above 0 where more than chance and `within` allow."""
    allowed = torch.maximum(within * figures.abs().expand(len(figures), -1), _critical(len(figures)) * errors)
    return figures[:, None] - figures - allowed


def _compared(
    gauge: Gauge, trials: list[Trial], costs: list[float], within: float, n: int, progress: Progress
) -> tuple[list[Way], int]:
    """Return the ways with what they lose, and the place of the chosen one."""
    figures, without = [trial.figure.value for trial in trials], list[Tensor]()
    for i, trial in enumerate(trials):
        progress(i / len(trials), f"comparing {len(trials)} ways on the same seeds")
        without.append(gauge.without(torch.cat(trial.seen)))
    values = torch.tensor(figures, dtype=torch.float64)
    errors = _errors(torch.stack(without))
    excesses = _excesses(values, errors, within).tolist()

    def loss(i: int, j: int) -> Estimate:
        return Estimate(figures[i] - figures[j], float(errors[i, j]))

    worst = [row.index(max(row)) for row in excesses]
    beaten = [max(row) > 0 for row in excesses]
    front, best = _front(figures, costs), figures.index(min(figures))
    chosen = next(i for i in front if not beaten[i])
    ways = [
        replace(_way(trial, 1000 * cost), loss=loss(i, best)) for i, (trial, cost) in enumerate(zip(trials, costs, strict=True))
    ]
    return [
        replace(way, beaten=ways[worst[i]].label if beaten[i] else None, front=i in front, chosen=i == chosen)
        for i, way in enumerate(ways)
    ], chosen


def _way(trial: Trial, seconds: float) -> Way:
    drawn = sum(len(some) for some in trial.seen)
    how = trial.name, trial.steps, trial.ladder, len(trial.times), trial.evaluations
    return Way(*how, drawn, trial.figure, seconds, own=trial.own)


def _sentence(figure: str, chosen: Way, best: Way, own: Way | None, within: float) -> str:
    """Say what was chosen, what it loses, and what it saves."""
    said = f"{chosen.label}, {chosen.seconds:.3g} s for 1,000 samples: {figure} {chosen.figure}, "
    assert chosen.loss is not None
    if chosen.loss.value <= 0:
        said += "the best of all"
    else:
        allowed = "what chance explains" if chosen.loss.value > within * abs(best.figure.value) else f"{within:.0%}"
        said += f"{chosen.loss} above the best ({best.label}, {best.seconds:.3g} s), which is within {allowed}"
    if own is not None and not own.chosen and own.label not in (chosen.label, best.label):
        said += f"; {own.label}, takes {own.seconds:.3g} s and has {own.figure}"
    return said


def tuning_table(report: TuningReport) -> str:
    """Return the report as Markdown."""
    name, made = report.figure, report.made_from
    told = f"The default is now {report.sentence}."
    if not report.holds:
        told = (
            f"Training has gone on meanwhile, so the run must be tuned again; of step {made['step']} it is {report.sentence}."
        )
    elif not report.written:
        told = f"The run cannot be written; scorefield sample {report.flags} draws by {report.sentence}."
    lines = [
        f"# The cheapest way of sampling {report.run}",
        "",
        told,
        "",
        f"| way | evaluations | s per 1,000 | {name} | above the best | front | beaten by |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in report.ways:
        own = ", the recipe's own" if way.own else ""
        front = "**chosen**" if way.chosen else "yes" if way.front else ""
        lines.append(
            f"| {named(way.sampler, way.ladder)}{own} | {way.evaluations} | {way.seconds:.3g} | {way.figure} | {way.loss} "
            f"| {front} | {way.beaten or ''} |"
        )
    lines += [
        "",
        f"{report.samples:,} samples from each, on the same seeds ({report.seed}), against {report.reference:,} held-out "
        f"ones; features: {report.features}.",
        f"As many real training examples, drawn independently, score {report.floor:.3g}. A way is beaten by one whose",
        f"figure is lower by more than {report.within:.0%} and by more than {_critical(len(report.ways)):.1f} standard errors",
        f"of the difference, which the shared seeds make small: among {len(report.ways)} ways the best of all is taken for",
        f"beaten in at most {CHANCE:.0%} of cases. Chosen is the cheapest on the front that is not beaten. Seconds are",
        "evaluations times the median time of one, with what a sampler does beside it in steps of a quarter: less is noise of",
        "the clock.",
    ]
    if report.behind:
        lines += ["", f"Left behind on the way, evaluations: {report.early} (of so many samples):", ""]
        for kind in dict.fromkeys(named(way.sampler, way.ladder) for way in report.behind):
            these = sorted((way.evaluations, way) for way in report.behind if named(way.sampler, way.ladder) == kind)
            lines.append(f"- {kind} - " + ", ".join(f"{count}: {way.figure.value:.3g} ({way.samples})" for count, way in these))
    if report.left_out:
        lines += ["", "Left out:", "", *(f"- {label}: {why}" for label, why in report.left_out.items())]
    lines += ["", f"Of the weights of step {made['step']}, sha256 {str(made['model_sha256'])[:12]}."]
    return "\n".join(lines) + "\n"


def _written(run: Run, report: TuningReport, times: Tensor) -> TuningReport:
    """Write everything, the default with what it rests on, or nothing."""
    chosen, written = report.chosen, [run.path / name for name in ("sampling.json", "tuning.json", "tuning.md")]
    found = Tuned(
        chosen.sampler,
        chosen.steps,
        chosen.ladder,
        tuple(times.tolist()),
        chosen.evaluations,
        run.manifest["model_sha256"],
        report.sentence,
    )
    try:
        points = [
            (way.label, way.seconds, way.figure.value, way.loss.standard_error if way.loss else 0.0, way.front, way.chosen)
            for way in report.ways
        ]
        pareto = pictures.pareto(points, report.floor, report.figure, f"{report.run}: quality against time")
        plot = pictures.png(pareto, report.made_from)
        written.append(run.path / "tuning.png")
    except Exception:  # no matplotlib, or figures that cannot be drawn: the numbers are there
        plot = b""
    report = replace(report, written=tuple(written))
    values = {key: value for key, value in asdict(report).items() if key != "written"}
    try:
        with files.together():
            files.write_json(written[0], to_dict(found))
            files.write_json(written[1], values)
            files.write(written[2], tuning_table(report).encode())
            if plot:
                files.write(written[3], plot)
    except OSError as error:
        raise NotWritten(replace(report, written=()), error) from error
    return report


def forget_tuning(run: str | Path) -> Path | None:
    """Go back to the recipe's own way of sampling; returns the file that was deleted, None where there was none."""
    path = open_run(run).path / "sampling.json"
    if not path.exists():
        return None
    path.unlink()
    return path
