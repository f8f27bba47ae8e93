"""Inspect: what a run's folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scorefield import files, registry, renamed
from scorefield.config import to_dict
from scorefield.drawing import Tuned, choose_sampler, sampling_id, tuned_of
from scorefield.errors import ScorefieldError
from scorefield.runs import Run, open_run, read_log
from scorefield.samplers import Sampler
from scorefield.specs import SampleSpec

RESULTS = ("quality", "likelihood", "tuning", "levels")  # what the names of files with results begin with


@dataclass(frozen=True)
class InspectReport:
    """What is in a run's folder.

    Attributes:
        run: the opened run.
        sampler: the default sampler.
        sigmas: its noise levels, noisiest first.
        quality: what `evaluate` measured, or None.
        quality_stale: why that is not the quality of the run as it is now, in words; None if it is.
        stale: name of another file with results -> why they are not of the run as it is now.
        held_out: the last held-out loss per coordinate, or None.
        tuned: what `scorefield tune` chose, or None.
        tuned_holds: whether it was chosen for the present weights of the run; if not, the recipe's own sampler is used.
    """

    run: Run
    sampler: Sampler
    sigmas: tuple[float, ...]
    quality: dict[str, Any] | None
    quality_stale: str | None
    stale: dict[str, str]
    held_out: float | None
    tuned: Tuned | None
    tuned_holds: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "config": to_dict(self.run.config),
            "manifest": self.run.manifest,
            "sampler": to_dict(self.sampler, "sampler"),
            "sigmas": self.sigmas,
            "quality": self.quality,
            "quality_stale": self.quality_stale,
            "stale": self.stale,
            "tuned": self.tuned and {**to_dict(self.tuned), "holds": self.tuned_holds},
        }


def inspect(run: str | Path) -> InspectReport:
    """Open a run's folder and say what it holds."""
    opened = open_run(run)
    sampler, ladder = choose_sampler(opened, SampleSpec())
    held_out = None
    log = opened.path / "metrics.jsonl"
    if log.exists():
        for line in read_log(log):
            held_out = line.get("held_out", held_out)
    sigmas = tuple(opened.config.process.sigma(ladder).tolist())
    quality, *others = (opened.path / "quality.json", *sorted(opened.path.glob("*.json")))
    measured, why = _results(opened, quality)
    if measured is not None and why is None and measured["made_from"].get("sampling") not in _ids(sampler, ladder):
        why = f"it is of samples by {measured.get('sampler')} on {measured.get('levels')} levels, not by the run's default now"
    results = [path for path in others if path != quality and path.name.startswith(RESULTS)]
    stale = {path.name: reason for path in results if (reason := _results(opened, path)[1]) is not None}
    return InspectReport(opened, sampler, sigmas, measured, why, stale, held_out, *tuned_of(opened))


def _ids(sampler: Sampler, ladder: Tensor) -> set[str]:
    """Return the hashes of a sampler on its levels under its name, and under the name that older versions knew it by."""
    old = renamed.old_name("sampler", registry.name_of("sampler", sampler))
    return {sampling_id(sampler, ladder), sampling_id(sampler, ladder, old)}


def _results(run: Run, path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return what a file of results holds, and why it is not of the run as it is now; None for both where there is no file."""
    if not path.exists():
        return None, None
    try:
        values = renamed.results(files.read_json(path))
    except ScorefieldError:
        values = None
    return (values, run.stale(values)) if isinstance(values, dict) else (None, "it is damaged")
