"""Two-sample distances: they are the closed forms of Gaussians within sampling error, and see what they should."""

import math
import statistics
import tracemalloc
from collections.abc import Callable
from datetime import date
from functools import cache
from typing import Any

import numpy
import pandas
import pytest
import torch
from scipy import fft, ndimage, special, stats
from sklearn.datasets import load_sample_images
from torch import Tensor

from scorefield import NotFinite, SampleRng, ScorefieldError
from scorefield.metrics import classifier, frechet, kernel, marginals
from scorefield.metrics.base import Estimate
from scorefield.metrics.classifier import ClassifierTest
from scorefield.metrics.frechet import Frechet, frechet_of_moments
from scorefield.metrics.kernel import KernelDistance, cubic, discrepancy
from scorefield.metrics.marginals import Comparison, compare
from scorefield.metrics.prdc import prdc
from scorefield.metrics.two_sample import EnergyDistance, SlicedWasserstein, squared_wasserstein
from scorefield.registry import every

METRICS = every("metric")
EPS = torch.finfo(torch.float64).eps


def _normal(n: int, d: int, seed: int) -> Tensor:
    return torch.from_numpy(numpy.random.default_rng(seed).normal(size=(n, d)))


def _is_the_mean(values: list[float], truth: float) -> None:
    """The mean of repeats is the truth within five of its standard errors."""
    assert abs(statistics.mean(values) - truth) < 5 * statistics.stdev(values) / math.sqrt(len(values))


# --- kernel distance ----------------------------------------------------------------------------------------------------


def _minus_distance(x: Tensor, y: Tensor) -> Tensor:
    return -torch.cdist(x, y)


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average() -> None:
    """Unbiased however few the samples: the Frechet distance of the same sets is not zero by far."""
    pairs = [(_normal(40, 8, seed), _normal(60, 8, seed + 1000)) for seed in range(200)]
    _is_the_mean([KernelDistance()(x, y).value for x, y in pairs], 0.0)
    frechet = [Frechet()(x, y).value for x, y in pairs[:20]]
    assert statistics.mean(frechet) > 5 * statistics.stdev(frechet) / math.sqrt(20)


def test_the_kernel_distance_of_two_gaussians_is_what_their_moments_give() -> None:
    """On a line (xy + 1)³ = sum of C(3, k)·x^k·y^k, so MMD² = 3·(change of E x)² + 3·(of E x²)² + (of E x³)²."""
    shift, scale = 0.5, 1.2
    first, second, third = shift, shift**2 + scale**2 - 1, shift**3 + 3 * shift * scale**2
    pairs = [(scale * _normal(60, 1, seed) + shift, _normal(80, 1, seed + 1000)) for seed in range(300)]
    _is_the_mean([KernelDistance()(x, y).value for x, y in pairs], 3 * first**2 + 3 * second**2 + third**2)


