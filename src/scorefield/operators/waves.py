"""Convolution with a kernel of several axes, by Fourier transforms.

A circular convolution multiplies each frequency by the kernel's: y = F⁻¹(F k · F x). Its adjoint multiplies by the conjugate,
its pseudo-inverse divides where that is possible. With mirrored edges x is padded first, and the places of the sample are cut
out of the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.operators.axes import Shape, axes_of, places_of
from scorefield.shapes import Sample

Padding = Literal["reflect", "circular"]


def source(place: Tensor, n: int, padding: Padding) -> Tensor:
    """Return which of n places stands at a place beyond them, any number of times as far.

    >>> source(torch.arange(-3, 6), 3, "reflect").tolist(), source(torch.arange(-3, 6), 3, "circular").tolist()
    ([1, 2, 1, 0, 1, 2, 1, 0, 1], [0, 1, 2, 0, 1, 2, 0, 1, 2])
    """
    if padding == "circular":
        return place % n
    place = place % max(2 * (n - 1), 1)
    return torch.where(place < n, place, 2 * (n - 1) - place)


class Waves:
    """y = k * x with a kernel k of as many axes as there are of places."""

    def __init__(self, kernel: Tensor, padding: Padding) -> None:
        self.kernel, self.padding = kernel, padding
        self._spectra: dict[tuple[Any, ...], Tensor] = {}
        wide = padding == "reflect"
        self._margins = [(size // 2, (size - 1) // 2) if wide else (0, 0) for size in kernel.shape]  # places added at both ends

    def __call__(self, x: Sample) -> Tensor:
        axes = axes_of(tuple(x.shape[1:]))
        places = x.shape[axes[0] :]
        for axis, index in self._edges(axes, places, x.device):
            x = x.index_select(axis, index)
        y = self._filter(x, axes, turned=False)
        for axis, (before, _), n in zip(axes, self._margins, places, strict=True):
            y = y.narrow(axis, before, n)
        return y

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        """Return Aᵀy, `(batch, *shape)`."""
        axes = axes_of(shape)
        for axis, (before, after) in zip(axes, self._margins, strict=True):
            y = torch.cat([_zeros(y, axis, before), y, _zeros(y, axis, after)], dim=axis)
        x = self._filter(y, axes, turned=True)
        for axis, index in self._edges(axes, places_of(shape), y.device):
            x = _zeros(x, axis, shape[axis - 1]).index_add(axis, index, x)
        return x

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample | None:
        """Return A⁺y, `(batch, *shape)`; None for mirrored edges."""
        if self.padding == "reflect":
            return None
        axes, places = axes_of(shape), places_of(shape)
        spectrum = self._spectrum(places, y)
        size = spectrum.abs()
        seen = size > size.max() * torch.finfo(y.dtype).eps * math.prod(places)
        waves = torch.fft.rfftn(y, dim=axes) * torch.where(seen, 1 / torch.where(seen, spectrum, 1.0), 0.0)
        x: Tensor = torch.fft.irfftn(waves, s=places, dim=axes)
        return x

    def _edges(self, axes: Sequence[int], places: Sequence[int], device: torch.device) -> list[tuple[int, Tensor]]:
        """Return, for each axis that is padded, which place of the sample stands at each place of the padded one."""
        return [
            (axis, source(torch.arange(-before, n + after, device=device), n, self.padding))
            for axis, (before, after), n in zip(axes, self._margins, places, strict=True)
            if before or after
        ]

    def _filter(self, x: Tensor, axes: tuple[int, ...], *, turned: bool) -> Tensor:
        """Return the circular convolution with the kernel, or with the kernel turned round, which is its adjoint."""
        places = x.shape[axes[0] :]
        spectrum = self._spectrum(places, x)
        waves = torch.fft.rfftn(x, dim=axes) * (spectrum.conj() if turned else spectrum)
        y: Tensor = torch.fft.irfftn(waves, s=places, dim=axes)
        return y

    def _spectrum(self, places: Sequence[int], like: Tensor) -> Tensor:
        """Return the Fourier transform of the kernel, with its middle at place 0."""
        key = (tuple(places), like.dtype, like.device)
        if key not in self._spectra:
            kernel = self.kernel
            for axis, n in enumerate(places):
                size = kernel.shape[axis]
                index = (torch.arange(size) - (size - 1) // 2) % n
                kernel = _zeros(kernel, axis, n).index_add(axis, index, kernel)
            self._spectra[key] = torch.fft.rfftn(kernel).to(like.device, like.dtype.to_complex())
        return self._spectra[key]


def _zeros(like: Tensor, axis: int, count: int) -> Tensor:
    """Return zeros as `like`, with `count` places in an axis."""
    return like.new_zeros([*like.shape[:axis], count, *like.shape[axis + 1 :]])
