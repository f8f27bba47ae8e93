"""Specs: what a person asks of a verb, as plain values. The verbs, the command and the page take the same ones.

A spec is a frozen dataclass with `__flat__`: a verb takes its fields as keywords, too, and the command as flags. It is
checked where it is used. This module imports nothing slow, so that the command can show its help at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from scorefield.errors import ScorefieldError


@dataclass(frozen=True)
class SampleSpec:
    """How samples are drawn. What is None is the run's own; if sampler, steps and ladder all are, what `tune` chose is used.

    Attributes:
        sampler: abm, heun, annealed, ... (see `scorefield list sampler`); default what scorefield tune chose, else the run's
            own.
        steps: About how many sampling steps; default the sampler's own number.
        ladder: Which noise levels (see `scorefield list ladder`), or optimised: chosen for this run, at the cost of 64
            evaluations of a batch; default what suits the sampler.
        temperature: Below 1 for likelier samples, above 1 for more varied ones; wants Langevin steps (annealed,
            predictor-corrector).
        label: Only this class, of a run that learned from labelled data; default classes as often as in the data.
        guidance: Above 1 for samples more typical of their class, of a run that learned from labelled data: the score (1 - g) x
            that of all data + g x that of the class. 1 is none; papers that write w = g - 1 call that 0.
        autoguidance: Above 1 to lead away from what the run was like early in its training, with or without classes; 1 is none,
            and draws from the field itself. Default the run's own, where neither guidance nor a temperature is asked for.
        guidance_interval: Guide between these noise levels only, sigma/alpha from LOW to HIGH, at one evaluation outside;
            default everywhere.
        clip_denoised: Keep the denoised sample of every evaluation in the legal range of the data; default the run's own
            (`clipped` in its config): yes of one that was imported from a pipeline with clip_sample, else no.
        given: Only rows with this value in a column, as COLUMN=VALUE, of a run that learned from a table; may be repeated. The
            other columns are drawn given these.
        seed: Of the whole set; sample i is number i of it. The same seed gives the same bytes.
    """

    __flat__: ClassVar[bool] = True

    sampler: str | None = None
    steps: int | None = None
    ladder: str | None = None
    temperature: float = 1.0
    label: str | int | None = None
    guidance: float = 1.0
    autoguidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    clip_denoised: Literal["yes", "no"] | None = None
    given: tuple[str, ...] | Mapping[str, Any] = ()
    seed: int = 0

    @property
    def as_it_is(self) -> bool:
        """Whether the run's own field is drawn from: at temperature 1, without guidance, not clipped."""
        return self.temperature == self.guidance == 1 and self.autoguidance in (None, 1) and self.clip_denoised != "yes"

    @property
    def times(self) -> int:
        """How often an evaluation asks the network, where it is guided."""
        return (1 + (self.guidance != 1)) * (1 + (self.autoguidance not in (None, 1)))

    @property
    def asks(self) -> str | None:
        """How often an evaluation asks the network, in words; None for once."""
        strengths = {"guidance": self.guidance, "autoguidance": 1 if self.autoguidance is None else self.autoguidance}
        named = " and ".join(f"{name} {strength:g}" for name, strength in strengths.items() if strength != 1)
        outside = ", and once outside the interval" if self.guidance_interval is not None else ""
        return f"with {named} an evaluation asks the network {self.times} times{outside}" if named else None


