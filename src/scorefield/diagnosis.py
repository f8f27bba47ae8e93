"""Diagnosis: where along the noise levels is a score field right, and what is wrong where it is not?

With x_t = alpha·x0 + sigma·noise and n(x_t) = -sigma·score(x_t), the field's guess of the noise, every level has

    loss            E‖sigma·score + noise‖²/d = E‖noise - n‖²/d, on training and on held-out examples, with the same noise.
                    1 is what knowing nothing gives. The least that is possible is not known, but on the training examples it
                    is: the loss of the memorising optimum, the exact field of the training set itself. A field whose training
                    loss goes from the held-out loss towards it memorises.
    calibration     (E‖sigma·score + noise‖² + E‖sigma·score‖²)/d. The true n is the mean of the noise given x_t, so
                    E‖noise - n‖² = E‖noise‖² - E‖n‖² (Pythagoras), and this is 1, whatever the data. It needs no truth. A score
                    that is c times too long has 1 + 2·c·(c - 1)·E‖n‖²/d. Estimated as 1 + 2·E n·(n - noise)/d, whose mean
                    is the same and whose error is smaller. By lengthening or shortening n the loss could fall by
                    (E n·(n - noise))²/(d·E‖n‖²): `miscalibrated`.
    curl            how far the score is from being a gradient, 0 to 1: no density has a score with curl, though a sampler that
                    follows one may do well (Horvat and Pfister 2024).
    error           E‖sigma·(score - exact score)‖²/d, where an exact field is known.

References: Vincent (2011), "A connection between score matching and denoising autoencoders". Robbins (1956) and Miyasawa (1961)
for n. Horvat, Pfister (2024), "On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion models",
arXiv 2402.03845, for curl.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.exact import GaussianMixture
from scorefield.field import Field
from scorefield.levels import geometric
from scorefield.process import Process
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.samplers import curl
from scorefield.shapes import PerSample, Sample, check_rows, flat, total

LEVELS = 12
EXAMPLES = 512  # of each part
CURLED = 64  # of them for the curl, which takes 16 evaluations
AFFORDABLE = 50_000_000  # numbers in the training set, above which its memorising optimum takes too long
ENTRIES = 2**22  # of a table of distances at a time
BATCH = 256
CLEAR = 5.0  # standard errors that are not chance
NEGLIGIBLE = 0.01  # share of the loss that is not reported
TURNED = 0.05  # curl from which it is reported


@dataclass(frozen=True)
class Diagnosis:
    """The measurements of a field, noisiest level first; every list has one number a level, errors are standard errors.

    Attributes:
        noise: sigma/alpha.
        training, training_error: loss on training examples.
        held_out, held_out_error: loss on held-out examples.
        calibration, calibration_error: on held-out examples; 1 for a true score, above where it is too long.
        miscalibrated: what the right length would take from the held-out loss.
        curl, curl_error: on held-out examples, 0 for a gradient.
        examples: how many training and held-out examples were measured.
        worst: index of the level of the largest error that is certain; None without one.
        sentence: that, in words.
        optimum: loss of the memorising optimum on the same training examples, the least possible; None where it costs too much.
        exact_error: E‖sigma·(score - exact score)‖²/d on held-out examples; None without an exact field.
    """

    noise: list[float]
    training: list[float]
    training_error: list[float]
    held_out: list[float]
    held_out_error: list[float]
    calibration: list[float]
    calibration_error: list[float]
    miscalibrated: list[float]
    curl: list[float]
    curl_error: list[float]
    examples: tuple[int, int]
    worst: int | None
    sentence: str
    optimum: list[float] | None = None
    exact_error: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def diagnose(
    field: Field,
    train: Tensor,
    held_out: Tensor,
    *,
    labels: tuple[Tensor, Tensor] | None = None,
    levels: int | Tensor = LEVELS,
    exact: Field | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Diagnosis:
    """Measure a field level by level.

    Args:
        field: any field, on the device of the examples.
        train: all training examples in model space, `(n, *shape)`; a few of them are measured, the optimum needs all.
        held_out: examples that training never saw, `(m, *shape)`.
        labels: classes of the training and of the held-out examples, int64, for a conditioned field.
        levels: how many, geometric in sigma/alpha over the whole process, or descending times.
        exact: the true field of the data under the same process, if it is known.
        examples: at most so many of each part are measured.
        seed: of the noise and of the choice of examples.

    Raises:
        ScorefieldError: fewer than two examples of a part, examples of another shape than the field's, a level without noise.
        NotFinite: the field is NaN or infinite at a level, which is named.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]], VE(0.01, 100.0))
    >>> found = diagnose(field, field.sample(SampleRng(range(200))), field.sample(SampleRng(range(200, 300))), levels=5)
    >>> found.worst, len(found.curl), max(found.curl) < 1e-6
    (None, 5, True)
    """
    times = _times(field.process, levels)
    seen, unseen = (
        _part(kind, rows, cond, field.shape, examples, seed)
        for kind, rows, cond in zip(("training", "held-out"), (train, held_out), labels or (None, None), strict=True)
    )
    best = _Optimum(train, labels[0] if labels else None, field.process) if train.numel() <= AFFORDABLE else None
    columns = [_level(field, seen, unseen, float(t), best, exact, stream_of("diagnosis", seed, j)) for j, t in enumerate(times)]
    found = {name: [column[name] for column in columns] for name in columns[0]}
    worst, sentence = _worst(found)
    if best is None:
        sentence += f"; the memorising optimum of {train.numel():,} numbers was left out as too costly"
    return Diagnosis(**found, examples=(len(seen.x0), len(unseen.x0)), worst=worst, sentence=sentence)


class _Part(NamedTuple):
    """Examples that are measured, and their conditioning."""

    x0: Sample
    cond: Tensor | None

    def noisy(self, process: Process, t: float, stream: int) -> tuple[Sample, PerSample, Sample]:
        """Return x_t, t and the noise, which depends on the place in the part and not on the part."""
        times = torch.full((len(self.x0),), t, dtype=torch.float64, device=self.x0.device)
        eps = SampleRng(range(len(self.x0)), stream=stream, device=self.x0.device).normal(self.x0.shape[1:])
        return process.perturb(self.x0, times, eps), times, eps


def _part(kind: str, given: Tensor, cond: Tensor | None, shape: tuple[int, ...], examples: int, seed: int) -> _Part:
    """Choose the examples to measure."""
    if len(given) < 2 or tuple(given.shape[1:]) != tuple(shape):
        raise ScorefieldError(
            f"got {len(given)} {kind} examples of shape {tuple(given.shape[1:])}, expected at least 2 of the field's own "
            f"{tuple(shape)}: give more, in model space"
        )
    check_rows(len(given), cond=cond)
    rows = subsample(len(given), examples, seed).to(given.device)
    return _Part(given[rows].double(), None if cond is None else cond[rows])


class _Optimum:
    """The field of the training set itself; with labels, of the examples of each class for itself."""

    def __init__(self, train: Tensor, labels: Tensor | None, process: Process) -> None:
        self.fields = [
            (c, GaussianMixture.empirical(train if c is None else train[labels == c], process))
            for c in ([None] if labels is None else labels.unique().tolist())  # type: ignore[no-untyped-call]
        ]

    def noise(self, x: Sample, t: PerSample, cond: Tensor | None) -> Sample:
        """Return its guess of the noise."""
        guess = torch.empty_like(x)
        for c, field in self.fields:
            rows = torch.arange(len(x), device=x.device)
            rows = rows if cond is None else rows[cond == c]
            batches = (
                torch.split(rows, max(1, ENTRIES // len(field.means))) if len(rows) else ()
            )  # the class has no example here
            for batch in batches:
                guess[batch] = field(x[batch], t[batch]).noise
        return guess


def _times(process: Process, levels: int | Tensor) -> Tensor:
    """Return descending times with noise."""
    times = geometric(process, levels if process.t_max > process.t_min else 1) if isinstance(levels, int) else levels.double()
    if not bool((process.sigma(times) > 0).all()):
        raise ScorefieldError(
            "got a level without noise, expected noise to guess at every level: leave out the times of sigma = 0"
        )
    return times


def _level(
    field: Field, seen: _Part, unseen: _Part, t: float, best: _Optimum | None, exact: Field | None, stream: int
) -> dict[str, float]:
    """Return the numbers of one level."""
    process, size = field.process, flat(seen.x0).shape[1]
    time = torch.tensor(t, dtype=torch.float64)
    numbers = {"noise": float(process.sigma(time) / process.alpha(time))}

    def put(name: str, values: Tensor) -> None:
        if not bool(values.isfinite().all()):
            raise NotFinite(
                f"got NaN or infinity in the {name.replace('_', ' ')} at noise level {numbers['noise']:g} (t = {t:g}), "
                "expected finite numbers: the field is broken there; train longer, with a smaller rate or with clipping"
            )
        numbers[name], numbers[f"{name}_error"] = float(values.mean()), float(values.std()) / math.sqrt(len(values))

    with torch.no_grad():
        x, times, eps = seen.noisy(process, t, stream)
        put("training", total((_guess(field, x, times, seen.cond) - eps) ** 2) / size)
        if best is not None:
            numbers["optimum"] = float(total((best.noise(x, times, seen.cond) - eps) ** 2).mean()) / size
        x, times, eps = unseen.noisy(process, t, stream)
        guess = _guess(field, x, times, unseen.cond)
        put("held_out", total((guess - eps) ** 2) / size)
        if exact is not None:
            numbers["exact_error"] = float(total((guess - exact(x, times).noise) ** 2).mean()) / size
        cross = total(guess * (guess - eps)) / size
        put("calibration", 1 + 2 * cross)
        length = float(total(guess**2).mean()) / size
        numbers["miscalibrated"] = float(cross.mean()) ** 2 / length if length > 0 else 0.0
        few = slice(CURLED)
        probe = SampleRng(range(len(x[few])), stream=stream, draws=1, device=x.device)
        put("curl", curl(field, x[few], times[few], probe, cond=None if unseen.cond is None else unseen.cond[few]))
    return numbers


def _guess(field: Field, x: Sample, t: PerSample, cond: Tensor | None) -> Sample:
    """Return the field's guess of the noise, in batches."""
    batches = torch.split(torch.arange(len(x), device=x.device), BATCH)
    return torch.cat([field(x[rows], t[rows], None if cond is None else cond[rows]).noise for rows in batches])


