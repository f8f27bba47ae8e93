"""Delimited text: .csv, .tsv, .txt and .dat files, packed by gzip or not, read by the standard library and no other, so that
they mean the same on every machine. What is above the table and between its cells is found here; `header.py` says what the
first rows are, and `cells.py` what the cells mean.

    encoding     UTF-8 with or without a mark, UTF-16 with one, else Latin-1, which a note says
    comments     lines that begin with #, %, ! or //; the last one above the table may be its header, as numpy.savetxt writes it
    delimiter    of tab, semicolon, bar and comma the one by which most of the first rows have equally many cells; else blanks
    notes        lines above the table with another number of cells: a title, what was measured where

Lines without any value are skipped. A row with more or fewer cells than most is left out, and named by its line. How the file
is laid out goes into the run as its style, as JSON values, so that samples can be written in the same one (`written.py`):

    ending, delimiter, newline, encoding, packed    of the file
    header, comment                                 whether the names of the columns stand above them, and what before them
    units                                           how many rows of units follow
    quoted                                          whether the names stand in quotes
    said, ended                                     whether a first line says the delimiter, as sep=; and one ends each line
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scorefield.data.issues import DataIssue
from scorefield.data.table.series import Series
from scorefield.data.text.cells import MISSING, Column, series_of
from scorefield.data.text.gunzip import unpacked
from scorefield.data.text.header import CELLS, LOOKED_AT, below_preamble, names_of, over_and_like, unit_rows
from scorefield.data.text.numerals import UNITS, decimal_of, is_number
from scorefield.errors import ScorefieldError

DELIMITERS = "\t;|,"
BLANKS = " "
NAMES = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", BLANKS: "blanks"}
LOOSE = (".txt", ".dat")  # endings of files in which blanks stand between cells, as a rule
COMMENTS = {  # what lines of comments begin with; a # before a delimiter, and a % before a letter, are names of columns
    "#": re.compile(r"#(?![\t;|,])"), "%": re.compile(r"%+(\s|$)"), "!": re.compile(r"!+(\s|$)"), "//": re.compile("//")
}  # fmt: skip
BINARY = {b"PAR1": ".parquet", b"PK\x03\x04": ".xlsx or .zip", b"\x1f\x8b": ".gz", b"ARROW1": ".feather", b"\x89PNG": ".png"}
WORD = re.compile(r'"((?:[^"]|"")*)"(?!\S)|(\S+)')
SAID = re.compile(r'"?sep=([\t;|,])"?')  # a first line for spreadsheets
UNITS_FOLLOW = re.compile(r"\s{2,}|\t|(?<=[\])])\s")  # between names with blanks in them
STYLED = 50  # rows whose quotes are looked at
MOST_CELLS = 30_000_000  # a cell takes a hundred bytes and more until it is a number, whatever it takes in the file

Row = tuple[int, list[str]]  # the number of its last line, and its cells


@dataclass
class Layout:
    """The rows of a file, and how they are laid out.

    Attributes:
        rows: of the table and above it.
        style: as the module says.
        notes: sentences about it.
        lines: of the file, those of comments among them.
    """

    rows: list[Row]
    style: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Text:
    """A table that was read from delimited text.

    Attributes:
        columns: the series.
        notes: sentences about the file.
        issues: what was left out or is odd.
        style: how the file is laid out, as JSON values.
        lines: of the file, on which the rows end.
        head: lines of the names of the columns, and of the rows of units below them.
    """

    columns: list[Series]
    notes: list[str]
    issues: list[DataIssue]
    style: dict[str, Any]
    lines: tuple[int, ...] = ()
    head: tuple[int, ...] = ()


def read_text(path: str, name: str, known: Sequence[Mapping[str, Any]] | None = None, *, holes: bool = False) -> Text:
    """Read the columns of a delimited file.

    Args:
        path: of the file.
        name: what messages call it.
        known: `Dataset.columns` of a table with the same columns, which decide what is open in this one.
        holes: whether a line of delimiters alone, between rows, is a row of which nothing is known; else it is left out.

    Returns:
        Columns, notes, what was left out or is odd, and the style of the file.

    Raises:
        ScorefieldError: no text, no rows of equal length, or a packed file that is broken or too large.
        NotFinite: an infinite value.
    """
    layout, issues = _layout(path, name, [str(column["name"]) for column in known or ()] if holes else []), list[DataIssue]()
    rows = _rectangle(layout, name, issues)
    titles, headed, why = names_of([row for _, row in rows], issues)
    top, rows = rows, rows[headed:]
    units = unit_rows([row for _, row in rows]) if headed else 0
    unit_cells, rows = [row for _, row in rows[:units]], rows[units:]
    style = layout.style | {"header": headed, "units": units}
    layout.notes.append(f"Read with {NAMES[style['delimiter'][0]]} between cells and {'a header' if headed else 'no header'}.")
    layout.notes.extend([why] if why else [])
    if units:
        shown = ", ".join(f"{title} in {cell}" for title, cell in zip(titles, unit_cells[0], strict=True) if cell)
        layout.notes.append(f"{'A row' if units == 1 else f'{units} rows'} of units under the header: {shown}.")
    if not rows:
        raise ScorefieldError(f"got {name!r} with a header and no rows, expected rows of values: add some")
    cells = list(map(list, zip(*(row for _, row in rows), strict=True)))
    if len(cells) > 1 and titles[-1] == f"column {len(cells)}" and not any(cells[-1]):
        cells.pop()
        titles.pop()
        style["ended"] = True
    lines, quoted = [line for line, _ in rows], _quoted(layout, len(titles))
    style |= {"quoted": quoted[0] if headed else False}
    few = max(CELLS // len(cells), 10)
    decimal = decimal_of(set(column[:few]) - MISSING for column in cells)
    given = {column["name"]: column for column in known or ()}
    series = []
    for i, (title, column) in enumerate(zip(titles, cells, strict=True)):
        one = series_of(Column(title, column, lines, decimal, style["delimiter"][0], given.get(title)), issues)
        marks: dict[str, Any] = {"units": [row[i] for row in unit_cells]} if units else {}
        series.append(replace(one, text=dict(one.text) | marks | ({"quoted": True} if quoted[1][i] else {})))
    return Text(series, layout.notes, issues, style, tuple(lines), tuple(line for line, _ in top[: headed + units]))


def _layout(path: str, name: str, below: Sequence[str] = ()) -> Layout:
    """Return the rows of a file, without comments, and how they are laid out; `below` as of `_rows`."""
    packed = path.lower().endswith(".gz")
    text, encoding, notes = decoded(path, name)
    ending = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    newline = "\r\n" if "\r\n" in text else "\n" if "\n" in text or "\r" not in text else "\r"
    style = {"ending": ending, "newline": newline, "encoding": encoding, "packed": packed}
    _refuse_size(text, newline, "", name)
    lines = text.splitlines() if newline == "\r" else text.split("\n")
    said = SAID.fullmatch(lines[0].strip())
    if said:
        text, lines, style["said"] = text.replace(lines[0], "", 1), ["", *lines[1:]], True
    mark = _comment_mark(lines)
    looked = [line for line in lines[: 2 * LOOKED_AT] if not (mark and line.startswith(mark))]
    delimiter = said[1] if said else _delimiter(looked, ending)
    _refuse_size(text, newline, delimiter, name)
    try:
        rows = _rows(text, lines, delimiter, below)
    except csv.Error as cause:
        raise ScorefieldError(
            f"got {name!r}, which cannot be read ({cause}), expected delimited text: check its quotes"
        ) from cause
    if not rows:
        raise ScorefieldError(f"got {name!r} without any value, expected rows of values: check the file")
    layout = Layout(rows, style | {"delimiter": delimiter, "comment": ""}, notes, lines)
    if mark:
        _drop_comments(layout, mark, delimiter)
    inside = [line for line in lines[:STYLED] if delimiter in line]
    if delimiter != BLANKS and inside and all(line.count(delimiter) == line.count(f"{delimiter} ") for line in inside):
        layout.style["delimiter"] = f"{delimiter} "
    return layout


def _refuse_size(text: str, newline: str, delimiter: str, name: str) -> None:
    """Refuse a text of more cells than the memory holds, before there are any: two bytes are enough for one."""
    cells = text.count(newline)
    if delimiter == BLANKS and cells + text.count(BLANKS) + text.count("\t") > MOST_CELLS:
        cells = sum(1 for _ in re.finditer(r"\S+", text))  # several blanks may stand between two
    elif delimiter and delimiter != BLANKS:
        cells += text.count(delimiter)
    if cells > MOST_CELLS:
        found = f"got {name!r}, a text of {cells:,} cells"
        raise ScorefieldError(f"{found}, expected at most {MOST_CELLS:,}: write a part of the rows, or a .parquet file")


def decoded(path: str, name: str) -> tuple[str, str, list[str]]:
    """Return a file's text, its encoding, and a note if that is a guess."""
    content = unpacked(path, name) if path.lower().endswith(".gz") else Path(path).read_bytes()
    for mark, kind in BINARY.items():
        if content.startswith(mark):
            raise ScorefieldError(f"got {name!r}, which is no text, expected delimited text: it looks like a {kind} file")
    notes = list[str]()
    try:
        encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(content[:2], "")
        if encoding:
            return content[2:].decode(encoding), encoding, notes
        encoding = "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8"
        text = content.decode(encoding)
    except UnicodeDecodeError as cause:
        if encoding.startswith("utf-16"):
            found = f"got {name!r}, which begins as UTF-16 and is none ({cause.reason})"
            raise ScorefieldError(f"{found}, expected text: write it as UTF-8") from cause
        try:
            text, encoding = content.decode("cp1252"), "cp1252"  # Latin-1 with €, dashes and quotes, as Windows writes it
        except UnicodeDecodeError:
            text, encoding = content.decode("latin-1"), "latin-1"
        notes.append(f"Not UTF-8: read as {'Windows-1252' if encoding == 'cp1252' else 'Latin-1'}; look at accents and signs.")
    if "\0" in text:
        raise ScorefieldError(f"got {name!r}, which is no text, expected delimited text: check what it is")
    return text, encoding, notes


