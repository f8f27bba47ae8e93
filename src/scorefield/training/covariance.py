"""The covariance of the training data, which a run keeps for posterior sampling: it is measured once, before the first step."""

from __future__ import annotations

import math

from scorefield.data import Dataset
from scorefield.data.table.groups import MOST
from scorefield.mixtures import ROWS, fitted
from scorefield.moments import Moments
from scorefield.randomness import subsample

EXAMPLES, NUMBERS = 10_000, 2**25  # at most so many examples, and numbers of them


def data_moments(data: Dataset) -> Moments | None:
    """Return the moments of the training part in model space; None of pictures with unknown cells, or of a single example."""
    n = min(len(data.train), EXAMPLES, max(256, NUMBERS // math.prod(data.shape)))
    if n < 2:
        return None
    if data.normaliser.holes is not None:
        if len(data.shape) > 1 or math.prod(data.shape) > MOST:
            return None
        known = fitted(data.x0(subsample(len(data.train), min(n, ROWS))), most=1)
        return Moments.of_covariance(known.means[0], known.covariances[0])
    return Moments.of_data(data.normaliser.encode(data.train[subsample(len(data.train), n)]))
