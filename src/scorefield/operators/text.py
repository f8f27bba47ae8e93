"""The text form of operators: numbers and files in NAME:ARG, each refused with a sentence if it is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.errors import ScorefieldError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
ARRAYS = (".npy", ".txt", ".csv")


def number(text: str, what: str, example: str) -> float:
    """Return a finite number.

    Args:
        text: as written.
        what: it is, for the message.
        example: of the whole operator.

    >>> number("1.5", "sigma", "blur:2")
    1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ScorefieldError(f"got {text!r} for {what}, expected a number: for example {example}")
    return value


def whole(text: str, what: str, example: str) -> int:
    """Return a whole number; arguments as of `number`."""
    try:
        return int(text)
    except ValueError:
        raise ScorefieldError(f"got {text!r} for {what}, expected a whole number: for example {example}") from None


def is_file(text: str) -> bool:
    """Whether a text names a file that can hold numbers, by its ending."""
    return Path(text).suffix.lower() in (*PICTURES, *ARRAYS)


def read_array(path: str, what: str) -> Tensor:
    """Return the numbers of a file, float64: of an array (.npy, .txt, .csv), or the brightness of a picture in [0, 255].

    Args:
        path: of the file.
        what: it is, for the message.

    Raises:
        ScorefieldError: a file that is missing or damaged, holds no real numbers, or NaN.
    """
    file = Path(path)
    try:
        if file.suffix.lower() == ".npy":
            found = np.load(file, allow_pickle=False)
        elif file.suffix.lower() in ARRAYS:
            with file.open(encoding="utf-8") as lines:
                found = np.loadtxt((line.replace(",", " ") for line in lines), ndmin=1)
        else:
            with Image.open(file) as picture:
                found = np.asarray(_on_black(picture).convert("L"))
        if found.dtype.kind not in "biuf" or not found.size or not np.isfinite(found).all():
            raise ValueError("it does not hold finite real numbers")
    except FileNotFoundError:
        raise ScorefieldError(f"got no file {path}, expected {what}: check the path") from None
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ScorefieldError(f"got {path}, which cannot be read ({error}), expected {what}: write it again") from error
    return torch.from_numpy(found.astype(np.float64))


def _on_black(picture: Image.Image) -> Image.Image:
    """Return a picture without transparency: what is transparent is black."""
    if not picture.has_transparency_data:
        return picture
    shown = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, (0, 0, 0, 255)), shown)
