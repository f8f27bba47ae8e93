"""Groups: which coordinates of a row belong together, as those of one column, and whether its value is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.data.table.columns import Column, width

MOST = 128  # coordinates; a matrix of as many rows and columns is factored for each row that is given some


@dataclass(frozen=True)
class Groups:
    """Which coordinates of a vector are those of one column.

    Attributes:
        widths: of each column, how many coordinates it has.
        missing: of each column, which of its own coordinates is above 0, in model space, where its value is missing; None
            where none says so.
        numbers: of each column, whether its first coordinate is a number, which stands for none where the value is missing.

    >>> Groups((1, 2), (None, 1), (True, True)).column
    tensor([0, 1, 1])
    """

    widths: tuple[int, ...]
    missing: tuple[int | None, ...]
    numbers: tuple[bool, ...]

    @classmethod
    def of(cls, columns: list[Column]) -> Groups:
        """Return those of a table's columns.

        >>> Groups.of([{"name": "a", "type": "number", "missing": True}])
        Groups(widths=(2,), missing=(1,), numbers=(True,))
        """
        widths = tuple(map(width, columns))
        says = zip(columns, widths, strict=True)
        missing = tuple(size - 1 if column["missing"] and size > 1 else None for column, size in says)
        return cls(widths, missing, tuple(column["type"] != "category" for column in columns))

    @classmethod
    def single(cls, size: int) -> Groups:
        """Return columns of one coordinate each."""
        return cls((1,) * size, (None,) * size, (True,) * size)

    @cached_property
    def column(self) -> Tensor:
        """The number of the column of each coordinate, `(d,)`."""
        return torch.arange(len(self.widths)).repeat_interleave(torch.tensor(self.widths))

    @cached_property
    def says(self) -> Tensor:
        """Whether each coordinate says that a value is missing, `(d,)`, bool."""
        found, first = torch.zeros(sum(self.widths), dtype=torch.bool), 0
        for size, own in zip(self.widths, self.missing, strict=True):
            if own is not None:
                found[first + own] = True
            first += size
        return found

    def without_fillers(self, x: Tensor) -> Tensor:
        """Return rows `(n, d)` of model space with NaN for the numbers that stand where a value is missing.

        >>> Groups((2,), (1,), (True,)).without_fillers(torch.tensor([[0.0, 1.5], [0.7, -0.5]]))
        tensor([[    nan,  1.5000],
                [ 0.7000, -0.5000]])
        """
        found, first = x.clone(), 0
        for size, own, number in zip(self.widths, self.missing, self.numbers, strict=True):
            if own is not None and number:
                found[:, first] = found[:, first].masked_fill(x[:, first + own] > 0, torch.nan)
            first += size
        return found

    @property
    def can_be_given(self) -> bool:
        """Whether there are two columns, of which one may be given, and not so many coordinates that it would cost too much."""
        return sum(size > 0 for size in self.widths) > 1 and sum(self.widths) <= MOST

    def known(self, x: Tensor) -> Tensor:
        """Return whether each column is known in rows `(n, d)` of model space, `(n, columns)`; one without coordinates is."""
        column, says = self.column.to(x.device), self.says.to(x.device)
        unknown = x.isnan() | (says & (x > 0))
        counts = torch.zeros(len(x), len(self.widths), device=x.device).index_add_(1, column, unknown.float())
        return counts == 0

    def spread(self, columns: Tensor) -> Tensor:
        """Return what is said of columns, `(n, columns)`, of their coordinates, `(n, d)`."""
        return columns[:, self.column.to(columns.device)]
