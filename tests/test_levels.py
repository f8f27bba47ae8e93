"""Levels: ladders have the spacing they are named after, densities are distributed as declared, NCSNv2's are optimal."""

import math

import mpmath
import numpy
import pytest
import torch
from helpers import each_case
from scipy import optimize, stats

from scorefield import (
    VE,
    VP,
    LinearVE,
    LogNormal,
    Noiseless,
    RectifiedFlow,
    SampleRng,
    ScorefieldError,
    Tabulated,
    Uniform,
    geometric,
    karras,
    registry,
    uniform,
)
from scorefield.levels import Levels
from scorefield.ncsnv2 import largest_distance, level_ratio, number_of_levels, reachable_ratio, step_size, variance_ratio
from scorefield.process import Process
from scorefield.randomness import subsample

NEEDS_SETTINGS = {"tabulated": Tabulated.linear(1000)}
PROCESSES = {
    name: NEEDS_SETTINGS[name] if name in NEEDS_SETTINGS else kind() for name, kind in registry.every("process").items()
}
NOISY = {name: process for name, process in PROCESSES.items() if process.t_max > process.t_min}
DENSITIES = registry.every("noise_distribution")
LADDERS = {name: ladder for name, ladder in registry.every("ladder").items() if name != "lowest"}  # has one level by design
each_noisy = each_case(process=NOISY)
each_ladder = each_case(ladder=LADDERS)
FIVE_SIGMA = 5.7e-7  # two-sided chance of 5 standard deviations


def ratio_of(process: Process, t: torch.Tensor) -> numpy.ndarray:
    """sigma/alpha: what ladders are made of."""
    return (process.sigma(t) / process.alpha(t)).numpy()


# --- ladders ----------------------------------------------------------------------------------------------------------


@each_case(process=NOISY)
@each_ladder
@each_case(levels=[1, 2, 10, 500])
def test_a_ladder_falls_strictly_from_exactly_t_max_to_exactly_t_min(process: Process, ladder, levels: int) -> None:
    times = ladder(process, levels)
    assert times.shape == (levels,)
    assert times.dtype == torch.float64
    assert float(times[0]) == process.t_max
    assert levels == 1 or float(times[-1]) == process.t_min
    assert bool((times.diff() < 0).all())


@each_noisy
def test_the_lowest_ladder_is_the_single_time_of_least_noise(process: Process) -> None:
    assert registry.find("ladder", "lowest")(process, 1).tolist() == [process.t_min]


@each_ladder
def test_a_process_without_noise_has_one_level_and_it_is_time_zero(ladder) -> None:
    assert ladder(Noiseless(), 1).tolist() == [0.0]


@each_ladder
def test_more_levels_than_times_are_refused_with_a_sentence(ladder) -> None:
    if ladder is not registry.find("ladder", "lowest"):  # which has one level whatever is asked
        with pytest.raises(ScorefieldError, match="got 2 levels on a process with a single time, t = 0, expected 1"):
            ladder(Noiseless(), 2)


def test_training_on_levels_without_noise_looks_at_the_only_time() -> None:
    u = torch.linspace(0.001, 0.999, 7, dtype=torch.float64)
    assert Levels(10).quantile(Noiseless(), u).tolist() == [0.0] * 7
    assert Levels(10).parts(Noiseless()) == 1


@each_ladder
def test_a_ladder_of_no_levels_is_refused(ladder) -> None:
    with pytest.raises(ScorefieldError, match="got 0 levels, expected at least 1"):
        ladder(VE(), 0)


@pytest.mark.theorem("geometric-ladder")
@each_noisy
def test_geometric_means_a_constant_ratio_of_sigma_over_alpha(process: Process) -> None:
    ratios = ratio_of(process, geometric(process, 30))
    numpy.testing.assert_allclose(ratios[1:] / ratios[:-1], (ratios[-1] / ratios[0]) ** (1 / 29), rtol=4e-12)


@pytest.mark.theorem("geometric-ladder")
def test_the_ladder_of_ncsn_is_of_standard_deviations() -> None:
    """Song and Ermon (2019): ten levels from 1 to 0.01 have the ratio 0.6, so the second is 0.59948 (not its square)."""
    sigma = VE(0.01, 1.0).sigma(geometric(VE(0.01, 1.0), 10))
    numpy.testing.assert_allclose(sigma, [10 ** (-2 * j / 9) for j in range(10)], rtol=1e-13)


def test_on_a_ve_process_the_geometric_ladder_is_equally_spaced_in_time() -> None:
    numpy.testing.assert_allclose(geometric(VE(), 101), numpy.linspace(1, 0, 101), atol=1e-14)


