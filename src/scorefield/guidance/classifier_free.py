"""Classifier-free guidance: samples that are more typical of their class, from one network that was trained with and without.

    s = (1 - g)·s(x | none) + g·s(x | c) = s(x | c) + (g - 1)·(grad log p_t(c | x))

by Bayes' rule, as if an implicit classifier had been applied g - 1 times more. g = 1 is the conditional field; papers
that count from there write w = g - 1. See `extrapolation` for what the samples are then: without noise p(x)^(1 - g)·p(x | c)^g,
and for each sampler something near it.

Reference: Ho, Salimans (2022), "Classifier-free diffusion guidance", arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field, ScoreModel
from scorefield.guidance.extrapolation import Extrapolated
from scorefield.prediction import Prediction
from scorefield.shapes import PerSample, Sample


class Unconditional:
    """A conditional field asked without a condition: that of p(x)."""

    energy: Callable[..., PerSample]

    def __init__(self, field: Field) -> None:
        """Wrap a field that was trained without a condition, too."""
        self.field, self.process, self.shape = field, field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std
        if isinstance(field, EnergyField):
            self.energy = lambda x, t, cond=None: field.energy(x, t)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        return self.field(x, t)


class ClassifierFree(Extrapolated):
    """A conditional field, led away from its own unconditional one: any sampler draws from it, given `cond`.

    >>> import torch
    >>> from scorefield import VE, SampleRng
    >>> from scorefield.exact import Gaussian, Labelled
    >>> from scorefield.samplers import sample
    >>> field = Labelled([0.5, 0.5], [Gaussian([c], [[1.0]], VE(0.01, 50.0)) for c in (-1.0, 1.0)])
    >>> right = torch.ones(500, dtype=torch.int64)
    >>> means = [sample(ClassifierFree(field, g), rng=SampleRng(range(500)), cond=right).mean() for g in (1.0, 3.0)]
    >>> bool(means[1] > means[0] > 0.9)
    True
    """

    def __init__(self, field: Field, strength: float, interval: tuple[float, float] | None = None) -> None:
        """Wrap a conditional field.

        Args:
            field: one that answers with `cond` and without.
            strength: g >= 0: 1 for the conditional field itself (one evaluation), above 1 for samples more typical of their
                class, 0 for the unconditional field.
            interval: (low, high) in sigma/alpha where it is guided; None for everywhere.

        Raises:
            ScorefieldError: a strength below 0, an empty interval, a field that was never trained without a class.
        """
        if strength != 1 and isinstance(field, ScoreModel) and not field.unconditional:
            raise ScorefieldError(
                f"got a guidance of {strength:g} for a field that was trained with the class of every example "
                "(training.labels=1), expected one that was also trained without classes: train with training.labels=0.9"
            )
        super().__init__(field, Unconditional(field), strength, interval)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        if cond is None and self.strength != 1:
            raise ScorefieldError(
                f"got no classes for a guidance of {self.strength:g}, expected one for each sample, towards which it leads: "
                "pass cond, or leave guidance out"
            )
        return super().__call__(x, t, cond)
