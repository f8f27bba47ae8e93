"""Columns of several tables of one kind as numbers: what trees and measures of dependence take.

    numbers       themselves; dates in days or seconds, times and spans in seconds
    categories    the place of the value among all values that the tables have, from 0; booleans count as categories

What is missing is NaN in both. A column is of numbers if each of its values, in every table, is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.errors import NotFinite, ScorefieldError

Columns = Mapping[str, Sequence[Any]]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Coded:
    """One column of several tables.

    Attributes:
        name: of the column.
        values: of a category: what its codes stand for; empty for numbers.
        tables: the column of each table, NaN where a value is missing.
    """

    name: str
    values: tuple[Any, ...]
    tables: tuple[Numbers, ...]

    @property
    def is_category(self) -> bool:
        """Whether its values are codes."""
        return bool(self.values)

    def varies(self, table: int) -> bool:
        """Whether a table has more than one value in it."""
        column = self.tables[table]
        present = column[~np.isnan(column)]
        return bool(len(present)) and bool((present != present[0]).any())


def coded(*tables: Columns) -> list[Coded]:
    """Return the columns of tables as numbers.

    Args:
        tables: name -> values: numbers, dates, texts or booleans, None where one is missing; all with the same columns.

    Raises:
        ScorefieldError: tables with other columns than the first, or with columns of unequal lengths.
        NotFinite: NaN or infinity among the values; what is missing is None.

    >>> one, = coded({"colour": ["red", None, "blue"]}, {"colour": ["red", "red"]})
    >>> one.values, one.tables[0].tolist(), one.tables[1].tolist()
    (('blue', 'red'), [1.0, nan, 0.0], [1.0, 1.0])
    """
    first = list(tables[0])
    for table in tables:
        height_of(table, "a table")
        if list(table) != first:
            raise ScorefieldError(f"got the columns {list(table)}, expected {first}: compare tables of one run")
    return [_coded(name, [table[name] for table in tables]) for name in first]


def _coded(name: str, columns: list[Sequence[Any]]) -> Coded:
    if all(is_number(value) for column in columns for value in column):
        return Coded(name, (), tuple(numbers_of(column, name) for column in columns))
    present = {value for column in columns for value in column if value is not None}
    values = tuple(sorted(present, key=lambda value: (str(type(value)), value)))
    place = {value: float(i) for i, value in enumerate(values)} | {None: math.nan}
    return Coded(name, values, tuple(np.array([place[value] for value in column]) for column in columns))


def height_of(columns: Columns, what: str) -> int:
    """Return the number of rows; raises `ScorefieldError` for columns of unequal lengths."""
    heights = {len(values) for values in columns.values()}
    if len(heights) != 1:
        raise ScorefieldError(f"got {what} in columns of {sorted(heights)} values, expected one length: pass whole tables")
    return heights.pop()


def is_number(value: Any) -> bool:
    """Whether a value is a number, a date, a time or a span, or missing."""
    return value is None or (isinstance(value, int | float | date | time | timedelta) and not isinstance(value, bool))


def numbers_of(values: Sequence[Any], name: str) -> Numbers:
    """Return numbers, NaN where one is missing; days or seconds for dates, seconds for times and spans."""

    def number(value: Any) -> float:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, time):
            value = datetime.combine(datetime.min, value) - datetime.min
        if isinstance(value, timedelta):
            return value.total_seconds()
        return float(value.toordinal() if isinstance(value, date) else value)

    present = np.array([number(value) for value in values if value is not None], dtype=np.float64)
    if not np.isfinite(present).all():
        raise NotFinite(f"got NaN or infinity in column {name!r}, expected finite numbers: put None for what is missing")
    whole = np.full(len(values), math.nan)
    whole[[value is not None for value in values]] = present
    return whole
