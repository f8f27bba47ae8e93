"""Images: a folder of ordinary picture files, read defensively.

Files come from cameras, browsers and scrapers: rotated by a tag, transparent, of 16 bits, cut off, or not images at all.

    first pass      reads the headers and refuses what would not fit; whatever is broken is collected, and reported once
    second pass     decodes: rotation is undone, transparency put on white, 16 bits become 8 by round(v/257), exact at both ends

If all files are grey there is one channel, otherwise three. First-level folders become labels when every image lies in one.
"""

from __future__ import annotations

import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from scorefield.data.base import Affine, DataConfig, Dataset, build
from scorefield.errors import ScorefieldError

T = TypeVar("T")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 50_000_000


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
    planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in image)
    turned = inner[::-1]  # Pillow's sizes are (width, height)
    resized = np.stack([np.asarray(plane.resize(turned, Image.Resampling.LANCZOS, box=box)) for plane in planes])
    if inner == (high, wide):
        return resized
    edges = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    colour = np.quantile(edges, 0.5, axis=1, method="lower").astype(image.dtype)  # a colour that is there, not a mean of two
    canvas = np.empty((len(image), high, wide), dtype=image.dtype)
    canvas[:] = colour[:, None, None]
    top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
    canvas[:, top : top + inner[0], left : left + inner[1]] = resized
    return canvas


def square(image: NDArray[Any], size: int) -> NDArray[Any]:
    """Resize the short side to `size` and crop the centre square: `fitted` of one number."""
    return fitted(image, size)


def read(folder: str, config: DataConfig) -> Dataset:
    """Read a folder of images, with all its sub-folders.

    Args:
        folder: path of the folder.
        config: how it is read.

    Returns:
        The data set, raw values 0 to 255, in the order of the paths.

    Raises:
        ScorefieldError: no images, broken images, more than 50 million pixels in one, or several sizes without `data.size`.
    """
    paths, others = _walk(folder)
    if not paths:
        raise ScorefieldError(f"got no images in {folder!r}, expected {' '.join(SUFFIXES)} files: check the path")
    broken: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        looks = _attempt(lambda path: _look(os.path.join(folder, path)), paths, broken)
        if config.size is None:
            _one_size({path: size for path, (_, size) in looks.items()})
        grey = sum(mode in ("1", "L") or mode.startswith("I") for mode, _ in looks.values())
        mode = "L" if grey == len(looks) else "RGB"
        pixels = _attempt(lambda path: _decode(os.path.join(folder, path), mode, config.size, config.fit), looks, broken)
    if broken:
        first = ", ".join(f"{path!r} ({cause})" for path, cause in sorted(broken.items())[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        found = f"got {len(broken)} of {len(paths)} images in {folder!r} that cannot be read: {first}{more}"
        raise ScorefieldError(f"{found}, expected whole image files of at most 50 million pixels: remove or repair them")

    notes = []
    if 0 < grey < len(looks):
        notes.append(f"{grey} grey and {len(looks) - grey} colour images: all were read as RGB.")
    side = config.size if isinstance(config.size, int) else min(config.size or (0,))
    small = sum(min(size) < side for _, size in looks.values())
    if small:
        notes.append(f"{small} of {len(looks)} images are smaller than {side} pixels and were enlarged.")
    if others:
        notes.append(f"{others} files that are not images were left out.")
    classes, labels = _classes(paths)
    name, raw = os.path.basename(os.path.abspath(folder)), torch.from_numpy(np.stack(list(pixels.values())))
    affine = Affine.between(0.0, 255.0)
    return build(name, "image", raw, config, affine=lambda train: affine, labels=labels, classes=classes, notes=tuple(notes))


def _walk(folder: str) -> tuple[list[str], int]:
    """Return the sorted relative paths of all images, and the number of other files; each real folder is entered once."""

    def refuse(cause: OSError) -> None:
        raise ScorefieldError(f"got {cause.filename!r}, expected a folder that can be read: {cause.strerror}") from cause

    paths, others, seen = [], 0, {os.path.realpath(folder)}
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        fresh = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            real = os.path.realpath(os.path.join(here, name))
            if real not in seen:
                seen.add(real)
                fresh.append(name)
        folders[:] = fresh
        if here != folder and {"config.json", "manifest.json"} <= set(files):
            folders[:] = []  # a run's folder among the images: its samples and plots are no data
            continue
        shown = [name for name in files if not name.startswith(".")]
        found = [os.path.relpath(os.path.join(here, name), folder) for name in shown if name.lower().endswith(SUFFIXES)]
        paths += found
        others += len(shown) - len(found)
    return sorted(paths), others


def _attempt(function: Callable[[str], T], paths: Iterable[str], broken: dict[str, str]) -> dict[str, T]:
    """Return function(path) for every path that can be read, and enter the cause for every other one into `broken`."""
    results = {}
    for path in paths:
        try:
            results[path] = function(path)
        except Exception as cause:  # decoders raise anything on broken files: SyntaxError, struct.error, zlib.error...
            text = "not an image" if isinstance(cause, UnidentifiedImageError) else str(cause) or type(cause).__name__
            broken[path] = text
    return results


@contextmanager
def _open(path: str) -> Iterator[Image.Image]:
    """Open an image without decoding it; only regular files (a pipe would wait forever) within the pixel limit."""
    if not os.path.isfile(path):
        raise OSError("not a file")
    # From a stream, not a path: Pillow's memory map of a path misreads the rows of uncompressed TIFFs that lie on a side.
    with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are more than 50 million")
        yield image


def _look(path: str) -> tuple[str, tuple[int, int]]:
    """Return the mode and the upright (width, height) of an image."""
    with _open(path) as image:
        width, height = image.size
        upright = width == height or image.format == "TIFF"  # of a TIFF, Pillow gives the upright size
        lying = not upright and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return image.mode, (height, width) if lying else (width, height)


def _decode(path: str, mode: str, size: int | tuple[int, int] | None, fit: str) -> NDArray[np.uint8]:
    """Return upright pixels `(channels, height, width)`, uint8."""
    with _open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("its pixels have 32 bits, save it with 8 or 16")
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats, save it with 8 or 16 bits, or as .npy")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    pixels = np.asarray(image.convert(mode))
    planes = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes) if size is None else fitted(planes, size, fit)


def _one_size(sizes: dict[str, tuple[int, int]]) -> None:
    """Raise `ScorefieldError` unless all images have one size."""
    common = Counter(sizes.values()).most_common(2)
    if len(common) < 2:
        return
    example = {size: path for path, size in sizes.items()}
    found = " and ".join(f"{count} of {w}x{h} (such as {example[w, h]!r})" for (w, h), count in common)
    side = int(statistics.median(min(size) for size in sizes.values()))
    advice = min(64, 1 << (side.bit_length() - 1))  # a power of two that most images have, small enough to train soon
    raise ScorefieldError(f"got images of several sizes, {found}, expected one: add --set data.size={advice} to resize them")


def _classes(paths: list[str]) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """Return class names and labels if every image lies in one of at least two first-level folders."""
    folders = [path.split(os.sep)[0] if os.sep in path else "" for path in paths]
    classes = tuple(sorted(set(folders)))
    if "" in classes or len(classes) < 2:
        return (), None
    number = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([number[folder] for folder in folders])
