"""Metrics: they agree with closed forms and with loops, they know their direction, and never swap quality for variety."""

import functools
import math
import statistics

import numpy
import pytest
import torch
from helpers import each_case
from scipy import linalg
from torch import Tensor

from scorefield import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.frechet import Frechet, frechet_of_moments
from scorefield.metrics.judge import train_judge
from scorefield.metrics.prdc import Coverage, PRDensity, Precision, Recall
from scorefield.registry import every

METRICS = every("metric")
SHARES = {"precision": Precision, "recall": Recall, "density": PRDensity, "coverage": Coverage}
EPS = torch.finfo(torch.float64).eps


def _normal(n: int, d: int, seed: int) -> Tensor:
    return torch.from_numpy(numpy.random.default_rng(seed).normal(size=(n, d)))


def _spd(d: int, seed: int) -> Tensor:
    root = _normal(d, d, seed)
    return root @ root.mT + 0.1 * torch.eye(d, dtype=torch.float64)


# The Frechet distance


@pytest.mark.theorem("frechet-distance")
@each_case(d=[1, 2, 5, 12], seed=range(4))
def test_frechet_of_moments_is_the_formula_with_scipys_matrix_root(d: int, seed: int) -> None:
    mean1, mean2 = _normal(2, d, seed + 50)
    cov1, cov2 = _spd(d, seed), _spd(d, seed + 100)
    root = linalg.sqrtm(cov1.numpy() @ cov2.numpy()).real
    expected = float(((mean1 - mean2) ** 2).sum()) + float(numpy.trace(cov1.numpy() + cov2.numpy() - 2 * root))
    assert abs(frechet_of_moments(mean1, cov1, mean2, cov2) - expected) < 1e-9
    assert abs(frechet_of_moments(mean2, cov2, mean1, cov1) - expected) < 1e-9  # a distance is symmetric


def test_frechet_of_two_numbers_is_the_squared_difference_of_means_and_of_standard_deviations() -> None:
    mean, var = torch.tensor([[1.0], [4.0]]).double(), torch.tensor([[[4.0]], [[0.25]]]).double()
    assert frechet_of_moments(mean[0], var[0], mean[1], var[1]) == pytest.approx(3**2 + 1.5**2, abs=100 * EPS)


def test_frechet_is_exact_for_covariances_of_low_rank() -> None:
    """N(0, diag(4, 0)) to N(0, diag(1, 9)): move axis one by 2 - 1 and axis two by 3."""
    flat, round_ = torch.diag(torch.tensor([4.0, 0.0])).double(), torch.diag(torch.tensor([1.0, 9.0])).double()
    zero = torch.zeros(2, dtype=torch.float64)
    for one, other in ((flat, round_), (round_, flat)):
        assert frechet_of_moments(zero, one, zero, other) == pytest.approx(10.0, abs=100 * EPS)


def test_frechet_ignores_rotations_and_scales_with_the_square_of_the_unit() -> None:
    a, b = _normal(50, 4, 0), 1.5 * _normal(60, 4, 1) + 1
    turn = torch.from_numpy(linalg.qr(_normal(4, 4, 2).numpy())[0])
    value = Frechet()(a, b).value
    assert abs(Frechet()(a @ turn, b @ turn).value - value) < 1e3 * EPS * value
    assert abs(Frechet()(3 * a + 7, 3 * b + 7).value - 9 * value) < 1e4 * EPS * value


@pytest.mark.parametrize(("n", "d"), [(200, 3), (20, 64)])
def test_frechet_of_a_set_with_itself_is_zero(n: int, d: int) -> None:
    """With fewer rows than columns most eigenvalues are rounding, eps·tr C, and their roots are what is left."""
    rows = _normal(n, d, 0)
    trace = float(rows.mT.cov().trace())
    bound = 100 * EPS * trace if n > d else d * math.sqrt(EPS * trace * trace)
    assert abs(Frechet()(rows, rows.flip(0)).value) < bound


