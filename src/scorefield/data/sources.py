"""Sources: one string names the data. Registered names come before paths (write `./digits` for a folder of that name)."""

from __future__ import annotations

import difflib
import os

from scorefield.data import archives, arrays, images, shards, tables
from scorefield.data.base import DataConfig, Dataset
from scorefield.errors import ScorefieldError
from scorefield.registry import every


def open_source(source: str, config: DataConfig) -> Dataset:
    """Open the data that a string names.

    Args:
        source: a registered name, a folder or .zip of images, tar shards, a .npy or .npz file, or a table
            (.csv, .tsv, .parquet, .feather, .arrow).
        config: how it is read.

    Returns:
        The data set.

    Raises:
        ScorefieldError: an unknown name, a path that does not exist, a file of another kind, or data that cannot be used.

    >>> open_source("mixture", DataConfig(examples=100)).train.shape
    torch.Size([90, 2])
    """
    builtin = every("source")
    if source in builtin:
        found: Dataset = builtin[source](config)
        return found
    path = os.path.expanduser(source)
    if tars := shards.paths_of(path):
        return images.read(shards.shards(source, tars), config)
    if os.path.isdir(path):
        return images.read(archives.folder(path), config)
    if os.path.isfile(path) and path.lower().endswith(".zip"):
        with archives.zipped(path) as listing:
            return images.read(listing, config)
    if os.path.isfile(path) and path.lower().endswith((".npy", ".npz")):
        return arrays.read(path, config)
    if os.path.isfile(path) and path.lower().endswith(tables.SUFFIXES):
        return tables.read(path, config)
    close = difflib.get_close_matches(source.lower(), builtin, n=2, cutoff=0.5)
    if os.path.exists(path):
        advice = "save numbers with numpy.save or as .csv, or give the folder that holds the images"
    elif close:
        advice = f"did you mean {' or '.join(repr(name) for name in close)}?"
    else:
        advice = "no such file or folder exists, check its spelling"
    known = f"expected a built-in source ({', '.join(builtin)}), a folder or .zip of images, tar shards, .npy/.npz, or a table"
    raise ScorefieldError(f"got {source!r}, {known}: {advice}")
