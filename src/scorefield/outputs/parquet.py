"""Tables as `.parquet`, in their own columns and types; it needs pyarrow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorefield import files
from scorefield.data.coordinates import decode
from scorefield.data.tables import parquet_of
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
                writer.write_table(pyarrow.table(decode(rows, columns), schema=schema))

            yield add
            if len(waiting):
                write(waiting)


def _schema(columns: Sequence[Mapping[str, Any]]) -> Any:
    """Return the types of the columns as pyarrow names them."""
    import pyarrow

    types = {
        "number": pyarrow.float64(),
        "integer": pyarrow.int64(),
        "boolean": pyarrow.bool_(),
        "date": pyarrow.date32(),
        "category": pyarrow.string(),
    }
    return pyarrow.schema(
        [(one["name"], types.get(one["type"]) or pyarrow.timestamp("us", "UTC" if one["utc"] else None)) for one in columns]
    )


WRITER = _Parquet()