def _sampled(n: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """Two sets from known Gaussians in the plane and the distance between those: 1² + 2² + (2 - 1)² + (1 - 3)²."""
    z = _normal(2 * n, 2, seed)
    samples, reference = z[:n] * torch.tensor([2.0, 1.0]), z[n:] * torch.tensor([1.0, 3.0]) + torch.tensor([1.0, 2.0])
    return samples, reference, 10.0


@pytest.mark.theorem("frechet-distance")
def test_frechet_of_sampled_gaussians_is_the_closed_form_within_5_standard_errors() -> None:
    repeats = [_sampled(4000, seed) for seed in range(25)]
    values = [Frechet()(samples, reference).value for samples, reference, _ in repeats]
    spread = statistics.stdev(values)
    assert all(abs(value - 10.0) < 5 * spread for value in values)
    assert abs(statistics.mean(values) - 10.0) < 5 * spread / math.sqrt(25)
    assert spread < 0.5  # and the standard error is worth something


@pytest.mark.theorem("frechet-bias")
def test_frechet_of_two_sets_of_the_same_density_is_biased_upwards_and_less_so_with_more_samples() -> None:
    """What its docstring warns of: it means something only beside the floor of two real sets of the same sizes."""
    small = [Frechet()(_normal(50, 8, s), _normal(50, 8, s + 500)).value for s in range(20)]
    large = [Frechet()(_normal(400, 8, s), _normal(400, 8, s + 500)).value for s in range(20)]
    for values in (small, large):
        assert statistics.mean(values) > 5 * statistics.stdev(values) / math.sqrt(20)
    # To first order the bias falls as 1/n: 8 times here.
    ratio = statistics.mean(small) / statistics.mean(large)
    error = ratio * math.hypot(*(statistics.stdev(v) / statistics.mean(v) / math.sqrt(20) for v in (small, large)))
    assert abs(ratio - 8) < 5 * error + 8 * 8 / 50  # the next term is of relative size d/n


def test_the_standard_error_of_frechet_is_the_spread_of_repeated_sampling() -> None:
    """Against one fixed reference: what would move is the samples. The intervals of all metrics are in test_two_sample.py."""
    repeats, reference = 200, _normal(600, 2, 999) * torch.tensor([1.0, 3.0]) + 1
    estimates = [Frechet()(_normal(400, 2, seed), reference) for seed in range(repeats)]
    spread = statistics.stdev(e.value for e in estimates)
    claimed = math.sqrt(statistics.mean(e.standard_error**2 for e in estimates))
    assert abs(math.log(claimed / spread)) < 5 / math.sqrt(2 * (repeats - 1))  # as a deviation of so many numbers is known
    assert abs(math.log(2 * claimed / spread)) > 5 / math.sqrt(2 * (repeats - 1))


def test_the_standard_error_of_frechet_is_its_slope_along_the_weight_of_each_sample() -> None:
    """Repeating every sample but one k times is a small change of weights; the spread of the changes is the error."""
    x, y, k = _normal(12, 2, 0) + 0.5, _normal(40, 2, 1), 4000
    cov = numpy.cov(y.numpy().T)

    def distance(weights: numpy.ndarray) -> float:
        weights = weights / weights.sum()
        snapshots = (
            numpy.average(x.numpy(), axis=0, weights=weights),
            numpy.cov(x.numpy().T, aweights=weights, ddof=0) * 12 / 11,
        )
        return frechet_of_moments(*map(torch.from_numpy, snapshots), y.mean(dim=0), torch.from_numpy(cov))

    even = numpy.ones(12)
    slopes = [k * (distance(even + 12 / k * (numpy.arange(12) == i)) - distance(even)) for i in range(12)]
    error = statistics.stdev(slopes) / math.sqrt(12)
    assert Frechet()(x, y).standard_error == pytest.approx(error, rel=0.1)


# Precision, recall, density, coverage


def _by_loops(samples: Tensor, reference: Tensor) -> dict[str, list[float]]:
    """One number a row, with nothing but loops; k = 5."""

    def radius(i: int, rows: list[list[float]]) -> float:
        return sorted(math.dist(rows[i], other) for j, other in enumerate(rows) if j != i)[4]

    fake, real = samples.tolist(), reference.tolist()
    of_fake, of_real = [radius(i, fake) for i in range(len(fake))], [radius(i, real) for i in range(len(real))]
    return {
        "precision": [float(any(math.dist(f, r) < of_real[i] for i, r in enumerate(real))) for f in fake],
        "recall": [float(any(math.dist(r, f) < of_fake[j] for j, f in enumerate(fake))) for r in real],
        "density": [sum(math.dist(f, r) < of_real[i] for i, r in enumerate(real)) / 5 for f in fake],
        "coverage": [float(any(math.dist(r, f) < of_real[i] for f in fake)) for i, r in enumerate(real)],
    }


@pytest.mark.theorem("precision-recall")
@each_case(name=list(SHARES))
@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 2), (31, 40, 3), (40, 12, 1), (6, 40, 5)])
def test_the_shares_are_what_loops_over_all_points_count(name: str, n: int, m: int, d: int) -> None:
    samples, reference = 0.7 * _normal(n, d, 3) + 0.8, _normal(m, d, 4)
    values = _by_loops(samples, reference)[name]
    assert SHARES[name]()(samples, reference).value == pytest.approx(statistics.mean(values), abs=10 * EPS)


