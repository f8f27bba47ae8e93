"""Series: one column of a table as it was read, before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Type = Literal["number", "integer", "boolean", "date", "datetime", "category"]
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Series:
    """One column as it was read.

    Attributes:
        name: of the column.
        type: number, integer, boolean, date, datetime or category.
        values: float64 `(n,)` with NaN where it is missing, days or seconds since 1970 for dates; or texts, with None.
        utc: whether a datetime has a time zone.
        stored: how a file or a frame holds the values, as JSON values that the column keeps, so that samples are stored
            likewise; what is usual is left out.
        text: how the values are written in a file of text, as JSON values of `data/text/cells.py`.

    What `stored` says, by its keys:

        as            "yyyymmdd": dates are whole numbers, 20230131; "time" or "duration": numbers are seconds of a day, or of a
                      span of time; "integer": texts are whole numbers that float64 does not have
        type          int8, uint16, float32, large_string, decimal128(10, 2), ... as Arrow names it
        unit, zone    of dates and times: "s", "ms", "ns"; "Europe/Berlin"
        categories    all texts in their own order, those that no row has too; `ordered`: whether the order has a meaning
        marks         the numbers that stand for a missing value; `mark`: that which is written for one
        labels        the number that stands for each text, as Stata and SPSS store them
    """

    name: str
    type: Type
    values: NDArray[Any]
    utc: bool = False
    stored: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value, `(n,)`."""
        if self.type == "category":
            return np.array([value is None for value in self.values], dtype=bool)
        missing: NDArray[np.bool_] = np.isnan(self.values)
        return missing


def series_of_dates(name: str, values: list[Any]) -> Series:
    """Return a series of dates, of datetimes, or of None where one is missing; dates alone stay dates.

    >>> series_of_dates("day", [date(1970, 1, 3), None]).values
    array([ 2., nan])
    """
    present = [value for value in values if value is not None]
    if not any(isinstance(value, datetime) for value in present):
        days = [math.nan if value is None else days_of(value) for value in values]
        return Series(name, "date", np.array(days, dtype=np.float64))
    utc = any(isinstance(value, datetime) and value.tzinfo is not None for value in present)
    return Series(name, "datetime", np.array([math.nan if value is None else seconds_of(value) for value in values]), utc)


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name, or by its difference to UTC; UTC where this machine does not know it.

    >>> zone_of("+02:00").utcoffset(None) == timedelta(hours=2)
    True
    """
    if (offset := re.fullmatch(r"([+-])(\d\d):?(\d\d)", name)) is not None:
        sign, hours, minutes = offset.groups()
        return timezone((1 if sign == "+" else -1) * timedelta(hours=int(hours), minutes=int(minutes)))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def days_of(value: date) -> int:
    """Return the days since 1970 of a date."""
    return (value - EPOCH.date()).days


def seconds_of(value: date | datetime) -> float:
    """Return the seconds since 1970 of a date or a datetime; one without a time zone counts as UTC."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return (utc - EPOCH) / timedelta(seconds=1)


def seconds_of_day(value: time) -> float:
    """Return the seconds since midnight of a time of day.

    >>> seconds_of_day(time(12, 30, 5))
    45005.0
    """
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
