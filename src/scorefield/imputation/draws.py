"""Imputation: the holes of a table filled by draws given what each row knows, with an interval for each cell.

    draws         p(missing | known) of each row, by `guidance/conditional.py`, at values that the columns can have
    value         the median of a cell's draws, one of them; of texts and of true and false the one drawn most often
    low, high     hold the true value in 9 of 10 cells. Where the run's data are there, that is measured: in rows that training
                  did not see cells are hidden in the patterns of the table's holes, and the intervals widened as it takes

All this holds where it says nothing of a value that it is missing, or nothing more than the known ones of its row say.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield import files
from scorefield.conformal import interval, scores_of, widened, widening
from scorefield.data.table.columns import Column, choices, typed, width
from scorefield.data.table.coordinates import Table, decode, snapped
from scorefield.data.table.partial import Partial, filled_in, opened, within_reach
from scorefield.errors import ScorefieldError
from scorefield.guidance.conditional import PARTICLES, conditional_draws
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run
from scorefield.specs import ImputeSpec

SHARE = 0.9  # of the true values that intervals hold
LEAST_DRAWS = 20  # of which the ends of an interval are ranks
PAIRS = 100  # held-out rows and patterns of holes, on which intervals are measured
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
        measured: on how many held-out cells the intervals were measured; 0 where they were not.
        widened: by which share of their half width they were widened then.
        notes: what a person should know.
    """

    partial: Partial
    rows: tuple[int, ...]
    draws: tuple[Table, ...]
    cells: Mapping[tuple[int, str], Cell]
    effective: tuple[float, ...]
    measured: int
    widened: float
    notes: tuple[str, ...]

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
    named = [one["where"].removeprefix("column ") for one in found if not one["used"] and one["where"].startswith("column ")]
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
        return Imputed(partial, (), (), {}, (), 0, 0.0, (*notes, "there are no holes: nothing is filled"))
    holes = {name: hole[rows] for name, hole in partial.holes.items()}
    stages = Stages(progress, measuring=min(PAIRS, 10 * len(rows)), filling=len(rows))
    by, count, said = _measured(run, holes, spec, device, stages("measuring"))
    count_of_draws = max(spec.draws, LEAST_DRAWS)
    rng = SampleRng(torch.from_numpy(rows), stream=stream_of("impute", spec.seed), device=device)
    drawn, effective = _drawn(run, partial.rows[rows], count_of_draws, rng, stages("filling"))
    tables = tuple(decode(one, partial.columns) for one in drawn)
    cells: dict[tuple[int, str], Cell] = {}
    for column, (low, high), numbers in zip(columns, _intervals(run, drawn, by), _numbers(drawn, columns), strict=True):
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
        by,
        (*notes, *said),
    )


