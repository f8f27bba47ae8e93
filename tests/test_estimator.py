"""`ScoreDensity` keeps scikit-learn's contract, and what it says is in the units of X.

What does not depend on learning is tested with the exact field of a Gaussian in the place of the learned one: then every answer
has a closed form in X's own units. What does is tested against the spread of repeated fits.
"""

import io
import math
import pickle
import warnings
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import each_case
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from scorefield import VE, Gaussian, ScorefieldError
from scorefield.estimator import ScoreDensity
from scorefield.training.loop import Trainer

TINY = ("network.width=8", "network.depth=1", "training.batch=8")
MEAN = np.array([10.0, -3.0, 0.5])
COVARIANCE = np.array([[4.0, 1.2, 0.1], [1.2, 1.0, 0.02], [0.1, 0.02, 0.01]])
SIGMA = 0.01  # lowest noise of the exact field, in units of each column's standard deviation


def tiny(**how: Any) -> ScoreDensity:
    return ScoreDensity(**({"max_steps": 2, "settings": TINY, "random_state": 0} | how))


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, size=n)


@pytest.fixture(scope="module")
def exact() -> ScoreDensity:
    """A fitted estimator whose field is that of N(MEAN, COVARIANCE) in standardised columns, exactly."""
    density = tiny().fit(rows(500))
    mean, covariance = (MEAN - density.mean_) / density.scale_, COVARIANCE / np.outer(density.scale_, density.scale_)
    density.field_ = Gaussian(mean, covariance, VE(SIGMA, 2000.0))
    return density


# --- scikit-learn's contract ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:score_samples is the density")  # some checks have columns of separate values
@parametrize_with_checks([tiny()])
def test_it_keeps_the_contract_of_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def test_it_works_in_a_pipeline_and_a_search() -> None:
    x = rows(24)
    pipeline = make_pipeline(StandardScaler(), tiny())
    search = GridSearchCV(pipeline, {"scoredensity__settings": [TINY, (*TINY, "process.sigma_min=0.1")]}, cv=2).fit(x)
    assert math.isfinite(search.best_score_)
    assert search.best_score_ == pytest.approx(max(search.cv_results_["mean_test_score"]))
    assert search.best_estimator_.score_samples(x).shape == (24,)
    assert float(clone(pipeline).fit(x).score(x)) == pytest.approx(float(pipeline.fit(x).score(x)), rel=1e-12)


def test_a_data_frame_is_known_by_its_columns() -> None:
    frame = pd.DataFrame(rows(20), columns=["a", "b", "c"])
    density = tiny().fit(frame)
    assert density.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(density.score_samples(frame), tiny().fit(frame.to_numpy()).score_samples(frame.to_numpy()))
    with pytest.raises(ValueError, match="feature names"):
        density.score_samples(frame[["b", "a", "c"]])
    frame.loc[3, "b"] = np.nan
    filled = density.impute(frame, random_state=0)
    assert np.isfinite(filled).all()
    assert filled[3, 0] == frame.loc[3, "a"]


@pytest.mark.parametrize("keep", ["joblib", "pickle"])
def test_it_is_kept_as_plain_arrays_and_comes_back_the_same(keep: str) -> None:
    density, x = tiny().fit(rows(40)), rows(5, seed=1)
    if keep == "joblib":
        file = io.BytesIO()
        joblib.dump(density, file)
        file.seek(0)
        content, back = file.getvalue(), joblib.load(file)
    else:
        content = pickle.dumps(density)
        back = pickle.loads(content)
    assert b"torch" not in content
    assert back.get_params() == density.get_params() and back.config_ == density.config_
    np.testing.assert_array_equal(back.score_samples(x), density.score_samples(x))
    np.testing.assert_array_equal(back.sample(4, random_state=0), density.sample(4, random_state=0))
    holes = np.where(np.arange(x.shape[1]) == 1, np.nan, x)
    np.testing.assert_array_equal(back.impute(holes, random_state=0), density.impute(holes, random_state=0))


def test_everything_random_is_the_random_state_s() -> None:
    x = rows(12)
    holes = np.where(np.random.default_rng(1).random(x.shape) < 0.3, np.nan, x)
    one, same, other = tiny().fit(x), tiny().fit(x), tiny(random_state=1).fit(x)
    np.testing.assert_array_equal(one.score_samples(x), same.score_samples(x))
    assert not np.array_equal(one.score_samples(x), other.score_samples(x))
    for draw in (lambda seed: one.sample(7, random_state=seed), lambda seed: one.impute(holes, random_state=seed)):
        np.testing.assert_array_equal(draw(3), draw(3))
        assert not np.array_equal(draw(3), draw(4))
    before = torch.random.get_rng_state()
    tiny().fit(x).sample(3)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- units: with the exact field in place of the learned one ----------------------------------------------------------


