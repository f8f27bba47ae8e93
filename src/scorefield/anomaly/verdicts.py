"""Verdicts: how odd each row or file is, as values of JSON, and as a line of a table."""

from __future__ import annotations

from typing import Any

from scorefield.anomaly.detector import Oddness
from scorefield.data.table.coordinates import Table
from scorefield.data.table.tables import csv_of


def is_odd(found: Oddness, rate: float) -> list[bool]:
    """Return whether each is called odd at a rate of false alarms."""
    odd: list[bool] = (found.p_value <= rate).tolist()
    return odd


def verdicts(found: Oddness, rate: float) -> list[dict[str, Any]]:
    """Return how odd each is, whether it is called odd, and which of the two voices is the louder."""
    parts = (found.surprise, found.density, found.norms, found.p_value)
    each = zip(*(part.tolist() for part in parts), is_odd(found, rate), strict=True)
    return [
        {
            "surprise": surprise,
            "p_value": p,
            "odd": odd,
            "spoke": "density" if density >= norms else "norms",
            "voices": {"density": density, "norms": norms},
        }
        for surprise, density, norms, p, odd in each
    ]


def csv_lines(rows: list[dict[str, Any]]) -> bytes:
    """Return rows of the same keys as a .csv file."""
    table: Table = {}
    for row in rows:
        for key, value in row.items():
            table.setdefault(key, []).append(value)
    return csv_of(table)


def notes_on(held_out: int, rate: float) -> tuple[str, ...]:
    """Say where so few held-out rows cannot call anything odd."""
    if 1 / (held_out + 1) <= rate:
        return ()
    return (
        f"with {held_out} held-out rows the smallest p-value is {1 / (held_out + 1):.2g}, so no row can be called odd at a "
        f"rate of {rate:g}: ask for a higher rate, or train on more rows",
    )
