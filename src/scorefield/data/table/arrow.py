"""Parquet and Arrow files: distinguished by their first bytes, measured before they are read, and their columns of lists.

    PAR1           Parquet; PARE one with an encrypted footer
    ARROW1         an Arrow file, as `.feather` and `.arrow` are
    ff ff ff ff    an Arrow stream, as `.arrows` and some `.arrow` are
    FEA1           the first version of Feather, which Arrow gave up

The rows that a file declares are counted before anything is unpacked: a few bytes can stand for billions of equal values.
A column of lists of equal lengths is a way to store vectors, signals or pictures, one a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.issues import DataIssue
from scorefield.data.labels import LABELS, RawLabels
from scorefield.errors import ScorefieldError

EXTRA = "expected the extra: run pip install 'scorefield[tables]'"
SUFFIXES = (".parquet", ".feather", ".arrow", ".arrows")
MOST_BYTES = 2**33  # of all values of a file, unpacked
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream
FEW = 100  # different labels, at most


def read(path: str) -> Any:
    """Return the `pyarrow.Table` of a file.

    Args:
        path: of a Parquet file, an Arrow file or an Arrow stream, whatever its ending.

    Raises:
        ScorefieldError: no pyarrow, a file of another kind, an encrypted or a broken one, or one that declares too much.
    """
    name = os.path.basename(path)
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ScorefieldError(f"got {name!r} without pyarrow installed, {EXTRA}") from None
    with open(path, "rb") as stream:
        mark = stream.read(8)
    if not mark:
        raise ScorefieldError(
            f"got {name!r}, which is empty, expected a whole {os.path.splitext(name)[1]} file: write it again"
        )
    _refuse_mark(mark, name)
    try:
        if mark.startswith(b"PAR1"):
            file = parquet.ParquetFile(path)
            _refuse_names(file.schema_arrow.names, name)
            _refuse_size(file.metadata.num_rows, file.schema_arrow, name, _unpacked(file.metadata))
            return file.read()
        with pyarrow.memory_map(path) as source:
            return pyarrow.Table.from_batches(*_batches(path, source, mark.startswith(b"ARROW1"), name))
    except ScorefieldError:
        raise
    except Exception as cause:  # an OSError, or one of Arrow's own
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        encrypted = "encrypt" in first.lower() or "decrypt" in first.lower()
        kind = "a table that is not encrypted" if encrypted else f"a whole {os.path.splitext(name)[1]} file"
        advice = "decrypt it first" if encrypted else "write it again"
        raise ScorefieldError(f"got {name!r}, which cannot be read ({first}), expected {kind}: {advice}") from cause


def unfinished(path: str) -> list[DataIssue]:
    """Return an issue on an Arrow stream without its mark of the end: cut between two batches it is one of fewer rows.

    A stream may end so by its definition, so it is read.
    """
    with open(path, "rb") as stream:
        is_stream = stream.read(4) == b"\xff\xff\xff\xff"
        stream.seek(-min(8, os.path.getsize(path)), os.SEEK_END)
        if not is_stream or stream.read() == END:
            return []
    return [DataIssue(os.path.basename(path), "has no mark of its end, so that rows may be missing: is it cut?", used=True)]


def _refuse_mark(mark: bytes, name: str) -> None:
    """Refuse a file that is no Parquet and no Arrow file by its first bytes."""
    if mark.startswith(b"PARE"):
        raise ScorefieldError(f"got {name!r}, whose footer is encrypted, expected plain Parquet: decrypt it first")
    if mark.startswith(b"FEA1"):
        found = f"got {name!r}, in the first version of Feather, which is no longer read"
        raise ScorefieldError(f"{found}, expected version 2: write it again by pyarrow.feather.write_feather or as Parquet")
    if not mark.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        found = f"got {name!r}, which cannot be read (it begins with {mark[:4]!r}, as no Parquet or Arrow file does)"
        raise ScorefieldError(f"{found}, expected a whole {os.path.splitext(name)[1]} file: write it again")


def _refuse_names(names: list[str], name: str) -> None:
    """Refuse a file with two columns of one name, which frames do not have."""
    if twice := [one for one in names if names.count(one) > 1]:
        found = f"got {name!r} with {names.count(twice[0])} columns called {twice[0]!r}"
        raise ScorefieldError(f"{found}, expected different names: rename one and write it again")


def _batches(path: str, source: Any, is_file: bool, name: str) -> tuple[list[Any], Any]:
    """Return the batches of an Arrow file or stream, and their schema; refuse them before they are too many."""
    from pyarrow import ipc

    if is_file:
        from pyarrow import dataset

        reader = ipc.open_file(source)
        _refuse_names(reader.schema.names, name)
        _refuse_size(dataset.dataset(path, format="ipc").count_rows(), reader.schema, name, 0)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)], reader.schema
    batches, bytes_ = list[Any](), 0
    with ipc.open_stream(source) as reader:
        _refuse_names(reader.schema.names, name)
        for batch in reader:
            bytes_ += batch.nbytes
            _refuse_size(0, reader.schema, name, bytes_)
            batches.append(batch)
        return batches, reader.schema


def _unpacked(metadata: Any) -> int:
    """Return the bytes that a Parquet file declares for its values, unpacked."""
    return sum(max(0, metadata.row_group(i).total_byte_size) for i in range(metadata.num_row_groups))


def _refuse_size(rows: int, schema: Any, name: str, declared: int) -> None:
    """Refuse a table whose values, 8 bytes each, would take more memory than any table may."""
    need = max(8 * rows * len(schema), declared)
    if rows < 0 or need > MOST_BYTES:
        found = f"got {name!r}, which declares {rows:,} rows of {len(schema):,} columns, {need / 2**30:,.0f} GiB unpacked"
        raise ScorefieldError(f"{found}, expected at most {MOST_BYTES >> 30} GiB: write a part of the rows")


def vectors_of(table: Any, name: str, key: str | None) -> tuple[str, NDArray[Any], RawLabels, list[DataIssue]] | None:
    """Return the arrays that a column of lists holds, where it is what the table is about.

    It is that if it is named, or the only one, beside a column of labels and others that have no density.

    Args:
        table: a `pyarrow.Table`.
        name: what messages call it.
        key: name of the column of lists; None to find it.

    Returns:
        The name of the column, its values `(n, *shape)`, the labels beside it, and what was left out; None for other tables.

    Raises:
        ScorefieldError: no such column, lists of several lengths or with gaps, or several columns to choose from.
    """
    lists = [field.name for field in table.schema if _is_list(field.type)]
    others = [field.name for field in table.schema if field.name not in lists]
    if key is not None and key not in lists:
        listed = ", ".join(map(repr, lists)) or "none"
        raise ScorefieldError(f"got data.key={key} for {name!r}, expected a column of lists ({listed}): name one")
    if not lists:
        return None
    labels = [one for one in others if one in LABELS] or [one for one in others if _is_label(table[one])]
    unlike = set(others) - set(labels) - _without_density(table, others)
    if key is None and (unlike or len(labels) > 1):
        return None  # a table with lists beside it: they are left out by name
    if key is None and len(lists) > 1:
        listed = ", ".join(map(repr, lists))
        raise ScorefieldError(f"got {name!r} with columns of lists ({listed}), expected one: add --set data.key={lists[0]}")
    chosen = key or lists[0]
    values = _dense(table[chosen], chosen, name)
    label = labels[0] if len(labels) == 1 else None
    given = RawLabels(np.array([str(value) for value in table[label].to_pylist()])) if label else RawLabels()
    if label and table[label].null_count:
        label, given = None, RawLabels()
    left = [one for one in table.column_names if one not in (chosen, label)]
    cause = f"left out: the lists of {chosen!r} are learned as arrays"
    return chosen, values, given, [DataIssue(f"column {one!r}", cause) for one in left]


def is_list_of_numbers(type_: Any) -> bool:
    """Whether a type of Arrow is that of lists, or of lists of lists, of numbers."""
    import pyarrow.types as types

    while _is_list(type_):
        type_ = type_.value_type
    return bool(types.is_integer(type_) or types.is_floating(type_) or types.is_boolean(type_))


def _is_list(type_: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_))


def _is_text_or_whole(type_: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_dictionary(type_) or types.is_integer(type_))


def _is_label(column: Any) -> bool:
    """Whether a column has few texts or whole numbers, each of them often."""
    return _is_text_or_whole(column.type) and 2 <= len(column.unique()) <= min(FEW, len(column) // 2)


def _without_density(table: Any, names: list[str]) -> set[str]:
    """Return columns of texts and of whole numbers that are different in every row: names and numbers of the rows."""
    return {one for one in names if _is_text_or_whole(table[one].type) and len(table[one].unique()) == len(table)}


def _dense(column: Any, chosen: str, name: str) -> NDArray[Any]:
    """Return the values of a column of lists, of lists of lists, ..., of equal lengths as one array."""
    where = f"column {chosen!r} of {name!r}"
    if not is_list_of_numbers(column.type):
        raise ScorefieldError(f"got lists of {column.type} in {where}, expected lists of numbers: choose another by data.key")
    array, shape = column.combine_chunks(), [len(column)]
    for lengths in _lengths(array, where):
        shape.append(lengths)
        array = array.flatten()
    if array.null_count:
        raise ScorefieldError(f"got {array.null_count:,} missing numbers in the lists of {where}, expected none: fill them")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _lengths(array: Any, where: str) -> Iterator[int]:
    """Yield the common length of the lists at each depth."""
    from pyarrow import compute

    while _is_list(array.type):
        if array.null_count:
            raise ScorefieldError(f"got {array.null_count:,} missing lists in {where}, expected none: drop those rows")
        lengths = compute.list_value_length(array)
        ends = compute.min_max(lengths).as_py()
        if ends["min"] != ends["max"]:
            found = f"got lists of {ends['min']} to {ends['max']} numbers in {where}"
            raise ScorefieldError(f"{found}, expected one length: cut or fill them to one")
        yield int(ends["min"] or 0)
        array = array.flatten()


def write_lists(path: str, samples: NDArray[Any], column: str) -> None:
    """Write arrays `(n, ...)` to a Parquet file of one column of lists, of lists of lists, ..."""
    import pyarrow
    from pyarrow import parquet

    values: Any = pyarrow.array(np.ascontiguousarray(samples).reshape(-1))
    for length in reversed(samples.shape[1:]):
        values = pyarrow.FixedSizeListArray.from_arrays(values, length)
    parquet.write_table(pyarrow.table({column: values}), path)
