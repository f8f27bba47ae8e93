"""Outputs: where samples go, a batch at a time, so that many take no more memory than few.

`FILE_TYPES` is the table of what can be written. A new file type is one line there and one file here with its `Writer`; the
formats that data are read from add those that they `write` (`data/formats/`). The help of the command and the sentences that
refuse an `--out` are printed from the table. This module imports nothing slow.

The samples of a file are written beside its place as they come; at the end it takes its place, as a whole. If anything fails
before, nothing is left of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from scorefield.data.formats import writers

KINDS = ("image", "signal", "volume", "vector", "table")


@dataclass(frozen=True)
class FileType:
    """A type of file that samples can be written to.

    Attributes:
        ending: of its name; "/" for a folder.
        home: where its `Writer` is: module and name, in this package.
        only: the kind of data that it suits: image, signal, vector or table; None for all of them.
        content: what is in it, in words.
        packs: whether ".gz" may follow the ending.
    """

    ending: str
    home: str
    only: str | None = None
    content: str = ""
    packs: bool = False

    def fits(self, name: str) -> bool:
        """Whether a file of this name is of this type."""
        name = name.lower()
        return (name.removesuffix(".gz") if self.packs else name).endswith(self.ending)


FILE_TYPES = (  # in the order in which they are named; the first that suits the data is the default
    FileType(".csv", "text.WRITER", only="table", packs=True),
    FileType(".tsv", "text.WRITER", only="table", packs=True),
    FileType(".txt", "text.WRITER", only="table", packs=True),
    FileType(".dat", "text.WRITER", only="table", packs=True),
    FileType(".parquet", "parquet.WRITER", only="table"),
    FileType(".dta", "labelled.DTA", only="table"),
    FileType(".sav", "labelled.SAV", only="table"),
    FileType(".png", "picture.WRITER", content="a grid of images, or a plot"),
    FileType(".npz", "arrays.NPZ", content="arrays, with the classes"),
    FileType(".npy", "arrays.NPY", content="one array"),
    FileType("/", "folder.WRITER", only="image", content="a picture each, and a list of them with their classes"),
)


def types_for(data: str) -> list[FileType]:
    """Return the types of file that suit a kind of data: those of the table, then those of the formats that write it.

    >>> [one.ending for one in types_for("image")][:4]
    ['.png', '.npz', '.npy', '/']
    """
    own = [one for one in FILE_TYPES if one.only in (None, data)]
    return own + [FileType(ending, "formats.WRITER") for ending in writers(data) if ending not in {one.ending for one in own}]


def names_for(data: str) -> str:
    """Return what an output may be called that suits a kind of data, in words.

    >>> names_for("table")
    'a name ending in .csv, .tsv, .txt, .dat, .parquet, .dta, .sav, .png, .npz or .npy'
    """
    endings = [one.ending for one in types_for(data)]
    *first, last = [ending for ending in endings if ending != "/"]
    return f"a name ending in {', '.join(first)} or {last}{', or a folder' * ('/' in endings)}"


def help_text() -> str:
    """Return what can be written, in words.

    >>> help_text()[:45]
    'a name ending in .png (a grid of images, or a'
    """
    general = [f"{one.ending} ({one.content})" for one in FILE_TYPES if one.only is None]
    tables = [one.ending for one in FILE_TYPES if one.only == "table"]
    folders = [f"a folder of {one.only}s ({one.content})" for one in FILE_TYPES if one.ending == "/"]
    files = list(dict.fromkeys(ending for kind in KINDS for ending in writers(kind)))
    more = f"; or the kind of file that the data came in: {', '.join(files)}" if files else ""
    packed = f", and with .gz behind: {', '.join(one.ending for one in FILE_TYPES if one.packs)}"
    return f"a name ending in {' or '.join(general)}, or {folders[0]}; of tables also {', '.join(tables)}{packed}{more}"
