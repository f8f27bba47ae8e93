"""Tables as `.parquet`, in their own columns and types; it needs pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from scorefield import files
from scorefield.data.table.coordinates import decode
from scorefield.data.table.tables import parquet_of
from scorefield.outputs.base import Add, Output, Writer

CELLS = 2**20  # of a table in memory, and in a group of rows of the file, whatever the batch


class _Parquet(Writer):
    def check(self, output: Output) -> None:
        parquet_of({})  # without pyarrow, say so now

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        import pyarrow
        from pyarrow import parquet

        columns: list[dict[str, Any]] = output.run.manifest["data"]["columns"]
        schema, size = _schema(columns), max(1, CELLS // len(columns))
        waiting = torch.empty(0, *output.run.shape, dtype=torch.float64)
        with files.together(), files.writing(output.path) as stream, parquet.ParquetWriter(stream, schema) as writer:

            def add(raw: Tensor, labels: Tensor | None) -> None:
                nonlocal waiting
                waiting = torch.cat([waiting, raw])
                while len(waiting) >= size:
                    write(waiting[:size])
                    waiting = waiting[size:]

            def write(rows: Tensor) -> None:
                values = decode(rows, columns)
                arrays = [_array(values[one["name"]], one, kind) for one, kind in zip(columns, schema.types, strict=True)]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

            yield add
            if len(waiting):
                write(waiting)


def _schema(columns: Sequence[Mapping[str, Any]]) -> Any:
    """Return the types of the columns as pyarrow names them: those of the source, where it was stored in Arrow or a frame."""
    import pyarrow

    return pyarrow.schema([(one["name"], _type(one)) for one in columns])


def _type(column: Mapping[str, Any]) -> Any:
    """Return the type of a column."""
    import pyarrow

    stored = column.get("stored", {})
    unit = stored.get("unit", "us")
    match stored.get("as"), column["type"]:
        case "time", _:
            return pyarrow.time32(unit) if unit in ("s", "ms") else pyarrow.time64(unit)
        case "duration", _:
            return pyarrow.duration(unit)
        case _, "datetime":
            return pyarrow.timestamp(unit, stored.get("zone", "UTC") if column["utc"] else None)
        case (("yyyymmdd" | "integer"), _):
            return pyarrow.type_for_alias(stored.get("type", "int64"))
        case _, "category" if "categories" in stored:
            return pyarrow.dictionary(pyarrow.int32(), pyarrow.string(), ordered=stored.get("ordered", False))
    usual = {"number": "float64", "integer": "int64", "boolean": "bool", "date": "date32", "category": "string"}
    kind = stored.get("type", usual[column["type"]])
    if kind.startswith("decimal"):
        return pyarrow.decimal128(*map(int, kind.partition("(")[2].rstrip(")").split(",")))
    return pyarrow.type_for_alias(kind)


def _array(values: Sequence[Any], column: Mapping[str, Any], kind: Any) -> Any:
    """Return the values of a column in its type, with the source's own mark where one is missing."""
    import pyarrow

    stored = column.get("stored", {})
    if "mark" in stored:
        values = [stored["mark"] if value is None else value for value in values]
    if pyarrow.types.is_decimal(kind):
        values = [
            None if value is None else Decimal(value if isinstance(value, str) else f"{value:.{kind.scale}f}")
            for value in values
        ]
    elif pyarrow.types.is_integer(kind):
        values = [None if value is None else int(value) for value in values]
    elif pyarrow.types.is_dictionary(kind):
        place = {text: i for i, text in enumerate(stored["categories"])}
        indices = pyarrow.array([None if value is None else place[value] for value in values], pyarrow.int32())
        texts = pyarrow.array(stored["categories"], pyarrow.string())
        return pyarrow.DictionaryArray.from_arrays(indices, texts, ordered=kind.ordered)
    return pyarrow.array(values, kind)


WRITER = _Parquet()
