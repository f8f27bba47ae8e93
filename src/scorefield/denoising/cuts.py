"""Cut and missing pixels: what of z = x0 + sigma·noise a file still shows.

A picture with noise that was clipped to its legal range shows z only inside it. A pixel at the low end says z <= low, one at
the high end z >= high, and one that is masked says nothing:

    seen        low = high = z
    cut         (-inf, low] or [high, inf)
    missing     (-inf, inf)

so every pixel says that z lies in an interval. Clipped values taken for z itself would halve the noise of a black background,
and constant values would have none. A pixel at an end may have been filled in by a mask instead, which nothing in it can tell:
it is missing with a small prior probability, so that a black pixel where the rest says bright is not taken for a large noise.

`Chains` draws the z that are not seen, by data augmentation: given z, x0 is drawn from its posterior; given x0, z is
N(x0, sigma²) inside its interval. A draw of x0 is one step of the reverse SDE to half the noise, and the mean from there:

    x0 = D(z + 3/4·(D(z; sigma) - z) + sqrt(3/4)·sigma·noise; sigma/2)

On a Gaussian its mean is right, and in a direction in which the posterior variance is j·sigma² it has 0.75, 0.66, 0.48, 0.19
and 0.06 for j = 1, 0.8, 0.5, 0.2 and 0.09. Between modes it chooses one.

References: Tanner, Wong (1987), "The calculation of posterior distributions by data augmentation", JASA 82. Tobin (1958),
"Estimation of relationships for limited dependent variables", Econometrica 26.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorefield.denoising.level import ROWS, denoised_at, lambda_range, pulled
from scorefield.field import Field
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, flat, over, total

LEAST_TIED = 8  # equal values that may be chance
MASKED, MASKED_BLOCK = 0.01, 0.5  # prior probability that a pixel at an end is missing, alone and in a block of such
RATIO = 1.5  # of neighbouring levels
SETTLED = 8  # sweeps at the last level


@dataclass(frozen=True, eq=False)
class Seen:
    """Intervals in which z lies: `low = high` where it is seen.

    Attributes:
        low, high: `(batch, *shape)`, float64.
        masked: prior probability that a pixel at an end is missing, `(batch, *shape)`.
    """

    low: Sample
    high: Sample
    masked: Sample

    @classmethod
    def all_of(cls, z: Sample) -> Seen:
        """Return that every pixel shows z."""
        return cls(z.double(), z.double(), torch.zeros_like(z, dtype=torch.float64))

    @property
    def known(self) -> Tensor:
        """Whether z is seen, `(batch, *shape)`, bool."""
        return self.low == self.high

    @property
    def whole(self) -> bool:
        """Whether every pixel shows z."""
        return bool(self.known.all())

    @property
    def guess(self) -> Sample:
        """z where it is seen, the end of its interval where it is cut, and NaN where it is missing."""
        finite = torch.where(self.low.isfinite(), self.low, self.high)
        return torch.where(finite.isfinite(), finite, torch.nan)

    def affine(self, shift: Tensor, scale: float) -> Seen:
        """Return what is seen of (z - shift)/scale."""
        return replace(self, low=(self.low - shift) / scale, high=(self.high - shift) / scale)

    def to(self, device: torch.device) -> Seen:
        """Return it on a device."""
        return Seen(*(part.to(device) for part in (self.low, self.high, self.masked)))

    def repeated(self, times: int) -> Seen:
        """Return each sample that often, next to each other."""
        return Seen(*(part.repeat_interleave(times, dim=0) for part in (self.low, self.high, self.masked)))

    def mass(self, mean: Sample, std: Tensor) -> Sample:
        """Return the probability of each interval under N(mean, std²); of what is seen it means nothing."""
        mass: Sample = torch.special.ndtr(self._end_in_units(mean, std))
        return mass

    def widening(self, mean: Sample, std: Tensor) -> Sample:
        """Return the derivative in log std of the log probability that a cut pixel is masked, or N(mean, std²) is beyond it."""
        end = self._end_in_units(mean, std)
        inside = (1 - self.masked).log() + torch.special.log_ndtr(end)
        density = (1 - self.masked).log() - end**2 / 2 - math.log(2 * math.pi) / 2
        found: Sample = -end * (density - torch.logaddexp(self.masked.log(), inside)).exp()
        return found

    def _end_in_units(self, mean: Sample, std: Tensor) -> Sample:
        """Return the end of each interval as that of a left tail of N(0, 1): [low, inf) is turned over."""
        turned = self.low.isfinite()
        return torch.where(turned, mean - self.low, self.high - mean) / std

    def draw(self, mean: Sample, std: Tensor, uniform: Sample) -> Sample:
        """Return z where it is seen, and draws of N(mean, std²) inside the intervals elsewhere, from U(0, 1)."""
        end = self._end_in_units(mean, std)
        tail = torch.special.ndtri((uniform * torch.special.ndtr(end)).clamp(min=1e-300))
        sign = torch.where(self.low.isfinite(), -1.0, 1.0).to(mean)
        return torch.where(self.known, self.low, mean + std * sign * torch.minimum(tail, end))


def cuts_of(raw: Tensor, low: float | None = None, high: float | None = None) -> Seen:
    """Return what samples in their own units show.

    NaN is missing. The legal ends are cuts, where no value lies beyond them. Any other value that is far too frequent for noise
    was filled in and is missing too, or a cut where it is a sample's smallest or largest. A block of 16 or more neighbours at
    one end is no work of noise, half of which points the other way: it is filled in or clean, with equal chances.

    Args:
        raw: `(batch, *shape)`; NaN where a pixel is missing.
        low, high: legal ends, or None.

    >>> seen = cuts_of(torch.tensor([[0.0, 0.25, torch.nan, 1.0]]), 0.0, 1.0)
    >>> seen.low.tolist(), seen.high.tolist()
    ([[-inf, 0.25, -inf, 1.0]], [[0.0, 0.25, inf, inf]])
    """
    raw = raw.double()
    bottom, top = raw.clone(), raw.clone()
    for row, below, above in zip(flat(raw), flat(bottom), flat(top), strict=True):
        numbers = row[~row.isnan()]
        below[row.isnan()], above[row.isnan()] = -torch.inf, torch.inf
        if not len(numbers):
            continue
        least, most, filled = float(numbers.min()), float(numbers.max()), _too_frequent(numbers)
        for value in {*filled, *(end for end in (low, high) if end in (least, most))}:
            here = row == value
            if value in (least, low) or value not in (most, high):
                below[here] = -torch.inf
            if value in (most, high) or value not in (least, low):
                above[here] = torch.inf
    blocks = _in_blocks(bottom == -torch.inf) | _in_blocks(top == torch.inf)
    return Seen(bottom, top, torch.where(blocks, MASKED_BLOCK, MASKED))


def _in_blocks(marked: Tensor) -> Tensor:
    """Return which of `(batch, channels, *size)` lie in a block of marked ones: 16 in a row, 4x4, or 3x3x3."""
    axes = range(2, marked.ndim)
    side = math.ceil(16 ** (1 / max(1, len(axes))) - 1e-9)
    if not axes or min(marked.shape[2:]) < side:
        return torch.zeros_like(marked)
    blocks = marked.byte()
    for axis in axes:
        blocks = blocks.unfold(axis, side, 1).amin(dim=-1)
    blocks = torch.nn.functional.pad(blocks, (side - 1,) * 2 * len(axes))
    for axis in axes:
        blocks = blocks.unfold(axis, side, 1).amax(dim=-1)
    return blocks.bool()


def _too_frequent(numbers: Tensor) -> set[float]:
    """Return the values that occur far more often than their neighbours."""
    values, counts = torch.unique(numbers, return_counts=True)
    if len(values) == 1:
        return {float(values[0])} if len(numbers) >= LEAST_TIED else set()
    counts = counts.double()
    reach = torch.nn.functional.pad(counts, (8, 8)).unfold(0, 17, 1).sum(dim=1) - counts
    usual = reach / torch.arange(len(counts)).apply_(lambda i: min(i, 8) + min(len(counts) - 1 - i, 8))
    frequent = counts > torch.maximum(usual * 4 + 5 * usual.sqrt(), torch.tensor(float(LEAST_TIED)))
    return set(values[frequent].tolist())


class Chains:
    """Chains of data augmentation: where they are, and what is learned on the way.

    Attributes:
        seen: of every chain, `(batch·count, *shape)`.
        count: chains of each sample.
        z: their states.
        evaluations: of the field for a sample.
    """

    def __init__(
        self, field: Field, seen: Seen, sigma: PerSample, *, rng: SampleRng, count: int, cond: Tensor | None = None
    ) -> None:
        """Start chains of samples at their noise, `(batch,)`; `rng` has a seed for each sample, which draws for its chains."""
        self.field, self.rng, self.count, self.evaluations = field, rng, count, 0
        self.seen, self.whole = seen.repeated(count), seen.whole
        self.cond = None if cond is None else cond.repeat_interleave(count, dim=0)
        self._cut = ~self.seen.known & (self.seen.low.isfinite() | self.seen.high.isfinite())
        guess, beyond = self.seen.guess, over(sigma.repeat_interleave(count), self.seen.low) / 2
        guess = torch.where(self._cut, guess + torch.where(self.seen.low.isfinite(), beyond, -beyond), guess)
        self.z = torch.where(guess.isnan(), field.data_mean.to(guess), guess)

    def visit(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do a sweep at the noise of each sample, `(batch,)`.

        Returns:
            For every chain before the sweep, two parts whose difference is g, and |I - J|² over the pixels that are seen. The
            parts are |z - D|²/sigma² and d - tr J, each pixel counted by the share of g that it gives in this form; the
            second is less what cut pixels give in the other.
        """
        sigma = sigma.repeat_interleave(self.count)
        known = self.seen.known
        scale = max(float(self.field.data_std), 1e-12)
        share = over(sigma**2 / (sigma**2 + scale**2), self.z)
        counted = torch.where(known, 1.0, share * self._cut)
        probes = self._each(self.rng.sign) * counted.sqrt()
        mean, product = pulled(self.field, self.z, sigma, probes, self.cond)
        left = probes - product
        off = total(counted * (self.z - mean) ** 2) / sigma**2
        free, stiff = total(probes * left), total(known * left**2)
        if not self.whole:
            step = 0.75 * (mean - self.z) + math.sqrt(0.75) * over(sigma, mean) * self._each(self.rng.normal)
            with torch.no_grad():
                x0 = denoised_at(self.field, self.z + step, sigma / 2, self.cond)
            self.evaluations += self.count
            std = over(sigma, x0)
            free = free - total(torch.where(self._cut, (1 - share) * self.seen.widening(x0, std), 0.0))
            self._move(x0, std)
        self.evaluations += self.count
        return off, free, stiff

    def probed(self, sigma: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return g and |I - J|² of samples that are wholly seen at their noise, `(batch,)`, by that many new probes of each."""
        found = list[tuple[Tensor, Tensor]]()
        step = max(1, ROWS // len(sigma))
        for first in range(0, count, step):
            size = min(step, count - first)
            z = self.z[:: self.count].repeat_interleave(size, dim=0)
            cond = None if self.cond is None else self.cond[:: self.count].repeat_interleave(size, dim=0)
            probes, levels = self.rng.sign((size, *z.shape[1:])).flatten(0, 1).to(z), sigma.repeat_interleave(size)
            mean, product = pulled(self.field, z, levels, probes, cond)
            left = probes - product
            found.append((total((z - mean) ** 2) / levels**2 - total(probes * left), total(left**2)))
        self.evaluations += count
        parts = zip(*found, strict=True)
        g, stiff = (torch.cat([each.reshape(len(sigma), -1) for each in part], dim=1).mean(dim=1) for part in parts)
        return g, stiff

    def _resample(self, log_weights: Tensor) -> None:
        """Draw the chains of each sample anew by their weights, those of one sample from each other."""
        shares = log_weights.reshape(-1, self.count).softmax(dim=1).cumsum(dim=1)
        chosen = torch.searchsorted(shares, self.rng.uniform((self.count,)).to(shares)).clamp(max=self.count - 1)
        self.z = self.z[(chosen + self.count * torch.arange(len(chosen), device=chosen.device)[:, None]).flatten()]

    def _each(self, draw: Callable[..., Tensor]) -> Sample:
        """Return a draw for every chain."""
        return draw((self.count, *self.z.shape[1:])).flatten(0, 1).to(self.z)

    def _move(self, x0: Sample, std: Tensor) -> None:
        """Draw which pixels are masked, and z, given x0."""
        chosen, uniform = self._each(self.rng.uniform), self._each(self.rng.uniform)
        rho = self.seen.masked
        masked = self._cut & (chosen * (rho + (1 - rho) * self.seen.mass(x0, std)) < rho)
        self.z = torch.where(masked, x0 + std * torch.special.ndtri(uniform), self.seen.draw(x0, std, uniform))

    def anneal(self, sigma: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do a sweep at a noise after that at a larger one, `before`: as `visit`, and resample the chains of each sample.

        Their weights are p_sigma(z) over p_before(z), of which log is about -g·log(before/sigma) with g = |z - D|²/sigma² - d +
        tr J: a chain that is caught in another mode, and so explains less and less, is dropped.
        """
        off, free, stiff = self.visit(sigma)
        if not self.whole:
            log_ratio = (before / sigma).log().repeat_interleave(self.count)
            self._resample((free - off) * log_ratio)
        return off, free, stiff


def largest_noise(field: Field, seen: Seen) -> float:
    """Return a level that no sample's noise exceeds, by how far it lies from the mean: what is cut was larger than it shows."""
    cut = bool((~seen.known & ~seen.guess.isnan()).any())
    away = flat((seen.guess - field.data_mean.to(seen.low)).square()).nanmean(dim=1).nan_to_num(nan=0.0)
    return (4.0 if cut else 1.5) * float(away.max().sqrt())


def completed(
    field: Field,
    seen: Seen,
    sigma: float,
    *,
    rng: SampleRng,
    count: int = 8,
    cond: Tensor | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Draw z given what is seen of it, at a known noise: the ends of chains that come down to it from a large one.

    Args:
        field: any field.
        seen: of each sample, `(batch, *shape)`.
        sigma: the noise.
        rng: one seed for each sample.
        count: chains of each sample; one draw of each.
        cond: of each sample, or None.
        progress: called after every sweep.

    Returns:
        z, `(batch·count, *shape)`, the chains of one sample next to each other.
    """
    top = max(min(largest_noise(field, seen), lambda_range(field)[1]), sigma)
    steps = 0 if seen.whole else math.ceil(math.log(top / sigma) / math.log(RATIO))
    levels = [torch.full((len(seen.low),), sigma * RATIO**k).double().to(seen.low.device) for k in range(steps, -1, -1)]
    chains = Chains(field, seen, levels[0], rng=rng, count=count, cond=cond)
    if chains.whole:
        return chains.z
    for k, level in enumerate(levels):
        chains.anneal(level, levels[k - 1]) if k else chains.visit(level)
        chains.visit(level)
        progress((k + 1) / (len(levels) + SETTLED), "pixels that are not seen")
    for _ in range(SETTLED):
        chains.visit(levels[-1])
    return chains.z
