"""Numbers of a measurement in different units: nothing depends on them, except in DPS, which says so.

With a positive diagonal D, (D·A, D·y, D·s) is the same measurement as (A, y, s).
"""

import math
from typing import Any

import numpy
import pytest
import torch
from helpers import double
from test_posterior_methods import COVARIANCE, GUIDED, LINEAR, MATRIX, MEAN, METHODS, NOISE, Y, mixture, posterior_of, small
from torch import Tensor

from scorefield import VE, Gaussian, GaussianMixture, SampleRng, ScorefieldError
from scorefield.guidance.posterior import Measured, posterior_sample
from scorefield.guidance.posterior.base import measured_of
from scorefield.guidance.posterior.diffpir import DiffpirField
from scorefield.guidance.posterior.dps import DpsField
from scorefield.guidance.posterior.guided import Guided
from scorefield.guidance.posterior.mmps import MmpsField
from scorefield.guidance.posterior.pigdm import Pigdm
from scorefield.guidance.posterior.repaint import known_of
from scorefield.guidance.posterior.rows import FEW, row_sizes
from scorefield.operators import Blur, Downsample, Mask, Matrix, Operator, dense
from scorefield.operators.axes import Shape
from scorefield.shapes import Sample

PROCESS = VE(0.01, 20.0)
D = double([1e6, 1e-3])
LEVELS = torch.logspace(-2, math.log10(20), 9, dtype=torch.float64)
X = SampleRng(range(16), stream=7).normal((3,)) * 2
UNITS_FREE = [name for name, kind in METHODS.items() if kind.linear_only]


class Rescaled(Operator):
    """D·A: another operator, each number in units of its own."""

    def __init__(self, operator: Operator, units: Tensor) -> None:
        self.operator, self.units = operator, units

    def shape_out(self, shape: Shape) -> Shape:
        return self.operator.shape_out(shape)

    def __call__(self, x: Sample) -> Tensor:
        return self.units * self.operator(x)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return self.operator.adjoint(self.units * y, shape)


def units_of(shape: Shape) -> Tensor:
    """Units from 1e-3 to 1e6."""
    return 10 ** (9 * SampleRng([5]).uniform(shape)[0] - 3)


def times(lam: float, rows: int) -> Tensor:
    return PROCESS.time_of_sigma(torch.full((rows,), lam, dtype=torch.float64))


def furthest(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


# --- guided fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GUIDED if name in UNITS_FREE])
@pytest.mark.parametrize("noise", [NOISE, double([0.0, 0.0]), double([0.3, 0.0])], ids=["noise", "none", "of the first alone"])
def test_measurements_in_any_units_count_as_much_in_a_guided_field(name: str, noise: Tensor) -> None:
    field = mixture(PROCESS)
    one, other = (
        GUIDED[name]().guided(field, Measured(Matrix(d.unsqueeze(1) * MATRIX), d * Y, d * noise)) for d in (torch.ones(2), D)
    )
    for lam in LEVELS.tolist():
        wanted = one(X, times(lam, 16)).score
        assert furthest(other(X, times(lam, 16)).score, wanted) < 1e-8, lam


@pytest.mark.parametrize("name", UNITS_FREE)
def test_a_method_draws_the_same_from_a_measurement_in_any_units(name: str) -> None:
    matrix = double([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]]) if name == "repaint" else MATRIX
    one, other = (
        posterior_sample(
            mixture(VE(0.05, 10.0)),
            Matrix(d.unsqueeze(1) * matrix),
            d * Y,
            d * NOISE,
            rng=SampleRng(range(16)),
            method=small(METHODS[name]),
        ).x
        for d in (torch.ones(2), D)
    )
    numpy.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-8)


