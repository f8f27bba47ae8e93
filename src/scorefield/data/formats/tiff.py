"""TIFF stacks: images or volumes on the pages of a .tif, as microscopes write them; and folders of volumes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "tiff")
class Tiff(Format):
    """A TIFF or OME-TIFF of many pages, or a folder of them with a volume in each; other folders are of images."""

    description, takes, priority = "a .tif of many pages, or a folder of them", "path", 15
    suffixes, writes, kinds, in_folders = (".tif", ".tiff", ".btf", ".tf8"), (".tif", ".tiff"), ("image", "volume"), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that holds most of them, the first with several pages."""
        from scorefield.data.files.collection import is_of

        if not os.path.isdir(source) or not is_of(source, self.suffixes):
            return os.path.isfile(source) and source.lower().endswith(self.suffixes)
        from scorefield.data.image.tiff_stacks import has_pages

        return has_pages(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its pages, by the axes that the file names."""
        from scorefield.data.image.tiff_stacks import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse to write without tifffile."""
        from scorefield.data.extras import require

        require("tifffile", "tiff", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write a stack, or one alone, with the axes and the sizes of a pixel that the data have."""
        from scorefield.data.image.tiff import save

        save(path, samples, layout.axes, layout.dtype, layout.header if layout.format == "tiff" else {})
