"""Holes: cells of vectors, signals and images whose value is unknown, which raw values hold as NaN.

A cell is one number of an example: a pixel's channel, a coordinate. What is missing here and there (clouds, dropped samples,
masked values) leaves examples that know different cells; training counts the known ones alone. What is missing everywhere (land
on a map of the sea, the gap of a detector) was never seen: such a cell is absent, and comes back as NaN in every sample.

What is learned of the known cells is their law among examples that know them. It is that of all examples only if which cells
are known says nothing of their values; where high values are missing more often, they stay so in samples.

Tables say of a value that it is missing in a coordinate of its own (`columns.py`), so they have no holes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.data.views import ArrayView, pieces
from scorefield.errors import ScorefieldError


@dataclass(frozen=True)
class Holes:
    """Which cells of the training examples are unknown.

    Attributes:
        known: share of all their cells that are known.
        whole: how many of them know every cell that any of them knows.
        runs: lengths of the runs of cells in the order of a flattened example, in turn of such as some example knows and of
            absent ones: (3, 2, 5) for ten cells of which the fourth and the fifth are absent.

    >>> Holes(known=0.7, whole=4, runs=(1, 2)).absent
    tensor([False,  True,  True])
    """

    known: Annotated[float, Bound(gt=0, le=1)]
    whole: Annotated[int, Bound(ge=0)]
    runs: Annotated[tuple[Annotated[int, Bound(ge=0)], ...], Bound(min_length=1)]

    @cached_property
    def absent(self) -> Tensor:
        """Whether each cell is absent, `(d,)`, bool."""
        return torch.arange(len(self.runs)).remainder(2).bool().repeat_interleave(torch.tensor(self.runs))

    @property
    def absent_cells(self) -> int:
        """How many cells are absent."""
        return sum(self.runs[1::2])

    def hide(self, values: Tensor) -> Tensor:
        """Return values `(..., *shape)` with NaN in absent cells."""
        if not self.absent_cells:
            return values
        absent = self.absent.to(values.device)
        return values.reshape(-1, len(absent)).masked_fill(absent, torch.nan).reshape(values.shape)

    def note(self, examples: int) -> str:
        """Return what a person should know of the holes of so many training examples."""
        size, absent, share = sum(self.runs), self.absent_cells, 100 * (1 - self.known)
        shown = f"{share:.1f}" if share >= 0.05 else f"{share:.1g}"
        said = f"{shown}% of the training examples' cells are unknown (NaN): training goes around them."
        if absent:
            one = absent == 1
            said += f" {absent:,} of {size:,} cells {'is' if one else 'are'} unknown in every training example and "
            said += f"{'comes' if one else 'come'} back so."
        if not self.whole and self.known < 1 - absent / size:
            said += (
                f" None of the {examples:,} examples knows all the {'other ' * bool(absent)}cells: samples, which do, are put "
                "together from what is known of their parts."
            )
        return said


def holes_of(train: Tensor | ArrayView, held_out: Tensor | ArrayView, name: str) -> Holes | None:
    """Return the holes of the two parts of the data, None where every cell is known.

    Raises:
        ScorefieldError: no training example knows any cell.
    """
    if not train.is_floating_point() or not any(
        bool(piece.isnan().any()) for part in (train, held_out) for piece in pieces(part)
    ):
        return None
    size = train.shape[1:].numel()
    count, whole, ever = 0, 0, torch.zeros(size, dtype=torch.bool)
    for piece in pieces(train):
        known = ~piece.reshape(len(piece), -1).isnan()
        count, ever = count + int(known.sum()), ever | known.any(dim=0)
    if not count:
        raise ScorefieldError(f"got {name!r} with NaN alone, expected numbers among them: check how it was written")
    for piece in pieces(train):
        whole += int((~piece.reshape(len(piece), -1).isnan() | ~ever).all(dim=1).sum())
    return Holes(known=count / (len(train) * size), whole=whole, runs=_runs(ever.tolist()))


def _runs(ever: Sequence[bool]) -> tuple[int, ...]:
    """Return the lengths of runs of equal values, of which the first run is of True and may be empty."""
    lengths = [(value, len(list(same))) for value, same in itertools.groupby(ever)]
    return tuple([0] * (not lengths[0][0]) + [length for _, length in lengths])


def with_one_nan(piece: Tensor) -> Tensor:
    """Return numbers with one pattern of bits for every NaN, of which floats have many."""
    return piece.masked_fill(piece.isnan(), torch.nan) if piece.is_floating_point() else piece
