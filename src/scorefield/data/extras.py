"""Extras: libraries that read one format each, imported when such a file is opened, and named when they are missing."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from scorefield.errors import ScorefieldError

P = ParamSpec("P")
R = TypeVar("R")


def require(module: str, extra: str, source: str) -> Any:
    """Return a module of an optional library.

    Args:
        module: its name for `import`.
        extra: the extra of scorefield that installs it.
        source: the file that needs it, for the message.

    Raises:
        ScorefieldError: it is not installed; the sentence has the line that installs it.

    >>> require("no_such_module", "hdf5", "scan.h5")
    Traceback (most recent call last):
    scorefield.errors.ScorefieldError: got 'scan.h5' without the library no_such_module, expected it: run pip install
    "scorefield[hdf5]"
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        raise ScorefieldError(
            f'got {source!r} without the library {library}, expected it: run pip install "scorefield[{extra}]"'
        ) from None


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function during which libraries print no warnings: what they warn of is checked, and said in our own words."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return called