def test_guided_fields_are_the_score_of_the_posterior_of_a_gaussian_prior_in_any_units() -> None:
    prior = Gaussian(MEAN, COVARIANCE, PROCESS)
    truth = Gaussian(*posterior_of(MEAN, COVARIANCE, MATRIX, Y, NOISE), PROCESS)
    measured = measured_of(prior, Matrix(D.unsqueeze(1) * MATRIX), D * Y, D * NOISE)
    fields: list[Guided] = [MmpsField(prior, measured, 2), Pigdm(covariance="data").guided(prior, measured)]
    for guided in fields:
        for lam in LEVELS.tolist():
            assert furthest(guided(X, times(lam, 16)).score, truth(X, times(lam, 16)).score) < 1e-8, lam


@pytest.mark.parametrize("name", ["mmps", "tmpd", "pigdm", "diffpir", "split-gibbs"])
def test_what_is_measured_in_units_a_million_times_smaller_is_not_ignored(name: str) -> None:
    """Independent coordinates: the second one alone has the answer that it has beside the first."""
    prior, n = Gaussian([0.0, 0.0], torch.eye(2), VE(0.01, 100.0)), 500
    y, s, a = double([5e5, 0.7]), double([1.0, 0.1]), double([1e6, 1.0])
    both = posterior_sample(prior, Matrix(torch.diag(a)), y, s, rng=SampleRng(range(n)), method=name).x[:, 1]
    alone = posterior_sample(prior, Matrix([[0.0, 1.0]]), y[1:], 0.1, rng=SampleRng(range(10_000, 10_000 + n)), method=name).x[
        :, 1
    ]
    assert abs(float(both.mean() - alone.mean())) < 5 * math.sqrt(float(both.var() + alone.var()) / n)
    if name in ("mmps", "tmpd", "pigdm"):  # exact for this prior
        mean, covariance = posterior_of(torch.zeros(2).double(), torch.eye(2).double(), torch.diag(a), y, s)
        assert abs(float(both.mean() - mean[1])) < 5 * math.sqrt(float(covariance[1, 1]) / n)


@pytest.mark.parametrize("operator", LINEAR.values(), ids=LINEAR)
def test_mmps_of_an_image_is_the_score_of_the_posterior_with_units_of_its_own_for_each_number(operator: Any) -> None:
    shape = (1, 4, 4)
    root = SampleRng(range(16), stream=1).normal((16,)) / 4 + torch.eye(16)
    prior, y = Gaussian(torch.zeros(shape), root @ root.mT, PROCESS), SampleRng([3]).normal(operator.shape_out(shape))[0]
    mean, covariance = posterior_of(prior.mean, prior.covariance, dense(operator, shape), y.flatten(), 0.5)
    truth, units = Gaussian(mean.reshape(shape), covariance, PROCESS), units_of(y.shape)
    guided = MmpsField(prior, measured_of(prior, Rescaled(operator, units), units * y, 0.5 * units), 3 * y.numel())
    x = SampleRng(range(4)).normal(shape)
    for lam in LEVELS.tolist():
        assert furthest(guided(x, times(lam, 4)).score, truth(x, times(lam, 4)).score) < 1e-8, lam


@pytest.mark.parametrize("noise", [0.3, 0.01])
def test_the_proximal_step_of_a_large_image_does_not_depend_on_the_units(noise: float) -> None:
    """Its sizes of rows are estimated from signs."""
    shape, operator = (1, 80, 80), Downsample(2)
    prior, y = GaussianMixture([1.0], torch.zeros(1, *shape), [1.0], PROCESS), SampleRng([3]).normal((1, 40, 40))[0]
    units, x = units_of(y.shape), SampleRng(range(2)).normal(shape)
    one = DiffpirField(prior, Measured(operator, y, noise), 1.0)
    other = DiffpirField(prior, Measured(Rescaled(operator, units), units * y, noise * units), 1.0)
    for lam in (0.05, 1.0, 10.0):
        wanted = one(x, times(lam, 2)).score
        assert furthest(other(x, times(lam, 2)).score, wanted) < 1e-8, lam


# --- DPS --------------------------------------------------------------------------------------------------------------


