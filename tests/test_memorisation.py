"""Memorisation: copies are caught however they are dressed, and whatever is new passes, however bad it is."""

import itertools
import math
from collections.abc import Callable

import numpy
import pytest
import torch
from helpers import each_case
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from scorefield import VE, GaussianMixture, NotFinite, SampleRng, ScorefieldError
from scorefield.metrics import memorisation as module
from scorefield.metrics.base import Estimate
from scorefield.metrics.closest_record import drawn
from scorefield.metrics.memorisation import Memorisation, memorisation
from scorefield.metrics.neighbours import neighbours

DIGITS = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1
CLASSES = torch.from_numpy(load_digits().target)
MIXTURE = GaussianMixture([0.5, 0.3, 0.2], torch.eye(3, 6) * 6, [1.0, 0.7, 1.3], VE(0.01, 10.0))


def _normal(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(numpy.random.default_rng(seed).normal(size=(n, *shape)))


def _split(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Digits at random: 400 fresh ones, 997 for training, 400 held out."""
    order = torch.from_numpy(numpy.random.default_rng(seed).permutation(len(DIGITS)))
    return order[:400], order[400:-400], order[-400:]


FRESH, TRAIN, HELD_OUT = (DIGITS[rows] for rows in _split(0))
FRESH_CLASSES = CLASSES[_split(0)[0]]
SOURCES = TRAIN[:400]  # in random order


def judge(samples: Tensor) -> Memorisation:
    return memorisation(samples, TRAIN, HELD_OUT)


def _mixed(share: float, copies: Tensor = SOURCES) -> Tensor:
    count = round(share * len(FRESH))
    return torch.cat([copies[:count], FRESH[count:]])


# --- the parts are what they claim to be ------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [0.0, 300.0])
@pytest.mark.parametrize("among", [False, True])
def test_neighbours_are_those_of_all_pairs_of_differences_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, far: float, among: bool
) -> None:
    monkeypatch.setattr("scorefield.metrics.neighbours.POINTS", 37)
    monkeypatch.setattr("scorefield.metrics.neighbours.QUERIES", 16)
    points = _normal(150, 5) + far
    queries = points if among else _normal(61, 5, seed=1) + far
    apart = (queries.unsqueeze(1) - points).square().sum(dim=2).sqrt()
    if among:
        apart.fill_diagonal_(math.inf)
    expected, rows = apart.sort(dim=1)
    distance, found = neighbours(queries, points, 4, themselves=torch.arange(150) if among else None)
    assert torch.equal(found, rows[:, :4])
    assert torch.equal(distance, expected[:, :4])


def test_an_example_that_is_there_twice_is_its_twins_neighbour_and_never_its_own() -> None:
    points = torch.cat([_normal(30, 3), _normal(30, 3)])
    distance, rows = neighbours(points, points, 1, themselves=torch.arange(60))
    assert distance.abs().max() == 0
    assert torch.equal(rows[:, 0], torch.arange(60).roll(30))


@pytest.mark.parametrize(("n", "m", "k"), [(5, 7, 0), (6, 5, 2), (4, 8, 7)])
def test_the_chance_of_hits_before_the_next_held_out_example_is_counted_over_all_orders(n: int, m: int, k: int) -> None:
    orders = [numpy.delete(numpy.arange(n + m), black) for black in itertools.combinations(range(n + m), m)]
    white_before = [sum(row - i <= k for i, row in enumerate(whites)) for whites in orders]
    for hits in range(n + 1):
        assert module._before(hits, n, k, m) == pytest.approx(numpy.mean([w >= hits for w in white_before]), rel=1e-12)


def test_that_chance_keeps_its_digits_for_large_sets_and_far_tails() -> None:
    for n, m, k, hits in ((1000, 300, 3, 200), (10_000, 10_000, 100, 400), (10_000, 500, 10, 900)):
        expected = float(stats.hypergeom.cdf(k, n + m, m, hits + k))
        assert 0 < expected < 1e-5
        assert module._before(hits, n, k, m) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tosses", [0, 1, 7, 500])
def test_the_chance_of_heads_is_binomial(tosses: int) -> None:
    for heads in {0, tosses // 2, tosses}:
        assert module._heads(heads, tosses) == pytest.approx(float(stats.binom.sf(heads - 1, tosses, 0.5)), rel=1e-9)


def test_the_rank_statistic_is_that_of_mann_and_whitney() -> None:
    x, y = _normal(40), _normal(55, seed=1) + 0.3
    u = float(stats.mannwhitneyu(x.numpy(), y.numpy()).statistic)
    expected = (u - 40 * 55 / 2) / math.sqrt(40 * 55 * 96 / 12)
    assert module._mann_whitney(x, y) == pytest.approx(expected, rel=1e-12)


REPEATED = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [2, 1]]).double()
POOLS = {
    "clumps of any size": (_normal(8, 2), torch.cat([_normal(20, 2, seed=1), 0.01 * _normal(30, 2, seed=2) + 0.5])),
    "equal rows": (REPEATED, REPEATED.repeat(3, 1)),
    "equal distances": (REPEATED, 0.5 + REPEATED.repeat(2, 1)),
}


@pytest.mark.parametrize("rows", POOLS)
def test_over_all_ways_to_label_the_pool_drawn_has_mean_zero_and_the_error_that_it_states(rows: str) -> None:
    """Not an approximation: 3 of 8 examples are held out in each of the 56 ways."""
    pool, samples = POOLS[rows]
    values, errors = [], []
    for held in itertools.combinations(range(8), 3):
        train, held_out = pool[[i for i in range(8) if i not in held]], pool[list(held)]
        estimate = drawn(samples, train, held_out)
        values.append(estimate.value)
        errors.append(estimate.standard_error)
    assert numpy.mean(values) == pytest.approx(0, abs=1e-12)
    assert max(errors) == pytest.approx(min(errors), rel=1e-12)  # it depends on the pool, not on the labels
    assert numpy.std(values) == pytest.approx(errors[0], rel=1e-12)


# --- what is copied fails ---------------------------------------------------------------------------------------------

COPIES = {
    "the training set itself": (SOURCES, 1.0),
    "with a little noise": (SOURCES + 0.05 * _normal(400, 1, 8, 8), 1.0),
    "mirrored": (SOURCES.flip(-1), 1.0),
    "moved by a pixel": (torch.cat([SOURCES[..., :1], SOURCES[..., :-1]], dim=3), 1.0),
    "a tenth of the samples": (_mixed(0.1), 0.1),
    "a tenth, with a little noise": (_mixed(0.1, SOURCES + 0.05 * _normal(400, 1, 8, 8)), 0.1),
    "a twentieth": (_mixed(0.05), 0.05),
    "one example again and again": (_mixed(0.1, TRAIN[:1].expand(400, 1, 8, 8)), 0.1),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_caught_and_counted(kind: str) -> None:
    samples, share = COPIES[kind]
    found = judge(samples)
    assert found.copies, found.sentence
    assert "copies of training examples" in found.sentence
    if kind not in ("moved by a pixel",):  # some copies lose strokes at the edge and are not recognised
        counted = max(found.spaces["model space"].copied.value, *(one.value for one in found.disguised.values()))
        assert counted == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("axis", "step", "disguise"),
    [
        *((4, 1, "moved one pixel right"), (4, -1, "moved one pixel left"), (3, 1, "moved one pixel down")),
        *((3, -1, "moved one pixel up"), (2, 1, "moved one pixel back"), (2, -1, "moved one pixel forward")),
    ],
)
def test_a_volume_moved_by_a_voxel_along_any_axis_is_caught_and_the_way_is_named(axis: int, step: int, disguise: str) -> None:
    """White volumes: no two are alike, and one that is moved is like no other but itself."""
    train, held_out = (SampleRng(range(60), stream=i).normal((1, 5, 6, 7)) for i in range(2))
    size = train.shape[axis]
    edge = train.narrow(axis, 0 if step > 0 else size - 1, 1)  # what comes in is what was at the edge
    kept = train.narrow(axis, 0 if step > 0 else 1, size - 1)
    moved = torch.cat([edge, kept] if step > 0 else [kept, edge], dim=axis)
    found = memorisation(moved, train, held_out)
    assert found.copies and found.disguised.pop(disguise).value > 0.98
    assert all(other.value == 0.0 for other in found.disguised.values())


def test_more_copies_among_the_samples_are_ranked_worse_by_every_number() -> None:
    found = [judge(_mixed(share)).spaces["model space"] for share in (0.0, 0.1, 0.3, 0.6, 1.0)]
    for numbers in ([one.drawn.value for one in found], [one.copied.value for one in found]):
        assert numbers == sorted(set(numbers)), "strictly rising"


def test_a_fiftieth_of_copies_is_caught_where_a_thousand_are_held_out() -> None:
    sets = [MIXTURE.sample(SampleRng(range(1000), stream=i)) for i in range(3)]
    samples = torch.cat([sets[1][:20], sets[0][20:]])
    found = memorisation(samples, *sets[1:])
    assert found.copies, found.sentence
    assert found.spaces["model space"].copied.value == pytest.approx(0.02, abs=0.005)


def test_a_tenth_of_copies_is_caught_where_only_a_hundred_are_held_out() -> None:
    assert memorisation(_mixed(0.1), TRAIN, HELD_OUT[:100]).copies


def test_a_copy_of_the_training_set_is_drawn_to_it_wholly_and_nothing_else_in_the_set_is_known() -> None:
    found = judge(SOURCES).spaces["model space"]
    assert found.drawn.value == pytest.approx(1, abs=1e-12)
    assert found.chance < 1e-50
    assert [pair.distance for pair in found.closest] == [0.0] * 10
    assert [pair.training for pair in found.closest] == [pair.sample for pair in found.closest]


def test_samples_around_training_examples_too_noisy_for_copies_are_known_to_be_drawn_to_them() -> None:
    found = judge(SOURCES + 0.5 * _normal(400, 1, 8, 8))
    assert (found.copies, found.overfits) == (False, True)
    assert "the set depends on what it was trained on" in found.sentence


def test_copies_that_only_features_see_are_caught_in_features() -> None:
    """Pictures turned upside down are others in pixels; the sum of a column of pixels does not see that."""

    def columns(images: Tensor) -> Tensor:
        return images.double().sum(dim=2).flatten(1)

    turned = SOURCES.flip(-2)
    assert not judge(turned).copies
    found = memorisation(turned, TRAIN, HELD_OUT, features={"columns": (columns(turned), columns(TRAIN), columns(HELD_OUT))})
    assert found.copies
    assert "in the features of columns" in found.sentence
    assert found.spaces["columns"].copied.value > 0.99


# --- what is new passes -----------------------------------------------------------------------------------------------


def _blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _flattened(images: Tensor) -> Tensor:
    """Images with all but ten principal components taken away."""
    mean = TRAIN.flatten(1).mean(dim=0)
    axes = torch.linalg.svd(TRAIN.flatten(1) - mean, full_matrices=False).Vh[:10]
    kept: Tensor = (images.flatten(1) - mean) @ axes.mT @ axes
    return (kept + mean).reshape(images.shape)


NEW: dict[str, Tensor] = {
    "fresh examples": FRESH,
    "blurred": _blurred(FRESH),
    "blurred twice": _blurred(_blurred(FRESH)),
    "averaged in pairs": (FRESH + FRESH.flip(0)) / 2,
    "without detail": _flattened(FRESH),
    "noisy": FRESH + 0.5 * _normal(400, 1, 8, 8),
    "only noise": _normal(400, 1, 8, 8),
    "only zeros": FRESH[FRESH_CLASSES == 0],
    "only ones, the most alike": FRESH[FRESH_CLASSES == 1],
    "one picture again and again": FRESH[:1] + 0.01 * _normal(400, 1, 8, 8),
}


@each_case(kind=list(NEW))
def test_new_samples_pass_however_bad_they_are(kind: str) -> None:
    found = judge(NEW[kind].float())
    assert not found.copies, found.sentence
    assert not found.overfits, found.sentence
    assert found.sentence.startswith("no sign of copying")


@pytest.mark.parametrize("draw", ["digits", "mixture"])
def test_of_many_splits_of_real_data_fewer_than_one_in_a_hundred_raise_a_false_alarm(draw: str) -> None:
    """Were it one in a hundred, 500 splits in all without any would be seen once in 150 times."""
    alarms = 0
    for seed in range(250):
        if draw == "digits":
            order = torch.from_numpy(numpy.random.default_rng(seed).permutation(len(DIGITS)))
            samples, held_out, train = (DIGITS.flatten(1)[rows] for rows in (order[:150], order[150:300], order[300:900]))
        else:
            samples, held_out, train = (MIXTURE.sample(SampleRng(range(150), stream=3 * seed + i)) for i in range(3))
        found = memorisation(samples, train, held_out)
        alarms += found.copies or found.overfits
    assert alarms == 0


def test_a_shrunken_set_is_taken_for_a_copy_by_the_rank_test_and_not_by_ours() -> None:
    samples, train, held_out = (_normal(500, 8, seed=i) for i in range(3))
    found = memorisation(0.6 * samples, train, held_out)
    assert found.spaces["model space"].mann_whitney < -5
    assert not found.copies
    assert not found.overfits
    assert "nearer to the training examples than held-out ones do, but as near to the held-out ones" in found.sentence


def test_real_examples_that_are_there_twice_raise_no_alarm() -> None:
    """A third of the data set are repetitions, so a third of the fresh examples have their twin in the training part."""
    twice = torch.cat([DIGITS[:1200], DIGITS[:600]]).flatten(1)
    twice = twice[torch.from_numpy(numpy.random.default_rng(0).permutation(1800))]
    samples, train, held_out = twice[:400], twice[400:1400], twice[1400:]
    found = memorisation(samples, train, held_out)
    assert not found.copies, found.sentence
    assert not found.overfits, found.sentence


# --- duplicates, gaps, refusals ---------------------------------------------------------------------------------------


def test_duplicates_among_new_samples_are_counted_and_no_copies() -> None:
    samples = FRESH.clone()
    samples[200:260] = samples[:60]  # 120 samples have a twin
    found = judge(samples)
    assert not found.copies
    assert found.spaces["model space"].duplicates.value == pytest.approx(120 / 400, abs=1e-12)
    assert "30 % ± 2 % of the samples are nearer to each other" in found.sentence
    assert judge(FRESH).spaces["model space"].duplicates.value < 5 / 400


def test_duplicates_do_not_grow_with_the_number_of_samples() -> None:
    """Nearest neighbours get nearer as a set grows: only sets of equal size can be compared."""
    held_out, train = _normal(100, 3), _normal(100, 3, seed=1)
    shares = [
        memorisation(_normal(n, 3, seed=2), train, held_out).spaces["model space"].duplicates.value for n in (1000, 10_000)
    ]
    assert max(shares) < 0.1


@pytest.mark.parametrize(
    ("gap", "overfits"), [(Estimate(0.02, 0.001), True), (Estimate(0.02, 0.01), False), (Estimate(-1.0, 0.01), False)]
)
def test_a_gap_between_held_out_and_training_loss_is_overfitting_from_four_standard_errors(
    gap: Estimate, overfits: bool
) -> None:
    found = memorisation(FRESH, TRAIN, HELD_OUT, gaps={"loss": gap})
    assert (found.copies, found.overfits) == (False, overfits)
    assert ("fits training examples better" in found.sentence) == overfits


def _without_one(index: int) -> Callable[[], list[Tensor]]:
    return lambda: [one[:19] if i == index else one for i, one in enumerate((FRESH, TRAIN, HELD_OUT))]


@pytest.mark.parametrize(("index", "who"), [(0, "samples"), (1, "training examples"), (2, "held-out examples")])
def test_too_few_are_refused_with_the_number_that_it_takes(index: int, who: str) -> None:
    with pytest.raises(ScorefieldError, match=f"got 19 {who} for the memorisation test, expected at least 20"):
        memorisation(*_without_one(index)())


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ScorefieldError, match="expected one shape"):
        memorisation(FRESH[..., :4], TRAIN, HELD_OUT)
    with pytest.raises(ScorefieldError, match="expected the same rows in every space"):
        memorisation(FRESH, TRAIN, HELD_OUT, features={"few": (_normal(30, 2), _normal(30, 2), _normal(30, 2))})
    with pytest.raises(NotFinite, match="NaN or infinity in the samples"):
        memorisation(torch.full_like(FRESH, math.nan), TRAIN, HELD_OUT)


def test_the_same_values_give_the_same_verdict_and_twenty_of_each_are_enough() -> None:
    found = memorisation(FRESH[:20], TRAIN[:20], HELD_OUT[:20], pairs=3)
    assert found == memorisation(FRESH[:20], TRAIN[:20], HELD_OUT[:20], pairs=3)
    assert (found.samples, found.training, found.held_out) == (20, 20, 20)
    assert not found.copies
    assert memorisation(TRAIN[:20], TRAIN[:20], HELD_OUT[:20]).copies
