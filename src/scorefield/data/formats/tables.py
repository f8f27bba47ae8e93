"""Table files of delimited text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset

TEXT = (".csv", ".tsv", ".txt", ".dat")
SUFFIXES = (*TEXT, *(f"{ending}.gz" for ending in TEXT))


@register("format", "table")
class TableFile(Format):
    """A table in a file: numbers, booleans, texts and dates, some of them missing."""

    description, takes, priority = f"a table ({', '.join(TEXT)}, also .gz)", "path", 40

    def claims(self, source: str) -> bool:
        """Whether it is a file with the suffix of a table."""
        return source.lower().endswith(SUFFIXES) and os.path.isfile(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its columns."""
        from scorefield.data.table.tables import read

        return read(source, spec.config, spec.columns)
