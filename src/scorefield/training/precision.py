"""Precision: bfloat16 where it is faster on this machine, float32 otherwise, decided by a stopwatch.

Weights, moments and losses stay float32; bfloat16 means autocast of the network's matrix products. On CPUs with bfloat16 units
it nearly doubles the speed of a U-Net; on those without it is several times slower, so nothing is assumed.
"""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.field import ScoreModel
from scorefield.objectives.base import Objective
from scorefield.randomness import Noise

Precision = Literal["float32", "bfloat16"]
ROUNDS = 3


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which the network runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def fastest(model: ScoreModel, objective: Objective, batch: Tensor, cond: Tensor | None) -> tuple[Precision, dict[str, float]]:
    """Return the faster precision for a training step on this machine and both medians in seconds.

    The two are timed in turns on a copy of the model; bfloat16 must also give a finite loss.
    """
    trial = copy.deepcopy(model).train()
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    usable = True
    for round_ in range(ROUNDS + 1):  # the first round warms up
        for precision, record in seconds.items():
            start = time.perf_counter()
            with torch.random.fork_rng(), autocast(precision, batch.device):
                loss = objective(trial, batch, cond, noise=Noise(range(len(batch)), device=batch.device)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            usable &= precision == "float32" or bool(loss.isfinite())
            if batch.device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                record.append(time.perf_counter() - start)
    medians: dict[str, float] = {precision: median(record) for precision, record in seconds.items()}
    return ("bfloat16" if usable and medians["bfloat16"] < medians["float32"] else "float32"), medians
