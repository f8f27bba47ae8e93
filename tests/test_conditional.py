"""Conditional draws of rows: against the closed form of Gaussians and mixtures, whatever is missing in each row."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import VE, Gaussian, GaussianMixture, SampleRng, ScorefieldError
from scorefield.guidance.conditional import Way, conditional_draws, crps

NAN = math.nan
MEAN = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
ROOT = torch.tensor(
    [[1.0, 0.0, 0.0, 0.0], [0.9, 0.4, 0.0, 0.0], [-0.5, 0.3, 0.7, 0.0], [0.2, -1.5, 0.4, 0.2]], dtype=torch.float64
)
COVARIANCE = ROOT @ ROOT.mT
PATTERNS = torch.tensor(
    [[1.5, NAN, NAN, NAN], [NAN, -1.0, 0.2, NAN], [0.0, NAN, 1.0, 2.0], [NAN, NAN, NAN, 8.0], [NAN] * 4], dtype=torch.float64
)


def given(mean: Tensor, covariance: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of the missing numbers of a Gaussian row given the known ones, and log-density of these."""
    known = ~row.isnan()
    a, b, c = covariance[~known][:, ~known], covariance[~known][:, known], covariance[known][:, known]
    off = row[known] - mean[known]
    gain = b @ torch.linalg.inv(c) if bool(known.any()) else b
    density = -0.5 * (off @ torch.linalg.solve(c, off) + torch.logdet(2 * math.pi * c)) if bool(known.any()) else off.sum()
    return mean[~known] + gain @ off, a - gain @ b.mT, density


@pytest.mark.theorem("gaussian-conditional")
def test_draws_of_a_gaussian_have_the_conditional_mean_and_covariance_in_every_pattern_and_any_number_of_levels() -> None:
    n = 4000
    for levels, together in ((2, True), (7, True), (3, False)):
        field = Gaussian(MEAN.tolist(), COVARIANCE.tolist(), VE(0.001, 50.0))
        found = conditional_draws(
            field, PATTERNS, n, rng=SampleRng(range(5)), particles=1, levels=levels, way=Way(together=together)
        )
        # every weight is constant: the draws are independent, but for what the lowest level of the process leaves
        assert float(found.effective.min()) > 0.99
        for i, row in enumerate(PATTERNS):
            missing = row.isnan()
            mean, covariance, _ = given(MEAN, COVARIANCE, row)
            x = found.x[:, i, missing]
            error = (covariance.diagonal() / n).sqrt()
            assert bool(((x.mean(dim=0) - mean).abs() < 5 * error).all()), (levels, i)
            wishart = ((covariance**2 + torch.outer(covariance.diagonal(), covariance.diagonal())) / n).sqrt()
            assert bool(((x.mT.cov().reshape(covariance.shape) - covariance).abs() < 5 * wishart).all()), (levels, i)


MEANS = [[-2.0, -1.0, 0.0], [2.0, 1.0, 1.0]]
STDS, WEIGHTS = [0.7, 0.9], [0.3, 0.7]


