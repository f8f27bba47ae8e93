"""Durations and numbers as people read them, 1 min 15 s and 6,731, and a duration as a flag takes it, 2m."""

from __future__ import annotations

import math


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
