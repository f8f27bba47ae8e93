"""Copies: examples that repeat an earlier one, exactly or nearly.

Near copies are found without comparing all pairs: 32 signs of random projections agree for two close vectors far more often
than for two distant ones, P(one sign agrees) = 1 - angle/pi, so copies meet in one of eight sorted lists of such codes, and
only neighbours there are compared in full.

Rows of rounded values are equal by chance, the more so the more the columns depend on each other. How often is seen in rows
that are nearly equal. Let E pairs of rows be equal by chance, and let m neighbouring values of each rounded column be joined.
Where the density hardly changes over 2·m steps, and the rows there have D dimensions,

    S_m = E·(m^D - 1)    pairs of different rows share a cell of m steps,    with    2^D = S_2m/S_m,    at least 2

Where columns are functions of each other, or their noise is no larger than a step, this E is too small by up to ten times.
Rows equal in excess of ten times E, by the Poisson law, are copies. Columns that are not on a grid are compared exactly.

Reference: Charikar (2002), "Similarity estimation techniques from rounding algorithms".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.base import PIECE, DataIssue, Dataset
from scorefield.data.doctor.survey import FEATURES, Survey, encoded, where
from scorefield.data.table.columns import width
from scorefield.data.table.granularity import granularity_of
from scorefield.randomness import SampleRng, stream_of

NEAR = 0.1  # of the data's standard deviation: the root mean square difference of near copies
LEAST_DIMENSION = 16  # below it neighbours are close by chance
TABLES, BITS = 8, 32
COMPARED_AT_ONCE = 64  # pairs of whole examples
SURE = 0.001  # the probability of as many equal rows by chance, below which some of them are copies
TIMES = 10.0  # by which the expected number may be too small
CHANCE = 0.01  # pairs of equal rows that independent columns would give, from which on equal rows are no surprise
LEAK = ", which is trained on: a leak"


@dataclass(frozen=True)
class Copies:
    """Which examples repeat an earlier one, as places among those looked at: later -> earlier.

    Attributes:
        exact: with equal bytes; empty where rows are equal by chance.
        near: with a small difference.
        by_chance: what is to be said of rows that are equal by chance; empty if none are.
    """

    exact: dict[int, int]
    near: dict[int, int]
    by_chance: tuple[str, ...] = ()


def find_copies(data: Dataset, seen: Survey) -> Copies:
    """Return the copies among the examples that were looked at."""
    first: dict[bytes, int] = {}
    exact = {i: at for i, digest in enumerate(seen.digests) if (at := first.setdefault(digest, i)) != i}
    by_chance: tuple[str, ...] = ()
    if exact and (why := _why_by_chance(data, seen, exact)):
        held = len({later for later, earlier in exact.items() if earlier < seen.training <= later})
        said = f"{len(exact):,} of {len(seen.rows):,} rows equal an earlier one, {held:,} of them held-out ones"
        by_chance = (f"{said}: {why}, so these are no leaks.",)
        exact = {}
    continuous = all(column.get("continuous", True) for column in data.columns or ())
    return Copies(exact, _near(data, seen, exact) if continuous else {}, by_chance)


def _why_by_chance(data: Dataset, seen: Survey, exact: dict[int, int]) -> str:
    """Return why rows are equal by chance, in words; "" where they are copies."""
    if data.kind not in ("vector", "table") or math.prod(data.shape) > FEATURES:
        return ""
    if (expected := _equal_by_chance(data, seen, exact)) > CHANCE and not _in_excess(len(exact), expected):
        return f"columns of few values repeat by chance (over {expected:.2g} times here)"
    expected = _equal_on_grid(data, seen, exact)
    if expected > 0 and not _in_excess(len(exact), expected):
        return f"rounded values repeat by chance (about {max(expected, 1):.2g} times here)"
    return ""


def _in_excess(count: int, expected: float) -> bool:
    """Whether there are more equal rows than chance gives, were it ten times what is expected, by the Poisson law."""
    return float(torch.special.gammainc(torch.tensor(float(count)), torch.tensor(TIMES * expected))) <= SURE


def _equal_on_grid(data: Dataset, seen: Survey, exact: dict[int, int]) -> float:
    """Return how many pairs of rows are equal by chance, by the rows that are nearly equal; 0 where no column is rounded."""
    kept = seen.rows[[i for i in range(len(seen.rows)) if i not in exact]]
    x = torch.cat([data.train[kept[kept < len(data.train)]], data.held_out[kept[kept >= len(data.train)] - len(data.train)]])
    rows = x.flatten(1).double().numpy()
    places = [_places(rows[:, i], step) for i, step in enumerate(_steps(data, rows))]
    if all(grid is None for grid, _ in places):
        return 0.0
    shared = {m: _pairs([exactly if grid is None else grid // m for grid, exactly in places]) for m in (2, 4, 8)}
    found = 0.0
    for m in (2, 4):
        if shared[m]:
            dimension = max(1.0, math.log2(shared[2 * m] / shared[m]))
            found = max(found, shared[m] / (m**dimension - 1))
    return found


def _steps(data: Dataset, rows: NDArray[np.float64]) -> list[float]:
    """Return the step of the grid of each coordinate; 0 where there is none."""
    if data.columns is None:
        return [
            granularity_of(_decimal(column) if data.train.dtype == torch.float32 else column, whole=False).step
            for column in rows.T
        ]
    steps = list[float]()
    for column in data.columns:
        if width(column):
            whole = column["type"] in ("integer", "date") or column.get("whole", False)
            numbers = column["type"] not in ("category", "boolean") and "levels" not in column
            steps += [column.get("step", 1.0 if whole else 0.0) * numbers] + [0.0] * (width(column) - 1)
    return steps


def _decimal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float32 numbers without the digits that float32 does not have: 0.1 for 0.10000000149."""
    largest = float(np.abs(values).max())
    return np.round(values, 6 - math.floor(math.log10(largest))) if 1e-30 < largest < 1e30 else values


