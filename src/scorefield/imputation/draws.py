"""Imputation: the holes of a table filled by draws given what each row knows, with an interval for each cell.

    draws         p(missing | known) of each row, by `guidance/conditional.py`, at values that the columns can have
    value         the median of a cell's draws, one of them; of texts and of true and false the one drawn most often
    low, high     hold the true value in 9 of 10 cells: where the run has cells that training did not see, that is measured on
                  these (`settled.py`), and the intervals are widened as it takes

All this holds where it says nothing of a value that it is missing, or nothing more than the known ones of its row say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield import files
from scorefield.conformal import widened
from scorefield.data.table.columns import typed, width
from scorefield.data.table.coordinates import Table, decode
from scorefield.data.table.partial import Partial, within_reach
from scorefield.guidance.conditional import PARTICLES
from scorefield.imputation.numbers import ends_of, legal, numbers_of, units_of
from scorefield.imputation.settled import PAIRS, drawn_of, settled
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run
from scorefield.specs import ImputeSpec

LEAST_DRAWS = 20  # of which the ends of an interval are ranks
FEW = 2.0  # particles that count
ISSUES = "data_issues.json"  # of a run's folder
Holes = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Cell:
    """What stands in a hole: a value, the ends of its interval or None, and the share of the draws that have it or None."""

    value: Any
    low: Any = None
    high: Any = None
    share: float | None = None


@dataclass(frozen=True, eq=False)
class Imputed:
    """A table whose holes are filled.

    Attributes:
        partial: the table as it was.
        rows: numbers of the rows with holes.
        draws: values of these rows, a table for each draw.
        cells: (row, column) -> what stands in the hole.
        effective: smallest effective number of particles of each of these rows, as a share.
        measured: on how many cells, which training did not see, the intervals were measured; 0 where they were not.
        unseen: in how many rows these are.
        widened: by which share of their half width they were widened then.
        notes: what a person should know.
        way: what drew them.
    """

    partial: Partial
    rows: tuple[int, ...]
    draws: tuple[Table, ...]
    cells: Mapping[tuple[int, str], Cell]
    effective: tuple[float, ...]
    measured: int
    unseen: int
    widened: float
    notes: tuple[str, ...]
    way: str = ""

    def values(self, draw: int | None) -> dict[tuple[int, str], Any]:
        """Return what stands in each hole: in a draw, or the value where it is None."""
        if draw is None:
            return {place: cell.value for place, cell in self.cells.items()}
        at = {row: i for i, row in enumerate(self.rows)}
        return {(row, name): self.draws[draw][name][at[row]] for row, name in self.cells}


def left_out_of(run: Run) -> set[str]:
    """Return the columns that the run's table had and that were not learned."""
    path = run.path / ISSUES
    found = files.read_json(path) if path.is_file() else []
    return columns_in([one["where"] for one in found if not one["used"]])


def columns_in(places: Iterable[str]) -> set[str]:
    """Return the columns that issues with data are about, by the places that they name.

    >>> columns_in(["column 'name'", "line 3"])
    {'name'}
    """
    named = [place.removeprefix("column ") for place in places if place.startswith("column ")]
    return {str(ast.literal_eval(name)) for name in named}


