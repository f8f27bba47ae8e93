"""Delimited text: a .csv or .tsv file, read by the standard library and no other, so that it means the same on every machine.

    encoding     UTF-8 with or without a mark, UTF-16 with one, else Latin-1, which a note says
    delimiter    of tab, semicolon, bar and comma the one by which most of the first rows have equally many cells
    header       the first row, unless it holds a number where the rest of the column does too
    types        of a column: the narrowest that all of its cells fit: boolean, integer, number, date, text

Lines without any value are skipped. A row with more or fewer cells than most is left out, and named by its line.
"""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections import Counter
from datetime import date, datetime
from typing import Any

import numpy as np

from scorefield.data.issues import DataIssue
from scorefield.data.series import Series, series_of_dates
from scorefield.errors import NotFinite, ScorefieldError

MISSING = {"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?"}
DELIMITERS = "\t;|,"
NAMES = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}
LOOKED_AT = 1000  # rows by which the delimiter is chosen
MOSTLY = 0.9  # of the different texts are numbers: the others are mistakes
INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
CODE = re.compile(r"[+-]?0\d+")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|infinity)", re.IGNORECASE)
COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
BINARY = {b"PAR1": ".parquet", b"PK\x03\x04": ".xlsx or .zip", b"\x1f\x8b": ".gz", b"ARROW1": ".feather", b"\x89PNG": ".png"}


def read_text(path: str, name: str) -> tuple[list[Series], list[str], list[DataIssue]]:
    """Read the columns of a delimited file.

    Args:
        path: of the file.
        name: what messages call it.

    Returns:
        Columns, notes, and what was left out or is odd.

    Raises:
        ScorefieldError: no text, or no rows of equal length.
        NotFinite: an infinite value.
    """
    with open(path, "rb") as stream:
        text, notes = _text(stream.read(), name)
    delimiter = _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as cause:
        raise ScorefieldError(
            f"got {name!r}, which cannot be read ({cause}), expected delimited text: check its quotes"
        ) from cause
    if not rows:
        raise ScorefieldError(f"got {name!r} without any value, expected rows of values: check the file")
    cells = Counter(len(row) for _, row in rows).most_common(1)[0][0]
    if len(rows[0][1]) == cells - 1:
        rows[0][1].insert(0, "")  # the names of the rows have no name, as R writes it
    whole = [(line, row) for line, row in rows if len(row) == cells]
    if 2 * len(whole) <= len(rows):
        found = f"got {name!r}, where only {len(whole)} of {len(rows)} rows have the same number of cells"
        raise ScorefieldError(f"{found}, expected a table: check its delimiter and quotes")
    issues = [DataIssue(f"line {line}", f"{len(row)} cells, expected {cells}") for line, row in rows if len(row) != cells]
    body = [row for _, row in whole]
    names, headed = _header([list(column) for column in zip(*body, strict=True)], issues)
    lines, body = [line for line, _ in whole][headed:], body[headed:]
    notes.append(f"Read with {NAMES[delimiter]}s between cells and {'a header' if headed else 'no header'}.")
    if not body:
        raise ScorefieldError(f"got {name!r} with a header and no rows, expected rows of values: add some")
    columns = [
        _series(title, list(column), lines, issues) for title, column in zip(names, zip(*body, strict=True), strict=True)
    ]
    return columns, notes, issues


def _text(content: bytes, name: str) -> tuple[str, list[str]]:
    """Return a file's text, and a note if its encoding is a guess."""
    for mark, kind in BINARY.items():
        if content.startswith(mark):
            raise ScorefieldError(f"got {name!r}, which is no text, expected delimited text: it looks like a {kind} file")
    try:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return content.decode("utf-16"), []
        text, notes = content.decode("utf-8-sig"), list[str]()
    except UnicodeDecodeError:
        text, notes = content.decode("latin-1"), ["Not UTF-8: read as Latin-1; look at accents and signs."]
    if "\0" in text:
        raise ScorefieldError(f"got {name!r}, which is no text, expected delimited text: check what it is")
    return text, notes


def _delimiter(text: str) -> str:
    """Return what stands between cells."""
    best, chosen = 0.0, ","
    for delimiter in DELIMITERS:
        reader, lengths = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), Counter[int]()
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
    return chosen


