"""Cut and missing pixels: what of z = x0 + sigma·noise a file still shows.

A picture with noise that was clipped to its legal range shows z only inside it. A pixel at the low end says z <= low, one at the
high end z >= high, and one that is masked says nothing:

    seen        low = high = z
    cut         (-inf, low] or [high, inf)
    missing     (-inf, inf)

so every pixel says that z lies in an interval. Clipped values taken for z itself would halve the noise of a black background,
and constant values would have none. `completed` draws the z that are not seen, by data augmentation: given z, x0 is drawn about
its mean D(z) with its variance sigma²·J_ii; given x0, z is N(x0, sigma²) inside its interval. The draws of x0 leave out the
correlation between pixels, which matters little where the noise is larger than the posterior's spread.

References: Tanner, Wong (1987), "The calculation of posterior distributions by data augmentation", JASA 82. Tobin (1958),
"Estimation of relationships for limited dependent variables", Econometrica 26.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.denoising.level import pulled
from scorefield.field import Field
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, flat, over

LEAST_TIED = 8  # equal values that may be chance


@dataclass(frozen=True, eq=False)
class Seen:
    """Intervals in which z lies: `low = high` where it is seen.

    Attributes:
        low, high: `(batch, *shape)`, float64.
    """

    low: Sample
    high: Sample

    @classmethod
    def all_of(cls, z: Sample) -> Seen:
        """Return that every pixel shows z."""
        return cls(z.double(), z.double())

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

    def rows(self, which: slice | Tensor) -> Seen:
        """Return some of the batch."""
        return Seen(self.low[which], self.high[which])

    def repeated(self, times: int) -> Seen:
        """Return each sample that often, next to each other."""
        return Seen(self.low.repeat_interleave(times, dim=0), self.high.repeat_interleave(times, dim=0))

    def draw(self, mean: Sample, std: Sample, uniform: Sample) -> Sample:
        """Return z where it is seen, and draws of N(mean, std²) inside the intervals elsewhere, from U(0, 1)."""
        turned = self.low.isfinite()  # [low, inf) is turned over, so that the mass is always that of a left tail
        sign = torch.where(turned, -1.0, 1.0).to(mean)
        end = torch.where(turned, -self.low, self.high)
        mass = torch.special.ndtr((end - sign * mean) / std)
        drawn = sign * mean + std * torch.special.ndtri((uniform * mass).clamp(min=1e-300))
        return torch.where(self.known, self.low, sign * torch.minimum(drawn, end))


def cuts_of(raw: Tensor, low: float | None = None, high: float | None = None) -> Seen:
    """Return what samples in their own units show.

    NaN is missing. The legal ends are cuts, where no value lies beyond them. Any other value that is far too frequent for noise
    was filled in and is missing too, or a cut where it is a sample's smallest or largest.

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
    return Seen(bottom, top)


def _too_frequent(numbers: Tensor) -> set[float]:
    """Return the values that occur far more often than their neighbours."""
    values, counts = numbers.unique(return_counts=True)
    if len(values) == 1:
        return {float(values[0])} if len(numbers) >= LEAST_TIED else set()
    counts = counts.double()
    reach = torch.nn.functional.pad(counts, (8, 8)).unfold(0, 17, 1).sum(dim=1) - counts
    usual = reach / torch.arange(len(counts)).apply_(lambda i: min(i, 8) + min(len(counts) - 1 - i, 8))
    frequent = counts > torch.maximum(usual * 4 + 5 * usual.sqrt(), torch.tensor(float(LEAST_TIED)))
    return set(values[frequent].tolist())


def impute(
    field: Field, seen: Seen, z: Sample, sigma: PerSample, slope: Sample, *, rng: SampleRng, chains: int, cond: Tensor | None
) -> tuple[Sample, Sample, Sample]:
    """Do one sweep of data augmentation on every chain: return the new z, D of the old, and p·(pᵀJ) of a random probe p.

    Args:
        field: any field.
        seen: of every chain, `(batch·chains, *shape)`.
        z: state of every chain.
        sigma: noise of every chain.
        slope: estimate of J_ii, in [0, 1].
        rng: one seed for each sample of the batch, which draws for all of its chains.
        chains: of each sample.
        cond: of every chain, or None.
    """
    probes = rng.sign((chains, *z.shape[1:])).flatten(0, 1).to(z)
    mean, product = pulled(field, z, sigma, probes, cond)
    white = rng.normal((chains, *z.shape[1:])).flatten(0, 1).to(z)
    uniform = rng.uniform((chains, *z.shape[1:])).flatten(0, 1).to(z)
    std = over(sigma, z)
    x0 = mean + std * slope.sqrt() * white
    return seen.draw(x0, std, uniform), mean, probes * product


def started(field: Field, seen: Seen, sigma: PerSample) -> Sample:
    """Return a z to start from: what is missing at the data's mean, what is cut a little beyond."""
    guess, beyond = seen.guess, over(sigma, seen.low) * math.sqrt(2 / math.pi) / 2
    cut = ~seen.known & ~guess.isnan()
    guess = torch.where(cut, guess + torch.where(seen.low.isfinite(), beyond, -beyond), guess)
    return torch.where(guess.isnan(), field.data_mean.to(guess), guess)


def completed(
    field: Field,
    seen: Seen,
    sigma: PerSample,
    *,
    rng: SampleRng,
    chains: int = 8,
    sweeps: int = 30,
    z: Sample | None = None,
    cond: Tensor | None = None,
) -> Sample:
    """Draw z given what is seen of it, at a known noise: the ends of chains of data augmentation.

    Args:
        field: any field.
        seen: of each sample, `(batch, *shape)`.
        sigma: of each sample, `(batch,)`.
        rng: one seed for each sample.
        chains: of each sample; draws of one chain each.
        sweeps: of each chain.
        z: states to go on from, `(batch·chains, *shape)`; None to start anew.
        cond: of each sample, or None.

    Returns:
        z, `(batch·chains, *shape)`, the chains of one sample next to each other.
    """
    every, levels = seen.repeated(chains), sigma.double().repeat_interleave(chains)
    labels = None if cond is None else cond.repeat_interleave(chains, dim=0)
    z = started(field, every, levels) if z is None else z
    if seen.whole:
        return z
    mean_slope = torch.zeros_like(z)
    for k in range(sweeps):
        slope = _between_chains(mean_slope, chains)
        z, _, product = impute(field, every, z, levels, slope, rng=rng, chains=chains, cond=labels)
        mean_slope = mean_slope + (product - mean_slope) / (k + 1)
    return z


def _between_chains(slope: Sample, chains: int) -> Sample:
    """Return the mean of estimates of J_ii over the chains of each sample, for each of them, in [0, 1]."""
    mean = slope.unflatten(0, (-1, chains)).mean(dim=1).clamp(0, 1)  # type: ignore[no-untyped-call]
    return mean.repeat_interleave(chains, dim=0)
