"""Blur: the convolution of a sample with a kernel, each channel alone.

    y[i] = sum over j of k[j]·x[i - (j - c)],        c = (size - 1)//2, the middle of the kernel, in every axis

A true convolution: a bright point becomes the kernel itself. (Deep-learning libraries give this name to the correlation, which
turns the kernel round; with a kernel that is not symmetric the two differ.) Beyond the edge x goes on

    "reflect"    as its mirror image, d c b | a b c d | c b a: the outermost place is not repeated (numpy's and torch's word;
                 scipy calls it "mirror")
    "circular"   from the other end, b c d | a b c d | a b c

A Gaussian, or a kernel of one axis, is a matrix along each axis; any other kernel is a product of Fourier transforms (`waves`).
"""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError, unknown
from scorefield.operators import text as texts
from scorefield.operators.axes import PerAxis, Shape, matrix_of, places_of
from scorefield.operators.base import Operator
from scorefield.operators.waves import Padding, Waves, source
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "blur")
class Blur(Operator):
    """y = k * x, with a Gaussian k of standard deviation sigma, cut at 4·sigma and of sum 1, or with any kernel.

    >>> point = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    >>> Blur(kernel=[1.0, 2.0, 3.0])(point).abs().round(decimals=9)
    tensor([[0., 1., 2., 3., 0.]], dtype=torch.float64)
    """

    def __init__(self, sigma: float | None = None, *, kernel: Any = None, padding: Padding = "reflect") -> None:
        """Take one of the two.

        Args:
            sigma: in pixels, > 0, in every axis of places.
            kernel: an array with as many axes as a sample has of places, as it is: it need not have the sum 1.
            padding: what is beyond the edge.

        Raises:
            ScorefieldError: both or neither, a sigma <= 0, or a kernel that is 0 or not finite.
        """
        if (sigma is None) == (kernel is None):
            raise ScorefieldError("got both or neither of sigma and kernel for a blur, expected one of them: leave one out")
        if padding not in get_args(Padding):
            raise unknown("padding", padding, get_args(Padding))
        if sigma is not None and not (math.isfinite(sigma) and sigma > 0):
            raise ScorefieldError(f"got sigma = {sigma:g} for a blur, expected a number > 0, in pixels: for example 1.5")
        self.sigma, self.padding = sigma, padding
        self.kernel = _gaussian(sigma) if sigma is not None else torch.as_tensor(kernel, dtype=torch.float64)
        if not self.kernel.ndim or not bool(self.kernel.isfinite().all()) or not bool(self.kernel.any()):
            raise ScorefieldError("got a kernel that is empty, 0 or not finite, expected an array of numbers: correct it")
        self._map = PerAxis(self._matrix) if self.kernel.ndim == 1 else Waves(self.kernel, padding)

    def __repr__(self) -> str:
        size = f"{self.sigma:g}" if self.sigma is not None else "x".join(map(str, self.kernel.shape))
        return f"Blur({size}, {self.padding})"

    def shape_out(self, shape: Shape) -> Shape:
        places = places_of(shape)
        if self.sigma is not None:
            if 2 * self.sigma + 1 > min(places):
                raise ScorefieldError(
                    f"got sigma = {self.sigma:g} for samples of shape {shape}, expected at most {(min(places) - 1) / 2:g}, so "
                    "that the kernel is not larger than the sample: choose a smaller one"
                )
        elif self.kernel.ndim != len(places):
            raise ScorefieldError(
                f"got a kernel of shape {tuple(self.kernel.shape)} for samples of shape {shape}, expected {len(places)} axes: "
                "reshape it"
            )
        elif any(size > n for size, n in zip(self.kernel.shape, places, strict=True)):
            raise ScorefieldError(
                f"got a kernel of shape {tuple(self.kernel.shape)} for samples of shape {shape}, expected one that is not "
                "larger than the sample: cut it"
            )
        return shape

    def __call__(self, x: Sample) -> Tensor:
        self.shape_out(tuple(x.shape[1:]))
        return self._map(x)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return self._map.adjoint(y, shape)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        x = self._map.pseudo_inverse(y, shape)
        return super().pseudo_inverse(y, shape) if x is None else x

    def _matrix(self, n: int) -> Tensor:
        """Return the convolution along an axis of n places as a matrix."""
        size = len(self.kernel)
        offset = torch.arange(size) - (size - 1) // 2
        return matrix_of(source(torch.arange(n).unsqueeze(1) - offset, n, self.padding), self.kernel.expand(n, size), n)

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `blur:SIGMA`, or `blur:FILE` with a kernel, each with `:circular` or `:reflect` at the edges, or without.

        The kernel of a picture is divided by its sum; that of an array is taken as it is.
        """
        size, padding = text, "reflect"
        for name in get_args(Padding):
            if text.endswith(f":{name}"):
                size, padding = text.removesuffix(f":{name}"), name
        if texts.is_file(size):
            kernel = texts.read_array(size, "a kernel, an array or a picture")
            if size.lower().endswith(texts.PICTURES):
                kernel = kernel / kernel.sum().clamp(min=1.0)
            return cls(kernel=kernel, padding=padding)  # type: ignore[arg-type]
        return cls(texts.number(size, "the sigma of blur", "blur:2, blur:2:circular or blur:kernel.npy"), padding=padding)  # type: ignore[arg-type]


def _gaussian(sigma: float) -> Tensor:
    """Return a Gaussian in one axis, of sum 1, cut at 4·sigma."""
    radius = max(1, int(4 * sigma + 0.5))
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = (-0.5 * (place / sigma) ** 2).exp()
    return kernel / kernel.sum()
