"""HDF5: the arrays of a .h5 file, or of a folder of them, read with h5py, and written back.

    listed        every array of every group; links to other files are not followed, and arrays that lie in others are not read
    missing       cells that hold the attribute `_FillValue` or `missing_value` are NaN, and hold it again when they are written
    read          in order, in blocks of chunks; a filter that is not installed is named before anything is read
    refused       an array that claims far more than the file stores; texts, references and lists as data
    written back  one array of the same name, type and attributes

MATLAB writes its newer files (v7.3) as HDF5, column by column: `matlab=True` turns the axes back, joins complex numbers, and
leaves out what is text, a cell or a struct.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from scorefield.data.files.packing import KEYS, Packing
from scorefield.data.files.rows import Rows, refuse_bomb
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
MOST_OBJECTS = 20_000
MOST_DEPTH = 32


def read(source: str, config: DataConfig) -> Dataset:
    """Read the arrays of a .h5 file, or of a folder of them.

    Args:
        source: the path.
        config: how it is read; `key` names the array, with / between groups.

    Raises:
        ScorefieldError: h5py is missing, a broken file, no plain choice of an array, a filter that is not installed.
    """
    require("h5py", "hdf5", source)
    return containers.read(source, config, Container("hdf5", SUFFIXES, opened, slices=True))


@contextmanager
def opened(path: str, matlab: bool = False, masked: bool = True) -> Iterator[list[NamedArray]]:
    """Give the arrays of a file while it is open.

    Args:
        path: of the file.
        matlab: it was written by MATLAB.
        masked: cells that hold `_FillValue` or `missing_value` become NaN.
    """
    h5py, name = require("h5py", "hdf5", path), os.path.basename(path)
    try:
        with open(path, "rb") as stream:
            if stream.read(4) == b"\x0e\x03\x13\x01":
                raise ValueError("it is an older HDF4 file: convert it with h4toh5")
        file = h5py.File(path, "r")
    except Exception as cause:  # h5py raises OSError of many kinds
        raise _broken(name, cause) from cause
    with file:
        try:
            arrays = list(_arrays(file, name, matlab))
            arrays = [_masked(one, file[one.name].attrs) if masked and not one.unreadable else one for one in arrays]
        except ScorefieldError:
            raise
        except Exception as cause:
            raise _broken(name, cause) from cause
        yield arrays


def _broken(name: str, cause: BaseException) -> Broken:
    why = cause_of(cause)
    return Broken(f"got {name!r}, which cannot be read ({why}), expected a whole HDF5 file: copy it again", why)


def _arrays(file: Any, name: str, matlab: bool) -> Iterator[NamedArray]:
    """Yield the arrays of all groups, in the order of their names; links out of the file are listed, and not followed."""
    h5py = require("h5py", "hdf5", name)
    waiting, seen, count = [("", file)], {h5py.h5o.get_info(file.id).addr}, 0
    shared = kept_attributes(file.attrs)
    while waiting:
        path, group = waiting.pop(0)
        for key in group:
            count += 1
            if count > MOST_OBJECTS or path.count("/") > MOST_DEPTH:
                raise Broken(f"got over {MOST_OBJECTS:,} objects in {name!r}, expected fewer: write the array to its own file")
            if matlab and key.startswith("#"):
                continue  # what cells and objects hold
            where, link = f"{path}{key}", group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                why = f"a link to {os.path.basename(link.filename)}, which is not followed"
                yield NamedArray(where, (), np.dtype("f8"), lambda axis: None, unreadable=why)
            if not isinstance(link, h5py.HardLink):
                continue
            thing = group.get(key)
            address = h5py.h5o.get_info(thing.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(thing, h5py.Group):
                waiting.append((f"{where}/", thing))
            elif isinstance(thing, h5py.Dataset):
                yield _array_of(thing, where, name, matlab, shared)


def _array_of(found: Any, where: str, name: str, matlab: bool, shared: dict[str, Any]) -> NamedArray:
    """Return a data set of HDF5, not read yet."""
    shape = tuple(found.shape or ())
    dims = tuple(str(dim.label) for dim in found.dims) if shape else ()
    dtype, why = _type_of(found, matlab)
    header = {"attributes": kept_attributes(found.attrs), "file": shared}
    if found.compression in ("gzip", "lzf"):
        header["compression"] = found.compression
    if not matlab:
        rows = partial(_rows, found, f"{where} of {name!r}", False, dtype)
        return NamedArray(where, shape, dtype, rows, dims if all(dims) else (), unreadable=why, header=header)
    rows, shape = partial(_rows, found, f"{where} of {name!r}", True, dtype), shape[::-1]
    if is_column(shape):
        whole = lambda axis: np.asarray(rows(0)[:]).reshape(-1)  # noqa: E731
        return NamedArray(where, (max(shape),), dtype, whole, unreadable=why, ends=True, header=header)
    return NamedArray(where, shape, dtype, rows, unreadable=why, ends=True, header=header)


def _masked(array: NamedArray, attributes: Any) -> NamedArray:
    """Return an array whose cells are NaN where they hold what its attributes call missing."""
    said = {key: attributes[key] for key in KEYS if key in attributes}
    if not said or array.dtype.kind not in "iuf" or len(array.shape) < 2:  # a column may be labels
        return array
    packing = Packing.of(array.dtype, said, default_fills=False)
    if not packing.fills:
        return array

    def rows(axis: int) -> Any:
        found = array.open(axis)
        if not isinstance(found, Rows):
            return packing.decode(found)
        part = lambda first, last: packing.decode(found[first:last])  # noqa: E731
        return Rows(found.shape, packing.quantity, part, found.what, found.block, found.notes)

    stored = None if packing.quantity == packing.stored else packing.stored.name
    return replace(array, dtype=packing.quantity, open=rows, missing=packing.missing, stored=stored)


def _type_of(found: Any, matlab: bool) -> tuple[np.dtype[Any], str]:
    """Return the type of a data set's numbers, and why it cannot be read as numbers, in a few words."""
    if why := _why_not(found):
        return np.dtype("f8"), why
    dtype: np.dtype[Any] = found.dtype
    if dtype.names in (("real", "imag"), ("r", "i"), ("re", "im")):
        dtype = np.dtype(f"c{max(8, dtype.itemsize)}")
    if dtype.kind == "O" or _kinds_of(found):
        dtype = np.dtype("S1")  # texts, which may be labels
    if not matlab:
        return dtype, ""
    made_by = found.attrs.get("MATLAB_class", b"")
    label = made_by.decode() if isinstance(made_by, bytes) else str(made_by)
    if "MATLAB_empty" in found.attrs:
        return dtype, "empty"
    if label in ("char", "cell", "struct", "function_handle"):
        return dtype, {"char": "text", "cell": "cells"}.get(label, label)
    return np.dtype("bool") if label == "logical" else dtype, ""


