"""Train on synthetic, test on real (TSTR): do trees that learned from generated rows predict held-out real ones?

Each column in turn is predicted from all the others, by gradient-boosted trees trained on generated rows, and beside them by
the same trees trained on as many real ones (TRTR, the floor). Both are judged on the same held-out real rows:

    numbers       R² = 1 - sum (y - f)²/sum (y - mean y)²: 1 is perfect, 0 no better than the mean
    categories    AUROC of each class against the others, averaged: 1 is perfect, 1/2 is guessing

    gap = of real rows - of generated rows

The gap is what the generated rows lose; where real rows predict nothing it says nothing. Generated rows are divided into four
sets, and the figures averaged, for the spread of the four says how much hangs on the rows that were drawn. The standard error
is that of four means and of the held-out rows together, for the gap of differences on the same held-out rows.

Reference: Esteban, Hyland, Ratsch (2017), "Real-valued (medical) time series generation with recurrent conditional GANs",
arXiv 1706.02633.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scorefield.errors import ScorefieldError, unknown
from scorefield.metrics.base import Estimate
from scorefield.metrics.coded import Coded, Columns, Numbers, coded, height_of
from scorefield.metrics.influence import Influenced, auroc, determination, mean_of
from scorefield.metrics.trees import features_of, tree
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of, subsample

LEAST = 20  # rows of each table
SETS = 4  # of generated rows, and of real ones
MOST = 1000  # rows of a set
TESTED = 5000  # held-out rows
TARGETS = 8  # columns that are predicted: categories first, since they are what people predict
CLASSES = 10  # of a category: its commonest values
SAMPLES, TRAIN, HELD_OUT = range(3)
Score = Literal["R2", "AUROC"]


@dataclass(frozen=True)
class Predicted:
    """How well a column is predicted, or the mean of several.

    Attributes:
        score: R2 for numbers, AUROC for categories.
        synthetic: of trees trained on generated rows.
        real: of trees trained on as many real rows.
        gap: real - synthetic, which share their held-out rows.
    """

    score: Score
    synthetic: Estimate
    real: Estimate
    gap: Estimate


@dataclass(frozen=True)
class Utility:
    """What generated rows are worth for prediction.

    Attributes:
        columns: name of a predicted column -> how well.
        means: the mean over columns of each score; only of scores that have a column.
        rows: how many rows each tree learned from.
        sets: how many sets of generated rows the figures are means of.
    """

    columns: dict[str, Predicted]
    means: dict[str, Predicted]
    rows: int
    sets: int


@dataclass(frozen=True)
class _Scores:
    """What trees of several training sets score on the same held-out rows."""

    sets: list[Influenced]

    def estimate(self) -> Estimate:
        return mean_of(self.sets).estimate(self.spread)

    @property
    def spread(self) -> float:
        """Standard error of the mean over sets; no figure is known better than to one in the number of held-out rows."""
        values, least = [one.value for one in self.sets], 1 / len(self.sets[0].rows)
        return max(float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0, least)


@dataclass(frozen=True)
class _Both:
    """What trees score that learned from generated rows, and from real ones."""

    score: Score
    synthetic: _Scores
    real: _Scores

    def predicted(self) -> Predicted:
        """Return the figures; the gap is of differences on the same rows."""
        gap = mean_of(self.real.sets) + mean_of(self.synthetic.sets) * -1.0
        chance = math.hypot(self.synthetic.spread, self.real.spread)
        return Predicted(self.score, self.synthetic.estimate(), self.real.estimate(), gap.estimate(chance))


def tstr(
    samples: Columns, train: Columns, held_out: Columns, *, target: str | None = None, progress: Progress = silent
) -> Utility | None:
    """Train trees on generated and on real rows, and test both on held-out rows; None where no column can be predicted.

    Args:
        samples: generated rows, name -> n values: numbers, dates, texts or booleans, None where one is missing; n at least 20.
        train: the same columns of real rows that may be learned from, at least 20.
        held_out: the same columns of other real rows, at least 20.
        target: the column that is predicted; None for each in turn, at most 8, categories first. Columns that do not vary are
            left out.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: other columns, columns of unequal lengths, too few rows, or a target that is not a column.
        NotFinite: NaN or infinity among the values; what is missing is None.

    >>> real = {"a": [i % 97 for i in range(400)], "b": [str(i % 97 > 48) for i in range(400)]}
    >>> found = tstr(real, real, real, target="b")
    >>> found.columns["b"].score, found.columns["b"].synthetic.value > 0.99
    ('AUROC', True)
    """
    heights = [height_of(table, "a table") for table in (samples, train, held_out)]
    if min(heights) < LEAST:
        raise ScorefieldError(f"got tables of {heights} rows, expected at least {LEAST} of each: draw more")
    if target is not None and target not in held_out:
        raise unknown("column", target, held_out)
    columns = coded(samples, train, held_out)
    sets, real_sets = _sets(heights[SAMPLES], heights[TRAIN])
    tested = subsample(heights[HELD_OUT], TESTED).numpy()
    targets = _targets(columns, tested, target)
    found = dict[str, _Both]()
    for i, column in enumerate(targets):
        progress(i / len(targets), f"predicting column {column.name}")
        others = [other for other in columns if other is not column]
        synthetic, real = (_scores(column, others, *one, tested) for one in ((SAMPLES, sets), (TRAIN, real_sets)))
        found[column.name] = _Both("AUROC" if column.is_category else "R2", synthetic, real)
    if not found:
        return None
    return Utility(
        {name: both.predicted() for name, both in found.items()},
        {
            score: _mean([both for both in found.values() if both.score == score])
            for score in sorted({b.score for b in found.values()})
        },
        rows=len(sets[0]),
        sets=len(sets),
    )


def _sets(n: int, real: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return the rows of the sets of generated rows, which share none, and of real sets of the same size."""
    count = max(1, min(SETS, n // LEAST))
    size = min(n // count, real, MOST)
    order = SampleRng(range(n), stream=stream_of("tstr")).uniform().argsort().numpy()  # rows may come sorted
    sets = [order[i * size : (i + 1) * size] for i in range(count)]
    return sets, [subsample(real, size, seed).numpy() for seed in range(1 if size == real else count)]


def _targets(columns: list[Coded], tested: NDArray[np.int64], target: str | None) -> list[Coded]:
    """Return the columns that are predicted: those with something to predict, in training and held-out rows."""
    asked = [column for column in columns if target in (None, column.name)]
    asked = [column for column in asked if len(columns) > 1 and _known(column, TRAIN) and _known(column, HELD_OUT, tested)]
    return sorted(asked, key=lambda column: not column.is_category)[:TARGETS]


def _known(column: Coded, table: int, rows: NDArray[np.int64] | slice = slice(None)) -> bool:
    values = column.tables[table][rows]
    return bool((~np.isnan(values)).sum() >= LEAST // 2 and len(np.unique(values[~np.isnan(values)])) > 1)


def _scores(
    target: Coded, others: list[Coded], table: int, sets: Sequence[NDArray[np.int64]], tested: NDArray[np.int64]
) -> _Scores:
    """Return the score on held-out rows of trees trained on each set of rows of a table."""
    x, truth = features_of(others, HELD_OUT)[tested], target.tables[HELD_OUT][tested]
    found = list[Influenced]()
    for rows in sets:
        known = rows[~np.isnan(target.tables[table][rows])]
        features, values = features_of(others, table)[known], target.tables[table][known]
        judge = _of_classes if target.is_category else _of_numbers
        found.append(judge(features, values, x, truth, others))
    return _Scores(found)


def _of_numbers(features: Numbers, values: Numbers, x: Numbers, truth: Numbers, others: list[Coded]) -> Influenced:
    """Return R² on held-out rows; where too few rows know the target, of its mean."""
    middle, scale = np.nanmean(truth), np.nanstd(truth)  # the trees count in float32
    if len(values) < 4:
        return determination(truth, np.full(len(truth), values.mean() if len(values) else middle))
    fitted = tree(others, len(values), classes=False).fit(features, (values - middle) / scale)
    return determination(truth, fitted.predict(x) * scale + middle)


def _of_classes(features: Numbers, values: Numbers, x: Numbers, truth: Numbers, others: list[Coded]) -> Influenced:
    """Return the mean AUROC of the commonest classes of the held-out rows, which have at least two.

    A class that no training row has gets the same chance in all rows, which is an AUROC of 1/2.
    """
    known = ~np.isnan(truth)
    classes, counts = np.unique(truth[known], return_counts=True)
    classes = classes[np.argsort(-counts, kind="stable")[:CLASSES]]
    common = np.isin(values, classes)
    features, values = features[common], values[common]
    chances = dict[float, Numbers]()
    if len(np.unique(values)) > 1:
        fitted = tree(others, len(values), classes=True).fit(features, values)
        chances = dict(zip(fitted.classes_.tolist(), fitted.predict_proba(x).T, strict=True))
    even = np.zeros(len(truth))
    return mean_of([auroc(chances.get(one, even), truth == one, known) for one in classes.tolist()])


def _mean(those: list[_Both]) -> Predicted:
    """Return the mean over columns of one score."""

    def mean(scores: list[_Scores]) -> _Scores:
        return _Scores([mean_of(list(sets)) for sets in zip(*(one.sets for one in scores), strict=True)])

    return _Both(those[0].score, mean([b.synthetic for b in those]), mean([b.real for b in those])).predicted()
