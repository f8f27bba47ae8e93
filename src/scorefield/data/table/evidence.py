"""Evidence: what the whole numbers and the far values of a column stand for, by `codes.py`; done once, before it is described.

    row numbers    are left out
    marks          are read as missing, and written where the file writes nothing else for a missing value
    days           such as 20230131 become dates, and are written as whole numbers again
    names          of things stay numbers, with a note

A run has decided all this: data that are opened again are read as its columns say.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from scorefield.data.issues import DataIssue
from scorefield.data.table import codes
from scorefield.data.table.columns import MOST_TEXTS, Column
from scorefield.data.table.granularity import no_data
from scorefield.data.table.series import Series
from scorefield.data.text import numerals


def interpreted(
    series: list[Series], given: list[Column] | None, declared: tuple[float, ...] | None
) -> tuple[list[Series], list[DataIssue]]:
    """Return columns as what they stand for, without row numbers; and an issue for everything that was decided.

    Args:
        series: as they were read.
        given: the columns of an earlier run on the table, which decide; None to look for evidence.
        declared: numbers that stand for a missing value; None to look for them.
    """
    found, issues = list[Series](), list[DataIssue]()
    for one in series:
        own = None if given is None else next((column for column in given if column["name"] == one.name), None)
        counts = one.type == "integer" or (one.type == "number" and _is_index(one.name))  # 0.0, 1.0, ... of a frame with gaps
        if given is None and counts and not one.missing.any() and codes.numbers_rows(one.values, one.name):
            cause = (
                "numbers the rows: it says nothing of them; rename it if it does" if _is_index(one.name) else "counts the rows"
            )
            issues.append(DataIssue(f"column {one.name!r}", cause))
            continue
        one = _without_ends(one, issues)
        if one.type in ("number", "integer") and "as" not in one.stored and (own is not None or given is None):
            one = _without_marks(one, own, declared, issues)
            one = _as_days(one, own, issues)
        found.append(one)
    return found, issues


def _is_index(name: str) -> bool:
    return bool(codes.UNNAMED.fullmatch(name) or codes.INDEX.fullmatch(name))


def _without_ends(one: Series, issues: list[DataIssue]) -> Series:
    """Return a column whose ends of the range of floats, which map makers write among numbers, are missing."""
    marked = no_data(one.values) if one.type == "number" else np.zeros(0, dtype=bool)
    if not marked.any():
        return one
    value = float(one.values[marked][0])
    which = f"{int(marked.sum())} values of {value!r}, the end of the range of floats"
    issues.append(DataIssue(f"column {one.name!r}", f"{which}, which stands for no data: read as missing", used=True))
    return replace(one, values=np.where(marked, math.nan, one.values))


def _without_marks(one: Series, own: Column | None, declared: tuple[float, ...] | None, issues: list[DataIssue]) -> Series:
    """Return a column whose marks of no data are missing, with the marks among what is said of its values."""
    present = one.values[~one.missing]
    marks = list(declared if declared is not None else codes.marks_of(present))
    if own is not None:
        marks = own.get("stored", {}).get("marks", [])
    marked = np.isin(one.values, marks)
    if not marked.any() or marked.sum() == len(present):
        if own is None and declared is None and (suspect := codes.suspect_of(present)) is not None:
            shown = _written(suspect)
            cause = f"{shown} is far from most others and may stand for no data: read as a value; {_reads(shown)}"
            issues.append(DataIssue(f"column {one.name!r}", cause, used=True))
        return one
    seen = [mark for mark in marks if bool((one.values == mark).any())]
    listed = " and ".join(f"{int((one.values == mark).sum()):,} values of {_written(mark)}" for mark in seen)
    far = "" if declared is not None else ", far from all others"
    cause = f"{listed}{far}: read as missing; {_overrule(declared)}"
    issues.append(DataIssue(f"column {one.name!r}", cause, used=True))
    stored = {**one.stored, "marks": seen}
    text = one.text
    if not one.missing.any():  # then the file has no other sign of a missing value
        mark = int(seen[0]) if one.type == "integer" or (seen[0] == int(seen[0]) and not text) else seen[0]
        stored["mark"], text = seen[0], {**text, "missing": numerals.writer(text)(mark)}
    return replace(one, values=np.where(marked, math.nan, one.values), stored=stored, text=text)


def _reads(mark: str) -> str:
    return f"--set data.missing=[{mark}] reads it as missing"


def _overrule(declared: tuple[float, ...] | None) -> str:
    return "as data.missing says" if declared is not None else "--set data.missing=[] keeps them as values"


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _as_days(one: Series, own: Column | None, issues: list[DataIssue]) -> Series:
    """Return whole numbers that are days of the calendar as dates; and say of others that they look like names."""
    present = one.values[~one.missing]
    if not len(present) or one.type not in ("integer", "number") or (present != np.round(present)).any():
        return one
    as_days = codes.yyyymmdd(present) if own is None else own.get("stored", {}).get("as") == "yyyymmdd"
    if as_days:
        such = f"days (such as {int(present[0])}): learned as dates, and written as whole numbers again"
        issues.append(DataIssue(f"column {one.name!r}", such, used=True))
        stored = {**({"type": "double"} if one.type == "number" else {}), **one.stored, "as": "yyyymmdd"}
        return replace(one, type="date", values=codes.days_of_codes(one.values), stored=stored)
    if own is None and codes.names_things(present):
        few = len(np.unique(present)) <= MOST_TEXTS
        advice = "write them with a letter before" if few else "leave the column out"
        cause = f"whole numbers that look like names of things (such as {int(present[0])}): learned as numbers; {advice} if so"
        issues.append(DataIssue(f"column {one.name!r}", cause, used=True))
    return one