@pytest.mark.parametrize("of", [cubic, _minus_distance])
def test_mmd_is_what_loops_over_all_pairs_sum_and_blocks_change_nothing(
    of: kernel.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = _normal(13, 3, 0), 0.7 * _normal(17, 3, 1) + 0.3

    def mean(a: Tensor, b: Tensor, same: bool) -> float:
        return statistics.mean(
            float(of(p[None], q[None])) for i, p in enumerate(a) for j, q in enumerate(b) if not same or i != j
        )

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    whole = discrepancy(x, y, of)
    assert whole.value == pytest.approx(expected, abs=1e3 * EPS)
    monkeypatch.setattr(kernel, "BLOCK", 5)
    pieces = discrepancy(x, y, of)
    assert pieces.value == pytest.approx(whole.value, abs=1e3 * EPS)
    assert pieces.standard_error == pytest.approx(whole.standard_error, rel=1e4 * EPS)


@pytest.mark.parametrize("of", [cubic, _minus_distance])
def test_the_standard_error_of_mmd_is_the_jackknife_that_leaves_out_each_sample(of: kernel.Kernel) -> None:
    x, y = _normal(25, 2, 0) + 0.5, _normal(30, 2, 1)
    left = [discrepancy(torch.cat([x[:i], x[i + 1 :]]), y, of).value for i in range(25)]
    assert discrepancy(x, y, of).standard_error == pytest.approx(24 / 5 * statistics.stdev(left), rel=1e5 * EPS)


# --- energy distance ----------------------------------------------------------------------------------------------------


def test_the_energy_distance_of_two_shifted_gaussians_is_the_closed_form() -> None:
    """E|N(w, 2)| = sqrt(4/pi)·exp(-w²/4) + w·erf(w/2)."""

    def apart(w: float) -> float:
        return math.sqrt(4 / math.pi) * math.exp(-(w**2) / 4) + w * math.erf(w / 2)

    pairs = [(_normal(60, 1, seed) + 0.7, _normal(90, 1, seed + 1000)) for seed in range(200)]
    _is_the_mean([EnergyDistance()(x, y).value for x, y in pairs], 2 * apart(0.7) - 2 * apart(0.0))


@pytest.mark.parametrize(("d", "scale"), [(1, 2.0), (4, 1.5), (30, 1.0)])
def test_the_energy_distance_of_two_round_gaussians_is_the_closed_form(d: int, scale: float) -> None:
    """E|N(0, v·I)| = sqrt(2·v)·Gamma((d + 1)/2)/Gamma(d/2); of equal ones it is zero on average."""
    length = math.exp(special.gammaln((d + 1) / 2) - special.gammaln(d / 2)) * math.sqrt(2)
    truth = length * (2 * math.sqrt(1 + scale**2) - math.sqrt(2) - math.sqrt(2) * scale)
    pairs = [(scale * _normal(60, d, seed), _normal(90, d, seed + 1000)) for seed in range(200)]
    _is_the_mean([EnergyDistance()(x, y).value for x, y in pairs], truth)


def test_the_energy_distance_keeps_its_digits_far_from_the_origin() -> None:
    """Points on a lattice of 2^-10, moved by 2^28: their differences stay exact."""
    x, y = ((rows * 1024).round() / 1024 for rows in (_normal(60, 3, 0), _normal(70, 3, 1)))
    there = EnergyDistance()(x + 2.0**28, y + 2.0**28).value
    assert there == pytest.approx(EnergyDistance()(x, y).value, abs=1e-7)  # a root of the rounding of a mean of 2^28


# --- sliced Wasserstein -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(4, 6), (5, 7), (8, 2), (3, 3)])
def test_w2_of_sets_of_different_sizes_is_that_of_both_repeated_to_one_size(n: int, m: int) -> None:
    """Repeating every point changes no distribution; of equal sizes it is the mean squared difference of sorted numbers."""
    x, y = _normal(n, 3, 0).sort(dim=0).values, _normal(m, 3, 1).sort(dim=0).values
    expected = (x.repeat_interleave(m, dim=0) - y.repeat_interleave(n, dim=0)).square().mean(dim=0)
    assert torch.allclose(squared_wasserstein(x, y), expected, rtol=100 * EPS, atol=0)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (200, 330)])
