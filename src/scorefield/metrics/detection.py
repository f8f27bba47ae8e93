"""Detection AUROC: how well do gradient-boosted trees tell the rows of a table that was generated from real rows?

    AUROC = P(f(generated row) > f(real row)) + P(f(generated row) = f(real row))/2

0.5 means that they cannot, 1 that they never err. It is a classifier two-sample test (C2ST) on the columns as they are:
numbers, categories, and which values are missing. Every row is judged once, by trees that were trained on the other four
fifths; the area is that of each fifth, averaged. Of two Gaussians a distance of delta standard deviations apart no detector
has more than Phi(delta/sqrt 2).

The standard error is that of independent rows, or what the fifths say, where they differ by more; rows of one fifth share
their trees.

References: Lopez-Paz, Oquab (2017), "Revisiting classifier two-sample tests", arXiv 1610.06545. DeLong, DeLong, Clarke-
Pearson (1988), "Comparing the areas under two or more correlated receiver operating characteristic curves".
"""

from __future__ import annotations

import math

import numpy as np

from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.coded import Columns, coded, height_of
from scorefield.metrics.influence import auroc
from scorefield.metrics.trees import SEED, features_of, tree
from scorefield.randomness import subsample

FOLDS = 5
LEAST = 20
MOST = 2000  # rows of each table: the error is then 0.01


def detection(samples: Columns, reference: Columns) -> Estimate:
    """Return the area under the curve of trees that tell samples from real rows.

    Args:
        samples: name -> n values: numbers, dates, texts or booleans, None where one is missing; n at least 20.
        reference: the same columns of real rows, m values each; m at least 20.

    Raises:
        ScorefieldError: other columns, columns of unequal lengths, or too few rows.

    >>> real, shifted = {"a": [*range(100)]}, {"a": [*range(50, 150)]}
    >>> detection(real, real).value < 0.6 < 0.7 < detection(shifted, real).value
    True
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import

    n, m = height_of(samples, "samples"), height_of(reference, "real rows")
    if min(n, m) < LEAST:
        raise ScorefieldError(f"got {n} samples and {m} real examples, expected at least {LEAST} of each: draw more")
    columns = coded(samples, reference)
    both = [features_of(columns, table)[subsample(height, MOST).numpy()] for table, height in enumerate((n, m))]
    rows = np.concatenate(both)
    drawn = np.arange(len(rows)) < len(both[0])
    found = []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(rows, drawn):
        told = tree(columns, len(train), classes=True).fit(rows[train], drawn[train])
        found.append(auroc(told.predict_proba(rows[test])[:, 1], drawn[test]))
    areas = [one.value for one in found]
    alone = math.sqrt(sum(one.estimate().standard_error ** 2 for one in found)) / FOLDS
    error = max(alone, float(np.std(areas, ddof=1)) / math.sqrt(FOLDS))
    return Estimate(float(np.mean(areas)), math.hypot(error, 1 / len(rows)))
