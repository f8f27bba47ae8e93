"""Conformal: intervals of draws, their widening and p-values hold at their level whatever the distribution is."""

from __future__ import annotations

import math

import pytest
import torch

from scorefield import SampleRng
from scorefield.conformal import interval, p_values, scores_of, widened, widening

N = 4000


def heavy(rng: SampleRng, size: int) -> torch.Tensor:
    """Numbers of a distribution with heavy tails and another spread in each row, `(n, size)`."""
    scale = 1 + 5 * rng.uniform((1,))
    return scale * rng.normal((size,)) / rng.uniform((size,)).sqrt()


@pytest.mark.theorem("draw-interval")
@pytest.mark.parametrize("draws", [19, 20, 39, 100])
def test_the_interval_of_draws_holds_another_one_with_its_probability(draws: int) -> None:
    x = heavy(SampleRng(range(N)), draws + 1)
    low, high = interval(x[:, 1:].mT, 0.9)
    held = float(((x[:, 0] >= low) & (x[:, 0] <= high)).double().mean())
    # between two ranks an interpolated end holds what lies between them, so the share is exact at whole ranks alone
    lower, upper = (2 * math.floor(0.95 * (draws + 1)) / (draws + 1) - 1, 2 * math.ceil(0.95 * (draws + 1)) / (draws + 1) - 1)
    error = 5 * math.sqrt(0.09 / N)
    assert lower - error < held < upper + error


def test_with_fewer_draws_the_interval_is_that_of_the_smallest_and_the_largest() -> None:
    x = torch.tensor([3.0, 1.0, 2.0])
    assert [float(end) for end in interval(x, 0.9)] == [1.0, 3.0]


@pytest.mark.theorem("conformal-widening")
def test_intervals_of_a_model_that_is_too_sure_are_widened_until_they_hold_their_share() -> None:
    truth = heavy(SampleRng(range(2 * N)), 1)[:, 0]
    low, high, unit = -torch.ones_like(truth), torch.ones_like(truth), torch.ones_like(truth)
    seen, new = slice(0, N), slice(N, 2 * N)
    assert float((truth.abs() <= 1).double().mean()) < 0.5
    by = widening(scores_of(truth[seen], low[seen], high[seen], unit[seen]), torch.arange(N), 0.9)
    low, high = widened(low[new], high[new], unit[new], by)
    held = float(((truth[new] >= low) & (truth[new] <= high)).double().mean())
    first = float((truth[seen].abs() <= 1).double().std()) / math.sqrt(N)  # what is asked for is less by this
    assert abs(held - (0.9 - first)) < 5 * math.sqrt(2 * 0.09 / N)


def test_intervals_that_hold_enough_stay_as_they_are() -> None:
    truth = SampleRng(range(N)).uniform()
    ends = torch.full((N,), 0.02), torch.full((N,), 0.98)
    assert widening(scores_of(truth, *ends, torch.ones(N)), torch.arange(N), 0.9) == 0.0


def test_cells_of_few_rows_widen_less_than_they_would_alone() -> None:
    scores = torch.cat([torch.full((50,), -1.0), torch.full((10,), 3.0)])  # one row of six has all that is outside
    alone = widening(scores, torch.arange(60), 0.9)
    together = widening(scores, torch.arange(60) // 10, 0.9)
    assert (alone, together) == (3.0, 0.0)


def test_too_few_cells_cannot_tell() -> None:
    assert widening(torch.ones(5), torch.zeros(5).long(), 0.9) == math.inf


@pytest.mark.theorem("conformal-p-value")
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_p_value_is_at_most_r_with_probability_at_most_r_and_nearly_so(rate: float) -> None:
    trials, unseen = 300, 199
    alarms = torch.tensor(
        [
            float((p_values(x[:100], x[100:]) <= rate).double().mean())
            for x in (heavy(SampleRng(range(100 + unseen), stream=trial), 1)[:, 0] for trial in range(trials))
        ]
    )
    exact = math.floor(rate * (unseen + 1)) / (unseen + 1)
    assert abs(float(alarms.mean()) - exact) < 5 * float(alarms.std()) / math.sqrt(trials)


def test_equal_scores_have_the_p_value_of_the_largest_rank() -> None:
    assert p_values(torch.tensor([1.0]), torch.tensor([1.0, 1.0, 2.0, 0.0])).tolist() == [0.8]
