"""Zarr stores: a .zarr folder, or a .zarr.zip."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout

ROOTS = ("zarr.json", ".zgroup", ".zarray")


@register("format", "zarr")
class Zarr(Format):
    """Arrays in a zarr store: the one that `data.key` names, or the only one that can be data."""

    description, takes, priority = "zarr (.zarr, .zarr.zip)", "path", 5
    writes = (".zarr",)

    def claims(self, source: str) -> bool:
        """Whether it is a zarr store by its name, or a folder with what lies at the root of one."""
        name = source.lower().rstrip("/")
        if os.path.isdir(source):
            return name.endswith(".zarr") or any(os.path.isfile(os.path.join(source, root)) for root in ROOTS)
        return name.endswith((".zarr.zip", ".zarr")) and os.path.isfile(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its examples, with the labels beside them."""
        from scorefield.data.files.zarrs import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse a store that could not be written."""
        from scorefield.data.extras import require

        require("zarr", "zarr", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write samples as one array, packed as it was."""
        from scorefield.data.files.zarrs import write

        write(path, samples, layout)