@pytest.mark.theorem("mixture-posterior")
@pytest.mark.parametrize("row", [[0.3, NAN, NAN], [NAN, 0.5, NAN], [NAN, -0.4, 0.7], [NAN, NAN, NAN]])
def test_draws_of_a_mixture_have_the_conditional_weights_means_and_variances(row: list[float]) -> None:
    field = GaussianMixture(WEIGHTS, MEANS, STDS, VE(0.001, 50.0))
    known = torch.tensor(row, dtype=torch.float64)
    parts = [given(torch.tensor(m).double(), torch.eye(3).double() * s**2, known) for m, s in zip(MEANS, STDS, strict=True)]
    weights = torch.stack([math.log(w) + density for w, (_, _, density) in zip(WEIGHTS, parts, strict=True)]).softmax(dim=0)
    first = weights @ torch.stack([mean for mean, _, _ in parts])
    second = weights @ torch.stack([mean**2 + covariance.diagonal() for mean, covariance, _ in parts])
    filters = 120  # of 160 particles, on so many levels that the error of the steps is below the scatter
    rng = SampleRng(range(filters))
    x = conditional_draws(field, known.expand(filters, 3), 40, rng=rng, particles=4, levels=120).x[:, :, known.isnan()]
    for measured, truth in ((x, first), (x**2, second)):
        each = measured.mean(dim=0)  # of a filter, whose draws are not independent; filters are
        assert bool(((each.mean(dim=0) - truth).abs() < 5 * each.std(dim=0) / math.sqrt(filters)).all())
    ends = [parts[0][0], parts[1][0]]
    nearer = ((x - ends[1]) ** 2).sum(dim=2) < ((x - ends[0]) ** 2).sum(dim=2)
    draws = SampleRng(range(20_000))
    which = (draws.uniform() < weights[1]).long()
    truth = torch.stack(ends)[which] + torch.tensor(STDS).double()[which, None] * draws.normal((int(known.isnan().sum()),))
    exact = (((truth - ends[1]) ** 2).sum(dim=1) < ((truth - ends[0]) ** 2).sum(dim=1)).double()
    share = nearer.double().mean(dim=0)
    error = math.hypot(float(share.std()) / math.sqrt(filters), float(exact.std()) / math.sqrt(len(exact)))
    assert abs(float(share.mean() - exact.mean())) < 5 * error


def test_known_numbers_come_back_as_they_are_and_nothing_else_is_missing() -> None:
    field = GaussianMixture(WEIGHTS, MEANS, STDS, VE(0.01, 50.0))
    known = torch.tensor([[0.1, NAN, 0.3], [0.1, 0.2, 0.3]], dtype=torch.float64)
    found = conditional_draws(field, known, 3, rng=SampleRng(range(2)))
    for rows in (*found.x, found.mean):
        assert bool((rows[~known.isnan()] == known[~known.isnan()]).all())
        assert bool(rows.isfinite().all())


def test_the_draws_of_a_row_do_not_depend_on_the_other_rows_or_on_how_many_are_done_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field, rng = GaussianMixture(WEIGHTS, MEANS, STDS, VE(0.01, 50.0)), SampleRng(range(4))
    known = torch.tensor([[0.1, NAN, 0.3], [NAN, 1.0, 0.5], [NAN, NAN, 2.0], [NAN, 0.0, NAN]], dtype=torch.float64)
    whole = conditional_draws(field, known, 5, rng=rng)
    each = conditional_draws(field, known, 5, rng=rng, way=Way(together=False))
    assert torch.allclose(
        conditional_draws(field, known[1:2], 5, rng=rng[1:2], way=Way(together=False)).x, each.x[:, 1:2], rtol=0, atol=1e-9
    )
    two = torch.tensor([1, 3])
    alone = conditional_draws(field, known[two], 5, rng=rng[two])
    assert torch.allclose(whole.x[:, two], alone.x, rtol=0, atol=1e-9)  # rounding: matrix products add in another order
    monkeypatch.setattr("scorefield.guidance.conditional.BATCH", 40)
    assert torch.allclose(conditional_draws(field, known, 5, rng=rng).x, whole.x, rtol=0, atol=1e-9)


@pytest.mark.theorem("gaussian-conditional")
def test_the_mean_over_particles_is_the_conditional_mean() -> None:
    field = Gaussian(MEAN.tolist(), COVARIANCE.tolist(), VE(0.001, 50.0))
    found = conditional_draws(field, PATTERNS, 2000, rng=SampleRng(range(5)), particles=1)
    for row, mean in zip(PATTERNS, found.mean, strict=True):
        truth, covariance, _ = given(MEAN, COVARIANCE, row)
        assert bool(((mean[row.isnan()] - truth).abs() < 5 * (covariance.diagonal() / 2000).sqrt()).all())


