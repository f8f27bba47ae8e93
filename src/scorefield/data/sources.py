"""Sources: a string that names the data, or the data themselves.

Built-in names come before paths; where there is a path of that name too, a note says which was read and how to name the other.
Everything else is for the registered formats (`data/formats/`): the first that claims a source reads it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scorefield.data.base import DataConfig, Dataset, Layout, Normaliser, UnusedSetting
from scorefield.data.formats import ReadSpec, known_formats, ordered
from scorefield.data.table.columns import Column
from scorefield.errors import ScorefieldError
from scorefield.registry import every

SHEET = "save the sheet as .csv"
CONVERT = {  # what to do with files that no format reads, and that many people have
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), SHEET),
    **dict.fromkeys((".rds", ".rda", ".rdata"), "save the table from R as .csv, or as .parquet by arrow::write_parquet"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "save the records as .csv or .parquet"),
}


def open_data(source: Any, config: DataConfig, columns: list[Column] | None = None) -> Dataset:
    """Open the data that a string or a path names, or take the data themselves.

    Args:
        source: what `open_source` opens; or a data frame, a dictionary of columns, an array, a tensor, a list of images,
            anything with a length and examples by number; or a `Dataset`, which is returned as it is.
        config: how it is read.
        columns: as of `open_source`.

    Returns:
        The data set.

    Raises:
        ScorefieldError: no such thing, or what `open_source`, `of_frame` or `of_sequence` refuses.

    >>> open_data([[float(i), float(i * i)] for i in range(20)], DataConfig()).shape
    (2,)
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | os.PathLike):
        return open_source(os.fspath(source), config, columns)
    if isinstance(source, bytes | bytearray):
        raise ScorefieldError(
            f"got {type(source).__name__} for 'data', expected examples, not the content of a file: give its path"
        )
    for form in ordered("data"):
        if form.claims(source):
            return form.read(source, ReadSpec(config, columns))
    raise ScorefieldError(f"got {type(source).__name__} for 'data', expected {known_formats('data')}: convert it")


def open_again(source: Any, config: DataConfig, described: Mapping[str, Any]) -> Dataset:
    """Open the data of a run once more, in the coordinates that the run has.

    Atoms and other properties that this version finds in a table are not looked for again. An array whose axes this version
    asks for is read as the run read it. Settings that 0.4 ignored, such as `flip` for a table, are ignored.

    Args:
        source: as of `open_data`.
        config: of the run.
        described: what the run's manifest says of its data.

    Returns:
        The data, with the run's own map to model space and layout where they are those of the run.

    Raises:
        ScorefieldError: as `open_data`.
    """
    try:
        data = open_data(source, config, described.get("columns"))
    except UnusedSetting as setting:
        return open_again(source, setting.without(config), described)
    except ScorefieldError:
        found = _as_before(source, config, described) if config.axes is None and "layout" not in described else None
        if found is None:
            raise
        data = found
    if not data.is_what_made(described["fingerprint"]):
        return data
    layout = Layout.from_dict(described["layout"]) if "layout" in described else data.layout
    return replace(data, normaliser=Normaliser(**described["normaliser"]), layout=layout)


def open_unseen(source: Any, config: DataConfig, described: Mapping[str, Any]) -> Dataset:
    """Open data for a run that was imported without any: those of its shape and range, in its own map to model space.

    Raises:
        ScorefieldError: None, data of another shape, or outside the range of the run's; as `open_data`.
    """
    if source is None:
        raise ScorefieldError(
            "got no data for a run that was imported without any, expected some to compare it with: name their place with "
            "--data, or give them as data= in Python"
        )
    data, own = open_again(source, config, described), Normaliser(**described["normaliser"])
    if (data.kind, list(data.shape)) != (described["kind"], described["shape"]):
        raise ScorefieldError(
            f"got {data.kind}s of shape {data.shape} from {data.name!r}, expected {described['kind']}s of shape "
            f"{tuple(described['shape'])}, as the run's: give such data"
        )
    theirs, range_ = data.normaliser, (own.low, own.high)
    if None not in range_ and None not in (theirs.low, theirs.high) and (theirs.low, theirs.high) != range_:
        raise ScorefieldError(
            f"got values from {theirs.low:g} to {theirs.high:g} in {data.name!r}, expected {own.low:g} to {own.high:g}, as the "
            "run's: convert them"
        )
    return replace(data, normaliser=own)


def _as_before(source: Any, config: DataConfig, described: Mapping[str, Any]) -> Dataset | None:
    """Return an array read in the axes that make it the data of a run of an older version; None if none do."""
    for axes in {"signal": ("ct", "tc"), "image": ("yx", "yxc", "cyx")}.get(described["kind"], ()):
        try:
            data = open_data(source, replace(config, axes=axes))
        except ScorefieldError:
            continue
        if data.is_what_made(described["fingerprint"]):
            return data
    return None


def place_of(source: Any) -> str | None:
    """Return the absolute path that a string or a path names; None for a built-in name, and for data themselves."""
    if not isinstance(source, str | os.PathLike):
        return None
    name = os.fspath(source)
    return None if name in every("source") else os.path.abspath(os.path.expanduser(name))


def open_source(source: str, config: DataConfig, columns: list[Column] | None = None) -> Dataset:
    """Open the data that a string names.

    Args:
        source: a built-in name, or a path that a format claims: see `scorefield list source` and `scorefield list format`.
        config: how it is read.
        columns: what the coordinates of a table mean, as a run on the same table recorded it; None to find it out.

    Returns:
        The data set.

    Raises:
        ScorefieldError: an unknown name, a path that does not exist, a file of another kind, or data that cannot be used.

    >>> open_source("mixture", DataConfig(examples=100)).train.shape
    torch.Size([90, 2])
    """
    builtin = every("source")
    if source in builtin:
        data: Dataset = builtin[source](config)
        if not os.path.lexists(source):
            return data
        note = f"The built-in {source} was read, not the file or folder of that name here: write ./{source} for that one."
        return replace(data, notes=(note, *data.notes))
    path = os.path.expanduser(source)
    for form in ordered("path"):
        if form.claims(path):
            return form.read(path, ReadSpec(config, columns))
    close = difflib.get_close_matches(source.lower(), builtin, n=2, cutoff=0.5)
    ending = os.path.splitext(path)[1].lower()
    if os.path.exists(path) and ending in CONVERT:
        advice = CONVERT[ending]
    elif os.path.exists(path):
        advice = "save numbers with numpy.save or as .csv, or give the folder that holds the images"
    elif close:
        advice = f"did you mean {' or '.join(repr(name) for name in close)}?"
    else:
        advice = "no such file or folder exists, check its spelling"
    kinds = known_formats() if os.path.exists(path) else "or data that `scorefield list format` names"
    expected = f"expected a built-in source ({', '.join(builtin)}), {kinds}"
    raise ScorefieldError(f"got {source!r}, {expected}: {advice}")
