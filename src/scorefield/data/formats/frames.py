"""Data frames: of pandas, polars, pyarrow, and all others that narwhals knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "frame")
class Frame(Format):
    """A data frame or a series of pandas, polars, pyarrow or another library."""

    description, takes, priority = "a data frame", "data", 10

    def claims(self, source: Any) -> bool:
        """Whether narwhals knows it as a data frame or a series."""
        from narwhals import dependencies

        tabular = dependencies.is_into_dataframe(source) or dependencies.is_polars_lazyframe(source)
        return bool(tabular or dependencies.is_into_series(source))

    def read(self, source: Any, spec: ReadSpec) -> Dataset:
        """Read its columns, or the column of lists that `data.key` names."""
        from scorefield.data.table.tables import of_frame

        if spec.config.key is not None:
            from narwhals import LazyFrame, from_native

            from scorefield.data.formats.arrow import of_table

            frame = from_native(source)
            return of_table((frame.collect() if isinstance(frame, LazyFrame) else frame).to_arrow(), "table", spec, [])

        return of_frame(source, spec.config, columns=spec.columns)
