"""Explicit score matching: the distance to the true score itself, where that is known.

    x_t = alpha·x0 + sigma·noise,    loss = 1/2·lambda(t)·‖s(x_t, t) - grad log p_t(x_t)‖²

Its mean is the weighted Fisher divergence. Every other form of score matching has the same mean up to a constant, without the
truth: denoising matching through the noising density, implicit and sliced matching through integration by parts. All of them
but denoising matching use x_t only as a draw of p_t, and may therefore be used without noise (sigma = 0).

Reference: Hyvarinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6, equation 2.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field as default
from typing import Any, final

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.field import Field
from scorefield.levels import NoiseDistribution, Uniform
from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.weightings import Unweighted, Weighting
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, total


class Matching(Objective):
    """An objective that uses x_t only as a draw of p_t: draw t and x_t, then weight the loss `at` that point."""

    noise_distribution: NoiseDistribution
    weighting: Weighting

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    @final
    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        t = self.noise_distribution.quantile(field.process, rng.uniform(())).to(x0.device)
        x_t = field.process.perturb(x0, t, rng.normal(x0.shape[1:]).to(x0))
        loss = self.at(field, x_t, t, cond, rng=rng)
        return Terms(self.weighting(field.process, t).to(loss.dtype) * loss, t)

    @abstractmethod
    def at(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None, *, rng: SampleRng) -> PerSample:
        """Return the losses without their weight at noisy samples x of p_t, `(batch,)`.

        Args:
            field: what is trained.
            x: draws of p_t, `(batch, *shape)`.
            t: their times, `(batch,)`.
            cond: class or other condition of each example, or None.
            rng: one seed per example, for random directions.
        """


# Not registered: its truth is a field, which no JSON file, flag or default can hold. It is for use in Python.
@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class ExplicitFisher(Matching):
    """The Fisher divergence from a known truth: 1/2·lambda·‖s - true score‖², zero at the truth for every example.

    Attributes:
        truth: an exact field under the process of the trained one.
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> one, other = Gaussian([0.0], [[1.0]], VE(0.1, 10.0)), Gaussian([0.5], [[1.0]], VE(0.1, 10.0))
    >>> x0, rng = one.sample(SampleRng(range(4))), SampleRng(range(4), stream=1)
    >>> bool((ExplicitFisher(one)(other, x0, rng=rng) > 0).all()), float(ExplicitFisher(one)(one, x0, rng=rng).sum())
    (True, 0.0)
    """

    truth: Any
    noise_distribution: NoiseDistribution = default(default_factory=Uniform)
    weighting: Weighting = default(default_factory=Unweighted)

    @property
    def counts_known_cells(self) -> bool:
        return False  # the truth is given of whole samples

    def at(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None, *, rng: SampleRng) -> PerSample:
        true = self.truth(x, t, cond).score.detach()
        return 0.5 * total((field(x, t, cond).score - true) ** 2)
