"""Crop: only a window of a sample is measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

from scorefield.errors import ScorefieldError
from scorefield.operators.axes import Shape, axes_of, places_of, with_places
from scorefield.operators.base import Operator
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "crop")
class Crop(Operator):
    """y = the places of x inside a window.

    >>> import torch
    >>> Crop(2)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([[2., 3.]])
    """

    def __init__(self, size: int | Sequence[int], start: int | Sequence[int] | None = None) -> None:
        """Take the window.

        Args:
            size: places along every axis, or one number for each: height, width.
            start: its first place, likewise; None for the window in the middle.

        Raises:
            ScorefieldError: a size below 1, or a start below 0.
        """
        self.size, self.start = _numbers(size), None if start is None else _numbers(start)
        if min(self.size) < 1 or (self.start is not None and min(self.start) < 0):
            raise ScorefieldError(f"got {self}, expected a size of at least 1 and a start of at least 0: for example crop:16")

    def __repr__(self) -> str:
        place = "" if self.start is None else "".join(f"+{first}" for first in self.start)
        return f"Crop({'x'.join(map(str, self.size))}{place})"

    def shape_out(self, shape: Shape) -> Shape:
        return with_places(shape, tuple(size for _, size in self._window(shape)))

    def __call__(self, x: Sample) -> Tensor:
        shape = tuple(x.shape[1:])
        for axis, (first, size) in zip(axes_of(shape), self._window(shape), strict=True):
            x = x.narrow(axis, first, size)
        return x

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        window = self._window(shape)
        margins = [(first, n - first - size) for (first, size), n in zip(window, places_of(shape), strict=True)]
        return pad(y, [count for margin in reversed(margins) for count in margin])

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.adjoint(y, shape)

    def _window(self, shape: Shape) -> list[tuple[int, int]]:
        """Return first place and size along each axis; raises `ScorefieldError` for a window that is not inside the sample."""
        places = places_of(shape)
        size, start = _each(self.size, len(places), self, shape), self.start
        first = (
            [(n - s) // 2 for n, s in zip(places, size, strict=True)]
            if start is None
            else _each(start, len(places), self, shape)
        )
        if any(a < 0 or a + s > n for a, s, n in zip(first, size, places, strict=True)):
            raise ScorefieldError(
                f"got {self} for samples of shape {shape}, expected a window inside {'x'.join(map(str, places))} places: make "
                "it smaller, or move it"
            )
        return list(zip(first, size, strict=True))

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `crop:SIZE`, `crop:HEIGHTxWIDTH` or `crop:HEIGHTxWIDTH+TOP+LEFT`."""
        if not re.fullmatch(r"\d+(x\d+)*(\+\d+)*", text):
            raise ScorefieldError(
                f"got {text!r} for the window of crop, expected its size, and behind + where it starts: for example crop:16, "
                "crop:16x20 or crop:16x20+4+0"
            )
        size, *start = text.split("+")
        return cls([int(n) for n in size.split("x")], [int(n) for n in start] or None)


def _numbers(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)


def _each(numbers: tuple[int, ...], axes: int, operator: Operator, shape: Shape) -> tuple[int, ...]:
    """Return one number for each axis: one for all is repeated."""
    if len(numbers) not in (1, axes):
        raise ScorefieldError(
            f"got {operator} for samples of shape {shape}, expected {axes} numbers, or one for all axes: correct it"
        )
    return numbers * axes if len(numbers) == 1 else numbers
