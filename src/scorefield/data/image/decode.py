"""Decoding: one image file to upright pixels of a wanted number of channels, type and size.

    rotation        is undone as the camera's orientation says
    transparency    is put on white
    16 bits         and more, floats, and any number of bands stay what they are (`data/image/deep.py`)
    size            Lanczos on what is left after "crop", "pad" or "stretch"

Memory is bounded: the pixel limit is checked before anything is decoded, conversions go strip by strip, and of large images
only one is decoded at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass as plain
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from scorefield.data.files.archives import Entry, cause_of
from scorefield.data.image import deep
from scorefield.data.image.tiff import MAGIC, NO_DATA, no_data
from scorefield.errors import ScorefieldError

Size = tuple[int, int]  # (height, width), as arrays have it
Array = NDArray[Any]
Strict = Literal["", "form", "all"]
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 50_000_000
LARGE = 4_000_000  # pixels, or bytes of a file: such are decoded one at a time
STRIP = 2**20  # pixels that are converted at a time
WIDER = 257  # times an 8-bit value is the 16-bit one of the same brightness
TURN: dict[
    int, Callable[[NDArray[Any]], NDArray[Any]]
] = {  # from the camera's orientation to upright, on (height, width, channels)
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
one_at_a_time = threading.RLock()


@plain(frozen=True)
class Header:
    """What the header of an image says.

    Attributes:
        size: upright, (height, width).
        frames: whether the file has several, of which the first is used.
        channels: 1 of a grey image, 3 of colours; as many as there are bands in a deep one.
        dtype: numpy's name of the type of its pixels.
        mask: its pixels have one bit; they are read as 0 and 255.
        missing: what stands for an unknown cell; None if nothing does.
    """

    size: Size
    frames: bool
    channels: int
    dtype: str = "uint8"
    mask: bool = False
    missing: float | None = None


@plain(frozen=True)
class Wanted:
    """What an image is decoded to.

    Attributes:
        size: (height, width).
        channels: 1, 3, or those that the image has.
        dtype: numpy's name of the type.
        fit: how an image of another shape is brought to the size.
    """

    size: Size
    channels: int
    dtype: str
    fit: str = "crop"


Seen = tuple[Header | None, Array | None, str]


class TooLarge(Exception):
    """An image is larger than this process should decode beside others."""


def is_grey(mode: str) -> bool:
    """Whether images of this mode have no colours."""
    return mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")


def growth(size: Size, wanted: Size, fit: str) -> float:
    """Return by how much an image grows on its way to the wanted size."""
    return (min if fit == "pad" else max)(wanted[0] / size[0], wanted[1] / size[1])


def fitted(image: NDArray[Any], size: int | tuple[int, int], fit: str = "crop") -> NDArray[Any]:
    """Bring an image to a size, with Lanczos.

        crop       the largest centred part of the wanted shape, resized: the aspect ratio stays, the margins go
        pad        all of it, resized and centred; the rest gets the median colour of the image's own border
        stretch    all of it, resized to the wanted shape: the aspect ratio goes

    Args:
        image: `(channels, height, width)`, uint8 or float32.
        size: the wanted side, or (height, width), in pixels.
        fit: "crop", "pad" or "stretch".

    Returns:
        `(channels, height, width)` of the same type; floats may overshoot their range a little, as Lanczos does. An image that
        has the size already comes back as it is.

    >>> wide = np.full((1, 2, 4), 7, dtype=np.uint8)
    >>> fitted(wide, (4, 4), "pad").shape, fitted(wide, 2).shape
    ((1, 4, 4), (1, 2, 2))
    """
    high, wide = (size, size) if isinstance(size, int) else size
    height, width = image.shape[1:]
    if (height, width) == (high, wide):
        return image
    box, inner = (0.0, 0.0, float(width), float(height)), (high, wide)
    if fit == "crop":
        h, w = min(height, width * high / wide), min(width, height * wide / high)
        box = ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
    elif fit == "pad":
        scale = min(high / height, wide / width)
        inner = max(round(height * scale), 1), max(round(width * scale), 1)

    def resized_to(plane: NDArray[Any]) -> NDArray[Any]:
        picture = Image.fromarray(np.ascontiguousarray(plane))
        return np.asarray(picture.resize(inner[::-1], Image.Resampling.LANCZOS, box=box))  # Pillow has (width, height)

    if len(image) == 3 and image.dtype == np.uint8:  # at once, which is the same and faster
        resized = resized_to(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    else:
        resized = np.stack([resized_to(plane) for plane in image])
    if inner == (high, wide):
        return resized
    edges = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    colour = np.quantile(edges, 0.5, axis=1, method="lower").astype(image.dtype)  # a colour that is there, not a mean of two
    canvas = np.stack([np.full((high, wide), one) for one in colour])
    top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
    canvas[:, top : top + inner[0], left : left + inner[1]] = resized
    return canvas


@plain
class _Opened:
    """An image file that is open: as Pillow has it, or as a deep one, or both."""

    stream: IO[bytes]
    name: str
    image: Any  # None where only tifffile opens it
    deep: deep.Deep | None

    @property
    def pixels(self) -> int:
        return self.image.width * self.image.height if self.image is not None else self.deep.size[0] * self.deep.size[1]  # type: ignore[union-attr]


@contextmanager
def _open(entry: Entry) -> Iterator[_Opened]:
    """Open an image of at most 50 million pixels without decoding it."""
    # From a stream, not a path: Pillow's memory map of a path misreads the rows of uncompressed TIFFs that lie on a side.
    with entry.open() as stream:
        head = stream.read(deep.HEAD)
        stream.seek(0)
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            if not head.startswith(MAGIC):
                raise
            stream.seek(0)
            opened = _Opened(stream, entry.path, None, deep.of_tiff(stream, entry.path))
            _refuse_bomb(opened.pixels)
            yield opened
            return
        with image:
            _refuse_bomb(image.width * image.height)
            found = deep.deep_of(image, head)
            if found is not None and not found.dtype:
                stream.seek(0)
                found = deep.of_tiff(stream, entry.path)
            yield _Opened(stream, entry.path, image, found)


def _refuse_bomb(pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise Image.DecompressionBombError


def _orientation(image: Image.Image) -> int:
    """Return the camera's orientation, 1 (upright) to 8."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # or Pillow would decode all of it, to look behind the pixels
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken notes of a camera do not make its picture unreadable
        return 1


