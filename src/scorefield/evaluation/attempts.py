"""Attempts: a part of an evaluation that fails is named in the report, and the others are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scorefield.evaluation.reference import reason

T = TypeVar("T")


class Attempts:
    """Measures parts of an evaluation; one that fails is named and does not lose the others.

    >>> attempt = Attempts()
    >>> attempt("the inverse of 0", lambda: 1 / 0), attempt.failed
    (None, ['the inverse of 0: ZeroDivisionError: division by zero'])
    """

    def __init__(self) -> None:
        """Begin without a failure."""
        self.failed = list[str]()

    def __call__(self, what: str, measure: Callable[[], T]) -> T | None:
        """Return what a measurement gives; None where it fails, with the reason in `failed`."""
        try:
            return measure()
        except Exception as error:  # a fault in one part must not lose the others
            self.failed.append(f"{what}: {reason(error)}")
            return None
