"""A format: ESRI's ASCII grids (.asc), a text file with a header and a row of numbers a line; read, and written back.

    ncols 3
    nrows 2
    cellsize 30.0
    1.5 2 3
    4 5 6

A folder of them is a set of images. What holds for all files, such as the size of a cell, goes back into every sample.

python examples/format_esri_grid.py
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

from scorefield.data import DataConfig, open_source
from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import Dataset
from scorefield.data.files.archives import Entry
from scorefield.data.files.collection import is_of, listing_of, stack
from scorefield.data.formats import Format, ReadSpec
from scorefield.data.layout import Layout
from scorefield.registry import register

MOST = 2**26  # bytes of a file: a grid of 2,000 x 2,000


@register("format", "esri-grid")
class EsriGrid(Format):
    """ASCII grids of terrain and other maps: a folder of .asc files of one size."""

    description, takes, priority, suffixes = "a folder of .asc grids", "path", 15, (".asc",)
    writes, kinds, one_a_file = (".asc",), ("image",), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that mostly holds them."""
        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read the grids; a file that is broken is left out, and named."""
        found = stack(listing_of(source, self.suffixes, MOST), _grid, "grids", alike=("cellsize",))
        about = ArraySource("yx", "esri-grid", found.header, found.names, found.issues)
        name = os.path.basename(os.path.abspath(source))
        return of_array(found.array, name, spec.config, labels=found.raw_labels, notes=found.notes, source=about)

    def write(self, path: str, samples: np.ndarray[Any, Any], layout: Layout) -> None:
        """Write one sample with the size of a cell of the data."""
        rows, columns = samples.shape
        cell = layout.header.get("cellsize", 1.0) if layout.format == "esri-grid" else 1.0
        head = f"ncols {columns}\nnrows {rows}\ncellsize {cell}"
        np.savetxt(path, samples, fmt="%.9g", header=head, comments="")


def _grid(entry: Entry) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the numbers of a file and its header; what is raised becomes the cause why it is left out."""
    with entry.open() as content:
        lines = content.read().decode("ascii").splitlines()
    head = {key.lower(): float(value) for key, value in (line.split() for line in lines[:3])}
    values = np.array([line.split() for line in lines[3:]], dtype=np.float32)
    if values.shape != (head["nrows"], head["ncols"]):
        raise ValueError(f"its header promises {head['nrows']:g} rows of {head['ncols']:g} numbers")
    return values, {"cellsize": head["cellsize"]}


if __name__ == "__main__":
    folder, layout = tempfile.mkdtemp(), Layout("yx", "float32", (8, 8), format="esri-grid", header={"cellsize": 30.0})
    for index, heights in enumerate(np.random.default_rng(0).normal(size=(20, 8, 8)).cumsum(axis=1)):
        EsriGrid().write(f"{folder}/{index:02d}.asc", heights, layout)
    data = open_source(folder, DataConfig())  # or: scorefield train maps/
    print(f"{len(data.train)} training grids of {data.layout.shape}, cells of {data.layout.header['cellsize']:g} m")
