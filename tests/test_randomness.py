"""Randomness: a sample owns its seed, and the numbers are as random as they claim."""

import hashlib
import math
from typing import Any

import numpy
import pytest
import torch
from helpers import each_case
from scipy import stats

from scorefield import SampleRng, ScorefieldError
from scorefield.randomness import _philox_numpy, _round_keys, philox, stream_of

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
    whole = draw(SampleRng(seeds))
    alone = torch.cat([draw(SampleRng([seed])) for seed in seeds.tolist()])
    turned = draw(SampleRng(seeds.flip(0))).flip(0)
    assert torch.equal(whole, alone)
    assert torch.equal(whole, turned)
    assert torch.equal(whole[2:4], draw(SampleRng(seeds)[2:4]))
    assert torch.equal(whole[[4, 1]], draw(SampleRng(seeds)[torch.tensor([4, 1])]))


def test_a_big_batch_across_the_internal_chunks_equals_its_samples_one_at_a_time() -> None:
    from scorefield import randomness

    shape, batch = (4096,), 200  # 1024 blocks a sample: 64 samples a chunk
    assert batch * shape[0] // 4 > 3 * randomness._CHUNK
    whole = SampleRng(range(batch)).normal(shape)
    for i in (0, 63, 64, 127, 128, 199):
        assert torch.equal(whole[i], SampleRng([i]).normal(shape)[0])
    wide = SampleRng([7, 8]).normal((4 * randomness._CHUNK + 4,))  # one sample alone is larger than a chunk
    assert torch.equal(wide[1], SampleRng([8]).normal((4 * randomness._CHUNK + 4,))[0])


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert torch.equal(SampleRng(range(9)).normal((50,))[:, :7], SampleRng(range(9)).normal((7,)))
    assert torch.equal(SampleRng(range(9)).uniform((50,))[:, :7], SampleRng(range(9)).uniform((7,)))


def test_resuming_at_a_draw_gives_the_numbers_of_the_uninterrupted_run() -> None:
    rng = SampleRng(range(4), stream=3)
    run = [rng.normal((2,)), rng.uniform((2,)), rng.sign((2,)), rng.normal((2,))]
    assert rng.draws == 4
    assert torch.equal(SampleRng(range(4), stream=3, draws=3).normal((2,)), run[3])
    assert torch.equal(SampleRng(range(4), stream=3, draws=1).uniform((2,)), run[1])


def test_every_draw_seed_and_stream_has_numbers_of_its_own() -> None:
    """2,400 numbers of 53 bits: the chance of one accidental repeat is 3e-10."""
    streams = [0, 1, 2**32, 2**63, 2**64 - 1, stream_of("train", 7)]
    seeds = [0, 1, 2**32, 2**62, 2**63 - 1]
    numbers = torch.cat([SampleRng(seeds, stream=s, draws=d).uniform((4,)).flatten() for s in streams for d in range(20)])
    assert len(numbers.unique()) == len(numbers) == 2400


def test_named_streams_differ_by_every_name_and_by_their_order() -> None:
    names = [("train", 7), ("sample", 7), ("train", 8), (7, "train"), ("train",), ("train", "7"), ()]
    numbers = {stream_of(*name) for name in names}
    assert len(numbers) == len(names)
    assert all(0 <= number < 2**64 for number in numbers)


