"""Toys: densities in the plane that one can see, each from its formula.

Every point owns its random numbers, so the first 100 of 20,000 points are the 100 points of a smaller toy. In model space
each column has mean 0 and both share one scale, so shapes and angles stay as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.data.base import DataConfig, Dataset, Examples, Normaliser, build
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import register


def _rng(name: str, config: DataConfig) -> SampleRng:
    return SampleRng(range(config.examples), stream=stream_of("toy", name, config.seed))


def _toy(name: str, x: Tensor, y: Tensor, config: DataConfig) -> Dataset:
    points = torch.stack([x, y], dim=1).float()
    note = f"{config.examples:,} points drawn with seed {config.seed}."
    normaliser = lambda train: Normaliser.standard(train, common=True)  # noqa: E731
    return build(Examples(name, "vector", points, normaliser, notes=(note,), generated=True), config)


@register("source", "two-moons")
def two_moons(config: DataConfig) -> Dataset:
    """Two interleaved half circles of radius 1: (cos a, sin a) and (1 - cos a, 1/2 - sin a), a in (0, pi), plus N(0, 0.1²)."""
    rng = _rng("two-moons", config)
    u, angle, blur = rng.uniform(), math.pi * rng.uniform(), 0.1 * rng.normal((2,))
    x, y = angle.cos(), angle.sin()
    upper = u < 0.5
    return _toy("two-moons", torch.where(upper, x, 1 - x) + blur[:, 0], torch.where(upper, y, 0.5 - y) + blur[:, 1], config)


@register("source", "eight-gaussians")
def eight_gaussians(config: DataConfig) -> Dataset:
    """Eight equal Gaussians of standard deviation 0.1, evenly on a circle of radius 2, the first at (2, 0)."""
    rng = _rng("eight-gaussians", config)
    angle = rng.choose(torch.ones(8)) * (math.pi / 4)
    blur = 0.1 * rng.normal((2,))
    return _toy("eight-gaussians", 2 * angle.cos() + blur[:, 0], 2 * angle.sin() + blur[:, 1], config)


@register("source", "checkerboard")
def checkerboard(config: DataConfig) -> Dataset:
    """The uniform density on the dark squares of a 4 x 4 board over [-4, 4]²; the square at the lower left is dark."""
    u = _rng("checkerboard", config).uniform((2,))
    x, y = 4 * u[:, 0], 2 * u[:, 1]
    y = y + y.floor() + x.floor() % 2  # every second square of the column, one higher in odd columns
    return _toy("checkerboard", 2 * x - 4, 2 * y - 4, config)


@register("source", "swiss-roll")
def swiss_roll(config: DataConfig) -> Dataset:
    """The spiral t·(cos t, sin t) with t uniform in (1.5·pi, 4.5·pi), plus N(0, 0.5²)."""
    rng = _rng("swiss-roll", config)
    t = math.pi * (1.5 + 3 * rng.uniform())
    blur = 0.5 * rng.normal((2,))
    return _toy("swiss-roll", t * t.cos() + blur[:, 0], t * t.sin() + blur[:, 1], config)


@register("source", "mixture")
def mixture(config: DataConfig) -> Dataset:
    """Two far Gaussians of standard deviation 1: weight 0.8 at (-5, 0), weight 0.2 at (5, 0)."""
    rng = _rng("mixture", config)
    side = torch.where(rng.uniform() < 0.8, -5.0, 5.0)
    blur = rng.normal((2,))
    return _toy("mixture", side + blur[:, 0], blur[:, 1], config)
