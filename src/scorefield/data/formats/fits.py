"""FITS: images, cubes and tables of telescopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "fits")
class Fits(Format):
    """Images in FITS files: a folder with an image in each file, a cube of several, or a table."""

    description, takes, priority = "a .fits file, or a folder of them", "path", 15
    suffixes = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz", ".fz")
    writes, kinds, one_a_file = (".fits", ".fit", ".fits.gz"), ("image", "signal", "volume"), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that holds most of them."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its images, or its table."""
        from scorefield.data.files.fits import read

        return read(source, spec)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse to write without astropy."""
        from scorefield.data.extras import require

        require("astropy.io.fits", "fits", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write one image with the coordinates and units of the data, if they have any."""
        from scorefield.data.files.fits import write

        write(path, samples, layout)
