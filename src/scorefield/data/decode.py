"""Decoding: one image file to upright pixels of a wanted mode and size.

    rotation        is undone as the camera's orientation says
    transparency    is put on white
    16 bits         become 8 by round(v/257), exact at both ends (of colours, Pillow itself keeps the upper byte)
    size            Lanczos on what is left after "crop", "pad" or "stretch"

Memory is bounded: the pixel limit is checked before anything is decoded, conversions go strip by strip, and of large images
only one is decoded at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass as plain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from scorefield.data.archives import Entry

Size = tuple[int, int]  # (height, width), as arrays have it
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 50_000_000
LARGE = 4_000_000  # pixels, or bytes of a file: such are decoded one at a time
STRIP = 2**20  # pixels that are converted at a time
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
    """What the header of an image says: its mode, its upright size, and whether it has several frames."""

    mode: str
    size: Size
    frames: bool


def is_grey(mode: str) -> bool:
    """Whether images of this mode have no colours."""
    return mode in ("1", "L", "LA", "La") or mode.startswith("I")


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


@contextmanager
def _open(entry: Entry) -> Iterator[Image.Image]:
    """Open an image of at most 50 million pixels without decoding it."""
    # From a stream, not a path: Pillow's memory map of a path misreads the rows of uncompressed TIFFs that lie on a side.
    with entry.open() as stream, Image.open(stream, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        yield image


def _orientation(image: Image.Image) -> int:
    """Return the camera's orientation, 1 (upright) to 8."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # or Pillow would decode all of it, to look behind the pixels
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken notes of a camera do not make its picture unreadable
        return 1


def header_of(entry: Entry) -> Header:
    """Return what the header of an image says."""
    with _open(entry) as image:
        height, width = image.height, image.width
        if image.mode == "F":
            raise ValueError("its pixels are floats: save it with 8 or 16 bits, or as .npy")
        try:  # a photo's second frame is its preview; a broken second frame is no matter
            frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        except Exception:
            frames = True
        upright = width == height or image.format == "TIFF"  # of a TIFF, Pillow gives the upright size
        lying = not upright and _orientation(image) in (5, 6, 7, 8)
        return Header(image.mode, (width, height) if lying else (height, width), frames)


def decode(entry: Entry, mode: str, size: Size, fit: str) -> NDArray[np.uint8]:
    """Return the pixels of an image, upright and of the wanted mode and size, `(channels, height, width)`."""
    with _open(entry) as image, one_at_a_time if image.width * image.height > LARGE else nullcontext():
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: to twice what is wanted at least, so that Lanczos does the rest.
        if image.format in ("JPEG", "MPO"):
            scale = _growth_of(image, size, fit)
            image.draft(None, (int(2 * scale * image.width) + 1, int(2 * scale * image.height) + 1))
        image.load()
        step = int(1 / (3 * _growth_of(image, size, fit))) if image.width * image.height > LARGE else 1
        stored = pixels_of(image, mode, max(step, 1))
        turn = TURN.get(_orientation(image))
    upright = stored if turn is None else turn(stored)
    return np.ascontiguousarray(fitted(upright.transpose(2, 0, 1), size, fit))


def _growth_of(image: Image.Image, size: Size, fit: str) -> float:
    """Return by how much an opened image grows on its way to the wanted size."""
    lying = _orientation(image) in (5, 6, 7, 8)
    return growth((image.width, image.height) if lying else (image.height, image.width), size, fit)


def pixels_of(image: Image.Image, mode: str, step: int) -> NDArray[np.uint8]:
    """Return pixels `(height, width, channels)` as they are stored, means of `step` by `step`; by strips: copies stay small."""
    height, width = -(-image.height // step), -(-image.width // step)
    out = np.empty((height, width, 1 if mode == "L" else 3), dtype=np.uint8)
    rows = max(STRIP // image.width // step, 1)  # of the result
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image.crop((0, top * step, image.width, min(bottom * step, image.height))) if rows < height else image
        if strip.mode.startswith("I"):
            wide = np.asarray(strip).astype(np.int64)
            if wide.min() < 0 or wide.max() > 65535:
                raise ValueError("its pixels have 32 bits: save it with 8 or 16")
            strip = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
        if strip.has_transparency_data:
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
        out[top:bottom] = np.asarray(strip.convert(mode).reduce(step)).reshape(bottom - top, width, -1)
    return out
