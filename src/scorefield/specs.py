"""Specs: what a person asks of a verb, as plain values. The verbs, the command and the page take the same ones.

A spec is a frozen dataclass with `__flat__`: a verb takes its fields as keywords, too, and the command as flags. It is
checked where it is used. This module imports nothing slow, so that the command can show its help at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


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
        seed: Of the whole set; sample i is number i of it. The same seed gives the same bytes.
    """

    __flat__: ClassVar[bool] = True

    sampler: str | None = None
    steps: int | None = None
    ladder: str | None = None
    temperature: float = 1.0
    label: str | int | None = None
    seed: int = 0


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
