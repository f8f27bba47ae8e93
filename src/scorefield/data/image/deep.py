"""Deep images: files whose pixels are not 8-bit grey or colour, read without losing a bit or a band.

Pillow opens 16-bit colours, two bands and 32-bit numbers as 8-bit images, or wraps them, without a word. So what a file holds
is taken from its own header, and another reader is used where Pillow would cut:

    PNG     16-bit grey by Pillow; with colours or opacity by imagecodecs; opacity is put on white
    TIFF    one band of 16 bits, 32 bits or floats by Pillow; several bands, other types and packed big-endian by tifffile
    PGM     above 255 by the few lines here: Pillow would stretch the values to 65535
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scorefield.data.extras import require
from scorefield.data.image import tiff

Array = NDArray[Any]
PNG = b"\x89PNG\r\n\x1a\n"
HEAD = 512  # bytes, in which the headers of PNG and PGM lie
ALPHA = (1, 2)  # extra samples of a TIFF that are opacity


@dataclass(frozen=True)
class Deep:
    """How the pixels of a deep image are stored.

    Attributes:
        dtype: numpy's name of their type.
        channels: of what `pixels` returns.
        reader: "pillow", "png", "netpbm" or "tiff".
        size: (height, width), where it is not Pillow that knows it.
        frames: whether there is more in the file than is read.
        missing: what stands for an unknown cell, where it is not Pillow that knows it.
    """

    dtype: str
    channels: int
    reader: str
    size: tuple[int, int] = (0, 0)
    frames: bool = False
    missing: float | None = None


def deep_of(image: Image.Image, head: bytes) -> Deep | None:
    """Return how an opened image is stored; None if it has 8-bit pixels, which Pillow reads as they are.

    Args:
        image: as Pillow opened it.
        head: the first bytes of its file.
    """
    if image.format == "PNG":
        depth, colours = head[24], head[25]
        return None if depth < 16 else Deep("uint16", 3 if colours in (2, 6) else 1, "png" if colours else "pillow")
    if image.format == "PPM":
        found = _netpbm(head)
        if found is not None:
            return Deep("uint16", 3 if found[0] in b"P3P6" else 1, "netpbm")
        return Deep("float32", 1, "pillow") if image.mode == "F" else None
    if image.format == "TIFF":
        return _tiff(image)
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        return Deep({"F": "float32", "I": "int32"}.get(image.mode, "uint16"), 1, "pillow")
    return None


def _tiff(image: Any) -> Deep | None:
    """Return how a TIFF is stored that Pillow could open."""
    tags = image.tag_v2
    bits, samples = tuple(tags.get(258, (1,))), int(tags.get(277, 1))
    format_ = int(next(iter(tags.get(339, (1,)))))
    extra = tags.get(338, ())
    extra = (extra,) if isinstance(extra, int) else tuple(extra)
    several = bool(getattr(image, "is_animated", False))
    told = str(tags.get(270, ""))
    if several and ("ImageJ=" in told[:20] or "<OME" in told[:1000]):
        return Deep("", 0, "tiff")  # the pages may be channels, as only tifffile knows
    if max(bits) <= 8 and format_ == 1 and (not extra or (extra[0] in ALPHA and len(extra) == 1)):
        return None
    kinds = {(8, 2): "int8", (16, 1): "uint16", (12, 1): "uint16", (16, 2): "int16"}
    kinds |= {(32, 1): "uint32", (32, 2): "int32", (32, 3): "float32"}
    dtype = kinds.get((bits[0], format_))
    if tags.prefix == b"MM" and int(tags.get(259, 1)) != 1:
        return Deep("", 0, "tiff")  # unpacked, its numbers are in the order of this machine; Pillow swaps their bytes once more
    return Deep(dtype, 1, "pillow", frames=several) if samples == 1 and dtype else Deep("", 0, "tiff")


def of_tiff(stream: IO[bytes], name: str) -> Deep:
    """Return how a TIFF is stored, by tifffile.

    Args:
        stream: of the file.
        name: what messages call it.

    Raises:
        ScorefieldError: tifffile is not installed.
        ValueError: a file that is no picture.
    """
    with tiff.opened(stream, name) as file:
        series, plan = _first(file)
        shape = dict(zip(plan.axes, plan.shape, strict=True))
        channels = shape.get("C", shape.get("S", 1))
        more = len(file.series) > 1 or bool(plan.counted)
        tag = file.pages[0].tags.get(tiff.NO_DATA)
        missing = None if tag is None else tiff.no_data(tag.value)
        return Deep(series.dtype.name, channels, "tiff", (shape["Y"], shape["X"]), more, missing)


def _first(file: Any) -> tuple[Any, tiff.Plan]:
    """Return the first series of a file, and its plan as pictures."""
    if not file.series:
        raise ValueError("has no pages")
    series = file.series[0]
    return series, tiff.plan_of(series, "image", one_a_file=True)


def pixels(stream: IO[bytes], image: Image.Image | None, deep: Deep, name: str) -> Array:
    """Return the pixels of a deep image as they are stored, `(height, width, channels)`.

    Args:
        stream: of the file.
        image: as Pillow opened it; None where it could not.
        deep: how they are stored.
        name: what messages call it.

    Raises:
        ScorefieldError: the library that reads them is not installed.
    """
    if deep.reader == "png":
        stream.seek(0)
        codecs = require("imagecodecs", "tiff", name)
        return _on_white(codecs.png_decode(stream.read()), deep.channels)
    if deep.reader == "netpbm":
        stream.seek(0)
        return _of_netpbm(stream.read())
    if deep.reader == "tiff":
        length = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with tiff.opened(stream, name) as file:
            series, plan = _first(file)
            tiff.check(series, length)
            first = _first_planes(series, plan)
        return first[..., None] if first.ndim == 2 else first
    assert image is not None, "Pillow opened it, or it would have another reader"
    values = np.asarray(image)
    wrapped = deep.dtype == "uint32" and values.dtype == np.int32  # Pillow has no unsigned one
    return (values.view(np.uint32) if wrapped else values.astype(deep.dtype))[..., None]


def _first_planes(series: Any, plan: tiff.Plan) -> Array:
    """Return the first example of a series, channels last."""
    found = tiff.array_of(series, plan)
    try:
        example = np.asarray(found[0:1])[0] if plan.counted else np.asarray(found)
    except Exception as error:
        raise ValueError(tiff.reason(error)) from error
    return np.moveaxis(example, plan.letters.index("c"), -1) if "c" in plan.letters else example


def _on_white(stored: Array, channels: int) -> Array:
    """Return 16-bit pixels with their opacity, where they have one, put on white."""
    stored = stored[..., None] if stored.ndim == 2 else stored
    if stored.dtype != np.uint16 or stored.shape[-1] not in (channels, channels + 1):
        raise ValueError(f"holds pixels of {stored.shape[-1]} bands and type {stored.dtype}, its header says otherwise")
    if stored.shape[-1] == channels:
        return stored
    colours, alpha = stored[..., :-1].astype(np.int64), stored[..., -1:].astype(np.int64)
    white = 65535 * (65535 - alpha) + colours * alpha
    return ((white + 32767) // 65535).astype(np.uint16)


def _netpbm(head: bytes) -> tuple[bytes, int, int, int, int] | None:
    """Return (magic, width, height, largest value, where the pixels start) of a PGM or PPM above 255; None of others."""
    magic, place, numbers = head[:2], 2, list[int]()
    if magic not in (b"P2", b"P3", b"P5", b"P6"):
        return None
    while len(numbers) < 3:
        while head[place : place + 1].isspace():
            place += 1
        if head[place : place + 1] == b"#":
            place = head.index(b"\n", place)
            continue
        end = place
        while head[end : end + 1].isdigit():
            end += 1
        if end == place:
            return None
        numbers.append(int(head[place:end]))
        place = end
    width, height, most = numbers
    return (magic, width, height, most, place + 1) if 255 < most < 2**16 else None


def _of_netpbm(content: bytes) -> Array:
    """Return the pixels of a PGM or PPM above 255."""
    found = _netpbm(content[:HEAD])
    if found is None:
        raise ValueError("not a PGM or PPM of 16 bits")
    magic, width, height, most, start = found
    channels = 3 if magic in (b"P3", b"P6") else 1
    count = width * height * channels
    if magic in (b"P5", b"P6"):
        values = np.frombuffer(content, ">u2", count, start).astype(np.uint16)  # raises where it is cut off
    else:
        values = np.array(content[start:].split()[:count], dtype=np.uint16)
    if len(values) < count or (values > most).any():
        raise ValueError(f"holds other pixels than {count:,} up to {most}")
    return values.reshape(height, width, channels)
