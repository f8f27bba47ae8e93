"""Zarr: the arrays of a .zarr folder, or of a .zarr.zip, versions 2 and 3, opened for reading only, and written back.

names       `dimension_names` of version 3, or `_ARRAY_DIMENSIONS`, which xarray writes; coordinates are not data
packed      as in NetCDF (`data/files/packing.py`)
codecs      those that turn bytes into numbers; others, such as pickle, which runs code, are refused by their name
missing     a chunk without a file holds the fill value: so a folder that was copied by half reads as zeros. A note says
            how many there are
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import require
from scorefield.data.files import containers
from scorefield.data.files.archives import cause_of
from scorefield.data.files.attributes import attribute_of, kept_attributes
from scorefield.data.files.containers import Broken, Container
from scorefield.data.files.named import NamedArray
from scorefield.data.files.netcdf import MOST_COORDINATES, packed_again, packed_array
from scorefield.data.files.rows import Rows, refuse_bomb
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MOST_MEMBERS = 5_000_000
DIMENSIONS = "_ARRAY_DIMENSIONS"
CODECS = {
    "blosc", "zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "lzf", "delta", "fixedscaleoffset", "shuffle", "packbits",
    "quantize", "astype", "bitround", "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3", "bytes", "transpose",
    "sharding_indexed", "pcodec", "zfpy",
}  # fmt: skip


def read(source: str, config: DataConfig) -> Dataset:
    """Read an array of a .zarr folder or of a .zarr.zip.

    Args:
        source: the path.
        config: how it is read; `key` names the array, with / between groups.

    Raises:
        ScorefieldError: zarr is missing, a broken store, a codec that is not known, no plain choice of an array.
    """
    require("zarr", "zarr", source)
    return containers.read(source.rstrip("/"), config, Container("zarr", (), _opened))


@contextmanager
def _opened(path: str) -> Iterator[list[NamedArray]]:
    """Give the arrays of a store while it is open."""
    zarr, name = require("zarr", "zarr", path), os.path.basename(path)
    try:
        if os.path.isdir(path):
            store = zarr.storage.LocalStore(path, read_only=True)
        else:
            _refuse_members(path)
            store = zarr.storage.ZipStore(path, mode="r", read_only=True)
        node = zarr.open(store=store, mode="r")
        single = isinstance(node, zarr.Array)
        members = [(name.partition(".")[0], node)] if single else list(node.members(max_depth=None))
        arrays = sorted(((key, one) for key, one in members if isinstance(one, zarr.Array)), key=lambda pair: pair[0])
        shared = {} if single else kept_attributes(dict(node.attrs))
        named = [_array_of(key, one, dict(arrays), name, {"file": shared, "alone": single}) for key, one in arrays]
    except ScorefieldError:
        raise
    except Exception as cause:  # zarr raises anything on broken stores
        why = (
            f"no zarr.json, .zgroup or .zarray in it: {cause_of(cause)}"
            if isinstance(cause, FileNotFoundError)
            else cause_of(cause)
        )
        raise Broken(f"got {name!r}, which cannot be read ({why}), expected a whole zarr store: copy it again", why) from cause
    try:
        yield named
    finally:
        store.close()


def _refuse_members(path: str) -> None:
    """Raise `ValueError` for a .zip whose members should not be unpacked."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > MOST_MEMBERS:
            raise ValueError(f"over {MOST_MEMBERS:,} members")
        for info in infos:
            if info.flag_bits & 0x1:
                raise ValueError("encrypted")
            if info.file_size > 2**20 and info.file_size > 1000 * info.compress_size:
                raise ValueError(f"{info.filename} unpacks to over 1000 times its size, as a zip bomb does")


def _dims_of(array: Any) -> tuple[str, ...]:
    """Return the names of an array's axes; () without them."""
    dims = getattr(array.metadata, "dimension_names", None) or array.attrs.get(DIMENSIONS) or ()
    return tuple(map(str, dims)) if len(dims) == array.ndim and all(dims) else ()


def _array_of(key: str, array: Any, others: dict[str, Any], name: str, shared: dict[str, Any]) -> NamedArray:
    """Return an array of a store, not read yet."""
    dims, attributes, group = _dims_of(array), dict(array.attrs), key.rpartition("/")[0]
    dtype, unreadable = np.dtype(array.dtype), ""
    unknown = sorted(_codecs(array) - CODECS)
    if dtype.hasobject or dtype.kind not in "fiubcUS":
        unreadable = "objects" if dtype.hasobject else f"of the type {dtype}"
    elif unknown:
        unreadable = f"packed by {unknown[0]}, which is never run" if unknown[0] == "pickle" else f"packed by {unknown[0]}"
    version = int(array.metadata.zarr_format)
    fill = array.metadata.fill_value
    if version == 2 and dims and "_FillValue" not in attributes and fill is not None and dtype.kind in "iuf" and fill != 0:
        attributes["_FillValue"] = fill  # where xarray keeps it in version 2; 0 is what zarr itself puts there
    named = {dim for one in others.values() for dim in _dims_of(one)}
    aside = key.rpartition("/")[2] in named and array.ndim == 1
    header = {
        "attributes": kept_attributes({k: v for k, v in attributes.items() if k != DIMENSIONS}),
        "version": version,
        "coordinates": {} if unreadable else _coordinates(dims, group, others),
        **shared,
    }
    raw = NamedArray(key, tuple(array.shape), dtype, partial(_rows, array, key, name), unreadable=unreadable)
    return packed_array(raw, key, dims, attributes, header, aside, netcdf=False)


