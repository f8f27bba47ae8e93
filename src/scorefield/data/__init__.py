"""Data: `open_source("digits" | "folder/" | "file.npy", config)` returns a `Dataset`, split and with its map to model space.

`open_data` takes the data themselves as well. Names are loaded on first use, so `--help` lists the formats without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scorefield import renamed

if TYPE_CHECKING:
    from scorefield.data.base import DataConfig, Dataset, Normaliser
    from scorefield.data.formats import known_formats, known_sources
    from scorefield.data.sequences import of_sequence
    from scorefield.data.sources import open_again, open_data, open_source, open_unseen, place_of
    from scorefield.data.table.tables import of_frame

__all__ = [
    "DataConfig",
    "Dataset",
    "Normaliser",
    "known_formats",
    "known_sources",
    "of_frame",
    "of_sequence",
    "open_again",
    "open_data",
    "open_source",
    "open_unseen",
    "place_of",
]
_HOMES = {
    "base": ("DataConfig", "Dataset", "Normaliser"),
    "formats": ("known_formats", "known_sources"),
    "sequences": ("of_sequence",),
    "sources": ("open_again", "open_data", "open_source", "open_unseen", "place_of"),
    "table.tables": ("of_frame",),
}
_home_of = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}
_renamed = renamed.attributes(__name__)


def __getattr__(name: str) -> Any:
    if name not in _home_of:
        return _renamed(name)
    return getattr(importlib.import_module(_home_of[name]), name)


def __dir__() -> list[str]:
    return __all__
