"""Header: whether the first row of a table names its columns, and whether rows of units follow it.

A first row is data if one of its cells looks like the rest of its column and none is a text over numbers. Numbers may be names
as well: years, days, wavelengths, or 0, 1, 2 as of a data frame. A row of numbers is a header if it is both

    in line    its numbers have equal steps, are years that go up, or go up without end where no other row does; and
    foreign    at least half of them are well outside the range of their column, or whole above decimals

since a row like all others is outside the range of n others with probability 2/(n + 1) in each column.

A second row of texts above numbers in every column holds units (m, hPa), or what was done (Avg, Max), as loggers write them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.issues import DataIssue
from scorefield.data.text.cells import MISSING, kind_of
from scorefield.data.text.numerals import UNITS

Rows = Sequence[Sequence[str]]
PREAMBLE = 20  # rows above the names, at most
LOOKED_AT = 1000  # rows that are compared with the first
CELLS = 200_000  # and cells, at most
YEARS = (1500, 2200)
MOST_UNIT_ROWS = 3
LONGEST_UNIT = 24
WHOLE = re.compile(r"[+-]?\d+")
BRACKETED = re.compile(r"[\[(<{].*[\])>}]")


def names_of(rows: Rows, issues: list[DataIssue]) -> tuple[list[str], bool, str]:
    """Return the names of the columns, whether the first row holds them, and a note if it does though it holds numbers.

    Args:
        rows: of a table, all of one length.
        issues: gets the names that occur twice, and a first row that may be a header.
    """
    first = rows[0]
    looked = rows[1 : 1 + min(LOOKED_AT, max(CELLS // len(first), 10))]
    below = [[cell for cell in column if cell not in MISSING] for column in zip(*looked, strict=True)] or [[] for _ in first]
    numbers = _names_are_numbers(first, below, looked)
    if numbers is None:
        issues.append(
            DataIssue("the first row", "may name the columns: read as data; write names over them if it does", used=True)
        )
    if not numbers and not _is_header(first, below):
        return [f"column {i + 1}" for i in range(len(first))], False, ""
    note = f"The first row ({', '.join(first[:4])}{', ...' * (len(first) > 4)}) was read as names: its numbers are in line, and"
    return _distinct(first, issues), True, f"{note} unlike those below them." if numbers else ""


def _is_header(first: Sequence[str], below: list[list[str]]) -> bool:
    """Whether a first row is a header, by what its cells look like."""
    # An empty cell over a column of numbers beside names 0, 1, 2...: the index of a data frame.
    if first[0] == "" and list(first[1:]) == [str(i) for i in range(len(first) - 1)]:
        return True
    over, like = over_and_like(first, below)
    return over or not like


def over_and_like(first: Sequence[str], below: Sequence[list[str]]) -> tuple[bool, bool]:
    """Return whether a cell of a row is another thing than those below it, and whether one is a number or a date like them."""
    over = like = False
    for cell, column in zip(first, below, strict=True):
        if cell not in MISSING:
            own, kinds = kind_of(cell), set(map(kind_of, column)) if len(column) < 20 else _first_kinds(column)
            like |= own in kinds - {""}
            over |= own not in kinds - {""} and kinds != {""} and bool(kinds)
    return over, like


def _first_kinds(column: list[str]) -> set[str]:
    """Return what the first cells of a column look like, and the next ones until one looks like something."""
    kinds = set(map(kind_of, column[:20]))
    return kinds if kinds != {""} else kinds | {next((kind for cell in column[20:] if (kind := kind_of(cell))), "")}


def _names_are_numbers(first: Sequence[str], below: list[list[str]], looked: Rows) -> bool | None:
    """Whether a first row with numbers holds names; None if it may."""
    places = [i for i, cell in enumerate(first) if _number(cell) is not None]
    columns = {i: np.array([v for cell in below[i] if (v := _number(cell)) is not None]) for i in places}
    places = [i for i in places if len(columns[i]) > 0.5 * len(below[i])]
    values = [_number(first[i]) or 0.0 for i in places]
    texts = [i for i, cell in enumerate(first) if i not in places and (cell not in MISSING or i == 0)]
    if not places or len(looked) < 3 or len(set(values)) < len(values):
        return False
    new = all(_is_new(first[i], below[i]) for i in texts)
    whole = [bool(WHOLE.fullmatch(first[i])) for i in places]
    outside = [_is_outside(value, columns[i]) for i, value in zip(places, values, strict=True)]
    decimal = [w and not any(map(WHOLE.fullmatch, below[i])) for i, w in zip(places, whole, strict=True)]
    foreign = sum(a or b for a, b in zip(outside, decimal, strict=True)) / len(places)
    counted = values in ([*range(len(values))], [*range(1, len(values) + 1)])
    others = [_in_line(row, places, len(places) > 4) for row in looked[:20]]
    if not new or 4 * sum(others) > len(others):
        return False
    if foreign < 0.5:  # 0, 1, 2... among numbers that are as small
        return (True if len(values) > 4 else None) if counted and len(values) > 2 else False
    steps = np.diff(values)
    up = len(values) > 1 and bool((steps > 0).all())
    years = all(whole) and all(YEARS[0] <= value <= YEARS[1] for value in values)
    if years and (up or (len(values) == 1 and bool(texts))):
        return True
    if len(values) > 2 and all(whole) and bool((steps == steps[0]).all()):
        return True
    if len(values) > 4 and up and foreign == 1.0:
        return True
    return None if foreign == 1.0 and len(values) > 1 and len(looked) >= 8 else False


def _is_outside(value: float, column: NDArray[np.float64]) -> bool:
    """Whether a number is outside the range of those below it, by more than a step from row to row: they may rise or fall."""
    if len(column) < 2 or column.min() <= value <= column.max():
        return False
    return bool(abs(value - column[0]) > np.abs(np.diff(column)).max())


def _in_line(row: Sequence[str], places: list[int], rising: bool) -> bool:
    """Whether the numbers of another row are in line too: years, or all rising where there are more than a few."""
    values = [v for i in places if (v := _number(row[i])) is not None]
    steps = np.diff(values)
    if len(values) < len(places) or not len(steps):
        return False
    equal = bool((steps == steps[0]).all()) and steps[0] != 0 and len(steps) > 1
    return equal or (rising and bool((steps > 0).all()))


def _is_new(cell: str, column: list[str]) -> bool:
    """Whether a text over a column is none of its texts, which repeat; or there is none."""
    return cell in MISSING or (cell not in column and len(set(column)) < len(column) and not kind_of(cell))


def _number(cell: str) -> float | None:
    """Return a plain finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _distinct(first: Sequence[str], issues: list[DataIssue]) -> list[str]:
    """Return names that are all different, and none of them empty."""
    names, taken = list[str](), set(first)
    for i, title in enumerate(first):
        title, count = title or f"column {i + 1}", 2
        if title in names:
            while (called := f"{title} ({count})") in names or called in taken:
                count += 1
            issues.append(DataIssue(f"column {title!r}", f"a second one of this name: called {called!r}", used=True))
            title = called
        names.append(title)
    return names


