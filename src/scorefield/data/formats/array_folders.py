"""Folders of .npy or .npz files: an example in each, or several along the first axis of each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "array-folder")
class ArrayFolder(Format):
    """Arrays in a folder of .npy or .npz files."""

    description, takes, priority, suffixes = "a folder of .npy files", "path", 15, (".npy", ".npz")
    writes, one_a_file = (".npy",), True

    def claims(self, source: str) -> bool:
        """Whether it is a folder that holds more .npy or .npz files than others."""
        from scorefield.data.files.collection import is_of

        return os.path.isdir(source) and is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read the examples of all files."""
        from scorefield.data.files.npz import read

        return read(source, spec.config)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write one sample as an array."""
        import numpy as np

        with open(path, "wb") as stream:
            np.save(stream, samples, allow_pickle=False)
