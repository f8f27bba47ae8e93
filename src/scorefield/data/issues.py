"""Issues: single files, rows or columns of a source that were left out, or that a person should look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataIssue:
    """Something in a source that could not be used, or should be looked at.

    Attributes:
        where: the file, row or column.
        cause: what is wrong with it, in a few words.
        used: whether it is among the examples all the same (a duplicate, an odd size).
    """

    where: str
    cause: str
    used: bool = False
