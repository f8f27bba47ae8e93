"""NetCDF: the variables of a .nc file, or of a folder of them, whose structure xarray reads; and written back.

NetCDF 4    HDF5 inside: structure by h5netcdf, numbers by `data/files/hdf5.py`, in chunks; groups are looked into
NetCDF 3    structure and numbers by scipy
packed      scale, offset, fill values and valid ranges by `data/files/packing.py`: quantities are learned, and packed again
axes        by the names of the dimensions; coordinates are not data, and times are not decoded
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import require
from scorefield.data.files import containers, hdf5
from scorefield.data.files.archives import cause_of
from scorefield.data.files.attributes import attribute_of, kept_attributes
from scorefield.data.files.containers import Broken, Container
from scorefield.data.files.named import NamedArray
from scorefield.data.files.packing import Packing, fill_beside
from scorefield.data.files.rows import Rows
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf")
MOST_COORDINATES = 4096  # numbers of a coordinate that is written back
CUT = (
    "cannot reshape array",
    "larger dtype",
    "Unexpected header",
    "out of bounds",
)  # what scipy says of a file that ends too soon
HOW = {"mask_and_scale": False, "decode_times": False, "decode_timedelta": False, "decode_coords": "all", "cache": False}


def read(source: str, config: DataConfig) -> Dataset:
    """Read a variable of a .nc file, or of a folder of them.

    Args:
        source: the path.
        config: how it is read; `key` names the variable, with / between groups.

    Raises:
        ScorefieldError: xarray, h5netcdf or scipy is missing, a broken file, no plain choice of a variable.
    """
    require("xarray", "netcdf", source)
    return containers.read(source, config, Container("netcdf", SUFFIXES, _opened, slices=True))


@contextmanager
def _opened(path: str) -> Iterator[list[NamedArray]]:
    """Give the variables of a file while it is open."""
    xarray, name = require("xarray", "netcdf", path), os.path.basename(path)

    def broken(cause: BaseException) -> Broken:
        why = cause_of(cause)
        if magic[:3] == b"CDF" and any(sign in why for sign in CUT):
            why = "truncated: it ends before its numbers do"
        return Broken(f"got {name!r}, which cannot be read ({why}), expected a whole NetCDF file: copy it again", why)

    magic = b""
    with ExitStack() as stack:
        try:
            with open(path, "rb") as stream:
                magic = stream.read(4)
            if not magic:
                raise ValueError("empty")
            if magic == b"CDF\x05":
                raise ValueError("it is of the kind CDF-5: convert it with nccopy -k nc4")
            if magic[:3] == b"CDF":
                require("scipy.io", "netcdf", path)
                data = stack.enter_context(xarray.open_dataset(path, engine="scipy", **HOW))
                arrays = _variables({"/": data}, name, 3, _of_netcdf3(data, path, name))
            else:
                require("h5netcdf", "netcdf", path)
                inside = {one.name: one for one in stack.enter_context(hdf5.opened(path, masked=False))}
                if links := [one for one in inside.values() if one.unreadable.startswith("a link")]:
                    raise ValueError(f"{links[0].name} is {links[0].unreadable}")
                groups = xarray.open_groups(path, engine="h5netcdf", **HOW)
                for data in groups.values():
                    stack.enter_context(data)
                arrays = _variables(groups, name, 4, inside.get)
        except ScorefieldError:
            raise
        except Exception as cause:  # xarray, h5py and scipy raise anything on broken files
            raise broken(cause) from cause
        yield arrays


def _of_netcdf3(data: Any, path: str, name: str) -> Callable[[str], NamedArray]:
    """Return what gives a variable of NetCDF 3 as it is stored."""
    size = os.path.getsize(path)

    def stored(key: str) -> NamedArray:
        variable = data.variables[key]

        def rows(axis: int) -> Rows:
            if variable.nbytes > size:
                raise Broken(
                    f"got {key} of {name!r}, {variable.nbytes:,} bytes in a file of {size:,}, expected a whole file: copy it"
                )

            def part(first: int, last: int) -> Array:
                return np.moveaxis(variable[(slice(None),) * axis + (slice(first, last),)].values, axis, 0)

            shape = variable.shape
            return Rows((shape[axis], *shape[:axis], *shape[axis + 1 :]), variable.dtype, part, f"{key} of {name!r}")

        return NamedArray(key, variable.shape, variable.dtype, rows)

    return stored


def _variables(groups: dict[str, Any], name: str, version: int, stored: Callable[[str], NamedArray | None]) -> list[NamedArray]:
    """Return the variables of all groups."""
    found = []
    for group, data in groups.items():
        for key, variable in data.variables.items():
            where = f"{group.strip('/')}/{key}".lstrip("/")
            raw = stored(where)
            if raw is None:
                continue
            header = {
                "attributes": kept_attributes(variable.attrs),
                "file": kept_attributes(data.attrs),
                "version": version,
                "coordinates": _coordinates(data, variable),
            }
            aside = key in data.coords or key in data.dims
            found.append(packed_array(raw, where, variable.dims, variable.attrs, header, aside))
    return found


def packed_array(
    raw: NamedArray, name: str, dims: Any, attributes: Any, header: dict[str, Any], aside: bool, netcdf: bool = True
) -> NamedArray:
    """Return a variable whose rows are quantities, of one whose rows are packed numbers.

    Args:
        raw: as it is stored.
        name: of the variable.
        dims: names of its axes.
        attributes: of it.
        header: what is written back.
        aside: it is a coordinate.
        netcdf: unwritten cells hold the fill values of the netCDF library.
    """
    if raw.unreadable or raw.dtype.kind not in "iufc":
        return NamedArray(name, raw.shape, raw.dtype, raw.open, tuple(dims), aside, raw.unreadable)
    packing = Packing.of(raw.dtype, attributes, netcdf)

    def rows(axis: int) -> Rows:
        packed = raw.open(axis)
        decoded = lambda first, last: packing.decode(packed[first:last])  # noqa: E731
        chunk = packed.block if isinstance(packed, Rows) else 1
        return Rows(packed.shape, packing.quantity, decoded, getattr(packed, "what", name), chunk, getattr(packed, "notes", ()))

    same = packing.quantity == packing.stored or packing.is_scaled
    return NamedArray(
        name,
        raw.shape,
        packing.quantity,
        rows,
        tuple(str(dim) for dim in dims),
        aside,
        header={**header, "stored": packing.stored.name},
        missing=packing.missing,
        stored=None if same else packing.stored.name,
    )


def _coordinates(data: Any, variable: Any) -> dict[str, Any]:
    """Return the coordinates of a variable's dimensions, as JSON values, where they are short."""
    found = dict[str, Any]()
    for dim in variable.dims:
        one = data.variables.get(dim)
        if one is not None and one.ndim == 1 and one.size <= MOST_COORDINATES and one.dtype.kind in "iuf":
            values = one.values
            if np.isfinite(values).all():
                found[str(dim)] = {"type": one.dtype.name, "values": values.tolist(), "attributes": kept_attributes(one.attrs)}
    return found


