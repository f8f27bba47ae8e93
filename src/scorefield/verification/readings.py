"""Readings: one network, and the ways in which its numbers may be meant.

A network gives y(input, label). A reading says what that is: how data are noised (the process), what the label says, by
what the input is scaled, what y means (the parametrisation), and which numbers stand for a grey level (the map of the data).
It is right or wrong as a whole, and what it is worth can be measured. With the guess n(x_t) = -sigma·score(x_t) of the noise,

    evidence    ½ ∫ (E‖noise - n‖²/d - alpha²·sd²/(alpha²·sd² + sigma²)) dλ,   λ = 2·log(sigma/alpha)

is a bound on the nats a coordinate by which data cost more under the reading than under N(mean, sd²), of which the second term
is the least loss. No other reading of a network gains on the true one but by the network's own errors. Readings with other
processes and other units of the data can be compared: the noise levels are those relative to the data, and units cancel.
All are measured on the same examples with the same noise: differences are certain where the evidences themselves are not.

References: Guo, Shamai, Verdú (2005), "Mutual information and minimum mean-square error in Gaussian channels". Kingma,
Salimans, Poole, Ho (2021), "Variational diffusion models", arXiv 2107.00630.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scorefield.field import Field, ScoreModel
from scorefield.prediction import Denoiser, NoisePrediction, Parametrisation, Prediction, Score, V, Velocity
from scorefield.process import Process
from scorefield.shapes import PerSample, Sample, over, total

BATCHED = 2**18  # numbers in a batch
WORST = 1e6  # of a loss that is not finite: readings are compared, and one such level decides


class _Outputs(nn.Module):
    """Any field as a network: what it put out, of the label t."""

    def __init__(self, field: Field, by_score: bool) -> None:
        super().__init__()
        self.field, self.by_score = field, by_score

    def forward(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Tensor:
        found = self.field(x, t, cond)
        return found.score if self.by_score else found.output


class Turned(nn.Module):
    """A network that gets another label, or whose output is another."""

    def __init__(self, network: nn.Module, label: Callable[[Tensor], Tensor] | None = None, factor: float = 1.0) -> None:
        """Take the network, what becomes of its label, and the factor on its output."""
        super().__init__()
        self.network, self.label, self.factor = network, label, factor

    def forward(self, x: Sample, label: PerSample, cond: Tensor | None = None) -> Tensor:
        """Return the network's output, changed."""
        y: Tensor = self.network(x, label if self.label is None else self.label(label), cond)
        return y if self.factor == 1 else self.factor * y


def same(x0: Sample) -> Sample:
    """Return the data as they are."""
    return x0


@dataclass(frozen=True, eq=False)
class Reading:
    """A network, read in one way.

    Attributes:
        mistake: what is wrong if this one is right and the claimed one is not, in words.
        remedy: what to do then.
        model: the network with what its numbers mean.
        shown: the data as the network knows them, of the data in model space.
        unit: by how much larger their numbers are.
        small: it differs so little from the claimed one that a small gain is worth a word.
    """

    mistake: str
    remedy: str
    model: ScoreModel
    shown: Callable[[Sample], Sample] = same
    unit: float = 1.0
    small: bool = False


def rebuilt(model: ScoreModel, network: nn.Module | None = None, **parts: Any) -> ScoreModel:
    """Return a model with another network, `parametrisation` or `process`; raises `ScorefieldError` where they do not fit."""
    made = ScoreModel(
        network or model.network,
        parts.get("parametrisation", model.parametrisation),
        parts.get("process", model.process),
        model.shape,
        unconditional=model.unconditional,
        takes_unknown=model.takes_unknown,
    )
    made.data_mean, made.data_std = model.data_mean, model.data_std
    return made.eval()


def as_model(field: Field) -> ScoreModel:
    """Return a field as a network with what it claims; of one that is no network, what it puts out is taken for a network's."""
    if type(field) is ScoreModel and not field.takes_given:
        return field
    meaning = _meaning(field)
    network = _Outputs(field, by_score=meaning is None)
    model = ScoreModel(network, meaning or Score(noise_label="t"), field.process, tuple(field.shape))
    model.data_mean, model.data_std = torch.as_tensor(field.data_mean), float(field.data_std)
    return model.eval()


def _meaning(field: Field) -> Parametrisation | None:
    """Return the parametrisation that a field's predictions have; None if it is none of the usual ones."""
    process = field.process
    t = torch.linspace(process.t_min, process.t_max, 3, dtype=torch.float64)
    mean = torch.as_tensor(field.data_mean)
    with torch.no_grad():
        try:
            found: Prediction = field(mean.double().expand(3, *field.shape).clone(), t.to(mean.device))
        except Exception:  # a field that must be given a class, for instance: its score says all that is needed
            return None
    pair = found.a.cpu().double(), found.c.cpu().double()
    for kind in (Score, Denoiser, NoisePrediction, V, Velocity):
        one = kind(noise_label="t")
        if not bool((one.input_scale(process.alpha(t), process.sigma(t)) == 1).all()):
            continue  # a field scales its own input
        if all(
            torch.allclose(a, b, atol=1e-12) for a, b in zip(pair, one.pair(process.alpha(t), process.sigma(t)), strict=True)
        ):
            return one
    return None