def _scores(samples: Tensor, reference: Tensor) -> dict[str, float]:
    return {name: metric()(samples, reference).value for name, metric in SHARES.items()}


def test_a_collapsed_generator_has_high_precision_and_low_recall_and_a_scattered_one_the_reverse() -> None:
    real = _normal(400, 4, 0)
    collapsed = real[7] + 1e-3 * _normal(400, 4, 1)
    scores = _scores(collapsed, real)
    assert scores["precision"] > 0.95 and scores["recall"] < 0.05
    assert scores["density"] > 0.95 and scores["coverage"] < 0.05
    scattered = _scores(10 * _normal(400, 4, 1), real)
    assert scattered["precision"] < 0.05 and scattered["recall"] > 0.95


def test_precision_of_one_set_in_another_is_the_recall_of_the_other_in_the_one() -> None:
    a, b = _normal(60, 3, 0), 0.6 * _normal(80, 3, 1)
    assert Precision()(a, b).value == Recall()(b, a).value


def test_a_set_far_away_scores_zero_everywhere() -> None:
    real = _normal(50, 3, 0)
    assert _scores(_normal(50, 3, 1) + 100, real) == dict.fromkeys(SHARES, 0.0)


def test_a_copy_of_the_real_data_scores_one_everywhere() -> None:
    """These numbers do not see memorisation; a ball of the k-th neighbour holds k - 1 others and its own centre."""
    real = _normal(50, 3, 0)
    scores = _scores(real.flip(0).clone(), real)
    assert [scores[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert scores["density"] == pytest.approx(1.0, abs=100 * EPS)


def test_a_copy_of_data_with_repeated_rows_scores_one_too() -> None:
    """Tables of categories and images with blank pages repeat rows: a ball of radius 0 still holds its centre."""
    real = _normal(20, 3, 0).repeat(10, 1)
    scores = _scores(real.clone(), real)
    assert [scores[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]


@pytest.mark.parametrize("name", SHARES)
def test_moving_both_sets_together_changes_nothing(name: str) -> None:
    """Points on a lattice of 2^-10, moved by 2^28: every coordinate and every difference stays exact in float64."""
    lattice = [(rows * 1024).round() / 1024 for rows in (_normal(60, 3, 0), 0.7 * _normal(70, 3, 1))]
    moved = [rows + 2.0**28 for rows in lattice]
    assert SHARES[name]()(*moved) == SHARES[name]()(*lattice)


@pytest.mark.parametrize("name", SHARES)
def test_the_unit_of_the_features_does_not_matter(name: str) -> None:
    a, b = _normal(60, 3, 0), 0.7 * _normal(70, 3, 1)
    assert SHARES[name]()(a * 2.0**-30, b * 2.0**-30) == SHARES[name]()(a, b)


# Every metric


@functools.cache
def _repeated(name: str, move: float, noise: float) -> list[float]:
    """The metric between a Gaussian and a moved, noisier copy of it, on four fresh draws of both."""
    metric, n = METRICS[name](), 150 if name == "c2st" else 300  # c2st trains classifiers
    spoilt = [_normal(n, 3, s) + move + noise * _normal(n, 3, s + 100) for s in range(4)]
    return [metric(samples, _normal(n, 3, s + 200)).value for s, samples in enumerate(spoilt)]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_declares_its_direction_and_moving_the_samples_away_worsens_it(name: str) -> None:
    sign = {"higher": 1, "lower": -1}[METRICS[name].better]
    here, near, far = ([sign * value for value in _repeated(name, move, 0.0)] for move in (0.0, 2.0, 4.0))
    assert min(here) > max(near)
    assert min(near) > max(far)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"recall"}))
