"""Codes: whole numbers that stand for something else than how many: days, row numbers, names of things, marks of no data.

    day            20230131, all of them days of the calendar, eight digits
    row number     every number of 0..n-1 or of 1..n once, in any order; in a column without a name any that differ
    name           of things, such as stations and postcodes: as many digits each, and hardly any of the numbers between
    mark           -9999, 999, 1e20 and the like, repeated, and far from all other values: nothing was measured

What is decided here is said to the person in a `DataIssue`, with the way to overrule it.
"""

from __future__ import annotations

import math
import re
from datetime import date

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
DAYS = 3  # different ones, at least: of random numbers of eight digits from 1500 to 2499 one in 27 is a day
YEARS = 1500, 2500
UNNAMED = re.compile(r"|unnamed: ?\d+|__index_level_\d+__", re.IGNORECASE)
INDEX = re.compile(r"column 1|index|level_\d+", re.IGNORECASE)
SPARSE = 10  # times as many numbers between as there are different ones, from which on they are names
NAMES_FROM = 1000  # names of things have four digits and more
MARKS = re.compile(r"9{3,}(\.9+)?|999\.25|1e(20|30|31|34|35|36|37)|9\.96921e36|32768|2147483648")
RANGES = 3  # of all other values, by which a mark is away from them; one, if it is the only value of its sign
FEWEST, SUSPECT = 8, 10  # values, and ranges of the middle half of them, by which one that stands alone is away
LEAST = 2  # times that a mark occurs


def yyyymmdd(values: Numbers) -> bool:
    """Whether whole numbers are days of the calendar written as eight digits.

    Args:
        values: `(n,)`, finite.

    >>> yyyymmdd(np.array([20230131.0, 20230228, 20240229])), yyyymmdd(np.array([20230131.0, 20230229, 20230301]))
    (True, False)
    """
    distinct = np.unique(values)
    if len(distinct) < DAYS or distinct[0] < YEARS[0] * 10_000 or distinct[-1] >= YEARS[1] * 10_000:
        return False
    if bool((distinct != np.round(distinct)).any()):
        return False
    return not math.isnan(float(days_of_codes(distinct).sum()))


def days_of_codes(values: Numbers) -> Numbers:
    """Return the days since 1970 of days written as eight digits; NaN for a NaN and for what is no day of the calendar.

    >>> days_of_codes(np.array([19700103.0, 20230229, np.nan]))
    array([ 2., nan, nan])
    """
    known = np.where(np.isfinite(values), values, 0).astype(np.int64)
    year, month, day = known // 10_000, known // 100 % 100, known % 100
    plausible = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = (np.where(plausible, year, 1970) - 1970) * 12 + np.where(plausible, month, 1) - 1
    first = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    length = (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - first
    return np.where(plausible & (day <= length), first + day - 1, math.nan)


def code_of(day: date) -> int:
    """Return a day as eight digits.

    >>> code_of(date(2023, 1, 31))
    20230131
    """
    return day.year * 10_000 + day.month * 100 + day.day


def numbers_rows(values: Numbers, name: str) -> bool:
    """Whether a column holds the numbers of the rows: 0..n-1 or 1..n once each; without a name any that differ.

    >>> numbers_rows(np.array([2.0, 0, 1]), ""), numbers_rows(np.array([2.0, 0, 1]), "rank")
    (True, False)
    >>> numbers_rows(np.array([5.0, 2, 8]), "Unnamed: 0"), numbers_rows(np.array([2.0, 3, 4]), "id")
    (True, True)
    """
    if len(values) < 3 or bool((values != np.round(values)).any()):
        return False
    steps = np.diff(values)
    if bool((steps == 1).all()):
        return True
    ordered = np.sort(values)
    if UNNAMED.fullmatch(name):  # also of a part of the rows
        return bool(ordered[0] >= 0 and (np.diff(ordered) > 0).all())
    if not INDEX.fullmatch(name):
        return False
    return ordered[0] in (0, 1) and bool((np.diff(ordered) == 1).all())


def names_things(values: Numbers) -> bool:
    """Whether whole numbers look like names: all of as many digits, at least four, repeated, with large gaps between them.

    >>> names_things(np.repeat([10115.0, 20095, 50667, 80331], 5)), names_things(np.repeat(np.arange(1990.0, 2020), 5))
    (True, False)
    """
    distinct = np.unique(values)
    if len(distinct) < 3 or 2 * len(distinct) > len(values) or distinct[0] < NAMES_FROM:
        return False
    if math.floor(math.log10(distinct[0])) != math.floor(math.log10(distinct[-1])):
        return False
    unit = np.gcd.reduce(np.diff(distinct).astype(np.int64))
    return bool((distinct[-1] - distinct[0]) / unit + 1 > SPARSE * len(distinct))


def marks_of(values: Numbers) -> list[float]:
    """Return the marks of no data among numbers: known ones that are repeated, and far from all other values.

    Args:
        values: `(n,)`, finite.

    >>> marks_of(np.array([3.0, 4.5, -9999, 5.25, -9999])), marks_of(np.array([3.0, 4.5, -9999, 5.25, -5000.5]))
    ([-9999.0], [])
    """
    distinct, counts = np.unique(values, return_counts=True)
    found = {float(value) for value in distinct[counts >= LEAST] if is_mark(float(value))}
    while found:
        rest = distinct[~np.isin(distinct, sorted(found))]
        if len(rest) < 3:
            return []
        low, high = float(rest[0]), float(rest[-1])
        near = {mark for mark in found if not _is_away(mark, low, high)}
        if not near:
            return sorted(found)
        found -= near
    return []


def suspect_of(values: Numbers) -> float | None:
    """Return the number at an end that may be a mark of no data, though it stands once, or beside others; None if none does.

    >>> suspect_of(np.append(np.arange(40.0), -9999)), suspect_of(np.append(np.arange(40.0), 99))
    (-9999.0, None)
    """
    if len(values) < FEWEST:
        return None
    low, high = np.quantile(values, (0.25, 0.75))  # the bulk, as several marks may stand together
    ends = [float(one) for one in (values.min(), values.max()) if is_mark(float(one))]
    return next((one for one in ends if max(low - one, one - high) > SUSPECT * (high - low) > 0), None)


def is_mark(value: float) -> bool:
    """Whether a number is one that people write for no data.

    >>> [is_mark(value) for value in (-9999.0, 999.9, 1e20, 9.969209968386869e36, 99.99, 0.0)]
    [True, True, True, True, False, False]
    """
    # As float32 and as float64 would write it: 9999.9 is 9999.900390625 as a float32.
    texts = (f"{abs(value):.{digits}g}".replace("+", "") for digits in (7, 15))
    return any(MARKS.fullmatch(text) and abs(abs(value) - float(text)) <= 1e-6 * float(text) for text in texts)


def _is_away(mark: float, low: float, high: float) -> bool:
    """Whether a mark is away from values from low to high by three of their ranges; by one if it alone has its sign."""
    gap = max(low - mark, mark - high)
    alone = (mark < 0 <= low) or (mark > 0 >= high)
    return gap > (1 if alone else RANGES) * (high - low)
