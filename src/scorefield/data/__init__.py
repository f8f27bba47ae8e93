"""Data: `open_source("digits" | "folder/" | "file.npy", config)` returns a `Dataset`, split and with its map to model space."""

from scorefield.data.base import Affine, DataConfig, Dataset
from scorefield.data.sources import open_source

__all__ = ["Affine", "DataConfig", "Dataset", "open_source"]