def _places(values: NDArray[np.float64], step: float) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the number of each value on its grid, or None without one; and the number of each different value."""
    exactly = np.unique(values, return_inverse=True)[1].astype(np.int64)
    most = (values.max() - values.min()) / step if step > 0 else math.inf
    return (np.rint((values - values.min()) / step).astype(np.int64) if most < 2**53 else None), exactly


def _pairs(columns: list[NDArray[np.int64]]) -> float:
    """Return how many pairs of rows agree in all columns."""
    cells = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:  # each different row so far has a number, below 2^32
        ranks = np.unique(column, return_inverse=True)[1].astype(np.int64)
        cells = np.unique(cells * (int(ranks.max()) + 1) + ranks, return_inverse=True)[1].astype(np.int64)
    counts = np.bincount(cells).astype(np.float64)
    return float((counts * (counts - 1)).sum() / 2)


def _equal_by_chance(data: Dataset, seen: Survey, exact: dict[int, int]) -> float:
    """Return how many pairs of equal rows independent columns would give, of a table or of vectors: n²/2·prod(sum of p²).

    The sums are those of the rows that differ, so that copies do not explain themselves, and no less than those of a uniform
    law on the column's grid.
    """
    columns = data.columns or [{"type": "number", "missing": False} for _ in range(seen.features.shape[1])]
    x = seen.features[[i for i in range(len(seen.rows)) if i not in exact]]
    pairs = len(seen.rows) * (len(seen.rows) - 1) / 2
    varying = [column for column in columns if width(column)]
    for column, part in zip(varying, torch.split(x, [width(column) for column in varying], dim=1), strict=True):
        counts = torch.unique(part, dim=0, return_counts=True)[1].double()
        equal = float((counts * (counts - 1)).sum()) / max(len(x) * (len(x) - 1), 1)
        points = (column["high"] - column["low"]) / column["step"] + 1 if "step" in column else math.inf
        pairs *= max(equal, 1 / points)
    return pairs


def _near(data: Dataset, seen: Survey, exact: dict[int, int]) -> dict[int, int]:
    """Return, for each example that nearly repeats an earlier one, which."""
    if math.prod(data.shape) < LEAST_DIMENSION:
        return {}
    fresh = torch.tensor([i for i in range(len(seen.rows)) if i not in exact])
    x = seen.features[fresh]
    x = x - x.mean(dim=0)
    limit = (NEAR * seen.std) ** 2
    near: dict[int, int] = {}
    for i, j in _candidates(x):
        pairs = zip(torch.split(i, PIECE), torch.split(j, PIECE), strict=True)
        close_features = torch.cat([(x[a] - x[b]).square().mean(dim=1) < limit for a, b in pairs])
        left, right = fresh[i[close_features]], fresh[j[close_features]]
        for a, b in zip(torch.split(left, COMPARED_AT_ONCE), torch.split(right, COMPARED_AT_ONCE), strict=True):
            close = (encoded(data, seen.rows[a]) - encoded(data, seen.rows[b])).square().mean(dim=1) < limit
            for one, other in zip(a[close].tolist(), b[close].tolist(), strict=True):
                earlier, later = min(one, other), max(one, other)
                near[later] = min(earlier, near.get(later, earlier))
    return near


def _candidates(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of rows of `(n, f)` that stand next to each other in a list sorted by code, and have the same code."""
    directions = SampleRng(range(x.shape[1]), stream=stream_of("doctor")).normal((TABLES * BITS,)).float()
    weights = 2 ** torch.arange(BITS)
    for table in torch.split(directions, BITS, dim=1):
        codes = torch.cat([((piece @ table > 0) * weights).sum(dim=1) for piece in torch.split(x, PIECE)])
        order = codes.argsort(stable=True)
        for step in (1, 2, 3):
            i, j = order[:-step], order[step:]
            same = codes[i] == codes[j]
            yield i[same], j[same]


def copy_issues(data: Dataset, seen: Survey, copies: Copies, *, named: bool) -> tuple[list[DataIssue], list[DataIssue]]:
    """Return an issue for each copy: those that leak into the held-out part, and the others.

    Args:
        data: the data set.
        seen: the survey of it.
        copies: among the examples looked at.
        named: whether the source has named exact copies by file already; then only those are repeated that leak.
    """
    issues = [*_issues(data, seen, copies.exact, "repeats", named), *_issues(data, seen, copies.near, "all but repeats", False)]
    leaks = [issue for issue in issues if issue.cause.endswith(LEAK)]
    return leaks, [issue for issue in issues if not issue.cause.endswith(LEAK)]


def _issues(data: Dataset, seen: Survey, copies: dict[int, int], word: str, only_leaks: bool) -> list[DataIssue]:
    issues = []
    for later, earlier in sorted(copies.items()):
        leak = earlier < seen.training <= later
        if leak or not only_leaks:
            one, other = (where(data, int(seen.rows[i])) for i in (later, earlier))
            issues.append(DataIssue(one, f"{word} {other}" + (LEAK if leak else ""), used=True))
    return issues
