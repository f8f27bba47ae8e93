"""NIfTI: volumes of scanners, in their own type and with their place in space.

    stored      integers or floats, first axis x, with a slope and an intercept
    value       slope * stored + intercept: float32, or float64 for types of over 16 bits; without both, the stored type itself
    place       affine: from (i, j, k) to millimetres; kept where all files of a folder agree

A file of three axes is a volume "xyz", or with `data.kind=image` its slices along z. In a file of four, the last axis counts
examples (times of a scan) or channels. A file of five holds vectors: its last axis are channels.
"""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import quiet, require
from scorefield.data.files import promises
from scorefield.data.files.archives import Entry, cause_of
from scorefield.data.files.collection import Read, listing_of, stack
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
LETTERS = "xyz"
SUFFIXES = (".nii", ".nii.gz")
CHANNELS = 4  # on a fourth axis of at most this length, in a folder


@quiet
def read(source: str, config: DataConfig) -> Dataset:
    """Read volumes, or slices of them, from a NIfTI file or a folder of them.

    Args:
        source: path of the file or folder.
        config: how it is read: `kind` "image" takes the slices; `axes` "xyzc" or "xyzn" says what a fourth axis is.

    Returns:
        The data set, in the order of the paths.

    Raises:
        ScorefieldError: nibabel is missing, a single volume, a fourth axis that may be times or channels, fewer than 8 examples
            that can be read, or what `of_array` refuses.
    """
    name = os.path.basename(os.path.abspath(source))
    require("nibabel", "nifti", name)
    listing, alone = listing_of(source, SUFFIXES), not os.path.isdir(source)
    shape, colours = _first_shape(listing.entries, name)
    if config.axes and "n" in config.axes[:-1]:
        raise ScorefieldError(
            f"got data.axes={config.axes} for {name!r}, expected n at its end: such a file counts on its last axis"
        )
    config = replace(config, axes=(config.axes or "").rstrip("n") or None)
    how, axes, note = _axes(shape, name, alone, config)
    axes += "c" * (colours and "c" not in axes)
    found = stack(
        listing, lambda entry: _example(entry, len(shape), how), "volumes" if how != "slices" else "slices",
        several=how in ("slices", "examples"), alike=("orientation",),
    )  # fmt: skip
    header = found.header | ({"vector": True} if len(shape) == 5 else {})
    return of_array(
        found.array,
        name,
        config,
        labels=found.raw_labels,
        notes=(*found.notes, *([note] if note else [])),
        source=ArraySource(axes=axes, format="nifti", header=header, names=found.names, issues=found.issues),
    )


def _first_shape(entries: Any, name: str) -> tuple[tuple[int, ...], bool]:
    """Return the shape of the first file that has a header, and whether its voxels are colours."""
    causes = list[str]()
    for entry in entries:
        try:
            header = _header(entry)
            return _shape(header), header.get_data_dtype().names is not None
        except Exception as error:  # nibabel raises anything on broken files
            causes.append(f"{entry.path!r} ({cause_of(error)})")
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    raise ScorefieldError(f"got {name!r}, where no file can be read: {', '.join(causes[:3])}{more}, expected NIfTI: check them")


def _axes(shape: tuple[int, ...], name: str, alone: bool, config: DataConfig) -> tuple[str, str, str | None]:
    """Return what a file gives ("one" example, "slices" or "examples"), the axes of an example, and a note."""
    size = "x".join(map(str, shape))
    if config.kind == "image" and 3 <= len(shape) <= 4:
        planes = "its" if alone else "their"
        return "slices", "xy", f"The slices of {name!r} along {planes} third axis were read as images, each an example."
    if len(shape) == 4 and config.axes is None and not alone and shape[3] > CHANNELS:
        raise ScorefieldError(
            f"got files of shape {size} in {name!r}, whose fourth axis may be times or channels, expected to know which: set "
            "data.axes=xyzn if each time is an example, data.axes=xyzc if they are channels"
        )
    if len(shape) == 4 and ((config.axes is None and alone) or "c" not in (config.axes or "c")):
        return (
            "examples",
            LETTERS,
            f"The fourth axis of {name!r} ({size}) counts examples; data.axes=xyzc reads it as channels.",
        )
    if alone:
        slices = f", or set data.kind=image to read its {shape[2]} slices as examples" if len(shape) == 3 else ""
        advice = f"give a folder with a file for each{slices}"
        raise ScorefieldError(f"got one example of shape {size} in {name!r}, expected at least 8: {advice}")
    if len(shape) == 4:
        return (
            "one",
            "xyzc",
            f"The fourth axis of the files ({size}) was read as channels; data.axes=xyzn reads it as examples.",
        )
    return "one", "xyzc" if len(shape) == 5 else LETTERS[: len(shape)], None


def _header(entry: Entry) -> Any:
    """Return the header of a file, whose data must be as long as it promises."""
    nibabel = require("nibabel", "nifti", entry.path)
    with ExitStack() as closing:
        content = promises.opened(entry, closing)
        first = promises.read_exactly(content, 4)
        lengths = {int.from_bytes(first, "little"), int.from_bytes(first, "big")}
        if not lengths & {348, 540}:
            raise ValueError("no NIfTI file: it does not start with the length of a header")
        kind = nibabel.Nifti1Header if 348 in lengths else nibabel.Nifti2Header
        header = kind(first + promises.read_exactly(content, min(lengths & {348, 540}) - 4), check=True)
    if bytes(header["magic"])[:2] not in (b"n+", b"ni"):
        raise ValueError("no NIfTI file: its header has no such mark (Analyze, of .hdr and .img, is another format)")
    if min(header.get_data_shape(), default=0) < 1:
        raise ValueError(f"its header states a shape of {header.get_data_shape()}")
    promises.check(int(header.get_data_offset()) + _bytes(header), entry.size, packed=promises.is_packed(entry))
    return header