def _comment_mark(lines: list[str]) -> str:
    """Return what lines of comments begin with, or "" if there are none: most lines are data, or all begin alike."""
    first = next((line for line in lines if line.strip()), "")
    looked = [line for line in lines[:LOOKED_AT] if line.strip()]
    for mark, begins in COMMENTS.items():
        if begins.match(first) and 2 * sum(line.startswith(mark) for line in looked) <= len(looked):
            return mark
    return ""


def _drop_comments(layout: Layout, mark: str, delimiter: str) -> None:
    """Take the comments out of the rows: all above the table, and those below that have another number of cells or a blank.

    The last one above the table is its header if it has as many cells as the rows, and what follows has none.
    """
    lengths = Counter(len(row) for _, row in layout.rows if not row[0].startswith(mark))
    cells = lengths.most_common(1)[0][0] if lengths else 0
    above, rest, dropped = list[Row](), list[Row](), 0
    for line, row in layout.rows:
        if not row[0].startswith(mark):
            rest.append((line, row))
        elif not rest:
            above.append((line, row))
        elif len(row) == cells and row[0] != mark:
            rest.append((line, row))
        else:
            dropped += 1
    if above and rest and any(map(is_number, rest[0][1])):
        at, (begin, names) = len(above) - 1, _commented(layout, above[-1][0], mark, delimiter, cells)
        if at and set(names) <= UNITS:  # units, or nothing, below the names
            earlier = _commented(layout, above[-2][0], mark, delimiter, cells)
            at, (begin, names) = (at - 1, earlier) if len(earlier[1]) == cells else (at, (begin, names))
        if len(names) == cells and not all(map(is_number, names)):
            layout.style["comment"] = begin
            rest.insert(0, (above.pop(at)[0], names))
    if count := len(above) + dropped:
        first = f" (such as {' '.join(above[0][1])[:60]!r})" if above else ""
        layout.notes.append(f"{count} line{'s' * (count > 1)} of comments, after {mark}, left out{first}.")
    layout.rows = rest