def _codecs(array: Any) -> set[str]:
    """Return the names of everything that the chunks of an array pass through."""
    found, waiting = set[str](), [array.metadata.to_dict()]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(code := one.get("id"), str):
                found.add(code)
            if isinstance(code := one.get("name"), str) and "codecs" not in one and "chunk_shape" not in one:
                found.add(code.removeprefix("numcodecs."))
            kept = ("codecs", "index_codecs", "configuration", "filters", "compressor")
            waiting += [value for key, value in one.items() if key in kept]
        elif isinstance(one, list | tuple):
            waiting += one
    return found


def _rows(array: Any, key: str, name: str, axis: int) -> Rows:
    """Return the rows of an array along an axis, after its size has been checked."""
    what, shape = f"{key} of {name!r}", tuple(array.shape)
    unit = array.shards or array.chunks
    stored = math.inf
    with contextlib.suppress(Exception):  # a store that cannot tell
        stored = array.nbytes_stored()
    size, chunk = math.prod(shape) * array.dtype.itemsize, math.prod(unit) * array.dtype.itemsize
    refuse_bomb(what, size, int(min(stored, size)), chunk)
    notes = list[str]()
    there, all_ = array.nchunks_initialized, array.nchunks
    if there == 0 and size:
        raise Broken(f"got {what}, {shape} {array.dtype} of which no chunk is there, expected numbers: copy the store again")
    if there < all_:
        notes.append(
            f"{all_ - there:,} of the {all_:,} chunks of {key} are not in the store: zarr reads them as {array.fill_value}. "
            "Copy the store again if that is not meant."
        )

    def part(first: int, last: int) -> Array:
        return np.moveaxis(np.asarray(array[(slice(None),) * axis + (slice(first, last),)]), axis, 0)

    return Rows((shape[axis], *shape[:axis], *shape[axis + 1 :]), array.dtype, part, what, unit[axis], notes)


def _coordinates(dims: tuple[str, ...], group: str, others: dict[str, Any]) -> dict[str, Any]:
    """Return the coordinates of the axes, as JSON values, where they are short."""
    found = dict[str, Any]()
    for dim in dims:
        one = others.get(f"{group}/{dim}".lstrip("/"))
        if one is None or one.ndim != 1 or one.shape[0] > MOST_COORDINATES or np.dtype(one.dtype).kind not in "iuf":
            continue
        if _codecs(one) <= CODECS and np.isfinite(values := np.asarray(one[:])).all():
            attributes = {k: v for k, v in dict(one.attrs).items() if k != DIMENSIONS}
            found[dim] = {"type": values.dtype.name, "values": values.tolist(), "attributes": kept_attributes(attributes)}
    return found


def write(path: str, samples: Array, layout: Layout) -> None:
    """Write samples as an array of a new zarr store, with the coordinates of its grid.

    Args:
        path: of the folder.
        samples: `(n, *layout.shape)`.
        layout: of the data; its header is used if they came from zarr or NetCDF.
    """
    zarr = require("zarr", "zarr", path)
    header = layout.header if layout.format in ("netcdf", "zarr") else {}
    packed, dims, _ = packed_again(samples, header)
    version = header.get("version", 3) if layout.format == "zarr" else 3
    key = str(header.get("key", "samples")).rpartition("/")[2]
    alone = layout.format == "zarr" and header.get("alone", False)
    root = None if alone else zarr.create_group(store=path, zarr_format=version, attributes=_plain(header.get("file", {})))

    def put(name: str, values: Array, axes: list[str], about: dict[str, Any]) -> None:
        named = {"dimension_names": axes} if version == 3 else {}
        old = {DIMENSIONS: axes} if version == 2 else {}
        fill = {"fill_value": about["_FillValue"]} if version == 2 and "_FillValue" in about else {}
        made = {"data": np.ascontiguousarray(values), "attributes": {**old, **about}, **named, **fill}
        _ = zarr.create_array(path, zarr_format=version, **made) if root is None else root.create_array(name, **made)

    if alone and "dims" not in header:
        zarr.create_array(path, zarr_format=version, data=packed, attributes=_plain(header.get("attributes", {})))
        return
    put(key, packed, dims, _plain(header.get("attributes", {})))
    for dim, one in header.get("coordinates", {}).items():
        put(dim, np.array(one["values"], one["type"]), [dim], _plain(one["attributes"]))


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON values, without their types."""
    return {key: np.asarray(attribute_of(value)).tolist() for key, value in attributes.items()}
