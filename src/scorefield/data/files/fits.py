"""FITS: images of telescopes, in their own type, with their coordinates on the sky and their units.

    stored      big-endian integers or floats, last axis x; BZERO = 2^(bits - 1) makes integers unsigned
    value       BSCALE * stored + BZERO: float32, or float64 for integers of over 16 bits; without both, the stored type
    unknown     BLANK in integers, NaN in floats

The library is set to scale nothing: it would return unsigned integers with their BLANK cells as numbers.

A folder has an image in each file. A cube alone has an image in each of its planes; in a folder, `data.axes` says what its
first axis is. Of several images in a file, `data.key` names one. A binary table is a table.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import quiet, require
from scorefield.data.files import promises
from scorefield.data.files.archives import Entry, cause_of
from scorefield.data.files.collection import LOOKED_AT, Read, listing_of, stack
from scorefield.data.formats import ReadSpec
from scorefield.data.layout import Layout
from scorefield.data.table import tables
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz", ".fz")
BLOCK = 2880  # bytes, to which all parts of a file are filled up
CHANNELS = 4  # on the first axis of a cube of at most this length, in a folder
HOLDS = re.compile(  # cards that hold for a sample as well: coordinates and units, but no dates, names or checksums
    r"(WCSAXES|CTYPE\d|CRVAL\d|CRPIX\d|CDELT\d|CUNIT\d|CROTA\d|(PC|CD|PV|PS)\d_\d+|LONPOLE|LATPOLE|EQUINOX|RADESYS|SPECSYS"
    r"|RESTFRQ|RESTWAV|BUNIT)"
)


@dataclass(frozen=True)
class _Part:
    """One image or table of a file.

    Attributes:
        index: its number.
        name: its EXTNAME, or "".
        is_image: or a table.
        shape: of an image, slowest axis first.
        header: its cards.
    """

    index: int
    name: str
    is_image: bool
    shape: tuple[int, ...]
    header: Any

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.name or self.index} ({shape if self.is_image else 'a table'})"


@quiet
def read(source: str, spec: ReadSpec) -> Dataset:
    """Read images, signals or volumes from a folder of FITS files or a cube, or a table.

    Args:
        source: path of the file or folder.
        spec: how it is read: `config.key` names or numbers the part of a file; `config.axes` says what an example is.

    Returns:
        The data set, in the order of the paths.

    Raises:
        ScorefieldError: astropy is missing, a single image, several parts without a key, a cube in a folder without word of its
            axes, fewer than 8 examples that can be read, or what `of_array` or `of_columns` refuses.
    """
    name, config = os.path.basename(os.path.abspath(source)), spec.config
    require("astropy.io.fits", "fits", name)
    listing, alone = listing_of(source, SUFFIXES), not os.path.isdir(source)
    parts = _first_parts(listing.entries, name, config.key)
    if not parts[0].is_image:
        return _table(next(iter(listing.entries)), name, parts[0].index, alone, spec)
    if config.axes and "n" in config.axes[1:]:
        raise ScorefieldError(
            f"got data.axes={config.axes} for {name!r}, expected n at its start: a cube counts on its first axis"
        )
    config = replace(config, axes=(config.axes or "").lstrip("n") or None)
    several, axes, note = _axes(parts[0], name, alone, config)
    holes = any(_blank(part.header) is not None for part in parts)
    one = partial(_example, key=config.key, axes=len(_squeezed(parts[0].shape)), several=several, holes=holes)
    found = stack(listing, one, "images", several=several, alike=("stored", "BUNIT"))
    header = dict(found.header)
    stored = header.pop("stored")
    marks = [_mark(part.header) for part in parts if _blank(part.header) is not None]
    missing = marks[0] if marks and stored[0] in "iu" else None
    return of_array(
        found.array,
        name,
        config,
        labels=found.raw_labels,
        notes=(*found.notes, *([note] if note else [])),
        source=ArraySource(axes, "fits", header, found.names, found.issues, missing, stored),
    )


def _first_parts(entries: Iterable[Entry], name: str, key: str | None) -> list[_Part]:
    """Return the chosen part of the first files that can be read."""
    causes, found = list[str](), list[_Part]()
    for entry in islice(entries, LOOKED_AT):
        try:
            with _opened(entry) as parts:
                found.append(_chosen(parts, key, name))
        except ScorefieldError:
            raise
        except Exception as error:  # astropy raises anything on broken files
            causes.append(f"{entry.path!r} ({cause_of(error)})")
    if not found:
        more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
        raise ScorefieldError(
            f"got {name!r}, where no file can be read: {', '.join(causes[:3])}{more}, expected FITS files: check them"
        )
    return found


@contextmanager
def _opened(entry: Entry) -> Iterator[list[tuple[_Part, Any]]]:
    """Open a file; yield its images and tables with what astropy has of each, none of them read yet."""
    fits = require("astropy.io.fits", "fits", entry.path)
    packed = promises.is_packed(entry)
    try:
        file = fits.open(entry.place, memmap=False, do_not_scale_image_data=True)
    except OSError as error:
        raise ValueError("truncated or damaged: it cannot be unpacked" if packed else cause_of(error)) from None
    with file as units:
        parts, index = list[tuple[_Part, Any]](), 0
        while True:
            try:
                unit = units[index]
            except IndexError:
                break
            place = int(unit.fileinfo()["datLoc"])
            promises.check(place + _length(unit), entry.size, packed=packed)
            shape = tuple(map(int, unit.shape)) if unit.is_image else ()
            if shape or (not unit.is_image and hasattr(unit, "columns")):
                if unit.is_image and min(shape) < 1:
                    raise ValueError(f"its header states a shape of {shape}")
                promises.check(math.prod(shape) * abs(int(unit.header["BITPIX"])) // 8, promises.MOST_BYTES)
                parts.append((_Part(index, str(unit.name).strip(), bool(unit.is_image), shape, unit.header), unit))
            index += 1
        yield parts


def _length(unit: Any) -> int:
    """Return how many bytes of values the header of a part promises, as they lie in the file."""
    if type(unit).__name__ == "CompImageHDU":
        return max(0, int(unit.fileinfo()["datSpan"]) - BLOCK + 1)  # its own header is that of the image within
    sizes = [int(unit.header[f"NAXIS{axis}"]) for axis in range(1, int(unit.header["NAXIS"]) + 1)]
    if min(sizes, default=0) < 0:
        raise ValueError(f"its header states axes of {sizes}")
    values = math.prod(sizes) if sizes else 0
    return (values + int(unit.header.get("PCOUNT", 0))) * abs(int(unit.header["BITPIX"])) // 8


def _chosen(parts: list[tuple[_Part, Any]], key: str | None, name: str) -> _Part:
    """Return the part that a key names, or the only one that can be meant: alone, or the primary one, or called SCI."""
    known = [part for part, _ in parts]
    shown = ", ".join(map(str, known)) or "nothing"
    if key is not None:
        for part in known:
            if key.upper() == part.name.upper() or key == str(part.index):
                return part
        raise ScorefieldError(f"got data.key={key} for {name!r} with {shown}, expected one of these: change it")
    images = [part for part in known if part.is_image]
    few = images or known
    if not few:
        raise ValueError("without an image or a table")
    plain = [part for part in few if part.index == 0 or part.name.upper() == "SCI"] if len(few) > 1 else few
    if len(plain) != 1:
        raise ScorefieldError(
            f"got {name!r} with {shown}, expected to know which is meant: set data.key={few[0].name or few[0].index}"
        )
    return plain[0]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1 before an image."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _axes(part: _Part, name: str, alone: bool, config: DataConfig) -> tuple[bool, str | None, str | None]:
    """Return whether a file gives several examples, the axes of an example (None if they are not known), and a note."""
    shape = _squeezed(part.shape)
    size, third = "x".join(map(str, shape)), part.header.get("CTYPE3")
    meant = f" ({third})" if third else ""
    if alone:
        if len(shape) == 2 and config.kind in ("signal", "vector"):
            return True, None, None
        if len(shape) < 3:
            rows = ", or set data.kind=vector if each row is an example" * (len(shape) == 2)
            raise ScorefieldError(
                f"got one image of {size} in {name!r}, expected at least 8 examples: give a folder with a file for each{rows}"
            )
        note = f"The {shape[0]} planes of {name!r} along its first axis{meant} were read as examples."
        return True, "yx" if len(shape) == 3 else None, note
    if len(shape) <= 2:
        return False, "yx" if len(shape) == 2 else "t", None
    if config.axes is not None:
        return len(config.axes) < len(shape), None, None
    if config.kind == "volume" and len(shape) == 3:
        return False, "zyx", None
    if len(shape) == 3 and shape[0] <= CHANNELS:
        return False, "cyx", f"The first axis{meant} of the files ({size}) was read as channels; data.axes says otherwise."
    raise ScorefieldError(
        f"got files of shape {size}{meant} in {name!r}, expected to know what their first axis is: set data.axes=cyx for "
        "channels, data.axes=zyx for the planes of a volume, or data.axes=nyx if each plane is an example"
    )


def _example(entry: Entry, key: str | None, axes: int, several: bool, holes: bool) -> Read:
    """Return what a file gives, and its header: an example, or several along the first axis.

    Args:
        entry: of the file.
        key: of the part.
        axes: how many the image has, without those of length 1.
        several: whether the first axis counts examples.
        holes: whether integers become floats, with NaN for BLANK.
    """
    with _opened(entry) as parts:
        try:
            part = _chosen(parts, key, entry.path)
        except ScorefieldError:  # of the file, not of the folder
            raise ValueError(f"with {', '.join(str(one) for one, _ in parts)}, unlike the first file") from None
        if not part.is_image or len(shape := _squeezed(part.shape)) != axes:
            raise ValueError(f"of {len(part.shape)} axes, the first file has {axes}" if part.is_image else "a table")
        if not holes and _blank(part.header) is not None:
            raise ValueError("its header has a BLANK value, those of the first files have none")
        stored = np.asarray(next(unit for one, unit in parts if one is part).data).reshape(shape)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    values, dtype = _values(stored, part.header, holes)
    kept = {
        card: value for card, value in part.header.items() if HOLDS.fullmatch(card) and not _is_beyond(card, axes - several)
    }
    return values, kept | {"stored": dtype} | (
        {"leading": len(part.shape) - axes} if len(part.shape) > axes and not several else {}
    )


def _blank(header: Any) -> int | None:
    """Return the stored integer that stands for an unknown cell."""
    blank = header.get("BLANK")
    return int(blank) if isinstance(blank, int) and int(header.get("BITPIX", -32)) > 0 else None


def _mark(header: Any) -> float:
    """Return the value that stands for an unknown cell, in the units of the image."""
    return float(header.get("BSCALE", 1)) * (_blank(header) or 0) + float(header.get("BZERO", 0))


def _values(stored: Array, header: Any, holes: bool) -> tuple[Array, str]:
    """Return the values of stored numbers, and the type that they have in the source."""
    scale, zero, bits = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0)), stored.dtype.itemsize * 8
    values, unsigned = stored, np.dtype(f"u{bits // 8}")
    if stored.dtype.kind in "iu" and scale == 1 and zero == (-128 if bits == 8 else 2.0 ** (bits - 1)):
        shifted = stored.view(unsigned) + np.array(1 << (bits - 1), unsigned)  # it wraps around, as it should
        values = shifted.view(np.int8) if bits == 8 else shifted
    elif (scale, zero) != (1.0, 0.0):
        wide: Any = np.float32 if bits <= 16 or stored.dtype == np.float32 else np.float64
        values = stored.astype(wide) * wide(scale) + wide(zero)
    dtype = values.dtype.name
    if holes and stored.dtype.kind in "iu":
        values = values.astype(np.float32 if bits <= 16 else np.float64, copy=False)
        if (blank := _blank(header)) is not None:
            values[stored == blank] = np.nan
    return values, dtype


def _is_beyond(card: str, axes: int) -> bool:
    """Whether a card is about an axis that an example does not have: CTYPE3, or CD3_1, of an image."""
    numbers = re.findall(r"\d", card)[: 2 if card[:2] in ("PC", "CD") and "_" in card else 1]
    return card == "WCSAXES" or any(int(number) > axes for number in numbers)


def _table(entry: Entry, name: str, index: int, alone: bool, spec: ReadSpec) -> Dataset:
    """Return the table of a file."""
    if not alone:
        raise ScorefieldError(f"got a folder of FITS tables, {name!r}, expected one table: stack their rows into one file")
    table = require("astropy.table", "fits", name).Table
    try:
        with _opened(entry) as parts:
            rows = table.read(next(unit for part, unit in parts if part.index == index), character_as_bytes=False)
    except Exception as error:  # astropy raises anything on broken files
        raise ScorefieldError(f"got {name!r}, expected a whole FITS table ({cause_of(error)}): write it again") from error
    columns = {title: rows[title].data for title in rows.colnames}
    return tables.of_columns(columns, spec.config, name=name, columns=spec.columns)


def write(path: str, sample: Array, layout: Layout) -> None:
    """Write a sample as a FITS image, in the type of its data.

    Args:
        path: of the file.
        sample: `layout.shape`.
        layout: of the data; axes other than c, t, z, y, x are put in that order.

    Raises:
        ScorefieldError: astropy is missing, or complex numbers.
    """
    fits = require("astropy.io.fits", "fits", path)
    if layout.is_complex:
        raise ScorefieldError(f"got complex numbers for {path!r}, expected real ones, as FITS holds: write .npy")
    own = layout.format == "fits"
    header = layout.header if own else {}
    values = sample if own else np.transpose(sample, [layout.axes.index(letter) for letter in "ctzyx" if letter in layout.axes])
    values = values.reshape((1,) * header.get("leading", 0) + values.shape)
    if values.dtype.kind == "b" or values.dtype == np.float16:
        values = values.astype(np.uint8 if values.dtype.kind == "b" else np.float32)
    image = fits.PrimaryHDU(values)
    if own and layout.missing is not None:
        unsigned = values.dtype.kind == "u" and values.dtype.itemsize > 1
        image.header["BLANK"] = int(layout.missing) - (2 ** (8 * values.dtype.itemsize - 1) if unsigned else 0)
    for card, value in header.items():
        if card.isupper() and not (header.get("resized") and card != "BUNIT"):
            image.header[card] = value
    image.writeto(path)
