"""Binary files of well-known image sets: MNIST's idx, CIFAR-10, CIFAR-100 and STL-10."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout

BATCHES = ("data_batch_1", "test_batch", "batches.meta", "train", "meta")  # pickles of CIFAR-10 and CIFAR-100
PICKLED = re.compile(r"(data_batch_\d+|test_batch|batches\.meta|.*\.(pkl|pickle))")


@register("format", "binaries")
class Binaries(Format):
    """Images in idx files or in the binaries of CIFAR and STL-10, with their labels, names and own split."""

    description, takes, priority = "an idx file, a .bin of CIFAR or STL-10, or a folder of them", "path", 17
    suffixes = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz", ".bin")
    writes, kinds = (".idx3-ubyte",), ("image",)

    def claims(self, source: str) -> bool:
        """Whether it is such a file, a folder that holds most of them, or what `read` refuses with a word: pickled batches."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes) or bool(pickled(source))

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read the images of one set."""
        from scorefield.data.files.binaries import read
        from scorefield.errors import ScorefieldError

        if found := pickled(source):
            name = os.path.basename(os.path.abspath(source))
            raise ScorefieldError(
                f"got {name!r} with the pickle {found!r}, which could run any program when it is opened, expected plain "
                "numbers: download the binary version of the same data (CIFAR has one), or save the arrays by numpy.savez"
            )
        return read(source, spec.config)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write images of one channel as an idx file."""
        from scorefield.data.files.binaries import write

        write(path, samples, layout)


def pickled(source: str) -> str | None:
    """Return the name of a pickle that a path names, or that a folder of CIFAR's holds; None for anything else."""
    if os.path.isfile(source):
        name = os.path.basename(source)
        return name if PICKLED.fullmatch(name) else None
    if not os.path.isdir(source):
        return None
    names = [name for name in BATCHES if os.path.isfile(os.path.join(source, name))]
    return next((name for name in names if _starts_as_pickle(os.path.join(source, name))), None)


def _starts_as_pickle(place: str) -> bool:
    """Whether a file starts as pickles do."""
    with open(place, "rb") as file:
        return file.read(1) == b"\x80"
