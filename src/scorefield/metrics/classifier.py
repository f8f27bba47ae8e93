"""Classifier two-sample test: how often does a classifier tell new samples from new real examples?

    accuracy = (share of held-out samples called samples + share of held-out real examples called real) / 2

0.5 means that it cannot: nothing that this classifier could learn from so many examples separates them. The two shares
count alike however large the sets are. Every example is judged once, by a classifier trained on the other folds. It votes by
two that see different things: a logistic regression on random features of a Gaussian kernel (shifts, scales, dependences, in
many dimensions) and a forest (edges, spikes, repeated values). Less than 0.5 by much means shared rows: samples that copy the
reference have their twins on the other side of the training folds.

It acts on features, since for images a classifier on pixels sees noise that no person would; the features of a vector or a
table are its coordinates.

The standard error is over draws of the samples: that of independent answers, or what the folds' accuracies say, where they
differ by more; answers of one fold share a classifier.

References: Lopez-Paz, Oquab (2017), "Revisiting classifier two-sample tests", arXiv 1610.06545. Williams, Seeger (2001), "Using
the Nystrom method to speed up kernel machines". Geurts, Ernst, Wehenkel (2006), "Extremely randomized trees".
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import register

FOLDS = 5
MOST = 2000  # examples of each set: the error is then 0.008, and the time a few seconds
CENTRES = 200  # of the Gaussian kernel
TREES = 50
SEED = stream_of("c2st") % 2**32  # all that scikit-learn takes


def _rows(features: Tensor, name: str) -> NDArray[np.float64]:
    """Return at most MOST rows in an order that depends on their values alone, so that the folds do, too."""
    unsorted: NDArray[np.float64] = features.cpu().numpy()
    order = np.lexsort(unsorted.T[::-1])
    if len(order) > MOST:
        order = order[SampleRng(range(len(order)), stream=stream_of("c2st", name)).uniform().argsort()[:MOST].numpy()]
    rows: NDArray[np.float64] = unsorted[order]
    return rows


def _classifier(rows: int, dimension: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    smooth = make_pipeline(
        Nystroem(gamma=0.5 / dimension, n_components=min(CENTRES, rows), random_state=SEED),
        StandardScaler(with_std=False),
        LogisticRegression(class_weight="balanced", max_iter=300),
    )
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=5, class_weight="balanced", random_state=SEED)
    return make_pipeline(StandardScaler(), VotingClassifier([("smooth", smooth), ("forest", forest)], voting="soft"))


@register("metric", "c2st")
class ClassifierTest(Metric):
    """Held-out accuracy of a classifier that tells samples from real examples, in [0, 1]; 0.5 where it cannot."""

    better: ClassVar[Literal["lower", "higher"]] = "lower"
    least: ClassVar[int] = 20

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        from sklearn.model_selection import StratifiedKFold

        samples, reference = check(samples, reference, self.least)
        both = _rows(samples, "samples"), _rows(reference, "reference")
        rows = np.concatenate(both)
        drawn = np.arange(len(rows)) < len(both[0])
        right, fold = np.empty(len(rows)), np.empty(len(rows), dtype=int)
        for index, (train, test) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(rows, drawn)):
            classifier = _classifier(len(train), rows.shape[1]).fit(rows[train], drawn[train])
            right[test], fold[test] = classifier.predict(rows[test]) == drawn[test], index
        shares = [right[side].mean() for side in (drawn, ~drawn)]
        alone = math.sqrt(sum(right[side].var() / side.sum() for side in (drawn, ~drawn))) / 2
        each = [sum(right[side & (fold == index)].mean() for side in (drawn, ~drawn)) / 2 for index in range(FOLDS)]
        error = max(alone, float(np.std(each, ddof=1)) / math.sqrt(FOLDS))
        return Estimate(float(sum(shares)) / 2, math.hypot(error, 1 / len(rows)))
