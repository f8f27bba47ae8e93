"""Impute: the holes of a table filled. `imputation/` draws the values and writes them; this verb reads the table."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scorefield.app.train import train
from scorefield.data import DataConfig, open_data
from scorefield.data.table.partial import Partial, partial_of
from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.errors import ScorefieldError
from scorefield.imputation.draws import Imputed, columns_in, impute_table, left_out_of
from scorefield.imputation.numbers import SHARE
from scorefield.imputation.output import places_of, save, table_of, to_dict
from scorefield.progress import Progress, Stages, silent
from scorefield.recipes import table_steps
from scorefield.runs import Run, open_run
from scorefield.specs import ImputeSpec, TrainSpec

DEFAULT = ImputeSpec()
MOST_SECONDS = 40.0  # of the training on the table itself
ASIDE, MOST_ASIDE = 150, 0.1  # numbers of the table itself on which intervals are measured, and the largest share of them


@dataclass(frozen=True, eq=False)
class ImputeReport:
    """What was filled, and where it went.

    Attributes:
        imputed: the table, its draws, and what stands in each hole.
        spec: how it was done.
        made_from: the run's weights and data.
        written: the filled table, then the intervals; nothing where nothing was written.
    """

    imputed: Imputed
    spec: ImputeSpec
    made_from: dict[str, Any]
    written: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return self.imputed.notes

    def table(self, draw: int | None = None) -> dict[str, list[Any]]:
        """Return the filled table, name -> n values: of a draw, counted from 0, or with the median or likeliest value."""
        return table_of(self.imputed, draw)

    def to_dict(self) -> dict[str, Any]:
        """Return the holes and what stands in them, as values of JSON; rows count from 0."""
        how = {"seed": self.spec.seed, "draws": self.spec.draws, "interval": SHARE}
        return {"made_from": self.made_from, "source": self.imputed.partial.name, **how, **to_dict(self.imputed)}


def impute(
    run: Any,
    source: Any = None,
    spec: ImputeSpec = DEFAULT,
    *,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
    training: TrainSpec | None = None,
) -> ImputeReport:
    """Fill the holes of a table by draws given what each row knows: multiple imputation.

    What is measured for it on the run's held-out rows is kept in the run's folder, as imputing.json.

    Args:
        run: the folder of a run that learned from a table. Without a source, the table itself: a run is trained on it for
            this, holes and all, and not kept.
        source: a table with the run's columns and with holes: a file, a data frame, or columns by name; one row is enough.
        spec: how. Its fields are keywords, too: draws, seed and device.
        out: a file; None for NAME-filled.csv beside the source, or for nothing of data of Python. A table of text keeps every
            byte but those of its holes. The intervals go into a second file, NAME-intervals.csv.
        force: files that are there may be replaced.
        progress: called with the share of the work that is done.
        training: without a source, how the run is trained; None for what suits the number of rows, 40 s at most.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is drawn or written.

    >>> app.impute("runs/iris", "measured.csv", draws=1).table()["petal width"]  # doctest: +SKIP
    [0.2, 1.4, 2.1]
    """
    if spec.draws < 1:
        raise ScorefieldError(f"got --draws {spec.draws}, expected at least 1: ask for more")
    if source is None:
        return _in_sample(run, spec, out, force, progress, training)
    opened = table_run(run)
    partial = partial_of(source, opened.manifest["data"]["columns"], left_out_of(opened))
    places = places_of(source, partial, out, force)
    return _filled(opened, partial, spec, places, progress)


def _filled(run: Run, partial: Partial, spec: ImputeSpec, places: tuple[Path, ...], progress: Progress) -> ImputeReport:
    """Draw, and write what there is a place for."""
    report = ImputeReport(impute_table(run, partial, spec, pick_device(spec.device), progress), spec, run.made_from, places)
    if places:
        save(report.imputed, spec.draws, places)
    return report


def _in_sample(
    source: Any, spec: ImputeSpec, out: str | Path | None, force: bool, progress: Progress, training: TrainSpec | None
) -> ImputeReport:
    """Train on a table with holes and fill it; what does not fit is refused before the training."""
    data = open_data(source, DataConfig())
    if data.columns is None:
        raise ScorefieldError(f"got {data.name}, of {data.kind}s, expected a table: give one with columns")
    partial = partial_of(source, data.columns, columns_in([issue.where for issue in data.issues if not issue.used]))
    if not any(hole.any() for hole in partial.holes.values()):
        raise ScorefieldError(f"got {partial.name!r} without holes, expected empty cells: there is nothing to fill")
    places = places_of(source, partial, out, force)
    how = training or TrainSpec(steps=table_steps(len(data.train)), seconds=MOST_SECONDS, seed=spec.seed)
    known = sum(int((~hole).sum()) for hole in partial.holes.values() if hole.any())
    aside = f"data.aside={min(MOST_ASIDE, ASIDE / max(known, 1))}"
    stages = Stages(progress, training=4.0, filling=1.0)
    learning = stages("training")

    def view(fraction: float, text: str, event: Any = None) -> None:
        learning(getattr(event, "fraction", fraction), f"training, step {event.step}" if hasattr(event, "step") else text)

    with tempfile.TemporaryDirectory() as folder:
        quiet = replace(how, settings=("training.pictures=0", aside, *how.settings))
        train(source, quiet, out=Path(folder) / "run", device=spec.device, progress=view)
        report = _filled(table_run(Path(folder) / "run", source), partial, spec, places, stages("filling"))
    left = tuple(
        f"{one.where} stays as it is: {one.cause}" for one in data.issues if one.where.startswith("column") and not one.used
    )
    return replace(report, imputed=replace(report.imputed, notes=(*left, *report.notes)))


def table_run(run: str | Path, data: Any = None) -> Run:
    """Return an opened run that learned from a table; `data` as of `open_run`. Raises `ScorefieldError` for another."""
    opened = trained(open_run(run, data))
    if opened.kind != "table":
        raise ScorefieldError(f"got {opened.path}, a run of {opened.kind}s, expected one that learned from a table: choose one")
    return opened
