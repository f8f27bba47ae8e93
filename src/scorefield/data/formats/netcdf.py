"""NetCDF files, .nc: one of them, or a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "netcdf")
class NetCdf(Format):
    """Variables of NetCDF files: the one that `data.key` names, or the only one that can be data."""

    description, takes, priority, suffixes = "NetCDF (.nc)", "path", 15, (".nc", ".nc4", ".cdf", ".netcdf")
    writes = (".nc",)

    def claims(self, source: str) -> bool:
        """Whether it is a NetCDF file by its name, or a folder that mostly holds them."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its examples, with the labels beside them."""
        from scorefield.data.files.netcdf import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse a file that could not be written."""
        from scorefield.data.extras import require

        require("h5netcdf", "netcdf", path)
        if layout is not None:
            from scorefield.data.files.netcdf import refuse

            refuse(path, layout)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write samples as one variable, packed as it was."""
        from scorefield.data.files.netcdf import write

        write(path, samples, layout)
