"""Mistakes: the ways in which the numbers of a trained network are taken for others, each as the reading that would be right.

    output      another factor, a wrong sign; the noise, v, the velocity, the clean data or the score taken for one another
    input       scaled by 1/sqrt(alpha²·sd² + sigma²), or as it is
    label       off by one; in reverse; another number about the noise; in units of a thousandth
    process     another chain of betas, variance that explodes or is preserved
    data        0..1 taken for -1..1, or for numbers of unit variance; black for white, red for blue, height for width

A claim and one mistake are looked for, not several at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from scorefield import registry
from scorefield.config import to_dict
from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.noise_label import Label, noise_label_of
from scorefield.prediction import Denoiser, NoisePrediction, Parametrisation
from scorefield.process import DDPMChain, Process
from scorefield.shapes import Sample
from scorefield.verification.readings import Reading, Turned, axes_swapped, rebuilt

WORDS = {
    "score": "the score",
    "scaled-score": "sigma times the score",
    "noise": "the noise",
    "denoised": "the clean data",
    "v": "v = alpha·noise - sigma·x0",
    "velocity": "the velocity noise - x0",
    "edm": "EDM's mixture of data and noise",
}
SIGNED = ("v", "velocity")  # of which both signs are in use
TIMES = ("t", "step")  # labels that count the steps of a chain
THOUSANDS = (999.0, 1000.0, 1 / 999.0, 1 / 1000.0)


class Mixed(Parametrisation):
    """The meaning of one parametrisation with the input scale of another."""

    def __init__(self, meaning: Parametrisation, scale: Parametrisation, label: Any) -> None:
        """Take both, and the noise label."""
        self.meaning, self.scale, self.noise_label = meaning, scale, label

    def pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.meaning.pair(alpha, sigma)

    def input_scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return self.scale.input_scale(alpha, sigma)


def _built(say: str, remedy: str, make: Callable[[], ScoreModel], **more: Any) -> Iterator[Reading]:
    """Yield a reading, or nothing where its parts do not fit."""
    with suppress(ScorefieldError):
        yield Reading(say, remedy, make(), **more)


def outputs(model: ScoreModel) -> Iterator[Reading]:
    """Yield readings of what the output means and of how the input is scaled."""
    own, name = model.parametrisation, _name(model.parametrisation)
    here = WORDS.get(name, "something else")
    for other, kind in registry.every("parametrisation").items():
        if other == name or other not in WORDS:
            continue
        meaning = kind(**{f.name: model.data_std for f in fields(kind) if f.name == "data_std" and model.data_std > 0})
        say, remedy = f"its output is {WORDS[other]} and is read as {here}", f"set parametrisation={other}"
        yield from _meant(model, say, remedy, Mixed(meaning, own, own.noise_label))
        yield from _meant(model, say, remedy, Mixed(meaning, meaning, own.noise_label))
        if other in SIGNED:
            say, remedy = f"its output is minus {WORDS[other]} and is read as {here}", f"change its sign and {remedy}"
            yield from _meant(model, say, remedy, Mixed(meaning, own, own.noise_label), -1.0)
    plain, unit = NoisePrediction(), Denoiser(max(model.data_std, 1e-6))
    say = "its input is scaled by something else than it should be"
    yield from _meant(model, say, "leave the input as it is", Mixed(own, plain, own.noise_label))
    yield from _meant(model, say, "divide the input by sqrt(alpha²·sd² + sigma²)", Mixed(own, unit, own.noise_label))


def _meant(model: ScoreModel, say: str, remedy: str, meaning: Parametrisation, factor: float = 1.0) -> Iterator[Reading]:
    network = model.network if factor == 1 else Turned(model.network, factor=factor)
    return _built(say, remedy, lambda: rebuilt(model, network, parametrisation=meaning))


def _name(parametrisation: Parametrisation) -> str:
    try:
        return registry.name_of("parametrisation", parametrisation)
    except ScorefieldError:
        return ""


def factor(model: ScoreModel, c: float) -> Iterator[Reading]:
    """Yield the reading that multiplies the output by c."""
    if -2 < c < -0.5:  # of a network that learned little, the factor itself is off by as much
        say, remedy, c = "its output has the wrong sign", "change the sign of the output", -1.0
    else:
        say = f"its output is {abs(1 / c):.3g} times what it should be" + (", with the wrong sign" if c < 0 else "")
        remedy = f"multiply it by {c:.3g}"
    yield from _built(say, remedy, lambda: rebuilt(model, Turned(model.network, factor=c)))


def _span(model: ScoreModel) -> tuple[float, float]:
    """Return the least and the largest noise label of a model."""
    process, kind = model.process, model.parametrisation.noise_label
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    found = noise_label_of(kind, process, ends)
    return float(found.min()), float(found.max())


def shifts(model: ScoreModel) -> Iterator[Reading]:
    """Yield the readings of a label that is off by one: of a chain's times, or of the index of a level."""
    label, process = model.parametrisation.noise_label, model.process
    if not (isinstance(label, int) or (label in TIMES and process.discrete)):
        return
    what, (low, high) = "index of the level" if isinstance(label, int) else "time", _span(model)
    for by, word in ((-1, "large"), (1, "small")):
        least, most = (low, high) if isinstance(label, int) else (max(0.0, low - 1), high)

        def moved(v: Tensor, by: int = by, least: float = least, most: float = most) -> Tensor:
            return (v + by).clamp(least, most)

        say, told = f"the {what} that the network gets is one too {word}", f"give it the {what} {'-' if by < 0 else '+'} 1"
        yield from _relabelled(model, say, told, moved, small=True)


