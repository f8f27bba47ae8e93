"""Partial rows: a table with holes, in the coordinates that a run on complete or other rows gave to its columns.

A hole is a cell without a value: empty, NA, or whatever else stands for none in its file. It is NaN in the coordinates of its
value. The coordinate that says whether a value is missing, of a column in which training rows had holes, is known: 0, for what
is asked is the value that is not there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.table import arrow, labelled
from scorefield.data.table.columns import Column, transform_in, width
from scorefield.data.table.coordinates import Table, decode, encode
from scorefield.data.table.evidence import interpreted
from scorefield.data.table.frames import of_mapping, of_native
from scorefield.data.table.series import Series
from scorefield.data.table.tables import TEXT, as_column
from scorefield.data.text.cells import MISSING
from scorefield.data.text.delimited import read_text
from scorefield.data.text.filling import Fillable
from scorefield.data.text.numerals import is_number
from scorefield.data.text.written import cell_writer
from scorefield.errors import NotFinite, ScorefieldError, unknown

DATES = ("date", "datetime")


@dataclass(frozen=True, eq=False)
class Partial:
    """A table whose holes are known.

    Attributes:
        name: what messages call it.
        rows: coordinates in the data's own units, `(n, d)`, float64, NaN where a hole leaves them open.
        holes: name of a column -> whether each row has a hole there, `(n,)`.
        columns: of the run, written as the table writes them.
        file: the file of text; None of another source.
    """

    name: str
    rows: Tensor
    holes: Mapping[str, NDArray[np.bool_]]
    columns: list[Column]
    file: Fillable | None

    @property
    def lines(self) -> tuple[int, ...] | None:
        """The line of each row in its file of text."""
        return None if self.file is None else self.file.text.lines

    @property
    def table(self) -> Table:
        """Its values, None in the holes."""
        own = decode(self.rows.nan_to_num(0.0), self.columns, exact=True)
        return {
            name: [None if hole else value for value, hole in zip(values, self.holes[name].tolist(), strict=True)]
            for name, values in own.items()
        }

    def written(self, values: Mapping[tuple[int, str], Any]) -> dict[tuple[int, str], str]:
        """Return values of cells, (row, column) -> value, as the file would write them."""
        assert self.file is not None
        writers = {column["name"]: cell_writer(column, column.get("text", {}), self.file.delimiter) for column in self.columns}
        return {(row, name): writers[name](value) for (row, name), value in values.items()}


def without_values(rows: Tensor, holes: Mapping[str, NDArray[np.bool_]], columns: list[Column]) -> Tensor:
    """Return coordinates `(n, d)` with holes as values that are missing, of columns in which that is one of the values.

    >>> column = {"name": "a", "type": "number", "missing": True, "fill": 5.0}
    >>> without_values(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), {"a": np.array([False, True])}, [column])
    tensor([[1., 0.],
            [5., 1.]])
    """
    found, first = rows.clone(), 0
    for column in columns:
        size, hole = width(column), torch.from_numpy(holes[column["name"]])
        if said := _says_missing(column):
            found[hole, first : first + size] = 0.0
            found[hole, first] = 0.0 if column["type"] == "category" else column["fill"]
            found[hole, first + said] = 1.0
        first += size
    return found


def within_reach(rows: Tensor, columns: list[Column]) -> Tensor:
    """Return coordinates `(n, d)` at most one range of their column outside it: beyond, a network has learned nothing.

    >>> column = {"name": "a", "type": "number", "missing": False, "low": 0.0, "high": 2.0}
    >>> within_reach(torch.tensor([[1.0], [99.0], [torch.nan]]), [column]).flatten()
    tensor([1., 4., nan])
    """
    found, first = rows.clone(), 0
    for column in columns:
        if "low" in column and "constant" not in column:
            found[:, first] = found[:, first].clamp(*reach_of(column, 1.0))
        first += width(column)
    return found


def reach_of(column: Column, share: float) -> tuple[float, float]:
    """Return the ends of what is at most a share of a column's range outside it, of a transformed one after its transform."""
    ends, transform = torch.tensor([column["low"], column["high"]], dtype=torch.float64), transform_in(column)
    seen = ends if transform is None else transform(ends)
    wide = seen + share * torch.stack([seen[0] - seen[1], seen[1] - seen[0]])
    low, high = (wide if transform is None else transform.inverse(wide)).tolist()
    return low, high


def filled_in(rows: Tensor, columns: list[Column]) -> Tensor:
    """Return drawn coordinates `(n, d)` of which no value is missing: what is likeliest is then another one."""
    found, first = rows.clone(), 0
    for column in columns:
        if said := _says_missing(column):
            found[:, first + said] = -math.inf
        first += width(column)
    return found