def test_log_densities_are_nats_of_x_s_own_units(exact: ScoreDensity) -> None:
    """Of N(m, C + noise of the lowest level): the solver's tolerance and the prior at sigma 2000 leave less than 1e-3 nats."""
    x = rows(40, seed=1)
    smoothed = multivariate_normal(MEAN, COVARIANCE + np.diag((SIGMA * exact.scale_) ** 2))
    np.testing.assert_allclose(exact.score_samples(x), smoothed.logpdf(x), rtol=0, atol=1e-3)
    assert exact.score(x) == pytest.approx(exact.score_samples(x).mean(), abs=1e-12)


def test_draws_are_in_x_s_own_units(exact: ScoreDensity) -> None:
    n = 2000
    x = exact.sample(n, random_state=0)
    variance = COVARIANCE.diagonal()
    assert (np.abs(x.mean(axis=0) - MEAN) < 5 * np.sqrt(variance / n)).all()
    error = np.sqrt((COVARIANCE**2 + np.outer(variance, variance)) / n)
    assert (np.abs(np.cov(x.T) - COVARIANCE) < 5 * error).all()


@pytest.mark.parametrize("multiple", [None, 0.5])
def test_denoising_is_the_posterior_mean_for_noise_that_is_a_multiple_of_each_column_s_scale(
    exact: ScoreDensity, multiple: float | None
) -> None:
    x = rows(20, seed=1)
    noise = None if multiple is None else multiple * exact.scale_
    blur = np.diag(((multiple or 0.1) * exact.scale_) ** 2)
    wanted = MEAN + (x - MEAN) @ np.linalg.inv(COVARIANCE + blur) @ COVARIANCE
    np.testing.assert_allclose(exact.denoise(x, noise), wanted, rtol=1e-8)


def test_after_a_standard_scaler_one_number_is_enough() -> None:
    x = StandardScaler().fit_transform(rows(100))
    density = tiny().fit(x)
    np.testing.assert_allclose(density.denoise(x, 0.3), density.denoise(x, 0.3 * density.scale_), rtol=1e-9)


