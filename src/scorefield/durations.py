"""Durations and numbers as people read them, 1 min 15 s and 6,731, and a duration as people write it, 2m."""

from __future__ import annotations

import math
import re

from scorefield.errors import ScorefieldError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(seconds: float) -> str:
    """Write a duration in the one or two units that matter.

    >>> duration(0.42), duration(42.0), duration(480.0), duration(75.0), duration(5400.0)
    ('0.4 s', '42 s', '8 min', '1 min 15 s', '1 h 30 min')
    """
    if math.isnan(seconds):
        return "an unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= 36000:
        return f"{whole / 3600:,.0f} h"
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest if minutes < 10 else 0, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def flag_of(seconds: float) -> str:
    """Write a duration as --time takes it, rounded up.

    >>> flag_of(75.0), flag_of(8000.0)
    ('2m', '3h')
    """
    return f"{math.ceil(seconds / 60)}m" if seconds < 7200 else f"{math.ceil(seconds / 3600)}h"


def short(number: float, digits: int = 3) -> str:
    """Write a number with so many digits, large ones as whole numbers, without an exponent.

    >>> short(0.28867), short(24.96), short(6731.4), short(242.0, 2), short(3e12)
    ('0.289', '25', '6,731', '242', '3e+12')
    """
    text = f"{number:.{digits}g}"
    return f"{number:,.0f}" if "e+" in text and abs(number) < 1e9 else text


def seconds_of(text: str) -> float:
    """Read a duration: 90, 90s, 3m, 1.5h or 1h30m.

    >>> seconds_of("3m"), seconds_of("1h30m"), seconds_of("45")
    (180.0, 5400.0, 45.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", text.strip().lower())
    whole = "".join(number + unit for number, unit in parts) == text.strip().lower()
    if not parts or not whole or (len(parts) > 1 and not all(unit for _, unit in parts)):
        raise ScorefieldError(
            f"got --time {text!r}, expected a duration such as 90s, 3m or 1h30m: write a number and s, m or h"
        )
    total = sum(float(number) * UNITS[unit or "s"] for number, unit in parts)
    if total <= 0:
        raise ScorefieldError(f"got --time {text!r}, expected more than 0 seconds: give it more")
    return total
