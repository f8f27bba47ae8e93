"""Planes: what of an image or a volume a picture shows. All pictures follow these rules.

    1 channel     grey, from black at the low end of the data's range to white at the high one
    3 channels    red, green and blue
    other numbers each channel in grey, side by side from the left; of more than four the first four
    complex       a (real, imaginary) pair is one channel: its magnitude, from black at 0
    a volume      its middle plane: of depth d the one with number d // 2, counted from 0

A picture is for looking. Arrays and files of the data's own kind hold everything.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from scorefield.data.layout import Layout
from scorefield.data.normaliser import Normaliser

PICTURED = ("image", "volume")  # kinds of data that are shown as planes
SIDE_BY_SIDE = 4  # channels of one example
GREY = 128 / 255  # of what surrounds the examples of a picture


class Pictured(Protocol):
    """What planes need to know of a data set or a run."""

    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def normaliser(self) -> Normaliser: ...
    @property
    def layout(self) -> Layout: ...


def planes(raw: Tensor, data: Pictured, unknown: float = GREY) -> Tensor:
    """Return what of examples is shown, as images with values from 0, black, to 1, white.

    Args:
        raw: images or volumes in the data's own units, `(n, channels, ..., height, width)`.
        data: what they are of: a data set or a run.
        unknown: what is shown where a cell is unknown; NaN leaves it so.

    Returns:
        `(n, 1 or 3, height, width)`, as wide as `plane_size` says.
    """
    if raw.ndim == 5:
        middle = raw.shape[2] // 2
        raw = raw[:, :, middle : middle + 1]
    visible = _magnitudes(raw, data.normaliser) if data.layout.is_complex else data.normaliser.visible(raw)
    shown = visible.squeeze(2) if raw.ndim == 5 else visible
    if shown.shape[1] != 3:
        shown = torch.cat(torch.split(shown[:, :SIDE_BY_SIDE], 1, dim=1), dim=3)
    return shown.nan_to_num(unknown)


def plane_size(data: Pictured) -> tuple[int, int]:
    """Return height and width of what `planes` shows of one example."""
    channels = _channels(data)
    across = 1 if channels == 3 else min(channels, SIDE_BY_SIDE)
    return data.shape[-2], across * data.shape[-1]


def what_is_shown(data: Pictured) -> str | None:
    """Return what of each example a picture shows, in words that end a sentence; None where it shows all as it is."""
    channels = _channels(data)
    parts = [f"the middle plane of {data.shape[1]}"] * (data.kind == "volume" and data.shape[1] > 1)
    parts += ["the magnitude of complex numbers"] * data.layout.is_complex
    if channels not in (1, 3):
        parts += [f"{f'the first {SIDE_BY_SIDE} of ' * (channels > SIDE_BY_SIDE)}{channels} channels side by side"]
    return ", ".join(parts) or None


def _channels(data: Pictured) -> int:
    """Return how many channels there are to show."""
    return data.shape[0] // (2 if data.layout.is_complex else 1)


def _magnitudes(raw: Tensor, normaliser: Normaliser) -> Tensor:
    """Return the magnitudes of (real, imaginary) pairs of channels as a share of the largest end of the range."""
    ends = torch.ones(2, *raw.shape[1:], dtype=torch.float64) * torch.tensor([-1.0, 1.0]).reshape(2, *(1,) * (raw.ndim - 1))
    largest = float(normaliser.decode(ends).abs().amax())
    return torch.hypot(raw[:, 0::2], raw[:, 1::2]) / largest
