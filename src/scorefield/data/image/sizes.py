"""Sizes: the size that images of many sizes are brought to, and the notes on what was done to them."""

from __future__ import annotations

import statistics
from collections import Counter

from scorefield.data.base import DataConfig
from scorefield.data.image.decode import WIDER, Header, Size, growth

KEPT_SIDE = 256  # images of one size stay as they are up to this side
CHOSEN_SIDE = 64  # what is chosen otherwise, unless the images are smaller: small enough to train quickly


def _as_typed(size: Size) -> str:
    """Return a size as it is typed: height x width."""
    return f"{size[0]}x{size[1]}"


def size_of(sizes: list[Size], config: DataConfig) -> tuple[Size, str]:
    """Return the size of the examples, and why, if it was chosen from the data."""
    if config.size is not None:
        return (config.size, config.size) if isinstance(config.size, int) else config.size, ""
    (size, count), *others = Counter(sizes).most_common()
    if not others and max(size) <= KEPT_SIDE:
        return size, ""
    shorter = int(statistics.median_low(min(size) for size in sizes))
    side = CHOSEN_SIDE if shorter >= CHOSEN_SIDE else 1 << (shorter.bit_length() - 1)
    ratio = statistics.median(width / height for height, width in sizes)
    alike = sum(0.95 < width / height / ratio < 1.05 for height, width in sizes) > 0.9 * len(sizes)
    chosen = (side, side)
    if alike:  # one shape, such as a camera's: keep it, in steps that halve well
        step = max(side // 8, 1)
        longer = max(round(side * max(ratio, 1 / ratio) / step), 1) * step
        chosen = (side, longer) if ratio > 1 else (longer, side)
    found = (
        f"all images are {_as_typed(size)}"
        if not others
        else (
            f"there are {len(others) + 1} sizes, {_as_typed(min(sizes))} to {_as_typed(max(sizes))}, "
            f"most often {_as_typed(size)} ({count} of {len(sizes)})"
        )
    )
    reason = "a size that trains soon" if side == CHOSEN_SIDE else "the power of two that half of the short sides have"
    shape = "the shape that nearly all have" if alike else "square, as their shapes differ"
    return chosen, (
        f"Size {_as_typed(chosen)} (height x width) was chosen: {found}; {side} is {reason}, {shape}. Choose with --size."
    )


def about(headers: list[Header], size: Size, fit: str) -> list[str]:
    """Return notes on what was done to the images."""
    notes = []
    grey = sum(header.channels == 1 for header in headers)
    if 0 < grey < len(headers):
        notes.append(f"{grey} grey and {len(headers) - grey} colour images: all were read as RGB.")
    coarse = sum(header.dtype == "uint8" for header in headers)
    if 0 < coarse < len(headers):
        found = f"{coarse} images of 8 bits and {len(headers) - coarse} of 16"
        notes.append(
            f"{found}: the values of 8 bits were multiplied by {WIDER}, which keeps black, white and what lies between."
        )
    other = sum(
        abs(header.size[1] * size[0] - header.size[0] * size[1]) > 0.05 * header.size[0] * size[1] for header in headers
    )
    if other:
        done = {
            "crop": "cut to their centre (--fit pad keeps everything)",
            "pad": "padded with the median colour of their own border",
            "stretch": "stretched",
        }[fit]
        notes.append(f"{other} of {len(headers)} images have another shape than {_as_typed(size)} and were {done}.")
    small = sum(growth(header.size, size, fit) > 1 for header in headers)
    if small:
        notes.append(f"{small} of {len(headers)} images are smaller than {_as_typed(size)} pixels and were enlarged.")
    return notes
