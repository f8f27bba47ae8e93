"""Numbers kept aside: cells of the training rows that training takes for missing, so that their truth is known and unseen.

Holes in rows that training saw are filled with another error than holes in rows that it never saw: the field knows the rest of
such a row by heart. What is measured on held-out rows then says nothing of them. A number that is kept aside at random is one
more hole in its row, exchangeable with those that were missing at random from the beginning, and its truth is known: so an
interval that is widened as these numbers say holds in the holes, too (`conformal.py`).

Only columns in which some value is missing have such numbers, for the others have no holes; and none is taken that is all a row
has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.table.columns import Column
from scorefield.randomness import SampleRng, stream_of

NUMBERS = ("number", "integer", "date", "datetime")


@dataclass(frozen=True, eq=False)
class Aside:
    """Rows with the numbers that training takes for missing.

    Attributes:
        rows: coordinates in the data's own units, `(n, d)`.
        hidden: which columns of each are kept aside, `(n, columns)`.
    """

    rows: Tensor
    hidden: Tensor

    def __getitem__(self, rows: Tensor) -> Aside:
        """Return those of some rows."""
        return Aside(self.rows[rows], self.hidden[rows])

    def some(self, most: int) -> Aside:
        """Return the first rows that have any, at most so many."""
        return self[self.hidden.any(dim=1).nonzero().flatten()[:most]]


def kept_aside(missing: NDArray[np.bool_], columns: list[Column], share: float, seed: int) -> NDArray[np.bool_]:
    """Return which cells are kept aside: each number of a column with missing ones, with probability `share`.

    Args:
        missing: which cells have no value, `(n, columns)`.
        columns: as the table has them.
        share: in [0, 1).
        seed: of the choice; that of a row does not depend on the others.

    >>> kept_aside(np.array([[True, False], [False, False]]), [{"type": "number"}] * 2, 0.999, 0).tolist()
    [[False, False], [True, False]]
    """
    count, width = missing.shape
    rng = SampleRng(torch.arange(count), stream=stream_of("aside", seed))
    hidden: NDArray[np.bool_] = rng.uniform((width,)).numpy() < share
    numbers = np.array([column["type"] in NUMBERS and "constant" not in column for column in columns], dtype=bool)
    hidden &= ~missing & missing.any(axis=0) & numbers
    hidden[(missing | hidden).all(axis=1)] = False
    return hidden