def _commented(layout: Layout, number: int, mark: str, delimiter: str, cells: int) -> tuple[str, list[str]]:
    """Return what stands before the cells of a comment that ends in a line, and its cells; units may follow names."""
    text = next((one for one in reversed(layout.lines[:number]) if one.strip()), "")
    bare = text[len(mark) :].lstrip(mark[0]) if mark != "//" else text[2:]
    begin, bare = text[: len(text) - len(bare.lstrip())], bare.strip()
    names = [name for _, row in _rows(bare, [bare], delimiter) for name in row]
    if delimiter == BLANKS and len(names) > cells:  # time [s]   T [K]
        names = [name.strip() for name in UNITS_FOLLOW.split(bare)]
    return begin, names


def _rows(text: str, lines: Sequence[str], delimiter: str, below: Sequence[str] = ()) -> list[Row]:
    """Return the rows that hold a value, with the numbers of their last lines, and no blanks around their cells.

    Below one with these names, if there are some, rows of empty cells between others count, too.
    """
    if delimiter == BLANKS:
        return [(number, row) for number, line in enumerate(lines, 1) if (row := _words(line))]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    if text.isascii() and " " not in text and (delimiter == "\t" or "\t" not in text):
        rows = [(reader.line_num, row) for row in reader]  # nothing to strip, which takes half of the time
    else:
        rows = [(reader.line_num, list(map(str.strip, row))) for row in reader]
    head = next((i for i, (_, row) in enumerate(rows) if below and set(below) <= set(row)), len(rows))
    end = max((i for i, (_, row) in enumerate(rows) if any(row)), default=0)
    return [(line, row) for i, (line, row) in enumerate(rows) if any(row) or (head < i < end and len(row) > 1)]


