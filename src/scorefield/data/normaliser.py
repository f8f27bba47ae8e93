"""The affine map between raw values and model space.

Models see standardised numbers, people see the raw ones. The map between the two is affine and invertible:

    encode(raw) = (raw - shift)/scale          decode(x) = x·scale + shift, clipped to the legal range

Images and volumes map a range to [-1, 1]: the legal one, or the one of the training rows. Vectors map to mean 0 and variance 1,
measured on the training rows alone. A density changes by the constant |det| = prod(scale) under this map, which is what
likelihoods need to report nats of the raw data. What never varies comes back exactly: a column, or a channel, of one value.

A column whose tails are heavy is transformed first, by a monotone g (`transforms.py`): x = (g(raw) - shift)/scale. Its density
changes by scale/g'(raw), which is another number for each value.

Numbers may be of any size that a float64 can have. Squares are taken of numbers divided by a power of two near the largest,
which is exact: 1e-200 and 1e200 have a variance only then.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.data.holes import Holes
from scorefield.data.transforms import Transform, bent, unbent
from scorefield.data.views import ArrayView, pieces
from scorefield.errors import ScorefieldError

Finite = Annotated[float, Bound(allow_inf_nan=False)]
Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False)]
LEAST = 5e-324  # of a float64
SAFE = 1e150  # numbers up to here, and their inverses, have squares


@dataclass(frozen=True)
class Normaliser:
    """The map between raw values and model space.

    Attributes:
        shift: what is subtracted: one number for all coordinates, or one per column of a vector.
        scale: what it is then divided by, likewise.
        low: smallest legal raw value; None for no bound.
        high: largest legal raw value; None for no bound.
        per_channel: whether there is one number per channel of a signal `(..., channels, length)` instead.
        axes: how many axes follow that of the channels, where there is one number per channel.
        fixed: columns or channels that had one value in all training rows, `shift` there: decoding gives exactly that.
        holes: which cells are unknown, NaN in both spaces; None where all are known.
        transforms: pairs (column, what is applied to it before it is shifted and scaled).

    >>> pixels = Normaliser.between(0.0, 255.0)
    >>> pixels.encode(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    >>> pixels.decode(torch.tensor([0.0, 1.5]))
    tensor([127.5000, 255.0000], dtype=torch.float64)
    """

    shift: Annotated[tuple[Finite, ...], Bound(min_length=1)]
    scale: Annotated[tuple[Positive, ...], Bound(min_length=1)]
    low: Finite | None = None
    high: Finite | None = None
    per_channel: bool = False
    axes: Annotated[int, Bound(ge=1)] = 1
    fixed: tuple[Annotated[int, Bound(ge=0)], ...] = ()
    holes: Holes | None = None
    transforms: tuple[tuple[Annotated[int, Bound(ge=0)], Transform], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Normaliser:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ScorefieldError(f"got low {self.low} and high {self.high}, expected low < high: exchange them")
        return self

    @classmethod
    def between(cls, low: float, high: float) -> Normaliser:
        """Return the map of the legal range [low, high] to [-1, 1]."""
        return cls(shift=((low + high) / 2,), scale=((high - low) / 2,), low=low, high=high)

    @classmethod
    def spanning(cls, rows: Tensor | ArrayView, *, per_channel: bool = False) -> Normaliser:
        """Return the map of the range of these rows to [-1, 1], without bounds.

        Args:
            rows: raw images or volumes `(n, channels, ...)`.
            per_channel: one range for each channel, for channels of different units; a channel of one value gets scale 1.

        >>> Normaliser.spanning(torch.tensor([[[2.0]], [[6.0]]])).shift
        (4.0,)
        """
        low, high = ends(rows)
        if not per_channel:
            low, high = low.amin(0, keepdim=True), high.amax(0, keepdim=True)
        scale = torch.where(high > low, high / 2 - low / 2, 1.0)
        fixed = tuple((high == low).nonzero().flatten().tolist())
        shift = torch.where(high > low, low / 2 + high / 2, torch.where(high == low, low, 0.0))  # 0: no number at all
        return cls(tuple(shift.tolist()), tuple(scale.tolist()), per_channel=per_channel, axes=rows.ndim - 2, fixed=fixed)

    @classmethod
    def standard(cls, rows: Tensor | ArrayView, *, common: bool = False, per_channel: bool = False) -> Normaliser:
        """Return the map of these rows to mean 0 and variance 1; NaN do not count.

        Args:
            rows: raw vectors `(n, d)`, or signals `(n, channels, length)`.
            common: use one scale for all columns (the root mean variance), which keeps angles and shapes.
            per_channel: signals: one mean and one scale for all times of a channel.

        Returns:
            The map; a constant column gets scale 1, and is decoded as that constant; one without a number is 0.
        """
        axes = (0, 2) if per_channel else (0,)
        unit = torch.ones(rows.shape[1], dtype=torch.float64)
        with torch.no_grad():
            mean, variance = _moments(rows, axes, unit)
            if not bool((variance.isfinite() & (variance > SAFE**-2)).all()):  # too large or small to be squared, or constant
                unit = _units(rows, axes)
                unit = unit.amax().expand_as(unit) if common else unit
                mean, variance = _moments(rows, axes, unit)
        if common:
            variance, unit = variance.mean(dim=0, keepdim=True), unit[:1]
        scale = torch.where(variance > 0, (variance.sqrt() * unit).clamp(min=LEAST), 1.0)
        fixed = () if common else tuple((variance == 0).nonzero().flatten().tolist())
        return cls(shift=tuple(mean.tolist()), scale=tuple(scale.tolist()), per_channel=per_channel, fixed=fixed)

    def _numbers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and scale with the axes that they need beside x."""
        shift, scale = (torch.tensor(v, dtype=torch.float64, device=x.device) for v in (self.shift, self.scale))
        if not self.per_channel:
            return shift, scale
        return shift.reshape(-1, *(1,) * self.axes), scale.reshape(-1, *(1,) * self.axes)

    def scales(self, shape: tuple[int, ...]) -> Tensor:
        """Return the scale of every coordinate of an example of this shape, `shape`, float64.

        >>> Normaliser(shift=(0.0, 0.0), scale=(1.0, 2.0), per_channel=True, axes=2).scales((2, 1, 2)).tolist()
        [[[1.0, 1.0]], [[2.0, 2.0]]]
        """
        scale: Tensor = self._numbers(torch.zeros(()))[1].expand(shape)
        return scale

    def shifts(self, shape: tuple[int, ...]) -> Tensor:
        """Return the shift of every coordinate of an example of this shape, `shape`, float64."""
        shift: Tensor = self._numbers(torch.zeros(()))[0].expand(shape)
        return shift

    def encode(self, raw: Tensor) -> Tensor:
        """Return raw values `(..., d)`, signals or images in model space, float32."""
        if raw.dtype == torch.uint8 and raw.numel() > 2**16 and len(self.scale) == 1:
            levels = torch.arange(256, dtype=torch.uint8, device=raw.device)
            if _in_float32(levels, self.shift[0], self.scale[0]).equal(self.encode(levels)):  # then half the memory does
                return _in_float32(raw, self.shift[0], self.scale[0])
        if self.transforms:
            raw = bent(raw, self.transforms)
        shift, scale = self._numbers(raw)
        if not all(1 / SAFE < size < SAFE for size in self.scale):
            unit = _power(scale)
            raw, shift, scale = raw.double() / unit, shift / unit, scale / unit
        x = ((raw - shift) / scale).float()
        return x if self.holes is None else self.holes.hide(x)

    def exactly(self, raw: Tensor) -> Tensor:
        """Return raw vectors `(..., d)` in model space, float64: the float32 of `encode` rounds them."""
        shift, scale = self._numbers(raw)
        return (bent(raw, self.transforms) - shift) / scale

    def log_slopes(self, raw: Tensor) -> Tensor:
        """Return the logarithm of the derivative of the map, of each coordinate of raw vectors `(..., d)`, float64."""
        slopes = -self.scales(tuple(raw.shape[-1:])).log().to(raw.device).expand(raw.shape).clone()
        for place, transform in self.transforms:
            slopes[..., place] += transform.log_slope(raw[..., place])
        return slopes

    def units(self, shape: tuple[int, ...]) -> Tensor:
        """Return what a distance of 1 in model space is in raw values, in the middle of the data, `shape`, float64."""
        if not self.transforms:
            return self.scales(shape)
        return (-self.log_slopes(self.decode(torch.zeros(shape, dtype=torch.float64)))).exp()

    def decode(self, x: Tensor) -> Tensor:
        """Return model values as raw values, float64, clipped to the legal range when there is one; NaN in absent cells."""
        shift, scale = self._numbers(x)
        raw = x * scale + shift
        if self.fixed:
            varies = torch.ones(shift.numel(), dtype=torch.bool, device=x.device)
            varies[list(self.fixed)] = False
            raw = torch.where(varies.reshape(shift.shape), raw, shift)
        if self.transforms:
            raw = unbent(raw, self.transforms)
        if not (self.low is None and self.high is None):
            raw = raw.clamp(self.low, self.high)
        return raw if self.holes is None else self.holes.hide(raw)

    def visible(self, raw: Tensor) -> Tensor:
        """Return raw values of images or volumes from black, 0, to white, 1: the ends of the range that was mapped."""
        if self.fixed and self.low is not None and self.high is not None:
            return (raw - self.low) / (self.high - self.low)  # a channel of one value has no range of its own
        shift, scale = self._numbers(raw)
        return (raw - (shift - scale)) / (2 * scale)


def _in_float32(raw: Tensor, shift: float, scale: float) -> Tensor:
    """Return (raw - shift)/scale, every step rounded to float32, in one copy."""
    return raw.float().sub_(shift).div_(scale)


def ends(rows: Tensor | ArrayView) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each channel of rows `(n, channels, ...)`, float64, over known cells."""
    low = torch.full((rows.shape[1],), torch.inf, dtype=torch.float64)
    high = -low
    for piece in pieces(rows):
        x = piece.double().transpose(0, 1).flatten(1)
        low = torch.minimum(low, torch.where(x.isnan(), torch.inf, x).amin(1))
        high = torch.maximum(high, torch.where(x.isnan(), -torch.inf, x).amax(1))
    return low, high


def _power(size: Tensor) -> Tensor:
    """Return a power of two near each positive number, by which others are divided without rounding them."""
    exponent: Tensor = torch.frexp(size).exponent.clamp(-1000, 1000)
    return torch.ldexp(torch.ones_like(size), exponent)


def _units(rows: Tensor | ArrayView, axes: tuple[int, ...]) -> Tensor:
    """Return a power of two near the largest number of each column."""
    largest = torch.zeros(rows.shape[1], dtype=torch.float64)
    for piece in pieces(rows):
        largest = torch.maximum(largest, piece.double().abs().nan_to_num(nan=0.0).amax(dim=axes))
    return _power(torch.where(largest > 0, largest, 1.0))


def _moments(rows: Tensor | ArrayView, axes: tuple[int, ...], unit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each column, and its variance in squares of the unit."""
    by = unit.unsqueeze(-1) if len(axes) > 1 else unit
    first = _firsts(rows) / unit  # differences from it are exactly 0 when constant
    start = first.unsqueeze(-1) if len(axes) > 1 else first
    count, mean, squares = torch.zeros_like(unit), torch.zeros_like(unit), torch.zeros_like(unit)
    for piece in pieces(rows):  # joined as by Chan, Golub, LeVeque (1979)
        more, middle, variance = _summary(piece.double() / by - start, axes)
        step, total = middle - mean, (count + more).clamp(min=1)
        squares = squares + variance * more + step.square() * (count * more / total)
        count, mean = count + more, mean + step * (more / total)
    return (first + mean) * unit, squares / count.clamp(min=1)


def _firsts(rows: Tensor | ArrayView) -> Tensor:
    """Return the first number of each column, 0 of one without, `(columns,)`, float64."""
    first = rows[:1].double().reshape(rows.shape[1], -1)[:, 0]
    for piece in pieces(rows) if bool(first.isnan().any()) else ():
        columns = piece.double().reshape(*piece.shape[:2], -1).transpose(0, 1).flatten(1)
        known = ~columns.isnan()
        found = columns.gather(1, known.int().argmax(dim=1, keepdim=True))[:, 0]
        first = torch.where(first.isnan(), found, first)
        if not bool(first.isnan().any()):
            break
    return first.nan_to_num(nan=0.0)


def _summary(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many numbers each column has, their mean and their variance, 0 where there are none."""
    unknown = x.isnan()
    if not bool(unknown.any()):
        return torch.full((x.shape[1],), x.numel() // x.shape[1]).double(), x.mean(dim=axes), x.var(dim=axes, correction=0)
    count = (~unknown).sum(dim=axes).double()
    mean = x.nansum(dim=axes) / count.clamp(min=1)
    away = x - (mean.unsqueeze(-1) if len(axes) > 1 else mean)
    return count, mean, away.square().nansum(dim=axes) / count.clamp(min=1)
