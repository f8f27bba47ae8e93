"""Formats: the forms in which data come, one file each: a kind of file, of folder, or of Python object.

A format says which sources are its own (`claims`) and makes a `Dataset` of one (`read`). `open_data` asks the registered
formats in the order of their `priority`, and reads by the first that claims the source. Formats share the readers of arrays,
of image files and of columns: `data/arrays.py`, `data/image/images.py` and `data/table/tables.py`.

A format that can be written has `writes` and `write`: samples then go back as the same kind of file, with what of its header
still holds (`Layout.header`).

To add a format, add a file here, or a module of your own package (`registry.load_plugins`). Nothing else changes:

    @register("format", "hdf5")
    class Hdf5(Format):
        \"""Arrays in HDF5 files.\"""

        description, takes = "an .h5 file", "path"

        def claims(self, source: str) -> bool:
            return source.endswith(".h5")

        def read(self, source: str, spec: ReadSpec) -> Dataset:
            import h5py
            from scorefield.data.arrays import of_array

            with h5py.File(source) as file:
                return of_array(file["x"], source, spec.config)

The top of such a file imports only the standard library and what is as light, because `--help` lists the descriptions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from scorefield.registry import built_in, every, written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import DataConfig, Dataset
    from scorefield.data.layout import Layout
    from scorefield.data.table.columns import Column

__all__ = ["Format", "ReadSpec", "known_formats", "known_sources", "ordered", "writers"]
Takes = Literal["path", "data"]


@dataclass(frozen=True)
class ReadSpec:
    """How a source is read.

    Attributes:
        config: the settings of the data.
        columns: of tables: what the coordinates mean, as an earlier run on the same table recorded it; None to find it out.
    """

    config: DataConfig
    columns: list[Column] | None = None


class Format(ABC):
    """One form in which data come.

    A subclass declares, as class attributes:

    Attributes:
        description: what it reads, as a phrase that follows "expected": "a folder or .zip of images".
        takes: "path" for a file, a folder or a pattern of them; "data" for objects of Python.
        priority: its place in the order in which formats are asked, the smallest first; equal ones are asked by name.
        suffixes: endings of the files that it reads, with their dot and in small letters; a folder is of the format whose
            files it mostly holds (`data/files/collection.py`).
        writes: endings of the files that `write` makes, the usual one first; () if samples cannot be written so.
        kinds: kinds of data that `write` takes.
        one_a_file: `write` takes one sample, and a set of them is a folder; otherwise it takes all of them.
        in_folders: of those that take all: a set may also be a folder of files with one sample each.
    """

    description: ClassVar[str]
    takes: ClassVar[Takes]
    priority: ClassVar[int] = 50
    suffixes: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("image", "signal", "volume", "vector")
    one_a_file: ClassVar[bool] = False
    in_folders: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Refuse a format that does not declare what it reads."""
        if not isinstance(getattr(cls, "description", None), str) or getattr(cls, "takes", None) not in ("path", "data"):
            raise TypeError(f"{cls.__name__} declares no description (a phrase) or no takes ('path' or 'data'): add them")

    @abstractmethod
    def claims(self, source: Any) -> bool:
        """Whether a source is of this format.

        Args:
            source: a path, with ~ replaced by the home folder, which need not exist; or the data themselves, as `takes` says.
        """

    @abstractmethod
    def read(self, source: Any, spec: ReadSpec) -> Dataset:
        """Read a source that the format claims.

        Args:
            source: as of `claims`.
            spec: how it is read.

        Raises:
            ScorefieldError: the source is broken or cannot be used; the sentence says got, expected, what to do.
        """

    def check(self, path: str, layout: Layout | None = None) -> None:  # noqa: B027  # most need no library
        """Refuse a file that could not be written, before anything is drawn: `extras.require` of the library it needs.

        Args:
            path: of the file, which ends in one of `writes`.
            layout: of the data, if it is known: what the format cannot hold is refused.

        Raises:
            ScorefieldError: the library is not installed, or the format cannot hold such data.
        """

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write samples to a new file.

        Args:
            path: of the file, which ends in one of `writes` and does not exist yet.
            samples: what `layout.to_source` returns, `(n, *layout.shape)`; of `one_a_file`, one of them, `layout.shape`.
            layout: of the data that the run was trained on; its header is this format's own where `layout.format` is its name.

        Raises:
            ScorefieldError: the library is not installed, or the samples cannot be written so.
        """
        raise NotImplementedError(f"{type(self).__name__} declares `writes`, and has no `write`")


def writers(kind: str) -> dict[str, Format]:
    """Return the built-in formats that can write samples of a kind of data: ending -> format."""
    return {
        ending: form for form in _ordered(built_in("format").values(), "path") if kind in form.kinds for ending in form.writes
    }


def ordered(takes: Takes) -> list[Format]:
    """Return the registered formats that take paths, or that take data, in the order in which they are asked."""
    return _ordered(every("format").values(), takes)


def known_formats(takes: Takes = "path", *, plugins: bool = True) -> str:
    """Return the descriptions of the formats as one phrase.

    Args:
        takes: which formats: those that take paths, or those that take data.
        plugins: whether those of other packages are among them; without them it takes a few milliseconds, as `--help` needs.

    >>> known_formats("data", plugins=False)
    'a data frame, a dictionary of columns, or an array, a tensor, a list of images or arrays'
    """
    kinds = every("format") if plugins else built_in("format")
    *others, last = (one.description for one in _ordered(kinds.values(), takes))
    return f"{', '.join(others)}, or {last}" if others else last


def known_sources() -> str:
    """Return what a source may be, as a sentence for `--help`; plugins are not loaded for it."""
    names = ", ".join(written("source"))
    return f"A built-in name ({names}), {known_formats(plugins=False)}; `scorefield list format` lists plugins as well."


def _ordered(kinds: Iterable[type[Format]], takes: Takes) -> list[Format]:
    return sorted((kind() for kind in kinds if kind.takes == takes), key=lambda one: one.priority)
