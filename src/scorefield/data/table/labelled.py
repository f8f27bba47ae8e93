"""Files of Stata, SPSS and SAS: numbers with labels become categories, dates and times what they are.

    label       a number whose every value has a label is a category of these texts, in the order of the file; where only some
                have one, such as the ends of a scale, it stays a number
    missing     the system's own, Stata's .a to .z, and what the file declares missing (SPSS: 999, or -9 to -1)
    type        byte, int, long, float and double of Stata come back as such; a whole number of SPSS by its format, F8.0

The library pyreadstat reads them; it runs no code of the file.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

import numpy as np

from scorefield.data.extras import require
from scorefield.data.issues import DataIssue
from scorefield.data.table.arrow import MOST_BYTES
from scorefield.data.table.frames import of_objects
from scorefield.data.table.series import Series
from scorefield.errors import ScorefieldError

READERS = {
    ".dta": "read_dta",
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".por": "read_por",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}
EXTRA = "stata"
TYPES = {"int8": "int8", "int16": "int16", "int32": "int32", "float": "float32"}  # as readstat and as Arrow name them
WHOLE = re.compile(r"(F|COMMA|N|BEST)\d+(\.0)?", re.IGNORECASE)  # formats of numbers without decimals


def read(path: str) -> tuple[list[Series], list[str], list[DataIssue]]:
    """Read the columns of a file of Stata, SPSS or SAS.

    Args:
        path: of a .dta, .sav, .zsav, .por, .sas7bdat or .xpt file.

    Returns:
        Columns, notes, and what was left out or is odd.

    Raises:
        ScorefieldError: no pyreadstat, a broken file, or one that declares more than a table may have.
        NotFinite: an infinite value.
    """
    name, ending = os.path.basename(path), os.path.splitext(path)[1].lower()
    library = require("pyreadstat", EXTRA, name)
    reader = getattr(library, READERS[ending])
    try:
        spss = {"user_missing": True} if ending in (".sav", ".zsav") else {}  # otherwise its ranges are not said
        declared = reader(path, metadataonly=True, output_format="dict", **spss)[1]
        columns, rows = len(declared.column_names), declared.number_rows
        if 8 * columns * (rows or 0) > MOST_BYTES:
            found = f"got {name!r}, which declares {rows:,} rows of {columns:,} columns"
            raise ScorefieldError(f"{found}, expected at most {MOST_BYTES >> 30} GiB of numbers: write a part of the rows")
        most = {} if rows else {"row_limit": MOST_BYTES // (8 * max(columns, 1))}
        values, about = reader(path, output_format="dict", **most)
    except ScorefieldError:
        raise
    except Exception as cause:  # those of pyreadstat, and of Python where a text is of no known encoding
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ScorefieldError(
            f"got {name!r}, which cannot be read ({first}), expected a whole {ending} file: write it again, or save it as .csv"
        ) from cause
    issues = list[DataIssue]()
    about.missing_ranges = declared.missing_ranges
    series = [_series(title, list(column), about, issues) for title, column in values.items()]
    return [one for one in series if one is not None], [], issues


def _series(name: str, values: list[Any], about: Any, issues: list[DataIssue]) -> Series | None:
    """Return a column, with what a file of its kind says of it, or None and an issue."""
    where, stored = f"column {name!r}", dict[str, Any]()
    labels: dict[Any, str] = dict(about.variable_value_labels.get(name) or {})
    if declared := (getattr(about, "missing_ranges", None) or {}).get(name):
        shown = ", ".join(_range(one) for one in declared)
        issues.append(DataIssue(where, f"declared missing ({shown}): read as missing", used=True))
    if title := (about.column_names_to_labels or {}).get(name):
        stored["title"] = title
    if display := (about.original_variable_types or {}).get(name):
        stored["format"] = display
    values = [None if value == "" or (isinstance(value, float) and math.isnan(value)) else value for value in values]
    present = {value for value in values if value is not None}
    kind = (about.readstat_variable_types or {}).get(name)
    if labels and present and present <= set(labels):
        texts = _different(labels)
        stored |= {"labels": {text: number for number, text in texts.items()}, "categories": list(texts.values())}
        named = np.array([None if value is None else texts[value] for value in values], dtype=object)
        own = {"type": TYPES[str(kind)]} if kind in TYPES else {}
        return Series(name, "category", named, stored={**own, **stored})
    if labels and (both := present & set(labels)):
        stored["labels"] = {text: number for number, text in _different(labels).items()}
        said = f"{len(both)} of {len(present):,} different values have a label (such as {labels[min(both)]!r}): read as numbers"
        issues.append(DataIssue(where, said, used=True))
    whole = kind == "double" and bool(WHOLE.fullmatch(str(display))) and all(isinstance(value, float) for value in present)
    if whole and all(value == int(value) for value in present):
        values = [None if value is None else int(value) for value in values]
    series = of_objects(name, values, str(kind), issues)
    if series is None:
        return None
    held = {"type": TYPES[kind]} if kind in TYPES and series.type in ("number", "integer") else {}
    return Series(series.name, series.type, series.values, series.utc, {**series.stored, **held, **stored})


def _range(declared: Any) -> str:
    """Return a value, or a range of values, that a file declares missing, in words."""
    if not isinstance(declared, dict):
        return str(declared)
    low, high = (f"{value:g}" if isinstance(value, float) else str(value) for value in (declared["lo"], declared["hi"]))
    return low if low == high else f"{low} to {high}"


def _different(labels: dict[Any, str]) -> dict[Any, str]:
    """Return labels that are all different: those of two numbers are followed by their number."""
    texts = list(labels.values())
    return {number: text if texts.count(text) == 1 else f"{text} ({number:g})" for number, text in labels.items()}