def test_noise_on_the_samples_worsens_every_metric_but_recall(name: str) -> None:
    sign = {"higher": 1, "lower": -1}[METRICS[name].better]
    clean, noisy, noisier = ([sign * value for value in _repeated(name, 0.0, noise)] for noise in (0.0, 1.5, 6.0))
    assert min(clean) > max(noisy)
    assert min(noisy) > max(noisier)


def test_noise_on_the_samples_does_not_worsen_recall_since_it_widens_their_balls() -> None:
    """Why recall says nothing without precision beside it."""
    assert statistics.mean(_repeated("recall", 0.0, 6.0)) >= statistics.mean(_repeated("recall", 0.0, 0.0))


def test_dropping_a_mode_worsens_recall_and_coverage_and_not_precision() -> None:
    real, samples = _normal(400, 3, 0), _normal(400, 3, 1)
    real[:200] += 20
    whole, half = samples.clone(), samples.clone()
    whole[:200] += 20
    for metric in (Recall(), Coverage()):
        assert metric(whole, real).value > 0.9
        assert metric(half, real).value <= 0.5  # of the real examples, half lie in the mode that is missing
    assert Precision()(half, real).value > 0.9


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_features_of_one_column(name: str) -> None:
    near, far = (METRICS[name]()(_normal(100, 1, 0) + move, _normal(100, 1, 1)) for move in (0.0, 30.0))
    assert math.isfinite(near.value) and math.isfinite(near.standard_error)
    assert {"higher": near.value > far.value, "lower": near.value < far.value}[METRICS[name].better]


def test_frechet_of_one_column_is_the_squared_difference_of_means_and_of_standard_deviations() -> None:
    a, b = numpy.random.default_rng(0).normal(2, 3, 500), numpy.random.default_rng(1).normal(0, 1, 400)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    value = Frechet()(torch.from_numpy(a)[:, None], torch.from_numpy(b)[:, None]).value
    assert value == pytest.approx(expected, rel=1e3 * EPS)


@pytest.mark.parametrize("name", METRICS)
def test_the_same_sets_give_the_same_estimate_and_the_order_of_rows_does_not_matter_for_its_value(name: str) -> None:
    a, b = _normal(60, 3, 0), _normal(70, 3, 1)
    assert METRICS[name]()(a, b) == METRICS[name]()(a.clone(), b.clone())
    turned = METRICS[name]()(a.flip(0), b.flip(0)).value
    assert turned == pytest.approx(METRICS[name]()(a, b).value, rel=1e3 * EPS)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_works_in_float64_and_leaves_its_input_alone(name: str) -> None:
    a, b = _normal(60, 3, 0).float(), _normal(70, 3, 1).float()
    before = a.clone(), b.clone()
    assert METRICS[name]()(a, b) == METRICS[name]()(a.double(), b.double())
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])


