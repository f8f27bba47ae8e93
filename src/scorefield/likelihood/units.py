"""Units of a likelihood: nats of the raw data, and bits per dimension where that means something.

A model sees x = (raw - shift)/scale, so log p_raw(raw) = log p(x) - sum over coordinates of log scale. Integers k have
probabilities, not densities; spread evenly over a bin of width 1, raw = k + u - 1/2 with u ~ U(0, 1), they have a density, and
by Jensen's inequality  log P(k) = log of the integral of p_raw over the bin >= E_u log p_raw(k + u - 1/2). For 8-bit data

    bits/dim = -log p_raw/(d·ln 2)      = -log p/(d·ln 2) + 8 when scale = 256 maps to [0, 1], + 7 when scale = 128 to [-1, 1]

and even guessing scores 8. It compares models of the same 8-bit data only: for real numbers, the figure moves with the unit of
measurement (metres to millimetres: log2(1000) bits), so nats are reported, with the unit they belong to.

References: Theis, van den Oord, Bethge (2016), "A note on the evaluation of generative models", arXiv 1511.01844. Uria, Murray,
Larochelle (2013), "RNADE", arXiv 1306.0186 (uniform dequantisation).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.data import Normaliser
from scorefield.errors import ScorefieldError
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample


def grey_levels(raw: Tensor, normaliser: Normaliser) -> int | None:
    """Return how many integer values the data have (256 for 8-bit images, 17 for digits), or None for real numbers.

    >>> grey_levels(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), Normaliser.between(0.0, 255.0))
    256
    """
    if raw.dtype != torch.uint8 or normaliser.low is None or normaliser.high is None:
        return None
    return round(normaliser.high - normaliser.low) + 1


def dequantise(raw: Tensor, rng: SampleRng) -> Tensor:
    """Return integers spread evenly over their bins, raw + u - 1/2, `(batch, *shape)`, float64; one seed per example."""
    return raw.double() + rng.uniform(raw.shape[1:]).to(raw.device) - 0.5


def raw_nats(log_prob: PerSample, normaliser: Normaliser, shape: tuple[int, ...], raw: Tensor | None = None) -> PerSample:
    """Return log-densities of raw data from those in model space: less sum log scale, `(batch,)`.

    Args:
        log_prob: in model space, nats, `(batch,)`.
        normaliser: the map from raw values to model space, with one scale for all coordinates, one per column, or one
            per channel.
        shape: of one sample.
        raw: the data, `(batch, d)`, where columns are transformed: a slope is another one at each value then.

    Raises:
        ScorefieldError: transformed columns without the data.
    """
    if normaliser.transforms:
        if raw is None:
            raise ScorefieldError("got a map that transforms columns without the data, expected them: give raw, too")
        return log_prob + normaliser.log_slopes(raw).sum(dim=-1).to(log_prob)
    return log_prob - float(normaliser.scales(shape).log().sum())


def bits_per_dim(log_prob: PerSample, raw: Tensor, normaliser: Normaliser) -> PerSample:
    """Return -log p_raw/(d·ln 2) of dequantised 8-bit data, `(batch,)`.

    Args:
        log_prob: log-density in model space at `normaliser.encode(dequantise(raw))`, nats, `(batch,)`.
        raw: the 8-bit values, `(batch, *shape)`, uint8.
        normaliser: the map from raw values to model space, with the legal range 0 to 255.

    Raises:
        ScorefieldError: data that are not 8-bit.

    >>> raw, guess = torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(1, dtype=torch.float64)
    >>> bits_per_dim(guess, raw, Normaliser(shift=(-0.5,), scale=(256.0,), low=0.0, high=255.0))  # uniform on [0, 1]
    tensor([8.], dtype=torch.float64)
    """
    levels = grey_levels(raw, normaliser)
    if levels != 256:
        found = "real-valued data" if levels is None else f"data of {levels} grey levels"
        why = "would change with the unit of measurement" if levels is None else "would not compare with that of 8-bit data"
        raise ScorefieldError(f"got {found}, whose bits/dim {why}, expected 8-bit data: report nats, as raw_nats gives them")
    shape = tuple(raw.shape[1:])
    return -raw_nats(log_prob, normaliser, shape) / (math.prod(shape) * math.log(2))