def ratios_of(process: Process, t: Tensor) -> Tensor:
    """Return sigma/alpha at times, float64."""
    return (-0.5 * process.log_snr(t.double())).exp()


def times_of(reading: Reading, ratios: Tensor) -> Tensor:
    """Return the times of a reading's process for noise-to-signal ratios in model space, NaN outside its range.

    The times of a chain are whole numbers: of no others does its network know anything for certain.
    """
    process = reading.model.process
    ends = ratios_of(process, torch.tensor([process.t_min, process.t_max], dtype=torch.float64))
    wanted = ratios.double() * reading.unit
    times = process.time_of_sigma(wanted)
    times = times.round() if process.discrete else times
    slack = 1.25 if process.discrete else 1 + 1e-6
    return torch.where((wanted * slack > ends[0]) & (wanted < ends[1] * slack), times, torch.nan)


@dataclass(frozen=True, eq=False)
class Measured:
    """A reading's guesses of the noise.

    Attributes:
        loss: ‖noise - n‖²/d, `(n, levels)`, NaN at levels outside its process.
        least: what the least loss of N(mean, sd²) would be, `(levels,)`.
    """

    loss: Tensor
    least: Tensor


def guess(reading: Reading, x0: Sample, t: PerSample, noise: Sample, cond: Tensor | None) -> tuple[Sample, Sample]:
    """Return the reading's guess of the noise at times t, and x_t, in batches, float64."""
    model, guesses, seen = reading.model, list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(x0), device=x0.device), max(1, BATCHED // x0[0].numel())):
            x = model.process.perturb(reading.shown(x0[rows]), t[rows], noise[rows])
            guesses.append(model(x, t[rows], None if cond is None else cond[rows]).noise)
            seen.append(x)
    return torch.cat(guesses), torch.cat(seen)


def measure(reading: Reading, x0: Sample, ratios: Tensor, noises: Tensor, cond: Tensor | None) -> Measured:
    """Measure a reading at every noise level.

    Args:
        reading: what is measured.
        x0: examples in model space, `(n, *shape)`.
        ratios: sigma/alpha of the levels in model space, descending.
        noises: of every level, `(levels, n, *shape)`, the same for every reading.
        cond: classes of the examples, or None.
    """
    n, d, process = len(x0), x0[0].numel(), reading.model.process
    variance = float(total((x0 - x0.mean(dim=0)) ** 2).mean()) / d * reading.unit**2
    times = times_of(reading, ratios)
    known = (~times.isnan()).nonzero().flatten()
    loss = torch.full((n, len(ratios)), torch.nan, dtype=torch.float64)
    if len(known):
        rows, noise = torch.arange(n).repeat(len(known)), noises[known.to(noises.device)].flatten(0, 1)
        t = times[known].repeat_interleave(n).to(x0.device)
        found, _ = guess(reading, x0[rows], t, noise, None if cond is None else cond[rows])
        off = total((noise - found) ** 2) / d
        loss[:, known] = off.nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST).cpu().reshape(-1, n).mT
    alpha, sigma = process.alpha(times), process.sigma(times)
    return Measured(loss, alpha**2 * variance / (alpha**2 * variance + sigma**2))


def widths(ratios: Tensor) -> Tensor:
    """Return the width in λ = 2·log(sigma/alpha) that each of some descending levels stands for: half of both its gaps."""
    gaps = -2 * ratios.double().log().diff()
    return torch.cat([gaps, gaps.new_zeros(1)]) / 2 + torch.cat([gaps.new_zeros(1), gaps]) / 2


def evidence(measured: Measured, ratios: Tensor, shown: float = 1.0) -> Tensor:
    """Return nats a coordinate by which each example costs more than under N(mean, sd²), `(n,)`, over the levels measured.

    Args:
        measured: the losses.
        ratios: sigma/alpha of the levels.
        shown: those levels are left out at which a guess from mean and variance has no less than this loss.
    """
    known = ~measured.loss.isnan().any(dim=0) & (measured.least < shown)
    return 0.5 * ((measured.loss - measured.least)[:, known] @ widths(ratios)[known])


def gained(claimed: Measured, other: Measured, ratios: Tensor) -> tuple[float, float]:
    """Return by how many nats a coordinate another reading is better than the claimed one, and the standard error of that.

    Levels that one of them lacks are left out; with fewer than half of them nothing is gained.
    """
    known = ~(claimed.loss.isnan().any(dim=0) | other.loss.isnan().any(dim=0))
    if int(known.sum()) * 2 < len(ratios):
        return 0.0, 0.0
    off = [(one.loss - one.least)[:, known] for one in (claimed, other)]
    better = 0.5 * ((off[0] - off[1]) @ widths(ratios)[known])
    return float(better.mean()), float(better.std()) / math.sqrt(len(better))


def axes_swapped(x0: Sample) -> Sample:
    """Return images with height and width exchanged."""
    return x0.transpose(-1, -2)


def scaled_input(model: ScoreModel, x: Sample, t: PerSample) -> Sample:
    """Return x_t as the network sees it."""
    alpha, sigma = model.process.alpha(t), model.process.sigma(t)
    return over(model.parametrisation.input_scale(alpha, sigma), x) * x