def _relabelled(
    model: ScoreModel, say: str, remedy: str, change: Callable[[Tensor], Tensor], small: bool = False
) -> Iterator[Reading]:
    return _built(say, remedy, lambda: rebuilt(model, Turned(model.network, change)), small=small)


def labels(model: ScoreModel) -> Iterator[Reading]:
    """Yield the readings of another label: in reverse, of another kind, in other units."""
    own, (low, high) = model.parametrisation.noise_label, _span(model)
    what = "index of the level" if isinstance(own, int) else "time" if own in TIMES else "noise label"
    if own != "none" and high > low:
        say = f"the {what} that the network gets runs in reverse"
        yield from _relabelled(model, say, f"tell it {low + high:.4g} minus that", lambda v: low + high - v)
    units = {"log-sigma": (0.25, 4.0, -1.0), "sigma": ()}.get(str(own), THOUSANDS if own in TIMES else ())
    for k in units:
        say = f"the network was trained on {k:.4g} times the {what} that it gets"
        yield from _relabelled(model, say, f"multiply the {what} by {k:.4g}", lambda v, k=k: k * v)  # type: ignore[misc]
    if not isinstance(own, int):
        for kind in get_args(get_args(Label)[0]):
            if kind not in (own, "none"):
                say = f"the network was trained on the noise label {kind!r} and gets {own!r}"
                remedy = f"set parametrisation.noise_label={kind}"
                meaning = Mixed(model.parametrisation, model.parametrisation, kind)
                yield from _built(say, remedy, partial(rebuilt, model, parametrisation=meaning))


def schedules(model: ScoreModel) -> Iterator[Reading]:
    """Yield the readings of other processes with the same range of times."""
    claimed = model.process
    others: list[tuple[str, Process]] = []
    if claimed.discrete:
        steps = int(claimed.t_max)
        chains = (DDPMChain(steps), DDPMChain(steps, kind="cosine"), DDPMChain(steps, 8.5e-4, 0.012, "scaled-linear"))
        for chain in (*chains, DDPMChain(steps, kind="scaled-linear")):
            said = f"ddpm-chain, {chain.kind} betas" + (
                "" if chain.kind == "cosine" else f" {chain.beta_first:g} to {chain.beta_last:g}"
            )
            others.append((said, chain))
    if not claimed.discrete or model.parametrisation.noise_label not in TIMES:
        for name, kind in registry.every("process").items():
            made = kind.example()
            if not made.discrete and made.t_max > made.t_min:
                others.append((name, made))
    now = registry.name_of("process", claimed)
    for said, process in others:
        if process != claimed:
            settings = to_dict(process, "process").items()
            named = (f"process{'' if key == 'name' else '.' + key}={value}" for key, value in settings)
            say = f"its noise is that of {said}, and not of the {now} that it claims"
            yield from _built(say, "set " + " ".join(named), partial(rebuilt, model, process=process))


def units(model: ScoreModel, x0: Sample) -> Iterator[Reading]:
    """Yield the readings of other numbers for the same data."""
    mean, std = float(x0.mean()), float(x0.std())
    maps: dict[tuple[str, str], tuple[float, float]] = {  # (shift, scale) of scale·x + shift
        ("the network knows data from 0 to 1, and is given them from -1 to 1", "map the data to [0, 1]"): (0.5, 0.5),
        ("the network knows data from -1 to 1, and is given them from 0 to 1", "map the data to [-1, 1]"): (-1.0, 2.0),
        ("the network knows data from 0 to 255, and is given them from -1 to 1", "leave the bytes as they are"): (127.5, 127.5),
    }
    if std > 0:
        maps["the network knows data of mean 0 and variance 1", "standardise the data"] = (-mean / std, 1 / std)
    for (say, remedy), (shift, scale) in maps.items():

        def shown(x: Sample, shift: float = shift, scale: float = scale) -> Sample:
            return scale * x + shift

        yield Reading(say, remedy, model, shown, scale)


def symmetries(model: ScoreModel) -> Iterator[Reading]:
    """Yield the readings of images in which something is exchanged."""
    shape = model.shape
    if len(shape) != 3:
        return
    yield Reading("black and white are exchanged", "change the sign of the data", model, lambda x: -x)
    if shape[0] in (3, 4):

        def turned(x: Sample) -> Sample:
            return x[:, [2, 1, 0, *range(3, shape[0])]]

        yield Reading("red and blue are exchanged", "reverse the order of the channels", model, turned)
    if shape[1] == shape[2]:
        yield Reading("height and width are exchanged", "transpose the images", model, axes_swapped)


def slight(model: ScoreModel, c: float, least: float) -> Iterator[Reading]:
    """Yield the readings whose difference may be too small to be seen in the claimed one alone.

    Args:
        model: the network with what it claims.
        c: the factor on its output that explains the noise best.
        least: by how much it must differ from 1.
    """
    if abs(c - 1) > least:
        yield from factor(model, c)
    yield from shifts(model)
    yield from symmetries(model)


def gross(model: ScoreModel, x0: Sample) -> Iterator[Reading]:
    """Yield all other readings."""
    yield from outputs(model)
    yield from labels(model)
    yield from schedules(model)
    yield from units(model, x0)