@each_noisy
def test_uniform_means_equal_steps_of_time(process: Process) -> None:
    expected = [process.t_max - (process.t_max - process.t_min) * j / 7 for j in range(8)]
    numpy.testing.assert_allclose(uniform(process, 8), expected, rtol=0, atol=4 * 2.3e-16 * process.t_max)


@each_noisy
def test_karras_at_rho_one_means_equal_steps_of_sigma_over_alpha(process: Process) -> None:
    ratios = ratio_of(process, karras(process, 12, rho=1.0))
    numpy.testing.assert_allclose(ratios, numpy.linspace(ratios[0], ratios[-1], 12), rtol=2e-12)


@pytest.mark.theorem("karras-ladder")
@each_noisy
def test_karras_means_equal_steps_of_the_rho_th_root(process: Process) -> None:
    for rho in (2.0, 7.0):
        roots = ratio_of(process, karras(process, 9, rho=rho)) ** (1 / rho)
        numpy.testing.assert_allclose(numpy.diff(roots), (roots[-1] - roots[0]) / 8, rtol=1e-11)


@pytest.mark.theorem("karras-ladder")
def test_karras_gives_the_eighteen_levels_of_edm() -> None:
    """N = 18, 0.002 to 80, rho = 7: the ladder of Karras et al. (2022) for CIFAR-10, in 30 digits."""
    with mpmath.workdps(30):
        high, low = (mpmath.mpf(end) ** (mpmath.mpf(1) / 7) for end in ("80", "0.002"))
        exact = [(high + mpmath.mpf(j) / 17 * (low - high)) ** 7 for j in range(18)]
    times = karras(LinearVE(0.002, 80.0), 18)
    numpy.testing.assert_allclose(times, [float(level) for level in exact], rtol=1e-13)
    assert [f"{level:.4g}" for level in times.tolist()[:3]] == ["80", "57.59", "40.79"]


@pytest.mark.theorem("log-cauchy-ladder")
@each_noisy
def test_log_cauchy_levels_are_even_quantiles_of_a_cauchy_density_of_the_log_level_beside_the_data(process: Process) -> None:
    """By scipy's distribution function: equal steps of it, about the level of 0.78 = exp(-0.25) data deviations."""
    ladder = registry.find("ladder", "log-cauchy")(process, 11, data_std=0.4)
    shares = stats.cauchy.cdf(numpy.log(ratio_of(process, ladder) / 0.4), loc=-0.25, scale=1.5)
    numpy.testing.assert_allclose(numpy.diff(shares), (shares[-1] - shares[0]) / 10, rtol=1e-9)


def test_karras_in_the_limit_of_large_rho_is_geometric() -> None:
    """(1 + log(x)/rho)^rho tends to x, at a distance that falls like 1/rho."""
    exact = geometric(LinearVE(), 18).log()
    gaps = [float((karras(LinearVE(), 18, rho=rho).log() - exact).abs().max()) for rho in (1e3, 1e4)]
    assert math.isclose(gaps[0] / gaps[1], 10, rel_tol=0.02)


# --- densities --------------------------------------------------------------------------------------------------------

N = 20_000


def declared_log_ratio_cdf(density, process: Process, log_ratio: numpy.ndarray) -> numpy.ndarray:
    """The share of draws with ln(sigma/alpha) at most log_ratio, from the words of each density's first line."""
    ends = numpy.log(ratio_of(process, torch.tensor([process.t_min, process.t_max], dtype=torch.float64)))
    inside = numpy.where(log_ratio < ends[0], 0.0, numpy.where(log_ratio >= ends[1], 1.0, numpy.nan))
    match type(density).__name__:
        case "LogNormal":
            middle = stats.norm.cdf(log_ratio, density.mean, density.std)
        case "Uniform":
            times = numpy.linspace(process.t_min, process.t_max, 200_001)
            curve = numpy.log(ratio_of(process, torch.tensor(times)))
            middle = numpy.interp(log_ratio, curve, numpy.linspace(0, 1, len(times)))
        case "Levels":
            steps = numpy.linspace(ends[0], ends[1], density.levels)
            middle = numpy.searchsorted(steps, log_ratio + 1e-9, side="right") / density.levels
        case "Level":
            middle = (log_ratio + 1e-9 >= math.log(density.ratio)).astype(float)
        case "Steps":
            steps = numpy.arange(process.t_max, process.t_min - 1e-9, -1.0)[::-1].copy()
            curve = numpy.log(ratio_of(process, torch.tensor(steps)))
            middle = numpy.searchsorted(curve, log_ratio + 1e-9, side="right") / len(steps)
        case name:
            pytest.fail(f"write down what the density {name} declares")
    return numpy.where(numpy.isnan(inside), middle, inside)


