"""Errors that speak: what we got, what we expected, what to do about it, in one sentence.

A `ScorefieldError` is a person's mistake or a broken input, never a bug: the command prints its text without a traceback and
exits with code 2. Anything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScorefieldError(ValueError):
    """A refusal that a person can act on: got, expected, what to do."""


class NotFinite(ScorefieldError):
    """A NaN or an infinity appeared; the message names where."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ScorefieldError:
    """Build the refusal of an unknown name, with the nearest known names.

    >>> print(unknown("sampler", "anealed", ["annealed", "langevin"]))
    unknown sampler 'anealed': did you mean 'annealed'? Known: annealed, langevin.
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), names, n=2, cutoff=0.5)
    hint = f": did you mean {' or '.join(repr(c) for c in close)}?" if close else "."
    return ScorefieldError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}.")