def _kinds_of(found: Any) -> dict[int, str]:
    """Return the names of the values of an enumeration along one axis; nothing for other data sets."""
    names = require("h5py", "hdf5", "a .h5 file").check_enum_dtype(found.dtype) if found.ndim == 1 else None
    return {int(value): name for name, value in names.items()} if names else {}


def is_column(shape: tuple[int, ...]) -> bool:
    """Whether a matrix of MATLAB, which has no arrays of one axis, is a column or a row."""
    return len(shape) == 2 and 1 in shape


def _why_not(found: Any) -> str:
    """Return why a data set cannot be read as numbers, in a few words."""
    h5py = require("h5py", "hdf5", "a .h5 file")
    if found.shape is None:
        return "empty"
    if h5py.check_ref_dtype(found.dtype) is not None:
        return "references"
    if found.dtype.kind == "O":
        texts = h5py.check_string_dtype(found.dtype) is not None
        return ("" if found.ndim == 1 else "texts") if texts else "lists of different lengths"
    if found.external:
        return f"numbers in another file ({os.path.basename(str(found.external[0][0]))}), which is not opened"
    if found.is_virtual:
        others = sorted({os.path.basename(source.file_name) for source in found.virtual_sources()} - {"."})
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            return f"a view of other files ({others[0]}{more}), which are not opened: give the folder that holds them"
    return ""


