"""Fourier: some frequencies of a sample are measured, as real numbers.

    F = the orthonormal discrete Fourier transform over all axes of places,        y = Re(F x) - Im(F x) at the kept frequencies

This is the Hartley transform: real, orthonormal and its own inverse. So A·Aᵀ = I, A⁺ = Aᵀ, and white noise stays white. A
frequency and its opposite hold the same information about a real sample; both are kept or neither. Of complex coefficients F x,
such as a scanner's, y is the real less the imaginary part.

Reference: Bracewell (1983), "Discrete Hartley transform", JOSA 73(12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.axes import Shape, axes_of, places_of
from scorefield.operators.base import Operator
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "fourier")
class Fourier(Operator):
    """y = the Hartley coefficients at the kept frequencies, in a row for each channel.

    >>> Fourier(0.25).shape_out((1, 8, 8))
    (1, 13)
    """

    def __init__(self, share: float | None = None, *, keep: Tensor | Sequence[bool] | None = None) -> None:
        """Take one of two.

        Args:
            share: in (0, 1]: the frequencies in the largest ball around 0 that holds at most this share, and 0 itself.
            keep: True or False for each frequency, in the order of torch.fft.fftn: 0 comes first.

        Raises:
            ScorefieldError: both or neither, a share outside (0, 1], or a mask that keeps nothing.
        """
        if (share is None) == (keep is None):
            raise ScorefieldError("got both or neither of share and keep for fourier, expected one of them: leave one out")
        if share is not None and not 0 < share <= 1:
            raise ScorefieldError(
                f"got a share of {share:g} for fourier, expected a number in (0, 1]: for example fourier:0.25"
            )
        self.share, self.keep = share, None if keep is None else torch.as_tensor(keep).detach().bool()
        if self.keep is not None and not bool(self.keep.any()):
            raise ScorefieldError("got a mask for fourier that keeps nothing, expected at least one frequency: invert it")
        self._indices: dict[Shape, Tensor] = {}

    def __repr__(self) -> str:
        return f"Fourier({f'{self.share:g}' if self.keep is None else f'{int(self.keep.sum())} of {self.keep.numel()}'})"

    def kept(self, places: Shape) -> Tensor:
        """Return which frequencies are measured, `places`, bool, 0 first."""
        if self.keep is None:
            assert self.share is not None
            squares = [torch.fft.fftfreq(n, dtype=torch.float64) ** 2 for n in places]
            radius = torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(dim=0).mul(2**40).round()  # equal ones alike
            ordered = radius.flatten().sort().values
            most = int(self.share * math.prod(places) + 1e-9)
            limit = ordered[most] if most < len(ordered) else torch.inf  # the nearest of those that are too many
            return (radius < limit) | (radius == 0)
        if tuple(self.keep.shape) != places:
            raise ScorefieldError(
                f"got a mask of shape {tuple(self.keep.shape)} for {'x'.join(map(str, places))} frequencies, expected the same "
                "size: resize it"
            )
        axes = tuple(range(len(places)))
        opposite = self.keep.flip(axes).roll((1,) * len(places), axes)  # of k: n - k
        return self.keep | opposite

    def shape_out(self, shape: Shape) -> Shape:
        return (*shape[: -len(places_of(shape))], len(self._index(places_of(shape))))

    def __call__(self, x: Sample) -> Tensor:
        axes = axes_of(tuple(x.shape[1:]))
        index = self._index(tuple(x.shape[axes[0] :]))
        return hartley(x, axes).flatten(axes[0]).index_select(-1, index.to(x.device))

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        axes, places = axes_of(shape), places_of(shape)
        full = y.new_zeros(*y.shape[:-1], math.prod(places)).index_copy(-1, self._index(places).to(y.device), y)
        return hartley(full.reshape(-1, *shape), axes)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.adjoint(y, shape)

    def _index(self, places: Shape) -> Tensor:
        if places not in self._indices:
            self._indices[places] = self.kept(places).flatten().nonzero()[:, 0]
        return self._indices[places]

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `fourier:SHARE`, or `fourier:FILE`: what is white, or not 0, is measured; frequency 0 is in the middle."""
        if texts.is_file(text):
            mask = texts.read_array(text, "a mask, a picture whose white pixels are the measured frequencies")
            return cls(keep=torch.fft.ifftshift(mask >= 128 if text.lower().endswith(texts.PICTURES) else mask != 0))
        return cls(texts.number(text, "the share of fourier", "fourier:0.25 or fourier:mask.png"))


def hartley(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the orthonormal Hartley transform over some axes."""
    waves: Tensor = torch.fft.fftn(x, dim=tuple(axes), norm="ortho")
    return waves.real - waves.imag
