"""Odd: the rows of a table that do not belong. `anomaly/` finds them; this verb reads the table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.anomaly.rows import OddRows, odd_rows
from scorefield.app.impute import table_run
from scorefield.data.table.partial import partial_of
from scorefield.devices import pick_device
from scorefield.errors import ScorefieldError
from scorefield.imputation.draws import left_out_of
from scorefield.progress import Progress, silent
from scorefield.specs import OddSpec

DEFAULT = OddSpec()


@dataclass(frozen=True, eq=False)
class OddReport:
    """How odd the rows of a table are.

    Attributes:
        found: of every row: its surprise, its p-value and the columns that make it odd.
        made_from: the run's weights and data.
        written: the file with a line for each row; None where nothing was written.
    """

    found: OddRows
    made_from: dict[str, Any]
    written: Path | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return self.found.notes

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as values of JSON; rows count from 0."""
        return {"made_from": self.made_from, "source": self.found.partial.name, **self.found.to_dict()}


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
    """Find the rows of a table that do not belong, at a rate of false alarms that is kept.

    Of rows like those that the run learned from, at most this share is called odd, whatever was learned: the surprise of a row
    is compared with those of the run's held-out rows.

    Args:
        run: the folder of a run that learned from a table.
        source: a table with the run's columns: a file, a data frame, or columns by name.
        spec: how. Its fields are keywords, too: rate and device.
        data: what the run was trained on, or its place; None for the place where it was.
        out: a .csv with a line for each row; None for none.
        force: a file that is there may be replaced.
        progress: called with the share of the work that is done.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is measured or written.

    >>> app.odd("runs/iris", "measured.csv", rate=0.05).to_dict()["count"]  # doctest: +SKIP
    3
    """
    opened = table_run(run, data)
    rate, place = rate_of(spec.rate), None if out is None else Path(out).expanduser()
    if place is not None:
        if place.suffix.lower() != ".csv":
            raise ScorefieldError(f"got --out {place}, expected a name ending in .csv: choose one")
        files.refuse_existing(place, force)
    partial = partial_of(source, opened.manifest["data"]["columns"], left_out_of(opened))
    found = odd_rows(opened, partial, rate, pick_device(spec.device), progress)
    if place is not None:
        files.write(place, found.csv())
    return OddReport(found, opened.made_from, place)


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