def _rows(found: Any, what: str, matlab: bool, dtype: np.dtype[Any], axis: int) -> Any:
    """Return the rows of a data set along an axis, after what can be known before reading has been checked."""
    _refuse_filters(found, what)
    if not found.shape and found.dtype.kind != "O":
        return np.asarray(found[()])
    if found.dtype.kind == "O":
        return np.array(found.asstr()[:], dtype=str)
    if kinds := _kinds_of(found):
        return np.array([kinds.get(int(value), str(value)) for value in found[:]])
    stored = found.id.get_storage_size()
    chunk = math.prod(found.chunks) * found.dtype.itemsize if found.chunks else 0
    refuse_bomb(what, found.size * found.dtype.itemsize, stored, chunk)
    if stored == 0 and found.size and not found.is_virtual:
        raise Broken(f"got {what}, {found.shape} {found.dtype} of which nothing was written, expected numbers: write it again")
    ndim = found.ndim
    along = ndim - 1 - axis if matlab else axis  # of the file
    n = found.shape[along]
    rest = found.shape[::-1] if matlab else found.shape

    def part(first: int, last: int) -> Array:
        block = found[(slice(None),) * along + (slice(first, last),)]
        if dtype.kind == "c" and block.dtype.names:
            real, imaginary = block.dtype.names
            block = (block[real] + 1j * block[imaginary]).astype(dtype)
        turned: Array = np.moveaxis(block.T if matlab else block, axis, 0)
        return turned.astype(dtype) if dtype.kind == "b" else turned

    return Rows((n, *rest[:axis], *rest[axis + 1 :]), dtype, part, what, found.chunks[along] if found.chunks else 1)


def _refuse_filters(found: Any, what: str) -> None:
    """Refuse an array that was packed by a filter which is not installed."""
    h5py = require("h5py", "hdf5", what)
    listed = found.id.get_create_plist()
    for index in range(listed.get_nfilters()):
        number, _, _, label = listed.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            with contextlib.suppress(ImportError):
                import hdf5plugin  # type: ignore[import-not-found]  # noqa: F401 - its import installs the usual filters
            if not h5py.h5z.filter_avail(number):
                text = label.decode(errors="replace") if isinstance(label, bytes) else str(label)
                raise ScorefieldError(
                    f"got {what}, packed by the filter {text or 'without a name'} (number {number}), which is not installed, "
                    "expected one that is: run pip install hdf5plugin, or unpack it with h5repack -f NONE"
                )


def write(path: str, samples: Array, layout: Layout) -> None:
    """Write samples as one array of an HDF5 file, with its name, and the attributes that still hold.

    Args:
        path: of the file.
        samples: `(n, *layout.shape)`.
        layout: of the data; its header is used if they came from HDF5.
    """
    h5py = require("h5py", "hdf5", path)
    header = layout.header if layout.format in ("hdf5", "matlab") else {}
    attributes = {key: attribute_of(value) for key, value in header.get("attributes", {}).items()}
    samples = np.moveaxis(samples, 0, header.get("axis", 0))
    fills = [attributes[key] for key in KEYS if key in attributes]
    if fills and samples.dtype.kind == "f":
        samples = np.where(np.isnan(samples), np.asarray(fills[0]).reshape(-1)[0], samples).astype(samples.dtype)
    with h5py.File(path, "w") as file:
        made = file.create_dataset(header.get("key") or "samples", data=samples, compression=header.get("compression"))
        for place, attributes in ((made, header.get("attributes", {})), (file, header.get("file", {}))):
            for key, value in attributes.items():
                place.attrs[key] = attribute_of(value)
        for index, dim in enumerate(_dims(header)):
            made.dims[index].label = dim


def _dims(header: dict[str, Any]) -> list[str]:
    """Return the names of all axes, with that of the examples; none if the header has none."""
    if "dims" not in header:
        return []
    dims = list(header["dims"])
    dims.insert(header.get("axis", 0), header.get("examples", "sample"))
    return dims