def test_sliced_wasserstein_of_a_shift_in_the_plane_is_its_length_over_the_root_of_two(n: int, m: int) -> None:
    """Repeated points have the same distribution whatever their number."""
    points = _normal(10, 2, 0)
    value = SlicedWasserstein()(points.repeat(n // 10, 1) + torch.tensor([3.0, 4.0]), points.repeat(m // 10, 1)).value
    assert value == pytest.approx(5 / math.sqrt(2), rel=1e3 * EPS)


def test_sliced_wasserstein_of_gaussians_on_a_line_is_the_root_of_the_sum_of_squared_differences() -> None:
    """W2² = (m1 - m2)² + (s1 - s2)²; the bias, of order 1/n, is far below five standard errors here."""
    pairs = [(2 * _normal(3000, 1, seed) + 1.5, _normal(2000, 1, seed + 1000)) for seed in range(25)]
    _is_the_mean([SlicedWasserstein()(x, y).value for x, y in pairs], math.hypot(1.5, 1.0))


# --- every distance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["frechet", "kernel", "energy", "sliced-wasserstein"])
def test_a_distance_is_symmetric(name: str) -> None:
    x, y = _normal(50, 3, 0), 1.4 * _normal(70, 3, 1) + 0.4
    assert METRICS[name]()(x, y).value == pytest.approx(METRICS[name]()(y, x).value, rel=1e4 * EPS)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_how_many_rows_it_needs_and_is_content_with_that_many(name: str) -> None:
    least = METRICS[name].least
    enough, few = _normal(least, 2, 0), _normal(least - 1, 2, 1)
    for sets in ((few, enough), (enough, few)):
        with pytest.raises(ScorefieldError, match=f"expected at least {least} of each"):
            METRICS[name]()(*sets)
    estimate = METRICS[name]()(enough, _normal(least, 2, 2))
    assert math.isfinite(estimate.value) and 0 < estimate.standard_error < math.inf


# The share of repeats whose value ± 1.96 standard errors holds the mean over all repeats. Jackknives of local counts and the
# classifier's error are upper bounds, so that half of them is not yet too little.
UPPER_BOUNDS = {"recall": 5, "coverage": 3, "c2st": 4}


REPEATS = {name: 24 if name == "c2st" else 120 for name in METRICS}


@pytest.fixture(scope="module")
def estimates() -> dict[str, list[Estimate]]:
    """Every metric of as many sets of samples as it has repeats; the reference is fixed, as in an evaluation."""
    reference, found = _normal(300, 3, 999), dict[str, list[Estimate]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "TREES", 5)  # what a forest costs is most of the time; its size is no part of the error
        for seed in range(max(REPEATS.values())):
            samples = 1.2 * _normal(200, 3, seed) + 0.4
            for name, metric in METRICS.items():  # set by set: precision, recall, density and coverage share their distances
                if seed < REPEATS[name]:
                    found.setdefault(name, []).append(metric()(samples, reference))
    return found


def _covered(estimates: list[Estimate], divisor: float) -> bool:
    """Whether intervals hold the mean in 95 % of repeats within the binomial's five standard errors, or more."""
    mean = statistics.mean(e.value for e in estimates)
    held = [abs(e.value - mean) < 1.96 * e.standard_error / divisor for e in estimates]
    return statistics.mean(held) > 0.95 - 5 * math.sqrt(0.95 * 0.05 / len(estimates))


@pytest.mark.parametrize("name", METRICS)
def test_intervals_cover_repeats_with_other_samples_and_narrower_ones_do_not(
    estimates: dict[str, list[Estimate]], name: str
) -> None:
    assert _covered(estimates[name], 1)
    assert not _covered(estimates[name], UPPER_BOUNDS.get(name, 2))


# --- classifier two-sample test -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_c2st_of_two_gaussians_is_the_accuracy_of_the_best_classifier(shift: float) -> None:
    """Of N(0, I) and N(w, I) it is Phi(|w|/2): no held-out accuracy is above it but by chance, and ours is not below."""
    w = torch.tensor([0.6, 0.0, 0.8]) * shift
    accuracy = ClassifierTest()(_normal(1000, 3, 1) + w, _normal(700, 3, 2))
    assert abs(accuracy.value - stats.norm.cdf(shift / 2)) < 5 * accuracy.standard_error
    assert accuracy.standard_error < 0.02


def _bent(x: Tensor) -> Tensor:
    """The second coordinate follows the first: means and variances stay."""
    return torch.stack([x[:, 0], 0.9 * x[:, 0] + math.sqrt(1 - 0.81) * x[:, 1], x[:, 2]], dim=1)


def _spiked(x: Tensor) -> Tensor:
    """Half of the third column is exactly zero, as amounts in tables are."""
    return torch.cat([x[:, :2], x[:, 2:] * (x[:, :1] > 0)], dim=1)


@pytest.mark.parametrize("spoil", [lambda x: 1.5 * x, _bent, _spiked], ids=["scale", "dependence", "spike"])
def test_c2st_sees_what_is_not_in_the_means(spoil: Callable[[Tensor], Tensor]) -> None:
    accuracy = ClassifierTest()(spoil(_normal(500, 3, 1)), _normal(500, 3, 2))
    assert accuracy.value > 0.5 + 5 * accuracy.standard_error


def test_c2st_counts_both_sets_alike_and_judges_none_by_a_classifier_that_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal distributions of unequal sizes: a classifier that says "sample" to everything, or remembers, would be above 0.5."""
    monkeypatch.setattr(classifier, "TREES", 5)
    values = [ClassifierTest()(_normal(100, 2, seed), _normal(30, 2, seed + 100)) for seed in range(12)]
    _is_the_mean([each.value for each in values], 0.5)


def test_c2st_neither_reads_nor_moves_the_global_generator() -> None:
    x, y = _normal(60, 2, 0), _normal(60, 2, 1)
    numpy.random.seed(1)  # noqa: NPY002
    state = numpy.random.get_state()[1].copy()  # noqa: NPY002
    first = ClassifierTest()(x, y)
    assert (numpy.random.get_state()[1] == state).all()  # noqa: NPY002
    numpy.random.seed(2)  # noqa: NPY002
    assert ClassifierTest()(x, y) == first


# --- real patches -------------------------------------------------------------------------------------------------------

SIDE, COUNT = 8, 500
PHOTOS = [photo.mean(axis=2) / 255 for photo in load_sample_images().images]  # a temple; a flower


@cache
def _patches(seed: int, flowers: float = 0.5) -> numpy.ndarray:
    generator = numpy.random.default_rng(seed)
    cut = []
    for _ in range(COUNT):
        photo = PHOTOS[int(generator.random() < flowers)]
        top, left = (int(generator.integers(0, size - SIDE)) for size in photo.shape)
        cut.append(photo[top : top + SIDE, left : left + SIDE])
    return numpy.stack(cut)


def _cosines(patches: numpy.ndarray) -> numpy.ndarray:
    return fft.dctn(patches, axes=(1, 2), norm="ortho").reshape(len(patches), -1)


def _features(patches: numpy.ndarray) -> Tensor:
    """Cosine coefficients, each in units of its spread over real patches: fine detail counts as much as brightness."""
    return torch.from_numpy(_cosines(patches) / _cosines(_patches(0)).std(axis=0))


def _noise(level: int) -> numpy.ndarray:
    return _patches(1) + (0.0, 0.03, 0.06, 0.15)[level] * numpy.random.default_rng(5).normal(size=(COUNT, SIDE, SIDE))


def _blur(level: int) -> numpy.ndarray:
    return numpy.stack([ndimage.gaussian_filter(patch, (0.0, 0.5, 0.8, 1.5)[level]) for patch in _patches(1)])


def _drop(level: int) -> numpy.ndarray:
    return _patches(1, flowers=(0.5, 0.15, 0.06, 0.0)[level])


@cache
def _unspoiled(name: str) -> float:
    return METRICS[name]()(_features(_patches(1)), _features(_patches(0))).value


def _distance(name: str, spoil: Callable[[int], numpy.ndarray], level: int) -> float:
    """A metric of spoiled patches; those of level 0 are the same whatever would spoil them."""
    return METRICS[name]()(_features(spoil(level)), _features(_patches(0))).value if level else _unspoiled(name)


DISTANCES = ("frechet", "kernel", "energy", "sliced-wasserstein", "c2st")


@pytest.mark.parametrize(
    ("spoil", "seen_by"),
    [(_noise, (*DISTANCES, "coverage")), (_blur, (*DISTANCES, "recall")), (_drop, (*DISTANCES, "coverage"))],
    ids=["noise", "blur", "mode drop"],
)
def test_noise_blur_and_mode_drop_on_real_patches_are_ranked_by_strength(
    spoil: Callable[[int], numpy.ndarray], seen_by: tuple[str, ...]
) -> None:
    """All distances see all three. Recall does not see noise (its balls widen), nor precision blur (it hides in the middle)."""
    for name in seen_by:
        sign = {"higher": -1, "lower": 1}[METRICS[name].better]
        values = [sign * _distance(name, spoil, level) for level in range(4)]
        assert values == sorted(values) and len(set(values)) == 4, (name, values)


def test_a_collapsed_set_of_real_patches_has_precision_over_95_and_recall_under_5_percent() -> None:
    real = _patches(0)
    collapsed = real[3] + 1e-3 * numpy.random.default_rng(5).normal(size=(COUNT, SIDE, SIDE))
    scores = prdc(_features(collapsed), _features(real))
    assert scores["precision"].value > 0.95 and scores["recall"].value < 0.05


# --- columns of tables --------------------------------------------------------------------------------------------------


def _table(n: int, seed: int, shift: float = 0.0, often: float = 0.5, together: float = 0.6) -> dict[str, list[Any]]:
    generator = numpy.random.default_rng(seed)
    a = generator.normal(size=n) + shift
    b = together * a + math.sqrt(1 - together**2) * generator.normal(size=n)
    colour = numpy.where(generator.random(n) < often, "red", numpy.where(b > 0, "green", "blue"))
    gone = generator.random(n) < 0.2
    return {
        "a": a.tolist(),
        "b": [None if no else v for v, no in zip(b.tolist(), gone, strict=True)],
        "colour": colour.tolist(),
    }


def test_columns_of_numbers_have_scipys_kolmogorov_smirnov_distance() -> None:
    drawn, real = _table(200, 0, shift=0.3), _table(300, 1)
    columns = compare(drawn, real).columns
    for name in ("a", "b"):
        some, truth = ([value for value in table[name] if value is not None] for table in (drawn, real))
        assert columns[name].distance.value == pytest.approx(stats.ks_2samp(some, truth).statistic, abs=10 * EPS)
    days = [date.fromordinal(730000 + round(100 * value)) for value in drawn["a"]], [date.fromordinal(730000)] * 300
    steps = [round(100 * value) for value in drawn["a"]], [0] * 300
    assert compare({"x": days[0]}, {"x": days[1]}).columns["x"] == compare({"x": steps[0]}, {"x": steps[1]}).columns["x"]


def test_categories_have_half_the_sum_of_differences_of_shares_and_missing_is_one_of_them() -> None:
    drawn, real = ["x"] * 50 + ["y"] * 30 + [None] * 20, ["x"] * 20 + ["y"] * 30 + ["z"] * 50
    column = compare({"c": drawn}, {"c": real}).columns["c"]
    assert column.kind == "category"
    assert column.distance.value == pytest.approx((0.3 + 0.0 + 0.5 + 0.2) / 2, abs=10 * EPS)
    assert column.missing.value == pytest.approx(0.2, abs=10 * EPS)
    flags = compare({"c": [True] * 30 + [False] * 10}, {"c": [True, False] * 20}).columns["c"]
    assert flags.kind == "category" and flags.distance.value == pytest.approx(0.25, abs=10 * EPS)


def test_differences_of_correlations_are_those_of_pandas_over_rows_that_have_both() -> None:
    drawn, real = _table(400, 0, together=-0.3), _table(500, 1)
    both = [{k: t[k] for k in ("a", "b")} for t in (drawn, real)]
    r, truth = (pandas.DataFrame(table).corr().loc["a", "b"] for table in both)
    found = compare(*both)
    assert found.largest is not None and found.mean is not None
    assert found.largest.value == pytest.approx(abs(r - truth), rel=1e4 * EPS)
    assert found.mean.value == pytest.approx(abs(r - truth), rel=1e4 * EPS)
    assert set(found.pair or ()) == {"a", "b"}
    assert found.largest.value > 5 * found.largest.standard_error


def test_dependence_on_a_category_counts_and_a_constant_column_does_not() -> None:
    generator = numpy.random.default_rng(0)
    x = generator.normal(size=400)
    real = {"x": x.tolist(), "sign": numpy.where(x > 0, "up", "down").tolist(), "one": [1.0] * 400}
    broken = real | {"sign": generator.permutation(real["sign"]).tolist()}
    found = compare(broken, real)
    assert found.largest is not None and set(found.pair or ()) == {"x", "sign"}
    assert abs(found.largest.value - math.sqrt(2 / math.pi)) < 5 * found.largest.standard_error  # E|x|, of a Gaussian
    lonely = compare({"x": real["x"], "one": real["one"]}, {"x": real["x"], "one": real["one"]})
    assert (lonely.largest, lonely.mean, lonely.pair) == (None, None, None)
    assert lonely.columns["one"].distance.value == 0


def _figures(found: Comparison) -> dict[str, Any]:
    return {
        "a": found.columns["a"].distance,
        "colour": found.columns["colour"].distance,
        "r": found.largest,
        "mean": found.mean,
    }


def test_intervals_of_columns_and_correlations_cover_repeats_and_half_as_wide_ones_do_not() -> None:
    repeats, real = 100, _table(400, 999)
    drawn = [_figures(compare(_table(200, seed, shift=0.5, often=0.3, together=-0.2), real)) for seed in range(repeats)]
    least = 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats)
    for name in drawn[0]:
        mean = statistics.mean(each[name].value for each in drawn)
        for divisor, enough in ((1, True), (2, False)):
            held = [abs(each[name].value - mean) < 1.96 * each[name].standard_error / divisor for each in drawn]
            assert (statistics.mean(held) > least) == enough, name


def test_tables_that_cannot_be_compared_are_refused_in_one_sentence() -> None:
    good = {"a": [float(i) for i in range(20)]}
    for bad, kind, sentence in [
        ({"b": good["a"]}, ScorefieldError, r"got the columns \['b'\], expected \['a'\]"),
        ({"a": good["a"][:19]}, ScorefieldError, "got 19 samples and 20 real examples, expected at least 20 of each"),
        ({"a": good["a"], "b": good["a"][:5]}, ScorefieldError, r"columns of \[5, 20\] values, expected one length"),
        ({"a": [math.nan, *good["a"][1:]]}, NotFinite, "got NaN or infinity in column 'a'"),
        ({}, ScorefieldError, "expected one length"),
    ]:
        with pytest.raises(kind, match=sentence) as refusal:
            compare(bad, good)
        assert "\n" not in str(refusal.value)


def test_a_column_of_which_only_one_table_has_values_is_as_far_as_can_be() -> None:
    some, none = {"a": [1.0, 2.0] * 10}, {"a": [None] * 20}
    assert compare(none, some).columns["a"].distance.value == 1.0 == compare(none, some).columns["a"].missing.value
    assert compare(none, none).columns["a"].distance.value == 0.0


# --- many columns, little memory ---------------------------------------------------------------------------------------


def _naive(samples: dict[str, list[float]], real: dict[str, list[float]]) -> tuple[float, float, float]:
    """Return the largest and the mean difference of correlations over pairs, and the jackknife's error of the mean."""
    x, y = (numpy.array(list(some.values())).T for some in (samples, real))
    x, y = (x - y.mean(axis=0)) / y.std(axis=0), (y - y.mean(axis=0)) / y.std(axis=0)
    lower = numpy.tril_indices(x.shape[1], -1)
    truth = numpy.corrcoef(y.T)[lower]

    def apart(some: numpy.ndarray) -> numpy.ndarray:
        return numpy.abs(numpy.corrcoef(some.T)[lower] - truth)

    groups = numpy.arange(len(x)) % 20
    means = [apart(x[groups != g]).mean() for g in range(20)]
    return (
        float(apart(x).max()),
        float(apart(x).mean()),
        math.hypot(math.sqrt(19**2 / 20) * numpy.std(means, ddof=1), 1 / len(x)),
    )


@pytest.mark.parametrize("numbers", [1, 3000, 2**24])
def test_correlations_in_blocks_are_those_of_all_pairs_at_once(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    """Against numpy's matrix of correlations, in blocks of one column, of some, and in one."""
    monkeypatch.setattr(marginals, "NUMBERS", numbers)
    draws = numpy.random.default_rng(0)
    mix = draws.normal(size=(7, 7))
    tables = [{f"c{i}": c.tolist() for i, c in enumerate((draws.normal(size=(n, 7)) @ mix).T)} for n in (60, 90)]
    tables[0]["c5"] = draws.normal(size=60).tolist()
    found = compare(*tables)
    largest, mean, error = _naive(*tables)
    assert found.largest is not None and found.mean is not None and found.pair is not None
    assert found.largest.value == pytest.approx(largest, rel=1e-9)
    assert found.mean.value == pytest.approx(mean, rel=1e-9)
    assert found.mean.standard_error == pytest.approx(error, rel=1e-6)
    assert "c5" in found.pair


def test_the_memory_of_correlations_does_not_grow_with_the_square_of_the_columns() -> None:
    """600 columns, whose 20 x 4 x columns² numbers would be 230 MB, in less than half of that."""
    rows = numpy.random.default_rng(0).normal(size=(2, 600, 40))
    tracemalloc.start()
    found = marginals._dependence(list(rows[0]), list(rows[1]), [f"c{i}" for i in range(600)], 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[1] is not None
    assert peak < 115e6


def test_the_frechet_distance_of_more_features_than_examples_needs_no_matrix_of_them() -> None:
    """Equal to the distance by covariances, and to the closed form of two shifted and stretched copies of one set."""
    x, y = SampleRng(range(30)).normal((50,)), 1.5 * SampleRng(range(40), stream=1).normal((50,)) + 0.2
    moments = [(rows.mean(dim=0), rows.mT.cov()) for rows in (x, y)]
    found = Frechet()(x, y)
    assert found.value == pytest.approx(frechet_of_moments(*moments[0], *moments[1]), rel=1e-5)
    phi = frechet._influence(x, *moments[0], *moments[1])
    assert found.standard_error == pytest.approx(float(phi.std()) / math.sqrt(30), rel=1e-5)
    wide = SampleRng(range(12)).normal((100_000,))  # a matrix of its features would take 80 GB
    twin = Frechet()(wide, 3 * wide + 1)
    centred = wide - wide.mean(dim=0)
    shift = (2 * wide.mean(dim=0) + 1).square().sum()
    assert twin.value == pytest.approx(float(shift + 4 * centred.square().sum() / 11), rel=1e-9)