def _words(line: str) -> list[str]:
    """Return what stands between blanks in a line; a word in quotes may hold some."""
    if '"' not in line:
        return line.split()
    return [match[2] or match[1].replace('""', '"') for match in WORD.finditer(line)]


def _delimiter(lines: list[str], ending: str) -> str:
    """Return what stands between cells."""
    best, chosen = 0.0, ","
    for delimiter in DELIMITERS:
        reader, lengths = csv.reader(lines, delimiter=delimiter), Counter[int]()
        try:
            for row in reader:
                lengths[len(row)] += bool(row)
                if reader.line_num > LOOKED_AT:
                    break
        except csv.Error:
            continue
        length, count = lengths.most_common(1)[0] if lengths else (0, 0)
        if length > 1 and count / lengths.total() > best:
            best, chosen = count / lengths.total(), delimiter
    rows = [row for line in lines[:LOOKED_AT] if (row := _words(line))]
    wide = Counter(len(row) for row in rows)
    length, count = wide.most_common(1)[0] if wide else (0, 0)
    share = count / max(wide.total(), 1)
    if length < 2 or (best and best >= share and not (chosen == "," and _all_numbers(rows, length))):
        return chosen
    return BLANKS if ending in LOOSE or (best < 0.5 < share and _all_numbers(rows, length)) else chosen


def _all_numbers(rows: list[list[str]], length: int) -> bool:
    """Whether the words of rows of one length are numbers, but for a header and texts in single columns."""
    whole = [row for row in rows if len(row) == length][-STYLED:]
    numbers = sum(is_number(cell) for row in whole for cell in row)
    return bool(whole) and numbers > 0.5 * len(whole) * length and not any(cell.endswith(",") for row in whole for cell in row)


