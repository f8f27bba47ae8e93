"""Scoring: what makes an estimator of scikit-learn's kind find odd rows, by the rows that its fit kept."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from scorefield.anomaly.blend import BANK
from scorefield.anomaly.detector import UNSEEN, Detector, Oddness
from scorefield.data import Dataset
from scorefield.data.numeric import refuse_masked
from scorefield.randomness import subsample

Array = NDArray[np.float64]


class ScoresOdd:
    """A mixin: `score_odd` of an estimator whose `fit` calls `_keep_rows` and sets `field_`.

    Of the estimator it needs `impute`, `_standard` and `_raw`, to model space and back, `mean_`, and `_varies`: which columns
    are not constant.
    """

    field_: Any
    mean_: Array
    _varies: NDArray[np.bool_]
    _seen: Array
    _unseen: Array

    def score_odd(self, X: Any, *, p_value: bool = False) -> Array:
        """Return how odd each row is, `(n,)`, in nats of surprise by `anomaly.detector`; higher is odder.

        That is the opposite of `score_samples` of scikit-learn's detectors, which is low for an outlier: negate it for them.
        The rows that `fit` learned from and the tenth that it held out say what is usual; what is measured of them is measured
        at every call, so that many rows in one call cost less.

        Args:
            X: `(n, d)`, finite: a row is judged whole. One with another value in a constant column is infinitely odd.
            p_value: return instead the share of held-out rows that are as odd: of rows like X's, at most a share r has p <= r.
                The smallest is 1/(held-out rows + 1).

        >>> from scorefield import ScoreDensity
        >>> X = np.random.default_rng(0).normal(size=(200, 2)) @ [[1.0, 0.95], [0.0, 0.31]]
        >>> usual, broken = ScoreDensity(max_steps=20, random_state=0).fit(X).score_odd([[1.0, 1.0], [1.0, -1.0]])
        >>> bool(usual < broken)
        True
        """
        found, outside = self._oddness(X)
        values = (found.p_value if p_value else found.surprise).numpy().copy()
        values[outside] = 1 / (len(self._unseen) + 1) if p_value else math.inf
        return np.asarray(values, dtype=np.float64)

    def _keep_rows(self, data: Dataset) -> None:
        """Keep rows that training saw and such that it did not see, in model space, for a later `score_odd`."""
        parts = ((data.train, BANK), (data.held_out, UNSEEN))
        rows = [data.normaliser.encode(part[subsample(len(part), most)]) for part, most in parts]
        self._seen, self._unseen = (part.cpu().double().numpy() for part in rows)

    def _oddness(self, X: Any) -> tuple[Oddness, NDArray[np.bool_]]:
        """Return how odd rows are, and where a constant column has another value."""
        check_is_fitted(self)
        refuse_masked(X, "X")
        raw = validate_data(self, X, reset=False, dtype=np.float64)
        field = copy.deepcopy(self.field_).float()
        detector = Detector(field, self._whole(self._seen), self._whole(self._unseen))
        return detector(self._standard(raw)), (raw != self.mean_)[:, ~self._varies].any(axis=1)

    def _whole(self, rows: Array) -> Tensor:
        """Return rows in model space, whole: where a value is missing, one is drawn given the others."""
        found, gaps = torch.from_numpy(rows.copy()), torch.from_numpy(np.isnan(rows).any(axis=1))
        if bool(gaps.any()):
            found[gaps] = self._standard(self.impute(self._raw(found[gaps]), random_state=0)).cpu()
        return found

    def impute(self, X: Any, *, random_state: Any = None) -> Array:
        raise NotImplementedError

    def _raw(self, z: Tensor) -> Array:
        raise NotImplementedError

    def _standard(self, raw: Array) -> Tensor:
        raise NotImplementedError
