"""DICOM: slices, frames or series of them, in the units of their modality.

    stored      integers of `BitsStored` bits
    value       RescaleSlope * stored + RescaleIntercept, such as Hounsfield units: integers where both are whole, else float32
                which an enhanced file gives for all frames, or for each: then float32
    inverted    MONOCHROME1, where the smallest value is white: mirrored within the range of the type, as MONOCHROME2 has it

Each file is an image, each frame of a file of several an example. With `data.kind=volume`, the slices of a series are one
example: they are sorted by their position along the normal of their planes. Of the header, only the spacing, the modality and
how values are stored is kept: nothing of a person.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import DataConfig, Dataset
from scorefield.data.extras import quiet, require
from scorefield.data.files import promises
from scorefield.data.files.archives import Entry, Listing, cause_of
from scorefield.data.files.collection import Read, listing_of, stack
from scorefield.data.issues import DataIssue
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".dcm", ".dicom", ".ima")
DEFLATED = "1.2.840.10008.1.2.1.99"
GAP = 1.5  # times the usual distance of two slices: beyond it, one is missing between them


@quiet
def read(source: str, config: DataConfig) -> Dataset:
    """Read images or volumes from a folder of DICOM files, or the frames of one.

    Args:
        source: path of the file or folder.
        config: how it is read: `kind` "volume" puts the slices of a series together.

    Returns:
        The data set, in the order of the paths.

    Raises:
        ScorefieldError: pydicom is missing, a single image, fewer than 8 examples that can be read, or what `of_array` refuses.
    """
    name = os.path.basename(os.path.abspath(source))
    require("pydicom", "dicom", name)
    alone = not os.path.isdir(source)
    listing = listing_of(source, SUFFIXES)
    if not list(listing.entries):
        listing = listing_of(source, ("",))  # a folder whose files have no suffix
    frames, notes = _first_frames(listing.entries, name), list[str]()
    several = frames > 1 and config.kind != "volume"
    if alone and not several:
        raise ScorefieldError(f"got one image in {name!r}, expected at least 8 examples: give a folder with a file for each")
    one = partial(_example, frames=frames)
    if config.kind == "volume" and frames == 1:
        listing, series = _series(listing)
        one = partial(_volume, series=series)
    found = stack(listing, one, "volumes" if config.kind == "volume" else "images", several=several, alike=("modality",))
    header = dict(found.header)
    if header.pop("inverted", False):
        notes.append("MONOCHROME1, where the smallest value is white: values were mirrored, so that the largest one is.")
    if several:
        notes.append(f"The {frames} frames of a file were read as an example each; data.kind=volume reads a file as a volume.")
    axes = ("z" if config.kind == "volume" else "") + "yx" + ("c" if found.array.shape[-1] == 3 and header["colour"] else "")
    return of_array(
        found.array,
        name,
        config,
        labels=None,  # a folder is often a patient, whose name is none of the run's business
        notes=(*found.notes, *notes),
        source=ArraySource(axes, "dicom", header, found.names, found.issues),
    )


def _first_frames(entries: Iterable[Entry], name: str) -> int:
    """Return how many frames the first file has that can be read."""
    causes = list[str]()
    for entry in entries:
        try:
            return int(_opened(entry, pixels=False).get("NumberOfFrames") or 1)
        except Exception as error:  # pydicom raises anything on broken files
            causes.append(f"{entry.path!r} ({cause_of(error)})")
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    raise ScorefieldError(f"got {name!r}, where no file can be read: {', '.join(causes[:3])}{more}, expected DICOM: check them")


def _opened(entry: Entry, *, pixels: bool = True) -> Any:
    """Return what is in a file, if its image is not longer than it can be; nothing is unpacked yet."""
    pydicom = require("pydicom", "dicom", entry.path)
    errors = require("pydicom.errors", "dicom", entry.path)
    with entry.open() as content:
        try:
            meta = require("pydicom.filereader", "dicom", entry.path).read_file_meta_info(entry.place)
            syntax = meta.get("TransferSyntaxUID")
            if syntax is None:
                raise ValueError("truncated: it ends before its image")
            if str(syntax) == DEFLATED:
                raise ValueError("a deflated data set, which would be unpacked whole: save it as Explicit VR Little Endian")
            data = pydicom.dcmread(content, stop_before_pixels=not pixels)
        except errors.InvalidDicomError:
            raise ValueError("no DICOM file: it has no mark DICM") from None
    sizes = [int(data.get(tag) or 0) for tag in ("Rows", "Columns", "BitsAllocated")]
    if min(sizes) < 1:
        raise ValueError("without an image")
    frames, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel") or 1)
    promised = math.prod(sizes) * max(frames, 1) * samples // 8
    if syntax.is_compressed:
        promises.check(promised, promised)
    else:
        promises.check(promised, len(data.get("PixelData", b"")) if pixels and "PixelData" in data else entry.size)
    return data


def _example(entry: Entry, frames: int) -> Read:
    """Return the image of a file, or its frames, and its header."""
    data = _opened(entry)
    found = int(data.get("NumberOfFrames") or 1)
    if found > 1 and frames == 1:
        raise ValueError(f"of {found} frames, the first file has one")
    values, header = _values(data)
    return values.reshape(-1, *values.shape[-2 - header["colour"] :]) if frames > 1 else values, header


def _values(data: Any) -> Read:
    """Return an image in the units of its modality, and what of its header still holds."""
    pixels = require("pydicom.pixels", "dicom", "an image")
    try:
        stored = data.pixel_array
    except (RuntimeError, NotImplementedError) as error:  # no library for this compression
        name = getattr(data.file_meta.TransferSyntaxUID, "name", "unknown")
        raise ValueError(f"compressed as {name}, which needs a plugin: pip install pylibjpeg[all]") from error
    photometric = str(data.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        stored = pixels.apply_color_lut(stored, data)
    colour = int(not photometric.startswith("MONOCHROME"))
    header: dict[str, Any] = {"colour": colour, "modality": str(data.get("Modality", "OT"))}
    spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    if spacing:
        header["spacing"] = [float(length) for length in spacing]
    if colour:
        return stored, header
    bits, signed = int(data.BitsStored), bool(data.get("PixelRepresentation", 0))
    maps = _maps(data)
    slope, intercept = maps[0]
    header |= {"bits": bits, "signed": signed}
    header |= {"slope": slope, "intercept": intercept} if len(maps) == 1 else {}
    ends: tuple[Any, ...] = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if data.get("ModalityLUTSequence"):
        values = pixels.apply_modality_lut(stored, data)
        ends = (0, int(np.iinfo(values.dtype).max))
        header |= {"bits": values.dtype.itemsize * 8, "signed": False}
    elif len(maps) > 1:
        values = np.stack(
            [one.astype(np.float32) * np.float32(a) + np.float32(b) for one, (a, b) in zip(stored, maps, strict=True)]
        )
        ends = tuple(end(a * one + b for one in ends for a, b in maps) for end in (min, max))
    else:
        values = _rescaled(stored, slope, intercept, ends)
        ends = tuple(slope * end + intercept for end in ends)
    if photometric == "MONOCHROME1":
        header["inverted"] = True
        values = (ends[0] + ends[1] - values.astype(np.float64)).astype(values.dtype)
    return values, header


def _maps(data: Any) -> list[tuple[float, float]]:
    """Return the slope and intercept of an image: one pair, or one for each frame where they differ."""

    def pair(group: Any) -> tuple[float, float] | None:
        found = group.get("PixelValueTransformationSequence") or [group]
        return (
            (float(found[0].RescaleSlope), float(found[0].get("RescaleIntercept", 0))) if "RescaleSlope" in found[0] else None
        )

    shared = next((one for group in [data, *data.get("SharedFunctionalGroupsSequence", [])] if (one := pair(group))), None)
    own = [pair(group) or shared or (1.0, 0.0) for group in data.get("PerFrameFunctionalGroupsSequence", [])]
    if own and len(own) != int(data.get("NumberOfFrames") or 1):
        raise ValueError(f"{len(own)} descriptions of frames, expected one for each")
    return own if len(set(own)) > 1 else own[:1] or [shared or (1.0, 0.0)]


def _rescaled(stored: Array, slope: float, intercept: float, ends: tuple[int, ...]) -> Array:
    """Return slope * stored + intercept in the smallest type that holds it: whole where both are."""
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if not (slope.is_integer() and intercept.is_integer()) or stored.dtype.kind == "f":
        return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    low, high = sorted(int(slope * end + intercept) for end in ends)
    dtype = next((one for one in (np.int16, np.int32) if np.iinfo(one).min <= low and high <= np.iinfo(one).max), np.int64)
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)


def _series(listing: Listing) -> tuple[Listing, dict[str, list[Entry]]]:
    """Return a listing with an entry for each series, and the slices of each, sorted along the normal of their planes."""
    slices, issues = dict[str, list[tuple[Any, Entry]]](), list(listing.issues)
    for entry in listing.entries:
        try:
            data = _opened(entry, pixels=False)
            slices.setdefault(str(data.get("SeriesInstanceUID") or os.path.dirname(entry.path)), []).append((data, entry))
        except Exception as error:  # pydicom raises anything on broken files
            issues.append(DataIssue(entry.path, cause_of(error)))
    entries, sorted_ = list[Entry](), dict[str, list[Entry]]()
    for members in slices.values():
        first = members[0][1]
        path = os.path.dirname(first.path) or first.path
        path = path if path not in sorted_ else first.path
        try:
            sorted_[path] = _in_order(members)
            entries.append(replace(first, path=path, size=sum(entry.size for _, entry in members)))
        except ValueError as error:
            issues.append(DataIssue(path, cause_of(error)))
    entries.sort(key=lambda entry: entry.path)
    return replace(listing, entries=entries, issues=issues), sorted_


def _in_order(members: list[tuple[Any, Entry]]) -> list[Entry]:
    """Return slices by their place along the normal of their planes; raises `ValueError` where one is missing or twice."""
    places = list[tuple[float, Entry]]()
    for data, entry in members:
        position, planes = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
        if position is None or planes is None:
            raise ValueError(f"a series whose slice {entry.path!r} has no position")
        normal = np.cross(np.array(planes[:3], float), np.array(planes[3:], float))
        places.append((float(normal @ np.array(position, float)), entry))
    places.sort(key=lambda one: one[0])
    distances = np.diff([place for place, _ in places])
    if len(distances) and distances.min() <= 0:
        raise ValueError(f"a series with two slices at {places[int(distances.argmin())][0]:g} mm")
    if len(distances) and distances.max() > GAP * np.median(distances):
        raise ValueError(f"a series with a slice missing after {places[int(distances.argmax())][0]:g} mm")
    return [entry for _, entry in places]


def _volume(entry: Entry, series: dict[str, list[Entry]]) -> Read:
    """Return the slices of a series as one example, and its header."""
    values, headers, places = list[Array](), list[dict[str, Any]](), list[Any]()
    for one in series[entry.path]:
        try:
            data = _opened(one)
            found, header = _values(data)
        except Exception as error:  # pydicom raises anything on broken files
            raise ValueError(f"slice {one.path!r}: {cause_of(error)}") from error
        if values and (found.shape, found.dtype) != (values[0].shape, values[0].dtype):
            raise ValueError(f"slice {one.path!r}: of shape {found.shape} and type {found.dtype}, unlike the first")
        values.append(found)
        headers.append(header)
        places.append(np.array(data.ImagePositionPatient, float))
    common = {key: value for key, value in headers[0].items() if all(header.get(key) == value for header in headers)}
    if len(places) > 1:
        common["between"] = round(float(np.linalg.norm(places[-1] - places[0])) / (len(places) - 1), 6)
    return np.stack(values), common
