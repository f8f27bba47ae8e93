"""Columns by name: a dictionary of them, or the fields of a structured array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "columns")
class Columns(Format):
    """A dictionary of columns, or an array with named fields."""

    description, takes, priority = "a dictionary of columns", "data", 20

    def claims(self, source: Any) -> bool:
        """Whether it has columns by name."""
        import numpy as np

        return isinstance(source, Mapping) or (isinstance(source, np.ndarray) and source.dtype.names is not None)

    def read(self, source: Any, spec: ReadSpec) -> Dataset:
        """Read the columns."""
        from scorefield.data.table.tables import of_columns

        fields = source if isinstance(source, Mapping) else source.dtype.names
        return of_columns({field: source[field] for field in fields}, spec.config, columns=spec.columns)