def test_numbers_are_float64_and_use_all_of_its_digits() -> None:
    """Every one of the first 52 binary digits of a uniform number is a fair coin; and of a normal number, those after 30."""
    for draw in (SampleRng(range(9)).uniform((3,)), SampleRng(range(9)).normal((3,)), SampleRng(range(9)).sign((3,))):
        assert draw.dtype == torch.float64
    whole = (SampleRng(range(N)).uniform(()) * 2.0**52).long()
    for digit in range(52):
        assert abs(float((whole >> digit & 1).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(N), f"binary digit {52 - digit}"
    tails = (SampleRng(range(N)).normal(()) * 2.0**40).long()
    for digit in range(10):
        assert abs(float((tails >> digit & 1).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(N), f"binary digit {40 - digit}"


def test_normal_numbers_are_box_and_mullers_of_the_words_of_philox() -> None:
    """Seed 5, stream 9, draw 3: two pairs, each a radius and an angle, computed with plain floats from plain integers."""
    got = SampleRng([5], stream=9, draws=3).normal((8,))[0].tolist()
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
    first = SampleRng([0]).normal((8,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(SampleRng([0]).normal((8,)), first)


def test_a_negative_seed_is_refused_with_a_sentence() -> None:
    with pytest.raises(ScorefieldError, match=r"got seed -3, expected seeds in \[0, 2\^63\)"):
        SampleRng([4, -3])


WIDTHS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
WHOLE = {
    "range": range(3, 6),
    "tuple": (3, 4, 5),
    "generator": (seed for seed in (3, 4, 5)),
    "numbers of numpy": [numpy.int32(3), numpy.uint8(4), numpy.uint64(5)],
    "tensors of one": [torch.tensor(3), torch.tensor(4, dtype=torch.int16), torch.tensor(5)],
    "array": numpy.array([3, 4, 5], dtype=numpy.uint16),
    "array backwards": numpy.array([5, 4, 3])[::-1],
    "array of the other byte order": numpy.array([3, 4, 5], dtype=">i8"),
    "tensor that strides": torch.tensor([3, 0, 4, 0, 5])[::2],
    **{str(width): torch.tensor([3, 4, 5]).to(width) for width in WIDTHS},
}


@each_case(seeds=WHOLE)
def test_whole_numbers_of_any_type_are_the_seeds_that_they_say(seeds: Any) -> None:
    rng = SampleRng(seeds)
    assert rng.seeds.dtype == torch.int64
    assert rng.seeds.tolist() == [3, 4, 5]
    assert torch.equal(rng.normal((2,)), SampleRng([3, 4, 5]).normal((2,)))


def test_ranges_of_any_step_and_the_largest_seeds_are_kept_to_the_last_digit() -> None:
    top = 2**63 - 1
    for seeds in (range(9, 0, -3), range(top - 2, top + 1), range(7, 7), range(0, top, top // 2), [top], numpy.array([top])):
        assert SampleRng(seeds).seeds.tolist() == [int(seed) for seed in seeds]
    assert SampleRng(5).seeds.tolist() == SampleRng(torch.tensor(5)).seeds.tolist() == [5]


NO_SEEDS = {
    "fractions": ([0.5, 1.7], "0.5"),
    "fractions after a whole number": ([3, 1.7], "1.7"),
    "whole floats": ([1.0, 2.0], "1.0"),
    "numpy floats": ([numpy.float64(3.7)], "np.float64(3.7)"),
    "a float array": (numpy.array([1.5, 2.0]), "np.float64(1.5)"),
    "a float tensor": (torch.tensor([1.5]), "tensor(1.5000)"),
    "a complex tensor": (torch.tensor([1 + 2j]), "tensor(1.+2.j)"),
    "truth": ([True, False], "True"),
    "a mask": (torch.tensor([True]), "tensor(True)"),
    "a numpy mask": (numpy.array([True]), "np.True_"),
    "nan": ([math.nan], "nan"),
    "infinity": ([math.inf], "inf"),
    "2^63": ([2**63], "9223372036854775808"),
    "2^63 in an array": (numpy.array([5, 2**63], dtype=numpy.uint64), "9223372036854775808"),
    "2^63 in a tensor": (torch.from_numpy(numpy.array([5, 2**63], dtype=numpy.uint64)), "9223372036854775808"),
    "a range that ends above": (range(2**63 - 1, 2**63 + 1), "9223372036854775808"),
    "a range that begins below": (range(-1, 3), "-1"),
    "negative in an array": (numpy.array([3, -2]), "-2"),
    "text": ("12", "'1'"),
    "words": (["one"], "'one'"),
    "nothing": (None, "None"),
    "a table": ([[1, 2], [3, 4]], "[1, 2]"),
    "one fraction": (0.5, "0.5"),
}


@each_case(case=NO_SEEDS)
def test_what_is_no_whole_number_in_range_is_refused_by_name(case: tuple[Any, str]) -> None:
    seeds, named = case
    with pytest.raises(ScorefieldError, match=r"got seed .*, expected seeds in \[0, 2\^63\): a whole number") as refusal:
        SampleRng(seeds)
    assert f"got seed {named}, expected" in str(refusal.value)


def test_a_tensor_of_several_axes_is_no_row_of_seeds() -> None:
    for seeds in (torch.tensor([[1, 2], [3, 4]]), numpy.array([[1, 2], [3, 4]])):
        with pytest.raises(ScorefieldError, match=r"got seeds of shape \(2, 2\), expected one for each sample: flatten them"):
            SampleRng(seeds)


@each_case(value=[-1, 1.0, 1.5, math.nan, True, None, "1", 2**64, torch.tensor(1.0), torch.tensor(True)])
def test_streams_and_draws_are_whole_numbers_that_do_not_wrap(value: Any) -> None:
    """A 65th bit of a stream, or a 33rd of a draw, would meet the numbers of another."""
    with pytest.raises(ScorefieldError, match=r"got stream .*, expected a whole number in \[0, 2\^64\)"):
        SampleRng([1], stream=value)
    with pytest.raises(ScorefieldError, match=r"got draws = .*, expected a whole number in \[0, 2\^32\)"):
        SampleRng([1], draws=value)
    with pytest.raises(ScorefieldError, match=r"got draws = 4294967296, "):
        SampleRng([1], draws=2**32)
    assert SampleRng([1], stream=numpy.uint64(2**64 - 1), draws=torch.tensor(2**32 - 1)).normal(()).isfinite()


@pytest.mark.parametrize("seed", [numpy.int64(7), numpy.uint8(7), torch.tensor(7)])
def test_a_seed_in_the_name_of_a_stream_is_its_number_whatever_its_type(seed: Any) -> None:
    """A seed that comes out of an array is the seed that is typed: the same samples, the same data."""
    assert stream_of("sample", seed) == stream_of("sample", 7)
    assert stream_of(numpy.str_("sample"), 7) == stream_of("sample", 7)
    assert stream_of("sample", -seed.astype(numpy.int64) if isinstance(seed, numpy.generic) else -seed) == stream_of(
        "sample", -7
    )


@each_case(seed=[1.5, 7.0, True, None, math.nan, numpy.float64(7), [7]])
def test_what_is_no_whole_number_and_no_word_names_no_stream(seed: Any) -> None:
    with pytest.raises(ScorefieldError, match=r"got .* as a seed, expected a whole number"):
        stream_of("sample", seed)


def test_streams_of_words_and_numbers_are_those_of_before() -> None:
    """Samples of old runs depend on them: SHA-256 of the names as Python writes them, its first eight bytes."""
    for names, text in (
        (("sample", 0), "('sample', 0)"),
        (("train",), "('train',)"),
        ((), "()"),
        (("a", -3, "b"), "('a', -3, 'b')"),
    ):
        assert stream_of(*names) == int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _views() -> dict[str, torch.Tensor]:
    """N normal numbers across samples, across draws and along one sample."""
    rng = SampleRng([11], stream=2)
    return {
        "samples": SampleRng(range(N)).normal(()),
        "draws": torch.cat([rng.normal((1,))[0] for _ in range(4000)]),
        "elements": SampleRng([3]).normal((N,))[0],
    }


@pytest.mark.parametrize(("view", "numbers"), _views().items())
def test_normal_numbers_have_the_four_moments_of_a_normal(view: str, numbers: torch.Tensor) -> None:
    n = len(numbers)
    for power, (snapshot, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):  # Var x^p = E x^2p - (E x^p)²
        assert abs(float((numbers**power).mean()) - snapshot) < 5 * math.sqrt(variance / n), (view, power)


@pytest.mark.parametrize(("view", "numbers"), _views().items())
def test_normal_numbers_pass_kolmogorov_and_smirnov(view: str, numbers: torch.Tensor) -> None:
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 5.7e-7, view  # the two-sided chance of 5 standard deviations


@pytest.mark.parametrize(
    "numbers", [SampleRng(range(N)).uniform(()), SampleRng([3]).uniform((N,))[0]], ids=["samples", "elements"]
)
def test_uniform_numbers_pass_kolmogorov_and_smirnov_and_never_touch_the_ends(numbers: torch.Tensor) -> None:
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 5.7e-7
    assert 0 < float(numbers.min()) and float(numbers.max()) < 1


def test_uniform_stays_inside_the_open_interval_at_the_most_extreme_words(monkeypatch) -> None:
    for word in (0, 2**32 - 1):
        rng = SampleRng([0])

        def halves(count: int, draws: Any, word: int = word) -> list[torch.Tensor]:
            return [torch.full((1, 1, count), word, dtype=torch.float64) for _ in range(2)]

        monkeypatch.setattr(rng, "_halves", halves)
        assert bool(((rng.uniform((2,)) > 0) & (rng.uniform((2,)) < 1)).all())
        assert bool(torch.isfinite(rng.normal((4,))).all())


def test_numbers_of_neighbouring_samples_draws_elements_and_streams_are_uncorrelated() -> None:
    """Correlations of the numbers and of their squares; each is a mean of N products of variance 1 (4 for squares)."""
    rng = SampleRng(range(N))
    x = rng.normal((4,))
    pairs = {
        "samples": (x[1:, 0], x[:-1, 0]),
        "draws": (x[:, 0], rng.normal((4,))[:, 0]),
        "cosine and sine": (x[:, 0], x[:, 1]),
        "words": (x[:, 0], x[:, 2]),
        "streams": (x[:, 0], SampleRng(range(N), stream=1).normal((4,))[:, 0]),
    }
    for name, (a, b) in pairs.items():
        assert abs(float((a * b).mean())) < 5 / math.sqrt(len(a)), name
        assert abs(float(((a**2 - 1) * (b**2 - 1)).mean())) < 5 * 2 / math.sqrt(len(a)), name


@pytest.mark.parametrize("weights", [[0.8, 0.2], [1.0, 1.0, 1.0], [3.0, 1e-3, 6.0]])
def test_choose_has_the_given_frequencies(weights: list[float]) -> None:
    share = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    counts = SampleRng(range(N)).choose(torch.tensor(weights)).bincount(minlength=len(weights))
    assert bool(((counts / N - share).abs() < 5 * (share * (1 - share) / N).sqrt()).all())


def test_choose_never_picks_an_index_that_does_not_exist_when_the_weights_round() -> None:
    weights = torch.full((49,), 1 / 49)
    assert set(SampleRng(range(5000)).choose(weights).tolist()) == set(range(49))


def test_signs_are_minus_one_or_one_with_equal_chance() -> None:
    signs = SampleRng(range(N)).sign(())
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 5 / math.sqrt(N)


# --- even numbers -----------------------------------------------------------------------------------------------------


def test_even_numbers_of_consecutive_seeds_leave_at_most_three_gaps_none_wide() -> None:
    golden = (5**0.5 - 1) / 2
    for n in (10, 64, 1000):
        u = SampleRng(range(7, 7 + n), stream=3).even().sort().values
        gaps = torch.cat([u[1:] - u[:-1], u[:1] + 1 - u[-1:]])
        distinct = torch.unique((gaps * 2**40).round())
        assert len(distinct) <= 3  # Sos's theorem; independent numbers have n different ones
        assert float(gaps.max()) <= golden**-1 / n * (1 + golden)  # 2.618 times the mean gap


def test_one_even_number_is_uniform_over_streams_and_a_sample_keeps_its_own() -> None:
    first = torch.cat([SampleRng([5], stream=stream_of("even", i)).even() for i in range(1500)])
    statistic, _ = stats.kstest(first.numpy(), "uniform")
    assert statistic < 1.95 / 1500**0.5  # Kolmogorov's quantile of 1 - 0.001
    assert bool((SampleRng(range(100)).even()[17:18] == SampleRng([17]).even()).all())
    rng = SampleRng(range(4))
    assert not torch.equal(rng.even(), rng.even())


@pytest.mark.parametrize("pattern", ["n", "nu", "nnu", "nunm", "nmue", "nnuunmeu"])
def test_a_draw_is_the_same_whatever_was_drawn_before_it_and_made_ahead(pattern: str) -> None:
    """Of every pattern of kinds of draws, also of one that changes: draw k is that of an rng that begins at k."""
    seeds, draws = [3, 2**62 + 1, 2**33], {"n": (2,), "m": (1, 3, 3), "u": ()}
    one = SampleRng(seeds, stream=2**40 + 7)

    def draw(rng: SampleRng, kind: str) -> torch.Tensor:
        if kind == "e":
            return rng.even()
        return rng.uniform(draws[kind]) if kind == "u" else rng.normal(draws[kind])

    for kind in (pattern * 40)[:80] + "umnnnn" + pattern * 4:
        fresh = SampleRng(seeds, stream=2**40 + 7, draws=one.draws)
        assert torch.equal(draw(one, kind), draw(fresh, kind))
    one.draws = 5  # set from outside
    assert torch.equal(draw(one, pattern[0]), draw(SampleRng(seeds, stream=2**40 + 7, draws=5), pattern[0]))


def test_the_words_of_numpy_are_those_of_the_tensors() -> None:
    """Philox4x32-10 on unsigned words, and on int64 tensors as on a GPU: word by word, at the most extreme ones too."""
    few = torch.tensor([0, 1, 2**31, 2**32 - 1])
    seeds = torch.cat([few, few << 31, torch.tensor([2**63 - 1])])
    words = torch.cartesian_prod(few, few, few, few)
    counter = tuple(words[:, None, None, i] for i in range(4))
    expected = philox(counter, (seeds[:, None] & 0xFFFFFFFF, seeds[:, None] >> 32))
    unsigned = tuple(word.numpy().astype(numpy.uint64) for word in counter)
    found = _philox_numpy(unsigned, _round_keys(seeds)[:, :, None])
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == (256, 9, 1) and bool((mine.astype(numpy.int64) == theirs.numpy()).all())


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_device_makes_the_numbers_of_a_cpu_in_whatever_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from scorefield import randomness

    for seeds in ([2**63 - 1], range(9)):
        rng = SampleRng(seeds, stream=2**40 + 9)
        expected = rng._by_numpy(count, [3, 2**32 - 1])
        for chunk in (1, 7, 1 << 22):
            monkeypatch.setattr(randomness, "_DEVICE_CHUNK", chunk)
            for found, wanted in zip(rng._by_tensors(count, [3, 2**32 - 1]), expected, strict=True):
                assert found.dtype == wanted.dtype == torch.float64
                assert torch.equal(found, wanted)
