"""Runge-Kutta: order 5, an error proportional to the tolerance, and examples that do not know each other."""

import math
from functools import partial

import pytest
import torch
from helpers import double

from scorefield import ScorefieldError, runge_kutta
from scorefield.errors import NotFinite
from scorefield.runge_kutta import ERROR, NODES, STAGES, solve, step


def swing(u: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A non-linear slope that depends on u: y' = y²·cos u, so that y = y_0/(1 - y_0·sin u)."""
    return y**2 * u.cos()[:, None]


def truth(u: float, y: torch.Tensor) -> torch.Tensor:
    return y / (1 - y * math.sin(u))


def test_every_stage_is_consistent_and_both_answers_are_averages_of_slopes() -> None:
    for node, weights in zip(NODES, STAGES, strict=True):
        assert math.isclose(sum(weights), node, abs_tol=1e-15)
    assert abs(sum(ERROR)) < 1e-16


@pytest.mark.parametrize("power", range(5))
def test_quadrature_of_polynomials_is_exact_up_to_degree_four_and_the_companion_up_to_three(power: int) -> None:
    b, snapshot = STAGES[-1], 1 / (power + 1)
    fifth = sum(w * c**power for w, c in zip(b, NODES, strict=False))
    companion = fifth - sum(w * c**power for w, c in zip(ERROR, NODES, strict=True))
    assert math.isclose(fifth, snapshot, rel_tol=1e-14)
    assert math.isclose(companion, snapshot, rel_tol=1e-14) == (power <= 3)


def test_halving_a_fixed_step_divides_the_error_by_two_to_the_fifth() -> None:
    y0 = double([[0.5], [-0.7]])
    rows = torch.arange(2)
    gaps = []
    for steps in (20, 40):
        y, h = y0, 1.2 / steps
        for i in range(steps):
            u = torch.full((2,), i * h, dtype=torch.float64)
            y, _, _ = step(swing, u, y, torch.full_like(u, h), swing(u, y, rows), rows)
        gaps.append(float((y - truth(1.2, y0)).abs().max()))
    assert 4.7 < math.log2(gaps[0] / gaps[1]) < 5.6


def test_the_error_is_proportional_to_the_tolerance_and_smaller_than_ten_times_it() -> None:
    y0 = double([[0.5, 0.3], [-0.7, 0.6]])
    gaps, prices = [], []
    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        found = solve(swing, y0, 0.0, 2.0, rtol=tolerance, atol=tolerance)
        gaps.append(float((found.y - truth(2.0, y0)).abs().max()))
        prices.append(float(found.evaluations.double().mean()))
        assert gaps[-1] < 10 * tolerance
    exponent = math.log10(gaps[0] / gaps[-1]) / 6
    assert 0.75 < exponent < 1.25
    assert 10 ** (2 / 5) * 0.6 < prices[-1] / prices[-2] < 10 ** (2 / 5) * 1.4  # the price of a fifth-order method


def test_the_way_back_leads_home() -> None:
    y0 = double([[0.5, 0.3], [-0.7, 0.6]])
    there = solve(swing, y0, 0.0, 2.0, rtol=1e-10, atol=1e-10)
    back = solve(swing, there.y, 2.0, 0.0, rtol=1e-10, atol=1e-10)
    assert float((back.y - y0).abs().max()) < 1e-8


def test_an_example_does_not_depend_on_its_batch_and_brings_its_own_row_start_and_end() -> None:
    speeds = double([1.0, 30.0, 0.0, 3.0])
    ends = double([1.0, 2.0, 1.0, 0.0])

    def slope(first: int, u: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -speeds[first + rows, None, None] * y

    y0 = torch.ones(4, 2, 1, dtype=torch.float64)
    together = solve(partial(slope, 0), y0, 0.0, ends, rtol=1e-8, atol=1e-8)
    expected = (-speeds * ends).exp()
    assert float((together.y - expected[:, None, None]).abs().max()) < 1e-6
    assert together.evaluations[1] > 3 * together.evaluations[0] > 0
    assert together.evaluations[3] == 0  # it was there already
    for i in range(4):
        alone = solve(partial(slope, i), y0[i : i + 1], 0.0, ends[i : i + 1], rtol=1e-8, atol=1e-8)
        assert torch.equal(alone.y[0], together.y[i])
        assert alone.evaluations[0] == together.evaluations[i]


def test_evaluations_are_those_that_were_made() -> None:
    made = torch.zeros(2, dtype=torch.int64)

    def slope(u: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        made[rows] += 1
        return swing(u, y, rows)

    found = solve(slope, double([[0.9], [-0.1]]), 0.0, 1.4)
    assert torch.equal(made, found.evaluations)
    assert made[0] > made[1]


def test_what_cannot_be_followed_stops_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(NotFinite, match="got no finite or smooth slope"):
        solve(lambda u, y, rows: y * torch.nan, one, 0.0, 1.0)
    with pytest.raises(NotFinite, match="got no finite or smooth slope"):
        solve(lambda u, y, rows: y**2, one, 0.0, 2.0)  # infinite at u = 1
    with pytest.raises(ScorefieldError, match="expected rtol >= 0 and atol > 0"):
        solve(swing, one, 0.0, 1.0, atol=0.0)
    monkeypatch.setattr(runge_kutta, "ATTEMPTS", 5)
    with pytest.raises(ScorefieldError, match="unfinished after 5 steps"):
        solve(swing, one * 0.9, 0.0, 1.4, rtol=1e-12, atol=1e-12)
