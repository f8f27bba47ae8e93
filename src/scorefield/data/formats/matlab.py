"""MATLAB files, .mat: one of them, or a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "matlab")
class Matlab(Format):
    """Arrays in MATLAB files: the one that `data.key` names, or the only one that can be data."""

    description, takes, priority, suffixes = "MATLAB (.mat)", "path", 15, (".mat",)
    writes = (".mat",)

    def claims(self, source: str) -> bool:
        """Whether it is a .mat file by its name, or a folder that mostly holds them."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its examples, with the labels beside them."""
        from scorefield.data.files.matlab import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse a file that could not be written."""
        from scorefield.data.extras import require

        require("scipy.io", "matlab", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write samples as one array."""
        from scorefield.data.files.matlab import write

        write(path, samples, layout)