def write(path: str, samples: Array, layout: Layout) -> None:
    """Write samples as a variable of a .nc file: packed as it was, with its units and the coordinates of its grid.

    Args:
        path: of the file.
        samples: `(n, *layout.shape)`.
        layout: of the data; its header is used if they came from NetCDF or zarr.

    Raises:
        ScorefieldError: complex numbers, which NetCDF does not have.
    """
    xarray = require("xarray", "netcdf", path)
    refuse(path, layout)
    header = layout.header if layout.format in ("netcdf", "zarr") else {}
    packed, dims, attributes = packed_again(samples, header)
    attributes |= fill_beside(packed, attributes)
    key = str(header.get("key", "samples")).rpartition("/")[2]
    coordinates = {
        dim: (dim, np.array(one["values"], one["type"]), {k: attribute_of(v) for k, v in one["attributes"].items()})
        for dim, one in header.get("coordinates", {}).items()
    }
    data = xarray.Dataset(
        {key: (dims, packed, attributes)}, coordinates, {k: attribute_of(v) for k, v in header.get("file", {}).items()}
    )
    for one in data.variables.values():
        if "_FillValue" not in one.attrs:
            one.encoding["_FillValue"] = None  # none was there
    if header.get("version") == 3:
        data.to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")
    else:
        data.to_netcdf(path, engine="h5netcdf")


def refuse(path: str, layout: Layout) -> None:
    """Raise `ScorefieldError` for complex numbers, which NetCDF does not have."""
    if layout.is_complex:
        raise ScorefieldError(f"got {path!r} for complex numbers, which NetCDF does not have, expected .npz or .h5: change it")


def packed_again(samples: Array, header: dict[str, Any]) -> tuple[Array, list[str], dict[str, Any]]:
    """Return samples as the variable stored them, the names of their axes, and its attributes.

    Args:
        samples: `(n, ...)`.
        header: of the layout; {} for plain numbers.
    """
    attributes = {key: attribute_of(value) for key, value in header.get("attributes", {}).items()}
    axis = header.get("axis", 0)
    if "stored" in header:
        stored = _signed(header["stored"], attributes)
        packing = Packing.of(stored, attributes, default_fills=stored.kind != "f")  # a float has NaN for what is unknown
        samples = packing.encode(samples)
        samples = samples.view(_signed(header["stored"], attributes))
    dims = list(header.get("dims", [f"axis_{i}" for i in range(1, samples.ndim)]))
    examples = header.get("examples", "sample")
    dims.insert(axis, examples if examples.lower() not in ("time", "t", "date", "valid_time") else "sample")
    return np.moveaxis(samples, 0, axis), dims, attributes


def _signed(stored: str, attributes: dict[str, Any]) -> np.dtype[Any]:
    """Return the type that the file has: unsigned numbers may be stored as signed ones, and an attribute says so."""
    dtype = np.dtype(stored)
    return np.dtype(f"i{dtype.itemsize}") if str(attributes.get("_Unsigned", "")).lower() == "true" else dtype
