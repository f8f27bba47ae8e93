"""Data: `open_source("digits" | "folder/" | "file.npy", config)` returns a `Dataset`, split and with its map to model space.

`open_data` takes the data themselves as well.
"""

from scorefield import renamed
from scorefield.data.base import DataConfig, Dataset, Normaliser
from scorefield.data.formats.sequences import of_sequence
from scorefield.data.formats.tables import of_frame
from scorefield.data.sources import open_again, open_data, open_source, place_of

__all__ = [
    "DataConfig",
    "Dataset",
    "Normaliser",
    "of_frame",
    "of_sequence",
    "open_again",
    "open_data",
    "open_source",
    "place_of",
]

__getattr__ = renamed.attributes(__name__)