@pytest.mark.parametrize("density", [kind() for kind in DENSITIES.values()], ids=DENSITIES)
@each_case(process=NOISY)
def test_a_density_is_distributed_as_it_declares(density, process: Process) -> None:
    """Kolmogorov's distance to the declared distribution; valid (and conservative) with atoms, where it is taken at them."""
    t = density.quantile(process, SampleRng(range(N), stream=3).uniform(()))
    assert bool(((t >= process.t_min) & (t <= process.t_max)).all())
    values, counts = numpy.unique(numpy.log(ratio_of(process, t)).round(9), return_counts=True)
    distance = numpy.abs(numpy.cumsum(counts) / N - declared_log_ratio_cdf(density, process, values + 1e-9)).max()
    assert distance < stats.kstwo.isf(FIVE_SIGMA, N)


@pytest.mark.parametrize("density", [kind() for kind in DENSITIES.values()], ids=DENSITIES)
@each_case(process=NOISY)
def test_a_quantile_function_never_falls_and_keeps_the_shape_of_its_argument(density, process: Process) -> None:
    u = torch.linspace(1e-9, 1 - 1e-9, 1000, dtype=torch.float64)
    t = density.quantile(process, u)
    assert bool((t.diff() >= 0).all())
    assert torch.equal(density.quantile(process, u.reshape(10, 100)).flatten(), t)


@pytest.mark.theorem("geometric-ladder")
def test_levels_are_exactly_the_times_of_the_geometric_ladder() -> None:
    process, ladder = VP(), geometric(VP(), 7)
    u = (torch.arange(7, dtype=torch.float64) + 0.5) / 7
    assert torch.equal(Levels(7).quantile(process, u), ladder.flip(0))
    edges = torch.tensor([1e-16, 1 - 1.2e-16], dtype=torch.float64)
    assert Levels(7).quantile(process, edges).tolist() == [process.t_min, process.t_max]


@pytest.mark.parametrize(
    "process", [VE(0.1, 1.0), LinearVE(0.1, 0.5), VE(3.0, 40.0), VP(), RectifiedFlow(), VE(1e-6, 1e-3)], ids=repr
)
def test_a_log_normal_density_is_the_truncated_law_wherever_the_range_lies(process: Process) -> None:
    """Below, around and up to ten deviations above the mean, against scipy; the ends of the range have no mass of their own."""
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    t = LogNormal(-1.2, 1.2).quantile(process, u)
    level = (process.sigma(t) / process.alpha(t)).log()
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = ((process.sigma(ends) / process.alpha(ends)).log().numpy() + 1.2) / 1.2
    numpy.testing.assert_allclose(level, stats.truncnorm.ppf(u.numpy(), low, high, loc=-1.2, scale=1.2), rtol=1e-7, atol=1e-7)
    assert bool((level.diff() > 0).all())


@pytest.mark.parametrize("mean", [-8.0, -1.2, 5.0])
def test_a_spread_log_normal_mixes_the_truncated_law_with_an_even_one(mean: float) -> None:
    process, density = VE(0.1, 1.0), LogNormal(mean, 1.2, spread=0.3)
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    level = process.sigma(density.quantile(process, u)).log().numpy()
    low, high = math.log(0.1), 0.0
    law = stats.truncnorm((low - mean) / 1.2, (high - mean) / 1.2, loc=mean, scale=1.2)
    numpy.testing.assert_allclose(0.7 * law.cdf(level) + 0.3 * (level - low) / (high - low), u, atol=1e-9)


def test_a_log_normal_density_outside_the_range_is_refused() -> None:
    with pytest.raises(
        ScorefieldError, match=r"ln\(sigma\) around 100 .* expected levels in the range of the process, -4\.61 to 2\.3"
    ):
        LogNormal(100.0, 1.2).quantile(VE(0.01, 10.0), torch.tensor([0.5], dtype=torch.float64))


def test_uniform_over_time_is_log_uniform_over_sigma_for_ve() -> None:
    sigma = VE(0.01, 50.0).sigma(Uniform().quantile(VE(0.01, 50.0), torch.tensor([0.5], dtype=torch.float64)))
    assert math.isclose(float(sigma), math.sqrt(0.01 * 50), rel_tol=1e-14)


# --- NCSNv2's choices -------------------------------------------------------------------------------------------------


