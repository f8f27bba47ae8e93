"""Limits: how much a page may ask of this machine in one job. The command has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorefield.errors import ScorefieldError

LEARNING = ("train", "distill")  # verbs that make a run, one at a time, and keep what there is when they are stopped
MOST_WAITING = 8  # jobs
MOST_KEPT = 50  # jobs that are done, whose files can be downloaded
MOST_POINTS = 20_000  # positions at which a learned field is asked at once
MOST: Mapping[str, float] = {  # argument -> the largest value
    "n": 20_000,
    "samples": 64,
    "draws": 100,
    "frames": 64,
    "steps": 1_000_000,  # of a training or a distillation; of sampling, see below
    "seconds": 24 * 3600,
    "batch": 4096,
    "levels": 1000,
    "probes": 64,
    "size": 512,
    "seed": 2**63 - 1,
}
MOST_STEPS = 5000  # of sampling


def check(verb: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ScorefieldError` for an argument above what the page may ask for.

    >>> check("sample", {"n": 100_000})
    Traceback (most recent call last):
        ...
    scorefield.errors.ScorefieldError: got n=100000 on the page, expected at most 20,000: ask for less, or use scorefield sample
    """
    for name, value in arguments.items():
        most = MOST_STEPS if name == "steps" and verb not in LEARNING else MOST.get(name)
        numbers = value if isinstance(value, list | tuple) else [value]
        if most is None:
            continue
        for number in numbers:
            if isinstance(number, int | float) and not number <= most:
                raise ScorefieldError(
                    f"got {name}={number} on the page, expected at most {most:,.0f}: ask for less, or use scorefield {verb}"
                )
