"""The split into training and held-out rows, which never moves.

It walks through the rows sorted by label, and by a random number within a label, and holds out rows at even distances. Each
label is then held out in proportion to within one row, without a loop over labels. The random number of a row is a pure
function of the seed and the row's index. A label of which no row would be left to train on keeps one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.randomness import SampleRng, stream_of


def split(n: int, fraction: float, labels: Tensor | None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Divide n rows into training and held-out ones, each label in proportion to within one row, none of it held out whole.

    Args:
        n: number of rows, at least 2.
        fraction: share to hold out, in (0, 1); at least one row lies in each part.
        labels: int64 `(n,)`, or None.
        seed: another seed is another split.

    Returns:
        Training rows and held-out rows, sorted.

    Raises:
        ScorefieldError: fewer than two rows, a fraction outside (0, 1), or another number of labels.

    >>> train, held = split(10, 0.2, None)
    >>> len(train), len(held)
    (8, 2)
    """
    if n < 2 or not 0 < fraction < 1 or (labels is not None and len(labels) != n):
        got = f"got {n} rows, {n if labels is None else len(labels)} labels and fraction {fraction}"
        raise ScorefieldError(f"{got}, expected at least 2 rows, a label for each, and a fraction in (0, 1): correct them")
    order = SampleRng(range(n), stream=stream_of("split", seed)).uniform().argsort()
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    count = min(max(round(n * fraction), 1), n - 1)
    step = torch.arange(n + 1) * count // n  # rises by one `count` times, at even distances
    held = step[1:] > step[:-1]
    if labels is not None:
        held = _one_of_each(labels[order], held)
    return order[~held].sort().values, order[held].sort().values


def _one_of_each(labels: Tensor, held: Tensor) -> Tensor:
    """Return which rows, sorted by label, are held out once every label has a training row; at least one still is."""
    values, places, sizes = torch.unique_consecutive(labels, return_inverse=True, return_counts=True)
    in_training = torch.zeros(len(values), dtype=torch.long).scatter_add_(0, places, (~held).long())
    first = sizes.cumsum(0) - sizes
    still_held = held.clone()
    still_held[first[in_training == 0]] = False
    if not bool(still_held.any()):
        largest = int(sizes.argmax())
        still_held[first[largest] + sizes[largest] - 1] = True  # if every label has one row, one label has none left
    return still_held
