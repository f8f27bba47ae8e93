"""Launch: which of the processes that `torchrun` started this one is, as the environment says; nothing slow is imported.

The command asks before PyTorch is there: of several processes the first alone prints. `distribution.join` connects them.
"""

from __future__ import annotations

import os


def processes() -> int:
    """Return how many processes `torchrun` started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def is_first() -> bool:
    """Return whether this is the process that prints and writes."""
    return processes() == 1 or int(os.environ["RANK"]) == 0
