"""Two-sample distances: how far two sets of samples are apart, without a feature extractor.

    sliced Wasserstein-2    root of the mean over directions v of W2²(v·x, v·y); in one dimension W2² is the mean squared
                            difference of the sorted numbers
    MMD²                    E k(x, x') + E k(y, y') - 2·E k(x, y), without the diagonal: unbiased, so it may be negative

References: Bonneel, Rabin, Peyre, Pfister (2015), "Sliced and Radon Wasserstein barycenters of measures". Gretton, Borgwardt,
Rasch, Scholkopf, Smola (2012), "A kernel two-sample test", JMLR 13.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.randomness import Noise
from scorefield.shapes import flat


def directions(dimension: int, count: int = 128, seed: int = 0) -> Tensor:
    """Return unit vectors as columns, `(d, count)`, float64: equal angles in the plane, random ones elsewhere."""
    if dimension == 2:
        angle = torch.arange(count, dtype=torch.float64) * math.pi / count
        return torch.stack([angle.cos(), angle.sin()])
    columns = Noise(range(count), stream=seed).normal((dimension,)).mT
    unit: Tensor = columns / columns.norm(dim=0)
    return unit


def sliced_wasserstein(x: Tensor, y: Tensor, v: Tensor | None = None) -> float:
    """Return the sliced Wasserstein-2 distance of two sets of equal size.

    Args:
        x, y: samples, `(n, *shape)`, in the same units, in which the distance is.
        v: unit vectors as columns, `(d, count)`; None for `directions(d)`.

    Raises:
        ScorefieldError: sets of different sizes.

    >>> x = torch.zeros(10, 2, dtype=torch.float64)
    >>> round(sliced_wasserstein(x, x + 2.0), 6)  # a shift by w costs |w|/sqrt(d)
    2.0
    """
    if len(x) != len(y):
        raise ScorefieldError(f"got {len(x)} and {len(y)} samples, expected equally many: thin the larger set")
    v = directions(flat(x).shape[1]) if v is None else v
    first, second = ((flat(some).double() @ v).sort(dim=0).values for some in (x, y))
    return float((first - second).square().mean().sqrt())


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """Return the unbiased MMD² for the kernel exp(-|x - y|²/(2·bandwidth²)); n² memory, so give it a few thousand."""
    rows, columns = flat(x).double(), flat(y).double()
    n, m = len(rows), len(columns)

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(torch.cdist(a, b) ** 2) / (2 * bandwidth**2)).sum()

    own = (mean(rows, rows) - n) / (n * (n - 1)) + (mean(columns, columns) - m) / (m * (m - 1))
    return float(own - 2 * mean(rows, columns) / (n * m))