def impute_table(run: Run, partial: Partial, spec: ImputeSpec, device: torch.device, progress: Progress = silent) -> Imputed:
    """Fill the holes of a table.

    Args:
        run: an opened run of a table.
        partial: a table in the run's columns.
        spec: how many draws, by which seed. A row has the same draws whatever the other rows are.
        device: where to compute.
        progress: called after every level.

    Raises:
        NotFinite: a field that gives NaN.
    """
    columns, notes = run.manifest["data"]["columns"], _notes(partial, run)
    with_holes = np.any(list(partial.holes.values()), axis=0)
    rows = np.flatnonzero(with_holes)
    if not len(rows):
        return Imputed(partial, (), (), {}, (), 0, 0, 0.0, (*notes, "there are no holes: nothing is filled"))
    holes = {name: hole[rows] for name, hole in partial.holes.items()}
    stages = Stages(progress, measuring=4.0 * PAIRS, filling=len(rows))
    known = settled(run, device, stages("measuring"))
    by, count, unseen = known.widening([name for name, hole in holes.items() if hole.any()])
    count_of_draws = max(spec.draws, LEAST_DRAWS)
    rng = SampleRng(torch.from_numpy(rows), stream=stream_of("impute", spec.seed), device=device)
    drawn, effective = drawn_of(run, partial.rows[rows], count_of_draws, rng, way=known.way, progress=stages("filling"))
    tables = tuple(decode(one, partial.columns) for one in drawn)
    cells: dict[tuple[int, str], Cell] = {}
    for column, (low, high), numbers in zip(columns, _intervals(run, drawn, by), numbers_of(drawn, columns), strict=True):
        name = column["name"]
        for i in map(int, np.flatnonzero(holes[name])):
            values = [table[name][i] for table in tables]
            place = int(rows[i]), name
            if numbers is None:
                value = max(values, key=values.count)  # of equally frequent ones the one that was drawn first
                cells[place] = Cell(value, share=values.count(value) / len(values))
            else:
                middle = numbers[:, i].argsort(stable=True)[(len(values) - 1) // 2]
                cells[place] = Cell(values[int(middle)], typed(float(low[i]), column), typed(float(high[i]), column))
    weak = [int(row) for row, share in zip(rows, effective.tolist(), strict=True) if share * PARTICLES * count_of_draws < FEW]
    if weak:
        notes += (f"of {_listed(weak)} hardly any draw fits what is known: it is unlike all the run has seen",)
    order = sorted(cells, key=lambda place: (place[0], list(partial.holes).index(place[1])))
    return Imputed(
        partial,
        tuple(map(int, rows)),
        tables,
        {place: cells[place] for place in order},
        tuple(effective.tolist()),
        count,
        unseen,
        by,
        (*notes, *([known.said] if known.said else [])),
        known.way.name,
    )


def _intervals(run: Run, drawn: Tensor, by: float) -> list[tuple[Tensor, Tensor]]:
    """Return the ends of each column's intervals, each `(n,)`, at values that it can have."""
    columns, found = run.manifest["data"]["columns"], list[tuple[Tensor, Tensor]]()
    for column, numbers, unit in zip(columns, numbers_of(drawn, columns), units_of(run), strict=True):
        if numbers is None:
            found.append((torch.empty(0), torch.empty(0)))
            continue
        low, high = widened(*ends_of(numbers, column), unit, by)
        found.append((legal(low, column, -1), legal(high, column, 1)))
    return found


def _notes(partial: Partial, run: Run) -> tuple[str, ...]:
    """Return what a person should know of a table before it is filled."""
    notes = list[str]()
    holes = np.stack(list(partial.holes.values()), axis=1)
    if len(empty := np.flatnonzero(holes.all(axis=1))):
        one = f"{_listed(empty.tolist())}: nothing is known there, so what is drawn is a new row"
        notes.append(one)
    for name, hole in partial.holes.items():
        if hole.all() and len(hole) > 1:
            notes.append(f"column {name!r} is empty: it is filled from the others")
    columns = run.manifest["data"]["columns"]
    far, first = (within_reach(partial.rows, columns) != partial.rows) & ~partial.rows.isnan(), 0
    for column in columns:
        if width(column) and bool(far[:, first].any()):
            where = _listed(far[:, first].nonzero().flatten().tolist())
            notes.append(f"column {column['name']!r} is far outside the run's rows in {where}: it counts as less far")
        first += width(column)
    return tuple(notes)


def _listed(rows: list[int]) -> str:
    """Return numbers of rows in words."""
    shown = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    return f"row{'s' * (len(rows) > 1)} {shown}"
