"""JPEG: each block of 8 x 8 pixels is a sum of cosines whose coefficients are rounded, as in a baseline JPEG file.

    y = Q(B·x + noise),    B = blocks' cosine transform of the colours Y, Cb, Cr (or of the one grey channel)

Each coefficient says that the true one lies within half a step of it, where the steps are the standard's table at a quality.
Pixels are numbers from 0 to 255. An image whose sides are not multiples of 8 is continued by its last row and column, as
encoders do. All three colours have every pixel (4:4:4); of a file with fewer coloured pixels than grey ones (4:2:0), save a
grey copy.

References: Wallace (1992), "The JPEG still picture compression standard", IEEE TCE 38(1). The tables are those of ITU-T T.81,
annex K.1, and their scaling with the quality is that of the Independent JPEG Group's library.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.axes import PerAxis, Shape, along, matrix_of
from scorefield.operators.base import NoiseStd, Operator
from scorefield.operators.quantise import log_rounded
from scorefield.registry import register
from scorefield.shapes import PerSample, Sample

SIDE = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# Of red, green and blue: brightness Y (BT.601), and Cb, Cr, multiples of blue - Y and red - Y.
COLOURS = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)


class Cosines(Operator):
    """B: the orthonormal cosine transform of blocks of 8 x 8 pixels, of grey or of Y, Cb, Cr.

    >>> Cosines().shape_out((1, 28, 28))
    (1, 32, 32)
    """

    def __init__(self) -> None:
        self._axes = PerAxis(_blocks)

    def shape_out(self, shape: Shape) -> Shape:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ScorefieldError(f"got samples of shape {shape} for jpeg, expected images of 1 or 3 channels: use quantise")
        return (shape[0], *(math.ceil(n / SIDE) * SIDE for n in shape[1:]))

    def __call__(self, x: Sample) -> Tensor:
        self.shape_out(tuple(x.shape[1:]))
        return self._axes(along(x.new_tensor(COLOURS), x, 1) if x.shape[1] == 3 else x)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        x = self._axes.adjoint(y, shape)
        return along(x.new_tensor(COLOURS).mT, x, 1) if shape[0] == 3 else x

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        x = self._axes.pseudo_inverse(y, shape)
        if x is None:
            return super().pseudo_inverse(y, shape)
        return along(torch.linalg.inv(x.new_tensor(COLOURS)), x, 1) if shape[0] == 3 else x


@register("operator", "jpeg")
class JPEG(Operator):
    """y = the rounded coefficients of every block, in the place of its pixels; the noise is that of the coefficients.

    >>> JPEG(50).shape_out((3, 28, 28))
    (3, 32, 32)
    """

    linear, rounds = False, True

    def __init__(self, quality: int) -> None:
        """Take the quality, 1 (worst) to 100, as encoders have it; raises `ScorefieldError` for another."""
        if not 1 <= quality <= 100:
            raise ScorefieldError(f"got a quality of {quality} for jpeg, expected a number from 1 to 100: for example jpeg:20")
        self.quality, self._inner = quality, Cosines()

    def __repr__(self) -> str:
        return f"JPEG({self.quality})"

    def shape_out(self, shape: Shape) -> Shape:
        return self._inner.shape_out(shape)

    def __call__(self, x: Sample) -> Tensor:
        return self.noisy(x, 0.0)

    def noisy(self, x: Sample, noise: Tensor | float) -> Tensor:
        u = self._inner(x) + noise
        steps = self.steps(u)
        origin = torch.zeros_like(u[:1])
        origin[:, 0, ::SIDE, ::SIDE] = 128.0 * SIDE  # black is -128 to an encoder
        return ((u - origin) / steps).round() * steps + origin

    def unrounded(self, x: Sample) -> Tensor:
        return self._inner(x)

    @property
    def inner(self) -> Operator:
        return self._inner

    def steps(self, like: Tensor) -> Tensor:
        """Return the step of every coefficient of `like`, `(batch, channels, height, width)`, without the batch."""
        tables = [table_of(LUMINANCE, self.quality)] + [table_of(CHROMINANCE, self.quality)] * (like.shape[1] - 1)
        return torch.stack(tables).repeat(1, like.shape[2] // SIDE, like.shape[3] // SIDE).to(like)

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        mean, variance, y = mean.double(), variance.double(), y.to(mean.device, torch.float64)
        return log_rounded(mean, variance, y, noise_std, self.steps(mean))

    def shapes_of_file(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shape of a decoded picture: that of the sample, whatever the encoder continued it to."""
        self.shape_out(shape)
        return (shape,)

    def measurement_of(self, data: Tensor, shape: Shape) -> Tensor:
        """Return the coefficients of a decoded picture, `shape`, which are those of its file but for the rounding of pixels."""
        if tuple(data.shape) != shape:
            raise ScorefieldError(f"got a picture of shape {tuple(data.shape)} for {self}, expected {shape}: resize it")
        return self(data.unsqueeze(0))[0]

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `jpeg:QUALITY`, 1 to 100, of grey files or of colours with every pixel (4:4:4)."""
        return cls(texts.whole(text, "the quality of jpeg", "jpeg:20"))


def cosines() -> Tensor:
    """Return the orthonormal cosine transform of 8 numbers, `(8, 8)`."""
    place = torch.arange(SIDE, dtype=torch.float64)
    matrix = torch.cos(math.pi / SIDE * place.unsqueeze(1) * (place + 0.5)) * math.sqrt(2 / SIDE)
    matrix[0] /= math.sqrt(2)
    return matrix


def _blocks(n: int) -> Tensor:
    """Return the matrix of one axis of n pixels: they are continued by the last one, and each 8 are transformed."""
    padded = math.ceil(n / SIDE) * SIDE
    first = torch.arange(padded).unsqueeze(1) // SIDE * SIDE
    return matrix_of((first + torch.arange(SIDE)).clamp(max=n - 1), cosines().repeat(padded // SIDE, 1), n)


def table_of(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Return the steps of a table at a quality, `(8, 8)`, float64.

    >>> table_of(LUMINANCE, 50)[0, :3].tolist()
    [16.0, 11.0, 10.0]
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(table) * percent + 50) // 100).clamp(1, 255).double()
