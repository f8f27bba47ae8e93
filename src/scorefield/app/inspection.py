"""Inspect: what a run's folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.app.common import Tuned, choose_sampler, tuned_of
from scorefield.runs import Run, open_run, read_log
from scorefield.samplers import Sampler


@dataclass(frozen=True)
class InspectReport:
    """What is in a run's folder.

    Attributes:
        run: the opened run.
        sampler: what draws from it when nobody names another.
        sigmas: the noise levels that it walks, noisiest first.
        quality: what `evaluate` found, or None.
        held_out: the last held-out loss per coordinate, or None.
        tuned: what `scorefield tune` chose, or None.
        tuned_holds: whether it was chosen for the weights that the run has now; if not, the recipe's own sampler is used.
    """

    run: Run
    sampler: Sampler
    sigmas: tuple[float, ...]
    quality: dict[str, Any] | None
    held_out: float | None
    tuned: Tuned | None
    tuned_holds: bool


def inspect(run: str | Path) -> InspectReport:
    """Open a run's folder and say what it holds."""
    opened = open_run(run)
    sampler, ladder = choose_sampler(opened, None, None)
    quality = opened.path / "quality.json"
    held_out = None
    log = opened.path / "metrics.jsonl"
    if log.exists():
        for line in read_log(log):
            held_out = line.get("held_out", held_out)
    sigmas = tuple(opened.config.process.sigma(ladder).tolist())
    measured = files.read_json(quality) if quality.exists() else None
    return InspectReport(opened, sampler, sigmas, measured, held_out, *tuned_of(opened))
