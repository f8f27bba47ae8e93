"""Rows of a table that do not belong, by a run on a table with the same columns: read, measured, and named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.anomaly.detector import UNSEEN, Detector, Oddness
from scorefield.anomaly.verdicts import csv_lines, is_odd, notes_on, verdicts
from scorefield.data.table.columns import Column, width
from scorefield.data.table.partial import Partial, within_reach, without_values
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import subsample
from scorefield.runs import Run


@dataclass(frozen=True, eq=False)
class OddRows:
    """How odd the rows of a table are.

    Attributes:
        partial: the table.
        found: of its rows.
        rate: of false alarms.
        held_out: rows by which p-values were found: the smallest is 1/(held_out + 1).
        shares: of each column in what makes a row odd, `(n, columns)`, sum 1.
        notes: what a person should know.
    """

    partial: Partial
    found: Oddness
    rate: float
    held_out: int
    shares: Tensor
    notes: tuple[str, ...]

    @property
    def odd(self) -> list[bool]:
        """Whether each row is called odd."""
        return is_odd(self.found, self.rate)

    def to_dict(self) -> dict[str, Any]:
        """Return every row as values of JSON, in the order of the table; rows count from 0."""
        names, lines, rows = [column["name"] for column in self.partial.columns], self.partial.lines, []
        for row, (verdict, shares) in enumerate(zip(verdicts(self.found, self.rate), self.shares.tolist(), strict=True)):
            columns = [{"name": names[i], "share": shares[i]} for i in sorted(range(len(names)), key=lambda i: -shares[i])]
            rows.append({"row": row, "line": None if lines is None else lines[row], **verdict, "columns": columns})
        return {
            "rate": self.rate,
            "held_out": self.held_out,
            "count": sum(self.odd),
            "columns": names,
            "rows": rows,
            "notes": list(self.notes),
        }

    def csv(self) -> bytes:
        """Return a line for each row of the table, with the column that says most."""
        rows = self.to_dict()["rows"]
        for row in rows:
            first, _ = row.pop("columns")[0], row.pop("voices")
            row |= {"column": first["name"], "share": first["share"]}
        return csv_lines(rows)


def odd_rows(run: Run, partial: Partial, rate: float, device: torch.device, progress: Progress = silent) -> OddRows:
    """Measure how odd the rows of a table are.

    Args:
        run: an opened run of a table, whose data are there.
        partial: the table, in the run's columns; a missing value only where the run's table had some, too.
        rate: share of rows like the run's that may be called odd.
        device: where to compute.
        progress: called with the share of the work that is done.

    Raises:
        ScorefieldError: missing values where the run's table had none, a run without held-out rows, or whose data are gone.
    """
    columns, data = run.manifest["data"]["columns"], run.data
    rows = _whole(partial)

    def standard(raw: Tensor) -> Tensor:
        return run.normaliser.exactly(within_reach(raw.double(), columns))

    stages = Stages(progress, usual=min(len(data.held_out), UNSEEN) + 500, rows=len(rows))
    train = torch.as_tensor(data.train[subsample(len(data.train), 5000)])
    detector = Detector(run.field.to(device), standard(train), standard(torch.as_tensor(data.held_out[:])), stages("usual"))
    found = detector(standard(rows), stages("rows"))
    count = len(detector.unseen)
    return OddRows(partial, found, rate, count, _by_column(found.shares, columns), notes_on(count, rate))


def _whole(partial: Partial) -> Tensor:
    """Return the coordinates of rows of which no value is missing but where that is one of the run's."""
    for column in partial.columns:
        hole = partial.holes[column["name"]]
        if hole.any() and not column["missing"] and width(column):
            row = int(np.flatnonzero(hole)[0])
            where = f"row {row}" if partial.lines is None else f"line {partial.lines[row]}"
            raise ScorefieldError(
                f"got no value in column {column['name']!r} of {partial.name!r}, {where}, expected one, as in the run's table: "
                "fill it with scorefield impute first, or leave the row out"
            )
    return without_values(partial.rows, partial.holes, partial.columns)


def _by_column(shares: Tensor, columns: list[Column]) -> Tensor:
    """Return the shares of columns, `(n, columns)`, sum 1; of several coordinates of a column the one that says most counts."""
    parts = torch.split(shares, [width(column) for column in columns], dim=1)
    most = torch.stack([part.amax(dim=1) if part.shape[1] else part.sum(dim=1) for part in parts], dim=1)
    return most / most.sum(dim=1, keepdim=True)