@each_case(side=["samples", "reference"])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_refuses_what_it_cannot_compare_with_one_sentence(name: str, side: str) -> None:
    good = _normal(20, 3, 0)
    with_nan, infinite = good.clone(), good.clone()
    with_nan[4, 1], infinite[0, 0] = math.nan, math.inf
    cases = [
        (good[:1], "expected at least"),
        (good[:0], "expected at least"),
        (good[:, :2], r"expected \(n, d\) and \(m, d\)"),
        (good.reshape(20, 3, 1), r"expected \(n, d\) and \(m, d\)"),
        (with_nan, "got NaN or infinity"),
        (infinite, "got NaN or infinity"),
    ]
    for bad, sentence in cases:
        with pytest.raises(ScorefieldError, match=sentence) as refusal:
            METRICS[name]()(*((bad, good) if side == "samples" else (good, bad)))
        assert "\n" not in str(refusal.value)


def test_an_estimate_prints_three_digits_and_one_of_its_error() -> None:
    assert str(Estimate(12.3456, 0.0789)) == "12.3 ± 0.08"


# The judge


def _patches(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stripes of random brightness on 8x8 pixels: upright is class 0, lying is class 1."""
    generator = numpy.random.default_rng(seed)
    labels = torch.from_numpy(generator.integers(0, 2, n))
    stripe = torch.tensor([1.0, 1.0, -1.0, -1.0] * 2).expand(8, 8)
    images = torch.stack([stripe if label == 0 else stripe.mT for label in labels.tolist()])[:, None]
    strength = torch.from_numpy(generator.uniform(0.4, 1.0, (n, 1, 1, 1)))
    return (images * strength).float() + 0.1 * torch.from_numpy(generator.normal(size=(n, 1, 8, 8))).float(), labels


STEPS = 60


def test_the_judge_is_right_on_every_fresh_image_of_two_separable_classes() -> None:
    judge = train_judge(*_patches(200, 0), steps=STEPS, batch=64)
    images, labels = _patches(1000, 1)
    assert torch.equal(judge.classify(images), labels)
    assert torch.equal(judge.classify(images), judge(images).argmax(dim=1))
    whole = judge.features(images)
    assert whole.shape == (1000, 64) and whole.dtype == torch.float64
    alone = judge.features(images[700:701])[0]  # beyond the first piece of 512
    rounding = 1e3 * torch.finfo(torch.float32).eps * float(whole[700].abs().max())
    assert float((alone - whole[700]).abs().max()) < rounding


def test_the_same_seed_gives_the_same_judge_and_another_seed_another() -> None:
    images, labels = _patches(100, 0)
    torch.manual_seed(1)
    one = train_judge(images, labels, steps=10, batch=32, seed=5)
    torch.manual_seed(2)
    two = train_judge(images, labels, steps=10, batch=32, seed=5)
    other = train_judge(images, labels, steps=10, batch=32, seed=6)
    assert one.name == two.name != other.name
    assert torch.equal(one.features(images), two.features(images))
    assert not torch.equal(one.features(images), other.features(images))


def test_the_name_of_a_judge_changes_with_any_weight() -> None:
    judge = train_judge(*_patches(50, 0), steps=5, batch=16)
    name = judge.name
    for weight in judge.parameters():
        with torch.no_grad():
            weight.view(-1)[0] += 1e-3
        assert judge.name != name
        name = judge.name


def test_training_a_judge_neither_reads_nor_moves_the_global_generator() -> None:
    images, labels = _patches(50, 0)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    train_judge(images, labels, steps=5, batch=16)
    assert torch.equal(torch.get_rng_state(), state)
