"""Filling: a file of text with some of its cells written anew, and everything else byte for byte as it was.

Encoding, marks, delimiters, quotes, comments and line ends stay, since only the bytes of the cells change. Several versions of
the rows go into one long file: the lines above the rows once, then all rows of each version, with its number in a new first
column. Lines that hold no row, such as empty ones, are left out of a long file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scorefield.data.text.delimited import Text, decoded
from scorefield.data.text.spans import Record, plain, records
from scorefield.data.text.written import MARKS, quoted
from scorefield.errors import ScorefieldError

Cells = Mapping[tuple[int, str], str]  # (row, column) -> what is written there
VERSION = "draw"


@dataclass(frozen=True)
class Fillable:
    """A file of text whose cells can be written anew.

    Attributes:
        name: what messages call it.
        content: its text.
        text: what `read_text` found in it.
    """

    name: str
    content: str
    text: Text

    @classmethod
    def of(cls, path: str, name: str, text: Text) -> Fillable:
        """Return the file that `read_text` read.

        Raises:
            ScorefieldError: rows that were left out, for they have more or fewer cells.
        """
        for issue in text.issues:
            if issue.where.startswith("line "):
                raise ScorefieldError(f"got {issue.where} of {name!r} with {issue.cause}: correct it")
        return cls(name, decoded(path, name)[0], text)

    @property
    def delimiter(self) -> str:
        """What stands between cells, without the blank that may follow it."""
        return str(self.text.style["delimiter"][0])

    @cached_property
    def names(self) -> dict[str, int]:
        """Place of each column."""
        return {column.name: place for place, column in enumerate(self.text.columns)}

    @cached_property
    def _records(self) -> dict[int, Record]:
        said = self.content.find("\n") if self.text.style.get("said") else 0  # a line that says the delimiter holds one
        found = list(records(self.content[said:], self.delimiter))
        return {one.line: one if not said else _moved(one, said) for one in found}

    def _record(self, line: int) -> Record:
        record = self._records.get(line)
        if record is None or len(record.cells) < len(self.names):
            found = f"got {self.name!r}, whose line {line} cannot be written anew"
            raise ScorefieldError(f"{found}, expected cells of delimited text: check its quotes")
        return record

    def cell(self, row: int, column: str) -> str:
        """Return what stands in a cell, without its quotes."""
        start, end = self._record(self.text.lines[row]).cells[self.names[column]]
        return plain(self.content[start:end])

    def filled(self, cells: Cells) -> bytes:
        """Return the file with these cells written anew."""
        edits = {span: text for own in self._edits(cells).values() for span, text in own.items()}
        return self._encoded(self._spliced(0, len(self.content), edits))

    def long(self, versions: Sequence[Cells]) -> bytes:
        """Return the file with every version of the rows below each other, numbered from 1 in a new first column."""
        style, first = self.text.style, self._record(self.text.lines[0])
        newline = style["newline"]
        parts, at = [], 0
        for place, line in enumerate(self.text.head):
            start = self._record(line).start + (len(style.get("comment", "")) if place == 0 else 0)
            parts.append(self.content[at:start] + (self._title if place == 0 else quoted("", self.delimiter, False)))
            parts.append(style["delimiter"])
            at = start
        parts.append(self.content[at : first.start])
        for number, cells in enumerate(versions, 1):
            edits = self._edits(cells)
            for row, line in enumerate(self.text.lines):
                record = self._record(line)
                body = self._spliced(record.start, record.end, edits.get(row, {}))
                parts.append(f"{number}{style['delimiter']}{body}{newline}")
        return self._encoded("".join(parts))

    @property
    def _title(self) -> str:
        name, count = VERSION, 2
        while name in self.names:
            name, count = f"{VERSION} ({count})", count + 1
        return quoted(name, self.delimiter, self.text.style.get("quoted", False))

    def _edits(self, cells: Cells) -> dict[int, dict[tuple[int, int], str]]:
        """Return what is written for each row, by the place of the cell."""
        edits = dict[int, dict[tuple[int, int], str]]()
        for (row, column), text in cells.items():
            edits.setdefault(row, {})[self._record(self.text.lines[row]).cells[self.names[column]]] = text
        return edits

    def _spliced(self, start: int, end: int, edits: Mapping[tuple[int, int], str]) -> str:
        parts = list[str]()
        for (first, last), text in sorted(edits.items()):
            parts += [self.content[start:first], text]
            start = last
        return "".join([*parts, self.content[start:end]])

    def _encoded(self, content: str) -> bytes:
        encoding = self.text.style["encoding"]
        return MARKS.get(encoding, b"") + content.encode(encoding.removesuffix("-sig"))


def _moved(record: Record, by: int) -> Record:
    return Record(record.line, record.start + by, record.end + by, tuple((a + by, b + by) for a, b in record.cells))
