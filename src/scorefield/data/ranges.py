"""Ranges: how the values of images and volumes are mapped to [-1, 1], and where samples of them are clipped.

    declared      `data.range`: mapped and clipped to it
    8-bit         0 to 255
    masks         0 and 1; label maps, whole numbers of few kinds: the smallest to the largest; samples are legal values
    known         values that fill [0, 1] or [-1, 1], or whole ones that fill [0, 255]: that range, clipped
    measured      all else: the smallest to the largest value of the training rows. An end that one cell in a hundred has
                  exactly is an end of what there can be, and clips; an end that few cells have does not

Channels of different units, one of which fills less than a quarter of the range of all, have a range each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scorefield.data.base import ArrayView, DataConfig, Normaliser, format_number
from scorefield.data.normaliser import ends
from scorefield.data.scan import Scan
from scorefield.errors import ScorefieldError

KNOWN = ((0.0, 1.0), (-1.0, 1.0))
FILLED = 0.9  # of a known range
LABELS = 255.0  # the largest number of a class in a label map
FINE = 32  # below it, whole numbers of 8 bits are those of classes, not of greys
OWN = 0.25  # of the range of all channels: one that fills less has a range of its own
SEEN = 8  # examples, among which a channel that never varies does not vary
Fit = Callable[[Tensor | ArrayView], Normaliser]


def legal_values(found: Scan, dtype: np.dtype[np.generic]) -> tuple[float, ...]:
    """Return the values that a mask or a label map may have; () where the values are quantities.

    Args:
        found: the scan.
        dtype: of the source.
    """
    if dtype.kind == "b":
        return 0.0, 1.0
    few = found.values is not None and 0 <= found.low < found.high <= (FINE - 1 if dtype == np.uint8 else LABELS)
    return tuple(sorted(found.values or ())) if dtype.kind in "iu" and few and not found.unknown else ()


def range_of(
    found: Scan, dtype: np.dtype[np.generic], legal: tuple[float, ...], name: str, config: DataConfig, notes: list[str]
) -> Fit:
    """Return what gives the map of images or volumes to [-1, 1] from the training rows.

    Args:
        found: the scan of all rows.
        dtype: of the source.
        legal: `legal_values`.
        name: what messages call it.
        config: how it is read.
        notes: what was chosen is added to them.

    Raises:
        ScorefieldError: values outside the declared range, or all of them equal.
    """
    low, high = found.low, found.high
    least, most = format_number(low), format_number(high)
    if config.range is not None:
        if not config.range[0] <= low <= high <= config.range[1]:
            wide, declared = f"values from {least} to {most}", list(config.range)
            raise ScorefieldError(f"got {wide} in {name!r}, expected data.range={declared} to hold them: widen it")
        return _between(*config.range)
    if dtype.kind == "b" or legal:
        if dtype.kind != "b":
            shown = ", ".join(map(format_number, legal[:8])) + ("..." if len(legal) > 8 else "")
            notes.append(f"Whole numbers of {len(legal)} kinds ({shown}): read as a label map; samples have these values only.")
        return _between(legal[0], legal[-1])
    if dtype == np.uint8:
        return _between(0.0, 255.0)
    if low >= high:
        raise ScorefieldError(f"got the same value {least} in every cell of {name!r}, expected some that vary: check the data")
    floats, bytes_ = dtype.kind == "f", found.whole or (low, high) == (0, 255)
    for first, last in (*KNOWN * floats, *((0.0, 255.0),) * bytes_):
        if first <= low and high <= last and high - low >= FILLED * (last - first):
            notes.append(f"Values fill the range {first:g} to {last:g}: samples are clipped to it; data.range says otherwise.")
            return _between(first, last)
    bounds = [least] * found.ends_at_low + [most] * found.ends_at_high
    clipped = f"clipped at {' and '.join(bounds)}, which many cells have exactly" if bounds else "not clipped"
    notes.append(f"Values from {least} to {most} are mapped to [-1, 1]; samples are {clipped}; data.range says otherwise.")

    def fit(train: Tensor | ArrayView) -> Normaliser:
        lows, highs = ends(train)
        whole = highs.amax() - lows.amin()
        apart = bool(((highs - lows) < OWN * whole).any())
        map_ = Normaliser.spanning(train, per_channel=apart)
        return replace(map_, low=low if found.ends_at_low else None, high=high if found.ends_at_high else None)

    return fit


def _between(low: float, high: float) -> Fit:
    """Return what maps a legal range to [-1, 1], and keeps a channel of one value at that value."""
    whole = Normaliser.between(low, high)

    def fit(train: Tensor | ArrayView) -> Normaliser:
        first = train[: min(len(train), SEEN)].transpose(0, 1).flatten(1)
        if len(first) == 1 or not bool((first == first[:, :1]).all(dim=1).any()):  # most data need no walk through all of them
            return whole
        lows, highs = ends(train)
        still = lows == highs
        if not bool(still.any()) or bool(still.all()):
            return whole
        shift, fixed = torch.where(still, lows, whole.shift[0]), tuple(still.nonzero().flatten().tolist())
        scale = whole.scale * len(lows)  # of a still channel, too: a likelihood counts in the bins of all
        return replace(whole, shift=tuple(shift.tolist()), scale=scale, per_channel=True, axes=train.ndim - 2, fixed=fixed)

    return fit