def _shape(header: Any) -> tuple[int, ...]:
    """Return the shape of an image, without axes of length 1 at its end; five axes are those of vectors, without time."""
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) == 5 and shape[3] == 1:
        return shape
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"of shape {shape}, which is no volume, no series of them and no field of vectors")
    return shape


def _example(entry: Entry, axes: int, how: str) -> Read:
    """Return what a file gives: an example, or several along the first axis; and its header."""
    header = _header(entry)
    shape = _shape(header)
    if len(shape) != axes:
        raise ValueError(f"of {len(shape)} axes, the first file has {axes}")
    image = _image(entry, header)
    values = _values(image.dataobj).reshape((*shape[:3], shape[4]) if axes == 5 else shape, order="A")
    if values.dtype.names:
        if how != "one" or values.ndim > 3:
            raise ValueError("of coloured voxels, which have no slices here")
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
    if how == "examples":
        values = np.moveaxis(values, -1, 0)
    elif how == "slices":
        values = np.moveaxis(values, (2, *range(3, values.ndim)), range(values.ndim - 2))
        values = values.reshape(-1, *values.shape[-2:])
    if image.header.get_intent()[0] == "label" and values.dtype.kind == "f" and (np.trunc(values) == values).all():
        values = values.astype(np.int32)  # numbers of labels, of which there is no half
    return values, _kept(image)


def _image(entry: Entry, header: Any) -> Any:
    """Return the image of a file; a packed one is unpacked to its end, where its checksum is compared."""
    nibabel = require("nibabel", "nifti", entry.path)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image  # 2 is a subclass of 1
    if not promises.is_packed(entry):
        return kind.from_filename(entry.place)
    with ExitStack() as closing:
        content = promises.opened(entry, closing)
        whole = promises.read_exactly(content, int(header.get_data_offset()) + _bytes(header))
        content.read(1)
    return kind.from_bytes(whole)


def _bytes(header: Any) -> int:
    """Return the length of the values that a header states."""
    return math.prod(int(length) for length in header.get_data_shape()) * int(header.get_data_dtype().itemsize)


def _values(proxy: Any) -> Array:
    """Return the values of an image: the stored ones if nothing scales them."""
    stored = np.asanyarray(proxy.get_unscaled())
    slope, intercept = float(proxy.slope), float(proxy.inter)
    if (slope, intercept) == (1.0, 0.0) or stored.dtype.names or stored.dtype.kind == "c":
        native: Array = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        return native
    wide: Any = np.float32 if stored.dtype.itemsize <= 2 or stored.dtype == np.float32 else np.float64
    scaled: Array = stored.astype(wide) * wide(slope) + wide(intercept)
    return scaled


def _kept(image: Any) -> dict[str, Any]:
    """Return what of a header still holds for a sample: its place in space, units and meaning."""
    nibabel = require("nibabel", "nifti", "a header")
    units, intent = image.header.get_xyzt_units()[0], image.header.get_intent()[0]
    orientation = "".join(letter or "?" for letter in nibabel.aff2axcodes(image.affine))
    affine = [[float(number) for number in row] for row in image.affine]
    zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    codes = [int(image.header[f"{which}form_code"]) for which in "qs"]
    return {"codes": codes, "affine": affine, "zooms": zooms, "orientation": orientation, "units": units, "intent": intent}


def write(path: str, sample: Array, layout: Layout) -> None:
    """Write a sample as a NIfTI file, in the type of its data.

    Args:
        path: of the file, .nii or .nii.gz.
        sample: `layout.shape`.
        layout: of the data; axes other than x, y, z, c are put in that order.

    Raises:
        ScorefieldError: nibabel is missing.
    """
    nibabel = require("nibabel", "nifti", path)
    header = layout.header if layout.format == "nifti" and not layout.header.get("resized") else {}
    order = [layout.axes.index(letter) for letter in "xyzc" if letter in layout.axes]
    values = np.transpose(sample, order)
    if "z" not in layout.axes:
        values = values[:, :, None]
    if header.get("vector"):
        values = values[:, :, :, None]
    if values.dtype.kind == "b" or values.dtype == np.float16:
        values = values.astype(np.uint8 if values.dtype.kind == "b" else np.float32)
    image = nibabel.Nifti1Image(values, _affine(header), dtype=values.dtype)
    for place, code in zip((image.set_qform, image.set_sform), header.get("codes", ()), strict=False):
        if any(header["codes"]):
            place(image.affine, code)
    image.header.set_xyzt_units(header.get("units", "unknown"))
    image.header.set_intent(header.get("intent", "none"), allow_unknown=True)
    nibabel.save(image, path)


def _affine(header: dict[str, Any]) -> Array:
    """Return the affine map of a header; where the files had no common one, that of their common sides of a voxel."""
    if "affine" in header:
        return np.array(header["affine"])
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    orientation = header.get("orientation", "RAS")
    orientation = orientation if "?" not in orientation else "RAS"
    for axis, (letter, zoom) in enumerate(zip(orientation, header.get("zooms", (1, 1, 1)), strict=False)):
        row = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[row, axis] = zoom if letter in "RAS" else -zoom
    return affine