def _drawn(run: Run, raw: Tensor, draws: int, rng: SampleRng, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return draws `(draws, n, d)` of rows `(n, d)` with NaN, at values that are legal, and their effective shares `(n,)`."""
    columns = run.manifest["data"]["columns"]
    shift, scale = run.normaliser.shifts(run.shape), run.normaliser.scales(run.shape)
    known = (within_reach(raw, columns) - shift) / scale
    field = run.field.to(rng.seeds.device)
    found = conditional_draws(field, known.to(rng.seeds.device), draws, rng=rng, progress=progress)
    drawn = [snapped(filled_in(shift + scale * one.cpu(), columns), columns) for one in found.x]
    return torch.stack(drawn), found.effective.cpu()


def _numbers(drawn: Tensor, columns: list[Column]) -> list[Tensor | None]:
    """Return the numbers of each column, `(draws, n)`; None of a column without numbers."""
    found, first = list[Tensor | None](), 0
    for column in columns:
        part, first = drawn[..., first : first + width(column)], first + width(column)
        if "constant" in column or column["type"] in ("category", "boolean"):
            found.append(None)
        elif "atoms" in column:
            kinds = torch.tensor([math.nan if kind is None else kind for kind in choices(column)], dtype=torch.float64)
            which = part[..., 1:].argmax(dim=-1)
            found.append(torch.where(which == 0, part[..., 0], kinds[which]))
        else:
            found.append(part[..., 0])
    return found


def _intervals(run: Run, drawn: Tensor, by: float) -> list[tuple[Tensor, Tensor]]:
    """Return the ends of each column's intervals, each `(n,)`, at values that it can have."""
    columns, found = run.manifest["data"]["columns"], list[tuple[Tensor, Tensor]]()
    for column, numbers, unit in zip(columns, _numbers(drawn, columns), _units(run), strict=True):
        if numbers is None:
            found.append((torch.empty(0), torch.empty(0)))
            continue
        low, high = widened(*_ends(numbers, column), unit, by)
        found.append((_legal(low, column, -1), _legal(high, column, 1)))
    return found


def _ends(numbers: Tensor, column: Column) -> tuple[Tensor, Tensor]:
    """Return the ends of the draws' own intervals, at values that the column can have."""
    low, high = interval(numbers, SHARE)
    return _legal(low, column, -1), _legal(high, column, 1)


def _range(column: Column) -> tuple[float, float]:
    """Return the smallest and the largest value of a column's training rows."""
    atoms = column.get("atoms", [])
    return min([column["low"], *atoms]), max([column["high"], *atoms])


def _units(run: Run) -> list[Tensor]:
    """Return the scale of each column's first coordinate, by which its numbers are measured."""
    scales, found, first = run.normaliser.scales(run.shape), list[Tensor](), 0
    for column in run.manifest["data"]["columns"]:
        found.append(scales[min(first, len(scales) - 1)])
        first += width(column)
    return found


def _legal(ends: Tensor, column: Column, side: int) -> Tensor:
    """Return ends at the nearest values outwards that a column can have; `side` is -1 for low ends and 1 for high ones."""
    if "levels" in column:
        levels = torch.tensor(sorted({*column["levels"], *column.get("atoms", [])}), dtype=torch.float64)
        place = torch.searchsorted(levels, ends.contiguous(), right=side < 0) - (side < 0)
        return levels[place.clamp(0, len(levels) - 1)]
    whole = column["type"] in ("integer", "date") or column.get("whole", False)
    digits = column.get("digits", 300)
    step, origin = column.get("step", 1.0 if whole else 0.0), column["low"]
    if not step and digits < 300:
        step, origin = 10.0**-digits, 0.0
    if step:
        off = (ends - origin) / step
        ends = origin + step * (off + 1e-9).floor() if side < 0 else origin + step * (off - 1e-9).ceil()
        ends = torch.from_numpy(np.round(ends.numpy(), digits)) if digits < 300 else ends
    return ends.clamp(*_range(column))


def _measured(
    run: Run, holes: Holes, spec: ImputeSpec, device: torch.device, progress: Progress
) -> tuple[float, int, tuple[str, ...]]:
    """Return by how much intervals must be widened, on how many held-out cells that was measured, and what to say of it."""
    columns = run.manifest["data"]["columns"]
    try:
        raw = torch.as_tensor(run.data.held_out[:]).double()
    except ScorefieldError:
        return 0.0, 0, ("the run's data are not where they were: the intervals are those of the draws, and were not measured",)
    patterns = np.unique(np.stack(list(holes.values()), axis=1), axis=0)
    number = torch.arange(min(PAIRS, len(raw) * len(patterns)))
    row = number % max(len(raw), 1)
    hidden = patterns[((number // max(len(raw), 1) + row) % len(patterns)).numpy()]
    truth = raw[row]
    known = opened(truth, {column["name"]: hidden[:, i] for i, column in enumerate(columns)}, columns)
    rng = SampleRng(number, stream=stream_of("impute", "measure", spec.seed), device=device)
    drawn, _ = _drawn(run, known, max(spec.draws, LEAST_DRAWS), rng, progress)
    parts, first = list[Tensor](), 0
    for i, (column, numbers, unit) in enumerate(zip(columns, _numbers(drawn, columns), _units(run), strict=True)):
        size, first = width(column), first + width(column)
        if numbers is None:
            continue
        (true,) = _numbers(truth[None, :, first - size : first], [column])
        assert true is not None
        there = torch.from_numpy(hidden[:, i]) & true[0].isfinite()
        if column["missing"] and "atoms" not in column:
            there &= truth[:, first - 1] < 0.5
        smallest, largest = _range(column)
        outside = (true[0] < smallest) | (true[0] > largest)  # where no interval reaches
        scores = scores_of(torch.where(outside, math.inf, true[0]), *_ends(numbers, column), unit)
        parts.append(torch.stack([scores, row.double()])[:, there])
    if not parts or not (count := sum(part.shape[1] for part in parts)):
        return 0.0, 0, ()
    scores, of = torch.cat(parts, dim=1)
    by = widening(scores, of.long(), SHARE)
    if math.isinf(by):
        few = f"{count} held-out cells are too few, or too far from the training rows, to measure the intervals"
        return 0.0, 0, (f"{few}: they are those of the draws",)
    return by, count, ()


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
