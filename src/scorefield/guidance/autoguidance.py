"""Autoguidance: away from a worse version of the same field, which makes the same errors, only larger.

    s = s_bad + g·(s_good - s_bad)

Where the two agree nothing changes. Where they differ, the difference points from what little training, or a small network,
got wrong towards what more of it gets right, and the step is taken further. Unlike classifier-free guidance it needs no
classes and does not trade variety away, because both fields are of the same condition.

A run keeps its averaged weights from an eighth of its training for this (`Run.early_field`). The worse field must have the
errors of the better one: a field of other data, or one with noise added to its weights, does not do.

Reference: Karras, Aittala, Kynkäänniemi, Lehtinen, Aila, Laine (2024), "Guiding a diffusion model with a bad version of
itself", arXiv 2406.02507.
"""

from __future__ import annotations

from scorefield.field import Field
from scorefield.guidance.extrapolation import Extrapolated


class Autoguidance(Extrapolated):
    """A field, led away from a worse version of itself; `cond`, if any, is that of both.

    For a run: `Autoguidance(run.field, run.early_field, 1.5)`.

    >>> import torch
    >>> from scorefield import VE, Gaussian
    >>> good, bad = (Gaussian([0.0], [[v]], VE(0.01, 50.0)) for v in (1.0, 2.0))  # the worse one is wider
    >>> field = Autoguidance(good, bad, 2.0)
    >>> x, t = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    >>> [round(float(f(x, t).score), 2) for f in (bad, good, field)]
    [-0.5, -1.0, -1.5]
    """

    def __init__(self, field: Field, bad: Field, strength: float, interval: tuple[float, float] | None = None) -> None:
        """Take a field and a worse version of it.

        Args:
            field: the better one.
            bad: the worse one, of the same process and shape: younger, smaller, or both.
            strength: g >= 0: 1 for `field` itself.
            interval: (low, high) in sigma/alpha where it is guided; None for everywhere.

        Raises:
            ScorefieldError: a strength below 0, an empty interval, fields that do not belong together.
        """
        super().__init__(field, bad, strength, interval)
