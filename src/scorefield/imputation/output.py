"""What an imputation leaves: the table, byte for byte the person's own but for its holes, and the intervals of the cells."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.data.table.columns import Column
from scorefield.data.table.coordinates import Table
from scorefield.data.table.partial import Partial
from scorefield.data.table.tables import TEXT, csv_of, parquet_of
from scorefield.data.text.filling import VERSION
from scorefield.data.text.written import spelling
from scorefield.errors import ScorefieldError
from scorefield.imputation.draws import Imputed

PLAIN = ("number", "integer", "boolean", "category")  # types whose values JSON has


def places_of(source: Any, partial: Partial, out: str | Path | None, force: bool) -> tuple[Path, ...]:
    """Return where the filled table and its intervals go; nowhere for data of Python without an `out`.

    Raises:
        ScorefieldError: an ending that cannot be written, a place that is taken, or a folder that is not there.
    """
    named = isinstance(source, str | os.PathLike)
    if out is None and not named:
        return ()
    endings = TEXT if partial.file is not None else (".csv", ".parquet")
    if out is None:
        path = Path(source).expanduser()
        ending = next((one for one in sorted(endings, key=len, reverse=True) if path.name.lower().endswith(one)), "")
        stem = path.name[: len(path.name) - len(ending)] if ending else path.stem
        place = path.with_name(f"{stem}-filled{ending or '.csv'}")
    else:
        place = Path(out).expanduser()
    if not place.name.lower().endswith(endings):
        raise ScorefieldError(f"got --out {place}, expected a name ending in {', '.join(endings)}: choose one")
    if named and place.resolve() == Path(source).expanduser().resolve():
        raise ScorefieldError(f"got --out {place}, which is the table itself, expected another name: choose one")
    beside = place.with_name(f"{Path(place.name.removesuffix('.gz')).stem}-intervals.csv")
    for one in (place, beside):
        files.refuse_existing(one, force)
    above = place.resolve().parent
    if not above.is_dir() or not files.can_write(above):
        raise ScorefieldError(f"got --out {place} in a folder that cannot be written, expected one that can: make it first")
    return place, beside


def save(imputed: Imputed, draws: int, places: tuple[Path, ...]) -> None:
    """Write the filled table, with so many draws below each other, or with the values of one, and the intervals."""
    table, beside = places
    with files.together():
        files.write(table, filled(imputed, draws, table.name.lower()))
        files.write(beside, intervals(imputed))


def filled(imputed: Imputed, draws: int, name: str) -> bytes:
    """Return the content of a file of this name: a table with the values, or, for several draws, one below the other."""
    partial = imputed.partial
    if partial.file is not None:
        if draws == 1:
            content = partial.file.filled(partial.written(imputed.values(None)))
        else:
            content = partial.file.long([partial.written(imputed.values(draw)) for draw in range(draws)])
        return gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    if draws == 1:
        whole = table_of(imputed, None)
    else:
        tables = [table_of(imputed, draw) for draw in range(draws)]
        count = len(partial.rows)
        whole = {VERSION: [draw + 1 for draw in range(draws) for _ in range(count)]}
        whole |= {key: [value for one in tables for value in one[key]] for key in tables[0]}
    return parquet_of(whole) if name.endswith(".parquet") else csv_of(whole)


def table_of(imputed: Imputed, draw: int | None) -> Table:
    """Return the filled table, name -> n values: of a draw, counted from 0, or with the values where it is None."""
    table = imputed.partial.table
    for (row, name), value in imputed.values(draw).items():
        table[name][row] = value
    return table


def intervals(imputed: Imputed) -> bytes:
    """Return the table of intervals: a line for each hole; rows count from 0."""
    lines, columns = imputed.partial.lines, {column["name"]: column for column in imputed.partial.columns}
    table: Table = {name: [] for name in ("row", "line", "column", "median", "low", "high", "share")}
    for (row, name), cell in imputed.cells.items():
        values = [plain(one, columns[name]) for one in (cell.value, cell.low, cell.high)]
        line = None if lines is None else lines[row]
        for key, value in zip(table, (row, line, name, *values, cell.share), strict=True):
            table[key].append(value)
    return csv_of(table)


def plain(value: Any, column: Column) -> Any:
    """Return a value as one of JSON: dates and times as the table writes them."""
    if value is None or (column["type"] in PLAIN and "as" not in column.get("stored", {})):
        return value
    return spelling(column)(value)


def to_dict(imputed: Imputed) -> dict[str, Any]:
    """Return the columns, the rows with holes and what stands in these, as values of JSON; rows count from 0."""
    partial = imputed.partial
    columns = {column["name"]: column for column in partial.columns}
    rows: dict[int, dict[str, Any]] = {
        row: {"row": row, "line": None if partial.lines is None else partial.lines[row], "effective": share, "cells": {}}
        for row, share in zip(imputed.rows, imputed.effective, strict=True)
    }
    for (row, name), cell in imputed.cells.items():
        values = {key: plain(getattr(cell, key), columns[name]) for key in ("value", "low", "high")}
        rows[row]["cells"][name] = {**values, "share": cell.share}
    return {
        "columns": [
            {"name": name, "type": column["type"], "holes": int(partial.holes[name].sum())} for name, column in columns.items()
        ],
        "rows": list(rows.values()),
        "way": imputed.way,
        "calibration": {"cells": imputed.measured, "rows": imputed.unseen, "widened": imputed.widened}
        if imputed.measured
        else None,
        "notes": list(imputed.notes),
    }