@pytest.mark.parametrize(
    ("known", "options", "says"),
    [
        ([[math.inf, 0.0, 0.0]], {}, "expected finite"),
        ([[0.0, NAN]], {}, "shape \\(1, 2\\)"),
        ([[0.0, NAN, NAN]] * 2, {}, "one row for each seed"),
        ([[0.0, NAN, NAN]], {"draws": 0}, "draws = 0"),
        ([[0.0, NAN, NAN]], {"particles": 0}, "particles = 0"),
        ([[0.0, NAN, NAN]], {"levels": 1}, "levels = 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(known: list[list[float]], options: dict[str, int], says: str) -> None:
    field = GaussianMixture(WEIGHTS, MEANS, STDS, VE(0.01, 50.0))
    with pytest.raises(ScorefieldError, match=says):
        conditional_draws(field, torch.tensor(known), rng=SampleRng([0]), **options)  # type: ignore[arg-type]


# --- how draws are measured -------------------------------------------------------------------------------------------


@pytest.mark.theorem("draw-error")
def test_a_draw_errs_by_root_two_more_than_the_conditional_mean_and_a_mean_of_draws_by_less() -> None:
    n, draws = 4000, 5
    field = Gaussian(MEAN.tolist(), COVARIANCE.tolist(), VE(0.001, 50.0))
    truth, missing = field.sample(SampleRng(range(n), stream=7)), PATTERNS[0].isnan()
    known = truth.masked_fill(missing, NAN)
    x = conditional_draws(field, known, draws, rng=SampleRng(range(n)), particles=1, levels=2).x
    gain = COVARIANCE[1:, 0] / COVARIANCE[0, 0]
    best = MEAN[1:] + (truth[:, :1] - MEAN[0]) * gain
    variance = (COVARIANCE[1:, 1:] - torch.outer(gain, COVARIANCE[0, 1:])).diagonal()
    for values, share in ((best, 1.0), (x[0][:, missing], 2.0), (x.mean(dim=0)[:, missing], 1 + 1 / draws)):
        ratio = (values - truth[:, missing]).square().mean(dim=0) / (share * variance)
        assert bool(((ratio - 1).abs() < 5 * math.sqrt(2 / n)).all()), share


@pytest.mark.theorem("crps")
@pytest.mark.parametrize("draws", [2, 3, 10])
def test_crps_is_the_distance_to_the_truth_less_half_of_that_between_two_draws_without_bias(draws: int) -> None:
    n, std = 20_000, 1.7
    x = std * SampleRng(range(n), stream=draws).normal((draws,)).mT
    pairs = (x[:, None, :5] - x[None, :, :5]).abs().sum(dim=(0, 1)) / (draws * (draws - 1))
    torch.testing.assert_close(crps(x[:, :5], x.new_tensor(0.3)), (x[:, :5] - 0.3).abs().mean(dim=0) - pairs / 2)
    for y in (0.0, 1.0, -6.0):
        z = torch.tensor(y / std, dtype=torch.float64)
        bell = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        wanted = std * float(z * (2 * torch.special.ndtr(z) - 1) + 2 * bell - 1 / math.sqrt(math.pi))  # of N(0, std²)
        found = crps(x, x.new_tensor(y))
        assert abs(float(found.mean()) - wanted) < 5 * float(found.std()) / math.sqrt(n)


@pytest.mark.theorem("crps")
def test_no_other_gaussian_has_a_lower_crps_on_average_than_the_one_that_the_truth_is_from() -> None:
    """And the excess is the integral of (F - G)², here by the trapezoidal rule."""
    n = 20_000
    x, y = SampleRng(range(n)).normal((2,)).mT, SampleRng(range(n), stream=1).normal()
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for shift, width in ((0.5, 1.0), (0.0, 0.5), (0.0, 2.0), (-1.0, 1.5)):
        excess = crps(shift + width * x, y) - crps(x, y)
        gap = torch.special.ndtr((grid - shift) / width) - torch.special.ndtr(grid)
        wanted = float(torch.trapezoid(gap**2, grid))
        assert abs(float(excess.mean()) - wanted) < 5 * float(excess.std()) / math.sqrt(n) < wanted
