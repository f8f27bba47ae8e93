"""Randomness: a sample owns its seed, so batch size, order and number of devices never change a sample.

A `SampleRng` holds one seed per sample and a count of the draws made so far. The numbers of a draw are a pure function

    (seed of the sample, stream, index of the draw, index of the element)  ->  number

computed by Philox4x32-10, a counter-based generator: the seed is its 64-bit key, the other three its 128-bit counter. There
is no state to save, nothing global, and nothing to synchronise: resuming a training at step n, or drawing sample 17 alone,
gives the very numbers that the long run gave. All of it is integer arithmetic, the same on every device; on a CPU numpy does
it, whose unsigned words need half of the operations.

Small draws cost calls, not arithmetic. Since a number does not depend on when it is made, a run of draws that repeats, such as
normal, uniform, normal, uniform of Metropolis' test, is made ahead: 2, 4, ... at most 32 periods at once.

Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError

_LOW = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # (sqrt(5) - 1)/2 of 2^64, as an int64
_CHUNK = 1 << 14  # blocks at a time: the ten rounds then stay in the cache
_DEVICE_CHUNK = 1 << 22  # the same where calls cost more, and memory is what ends: half a gigabyte on the way
_TIMES, _HALF, _MASK = np.array([[[[_M0]]], [[[_M1]]]], dtype=np.uint64), np.uint64(32), np.uint64(_LOW)
_AHEAD, _PERIOD = 32, 4  # periods of draws that are made at once, and kinds of draws in a period, at most

Words = NDArray[np.uint64]


def philox(counter: tuple[Tensor | int, ...], key: tuple[Tensor | int, Tensor | int]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32: four 32-bit words from a 128-bit counter and a 64-bit key, held in int64 tensors.

    Args:
        counter: four words in [0, 2^32), tensors that broadcast together (or ints).
        key: two words in [0, 2^32), likewise.

    Returns:
        Four int64 tensors of words in [0, 2^32).

    >>> [hex(int(w)) for w in philox(tuple(torch.tensor(0) for _ in range(4)), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(10):
        # The 64-bit product wraps to a negative int64, but its low 64 bits are right: mask at the end, after the (arithmetic)
        # shift and the key, whose own carries go with it.
        p0, p1 = c0 * _M0, c2 * _M1
        if turn < 3:  # words that start as numbers, or with fewer axes, have met all the others after three rounds
            c0, c1, c2, c3 = (p1 >> 32 ^ c1 ^ k0) & _LOW, p1 & _LOW, (p0 >> 32 ^ c3 ^ k1) & _LOW, p0 & _LOW
        else:  # the same in place
            c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_LOW)  # type: ignore[union-attr]
            c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_LOW)  # type: ignore[union-attr]
            c1, c3 = p1.bitwise_and_(_LOW), p0.bitwise_and_(_LOW)  # type: ignore[union-attr]
        k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1, c2, c3  # type: ignore[return-value]  # tensors: every word has met the counter


def _philox_numpy(counter: tuple[Words, Words, Words, Words], keys: Words) -> tuple[Words, ...]:
    """Return what `philox` returns, of counters of three axes (draws, samples, blocks) and round keys, of two axes more.

    The two products of a round lie side by side, so that five operations do what twelve do on signed words. Those of the first
    round, and the words that it moves, have the shape of the counters still.
    """
    left, right = np.stack(np.broadcast_arrays(*counter[::2])), np.stack(np.broadcast_arrays(*counter[1::2]))
    crossed = (left * _TIMES)[::-1]
    left, right = (crossed >> _HALF) ^ right ^ keys[0], crossed & _MASK
    product = np.empty_like(left)
    for turn, key in enumerate(keys[1:]):
        np.multiply(left, _TIMES, out=product)
        crossed = product[::-1]
        np.right_shift(crossed, _HALF, out=left)
        left ^= right
        left ^= key
        right = np.bitwise_and(crossed, _MASK, out=right if turn else None)
    return left[0], right[0], left[1], right[1]


def _round_keys(seeds: Tensor) -> Words:
    """Return the keys of the ten rounds of each seed, `(10, 2, batch, 1)`, uint64."""
    own = seeds.numpy().astype(np.uint64)
    key = np.stack([own & _MASK, own >> _HALF])
    steps = np.expand_dims(np.arange(10, dtype=np.uint64), (1, 2)) * np.array([[_W0], [_W1]], dtype=np.uint64)
    keys: Words = ((key + steps) & _MASK)[..., None]
    return keys


def integer(value: Any) -> int | None:
    """Return a whole number of any type (int, numpy's, a tensor of one) as an int; None for everything else.

    A float is something else even if it is whole, and so is a truth value: what is meant by them would be a guess.

    >>> integer(np.uint8(3)), integer(torch.tensor(3)), integer(3.0), integer(True)
    (3, 3, None, None)
    """
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # the second of a number of 64 bits that does not fit into 63
        return None


def _within(value: Any, bits: int, refusal: str) -> int:
    """Return a whole number in [0, 2^bits) as an int, or refuse it."""
    number = integer(value)
    if number is None or not 0 <= number < 1 << bits:
        raise ScorefieldError(refusal)
    return number


def stream_of(*names: object) -> int:
    """Hash names into a stream number in [0, 2^64): `stream_of("train", 7)` never meets `stream_of("sample", 7)`.

    A number is itself whatever its type, so that a seed of numpy's gives what the same int gives.

    Raises:
        ScorefieldError: a name that is neither text nor a whole number, such as a seed of 1.5.
    """
    parts = tuple(str(name) if isinstance(name, str) else integer(name) for name in names)
    if None in parts:
        raise ScorefieldError(f"got {names[parts.index(None)]!r} as a seed, expected a whole number: for example 0")
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


def _seeds(seeds: Any) -> Tensor:
    """Return seeds as a tensor, `(batch,)`, int64."""

    def one(seed: Any) -> int:
        return _within(seed, 63, f"got seed {seed!r}, expected seeds in [0, 2^63): a whole number for each sample")

    if isinstance(seeds, range) and len(seeds):  # not walked through: there may be a million
        one(seeds[0]), one(seeds[-1])
        return seeds.start + seeds.step * torch.arange(len(seeds))
    if isinstance(seeds, Tensor) and seeds.dtype == torch.uint64:  # which torch can neither compare nor convert with care
        seeds = seeds.cpu().numpy()
    if isinstance(seeds, np.ndarray) and seeds.dtype.kind in "iu":
        for end in (seeds.min(), seeds.max()) if seeds.size else ():
            one(int(end))
        seeds = torch.from_numpy(seeds.astype(np.int64))
    if isinstance(seeds, Tensor) and not (seeds.is_floating_point() or seeds.is_complex() or seeds.dtype == torch.bool):
        rows = seeds.detach().to(torch.int64)
        if rows.ndim > 1:
            raise ScorefieldError(f"got seeds of shape {tuple(rows.shape)}, expected one for each sample: flatten them")
        if rows.numel():
            one(int(rows.min()))
        return rows.reshape(-1)
    try:
        each = list(seeds)
    except TypeError:  # one number
        each = [seeds]
    return torch.tensor([one(seed) for seed in each], dtype=torch.int64)


class SampleRng:
    """The random numbers of a batch of samples, each drawn from its own seed.

    >>> both, last = SampleRng(range(100)), SampleRng([99])
    >>> bool((both.normal((3,))[-1] == last.normal((3,))[0]).all())
    True
    """

    def __init__(self, seeds: Any, *, stream: Any = 0, draws: Any = 0, device: torch.device | str = "cpu") -> None:
        """Hold the seeds.

        Args:
            seeds: one whole number in [0, 2^63) per sample, of any integer type: a range, a list, an array, a tensor.
            stream: number in [0, 2^64) that separates purposes (see `stream_of`).
            draws: how many draws were made before, in [0, 2^32): 0 for a new sample.
            device: where the numbers are made.

        Raises:
            ScorefieldError: a number that is out of range, or no whole number.
        """
        self.seeds = _seeds(seeds).to(device)
        self.stream = _within(stream, 64, f"got stream {stream}, expected a whole number in [0, 2^64): make it with stream_of")
        self.draws = _within(draws, 32, f"got draws = {draws}, expected a whole number in [0, 2^32): 0 for a new sample")
        self._ready: dict[tuple[str, int], dict[int, Tensor]] = {}  # what was made ahead: kind and size -> draw -> numbers
        self._before, self._made, self._meant = list[tuple[str, int]](), 0, (self.stream, self.draws)  # the draws so far
        self._keys: Words | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, which: slice | Tensor) -> SampleRng:
        """Return the same stream for part of the samples, at the same draw."""
        return SampleRng(self.seeds[which], stream=self.stream, draws=self.draws, device=self.seeds.device)

    def _halves(self, count: int, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return two words of 32 bits for each draw, sample and one of `count` numbers, each `(k, batch, count)`, float64."""
        return (self._by_numpy if self.seeds.device.type == "cpu" else self._by_tensors)(count, draws)

    def _by_tensors(self, count: int, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return them where the seeds are."""
        blocks, parts = (count + 1) // 2, list[tuple[Tensor, ...]]()
        block = torch.arange(blocks, dtype=torch.int64, device=self.seeds.device)
        draw = torch.tensor(draws, device=self.seeds.device).unsqueeze(1).unsqueeze(1)
        for chunk in torch.split(self.seeds, max(1, _DEVICE_CHUNK // max(1, blocks * len(draws)))):
            counter = block.expand(len(chunk), -1), draw, self.stream & _LOW, self.stream >> 32 & _LOW
            a, b, c, d = philox(counter, (chunk[:, None] & _LOW, chunk[:, None] >> 32 & _LOW))
            parts.append(tuple(torch.stack(two, dim=-1).flatten(-2)[..., :count].double() for two in ((a, c), (b, d))))
        upper, lower = (torch.cat(every, dim=1) for every in zip(*parts, strict=True))
        return upper, lower

    def _by_numpy(self, count: int, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the same from unsigned words."""
        blocks, seeds = (count + 1) // 2, self.seeds
        numbers = np.empty((2, len(draws), len(seeds), blocks, 1 if count == 1 else 2))
        rows = max(1, _CHUNK // max(blocks, 1))
        low, high = (np.full((1, 1, 1), self.stream >> shift & _LOW, dtype=np.uint64) for shift in (0, 32))
        counter = np.arange(blocks, dtype=np.uint64), np.expand_dims(np.array(draws, dtype=np.uint64), (1, 2)), low, high
        for start in range(0, len(seeds), rows):
            chunk = seeds[start : start + rows]
            whole = len(chunk) == len(seeds)
            keys = self._keys if whole and self._keys is not None else _round_keys(chunk)
            self._keys = keys if whole else None
            made = _philox_numpy(counter, keys[:, :, None])
            for i, word in enumerate(made[: 2 * numbers.shape[-1]]):
                numbers[i % 2, :, start : start + rows, :, i // 2] = word  # as float64: whole numbers below 2^32 are exact
        upper, lower = torch.from_numpy(numbers.reshape(*numbers.shape[:3], blocks * numbers.shape[-1])[..., :count])
        return upper, lower

    def _next(self, kind: str, size: int, make: Callable[[int, Sequence[int]], Tensor]) -> Tensor:
        """Return the next draw of a kind, `(batch, size)`, and make those ahead that come next if draws go on repeating."""
        if self._meant != (self.stream, self.draws):  # somebody else set them
            self._ready, self._before, self._made = {}, [], 0
        one = kind, size
        ready = self._ready.setdefault(one, {})
        if self.draws not in ready:
            self._ready = {other: made for other, made in self._ready.items() if other in self._before[-2 * _PERIOD :]}
            draws = self._expected(one)
            self._ready[one] = ready = dict(zip(draws, make(size, draws).unbind(), strict=True))
        self._count(one)
        return ready.pop(self.draws - 1)

    def _count(self, one: tuple[str, int]) -> None:
        """Count a draw."""
        self.draws += 1
        self._meant = self.stream, self.draws
        self._before = [*self._before[1 - 2 * _PERIOD :], one]

    def _expected(self, one: tuple[str, int]) -> list[int]:
        """Return the number of this draw, and those of later ones of its kind if the last period of draws repeats again."""
        before = self._before
        periods = (
            before[-p:] for p in range(1, _PERIOD + 1) if before[-p:][:1] == [one] and before[-p:] == before[-2 * p : -p]
        )
        period = next(periods, [])
        room = _CHUNK // max(1, len(self) * ((one[1] + 3) // 4))
        self._made = max(1, min(2 * self._made, _AHEAD, room // max(1, period.count(one)))) if period else 1
        coming = (period or [one]) * self._made
        return [self.draws + i for i, other in enumerate(coming) if other == one]

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw U(0, 1) with 52 random bits, shape `(batch, *shape)`, float64; never exactly 0 or 1.

        >>> SampleRng([1, 2]).uniform((3,)).shape
        torch.Size([2, 3])
        """
        return self._next("uniform", math.prod(shape), self._uniforms).reshape(len(self), *shape)

    def _uniforms(self, size: int, draws: Sequence[int]) -> Tensor:
        """Return draws of `size` numbers, shape `(len(draws), batch, size)`, without counting them."""
        upper, lower = self._halves(size, draws)
        # 52 bits and a half: with 53 the largest would round to 1.
        return upper.mul_(2.0**-6).floor_().mul_(2.0**26).add_(lower.mul_(2.0**-6).floor_()).add_(0.5).mul_(2.0**-52)

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw N(0, I) by Box and Muller (1958), shape `(batch, *shape)`, float64; tails reach 6.7 standard deviations.

        >>> SampleRng(range(4)).normal((1, 8, 8)).shape
        torch.Size([4, 1, 8, 8])
        """
        return self._next("normal", math.prod(shape), self._normals).reshape(len(self), *shape)

    def _normals(self, size: int, draws: Sequence[int]) -> Tensor:
        """Return draws of `size` numbers, shape `(len(draws), batch, size)`, without counting them."""
        radius, angle = self._halves((size + 1) // 2, draws)
        radius = radius.add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = angle.mul_(2 * math.pi / 2.0**32)
        both = radius.new_empty(*radius.shape, 2)
        torch.mul(radius, angle.cos(), out=both[..., 0])
        torch.mul(radius, angle.sin_(), out=both[..., 1])
        return both.flatten(-2)[..., :size]

    def even(self) -> Tensor:
        """Draw one number in (0, 1) per sample that consecutive seeds spread evenly, `(batch,)`, float64.

            u = (seed·(sqrt(5) - 1)/2 + shift) mod 1,    one shift per stream and draw

        Alone, over streams, it is U(0, 1); together, n consecutive seeds leave no gap wider than 2.7/n where independent
        numbers leave ln(n)/n, so the mean of a function of u over a batch hardly moves. A sample's number is still its own: it
        does not know the batch. Two draws differ by their shift alone, so take one of them and the rest from `uniform`.

        Reference: Weyl (1916), "On the uniform distribution of numbers mod. one"; the three-gap theorem, Sos (1958).

        >>> len(SampleRng(range(5)).even())
        5
        """
        zero = torch.zeros(1, dtype=torch.int64, device=self.seeds.device)
        a, b, *_ = philox((zero, self.draws, self.stream & _LOW, self.stream >> 32 & _LOW), (zero, 0))
        self._count(("even", 0))
        turned = self.seeds * _GOLDEN + ((a << 32) + b)  # 64 bits wrap: that is the mod 1
        return ((turned >> 12 & (1 << 52) - 1).double() + 0.5) / 2.0**52

    def sign(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw Rademacher numbers, -1 or +1 with equal chance, shape `(batch, *shape)`, float64."""
        return (self.uniform(shape) < 0.5).double() * 2 - 1

    def choose(self, weights: Tensor) -> Tensor:
        """Draw one index per sample with the given probabilities (any positive weights), shape `(batch,)`, int64."""
        edges = (weights.double() / weights.double().sum()).cumsum(0).to(self.seeds.device)
        return torch.searchsorted(edges, self.uniform(())).clamp_(max=len(edges) - 1)


def subsample(n: int, at_most: int, seed: int = 0) -> Tensor:
    """Return all of 0..n-1, or a random subset of `at_most` of them, sorted, int64.

    >>> subsample(3, 5)
    tensor([0, 1, 2])
    """
    order = SampleRng(range(n), stream=seed).uniform(()).argsort() if n > at_most else torch.arange(n)
    return order[:at_most].sort().values


__getattr__ = renamed.attributes(__name__)
