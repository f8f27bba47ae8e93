"""Soundness: is a field the score of its data, and if it is not, which mistake was made?

What must hold at every noise level of a true score is in `calibration.py`. A trained model is not exact, and one that was
trained for a short time is far from it where the noise is small: a tenth of the loss may be recoverable there, with a slope of
0.1, of a model whose samples are good. So a field is not sound

    where sigma/alpha > sd/2 and more than `RECOVERABLE` is recoverable for certain: training removes that in its first steps
    if over those levels its evidence is positive for certain: it knows less than the mean and the variance of the data
    if another reading of the same network (`mistakes.py`) is better for certain, by more than `NATS` and by more than half of
    what is recoverable over all levels: that names the mistake
    if its network does not follow the noise level (`steps.py`), or is wrong far from the data (`unseen.py`)

Which limits honest models keep, and mistakes do not, was measured (docs/guides/soundness.md). A true score is called not sound
with a probability of `FALSE_ALARM` at most, for the first two reasons, which need a certain deviation.

Without data the run's own samples are taken for them, since a field that samples its own density is calibrated on it. That a
field agrees with itself does not say that it is right: then it cannot be said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field, ScoreModel
from scorefield.levels import geometric
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.shapes import Sample, check_rows, flat
from scorefield.verification import mistakes
from scorefield.verification.calibration import TESTS, Level, calibrate, critical_of, factor_of
from scorefield.verification.readings import Measured, Reading, as_model, evidence, gained, measure, ratios_of, widths
from scorefield.verification.steps import steps_of
from scorefield.verification.unseen import far_slope

LEVELS = 12
NUMBERS, MOST, LEAST = 2**16, 1024, 64  # in all examples that are measured; examples
FEWER, LESS = 2**12, 16  # numbers and examples of which other readings are measured: differences are certain with few
FEWEST = 10  # examples from which anything is said
RECOVERABLE, SUSPECT = 0.1, 0.03  # of the noise's variance: what is wrong, and from which other readings are tried
SHOWN = 0.8  # least loss of N(mean, sd²) up to which the noise is not small beside the data: sigma/alpha = sd/2
NATS = 0.02  # a coordinate
CLEAR, ALIKE = 5.0, 3.0  # standard errors from which readings differ, and up to which they cannot be told apart
HALF = 0.5  # of what is recoverable over all levels, which a mistake explains, and another error of a poor network does not
MOSTLY = 0.25  # of what the claimed reading costs more than N(mean, sd²), that may be left
SCALE = 0.05  # factor on the output that is not looked at

Verdict = Literal["sound", "not sound", "cannot say"]


@dataclass(frozen=True)
class Explanation:
    """Another reading of the network that explains the data better.

    Attributes:
        mistake: what is wrong with the claimed one.
        remedy: what to do.
        nats, nats_error: a coordinate, by which it is better.
    """

    mistake: str
    remedy: str
    nats: float
    nats_error: float


@dataclass(frozen=True)
class Soundness:
    """Whether a field is the score of its data.

    Attributes:
        verdict: sound, not sound, or cannot say.
        reasons: sentences.
        levels: the measurements, noisiest first.
        mistakes: what explains them, the best first; several only where they cannot be told apart.
        tried: how many other readings were measured.
        evidence, evidence_error: nats a coordinate by which the data cost more than under a normal distribution.
        examples: how many.
        on: "data", or "samples" of the field itself.
        critical: standard errors from which a deviation is no chance.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    levels: tuple[Level, ...]
    mistakes: tuple[Explanation, ...]
    tried: int
    evidence: float
    evidence_error: float
    examples: int
    on: str
    critical: float

    @property
    def failures(self) -> list[str]:
        """The reasons why it is not sound; empty if it is, or if that cannot be said."""
        return list(self.reasons) if self.verdict == "not sound" else []

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"failures": self.failures}


