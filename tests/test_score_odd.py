"""ScoreDensity.score_odd: higher is odder, by the rows that fit kept; with holes, with constant columns, and pickled."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from scorefield import ScoreDensity

MIXING = np.array([[1.0, 0.9], [0.0, 0.19**0.5]])  # a correlation of 0.9
FAST = {"max_steps": 30, "random_state": 0, "settings": ["network.width=32", "network.depth=2"]}


def rows(n: int, seed: int) -> np.ndarray:
    """Draw two correlated columns, and a constant one."""
    return np.c_[np.random.default_rng(seed).normal(size=(n, 2)) @ MIXING, np.full(n, 7.0)]


@pytest.fixture(scope="module")
def density() -> ScoreDensity:
    return ScoreDensity(**FAST).fit(rows(600, 0))


def test_a_row_that_breaks_the_correlation_is_odder_and_one_that_changes_a_constant_is_infinitely_odd(
    density: ScoreDensity,
) -> None:
    usual, broken, changed = density.score_odd([[1.0, 1.0, 7.0], [1.2, -1.2, 7.0], [1.0, 1.0, 7.5]])
    assert usual < broken < changed == np.inf
    p = density.score_odd([[1.0, 1.0, 7.0], [1.2, -1.2, 7.0], [1.0, 1.0, 7.5]], p_value=True)
    assert p[0] > 0.1
    assert p[1] == p[2] == 1 / 61


def test_alarms_on_new_rows_come_at_the_rate_that_was_asked_for(density: ScoreDensity) -> None:
    alarms = float((density.score_odd(rows(1000, 1), p_value=True) <= 0.1).mean())
    assert abs(alarms - 0.1) < 5 * np.sqrt(0.09 * (1 / 62 + 1 / 1000))


def test_a_pickle_scores_as_the_estimator_does_and_a_row_as_it_does_alone(density: ScoreDensity) -> None:
    X = rows(20, 2)
    scores = density.score_odd(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(density)).score_odd(X), scores)
    np.testing.assert_allclose(density.score_odd(X[7:8])[0], scores[7], rtol=1e-4)  # single precision


def test_rows_are_judged_whole_by_a_density_that_learned_from_rows_with_holes() -> None:
    holes = rows(300, 3)[:, :2]
    holes[np.random.default_rng(4).random(holes.shape) < 0.2] = np.nan
    holes = holes[~np.isnan(holes).all(axis=1)]
    density = ScoreDensity(**FAST).fit(holes)
    usual, broken = density.score_odd([[1.0, 1.0], [1.5, -1.5]])
    assert usual < broken
    with pytest.raises(ValueError, match="NaN"):
        density.score_odd([[1.0, np.nan]])
