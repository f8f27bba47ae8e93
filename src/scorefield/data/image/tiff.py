"""TIFF by the library tifffile: what the axes of a file are, which of them count examples, and reading without trust.

A file holds series of pages; a series has axes, named by OME or ImageJ, or guessed by the library:

    Y X        rows and columns            Z         planes of a volume
    S C        samples of a pixel, and channels on pages of their own: channels here
    T I Q ...  times, pages, and what has no name: these count examples

`plan_of` says which axes are examples. Axes of length 1 are left out, and every other one keeps its place, so that a sample is
written with the axes that were read. The library is set to open no other file that the metadata of a file may name, and what
the pages promise is compared with the length of the file before they are read.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.extras import require
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OURS = {"Y": "y", "X": "x", "Z": "z", "C": "c", "S": "c"}
NAMES = {"T": "times", "Z": "planes", "C": "channels", "S": "samples", "Y": "rows", "X": "columns", "I": "pages"}
MOST_PIXELS = 50_000_000  # of a page
MOST_RATIO = 1100  # of a page, unpacked to packed: the most that deflate can do
WHITE = 0  # the photometric MINISWHITE
NO_DATA = 42113  # the tag of GDAL: what stands for an unknown cell, as a text
KEEP = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "PhysicalSizeXUnit", "PhysicalSizeYUnit", "PhysicalSizeZUnit")


class Unfit(ValueError):
    """A whole file whose content is not what can be read: its text follows "which"."""


@contextlib.contextmanager
def opened(source: Any, name: str) -> Iterator[Any]:
    """Open a TIFF.

    Args:
        source: a path or a stream.
        name: what messages call it.

    Yields:
        The file, as tifffile has it.

    Raises:
        ScorefieldError: tifffile is not installed.
    """
    tifffile = require("tifffile", "tiff", name)
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong with a file is said by the sentence
    with tifffile.TiffFile(source, _multifile=False) as file:
        yield file


def series_of(file: Any, key: str | None) -> Any:
    """Return the series of a file that is read, or a list of pages that have one form.

    Args:
        file: as `opened` gives it.
        key: number of the series; None for the only one.

    Raises:
        Unfit: several that differ, and none of them asked for.
    """
    found = list(file.series)
    if key is not None:
        if not key.isdecimal() or int(key) >= len(found):
            raise Unfit(
                f"has {len(found)} series, expected data.key={key!r} to be the number of one: choose one below {len(found)}"
            )
        return found[int(key)]
    if not found:
        raise Unfit("has no pages, expected some: save it again")
    if len(found) == 1:
        return found[0]
    forms = {(tuple(one.shape), one.axes, one.dtype) for one in found}
    if len(forms) == 1 and found[0].axes in ("YX", "YXS"):  # pages that were written one after another
        return found
    shown = "; ".join(f"{i}: {one.axes} {'x'.join(map(str, one.shape))} {one.dtype}" for i, one in enumerate(found[:6]))
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    raise Unfit(f"has {len(found)} series ({shown}{more}), expected one: choose it, with --set data.key=0")


@dataclass(frozen=True)
class Plan:
    """What the axes of a series are.

    Attributes:
        axes: letters of tifffile, in the order of the file, without those of length 1.
        shape: their lengths.
        counted: those that count examples; "" where the file is one example.
    """

    axes: str
    shape: tuple[int, ...]
    counted: str

    @property
    def order(self) -> list[int]:
        """Places of the axes, those that count examples first."""
        return [self.axes.index(a) for a in self.counted] + [i for i, a in enumerate(self.axes) if a not in self.counted]

    @property
    def example(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(size for size, letter in zip(self.shape, self.axes, strict=True) if letter not in self.counted)

    @property
    def letters(self) -> str:
        """Letters of the axes of one example, as `Layout` has them; what has no name of ours is planes."""
        return "".join(OURS.get(letter, "z") for letter in self.axes if letter not in self.counted)

    def words(self) -> str:
        """Return the axes as a person says them."""
        parts = [f"{size} {NAMES.get(a, 'of axis ' + a)}" for size, a in zip(self.shape, self.axes, strict=True)]
        return f"{self.axes}, {' x '.join(parts)}"


def plan_of(series: Any, kind: str, *, one_a_file: bool) -> Plan:
    """Return what the axes of a series are.

    Args:
        series: as `series_of` gives it.
        kind: what is asked for: "auto", "image" or "volume". Images count the planes as examples.
        one_a_file: the file is one of a folder, and holds one example unless it has times.

    Raises:
        Unfit: axes that no example has.
    """
    if isinstance(series, list):
        axes, shape = "I" + series[0].axes, (len(series), *series[0].shape)
    else:
        axes, shape = series.axes, tuple(series.shape)
    kept = [(letter, size) for letter, size in zip(axes, shape, strict=True) if size > 1 or letter in "YX"]
    axes, shape = "".join(letter for letter, _ in kept), tuple(size for _, size in kept)
    if "Y" not in axes or "X" not in axes or len(set(axes)) < len(axes):
        raise Unfit(f"has the axes {axes}, expected each once, and Y and X among them: save it with names of its axes")
    if "C" in axes and "S" in axes:
        raise Unfit(
            f"has the axes {axes}, channels of {shape[axes.index('S')]} samples, expected one of both: save one channel"
        )
    counted = "".join(letter for letter in axes if letter not in OURS)
    if kind == "image":
        counted = "".join(letter for letter in axes if letter in counted or letter == "Z")
    elif one_a_file and "Z" not in axes and counted in ("I", "Q"):
        counted = ""  # pages of a file without a word on what they are: planes of one volume
    elif kind == "volume" and "Z" not in axes and len(counted) > 0:
        counted = counted[:-1]
    if len([letter for letter in axes if letter not in counted and letter not in "CSYX"]) > 1:
        raise Unfit(f"has the axes {axes}, expected images or volumes: save one of each of the others")
    return Plan(axes, shape, counted)


def check(series: Any, length: int) -> None:
    """Refuse pages that promise what the file does not hold.

    Args:
        series: as `series_of` gives it.
        length: of the file in bytes.

    Raises:
        ValueError: a page that is too large, lies outside the file, or unpacks to more than any method packs.
    """
    for one in series if isinstance(series, list) else [series]:
        if getattr(one, "dataoffset", None) is not None and one.dataoffset + one.nbytes > length:
            raise ValueError(f"cut off: promises {one.nbytes:,} bytes of pixels")
        for number, page in enumerate(one.pages):
            if page is None:
                raise ValueError(f"page {number} is missing")
            _check_page(page, number, length)


def refuse_cut(file: Any, series: Any) -> None:
    """Raise `ValueError` for a stack of ImageJ with fewer planes than it promises: the library then reads the first alone."""
    promised = int((file.imagej_metadata or {}).get("images", 1)) if file.is_imagej else 1
    sizes = {} if isinstance(series, list) else dict(zip(series.axes, series.shape, strict=True))
    there = len(series) if isinstance(series, list) else math.prod(n for axis, n in sizes.items() if axis not in "YXS")
    if promised > there:
        raise ValueError(f"truncated: its header states {promised} planes, there {'is' if there == 1 else 'are'} {there}")


def _check_page(page: Any, number: int, length: int) -> None:
    wide, packed = math.prod(page.shape) * page.dtype.itemsize, sum(page.databytecounts)
    key = page.keyframe
    if key.imagewidth * key.imagelength > MOST_PIXELS:
        raise ValueError(f"page {number}: more than {MOST_PIXELS // 10**6} million pixels")
    if any(start + size > length for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise ValueError(f"page {number}: cut off")
    most = packed if key.compression == 1 and key.bitspersample % 8 == 0 else packed * MOST_RATIO
    if wide > most and not key.is_contiguous:
        raise ValueError(f"page {number}: promises {wide:,} bytes of {packed:,}")


class Pages:
    """Examples of a series that are read when they are asked for, a few pages each."""

    def __init__(self, pages: Sequence[Any], plan: Plan, dtype: np.dtype[Any]) -> None:
        """Hold pages in the order of the examples, a whole number of them for each."""
        count = math.prod(plan.shape[plan.axes.index(a)] for a in plan.counted)
        self.pages, self.each = pages, len(pages) // count
        self.shape, self.dtype = (count, *plan.example), dtype

    def __getitem__(self, which: slice) -> Array:
        first, last, _ = which.indices(self.shape[0])
        found = [self._page(number) for number in range(first * self.each, last * self.each)]
        return np.stack(found).reshape(last - first, *self.shape[1:])

    def _page(self, number: int) -> Array:
        try:
            return np.asarray(self.pages[number].asarray())
        except Exception as error:  # decoders raise anything on broken pages
            raise ScorefieldError(
                f"got page {number} of a stack, expected a whole one ({reason(error)}): save it again"
            ) from error


def array_of(series: Any, plan: Plan) -> Any:
    """Return the examples of a series `(n, *plan.example)`, or the one that it holds, `plan.example`.

    Args:
        series: as `series_of` gives it, after `check`.
        plan: of it.

    Returns:
        An array, mapped from the file where it lies there as it is; `Pages` where it is packed.
    """
    shape, dtype = plan.shape, (series[0] if isinstance(series, list) else series).dtype
    if isinstance(series, list):
        return Pages([one.pages[0] for one in series], plan, dtype)
    leading = plan.axes.startswith(plan.counted) and plan.counted
    if series.dataoffset is not None and leading and series.parent.filehandle.path:
        stored = np.memmap(
            series.parent.filehandle.path, series.parent.byteorder + dtype.char, "r", series.dataoffset, tuple(series.shape)
        )
        return stored.reshape(-1, *plan.example)
    count = math.prod(shape[plan.axes.index(a)] for a in plan.counted)
    if leading and len(series.pages) % count == 0 and series.pages[0].shape:
        return Pages(series.pages, plan, dtype)
    whole = series.asarray().reshape(shape).transpose(plan.order)
    return whole.reshape(-1, *plan.example) if plan.counted else whole


def no_data(text: Any) -> float | None:
    """Return the number in GDAL's tag; None where there is none, or NaN, which needs no mark.

    >>> no_data("-9999 "), no_data("nan"), no_data(None)
    (-9999.0, None, None)
    """
    try:
        found = float(str(text).strip("\0 "))
    except ValueError:
        return None
    return found if found == found else None


def masked(array: Any, value: float | None) -> Any:
    """Return an array whose cells are NaN where they hold a value: one of floats, which are read as they are asked for.

    Args:
        array: numbers of the file, or anything with slices of the first axis.
        value: what stands for an unknown cell; None if nothing does.
    """
    if value is None or np.dtype(array.dtype).kind not in "iuf":
        return array
    stored = np.dtype(array.dtype).newbyteorder("=")
    dtype = stored if stored.kind == "f" else np.dtype("f4") if stored.itemsize <= 2 else np.dtype("f8")
    with np.errstate(over="ignore"):
        mark = stored.type(value) if stored.kind == "f" else value

    def part(first: int, last: int) -> Array:
        values = np.asarray(array[first:last])
        return np.where(values == mark, np.nan, values).astype(dtype)

    from scorefield.data.files.rows import Rows  # it needs torch, which a worker that decodes does not import

    return Rows(tuple(array.shape), dtype, part, "the TIFF")


def header_of(file: Any, plan: Plan) -> dict[str, Any]:
    """Return what of a file still holds for a sample, as JSON values: its flavour, axes, resolution and sizes of a pixel."""
    flavour = "imagej" if file.is_imagej else "ome" if file.is_ome else ""
    header: dict[str, Any] = {
        "flavour": flavour,
        "counted": plan.counted,
        "axes": "".join(letter for letter in plan.axes if letter not in plan.counted),
    }
    tags = file.pages[0].tags
    if NO_DATA in tags and (mark := no_data(tags[NO_DATA].value)) is not None:
        header["nodata"] = mark
    if file.pages[0].photometric == WHITE:
        header["white"] = True  # the smallest value is shown white
    with contextlib.suppress(Exception):  # what is broken does not hold
        x, y = (tags[name].value for name in ("XResolution", "YResolution"))
        header["resolution"] = [list(map(int, x)), list(map(int, y)), int(tags["ResolutionUnit"].value)]
    with contextlib.suppress(Exception):
        if flavour == "imagej":
            header |= {key: file.imagej_metadata[key] for key in ("spacing", "unit") if key in file.imagej_metadata}
        elif flavour == "ome":
            import tifffile

            found = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
            pixels = (found[0] if isinstance(found, list) else found)["Pixels"]
            header |= {key: pixels[key] for key in KEEP if isinstance(pixels.get(key), int | float | str)}
    return header


def header_at(place: str | None) -> dict[str, Any]:
    """Return `header_of` of one picture; {} where there is none, or no library to read it."""
    if place is None:
        return {}
    try:
        with opened(place, place) as file:
            return header_of(file, plan_of(series_of(file, None), "image", one_a_file=True))
    except Exception:  # the pixels are there, and matter more
        return {}


def reason(error: BaseException) -> str:
    """Return what went wrong, with the line that installs the decoders if that is it."""
    text = " ".join(str(error).split())
    if "imagecodecs" in text:
        return 'it is packed, and the library imagecodecs unpacks it: pip install "scorefield[tiff]"'
    return text.rstrip(".")[:120] or type(error).__name__


def save(path: str, samples: Array, axes: str, dtype: str, header: dict[str, Any]) -> None:
    """Write samples to a TIFF, with the axes, resolution and sizes of a pixel that a header holds.

    Args:
        path: of the file.
        samples: `(n, ...)`; one alone is written without an axis that counts.
        axes: of one sample, as `Layout` has them.
        dtype: numpy's name of their type.
        header: of `header_of`; {} for none.
    """
    import tifffile

    flavour, own = header.get("flavour", ""), header.get("axes", "")
    named = own if len(own) == len(axes) else "".join("S" if a == "c" and axes.endswith("c") else a.upper() for a in axes)
    counted = (header.get("counted") or ("T" if flavour else "I"))[0]
    if counted in named:
        counted = next(letter for letter in "TIQ" if letter not in named)
    values, letters = (samples[0], named) if len(samples) == 1 else (samples, counted + named)
    values = values.astype(np.uint8) if dtype == "bool" else values
    photometric = "miniswhite" if header.get("white") else "minisblack"
    options: dict[str, Any] = {"photometric": photometric, "metadata": {"axes": letters}}
    if named.endswith("S") and values.shape[-1] in (3, 4) and values.dtype in (np.uint8, np.uint16):
        options["photometric"] = "rgb"
    elif "S" in named:
        options["planarconfig"] = "contig" if named.endswith("S") else "separate"
    if "resolution" in header:
        x, y, unit = header["resolution"]
        options |= {"resolution": (tuple(x), tuple(y)), "resolutionunit": unit}
    if "nodata" in header:
        text = f"{header['nodata']:.17g}"
        options["extratags"] = [(NO_DATA, "s", 0, text, True)]
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), header["nodata"], values).astype(values.dtype)
    options["metadata"] |= {key: header[key] for key in ("spacing", "unit", *KEEP) if key in header}
    imagej = flavour == "imagej" and values.dtype in (np.uint8, np.uint16, np.float32) and set(letters) <= set("TZCYXS")
    tifffile.imwrite(path, values, imagej=imagej, ome=flavour == "ome", **options)
