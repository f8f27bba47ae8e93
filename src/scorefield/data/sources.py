"""Sources: a string that names the data, or the data themselves.

Registered names come before paths; where there is a path of that name too, a note says which was read and how to name the
other.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scorefield.data import archives
from scorefield.data.base import DataConfig, Dataset, Unused
from scorefield.data.columns import Column
from scorefield.data.formats import arrays, images, sequences, shards, tables
from scorefield.errors import ScorefieldError
from scorefield.registry import every


def open_data(source: Any, config: DataConfig, columns: list[Column] | None = None) -> Dataset:
    """Open the data that a string or a path names, or take the data themselves.

    Args:
        source: what `open_source` opens; or a data frame, a dictionary of columns, an array, a tensor, a list of images,
            anything with a length and things by number; or a `Dataset`, which is returned as it is.
        config: how it is read.
        columns: as of `open_source`.

    Raises:
        ScorefieldError: no such thing, or what `open_source`, `of_frame` or `of_sequence` refuses.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | os.PathLike):
        return open_source(os.fspath(source), config, columns)
    if isinstance(source, bytes | bytearray):
        raise ScorefieldError(
            f"got {type(source).__name__} for 'data', expected examples, not the content of a file: give its path"
        )
    from narwhals import dependencies  # slow to import, and a path needs it not

    tabular = dependencies.is_into_dataframe(source) or dependencies.is_polars_lazyframe(source)
    if tabular or dependencies.is_into_series(source):
        return tables.of_frame(source, config, columns=columns)
    fields = source.dtype.names if isinstance(source, np.ndarray) else source if isinstance(source, Mapping) else None
    if fields is not None:
        return tables.of_columns({field: source[field] for field in fields}, config, columns=columns)
    return sequences.of_sequence(source, config)


def open_again(source: Any, config: DataConfig, columns: list[Column] | None) -> Dataset:
    """Open the data of a run once more, in the coordinates that the run has.

    What this version finds in a table, such as atoms, is not looked for in that of an older run; and settings that 0.4 passed
    over without a word, such as `flip` for a table, are passed over.

    Args:
        source: as of `open_data`.
        config: of the run.
        columns: of the run's manifest, None but of tables.
    """
    try:
        return open_data(source, config, columns)
    except Unused as setting:
        return open_again(source, setting.without(config), columns)


def place_of(source: Any) -> str | None:
    """Return the absolute path that a string or a path names; None for a built-in name, and for data themselves."""
    if not isinstance(source, str | os.PathLike):
        return None
    name = os.fspath(source)
    return None if name in every("source") else os.path.abspath(os.path.expanduser(name))


def open_source(source: str, config: DataConfig, columns: list[Column] | None = None) -> Dataset:
    """Open the data that a string names.

    Args:
        source: a registered name, a folder or .zip of images, tar shards, a .npy or .npz file, or a table
            (.csv, .tsv, .parquet, .feather, .arrow).
        config: how it is read.
        columns: what the coordinates of a table mean, as a run on the same table keeps it; None to find it out.

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
        if not os.path.lexists(source):
            return found
        note = f"The built-in {source} was read, not the file or folder of that name here: write ./{source} for that one."
        return replace(found, notes=(note, *found.notes))
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
        return tables.read(path, config, columns)
    close = difflib.get_close_matches(source.lower(), builtin, n=2, cutoff=0.5)
    if os.path.exists(path):
        advice = "save numbers with numpy.save or as .csv, or give the folder that holds the images"
    elif close:
        advice = f"did you mean {' or '.join(repr(name) for name in close)}?"
    else:
        advice = "no such file or folder exists, check its spelling"
    known = f"expected a built-in source ({', '.join(builtin)}), a folder or .zip of images, tar shards, .npy/.npz, or a table"
    raise ScorefieldError(f"got {source!r}, {known}: {advice}")
