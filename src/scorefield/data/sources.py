"""Sources: one string names the data. Registered names come before paths (write `./digits` for a folder of that name)."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from scorefield.data import archives, arrays, images, sequences, shards, tables
from scorefield.data.base import DataConfig, Dataset
from scorefield.errors import ScorefieldError
from scorefield.registry import every


def open_data(source: Any, config: DataConfig) -> Dataset:
    """Open the data that a string or a path names, or take the data themselves.

    Args:
        source: what `open_source` opens; or a data frame, an array, a tensor, a list of images, anything with a length and
            things by number; or a `Dataset`, which is returned as it is.
        config: how it is read.

    Raises:
        ScorefieldError: no such thing, or what `open_source`, `of_frame` or `of_sequence` refuses.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        return open_source(source, config)
    from narwhals import dependencies  # slow to import, and a path needs it not

    if dependencies.is_into_dataframe(source) or dependencies.is_polars_lazyframe(source):
        return tables.of_frame(source, config)
    numbered = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    if not numbered or isinstance(source, Mapping | bytes):
        raise ScorefieldError(
            f"got data of type {type(source).__name__}, expected a name, a path, a data frame, an array, or anything with a "
            "length and examples by number: convert it"
        )
    return sequences.of_sequence(source, config)


def place_of(source: Any) -> str | None:
    """Return the absolute path that a string or a path names; None for a built-in name, and for data themselves."""
    if not isinstance(source, str | os.PathLike):
        return None
    name = os.fspath(source)
    return None if name in every("source") else os.path.abspath(os.path.expanduser(name))


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
