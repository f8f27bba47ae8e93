"""Data: `open_source("digits" | "folder/" | "file.npy", config)` returns a `Dataset`, split and with its map to model space.

`open_data` takes the data themselves as well.
"""

from scorefield.data.base import Affine, DataConfig, Dataset
from scorefield.data.sequences import of_sequence
from scorefield.data.sources import open_again, open_data, open_source, place_of
from scorefield.data.tables import of_frame

__all__ = ["Affine", "DataConfig", "Dataset", "of_frame", "of_sequence", "open_again", "open_data", "open_source", "place_of"]
