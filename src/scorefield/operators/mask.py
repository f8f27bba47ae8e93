"""Masks: only some numbers of a sample are measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError, unknown
from scorefield.operators import text as texts
from scorefield.operators.axes import Shape, places_of
from scorefield.operators.base import Operator
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import register
from scorefield.shapes import Sample, flat

SIDES = {"left": (-1, False), "right": (-1, True), "top": (-2, False), "bottom": (-2, True)}  # axis, and whether its end
EXAMPLES = "mask:hole.png, mask:left, mask:box:0.5 or mask:random:0.5"


@register("operator", "mask")
class Mask(Operator):
    """y = the numbers of x that are kept, in a row.

    >>> Mask([True, False, True])(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    def __init__(self, keep: Tensor | Sequence[bool] | Callable[[Shape], Tensor], name: str = "") -> None:
        """Take what is kept.

        Args:
            keep: True or False for each number of a sample, or for each place of it, in all channels alike; or a function from
                the shape of a sample's places to that, as of `hidden_side` and the others below.
            name: how the mask is shown.

        Raises:
            ScorefieldError: a mask that keeps nothing.
        """
        self.keep = keep if callable(keep) else torch.as_tensor(keep).detach().bool()
        self.name = name
        if isinstance(self.keep, Tensor) and not bool(self.keep.any()):
            raise self._nothing()
        self._indices: dict[Shape, Tensor] = {}

    def __repr__(self) -> str:
        if isinstance(self.keep, Tensor) and not self.name:
            return f"Mask({int(self.keep.sum())} of {self.keep.numel()})"
        return f"Mask({self.name or 'by shape'})"

    def kept(self, shape: Shape) -> Tensor:
        """Return which numbers of a sample are measured, `shape`, bool; raises `ScorefieldError` where it does not suit."""
        keep = self.keep if isinstance(self.keep, Tensor) else self.keep(places_of(shape))
        if keep.ndim > len(shape) or tuple(shape[len(shape) - keep.ndim :]) != tuple(keep.shape):
            raise ScorefieldError(
                f"got a mask of shape {tuple(keep.shape)} for samples of shape {shape}, expected the same size: resize it"
            )
        if not bool(keep.any()):
            raise self._nothing()
        return keep.expand(shape)

    def shape_out(self, shape: Shape) -> Shape:
        return (len(self._index(shape)),)

    def __call__(self, x: Sample) -> Tensor:
        return flat(x).index_select(1, self._index(tuple(x.shape[1:])).to(x.device))

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        rows = y.new_zeros(len(y), math.prod(shape))
        return rows.index_copy(1, self._index(shape).to(y.device), y).reshape(-1, *shape)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.adjoint(y, shape)

    def _index(self, shape: Shape) -> Tensor:
        if shape not in self._indices:
            self._indices[shape] = self.kept(shape).flatten().nonzero()[:, 0]
        return self._indices[shape]

    def _nothing(self) -> ScorefieldError:
        return ScorefieldError(
            f"got a mask {self.name} that keeps nothing, expected at least one number that is measured: invert it"
        )

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `mask:left`, `mask:right`, `mask:top`, `mask:bottom`, `mask:box:SHARE`, `mask:random:SHARE`, or `mask:FILE`
        with white on what is hidden.

        The others hide that half; a box in the middle, of this share of every side; every place with this probability, by the
        seed. Of an array what is not 0 is hidden.
        """
        if texts.is_file(text):
            hole = texts.read_array(text, "a mask, a picture whose white pixels are hidden")
            keep = hole < 128 if text.lower().endswith(texts.PICTURES) else hole == 0
            return cls(lambda places: keep, f"of {text}")  # as a function, so that its size is checked before what it keeps
        kind, _, share = text.partition(":")
        if kind in SIDES and not share:
            return cls(hidden_side(kind), f"without the {kind} half")
        if kind in ("box", "random"):
            part = texts.number(share, f"the share of mask:{kind}", f"mask:{kind}:0.5")
            if not 0 < part < 1:
                raise ScorefieldError(
                    f"got a share of {part:g} for mask:{kind}, expected a number between 0 and 1: for example mask:{kind}:0.5"
                )
            return cls(hidden_box(part) if kind == "box" else hidden_at_random(part, seed), f"without {kind} {part:g}")
        if not text:
            raise ScorefieldError(f"got mask without what it hides, expected it behind a colon: for example {EXAMPLES}")
        raise ScorefieldError(f"{unknown('mask', text, [*SIDES, 'box:SHARE', 'random:SHARE', 'FILE.png', 'FILE.npy'])}")


def hidden_side(side: str) -> Callable[[Shape], Tensor]:
    """Return the mask that hides one half: of an odd number of places the middle one is kept.

    Args:
        side: "left" or "right" of the last axis, "top" or "bottom" of the one before.

    >>> Mask(hidden_side("left")).kept((1, 1, 4)).tolist()
    [[[False, False, True, True]]]
    """
    axis, end = SIDES[side]

    def keep(places: Shape) -> Tensor:
        if len(places) < -axis:
            raise ScorefieldError(
                f"got mask:{side} for samples with one axis of places, expected left or right: use one of them"
            )
        n = places[axis]
        kept = torch.arange(n) < n - n // 2 if end else torch.arange(n) >= n // 2
        return kept.reshape(-1, *(1,) * (-axis - 1)).expand(places)

    return keep


def hidden_box(share: float) -> Callable[[Shape], Tensor]:
    """Return the mask that hides a box in the middle, of this share of every side, in (0, 1)."""

    def keep(places: Shape) -> Tensor:
        kept = torch.zeros(places, dtype=torch.bool)
        for axis, n in enumerate(places):
            side = round(share * n)
            place = torch.arange(n).reshape(-1, *(1,) * (len(places) - axis - 1))
            first = (n - side) // 2
            kept = kept | (place < first) | (place >= first + side)
        if bool(kept.all()):
            raise ScorefieldError(f"got mask:box:{share:g} for {places} places, which hides nothing, expected a larger share")
        return kept

    return keep


def hidden_at_random(share: float, seed: int) -> Callable[[Shape], Tensor]:
    """Return the mask that hides every place with this probability, by the seed, in all channels alike."""

    def keep(places: Shape) -> Tensor:
        return SampleRng([seed], stream=stream_of("mask")).uniform(places)[0] >= share

    return keep