@pytest.mark.theorem("sigma-max")
@pytest.mark.parametrize("shape", [(300, 2), (600, 3), (40, 1, 5, 5), (2, 1)])
def test_largest_distance_is_the_largest_of_all_pairs(shape: tuple[int, ...]) -> None:
    data = numpy.random.default_rng(0).normal(size=shape)
    rows = data.reshape(len(data), -1)
    brute = max(math.dist(a, b) for i, a in enumerate(rows) for b in rows[:i])
    assert math.isclose(largest_distance(torch.tensor(data)), brute, rel_tol=1e-13)


def test_largest_distance_does_not_depend_on_where_the_data_lie() -> None:
    """Moving by 2^30 is exact in binary for these points, so the distance, 5, must come back; squares of 2^30 are not."""
    data = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]], dtype=torch.float64).repeat(20, 1)
    assert largest_distance(data + 2**30) == 5.0


def test_largest_distance_of_a_thinned_set_is_that_of_some_of_its_pairs() -> None:
    data = torch.arange(100, dtype=torch.float64)[:, None] ** 2
    some = largest_distance(data, at_most=10, seed=0)
    assert any(some == b * b - a * a for b in range(100) for a in range(b))
    assert len({largest_distance(data, at_most=10, seed=seed) for seed in range(20)}) > 1
    assert largest_distance(data, at_most=10, seed=0) == some


@each_case(value=[0.0, 1.0, 1000.1, math.nan])
@each_case(n=[1, 5, 100])
def test_data_without_two_different_points_are_refused(value: float, n: int) -> None:
    with pytest.raises(ScorefieldError, match="without two different ones"):
        largest_distance(torch.full((n, 3), value, dtype=torch.float64))


@pytest.mark.theorem("level-overlap")
@pytest.mark.parametrize("dimension", [100, 28 * 28, 32 * 32 * 3, 64 * 64 * 3, 256 * 256 * 3])
def test_level_ratio_solves_the_equation_of_ncsnv2(dimension: int) -> None:
    def excess(gamma: float) -> float:
        shift = math.sqrt(2 * dimension) * (gamma - 1)
        return stats.norm.cdf(shift + 3 * gamma) - stats.norm.cdf(shift - 3 * gamma) - 0.5

    assert math.isclose(level_ratio(dimension), optimize.brentq(excess, 1, 100 ** (1 / 9), xtol=1e-15), rel_tol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 4, 5])
def test_level_ratio_in_few_dimensions_is_that_of_ncsn(dimension: int) -> None:
    assert math.isclose(level_ratio(dimension), 100 ** (1 / 9), rel_tol=1e-14)


@each_case(ends=[(0.01, 50.0), (0.01, 0.011), (0.002, 80.0)])
@each_case(gamma=[1.0398, 1.2, 1.668])
def test_number_of_levels_is_the_smallest_whose_ratio_is_at_most_gamma(ends: tuple[float, float], gamma: float) -> None:
    brute = next(levels for levels in range(2, 10_000) if (ends[1] / ends[0]) ** (1 / (levels - 1)) <= gamma * (1 + 1e-12))
    assert number_of_levels(*ends, gamma) == brute


def test_number_of_levels_returns_the_levels_that_a_ladder_was_made_of() -> None:
    for levels in range(2, 300):
        assert number_of_levels(0.01, 50.0, 5000 ** (1 / (levels - 1))) == levels


def variance_by_simulation(eps: numpy.ndarray | float, gamma: float, steps: int) -> numpy.ndarray | float:
    """x <- x - eps·x + sqrt(2·eps)·z at level 1, from variance gamma²: the recursion of the variance, step by step."""
    variance = gamma**2 + 0 * eps
    for _ in range(steps):
        variance = (1 - eps) ** 2 * variance + 2 * eps
    return variance


CHOICES = [(1.0375, 5), (1.668, 100), (1.668, 1), (1.2, 2), (3.0, 3), (1.001, 1), (1 + 1e-6, 5)]


@pytest.mark.theorem("variance-after-steps")
@each_case(gamma__steps=CHOICES)
@each_case(sigma_min=[1.0, 0.01])
def test_variance_ratio_is_what_the_steps_do_to_the_variance(gamma: float, steps: int, sigma_min: float) -> None:
    for eps in (1e-5, 0.03, 0.4, 1.0, 1.7):
        got = variance_ratio(eps * sigma_min**2, gamma, steps, sigma_min)
        assert math.isclose(got, variance_by_simulation(eps, gamma, steps), rel_tol=1e-10)