def _worst(found: dict[str, list[float]]) -> tuple[int | None, str]:
    """Return the level at which most of the loss is known to be needless, and why, in a sentence."""
    reasons: list[tuple[float, int, str]] = []
    for j in range(len(found["noise"])):
        loss, gap = found["held_out"][j], found["held_out"][j] - found["training"][j]
        error = math.hypot(found["held_out_error"][j], found["training_error"][j])
        by_heart = f", where the training set by heart has {found['optimum'][j]:.3g}" if "optimum" in found else ""
        if "exact_error" in found:
            excess = found["exact_error"][j]
            reasons.append((excess, j, f"the loss of {loss:.3g} is {excess:.2g} above that of the exact field"))
            continue
        if gap > CLEAR * error:
            reasons.append(
                (gap, j, f"held-out examples have a loss of {loss:.3g}, training examples {loss - gap:.3g}{by_heart}")
            )
        off = found["calibration"][j] - 1
        if abs(off) > CLEAR * found["calibration_error"][j]:
            way, excess = "long" if off > 0 else "short", found["miscalibrated"][j]
            reasons.append((excess, j, f"the score is too {way}, which costs {excess:.2g} of the loss of {loss:.3g}"))
    reasons = [reason for reason in reasons if reason[0] > NEGLIGIBLE * found["held_out"][reason[1]]]
    worst, sentence = (
        None,
        "no level stands out: "
        + (
            "the field is the exact one"
            if "exact_error" in found
            else "training and held-out loss agree and the score has the right length"
        ),
    )
    if reasons:
        _, worst, why = max(reasons)
        sentence = f"worst at noise level {found['noise'][worst]:.3g}: {why}"
    turned, where = max(zip(found["curl"], found["noise"], strict=True))
    return worst, sentence + (f"; its curl reaches {turned:.2f} at noise level {where:.3g}" if turned > TURNED else "")