def below_preamble(rows: Sequence[tuple[int, list[str]]], start: int, cells: int) -> int:
    """Return where names stand below rows such as `Instrument;XYZ;;`: the last texts over numbers that are all there.

    Above them a row is not full, or an empty line lies between; and no full row is like those below.

    Args:
        rows: the number of the last line of each, and its cells.
        start: the first row that is as long as most.
        cells: of most rows.
    """
    for at in range(min(start + PREAMBLE, len(rows) - 3), start, -1):
        line, row = rows[at]
        if (
            len(row) != cells
            or len(set(row)) < cells
            or set(row) <= UNITS
            or any(cell in MISSING or kind_of(cell) for cell in row)
        ):
            continue
        parted = line - rows[at - 1][0] > 1 + sum(cell.count("\n") for cell in row)
        if (all(rows[start][1]) and not parted) or not any(map(kind_of, rows[at + 1][1])):
            continue
        after = [one for _, one in rows[at + 1 : at + 1 + 50] if len(one) == cells]
        below = [[cell for cell in column if cell not in MISSING] for column in zip(*after, strict=True)]
        full = [one for _, one in rows[start:at] if len(one) == cells and all(one)]
        if over_and_like(row, below)[0] and not any(over_and_like(one, below)[1] for one in full):
            return at
    return start


def unit_rows(rows: Rows) -> int:
    """Return how many rows of units stand at the top of the rows below a header.

    >>> unit_rows([["hPa", "°C"], ["Avg", "Avg"], *[["1013.2", "7.5"]] * 8])
    2
    """
    count = 0
    while count < min(MOST_UNIT_ROWS, len(rows) - 2) and _is_units(rows[count], rows[count + 1 :]):
        count += 1
    if count and any(_is_units(row, rows[count:]) for row in rows[count : count + 1]):
        return 0
    return count


def _is_units(row: Sequence[str], rows: Rows) -> bool:
    """Whether a row has texts over the numbers in all columns of numbers, and looks like units."""
    below = list(zip(*rows[MOST_UNIT_ROWS : MOST_UNIT_ROWS + 50] or rows[1:], strict=True))
    numeric = [i for i, column in enumerate(below) if _mostly_values(column)]
    over = [row[i] for i in numeric]
    texts = [cell for cell in over if cell not in MISSING | {"-", "1"}]
    if not texts or any(kind_of(cell) for cell in texts) or max(map(len, row)) > LONGEST_UNIT:
        return False
    known = [bool(cell in UNITS or BRACKETED.fullmatch(cell)) for cell in texts]
    return (len(texts) > 1 and len(texts) >= 0.5 * len(over)) or all(known)


def _mostly_values(column: Any) -> bool:
    cells = [cell for cell in column if cell not in MISSING]
    return bool(cells) and sum(map(bool, map(kind_of, cells))) > 0.8 * len(cells)
