"""Precision: bfloat16 where it is faster on this machine, else float32; float16 where it is asked for.

A training that ends by the clock may choose by the clock: both are timed. One that ends after a number of steps is a function
of its settings, and a stopwatch, whose results vary, must not decide about its weights: there the kind of device decides,
float32 on CPUs and bfloat16 on GPUs that compute in it.

Weights, moments and losses stay float32; the others mean autocast of the network's matrix products. On CPUs with bfloat16 units
it nearly doubles the speed of a U-Net; on those without it is several times slower, so nothing is assumed about CPUs.

float16 has as many bits as bfloat16 but a smaller range: gradients below 6e-8 become zero. So the loss is multiplied by a large
number before the backward pass and the gradient divided by it after; it is halved where something overflows and doubled after
2,000 steps without (Micikevicius et al. 2017, "Mixed precision training", arXiv 1710.03740). For GPUs without bfloat16.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import AbstractContextManager
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.objectives.base import Objective
from scorefield.randomness import SampleRng

Precision = Literal["float32", "bfloat16", "float16"]
ROUNDS = 3
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which the network runs."""
    return torch.autocast(device.type, HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


def scaler_of(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss: by 1, except in float16.

    Raises:
        ScorefieldError: float16 elsewhere than on a GPU.
    """
    if precision == "float16" and device.type != "cuda":
        raise ScorefieldError(
            f"got training.precision=float16 on {device.type}, expected a GPU for it: use bfloat16, float32 or auto there"
        )
    return torch.amp.GradScaler("cuda", enabled=precision == "float16")


def of_device(device: torch.device) -> Precision:
    """Return the precision of a training whose result must not depend on a clock: a function of the kind of device.

    >>> of_device(torch.device("cpu"))
    'float32'
    """
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if able else "float32"


def by_device(device: torch.device) -> tuple[Precision, str]:
    """Return the precision of a training whose length is a number of steps, and the reason."""
    return of_device(device), (
        "the budget is a number of steps, so the kind of device decides and no clock; training.precision chooses another"
    )


def by_stopwatch(
    model: ScoreModel, objective: Objective, batch: Tensor, cond: Tensor | None, limit: float
) -> tuple[Precision, str]:
    """Return the precision of a training that ends by the clock, the faster one on this machine, and the reason."""
    precision, seconds = fastest(model, objective, batch, cond, limit)
    pace = ", ".join(f"{name} {value * 1000:.0f} ms a step" for name, value in seconds.items())
    return precision, (
        f"measured {pace}, which another run may find otherwise" if seconds else "there is no time to measure another"
    )


def fastest(
    model: ScoreModel, objective: Objective, batch: Tensor, cond: Tensor | None, limit: float = math.inf
) -> tuple[Precision, dict[str, float]]:
    """Return the faster precision for a training step on this machine and both medians in seconds.

    The two are timed in turns on a copy of the model; bfloat16 must also give a finite loss. No round is begun after `limit`
    seconds; if none was finished by then it is float32, and there are no medians.
    """
    began = time.perf_counter()
    trial = copy.deepcopy(model).train()
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    usable = True
    for round_ in range(ROUNDS + 1):  # the first round warms up
        if time.perf_counter() - began > limit:
            break
        for precision, record in seconds.items():
            start = time.perf_counter()
            with torch.random.fork_rng(), autocast(precision, batch.device):
                rng = SampleRng(range(len(batch)), device=batch.device)
                loss = objective(trial, batch, cond, rng=rng, learned=trial.learned).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            usable &= precision == "float32" or bool(loss.isfinite())
            if batch.device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                record.append(time.perf_counter() - start)
    if not seconds["bfloat16"]:
        return "float32", {}
    medians: dict[str, float] = {precision: median(record) for precision, record in seconds.items()}
    return ("bfloat16" if usable and medians["bfloat16"] < medians["float32"] else "float32"), medians
