"""Shapes: the names of the tensors that travel through the hourglass, and the one broadcast between them.

A sample is `(batch, *shape)` with any shape: a vector, an image, a signal. Everything that depends on the time or the noise
level is one number per sample, `(batch,)`. `over` is the only place where the second meets the first; nothing else in the
package reshapes a per-sample number, so nothing else knows how many axes a sample has.

The aliases are plain tensors to Python and to mypy. The tests check the shapes that they stand for at every call.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TypeAlias

from torch import Tensor

from scorefield.errors import ScorefieldError

Sample: TypeAlias = Tensor  # (batch, *shape)
PerSample: TypeAlias = Tensor  # (batch,)

FEW = 8  # columns that are added one by one: a sum along rows so short takes three times as long

__all__ = ["PerSample", "Sample", "check_rows", "flat", "over", "total"]


def over(number: PerSample, x: Sample) -> Tensor:
    """Give a per-sample number the axes of a sample: `(batch,)` -> `(batch, 1, ..., 1)`, in the dtype of `x`.

    Args:
        number: one number per sample, shape `(batch,)`, on the device of `x`.
        x: any sample, shape `(batch, *shape)`.

    Returns:
        The same numbers, shape `(batch, 1, ..., 1)`.

    >>> import torch
    >>> over(torch.arange(2.), torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 1, 1, 1])
    """
    return number.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def flat(x: Sample) -> Tensor:
    """Lay every sample out as one row: `(batch, *shape)` -> `(batch, d)`."""
    return x.reshape(x.shape[0], -1)  # len(x) would be a constant of a traced graph


def total(x: Sample) -> PerSample:
    """Sum over everything but the batch: the only correct reduction of a squared norm, whatever the shape.

    >>> import torch
    >>> total(torch.ones(2, 3, 4))
    tensor([12., 12.])
    """
    rows = flat(x)
    if 0 < rows.shape[1] <= FEW:
        return reduce(add, rows.unbind(1))
    return rows.sum(dim=1)


def check_rows(batch: int, *, cond: Tensor | None = None, seeds: int | None = None) -> None:
    """Refuse conditioning or seeds that are not one per sample: a single one would be shared by all of them without a word.

    Args:
        batch: how many samples.
        cond: what the field is conditioned on, or None.
        seeds: how many seeds, where they were not counted before.

    Raises:
        ScorefieldError: another number of either, or conditioning that is no tensor.
    """
    if seeds not in (None, batch):
        raise ScorefieldError(f"got {seeds} seeds for {batch} samples, expected one for each: make SampleRng(range({batch}))")
    if cond is None:
        return
    if not isinstance(cond, Tensor):
        raise ScorefieldError(
            f"got cond as a {type(cond).__name__}, expected a tensor with one row per sample: torch.tensor(cond)"
        )
    if cond.ndim == 0 or len(cond) != batch:
        raise ScorefieldError(
            f"got cond of shape {tuple(cond.shape)} for {batch} samples, expected one row for each: repeat it, or leave it out"
        )
