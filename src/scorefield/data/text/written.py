"""Writing text: a table as delimited text in the style of the file that it was read from.

The style of the file (`delimited.py`) gives delimiter, header, rows of units, quotes, encoding and line ends; "text" of each
column (`cells.py`) gives decimal commas, dates, percent signs and the mark of no value. A file of another ending gets the
delimiter that is usual there: .tsv a tab, .txt and .dat a blank, .csv a comma, or a semicolon beside decimal commas.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from scorefield.data.text import forms, numerals

Column = Mapping[str, Any]
USUAL = {".tsv": "\t", ".txt": " ", ".dat": " "}
MARKS = {"utf-8-sig": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def text_of(
    columns: Sequence[Column], style: Mapping[str, Any] | None = None, ending: str = ".csv"
) -> tuple[bytes, Callable[[Mapping[str, Sequence[Any]]], bytes]]:
    r"""Return the head of a file of text, and what writes rows below it.

    Args:
        columns: of the table: `Dataset.columns`, or at least their names.
        style: of the file that it was read from: `Dataset.style`; None for UTF-8 with a header and single line feeds.
        ending: of the file, without ".gz".

    Returns:
        The first bytes; and a function of columns, name -> n values, None where one is missing, to the bytes of n rows.

    >>> day = {"name": "day", "type": "integer", "text": {"form": "YYYY-MM", "missing": "NA"}}
    >>> head, rows = text_of([day, {"name": "x", "type": "number"}], {"delimiter": ";", "ending": ".csv"})
    >>> head + rows({"day": [637, None], "x": [1.5, 2.0]})
    b'day;x\n2023-02;1.5\nNA;2.0\n'
    """
    style = style or {}
    texts = [column.get("text", {}) for column in columns]
    delimiter = style.get("delimiter", "") if style.get("ending") == ending else ""
    if not delimiter:
        delimiter = USUAL.get(ending) or (";" if any(text.get("decimal") == "," for text in texts) else ",")
    newline, encoding = style.get("newline", "\n"), style.get("encoding", "utf-8")
    cells = [cell_writer(column, text, delimiter) for column, text in zip(columns, texts, strict=True)]
    lines = list[str]()
    if style.get("header", True):
        names = [quoted(str(column["name"]), delimiter, style.get("quoted", False)) for column in columns]
        lines.append((style.get("comment", "") if style.get("ending") == ending else "") + delimiter.join(names))
    for row in range(style.get("units", 0)):
        units = [(text.get("units", []) + [""] * style["units"])[row] for text in texts]
        lines.append(delimiter.join(quoted(unit, delimiter, style.get("quoted", False)) for unit in units))

    plain = encoding.removesuffix("-sig")
    end = f"{delimiter if style.get('ended') and style.get('ending') == ending else ''}{newline}"

    def encoded(lines: Sequence[str], encoding: str) -> bytes:
        return "".join(f"{line}{end}" for line in lines).encode(encoding)

    def rows(table: Mapping[str, Sequence[Any]]) -> bytes:
        written = [list(map(cell, values)) for cell, values in zip(cells, table.values(), strict=True)]
        return encoded(list(map(delimiter.join, zip(*written, strict=True))), plain)

    said = f"sep={delimiter[0]}{newline}" if style.get("said") and ending == ".csv" else ""
    return MARKS.get(encoding, b"") + said.encode(plain) + encoded(lines, plain), rows


def cell_writer(column: Column, text: Mapping[str, Any], delimiter: str) -> Callable[[Any], str]:
    """Return what writes the values of a column."""
    write, quote = spelling(column), bool(text.get("quoted"))
    nothing: str = text.get("missing", "")
    if not nothing and delimiter == " ":
        nothing = '""' if column.get("type") == "category" else "nan"
    elif nothing:
        nothing = quoted(nothing, delimiter, False)
    plain = column.get("type") in ("number", "integer", "boolean") and not text and "as" not in column.get("stored", {})

    def cell(value: Any) -> str:
        if value is None:
            return nothing
        return write(value) if plain else quoted(write(value), delimiter, quote)

    return cell


def spelling(column: Column) -> Callable[[Any], str]:
    """Return what writes the values of a column as they were written, without quotes.

    >>> spelling({"type": "boolean", "text": {"true": "TRUE", "false": "FALSE"}})(True)
    'TRUE'
    """
    text = column.get("text", {})
    if column.get("stored", {}).get("as") == "duration":
        return _span
    if column.get("stored", {}) == {**column.get("stored", {}), "as": "yyyymmdd", "type": "double"}:
        return "{}.0".format  # whole numbers beside gaps, as pandas writes them
    if column.get("stored", {}).get("as") == "time":
        return str
    if "form" in text:
        return forms.writer(text["form"])
    if column.get("type") == "boolean":
        return {True: text.get("true", "True"), False: text.get("false", "False")}.__getitem__
    if column.get("type") in ("number", "integer"):
        own = "step" in column or "levels" in column  # all decimals are on the grid, and none is added
        return numerals.writer(text, None if own else column.get("digits"))
    return str


def _span(value: timedelta) -> str:
    """Return a span of time as pandas reads and writes it.

    >>> _span(timedelta(days=2, minutes=65))
    '2 days 01:05:00'
    """
    return f"{value.days} days {str(value - timedelta(days=value.days)).zfill(8)}"


def quoted(text: str, delimiter: str, always: bool) -> str:
    """Return a cell, in quotes where it needs them or all others have them."""
    if text and not always and not any(mark in text for mark in (delimiter[0], '"', "\n", "\r")) and text == text.strip():
        return text
    if not (text or always or delimiter == " "):
        return text
    return '"{}"'.format(text.replace('"', '""'))