def test_dps_depends_on_units_and_one_factor_of_all_is_a_factor_of_zeta() -> None:
    field, t = mixture(PROCESS), times(0.5, 16)
    plain, longer, larger, uneven = (
        DpsField(field, Measured(Matrix(d.unsqueeze(1) * MATRIX), d * Y, 0.1), zeta)(X, t).score - field(X, t).score
        for d, zeta in ((torch.ones(2), 0.01), (torch.ones(2), 0.03), (3 * torch.ones(2), 0.01), (double([3.0, 1.0]), 0.01))
    )
    numpy.testing.assert_allclose(larger, longer, rtol=1e-10)
    assert furthest(uneven, plain) > 0.1


# --- RePaint ----------------------------------------------------------------------------------------------------------


def test_repaint_knows_a_choice_of_coordinates_in_any_units_and_refuses_sums_in_small_ones() -> None:
    known = known_of(Measured(Matrix([[0.0, 0.0, 1e6], [-1e-3, 0.0, 0.0]]), double([5e6, 7e-3]), 0.0), (3,))
    numpy.testing.assert_allclose(known, [-7.0, math.nan, 5.0], rtol=1e-12)
    with pytest.raises(ScorefieldError, match="for RePaint"):
        known_of(Measured(Matrix([[1e-6, 1e-6, 0.0], [0.0, 0.0, 1.0]]), double([1.0, 1.0]), 0.0), (3,))


# --- sizes of rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", LINEAR.values(), ids=LINEAR)
def test_sizes_of_few_rows_are_the_squares_of_their_norms(operator: Any) -> None:
    y = torch.zeros(operator.shape_out((1, 4, 4)), dtype=torch.float64)
    wanted = dense(operator, (1, 4, 4)).square().sum(dim=1).reshape(y.shape)
    numpy.testing.assert_allclose(row_sizes(Measured(operator, y, 0.0), (1, 4, 4)), wanted, rtol=1e-12)


def test_sizes_of_few_columns_are_the_squares_of_the_norms_of_all_rows() -> None:
    matrix = SampleRng(range(3000)).normal((4,)) * units_of((3000, 1))
    found = row_sizes(Measured(Matrix(matrix), torch.zeros(3000).double(), 0.0), (4,))
    numpy.testing.assert_allclose(found, matrix.square().sum(dim=1), rtol=1e-12)


def test_sizes_of_many_rows_are_right_within_a_factor_of_eight_and_those_of_one_size_stay_so() -> None:
    shape = (1, 40, 40)
    assert math.prod(shape) > FEW
    for operator in (Blur(0.8), Rescaled(Blur(0.8), units_of(shape))):
        found = row_sizes(Measured(operator, torch.zeros(shape).double(), 0.0), shape)
        ratio = found / dense(operator, shape).square().sum(dim=1).reshape(shape)
        assert 1 / 8 < float(ratio.min()) and float(ratio.max()) < 8
        assert isinstance(operator, Rescaled) or bool((found == found[0, 0, 0]).all())
    mask = Mask(torch.arange(1600).reshape(40, 40) % 7 > 0)
    assert bool((row_sizes(Measured(mask, torch.zeros(mask.shape_out(shape)).double(), 0.0), shape) == 1).all())


def test_a_row_that_is_nothing_but_rounding_has_no_size_and_no_say() -> None:
    matrix, prior = Matrix([[1.0, 0.0, 0.0], [0.0, 1e-17, 0.0], [0.0, 0.0, 0.0]]), Gaussian(MEAN, COVARIANCE, PROCESS)
    measured = Measured(matrix, double([0.7, 1e-17, 0.3]), 0.0)
    assert row_sizes(measured, (3,)).tolist() == [1.0, 0.0, 0.0]
    alone = Measured(Matrix([[1.0, 0.0, 0.0]]), double([0.7]), 0.0)
    for name in ("mmps", "tmpd", "pigdm", "diffpir"):
        found, wanted = (GUIDED[name]().guided(prior, one)(X, times(0.5, 16)).score for one in (measured, alone))
        assert furthest(found, wanted) < 1e-10
