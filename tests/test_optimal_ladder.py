"""Ladders optimised for a field: they never lose to the ladder whose levels they are chosen from, and the best is the best.

Errors are those of the samples themselves, against a fine run from the same starts: nothing here is random but the starts,
which every ladder shares.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from helpers import each_case

from scorefield import VP, Gaussian, GaussianMixture, LinearVE, SampleRng, ScorefieldError
from scorefield.levels import ladder_of
from scorefield.samplers import ABM, optimal, simulate
from scorefield.samplers.optimal import optimised


def ring(process: Any) -> GaussianMixture:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = 5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(torch.arange(1, 9), means, torch.full((8,), 0.5), process)


def high(process: Any) -> GaussianMixture:
    means = 3 * torch.randn(8, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return GaussianMixture(torch.arange(1, 9), means, torch.linspace(0.3, 1.5, 8), process)


FIELDS = {
    "ring": ring(LinearVE()),
    "32 dimensions": high(LinearVE()),
    "ring, variance preserving": ring(VP()),
    "32 dimensions, variance preserving": high(VP()),
}
each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
STARTS = 2048


def end(field: Any, ladder: torch.Tensor) -> torch.Tensor:
    *_, last = simulate(field, ABM(), ladder, rng=SampleRng(range(STARTS), stream=5))
    return last.x


@pytest.mark.parametrize("name", FIELDS)
def test_ten_levels_chosen_for_a_field_beat_ten_of_every_ladder_that_does_not_know_it(name: str) -> None:
    field = FIELDS[name]
    truth = end(field, ladder_of(field, "log-cauchy", 300))

    def errors(ladder: torch.Tensor) -> torch.Tensor:
        return (end(field, ladder) - truth).square().mean(dim=1)

    chosen, plain = errors(optimised(field, 10, rng=SampleRng(range(128)))), errors(ladder_of(field, "log-cauchy", 10))
    assert errors(ladder_of(field, "log-cauchy", 150)).mean() < 1e-4 * chosen.mean()  # the truth is one
    # Few starts, those between two modes, make most of the mean: on the variance preserving ring the two are level.
    gain = plain - chosen
    assert gain.mean() > (0 if "preserving" not in name else -gain.std() / math.sqrt(STARTS))
    assert chosen.mean() < 0.25 * errors(ladder_of(field, "karras", 10)).mean()
    assert chosen.mean() < 0.25 * errors(ladder_of(field, "geometric", 10)).mean()


@each_field
@each_case(levels=[2, 3, 64])
def test_it_falls_strictly_from_the_largest_time_to_the_smallest(field: Any, levels: int) -> None:
    ladder = optimised(field, levels, rng=SampleRng(range(32)))
    assert ladder.shape == (levels,) and ladder.dtype == torch.float64
    assert bool((ladder.diff() < 0).all())
    assert float(ladder[0]) == field.process.t_max
    assert float(ladder[-1]) == field.process.t_min


def test_its_times_are_times_of_the_fine_ladder_and_with_all_of_them_it_is_the_fine_ladder() -> None:
    field = FIELDS["ring"]
    fine = ladder_of(field, "log-cauchy", 24)
    assert set(optimised(field, 7, rng=SampleRng(range(32)), fine=24).tolist()) <= set(fine.tolist())
    assert torch.equal(optimised(field, 24, rng=SampleRng(range(32)), fine=24), fine)


def test_it_costs_one_evaluation_of_the_pilot_for_every_fine_level() -> None:
    calls = []

    class Counting(GaussianMixture):
        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None) -> Any:
            calls.append(len(x))
            return super().__call__(x, t, cond)

    field = Counting([0.8, 0.2], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0], LinearVE())
    optimised(field, 10, rng=SampleRng(range(16)), fine=40)
    assert calls == [16] * 40


def test_the_programme_finds_what_trying_every_ladder_finds() -> None:
    """Random costs of pairs of steps, 7 candidates, every number of levels: by brute force."""
    n, generator = 7, torch.Generator().manual_seed(3)
    first, steps, last = (torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in ((n,), (n, n, n), (n, n)))
    k = torch.arange(n)
    h, i, j = torch.meshgrid(k, k, k, indexing="ij")
    steps[~((h < i) & (i < j))] = math.inf
    last[~(k.unsqueeze(1) < k)] = math.inf
    last[:, -1] = math.inf
    first[0] = math.inf
    for levels in (3, 4, 5, 6):

        def cost(path: tuple[int, ...]) -> float:
            inner = sum(float(steps[a, b, c]) for a, b, c in zip(path, path[1:], path[2:-1], strict=False))
            return float(first[path[1]]) + inner + float(last[path[-3], path[-2]])

        paths = [(0, *middle, n - 1) for middle in itertools.combinations(range(1, n - 1), levels - 2)]
        assert tuple(optimal._shortest(first, steps, last, levels)) == min(paths, key=cost)


def test_the_errors_of_a_step_vanish_on_polynomials_of_the_degree_that_it_integrates() -> None:
    """With dy/du = -F the prediction is exact for a linear F and the correction for a parabola."""
    u = torch.tensor([1.5, 1.2, 0.8, 0.35, 0.1], dtype=torch.float64)
    rows = u.unsqueeze(1)
    legal = [(a, b, c) for a, b, c in itertools.combinations(range(5), 3)]

    def errors(power: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return optimal._errors(-(rows ** (power + 1)) / (power + 1), rows**power, u)

    # A step is charged |corrected| + step/2·|predicted|: nothing for a linear F. Roots of mean squares keep half the digits.
    for power, zero in ((0, True), (1, True), (2, False)):
        _, steps, last = errors(power)
        assert all((float(steps[triple]) < 1e-7) == zero for triple in legal)
        assert (float(last[0, 2]) < 1e-7) == zero
    _, steps, last = errors(2)
    for h, i, j in legal:
        step, before = float(u[j] - u[i]), float(u[i] - u[h])
        predicted = abs(step**3 / 3 + step**2 * before / 2)  # integral of (v - u_i)(v - u_h), F having the second difference 1
        assert float(steps[h, i, j]) == pytest.approx(abs(step) / 2 * predicted, rel=1e-6)  # the correction adds nothing
        if j == 4:
            assert float(last[h, i]) == pytest.approx(predicted, rel=1e-6)
    first, _, _ = errors(1)  # a trapezium is exact, Euler's step misses step²/2
    whole = (u[1:] - u[0]).abs()
    torch.testing.assert_close(first[1:], whole / 2 * whole**2 / 2, rtol=1e-6, atol=1e-7)
    assert math.isinf(float(first[0]))


def test_on_a_gaussian_of_equal_variances_every_ladder_is_as_good_and_one_is_found() -> None:
    field = Gaussian([1.0, 2.0], [[2.0, 0.0], [0.0, 2.0]], LinearVE())
    assert len(optimised(field, 6, rng=SampleRng(range(16)))) == 6


@pytest.mark.parametrize("levels", [-1, 0, 1, 65])
def test_a_number_of_levels_that_cannot_be_had_is_refused(levels: int) -> None:
    with pytest.raises(ScorefieldError, match=f"got {levels} levels, expected 2 to 64"):
        optimised(FIELDS["ring"], levels, rng=SampleRng(range(4)))


def test_data_that_are_one_point_have_a_ladder_too() -> None:
    field = GaussianMixture([1.0], [[2.0, -1.0]], [0.0], LinearVE(0.01, 10.0))
    assert bool((optimised(field, 5, rng=SampleRng(range(4))).diff() < 0).all())
