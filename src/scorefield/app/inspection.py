"""Inspect: what a run's folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.app.common import choose_sampler
from scorefield.runs import Run, open_run, read_log


@dataclass(frozen=True)
class InspectReport:
    """What is in a run's folder.

    Attributes:
        run: the opened run.
        sigmas: the noise levels of the run's own ladder, noisiest first.
        quality: what `evaluate` found, or None.
        held_out: the last held-out loss per coordinate, or None.
    """

    run: Run
    sigmas: tuple[float, ...]
    quality: dict[str, Any] | None
    held_out: float | None


def inspect(run: str | Path) -> InspectReport:
    """Open a run's folder and say what it holds."""
    opened = open_run(run)
    _, ladder = choose_sampler(opened, None, None)
    quality = opened.path / "quality.json"
    held_out = None
    log = opened.path / "metrics.jsonl"
    if log.exists():
        for line in read_log(log):
            held_out = line.get("held_out", held_out)
    sigmas = tuple(opened.config.process.sigma(ladder).tolist())
    return InspectReport(opened, sigmas, files.read_json(quality) if quality.exists() else None, held_out)
