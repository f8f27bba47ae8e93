"""Subsampling: only every k-th place is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.axes import Shape, axes_of, places_of, with_places
from scorefield.operators.base import Operator
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "subsample")
class Subsample(Operator):
    """y = x at start, start + k, start + 2k, ..., along every axis of places, or at given places along the last one.

    >>> Subsample(2)(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    tensor([[1., 3., 5.]])
    """

    def __init__(self, every: int | None = None, *, start: int = 0, places: Sequence[int] | Tensor | None = None) -> None:
        """Take one of two.

        Args:
            every: k >= 2.
            start: the first place, in 0..k-1.
            places: those along the last axis that are measured, each once, in this order.

        Raises:
            ScorefieldError: both or neither, a k below 2, a start that is not below k, or places that are none, negative, or
                not different.
        """
        if (every is None) == (places is None):
            raise ScorefieldError(
                "got both or neither of every and places for a subsample, expected one of them: leave one out"
            )
        if every is not None and (every < 2 or not 0 <= start < every):
            raise ScorefieldError(
                f"got every {every} from {start} for a subsample, expected k >= 2 and a start in 0..k-1: for "
                "example subsample:4"
            )
        self.every, self.start = every, start
        self.places = None if places is None else _whole(torch.as_tensor(places))

    def __repr__(self) -> str:
        if self.places is not None:
            return f"Subsample({len(self.places)} places)"
        return f"Subsample({self.every}{f' from {self.start}' if self.start else ''})"

    def shape_out(self, shape: Shape) -> Shape:
        return with_places(shape, tuple(len(index) for index in self._indices(shape)))

    def __call__(self, x: Sample) -> Tensor:
        shape = tuple(x.shape[1:])
        for axis, index in zip(axes_of(shape), self._indices(shape), strict=True):
            x = x.index_select(axis, index.to(x.device))
        return x

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        for axis, index in zip(axes_of(shape), self._indices(shape), strict=True):
            full = y.new_zeros([*y.shape[:axis], shape[axis - 1], *y.shape[axis + 1 :]])
            y = full.index_copy(axis, index.to(y.device), y)
        return y

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.adjoint(y, shape)

    def _indices(self, shape: Shape) -> list[Tensor]:
        """Return the places that are measured along each axis; raises `ScorefieldError` for such as a sample does not have."""
        places = places_of(shape)
        if self.places is not None:
            if int(self.places.max()) >= places[-1]:
                raise ScorefieldError(
                    f"got place {int(self.places.max())} for {self} of samples of shape {shape}, expected places in "
                    f"0..{places[-1] - 1}: correct them"
                )
            return [*(torch.arange(n) for n in places[:-1]), self.places]
        assert self.every is not None
        if self.every > min(places):
            raise ScorefieldError(
                f"got {self} for samples of shape {shape}, expected at least {self.every} places along every axis: choose a "
                "smaller number"
            )
        return [torch.arange(self.start, n, self.every) for n in places]

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `subsample:K`, `subsample:K:START`, or `subsample:FILE` with an array of places."""
        if text.lower().endswith(texts.ARRAYS):
            return cls(places=texts.read_array(text, "an array of places"))
        every, _, start = text.partition(":")
        example = "subsample:4, subsample:4:1 or subsample:places.npy"
        first = texts.whole(start, "the start of subsample", example) if start else 0
        return cls(texts.whole(every, "the step of subsample", example), start=first)


def _whole(places: Tensor) -> Tensor:
    """Return places as int64; raises `ScorefieldError` for what are none."""
    index = places.detach().flatten().long()
    if not len(index) or not index.equal(places.flatten()) or int(index.min()) < 0 or len(set(index.tolist())) < len(index):
        raise ScorefieldError(
            "got places for a subsample that are none, not whole, negative or not different, expected an index each"
        )
    return index