def examine(
    field: Field,
    data: Tensor,
    labels: Tensor | None = None,
    *,
    drawn: bool = False,
    examples: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Soundness:
    """Say whether a field is sound, and name the mistake where it is not.

    Args:
        field: any field.
        data: examples in model space, `(n, *shape)`, which training did not see; on the device of the field.
        labels: their classes for a conditioned field, int64.
        drawn: they are samples of the field itself, for want of data.
        examples: how many are measured; None for as many as hold 65,536 numbers, from 64 to 1,024.
        seed: of the noise and of the choice of examples.
        progress: called with the share that is done, and words.

    Raises:
        ScorefieldError: examples of another shape, or fewer than two without unknown cells.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([0.0], [[4.0]], VE(0.01, 100.0))
    >>> examine(field, field.sample(SampleRng(range(500)))).verdict
    'sound'
    """
    x0, cond = _chosen(field, data, labels, examples, seed)
    model = as_model(field)
    claimed, times = Reading("", "", model), times_to_measure(model)
    ratios = ratios_of(model.process, times)
    rngs = (SampleRng(range(len(x0)), stream=stream_of("soundness", seed, j), device=x0.device) for j in range(len(times)))
    noises = torch.stack([rng.normal(x0.shape[1:]) for rng in rngs])
    critical = critical_of(TESTS * len(times), len(x0))
    levels, pairs = list[Level](), list[tuple[float, float]]()
    for j, t in enumerate(times.tolist()):
        progress(0.5 * j / len(times), f"noise level {float(ratios[j]):.3g}")
        row, pair = calibrate(claimed, x0, t, noises[j], cond, critical)
        levels.append(row)
        pairs.append(pair)
    few = slice(max(LESS, FEWER // x0[0].numel()))
    part = (x0[few], ratios, noises[:, few], None if cond is None else cond[few])
    base = measure(claimed, *part)
    (cost, error), worse = (_mean(evidence(base, ratios, most)) for most in (1.0, SHOWN))
    lost = worse[0] if worse[0] > max(NATS, CLEAR * worse[1]) else None
    others: Iterable[Reading] = () if drawn else mistakes.slight(model, factor_of(pairs, widths(ratios)), SCALE)
    if not drawn and (lost is not None or any(row.certain and row.recoverable > SUSPECT for row in levels)):
        others = itertools.chain(others, mistakes.gross(model, x0))
    waste = 0.5 * sum(w * row.recoverable for w, row in zip(widths(ratios).tolist(), levels, strict=True))
    named, hint, tried = _named(base, others, part, waste if math.isfinite(waste) else 0.0, progress)
    own = [steps_of(model, x0[:1], noises[0, :1], None if cond is None else cond[:1], ratios), far_slope(model, cond)]
    wrong = _wrong(levels, lost, drawn)
    reasons = [*wrong, *_explained(named, tried, bool(wrong) and not drawn), *filter(None, own)]
    verdict, why = _verdict(reasons, levels, len(x0), drawn, tried, hint)
    return Soundness(verdict, why, tuple(levels), named, tried, cost, error, len(x0), "samples" if drawn else "data", critical)


def _mean(values: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def times_to_measure(model: ScoreModel, levels: int = LEVELS) -> Tensor:
    """Return descending times at which a field claims to be right: those that its training visited, if there are few of them.

    Of a chain the first steps are among them: there a step is most of the noise, and a label that is off by one shows.
    """
    process, label = model.process, model.parametrisation.noise_label
    if process.t_max == process.t_min:
        return geometric(process, 1)
    if isinstance(label, int):
        every = geometric(process, label)
        return every[torch.linspace(0, label - 1, min(label, levels)).round().long()]
    if process.discrete:
        first = process.t_min + torch.tensor([0.0, 1.0, 2.0, 4.0, 7.0], dtype=torch.float64)
        whole = {*geometric(process, levels).round().tolist(), *first.clamp(max=process.t_max).tolist()}
        return torch.tensor(sorted(whole, reverse=True), dtype=torch.float64)
    return geometric(process, levels)


def _chosen(field: Field, data: Tensor, labels: Tensor | None, examples: int | None, seed: int) -> tuple[Sample, Tensor | None]:
    """Choose the examples to measure, of those without unknown cells."""
    if tuple(data.shape[1:]) != tuple(field.shape):
        raise ScorefieldError(
            f"got examples of shape {tuple(data.shape[1:])}, expected the field's own {tuple(field.shape)}: "
            "give such, in model space"
        )
    check_rows(len(data), cond=labels)
    whole = ~flat(data).isnan().any(dim=1)
    data, labels = data[whole], None if labels is None else labels[whole]
    if len(data) < 2:
        raise ScorefieldError(f"got {len(data)} examples without unknown cells, expected at least 2: give more")
    rows = subsample(len(data), examples or max(LEAST, min(MOST, NUMBERS // data[0].numel())), seed).to(data.device)
    return data[rows].double(), None if labels is None else labels[rows]


def _named(
    base: Measured, others: Iterable[Reading], part: tuple[Any, ...], recoverable: float, progress: Progress
) -> tuple[tuple[Explanation, ...], Explanation | None, int]:
    """Return the best of other readings that are better, with those that cannot be told from it; a hint; and how many.

    `recoverable` is what a correction by a straight line gains over all levels, in nats a coordinate: a network that learned
    little gains something by many a small change, but by none as much. The best of the small changes that gain less is a hint.
    """
    found, hints, tried = list[tuple[Explanation, Measured]](), list[Explanation](), 0
    cost = float(evidence(base, part[1]).mean())
    for tried, other in enumerate(others, 1):
        progress(min(0.99, 0.5 + 0.01 * tried), "other readings of the network")
        try:
            measured = measure(other, *part)
        except (ScorefieldError, IndexError):  # a process, or a label, that the network does not take
            continue
        nats, error = gained(base, measured, part[1])
        left = float(evidence(measured, part[1]).mean())
        if nats < max(NATS / 10, CLEAR * error):
            continue
        if nats < max(NATS, HALF * recoverable):
            hints += [Explanation(other.mistake, other.remedy, nats, error)] * other.small
        elif left < max(0.0, MOSTLY * cost):
            found.append((Explanation(other.mistake, other.remedy, nats, error), measured))
    hint = max(hints, key=lambda one: one.nats, default=None)
    if not found:
        return (), hint, tried
    first, best = found[0]
    for one, measured in found[1:]:  # on the levels that both have
        if gained(best, measured, part[1])[0] > 0:
            first, best = one, measured
    near = {first.mistake: first}
    for one, measured in found:
        behind, error = gained(measured, best, part[1])
        if 1e-9 * first.nats < behind < max(ALIKE * error, NATS / 4):  # not another name for the same numbers
            near.setdefault(one.mistake, one)
    return tuple(near.values())[:3], hint, tried


def _wrong(levels: Sequence[Level], lost: float | None, drawn: bool) -> list[str]:
    """Return what is wrong at noise levels and over all of them, in words."""
    reasons, what = list[str](), "its own samples" if drawn else "the data"
    bad = [row for row in levels if row.certain and row.recoverable > RECOVERABLE and row.least < SHOWN]
    if broken := [row for row in levels if not math.isfinite(row.loss)]:
        reasons.append(f"its score is not a finite number at noise level {broken[0].noise:.3g} (t = {broken[0].t:g})")
    elif bad:
        worst = max(bad, key=lambda row: row.recoverable)
        more = f", and at {len(bad) - 1} more" if len(bad) > 1 else ""
        reasons.append(
            f"it is not the score of {what} at noise level {worst.noise:.3g} (t = {worst.t:g}){more}: the slope of the noise "
            f"on its guess of it is {worst.slope:.3g} ± {worst.slope_error:.1g} and not 1, and a linear correction by its "
            f"input removes {min(1.0, worst.recoverable / worst.loss):.0%} of the loss"
        )
    if lost is not None:
        reasons.append(
            f"{what} cost {lost:.3g} nats a coordinate more under it than under a normal distribution with their mean and "
            "variance"
        )
    if reasons and drawn:
        reasons[-1] += "; which mistake that is shows with --data"
    return reasons


def _explained(named: Sequence[Explanation], tried: int, wrong: bool) -> list[str]:
    """Return the mistake, in words, or that what is wrong is none of those that are known."""
    each = (f"{one.mistake} (the data cost {one.nats:.3g} nats a coordinate less): {one.remedy}" for one in named)
    if named:
        return [" or ".join(each)]
    return (
        [f"none of {tried} other readings of the network explains that: train longer, or look for two mistakes"]
        if wrong
        else []
    )


def _verdict(
    reasons: list[str], levels: Sequence[Level], examples: int, drawn: bool, tried: int, hint: Explanation | None
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict with its reasons."""
    if reasons:
        return "not sound", tuple(reasons)
    if drawn:
        return "cannot say", (
            "no mistake shows in the field itself or in its own samples; whether it is the score of your data nobody can say "
            "without them: give --data",
        )
    if examples < FEWEST:
        return "cannot say", (f"{examples} examples are too few, at least {FEWEST} are needed: give more",)
    others = f", and none of {tried} other readings of the network explains them better" if tried else ""
    right = f"on {examples} examples no mistake shows{others}"
    poor = [row.noise for row in levels if row.certain and row.recoverable > SUSPECT and row.least >= SHOWN]
    notes = [f"below a noise level of {max(poor):.2g} it has learned little: train longer for detail"] if poor else []
    if hint:
        notes.append(
            f"another reading costs {hint.nats:.2g} nats a coordinate less, as training may leave: {hint.mistake}; to "
            f"be sure, {hint.remedy} and compare samples"
        )
    return "sound", (right, *notes)