def _header(opened: _Opened) -> Header:
    image, found = opened.image, opened.deep
    if found is not None and found.reader == "tiff":
        return Header(found.size, found.frames, found.channels, found.dtype, missing=found.missing)
    height, width = image.height, image.width
    try:  # a photo's second frame is its preview; a broken second frame is no matter
        frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:
        frames = True
    upright = width == height or image.format == "TIFF"  # of a TIFF, Pillow gives the upright size
    lying = not upright and _orientation(image) in (5, 6, 7, 8)
    size = (width, height) if lying else (height, width)
    missing = no_data(image.tag_v2.get(NO_DATA)) if image.format == "TIFF" else None
    if found is not None:
        return Header(size, frames, found.channels, found.dtype, missing=missing)
    return Header(size, frames, 1 if is_grey(image.mode) else 3, mask=image.mode == "1", missing=missing)


def see(entry: Entry, wanted: Wanted | None, strict: Strict = "", most: int = MOST_PIXELS) -> Seen:
    """Return what the header of a file says, its pixels, and the cause if it is broken.

    Args:
        entry: the file.
        wanted: what it is decoded to; None to read no pixels.
        strict: which images are decoded: "" all; "form" those of the wanted channels and type; "all" if of that size as well.
        most: pixels of an image that is decoded.

    Returns:
        The header, or None where it cannot be read; the pixels, upright and as wanted, `(channels, height, width)`, or None
        where they are not decoded; the cause, or "".

    Raises:
        ScorefieldError: the library that reads it is missing.
        TooLarge: an image to be decoded has more than `most` pixels.
    """
    header = None
    try:
        with one_at_a_time if entry.size > LARGE else nullcontext(), _open(entry) as opened:
            header = _header(opened)
            if wanted is None or (strict and (header.channels, header.dtype) != (wanted.channels, wanted.dtype)):
                return header, None, ""
            if strict == "all" and header.size != wanted.size:
                return header, None, ""
            if opened.pixels > most:
                raise TooLarge
            return header, _decoded(opened, wanted), ""
    except (ScorefieldError, TooLarge):
        raise  # no fault of the file
    except UnidentifiedImageError:
        return header, None, "not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return header, None, f"more than {MOST_PIXELS // 10**6} million pixels"
    except Exception as error:  # decoders raise anything on broken files: SyntaxError, struct.error, zlib.error...
        return header, None, cause_of(error)


def _decoded(opened: _Opened, wanted: Wanted) -> Array:
    """Return the pixels of an opened image."""
    with one_at_a_time if opened.pixels > LARGE else nullcontext():
        if opened.deep is not None:
            stored = deep.pixels(opened.stream, opened.image, opened.deep, opened.name)
        else:
            stored = _eight_bit(opened.image, wanted)
        turn = None
        if opened.image is not None and (opened.deep is None or opened.deep.reader != "tiff"):
            turn = TURN.get(_orientation(opened.image))
    upright = (stored if turn is None else turn(stored)).transpose(2, 0, 1)
    return np.ascontiguousarray(resized(_typed(upright, wanted), wanted))


def _eight_bit(image: Image.Image, wanted: Wanted) -> NDArray[np.uint8]:
    """Return the pixels of an 8-bit image as they are stored, or smaller where they are more than Lanczos needs."""
    step = 1
    if image.format in ("JPEG", "MPO") or image.width * image.height > LARGE:
        lying = _orientation(image) in (5, 6, 7, 8)
        size = (image.width, image.height) if lying else (image.height, image.width)
        scale = growth(size, wanted.size, wanted.fit)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: to twice what is wanted at least, so that Lanczos does the rest.
        if image.format in ("JPEG", "MPO") and scale < 0.5:
            image.draft(None, (int(2 * scale * image.width) + 1, int(2 * scale * image.height) + 1))
            scale = growth((image.width, image.height) if lying else (image.height, image.width), wanted.size, wanted.fit)
    image.load()
    if image.width * image.height > LARGE:
        step = max(int(1 / (3 * scale)), 1)
    return pixels_of(image, "L" if wanted.channels == 1 else "RGB", step)


def _typed(pixels: Array, wanted: Wanted) -> Array:
    """Return pixels `(channels, height, width)` of the wanted type and number of channels."""
    if pixels.dtype != wanted.dtype:
        if pixels.dtype != np.uint8 or wanted.dtype != "uint16":
            words = f"{pixels.dtype.itemsize * 8} bits" if pixels.dtype.kind in "iu" else "floats"
            raise ValueError(f"its pixels have {words} ({pixels.dtype}), most have {wanted.dtype}")
        pixels = pixels.astype(np.uint16) * np.uint16(WIDER)
    if len(pixels) != wanted.channels:
        if (len(pixels), wanted.channels) != (1, 3):
            raise ValueError(f"it has {len(pixels)} channels, most have {wanted.channels}")
        pixels = np.repeat(pixels, 3, axis=0)
    return pixels


def resized(pixels: Array, wanted: Wanted) -> Array:
    """Return pixels of the wanted size; of deep ones by way of float32, rounded to their type and inside their ends.

    Args:
        pixels: `(channels, height, width)`, of any type.
        wanted: the size, and how it is reached.
    """
    if pixels.dtype == np.uint8 or pixels.shape[1:] == wanted.size:
        return fitted(pixels, wanted.size, wanted.fit)
    found = fitted(pixels.astype(np.float32), wanted.size, wanted.fit)
    if pixels.dtype.kind == "f":
        return found.astype(pixels.dtype)
    return np.rint(found.astype(np.float64)).clip(pixels.min(), pixels.max()).astype(pixels.dtype)


def pixels_of(image: Image.Image, mode: str, step: int) -> NDArray[np.uint8]:
    """Return 8-bit pixels `(height, width, channels)` as they are stored, means of `step` by `step`; by strips, for memory.

    Args:
        image: of 8 bits.
        mode: "L" or "RGB".
        step: 1 for the pixels themselves.
    """
    if image.mode == mode and step == 1 and not image.has_transparency_data:
        return np.asarray(image).reshape(image.height, image.width, -1)
    height, width = -(-image.height // step), -(-image.width // step)
    out = np.empty((height, width, 1 if mode == "L" else 3), dtype=np.uint8)
    rows = max(STRIP // image.width // step, 1)  # of the result
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image.crop((0, top * step, image.width, min(bottom * step, image.height))) if rows < height else image
        if strip.has_transparency_data:
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
        out[top:bottom] = np.asarray(strip.convert(mode).reduce(step)).reshape(bottom - top, width, -1)
    return out
