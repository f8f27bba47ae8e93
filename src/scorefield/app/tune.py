"""Tune: the cheapest way of sampling a run that is as good as the best, made the run's default.

`scorefield.tuning` measures and chooses; this verb resolves the arguments and writes the choice into the run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from scorefield import files, pictures
from scorefield.config import to_dict
from scorefield.devices import pick_device
from scorefield.drawing import NotWritten, Tuned, trained
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, silent
from scorefield.runs import Run, open_run
from scorefield.tuning.measure import TuneSpec, compare
from scorefield.tuning.report import TuningReport, tuning_table

DEFAULT = TuneSpec()


def tune(
    run: str | Path,
    spec: TuneSpec = DEFAULT,
    *,
    data: Any = None,
    device: str = "auto",
    progress: Progress = silent,
) -> TuningReport:
    """Try samplers at rising numbers of evaluations, and make the cheapest within a stated loss of the best the run's default.

    The choice goes into the run's `sampling.json`, the measurements into `tuning.json`, `.md` and `.png`. For a run that cannot
    be written all of it is in the report, whose `flags` draw as was chosen.

    Args:
        run: the run's folder.
        spec: what is tried, and what may be lost; its fields may be given as keywords: `tune(run, n=512, within=0.02)`.
        data: what the run was trained on, or its place, as `train` takes it; None for the place where it was.
        device: auto, cpu or cuda.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: a distilled run, an unknown sampler, too few samples, data that are gone or have changed, no candidate
            that draws finite samples.
        NotWritten: the report could not be written in the end; the error carries it.
    """
    spec.check()
    opened, where = trained(open_run(run, data)), pick_device(device)
    if opened.evaluations is not None:
        raise ScorefieldError(
            f"got {opened.path}, whose generator draws in {opened.evaluations} evaluations and no others, expected a run "
            f"that is sampled from its score: tune {opened.manifest['distilled']['from']}"
        )
    can_write = files.can_write(opened.path)
    spec.check_samplers()
    report, chosen = compare(opened, spec, where, progress)
    return _write(opened, report, chosen) if can_write else report


def forget_tuning(run: str | Path) -> Path | None:
    """Go back to the recipe's own way of sampling; return the file that was deleted, None where there was none."""
    path = open_run(run).path / "sampling.json"
    if not path.exists():
        return None
    path.unlink()
    return path


def _write(run: Run, report: TuningReport, chosen: Tuned) -> TuningReport:
    """Write the default with what it rests on, or nothing; return the report with the places of its files."""
    plot = _plot(report)
    names = ("sampling.json", "tuning.json", "tuning.md", *(["tuning.png"] if plot else []))
    report = replace(report, written=tuple(run.path / name for name in names))
    default, figures, table, *picture = report.written
    try:
        with files.together():
            files.write_json(default, to_dict(chosen))
            files.write_json(figures, report.to_dict())
            files.write(table, tuning_table(report).encode())
            for path in picture:
                files.write(path, plot)
    except OSError as error:
        raise NotWritten(replace(report, written=()), error) from error
    return report


def _plot(report: TuningReport) -> bytes:
    """Return a plot of figure against time, PNG; empty without matplotlib, or where the figures cannot be drawn."""
    points = [
        (one.label, one.seconds, one.figure.value, one.loss.standard_error if one.loss else 0.0, one.front, one.chosen)
        for one in report.measurements
    ]
    try:
        pareto = pictures.pareto(points, report.floor, report.figure, f"{report.run}: quality against time")
        return pictures.png(pareto, report.made_from)
    except Exception:  # the numbers are there
        return b""
