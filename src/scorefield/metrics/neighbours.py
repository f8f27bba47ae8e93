"""Nearest neighbours among many points, exact and in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

SPARE = 6  # candidates beyond those asked for, whose order rounding in float32 may have changed
POINTS, QUERIES = 8192, 1024  # of a block: 32 MB of products


def neighbours(queries: Tensor, points: Tensor, count: int, *, themselves: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the nearest points of every query, in blocks: float32 products find candidates, float64 differences decide.

    Args:
        queries: `(n, d)`.
        points: `(m, d)`.
        count: number of neighbours, less than m.
        themselves: if the queries are points, their rows among the points, `(n,)`: a point is not its own neighbour.

    Returns:
        Distances `(n, count)`, float64, ascending, and rows of the points `(n, count)`.

    >>> line = torch.arange(4.0)[:, None] ** 2
    >>> neighbours(line, line, 1, themselves=torch.arange(4))[1].flatten()  # of 0, 1, 4 and 9
    tensor([1, 0, 1, 2])
    """
    wanted = min(count + SPARE, len(points) - int(themselves is not None))
    rows = _candidates(queries, points, wanted, themselves)
    exact = torch.empty(len(queries), wanted, dtype=torch.float64)
    for start in range(0, len(queries), QUERIES // 4):
        block = slice(start, start + QUERIES // 4)
        exact[block] = (points[rows[block]].double() - queries[block].double().unsqueeze(1)).square().sum(dim=2).sqrt()
    distance, order = exact.sort(dim=1, stable=True)
    return distance[:, :count], rows.gather(1, order)[:, :count]


def _candidates(queries: Tensor, points: Tensor, wanted: int, themselves: Tensor | None) -> Tensor:
    """Return the rows of the nearest points by float32 products, `(n, wanted)`."""
    centre = points[:POINTS].double().mean(dim=0)  # far from the origin the expanded square loses its digits
    squares = torch.full((len(queries), wanted), torch.inf)
    rows = torch.zeros(len(queries), wanted, dtype=torch.int64)
    for first in range(0, len(points), POINTS):
        block = (points[first : first + POINTS].double() - centre).float()
        half = block.square().sum(dim=1) / 2
        for start in range(0, len(queries), QUERIES):
            batch = slice(start, start + QUERIES)
            near = (queries[batch].double() - centre).float()
            squared = torch.addmm(half, near, block.mT, alpha=-1)  # |x - p|²/2 less |x|²/2, the same for all points
            if themselves is not None:
                inside = (themselves[batch] >= first) & (themselves[batch] < first + len(block))
                squared[inside, themselves[batch][inside] - first] = torch.inf
            best, columns = squared.topk(min(wanted, len(block)), largest=False)
            best, columns = torch.cat([squares[batch], best], dim=1), torch.cat([rows[batch], columns + first], dim=1)
            squares[batch], order = best.topk(wanted, largest=False)
            rows[batch] = columns.gather(1, order)
    return rows
