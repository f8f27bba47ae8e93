"""Parquet and Arrow files: tables, and vectors, signals or pictures in a column of lists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.issues import DataIssue
    from scorefield.data.layout import Layout


@register("format", "arrow")
class ArrowFile(Format):
    """A table in a Parquet file, an Arrow file or an Arrow stream; or arrays, a list of numbers in each of its rows."""

    description, takes, priority = "a Parquet or Arrow file", "path", 39
    suffixes = (".parquet", ".feather", ".arrow", ".arrows")
    writes, kinds = (".parquet",), ("image", "signal", "volume", "vector")

    def claims(self, source: str) -> bool:
        """Whether it is a file with one of the suffixes."""
        return source.lower().endswith(self.suffixes) and os.path.isfile(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its columns, or its column of lists."""
        from scorefield.data.table import arrow

        return of_table(arrow.read(source), os.path.basename(source), spec, arrow.unfinished(source))

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse a file that cannot be written without pyarrow."""
        from scorefield.data.extras import require

        require("pyarrow", "tables", os.path.basename(path))

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write a list of numbers for each sample."""
        from scorefield.data.table.arrow import write_lists

        column = layout.header.get("column", "x") if layout.format == "arrow" else "x"
        write_lists(path, samples, column)


def of_table(table: Any, name: str, spec: ReadSpec, issues: list[DataIssue]) -> Dataset:
    """Read a `pyarrow.Table`, or its column of lists.

    Args:
        table: the table.
        name: what messages call it.
        spec: how it is read.
        issues: what was found before.
    """
    from scorefield.data.arrays import ArraySource, of_array
    from scorefield.data.table import arrow, tables

    lists = None if spec.columns else arrow.vectors_of(table, name, spec.config.key)
    if lists is None:
        return tables.of_arrow(table, spec.config, name=name, columns=spec.columns, issues=issues)
    chosen, values, labels, left_out = lists
    origin = ArraySource(format="arrow", header={"column": chosen}, issues=(*issues, *left_out))
    return of_array(values, f"{name}: {chosen}", spec.config, labels=labels, source=origin)