def partial_of(source: Any, columns: list[Column], left_out: Collection[str] = (), name: str = "table") -> Partial:
    """Read a table with holes in the columns of a run.

    Args:
        source: a file that tables are read from, a data frame, or columns by name.
        columns: `Dataset.columns` of the run's data.
        left_out: columns that the run's table had and that were not learned: they may be there, and are not looked at.
        name: what messages call a source without a file.

    Raises:
        ScorefieldError: a source that cannot be read, a column that is not there or that the run does not know, texts where
            numbers were, or a text that the run's table does not have.
        NotFinite: an infinite value.
    """
    series, file = _read(source, columns, name)
    name = file.name if file is not None else os.path.basename(source) if isinstance(source, str | os.PathLike) else name
    if not series or not len(series[0].values):
        raise ScorefieldError(f"got {name!r} without rows, expected some: add them")
    given, known = {one.name: one for one in series}, [column["name"] for column in columns]
    for label in given:
        if label not in known and label not in left_out:
            raise ScorefieldError(f"{unknown(f'column of {name!r}', label, known)} Rename it, or leave it out.")
    for label in known:
        if label not in given:
            raise ScorefieldError(
                f"got {name!r} without the column {label!r} of the run's table, expected all of them: add it, empty if nothing "
                "is known"
            )
    if file is not None:
        for column in columns:
            _refuse_text(given[column["name"]], column, file)
    found = {one.name: one for one in interpreted([given[label] for label in known], columns, None)[0]}
    parts, holes, own = [], {}, []
    for column in columns:
        label = column["name"]
        one = _typed(found.get(label, given[label]), column, f"column {label!r} of {name!r}")
        holes[label] = one.missing
        parts.append(_closed(one, column))
        style = {key: value for key, value in found.get(label, one).text.items() if key not in ("missing", "units")}
        own.append({**column, "text": style} if not one.missing.all() else column)
    rows = torch.from_numpy(np.concatenate(parts, axis=1))
    if bool(rows.isinf().any()):
        raise NotFinite(f"got an infinite value in {name!r}, expected finite numbers: remove or fill it")
    return Partial(name, opened(rows, holes, columns), holes, own, file)


def _read(source: Any, columns: list[Column], name: str) -> tuple[list[Series], Fillable | None]:
    """Return the columns of a source, and its file if that is one of text."""
    if isinstance(source, Mapping):
        return of_mapping(source, name)[0], None
    if not isinstance(source, str | os.PathLike):
        return of_native(source)[0], None
    path = os.path.expanduser(os.fspath(source))
    base = os.path.basename(path)
    if not os.path.isfile(path):
        raise ScorefieldError(f"got {path!r}, where there is no file, expected a table: correct its name")
    if path.lower().endswith(TEXT):
        text = read_text(path, base, columns, holes=True)
        return text.columns, Fillable.of(path, base, text)
    if path.lower().endswith(tuple(labelled.READERS)):
        return labelled.read(path)[0], None
    return of_native(arrow.read(path))[0], None


def _refuse_text(one: Series, column: Column, file: Fillable) -> None:
    """Refuse a cell of a column of numbers, or of dates, that holds something that is none, which reading takes for a hole."""
    if column["type"] == "category":
        return
    style = one.text.get("missing")
    rows = np.flatnonzero(one.missing) if one.type != "category" else range(len(one.values))
    for row in map(int, rows):
        cell = file.cell(row, one.name)
        if cell not in MISSING and cell != style and (one.type != "category" or not is_number(cell)):
            raise ScorefieldError(
                f"got {cell!r} in column {one.name!r} of {file.name!r}, line {file.text.lines[row]}, expected {column['type']} "
                "as in the run's table: correct it, or leave it empty to have it filled"
            )


def _typed(one: Series, column: Column, here: str) -> Series:
    """Return a series as one of a run's column, holes in it or not."""
    if one.missing.all():
        empty = [None] * len(one.values) if column["type"] == "category" else [math.nan] * len(one.values)
        return Series(one.name, column["type"], np.array(empty, dtype=object if column["type"] == "category" else np.float64))
    if (one.type in DATES or column["type"] in DATES) and one.type != column["type"]:
        raise ScorefieldError(f"got {here} as {one.type}, expected {column['type']}: write it as in the run's table")
    if "constant" in column:
        return one
    made = as_column(one, column, here, holes=True)
    if column["type"] == "boolean" and not np.isin(made.values[~made.missing], (0, 1)).all():
        raise ScorefieldError(f"got {here} with other numbers than 0 and 1, expected boolean: write it as in the run's table")
    return made


def _closed(one: Series, column: Column) -> NDArray[np.float64]:
    """Return a column's coordinates, `(n, width)`, with a value of no meaning in its holes."""
    if "constant" in column or not one.missing.any():
        return encode(one, column)
    if column["type"] == "category":
        values = one.values.copy()
        values[one.missing] = next(text for text in column["values"] if text is not None)
    else:
        values = np.where(one.missing, column["fill"], one.values)
    return encode(Series(one.name, column["type"], values), column)


def opened(rows: Tensor, holes: Mapping[str, NDArray[np.bool_]], columns: list[Column]) -> Tensor:
    """Return coordinates `(n, d)` with NaN where holes leave them open; a value is known not to be missing there.

    >>> column = {"name": "a", "type": "number", "missing": True}
    >>> opened(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), {"a": np.array([False, True])}, [column])
    tensor([[1., 0.],
            [nan, 0.]])
    """
    found, first = rows.clone(), 0
    for column in columns:
        size, hole = width(column), torch.from_numpy(holes[column["name"]])
        found[hole, first : first + size] = math.nan
        if said := _says_missing(column):
            found[hole, first + said] = 0.0
        first += size
    return found


def _says_missing(column: Column) -> int:
    """Return which of a column's coordinates says that its value is missing; 0 where none does."""
    return width(column) - 1 if column["missing"] and width(column) > 1 else 0