@pytest.mark.theorem("variance-after-steps")
@pytest.mark.parametrize(("gamma", "steps"), CHOICES)
def test_step_size_beats_every_other_step(gamma: float, steps: int) -> None:
    """Every other: a grid of 30,000 over (1e-8, 2), less those within 0.1 per cent of the chosen one."""
    chosen = step_size(gamma, steps)
    others = numpy.geomspace(1e-8, 1.9999, 30_000)
    others = others[numpy.abs(others / chosen - 1) > 1e-3]
    misfit = abs(variance_by_simulation(chosen, gamma, steps) - 1)
    assert misfit <= numpy.abs(variance_by_simulation(others, gamma, steps) - 1).min()


@pytest.mark.theorem("variance-after-steps")
@pytest.mark.parametrize("gamma", [1.001, 1.0375, 1.3, 2.0])
def test_step_size_for_one_step_a_level_is_one_minus_one_over_gamma_squared(gamma: float) -> None:
    """V = (1 - eps)²·gamma² + 2·eps is smallest there; the search grid has a spacing of 7.3e-5."""
    assert math.isclose(step_size(gamma, 1), 1 - gamma**-2, rel_tol=7.3e-5)


@pytest.mark.parametrize("sigma_min", [0.01, 1.0, 3.0])
def test_step_size_is_in_units_of_the_smallest_variance(sigma_min: float) -> None:
    assert math.isclose(step_size(1.1, 3, sigma_min), step_size(1.1, 3) * sigma_min**2, rel_tol=1e-14)


PUBLISHED_STEPS = [  # the released settings of NCSNv2: sigma_1, L, T, and step_lr with the digits that are printed
    ("CIFAR-10", 50, 232, 5, "6.2e-06"),
    ("CelebA", 90, 500, 5, "3.3e-06"),
    ("LSUN bedroom", 190, 1086, 3, "1.8e-06"),
    ("FFHQ", 348, 2311, 3, "9e-07"),
]


@pytest.mark.theorem("variance-after-steps")
@pytest.mark.parametrize(("data", "sigma_max", "levels", "steps", "eps"), PUBLISHED_STEPS)
def test_step_size_gives_the_published_values(data: str, sigma_max: float, levels: int, steps: int, eps: str) -> None:
    chosen = step_size((sigma_max / 0.01) ** (1 / (levels - 1)), steps, sigma_min=0.01)
    assert f"{chosen:.{1 if '.' in eps else 0}e}" == eps, data


@pytest.mark.theorem("variance-after-steps")
@pytest.mark.parametrize("steps", [1, 3, 5, 10])
def test_the_reachable_ratio_is_the_largest_that_the_steps_can_follow(steps: int) -> None:
    """Followed step by step at the eps that is best for each ratio: v <- (1 - eps)²·v + 2·eps, from v = gamma²."""

    def left(gamma: float) -> float:
        eps, v = step_size(gamma, steps), gamma**2
        for _ in range(steps):
            v = (1 - eps) ** 2 * v + 2 * eps
        return v

    gamma = reachable_ratio(steps, variance=1.1)
    assert left(gamma) <= 1.1 < left(1 + 1.01 * (gamma - 1))


def test_thinning_keeps_all_or_a_subset_without_repetition() -> None:
    assert subsample(5, 9).tolist() == [0, 1, 2, 3, 4]
    rows = subsample(1000, 100)
    assert len(rows.unique()) == 100
    assert rows.tolist() == sorted(rows.tolist())
    assert subsample(1000, 100, seed=1).tolist() != rows.tolist()
    # the mean of 100 of 0..999 without replacement: variance (n² - 1)/12/100·(1 - 100/1000)
    assert abs(float(rows.double().mean()) - 499.5) < 5 * ((1000**2 - 1) / 12 / 100 * 0.9) ** 0.5


def test_a_spread_share_of_a_log_normal_density_is_even_where_the_bell_has_nothing() -> None:
    process, u = VE(0.01, 100.0), (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    x = process.sigma(LogNormal(2.0, 0.5, 0.2).quantile(process, u)).log()
    low, high = math.log(0.01), math.log(100.0)
    assert bool((x[1:] >= x[:-1]).all())  # a quantile function rises
    for edge in (-4.0, -3.0, -1.0):  # six deviations below the bell and more: 1e-9 of it
        assert abs(float((x < edge).double().mean()) - 0.2 * (edge - low) / (high - low)) < 1e-5
    assert abs(float(x.mean()) - (0.8 * 2.0 + 0.2 * (low + high) / 2)) < 1e-4
    assert float((x < -3.0).double().mean()) > 100 * float(
        (process.sigma(LogNormal(2.0, 0.5).quantile(process, u)).log() < -3.0).double().mean()
    )
