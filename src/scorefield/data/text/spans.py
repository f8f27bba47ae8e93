"""Spans: where the cells of a delimited text stand in it, so that some can be written anew and the rest stays as it is.

A record ends with its line, as `csv` reads it: a cell that begins with a quote ends at the next one that is not doubled, and
may hold delimiters and line ends; in any other cell a quote is a letter. Blanks as a delimiter stand between words of one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BLANKS = " "
WORD = re.compile(r'"(?:[^"]|"")*"(?!\S)|\S+')
LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Record:
    """One record of a text.

    Attributes:
        line: of the text, on which it ends, counted from 1.
        start, end: of all of it, without its line end.
        cells: start and end of each cell, without blanks around it, but with its quotes.
    """

    line: int
    start: int
    end: int
    cells: tuple[tuple[int, int], ...]


def records(text: str, delimiter: str) -> Iterator[Record]:
    r"""Yield the records of a text, empty ones, too.

    >>> text = 'a,"b, c"\n1, 2\n'
    >>> [[text[a:b] for a, b in record.cells] for record in records(text, ",")]
    [['a', '"b, c"'], ['1', '2']]
    """
    return _words(text) if delimiter == BLANKS else _cells(text, delimiter)


def plain(cell: str) -> str:
    """Return a cell without its quotes.

    >>> plain('"a ""b"" c"'), plain("d")
    ('a "b" c', 'd')
    """
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"').strip()
    return cell


def _words(text: str) -> Iterator[Record]:
    start = 0
    for number, end in enumerate([*(match.span() for match in LINE_END.finditer(text)), (len(text), len(text))], 1):
        cells = tuple(match.span() for match in WORD.finditer(text, start, end[0]))
        yield Record(number, start, end[0], cells)
        start = end[1]


def _cells(text: str, delimiter: str) -> Iterator[Record]:
    mark = re.escape(delimiter)
    cell = re.compile(rf' *"(?:[^"]|"")*"[^{mark}\r\n]*|[^{mark}\r\n]*')
    at, start, line = 0, 0, 1
    cells = list[tuple[int, int]]()
    while start < len(text):
        match = cell.match(text, at)
        assert match is not None  # it matches nothing, too
        first, last = match.span()
        line += len(LINE_END.findall(match[0]))
        inside = match[0].strip()
        begin = first + match[0].index(inside) if inside else last
        cells.append((begin, begin + len(inside)))
        if text.startswith(delimiter, last):
            at = last + 1
            continue
        yield Record(line, start, last, tuple(cells))
        after = LINE_END.match(text, last)
        at = start = after.end() if after else len(text)
        line, cells = line + 1, []