def _is_number(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell) or COMMA.fullmatch(cell))


def _header(columns: list[list[str]], issues: list[DataIssue]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row holds them."""
    like_data = [_is_number(column[0]) and any(map(_is_number, column[1:])) for column in columns if column[0] not in MISSING]
    first = [column[0] for column in columns]
    over_numbers = [not _is_number(c[0]) and c[0] not in MISSING and any(map(_is_number, c[1:])) for c in columns]
    # An empty cell over a column of numbers beside names 0, 1, 2...: the index of a data frame.
    index = first[0] == "" and first[1:] == [str(i) for i in range(len(first) - 1)]
    if any(like_data) and not any(over_numbers) and not index:
        return [f"column {i + 1}" for i in range(len(columns))], False
    names: list[str] = []
    for i, title in enumerate(first):
        title, count = title or f"column {i + 1}", 2
        if title in names:
            while f"{title} ({count})" in names or f"{title} ({count})" in first:
                count += 1
            issues.append(
                DataIssue(f"column {title!r}", f"a second one of this name: called {f'{title} ({count})'!r}", used=True)
            )
            title = f"{title} ({count})"
        names.append(title)
    return names, True


def _series(name: str, cells: list[str], lines: list[int], issues: list[DataIssue]) -> Series:
    """Return a column with the narrowest type that all its cells fit."""
    where, distinct = f"column {name!r}", set(cells) - MISSING
    if distinct and {text.lower() for text in distinct} <= {"true", "false"}:
        return Series(name, "boolean", _numbers(cells, {text: float(text.lower() == "true") for text in distinct}))
    # Digits beyond the range of floats, such as -1.8e308, are a mark of no data; "inf" is what it says.
    meant = {text: float(text) for text in distinct if NUMBER.fullmatch(text)}
    meant |= {t: math.copysign(sys.float_info.max, v) for t, v in meant.items() if math.isinf(v) and t[-1].isdigit()}
    commas = {text for text in distinct if COMMA.fullmatch(text)}
    if commas and all(text in commas or INTEGER.fullmatch(text) for text in distinct):
        if all(THOUSANDS.fullmatch(text) for text in commas):
            cause = f"commas that may stand for thousands or for decimals (such as {min(commas)}): read as text"
            issues.append(DataIssue(where, cause, used=True))
        else:
            issues.append(DataIssue(where, f"decimal commas (such as {min(commas)}): read as numbers", used=True))
            return Series(name, "number", _numbers(cells, {t: float(t.replace(".", "").replace(",", ".")) for t in distinct}))
    elif meant and len(meant) >= MOSTLY * len(distinct) and not any(CODE.fullmatch(text) for text in distinct):
        if wrong := sorted(distinct - set(meant)):
            count = sum(cell in set(wrong) for cell in cells)
            line = lines[cells.index(wrong[0])]
            cause = f"{count} values among numbers that are none (such as {wrong[0]!r} in line {line}): read as missing"
            issues.append(DataIssue(where, cause, used=True))
        if endless := next((cell for cell in cells if math.isinf(meant.get(cell, 0.0))), None):
            found = f"got {endless!r} in {where}, line {lines[cells.index(endless)]}"
            raise NotFinite(f"{found}, expected finite numbers: remove or fill it")
        if not all(INTEGER.fullmatch(text) for text in meant):
            return Series(name, "number", _numbers(cells, meant))
        if all(abs(value) <= 2**53 for value in meant.values()):
            return Series(name, "integer", _numbers(cells, meant))
    elif distinct and None not in (dates := {text: _date(text) for text in distinct}).values():
        return series_of_dates(name, [dates.get(cell) for cell in cells])
    return Series(name, "category", np.array([None if cell in MISSING else cell for cell in cells], dtype=object))


def _numbers(cells: list[str], meaning: dict[str, float]) -> Any:
    return np.array([meaning.get(cell, math.nan) for cell in cells])


def _date(text: str) -> date | datetime | None:
    """Return a date or a datetime in ISO 8601, or None."""
    if len(text) < 10 or not text[:4].isdigit() or text[4] != "-":
        return None
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        return None
