"""Evaluate: how good, how varied and how fast a run's samples are, whether they are copies, and where its score is wrong.

Everything is measured against held-out examples, beside what real examples score in place of the samples: a figure alone says
nothing. `scorefield.evaluation` measures; this verb resolves the arguments and writes the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from scorefield import files, registry
from scorefield.data import Dataset
from scorefield.data.planes import PICTURED, what_is_shown
from scorefield.distribution import join
from scorefield.drawing import Drawing, NotWritten, trained
from scorefield.errors import ScorefieldError
from scorefield.evaluation.baseline import Baseline, baseline_of, is_run
from scorefield.evaluation.html import page, pictures_of
from scorefield.evaluation.measure import EvaluateSpec, assist, measure
from scorefield.evaluation.reference import least
from scorefield.evaluation.report import QualityReport, quality_table
from scorefield.evaluation.table_quality import refuse_target
from scorefield.evaluation.verdict import verdict
from scorefield.pictures import png
from scorefield.progress import Progress, silent
from scorefield.runs import Run, open_run

DEFAULT = EvaluateSpec()


def evaluate(
    run: str | Path,
    spec: EvaluateSpec = DEFAULT,
    *,
    data: Any = None,
    against: str | Path | None = None,
    html: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> QualityReport:
    """Measure samples of a run against its held-out data, beside what real data score, and write the report into the run.

    Under `torchrun` all processes draw the samples together, and all but the first end inside this call.

    Args:
        run: the run's folder. A run that cannot be written is measured all the same; the report is returned and not stored.
        spec: samples and features; its fields may be given as keywords: `evaluate(run, n=500, seed=1)`.
        data: what the run was trained on, or its place, as `train` takes it; None for the place where it was.
        against: another run, or a folder or file of samples, to compare with.
        html: where the page goes; None for the run's own folder.
        force: overwrite `html`.
        device: auto, cpu or cuda.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that are gone or have changed, too few samples or held-out examples, an extractor, a target or a
            baseline that does not suit, a file in the way. Nothing has been drawn then.
        NotWritten: the report could not be written in the end; the error carries it.
    """
    with join(device) as world:
        opened = world.agreed(lambda: _asked(run, data, spec))
        drawing = Drawing.divided(opened, spec.drawing, world)
        paths = world.agreed(lambda: _paths(opened, _stem(spec, drawing), html, force) if world.first else ())
        drawn = world.from_first(lambda: against is not None and is_run(against))  # the others read no samples

        def compared() -> Baseline | None:
            if against is None or not (drawn or world.first):
                return None
            return baseline_of(against, opened, seed=spec.seed, world=world)

        baseline = world.agreed(compared)
        if not world.first:
            assist(drawing, spec, None if baseline is None else baseline.drawing)
            raise SystemExit(0)  # the first process has what this one drew, and measures it
        report, reference, raw = measure(drawing, spec, baseline, progress)
        report = replace(report, verdict=verdict(report), written=paths)
        shown = pictures_of(report, reference, raw)
        if small := shown.get("samples", shown.get("columns")):
            report = replace(report, picture=png(small))
        _write(report, reference.data, shown)
        return report


def _asked(run: str | Path, data: Any, spec: EvaluateSpec) -> Run:
    """Open a run that can be evaluated in this way, or refuse it."""
    opened = trained(open_run(run, data))
    if spec.n < (needed := least()):
        raise ScorefieldError(f"got {spec.n} samples, expected at least {needed}, which the metrics need: raise -n")
    refuse_target(opened, spec.target)
    return opened


def _stem(spec: EvaluateSpec, drawing: Drawing) -> str:
    """Return the name of the files without its ending: "quality" is of the run's own way of sampling alone."""
    if spec.sampler is None and spec.steps is None:
        return "quality"
    return f"quality-{registry.name_of('sampler', drawing.sampler)}-{len(drawing.ladder)}"


def _paths(run: Run, stem: str, html: str | Path | None, force: bool) -> tuple[Path, ...]:
    """Return the places of figures, table and page, the page last.

    A run that cannot be written has no places in it; an `html` that cannot be written is refused.
    """
    inside = tuple(run.path / f"{stem}{ending}" for ending in (".json", ".md", ".html") if files.can_write(run.path))
    if html is None:
        return inside
    target = Path(html).expanduser()
    files.refuse_existing(target, force, option="--html")
    if not target.resolve().parent.is_dir():
        raise ScorefieldError(f"got --html {target} in a folder that does not exist, expected one that does: make it first")
    if target.is_dir() or not files.can_write(target.resolve().parent):
        raise ScorefieldError(f"got --html {target}, where no file can be written, expected one that can: choose another")
    return (*inside[:2], target)


def _write(report: QualityReport, data: Dataset, shown: Mapping[str, Image]) -> None:
    """Write all files of a report, or none; raises `NotWritten` with the report."""
    try:
        with files.together():
            for path in report.written:
                if path.suffix == ".json":
                    files.write_json(path, report.to_dict())
                elif path.suffix == ".md":
                    files.write(path, quality_table(report).encode())
                else:
                    pixels = data.kind in PICTURED
                    files.write(path, page(report, shown, pixels, what_is_shown(data) if pixels else None).encode())
    except OSError as error:
        raise NotWritten(replace(report, written=()), error) from error
