"""Array files: .npy, and the arrays of .npz."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "arrays")
class ArrayFile(Format):
    """Arrays in a .npy or .npz file: vectors, images, signals or volumes by their shape."""

    description, takes, priority, suffixes = "a .npy or .npz file", "path", 30, (".npy", ".npz")

    def claims(self, source: str) -> bool:
        """Whether it is a .npy or .npz file."""
        return source.lower().endswith(self.suffixes) and os.path.isfile(source)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its vectors, images, signals or volumes, with the labels of a .npz."""
        from scorefield.data.files.npz import read

        return read(source, spec.config)