def _rectangle(layout: Layout, name: str, issues: list[DataIssue]) -> list[Row]:
    """Return the rows of the table, all of one length; what is above them goes into a note, the others into issues."""
    rows = layout.rows
    cells = Counter(len(row) for _, row in rows).most_common(1)[0][0]
    mark = layout.style["delimiter"][0]
    for line, row in rows:
        for inner in (cell.splitlines()[1:-1] for cell in row if "\n" in cell):
            if cells > 1 and inner and all(text.count(mark) == cells - 1 for text in inner):
                found = f"got {name!r}, where a quote in line {line - len(inner) - 1} takes in the rows up to line {line}"
                raise ScorefieldError(f"{found}, expected it to be closed: close it, or write two for one")
    start = next(i for i, (_, row) in enumerate(rows) if len(row) == cells)
    if start and len(rows[start - 1][1]) == cells - 1 and _names_columns(rows[start - 1][1], [row for _, row in rows[start:]]):
        start, below = start - 1, [row for _, row in rows[start:] if len(row) == cells]
        line, names = rows[start]
        if not any(row[-1] for row in below):  # the rows end with a delimiter, the names do not
            rows[start] = (line, [*names, ""])
        elif len({row[0] for row in below}) == len(below):
            rows[start] = (line, ["", *names])  # the names of the rows have no name, as R writes it
            layout.notes.append(
                "The rows have a cell more than the names above them: the first was read as the name of the row."
            )
        else:
            found = f"got {name!r}, whose rows have a cell more than the names above them (line {rows[start + 1][0]})"
            raise ScorefieldError(f"{found}, expected as many: name that column, or put numbers with a comma in quotes")
    elif start and len(rows[start - 1][1]) == cells + 1 and not rows[start - 1][1][-1]:  # only the names end with a delimiter
        start -= 1
        rows[start] = (rows[start][0], rows[start][1][:-1])
    while start + 2 < len(rows) and cells > 2 and sum(map(bool, rows[start][1])) == 1 and all(rows[start + 1][1]):
        start += 1  # a title above the table, in a spreadsheet
    start = below_preamble(rows, start, cells)
    above, rows = rows[:start], rows[start:]
    if above:
        text = " ".join(filter(None, above[0][1]))[:60]
        count = f"{len(above)} line{'s' * (len(above) > 1)}"
        layout.notes.append(f"{count} above the table, with other numbers of cells, left out (such as {text!r}).")
    whole = [(line, row) for line, row in rows if len(row) == cells]
    if 2 * len(whole) <= len(rows) or len(above) > max(2 * len(whole), 2):
        found = f"got {name!r}, where only {len(whole)} of {len(layout.rows)} rows have the same number of cells"
        raise ScorefieldError(f"{found}, expected a table: check its delimiter and quotes")
    issues.extend(DataIssue(f"line {line}", f"{len(row)} cells, expected {cells}") for line, row in rows if len(row) != cells)
    return whole


def _names_columns(names: list[str], rows: list[list[str]]) -> bool:
    """Whether a row with a cell less than those below it names their columns, all but the first; else it is a title."""
    below = [list(column) for column in zip(*(row for row in rows[1:LOOKED_AT] if len(row) == len(rows[0])), strict=True)]
    over, like = over_and_like(rows[0], below) if below else (False, True)
    return not over and (like or len(names) > 1) and not all(map(is_number, names))


def _quoted(layout: Layout, cells: int) -> tuple[bool, list[bool]]:
    """Return whether the names of the columns stand in quotes that they do not need, and whether the cells of each do."""
    delimiter, wanted = layout.style["delimiter"][0], {line for line, _ in layout.rows[: STYLED + 10]}
    gap, other = (r"\s+", r"\s") if delimiter == BLANKS else (re.escape(delimiter), re.escape(delimiter))
    cell = re.compile(rf'\s*("(?:[^"]|"")*"|[^"{other}]*)\s*(?:{gap}|$)')
    rows = list[list[str]]()
    for number in sorted(wanted):
        line = layout.lines[number - 1].rstrip("\r") if number <= len(layout.lines) else ""
        row = [match[1] for match in cell.finditer(line)][:cells]
        if len(row) == cells:
            rows.append(row)

    def plainly(text: str) -> bool:
        needs = (delimiter, '"', "\n", "\r") if delimiter != BLANKS else ('"', " ", "\t")
        return len(text) > 1 and text[0] == text[-1] == '"' and not any(one in text[1:-1] for one in needs)

    if len(rows) < 2:
        return False, [False] * cells
    columns = [[one for one in column if one.strip('"') not in MISSING] for column in zip(*rows[1:], strict=True)]
    named = [one for one in rows[0] if one not in ("", '""')]
    return bool(named) and all(map(plainly, named)), [bool(one) and all(map(plainly, one)) for one in columns]