def test_what_is_missing_is_drawn_given_what_is_there(exact: ScoreDensity) -> None:
    """Column b given a: mean and variance of the conditional, in X's own units, and independent draws."""
    n, a = 200, 12.0
    x = np.tile([a, np.nan, np.nan], (n, 1))
    slope, mean = COVARIANCE[1, 0] / COVARIANCE[0, 0], MEAN[1] + COVARIANCE[1, 0] / COVARIANCE[0, 0] * (a - MEAN[0])
    variance = COVARIANCE[1, 1] - slope * COVARIANCE[0, 1]
    drawn = exact.impute(x, 2, random_state=0)
    assert drawn.shape == (2, n, 3) and (drawn[..., 0] == a).all()
    for column in drawn[..., 1]:
        assert abs(column.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(column.var() - variance) < 5 * variance * math.sqrt(2 / n)
    assert abs(np.corrcoef(drawn[..., 1])[0, 1]) < 5 / math.sqrt(n)
    means = exact.impute(x[:100], mean=True, random_state=0)[:, 1]
    assert abs(means.mean() - mean) < 5 * means.std() / math.sqrt(100)
    assert means.var() < variance
    np.testing.assert_allclose(exact.impute(x[:5], 2, random_state=0), drawn[:, :5], rtol=1e-9)


def test_rows_without_gaps_are_left_alone(exact: ScoreDensity) -> None:
    x = rows(5)
    np.testing.assert_array_equal(exact.impute(x), x)


def test_another_unit_of_x_changes_log_densities_by_exactly_the_logarithm() -> None:
    """By a power of two, which rounds nothing: the fits are then equal in standardised space, bit for bit."""
    x, c = rows(50), 8.0
    metres, others = tiny().fit(x), tiny().fit(c * x)
    shift = metres.score_samples(x) - others.score_samples(c * x)
    np.testing.assert_allclose(shift, 3 * math.log(c), rtol=1e-12)
    np.testing.assert_allclose(others.sample(5, random_state=0), c * metres.sample(5, random_state=0), rtol=1e-12)


# --- what is learned --------------------------------------------------------------------------------------------------


def test_a_learned_density_is_near_the_true_one() -> None:
    """Kullback-Leibler divergence from N(m, C), in nats, against the spread of repeated fits.

    Seven fits of other rows and seeds, each judged on 150 fresh rows, gave -0.010, 0.032, 0.028, 0.024, 0.025, 0.007 and 0.028:
    mean 0.019, standard deviation 0.015. Another one lies within 5·0.015·sqrt(1 + 1/7) = 0.081 of that mean.
    """
    x, fresh = rows(1000), rows(200, seed=1)
    density = ScoreDensity(max_steps=150, settings=("network.width=64",), random_state=0).fit(x)
    gap = multivariate_normal(MEAN, COVARIANCE).logpdf(fresh) - density.score_samples(fresh)
    assert abs(gap.mean() - 0.019) < 0.081


# --- refusals, and what is said ---------------------------------------------------------------------------------------


def test_refusals_say_what_to_do(exact: ScoreDensity) -> None:
    x = rows(20)
    with pytest.raises(NotFittedError):
        tiny().sample()
    with pytest.raises(ValueError, match="infinity"):
        tiny().fit(np.where(x > 10, np.inf, x))
    with pytest.raises(ValueError, match="NaN"):
        exact.score_samples(np.where(x > 10, np.nan, x))
    with pytest.raises(ScorefieldError, match="expected the same multiple in every column"):
        exact.denoise(x, 0.3)
    with pytest.raises(ScorefieldError, match="which was learned"):
        exact.denoise(x, 1e-4 * exact.scale_)
    with pytest.raises(ScorefieldError, match="expected a positive number or 3 of them"):
        exact.denoise(x, [0.1, 0.1])
    with pytest.raises(ScorefieldError, match="n_samples = 0, expected at least 1"):
        exact.sample(0)
    with pytest.raises(ScorefieldError, match="n_draws = 0"):
        exact.impute(x, 0)
    with pytest.raises(ScorefieldError, match="did you mean 'auto'"):
        tiny(recipe="outo").fit(x)
    with pytest.raises(ScorefieldError, match="expected auto, cpu or cuda"):
        tiny(device="tpu").fit(x)


def test_it_is_silent_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    tiny().fit(rows(20))
    assert capsys.readouterr() == ("", "")
    tiny(verbose=True).fit(rows(20))
    assert "100%, step 2" in capsys.readouterr().out


def test_an_interrupted_fit_keeps_what_it_has_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    step, taken = Trainer._step, []

    def interrupted(self: Trainer) -> Any:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(0)
        return step(self)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted after 3 steps"):
        density = tiny(max_steps=50).fit(rows(20))
    assert density.n_iter_ == 3 and density.sample(2).shape == (2, 3)


# --- extremes: no unit and no row spoils an answer --------------------------------------------------------------------


@pytest.mark.parametrize("c", [1e300, 2.0**-900])  # whose squares are no floats
def test_in_any_unit_that_floats_can_hold_everything_scales(c: float) -> None:
    """sample(c·X) = c·sample(X), and so denoise and impute; score_samples(c·X) = score_samples(X) - d·log c."""
    x = rows(30)
    holes = x[:4].copy()
    holes[:, 1] = np.nan
    one, other = tiny().fit(x), tiny().fit(c * x)
    np.testing.assert_allclose(other.score_samples(c * x[:5]), one.score_samples(x[:5]) - 3 * math.log(c), rtol=0, atol=1e-7)
    np.testing.assert_allclose(other.sample(5, random_state=0) / c, one.sample(5, random_state=0), rtol=1e-7)
    np.testing.assert_allclose(other.impute(c * holes, random_state=0) / c, one.impute(holes, random_state=0), rtol=1e-7)
    np.testing.assert_allclose(other.denoise(c * x) / c, one.denoise(x), rtol=1e-7)


def test_columns_of_units_far_apart_do_not_meet() -> None:
    units = np.array([1e-200, 1.0, 1e200])
    one, other = tiny().fit(rows(30)), tiny().fit(units * rows(30))
    np.testing.assert_allclose(other.sample(4, random_state=0) / units, one.sample(4, random_state=0), rtol=1e-7)


@pytest.mark.parametrize("far", [1e3, 1e30, 1.7e308])
def test_a_far_row_gets_its_own_answer_and_leaves_the_others_alone(exact: ScoreDensity, far: float) -> None:
    """Of a Gaussian, -z²/2: by the flow where that can be followed, -inf where floats end."""
    x = rows(4, seed=2)
    there = x.copy()
    there[1, 0] = far
    found, usual = exact.score_samples(there), exact.score_samples(x)
    np.testing.assert_allclose(found[[0, 2, 3]], usual[[0, 2, 3]], rtol=0, atol=1e-9)
    assert found[1] == -np.inf if far > 1e155 else -np.inf < found[1] < -1e4
    holes = there.copy()
    holes[:, 1] = np.nan
    filled = exact.impute(holes, random_state=0)
    assert np.isfinite(filled).all()
    assert filled[1, 0] == far
    assert np.isfinite(exact.denoise(there)).all()


def test_a_huge_cell_in_training_stops_nothing() -> None:
    x = rows(40)
    x[3, 0] = -1.79e308
    with pytest.warns(UserWarning, match="column 0 takes separate values"):  # in units of its scale, all others are equal
        density = tiny().fit(x)
    assert np.isfinite(density.score_samples(x)).all()
    assert np.isfinite(density.mean_).all()
    assert density.mean_[0] == pytest.approx(-1.79e308 / 40)


# --- what has no density ----------------------------------------------------------------------------------------------


def test_a_constant_column_is_no_part_of_the_density() -> None:
    """The exact field of a Gaussian beside a constant: the Gaussian's own log-density, and none off the constant."""
    x = np.insert(rows(200), 1, 2024.0, axis=1)
    density = tiny().fit(x)
    vary, d = [0, 2, 3], np.zeros((4, 4))
    d[np.ix_(vary, vary)] = COVARIANCE / np.outer(density.scale_[vary], density.scale_[vary])
    mean = (np.insert(MEAN, 1, 2024.0) - density.mean_) / density.scale_
    density.field_ = Gaussian(mean, d, VE(SIGMA, 2000.0))
    smoothed = multivariate_normal(MEAN, COVARIANCE + np.diag((SIGMA * density.scale_[vary]) ** 2))
    np.testing.assert_allclose(density.score_samples(x[:9]), smoothed.logpdf(x[:9][:, vary]), rtol=0, atol=1e-3)
    x[2, 1] = 2025.0
    assert np.flatnonzero(np.isneginf(density.score_samples(x[:9]))).tolist() == [2]


def test_what_has_no_density_is_warned_of_and_what_has_one_is_not() -> None:
    z = np.random.default_rng(0).normal(size=(60, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny().fit(z)
    for spoilt, why in (
        (np.c_[np.round(z[:, 0]), z[:, 1]], "separate values"),
        (np.c_[np.where(np.arange(60) % 3, z[:, 0], 0), z[:, 1]], "33% of the values repeat"),
        (np.c_[z, z[:, 0]], "follow exactly from each other"),
    ):
        with pytest.warns(UserWarning, match=why):
            tiny().fit(spoilt)


# --- wrong arguments --------------------------------------------------------------------------------------------------


@each_case(
    wrong__sentence=[
        ({"max_steps": "ten"}, "'max_steps' parameter of ScoreDensity must be an int"),
        ({"max_steps": 2.5}, "'max_steps' parameter"),
        ({"max_steps": None}, "got neither max_steps nor max_seconds"),
        ({"max_seconds": -1}, "'max_seconds' parameter"),
        ({"recipe": 5}, "'recipe' parameter"),
        ({"recipe": "autoo"}, "did you mean 'auto'"),
        ({"settings": "network.width=8"}, "'settings' parameter"),
        ({"settings": (3,)}, "got 3 among the settings"),
        ({"device": 3}, "'device' parameter"),
        ({"random_state": "x"}, "'random_state' parameter"),
    ]
)
def test_a_wrong_parameter_is_refused_in_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        tiny(**wrong).fit(rows(20))
    assert "\n" not in str(caught.value)


def test_wrong_numbers_in_calls_are_refused_in_one_sentence(exact: ScoreDensity) -> None:
    x = rows(3)
    for call, sentence in (
        (lambda: exact.sample(2.5), "n_samples = 2.5"),
        (lambda: exact.sample("3"), "n_samples = '3'"),
        (lambda: exact.impute(x, n_draws="2"), "n_draws = '2'"),
        (lambda: exact.impute(x, particles=1.5), "particles = 1.5"),
        (lambda: exact.denoise(x, "loud"), "noise_std 'loud'"),
    ):
        with pytest.raises(ScorefieldError, match=sentence):
            call()
