"""Randomness: a sample owns its seed, and the numbers are as random as they claim."""

import math

import numpy
import pytest
import torch
from scipy import stats

from scorefield import Noise, ScorefieldError
from scorefield.randomness import philox, stream_of

KNOWN_ANSWERS = [  # Random123, kat_vectors, philox4x32 with 10 rounds: counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
N = 100_000


def _words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


def _philox_in_plain_integers(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Salmon et al. (2011), section 3.3, with Python's unbounded integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = divmod(0xD2511F53 * c[0], 2**32), divmod(0xCD9E8D57 * c[2], 2**32)
        c = [right[0] ^ c[1] ^ k[0], right[1], left[0] ^ c[3] ^ k[1], left[1]]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, words: str) -> None:
    got = philox(tuple(torch.tensor(word) for word in _words(counter)), _words(key))
    assert tuple(int(word) for word in got) == _words(words)


def test_philox_agrees_with_unbounded_integers_at_random_counters_and_keys() -> None:
    inputs = numpy.random.default_rng(0).integers(0, 2**32, size=(200, 6))
    columns = [torch.tensor(column) for column in inputs.T]
    got = torch.stack(philox(tuple(columns[:4]), (columns[4], columns[5])), dim=1)
    expected = [_philox_in_plain_integers(tuple(map(int, row[:4])), tuple(map(int, row[4:]))) for row in inputs]
    assert got.tolist() == [list(words) for words in expected]


DRAWS = {
    "normal": lambda noise: noise.normal((3, 5)),
    "uniform": lambda noise: noise.uniform((3, 5)),
    "sign": lambda noise: noise.sign((3, 5)),
    "choose": lambda noise: noise.choose(torch.tensor([0.2, 0.3, 0.5])),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_sample_is_the_same_bit_for_bit_in_any_batch_and_any_order(draw) -> None:
    seeds = torch.tensor([5, 0, 2**63 - 1, 17, 2**32, 2**32 + 5])
    whole = draw(Noise(seeds))
    alone = torch.cat([draw(Noise([seed])) for seed in seeds.tolist()])
    turned = draw(Noise(seeds.flip(0))).flip(0)
    assert torch.equal(whole, alone)
    assert torch.equal(whole, turned)
    assert torch.equal(whole[2:4], draw(Noise(seeds)[2:4]))
    assert torch.equal(whole[[4, 1]], draw(Noise(seeds)[torch.tensor([4, 1])]))


def test_a_big_batch_across_the_internal_chunks_equals_its_samples_one_at_a_time() -> None:
    from scorefield import randomness

    shape, batch = (4096,), 200  # 1024 blocks a sample: 64 samples a chunk
    assert batch * shape[0] // 4 > 3 * randomness._CHUNK
    whole = Noise(range(batch)).normal(shape)
    for i in (0, 63, 64, 127, 128, 199):
        assert torch.equal(whole[i], Noise([i]).normal(shape)[0])
    wide = Noise([7, 8]).normal((4 * randomness._CHUNK + 4,))  # one sample alone is larger than a chunk
    assert torch.equal(wide[1], Noise([8]).normal((4 * randomness._CHUNK + 4,))[0])


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert torch.equal(Noise(range(9)).normal((50,))[:, :7], Noise(range(9)).normal((7,)))
    assert torch.equal(Noise(range(9)).uniform((50,))[:, :7], Noise(range(9)).uniform((7,)))


def test_resuming_at_a_draw_gives_the_numbers_of_the_uninterrupted_run() -> None:
    noise = Noise(range(4), stream=3)
    run = [noise.normal((2,)), noise.uniform((2,)), noise.sign((2,)), noise.normal((2,))]
    assert noise.draws == 4
    assert torch.equal(Noise(range(4), stream=3, draws=3).normal((2,)), run[3])
    assert torch.equal(Noise(range(4), stream=3, draws=1).uniform((2,)), run[1])


def test_every_draw_seed_and_stream_has_numbers_of_its_own() -> None:
    """2,400 numbers of 53 bits: the chance of one accidental repeat is 3e-10."""
    streams = [0, 1, 2**32, 2**63, 2**64 - 1, stream_of("train", 7)]
    seeds = [0, 1, 2**32, 2**62, 2**63 - 1]
    numbers = torch.cat([Noise(seeds, stream=s, draws=d).uniform((4,)).flatten() for s in streams for d in range(20)])
    assert len(numbers.unique()) == len(numbers) == 2400


def test_named_streams_differ_by_every_name_and_by_their_order() -> None:
    names = [("train", 7), ("sample", 7), ("train", 8), (7, "train"), ("train",), ("train", "7"), ()]
    numbers = {stream_of(*name) for name in names}
    assert len(numbers) == len(names)
    assert all(0 <= number < 2**64 for number in numbers)


def test_numbers_are_float64_and_use_all_of_its_digits() -> None:
    """Every one of the first 52 binary digits of a uniform number is a fair coin; and of a normal number, those after 30."""
    for draw in (Noise(range(9)).uniform((3,)), Noise(range(9)).normal((3,)), Noise(range(9)).sign((3,))):
        assert draw.dtype == torch.float64
    whole = (Noise(range(N)).uniform(()) * 2.0**52).long()
    for digit in range(52):
        assert abs(float((whole >> digit & 1).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(N), f"binary digit {52 - digit}"
    tails = (Noise(range(N)).normal(()) * 2.0**40).long()
    for digit in range(10):
        assert abs(float((tails >> digit & 1).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(N), f"binary digit {40 - digit}"


def test_normal_numbers_are_box_and_mullers_of_the_words_of_philox() -> None:
    """Seed 5, stream 9, draw 3: two pairs, each a radius and an angle, computed with plain floats from plain integers."""
    got = Noise([5], stream=9, draws=3).normal((8,))[0].tolist()
    expected = []
    for block in range(2):
        a, b, c, d = _philox_in_plain_integers((block, 3, 9, 0), (5, 0))
        for first, second in ((a, b), (c, d)):
            radius = math.sqrt(-2 * math.log((first + 0.5) / 2**32))
            expected += [radius * math.cos(2 * math.pi * second / 2**32), radius * math.sin(2 * math.pi * second / 2**32)]
    numpy.testing.assert_allclose(got, expected, rtol=0, atol=4e-15)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Noise([0]).normal((8,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(Noise([0]).normal((8,)), first)


def test_a_negative_seed_is_refused_with_a_sentence() -> None:
    with pytest.raises(ScorefieldError, match=r"got seed -3, expected seeds in \[0, 2\^63\)"):
        Noise([4, -3])


def _views() -> dict[str, torch.Tensor]:
    """N normal numbers across samples, across draws and along one sample."""
    noise = Noise([11], stream=2)
    return {
        "samples": Noise(range(N)).normal(()),
        "draws": torch.cat([noise.normal((1,))[0] for _ in range(4000)]),
        "elements": Noise([3]).normal((N,))[0],
    }


@pytest.mark.parametrize(("view", "numbers"), _views().items())
def test_normal_numbers_have_the_four_moments_of_a_normal(view: str, numbers: torch.Tensor) -> None:
    n = len(numbers)
    for power, (moment, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):  # Var x^p = E x^2p - (E x^p)²
        assert abs(float((numbers**power).mean()) - moment) < 5 * math.sqrt(variance / n), (view, power)


@pytest.mark.parametrize(("view", "numbers"), _views().items())
def test_normal_numbers_pass_kolmogorov_and_smirnov(view: str, numbers: torch.Tensor) -> None:
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 5.7e-7, view  # the two-sided chance of 5 standard deviations


@pytest.mark.parametrize("numbers", [Noise(range(N)).uniform(()), Noise([3]).uniform((N,))[0]], ids=["samples", "elements"])
def test_uniform_numbers_pass_kolmogorov_and_smirnov_and_never_touch_the_ends(numbers: torch.Tensor) -> None:
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 5.7e-7
    assert 0 < float(numbers.min()) and float(numbers.max()) < 1


def test_uniform_stays_inside_the_open_interval_at_the_most_extreme_words(monkeypatch) -> None:
    for word in (0, 2**32 - 1):
        noise = Noise([0])
        monkeypatch.setattr(noise, "_words", lambda blocks, word=word: (torch.full((1, blocks), word),) * 4)
        assert bool(((noise.uniform((2,)) > 0) & (noise.uniform((2,)) < 1)).all())
        assert bool(torch.isfinite(noise.normal((4,))).all())


def test_numbers_of_neighbouring_samples_draws_elements_and_streams_are_uncorrelated() -> None:
    """Correlations of the numbers and of their squares; each is a mean of N products of variance 1 (4 for squares)."""
    noise = Noise(range(N))
    x = noise.normal((4,))
    pairs = {
        "samples": (x[1:, 0], x[:-1, 0]),
        "draws": (x[:, 0], noise.normal((4,))[:, 0]),
        "cosine and sine": (x[:, 0], x[:, 1]),
        "words": (x[:, 0], x[:, 2]),
        "streams": (x[:, 0], Noise(range(N), stream=1).normal((4,))[:, 0]),
    }
    for name, (a, b) in pairs.items():
        assert abs(float((a * b).mean())) < 5 / math.sqrt(len(a)), name
        assert abs(float(((a**2 - 1) * (b**2 - 1)).mean())) < 5 * 2 / math.sqrt(len(a)), name


@pytest.mark.parametrize("weights", [[0.8, 0.2], [1.0, 1.0, 1.0], [3.0, 1e-3, 6.0]])
def test_choose_has_the_given_frequencies(weights: list[float]) -> None:
    share = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    counts = Noise(range(N)).choose(torch.tensor(weights)).bincount(minlength=len(weights))
    assert bool(((counts / N - share).abs() < 5 * (share * (1 - share) / N).sqrt()).all())


def test_choose_never_picks_an_index_that_does_not_exist_when_the_weights_round() -> None:
    weights = torch.full((49,), 1 / 49)
    assert set(Noise(range(5000)).choose(weights).tolist()) == set(range(49))


def test_signs_are_minus_one_or_one_with_equal_chance() -> None:
    signs = Noise(range(N)).sign(())
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 5 / math.sqrt(N)


# --- even numbers -----------------------------------------------------------------------------------------------------


def test_even_numbers_of_consecutive_seeds_leave_at_most_three_gaps_none_wide() -> None:
    golden = (5**0.5 - 1) / 2
    for n in (10, 64, 1000):
        u = Noise(range(7, 7 + n), stream=3).even().sort().values
        gaps = torch.cat([u[1:] - u[:-1], u[:1] + 1 - u[-1:]])
        distinct = torch.unique((gaps * 2**40).round())
        assert len(distinct) <= 3  # Sos's theorem; independent numbers have n different ones
        assert float(gaps.max()) <= golden**-1 / n * (1 + golden)  # 2.618 times the mean gap


def test_one_even_number_is_uniform_over_streams_and_a_sample_keeps_its_own() -> None:
    first = torch.cat([Noise([5], stream=stream_of("even", i)).even() for i in range(4000)])
    statistic, _ = stats.kstest(first.numpy(), "uniform")
    assert statistic < 1.95 / 4000**0.5  # Kolmogorov's quantile of 1 - 0.001
    assert bool((Noise(range(100)).even()[17:18] == Noise([17]).even()).all())
    noise = Noise(range(4))
    assert not torch.equal(noise.even(), noise.even())
