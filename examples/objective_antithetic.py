"""An objective: denoising score matching with every noise and its negative.

    loss = 1/4·lambda(t)·(‖s(alpha·x0 + sigma·noise) + noise/sigma‖² + ‖s(alpha·x0 - sigma·noise) - noise/sigma‖²)

Both halves have the mean of `denoising`, so the minimum is the true score; terms that are odd in the noise cancel exactly.

python examples/objective_antithetic.py
"""

from __future__ import annotations

from dataclasses import field as default
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield import VE, Gaussian, SampleRng
from scorefield.field import Field
from scorefield.levels import Levels, NoiseDistribution
from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.weightings import SigmaSquared, Weighting
from scorefield.registry import COMPONENT, register
from scorefield.shapes import over, total


@register("objective", "antithetic")
@dataclass(frozen=True, config=COMPONENT)
class Antithetic(Objective):
    """Denoising score matching with every noise and its negative, two evaluations an example.

    Attributes:
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
    """

    noise_distribution: NoiseDistribution = default(default_factory=Levels)
    weighting: Weighting = default(default_factory=SigmaSquared)
    divergence: ClassVar[Literal["fisher", "fisher + O(step^2)", "none"]] = (
        "fisher"  # the law of its excess, which tests measure
    )

    def terms(
        self, field: Field, x0: Tensor, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        """Return one loss per example with its time."""
        t = self.noise_distribution.quantile(field.process, rng.even()).to(x0.device)
        noise, sigma = rng.normal(x0.shape[1:]).to(x0), over(field.process.sigma(t), x0)
        errors = [field(field.process.perturb(x0, t, z), t, cond).score + z / sigma for z in (noise, -noise)]
        loss = self.weighting(field.process, t) * sum(total(error**2) for error in errors) / 4
        return Terms(self.weighting.minimised(loss, field, t, x0[0].numel(), learned), t)


if __name__ == "__main__":
    field = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.1, 10.0))
    x0 = field.sample(SampleRng(range(1000)))
    loss = Antithetic()(field, x0, rng=SampleRng(range(1000), stream=1))
    print(f"the loss of the true score is {loss.mean():.3f}; a network of yours trains with --set objective=antithetic")
