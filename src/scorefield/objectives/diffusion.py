"""DDPM's two objectives on a discrete chain n = 1..T (`DDPMChain`): the variational bound, and the simple loss.

    simple   1/2·‖noise_hat - noise‖² at a uniform n: weight sigma² on the score, any constant factor aside
    bound    KL(q(x_T|x0) ‖ prior) + sum_n KL(q(x_{n-1}|x_n, x0) ‖ p(x_{n-1}|x_n)) - log p(x0|x_1), in nats, from `bound.py`:
             weight lambda_n = std⁴/(k²·w) on the score, for DDPM's chain beta_n²/((1 - beta_n)·w_n)

With w_n = beta_n the bound weighs the noise by beta_n/((1 - beta_n)·(1 - abar_n)), far more at the first steps than the simple
loss does, on which sample quality hardly depends: better likelihoods against better pictures.

References: Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", arXiv 2006.11239, equations 5 and 14.
Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic models", arXiv 2102.09672.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, ClassVar, Literal

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.bound import Chain, Decoder, StepVariances, Variance, bound, bound_terms, check_pixels, prior_kl
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.levels import NoiseDistribution, Steps
from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.denoising import Denoising, check_denoiser
from scorefield.objectives.weightings import SigmaSquared, Weighting
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.shapes import Sample

Count = Annotated[int, Bound(ge=1)]


def _check_chain(field: Field, steps: int | None) -> None:
    """Refuse a continuous process without a number of steps: steps of length 1 would be nearly none."""
    check_denoiser(field)
    low, high = field.process.t_min, field.process.t_max
    if steps is None and not field.process.discrete:
        raise ScorefieldError(
            f"got a process on [{low:g}, {high:g}] for steps n = 1, ..., T, expected DDPM's chain: choose process=ddpm-chain, "
            "or set steps, the number of equally spaced times"
        )


@register("objective", "simple")
@dataclass(frozen=True, config=COMPONENT)
class Simple(Objective):
    """L_simple of DDPM: 1/2·‖noise_hat - noise‖² at one of the T steps, drawn uniformly. It is no bound on the likelihood.

    This is denoising score matching that refuses a process that is no chain.

    Attributes:
        noise_distribution: uniform over the steps n = 1..T.
        weighting: lambda, on the score; sigma² is the plain L_simple, `min-snr` its best-known variant.

    >>> from scorefield import DDPMChain, Gaussian
    >>> field = Gaussian([0.0], [[1.0]], DDPMChain(100))
    >>> Simple()(field, field.sample(SampleRng(range(4))), rng=SampleRng(range(4), stream=1)).shape
    torch.Size([4])

    Reference: Ho, Jain, Abbeel (2020), arXiv 2006.11239, equation 14.
    """

    noise_distribution: NoiseDistribution = default(default_factory=Steps)
    weighting: Weighting = default(default_factory=SigmaSquared)

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        check_denoiser(field)
        if isinstance(self.noise_distribution, Steps):
            _check_chain(field, self.noise_distribution.steps)

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    def prepare(self, field: Field) -> nn.Module | None:
        return self.weighting.prepare(field)

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        plain = Denoising(noise_distribution=self.noise_distribution, weighting=self.weighting)
        return plain.terms(field, x0, cond, rng=rng, learned=learned)


@register("objective", "bound")
@dataclass(frozen=True, config=COMPONENT)
class VariationalBound(Objective):
    """The variational bound on -log p(x0), nats per example: one step n drawn uniformly and its term times T, or all steps.

    Attributes:
        variance: w_n of the model's steps: "posterior" (beta~_n, best for data that are one point), "transition" (beta_n, best
            for N(0, I)) or "learned". A field predicts no variance, so one number per step is learned:
            the mix of log beta_n and log beta~_n. Nichol and Dhariwal's network predicts one per coordinate, given x_n.
        decoder: "gaussian" for real-valued data; "pixels" for 8-bit values scaled to [-1, 1], a probability of 256 values.
        every_step: sum over all T steps instead of drawing one: less variance, T times the cost.
        steps: T, equally spaced times from t_min to t_max; None for DDPM's whole n = 1..T.

    Raises:
        ScorefieldError: a learned variance and a field without one; the decoder "pixels" and data that are none.

    >>> from scorefield import DDPMChain, Gaussian
    >>> field = Gaussian([0.0], [[1.0]], DDPMChain(100))
    >>> VariationalBound()(field, field.sample(SampleRng(range(4))), rng=SampleRng(range(4), stream=1)).shape
    torch.Size([4])

    References: Ho, Jain, Abbeel (2020), arXiv 2006.11239, equation 5. Nichol, Dhariwal (2021), arXiv 2102.09672, equation 15.
    """

    divergence: ClassVar[Literal["fisher", "fisher + O(step^2)", "none"]] = "none"  # lambda_n depends on two steps of the chain

    variance: Variance = "posterior"
    decoder: Decoder = "gaussian"
    every_step: bool = False
    steps: Count | None = None

    @property
    def counts_known_cells(self) -> bool:
        return False  # a bound on -log p has terms that count all cells

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        _check_chain(field, self.steps)

    def visited(self, process: Process) -> Tensor:
        return Chain(process, self.steps).times

    def prepare(self, field: Field) -> StepVariances | None:
        return StepVariances(len(Chain(field.process, self.steps))) if self.variance == "learned" else None

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        if self.decoder == "pixels":  # also where no example is at n = 1, so that wrong data are refused at once
            check_pixels(x0)
        variance = learned if isinstance(learned, StepVariances) else self.variance
        if self.every_step:
            every = bound(field, x0, cond, rng=rng, variance=variance, decoder=self.decoder, steps=self.steps)
            return Terms(every, None)
        times = Chain(field.process, self.steps).times.to(x0.device)
        n = 1 + (rng.uniform(()) * len(times)).long().clamp(max=len(times) - 1).to(x0.device)
        one = bound_terms(field, x0, n, cond, rng=rng, variance=variance, decoder=self.decoder, steps=self.steps)
        return Terms(prior_kl(field, x0) + len(times) * one, times[n - 1])
