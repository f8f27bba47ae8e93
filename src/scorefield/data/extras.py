"""Extras: libraries that read one format each, imported when such a file is opened, and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from scorefield.errors import ScorefieldError


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