@dataclass(frozen=True)
class RestoreSpec:
    """How what was measured is restored.

    Attributes:
        noise: Standard deviation of the noise in the file, in its own units (grey levels of an 8-bit image, 0 to 255), or
            auto: estimated from the file; default auto, where that can be, else that of rounding to 8 bits.
        samples: How many answers are drawn for each file, of which the mean and the standard deviation are written, too.
        method: auto, or one of `scorefield list posterior`.
        simulate: The file is intact: damage it by the operator and the noise first, and keep it as the reference.
        label: The class of what was measured, of a run that learned from labelled data; default unknown.
        seed: Of the samples, and of simulated noise. The same seed gives the same bytes.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    noise: str | float | None = None
    samples: int = 8
    method: str = "auto"
    simulate: bool = False
    label: str | int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class DenoiseSpec:
    """How noisy files are denoised.

    Attributes:
        sigma: Standard deviation of the noise in the units of the file (grey levels of an 8-bit image, 0 to 255), a share of
            its legal range such as 10%, or auto: estimated from the file.
        samples: How many samples of what the file may have been are drawn, beside their mean and its standard deviation.
        label: The class of what is in the files, of a run that learned from labelled data; default unknown.
        seed: Of samples, probes and chains. The same seed gives the same bytes.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    sigma: str | float = "auto"
    samples: int = 4
    label: str | int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class InterpolateSpec:
    """How frames between two samples are made.

    Attributes:
        frames: How many, with both ends.
        label: The class of all frames, of a run that learned from labelled data; default all classes.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    frames: int = 9
    label: str | int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class ImputeSpec:
    """How the holes of a table are filled.

    Attributes:
        draws: How many completed tables, below each other in one file with their number in a column; 1 for one table with the
            median of each cell, of texts the likeliest.
        seed: Of the draws. The same seed gives the same bytes.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    draws: int = 20
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class OddSpec:
    """How odd rows, or files, are found.

    Attributes:
        rate: Of false alarms: the share of rows like those of the run that may be called odd, as 0.01 or 1%.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    rate: str | float = 0.01
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class DistillSpec:
    """How a generator is made of a run.

    Attributes:
        evaluations: In how many evaluations of the network the generator draws a sample: 1, 2 or 4.
        seconds: Distil at most this long, but for one step; with neither this nor `steps`, 300.
        steps: At most this many steps of regression, then of matching. With these alone no clock decides: the same seed and
            steps give the same weights, to the last bit on the same machine with the same number of threads (OMP_NUM_THREADS).
        seed: Of the noise. It begins with the run's own weights.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    evaluations: Literal[1, 2, 4] = 1
    seconds: float | None = None
    steps: int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class ComputeSpec:
    """Where the work is done, and how much of it at a time. Neither changes what comes out but for rounding.

    Attributes:
        batch: How many at a time; changes memory, not samples.
        device: Where to compute.
    """

    __flat__: ClassVar[bool] = True

    batch: int = 256
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class TrainSpec:
    """What a person asks of a training; the recipe chooses the rest.

    >>> TrainSpec(steps=100, size=(48, 64), flip=True, settings=("training.batch=64",)).changes
    ('data.size=48,64', 'data.flip=true', 'training.batch=64')

    Attributes:
        seconds: Train at most this long, but for one step; with neither this nor `steps`, 180, and small tables fewer steps.
        steps: Train at most this many steps. With these alone no clock decides: the same seed and steps give the same weights,
            to the last bit on the same machine with the same number of threads (OMP_NUM_THREADS).
        recipe: What chooses everything else.
        settings: Change one setting of the run, as dotted.key=value; may be repeated. Keys are those of the run's config.json.
        seed: Of weights, data order and noise; default 0, or the run's own when it goes on.
        size: Images: side, or (height, width), in pixels; default: theirs if all have one, else chosen from the data.
        fit: Images of another shape: keep the centre (crop, the default), keep everything (pad), or give up the aspect ratio.
        flip: Images: show training each one mirrored left to right half of the time.
    """

    __flat__: ClassVar[bool] = True

    seconds: float | None = None
    steps: int | None = None
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    seed: int | None = None
    size: int | tuple[int, int] | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    flip: bool = False

    @property
    def changes(self) -> tuple[str, ...]:
        """All changes to the recipe's choices, as settings; `settings` come last, for of two for one key the later holds."""
        side = self.size if self.size is None or isinstance(self.size, int) else ",".join(map(str, self.size))
        return (
            *(() if side is None else (f"data.size={side}",)),
            *(() if self.fit is None else (f"data.fit={self.fit}",)),
            *(("data.flip=true",) if self.flip else ()),
            *self.settings,
        )


@dataclass(frozen=True)
class NoiseLevelSpec:
    """A noise level, by one of its numbers; the others follow from it.

    Attributes:
        t: The time of the process.
        sigma: The standard deviation of the noise in x_t.
        ratio: sigma/alpha, which EDM and k-diffusion call sigma.
        alpha: The scale of the signal in x_t.
        log_snr: 2·log(alpha/sigma).
        alpha_bar: alpha², DDPM's alpha-bar.
        timestep: DDPM's index, counted from 0, as diffusers counts; of a process that is no chain, the level that it has there.
    """

    __flat__: ClassVar[bool] = True

    t: float | None = None
    sigma: float | None = None
    ratio: float | None = None
    alpha: float | None = None
    log_snr: float | None = None
    alpha_bar: float | None = None
    timestep: float | None = None


@dataclass(frozen=True)
class PointSpec:
    """One number x_t and one view of a prediction there; the other views follow from it.

    Attributes:
        x: x_t itself.
        score: The gradient of log p_t.
        noise: The predicted noise, DDPM's epsilon.
        denoised: The predicted x0, EDM's D.
        v: alpha·noise - sigma·x0.
        flow: noise - x0, the target of flow matching with noise at t = 1.
        velocity: dx/dt of the probability flow.
        energy_gradient: The gradient of the energy, -score.
    """

    __flat__: ClassVar[bool] = True

    x: float | None = None
    score: float | None = None
    noise: float | None = None
    denoised: float | None = None
    v: float | None = None
    flow: float | None = None
    velocity: float | None = None
    energy_gradient: float | None = None


def size_of(text: str) -> int | tuple[int, int]:
    """Read the size of images: a side, or height x width.

    >>> size_of("64"), size_of("48x64")
    (64, (48, 64))
    """
    sides = re.fullmatch(r"([1-9]\d*)(?:\s*[x,]\s*([1-9]\d*))?", text.strip().lower())
    if sides is None:
        raise ScorefieldError(f"got --size {text!r}, expected a side or height x width: write 64 or 48x64")
    height, width = sides.groups()
    return (int(height), int(width)) if width else int(height)


def interval_of(text: str) -> tuple[float, float]:
    """Read an interval of noise levels, LOW,HIGH.

    >>> interval_of("0.2,5"), interval_of("1, inf")
    ((0.2, 5.0), (1.0, inf))
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ScorefieldError(
            f"got --guidance-interval {text!r}, expected two noise levels LOW,HIGH: write them with a comma, as 0.2,5"
        ) from None
    return low, high
