"""Odd: the rows of a table, or the files of a folder, that do not belong. `anomaly/` finds them; this verb reads and writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scorefield import files, pictures
from scorefield.anomaly.files import OddFiles, odd_files
from scorefield.anomaly.rows import OddRows, odd_rows
from scorefield.answers import Answer, answering, check_place, panel, shown, shown_spread
from scorefield.data.planes import PICTURED
from scorefield.data.table.partial import partial_of
from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.errors import ScorefieldError
from scorefield.imputation.draws import left_out_of
from scorefield.inputs import read_items
from scorefield.progress import Progress, silent
from scorefield.runs import Run, open_run
from scorefield.specs import OddSpec

DEFAULT = OddSpec()
DRAWN = 64  # of the oddest, in one picture


@dataclass(frozen=True, eq=False)
class OddReport:
    """How odd the rows of a table, or files, are.

    Attributes:
        found: of every one: its surprise, its p-value, and the columns or places that make it odd.
        made_from: the run's weights and data.
        written: the file with a line for each, or the folder with it and pictures; None where nothing was written.
    """

    found: OddRows | OddFiles
    made_from: dict[str, Any]
    written: Path | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return self.found.notes

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as values of JSON; rows count from 0."""
        source = self.found.source if isinstance(self.found, OddFiles) else self.found.partial.name
        return {"made_from": self.made_from, "source": source, **self.found.to_dict()}


def odd(
    run: str | Path,
    source: Any,
    spec: OddSpec = DEFAULT,
    *,
    data: Any = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> OddReport:
    """Find the rows of a table, or the images or other files, that do not belong, at a rate of false alarms that is kept.

    Of rows like those that the run learned from, at most this share is called odd, whatever was learned: the surprise of a row
    is compared with those of the run's held-out rows.

    Args:
        run: the folder of a run.
        source: for a run of a table, a table with its columns: a file, a data frame, or columns by name; else a file, a folder
            of files, or an array, of the run's size.
        spec: how. Its fields are keywords, too: rate and device.
        data: what the run was trained on, or its place; None for the place where it was.
        out: a .csv with a line for each; for other runs than those of tables also a new folder, which holds this as odd.csv
            and pictures: the oddest, and of each odd one where it is so; None for none.
        force: what is there of an earlier answer may be replaced.
        progress: called with the share of the work that is done.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is measured or written.

    >>> app.odd("runs/iris", "measured.csv", rate=0.05).to_dict()["count"]  # doctest: +SKIP
    3
    """
    opened, rate = trained(open_run(run, data)), rate_of(spec.rate)
    place = None if out is None else Path(out).expanduser()
    if place is not None:
        _check_out(opened, place, force)
    found: OddRows | OddFiles
    if opened.kind == "table":
        partial = partial_of(source, opened.manifest["data"]["columns"], left_out_of(opened))
        found = odd_rows(opened, partial, rate, pick_device(spec.device), progress)
    else:
        name = str(source) if isinstance(source, str | os.PathLike) else "array"
        found = odd_files(opened, read_items(opened, source), name, rate, pick_device(spec.device), progress)
    report = OddReport(found, opened.made_from, place)
    if place is not None and place.suffix.lower() == ".csv":
        files.write(place, found.csv())
    elif place is not None and isinstance(found, OddFiles):
        with answering(place, "odd", force) as answer:
            answer.values |= report.to_dict()
            _write(opened, answer, found)
    return report


def _check_out(run: Run, place: Path, force: bool) -> None:
    if place.suffix.lower() == ".csv":
        files.refuse_existing(place, force)
    elif run.kind == "table":
        raise ScorefieldError(f"got --out {place}, expected a name ending in .csv: choose one")
    else:
        check_place(place, "odd", force)


def _write(run: Run, answer: Answer, found: OddFiles) -> None:
    """Write a line for each file, and of what can be drawn the oddest, and beside each odd one where it is odd."""
    (answer.folder / "odd.csv").write_bytes(found.csv())
    if run.kind not in PICTURED:
        return
    # the root makes a share of 1 % visible beside one of 10 %; shown_spread draws from black, 0, to white, the largest
    cells = {i: (shown(run, found.items[i].raw), shown_spread(found.maps[i][None].sqrt())[0]) for i in found.order}
    for i in (i for i in found.order if found.odd[i]):
        name, p = found.items[i].name, float(found.found.p_value[i])
        both = panel([(f"{name}, p {p:.2g}", cells[i][0]), ("what is odd, white most", cells[i][1])])
        (answer.folder / f"{name}-odd.png").write_bytes(pictures.png(both, run.made_from))
    images, places = (torch.stack([cells[i][k] for i in found.order[:DRAWN]]) for k in (0, 1))
    both = pictures.beside(pictures.grid(images), pictures.grid(places))
    (answer.folder / "oddest.png").write_bytes(pictures.png(both, run.made_from))


def rate_of(rate: str | float) -> float:
    """Return a share between 0 and 1 that is written as a number or in percent.

    >>> rate_of("1%"), rate_of(0.05), rate_of("0.2")
    (0.01, 0.05, 0.2)
    """
    text = str(rate).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ScorefieldError(f"got --rate {rate}, expected a share between 0 and 1: write 0.01 or 1%")
    return value
