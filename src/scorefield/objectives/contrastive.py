"""Contrastive divergence: push the energy down at the data and up at the model's own samples.

For p = exp(-E)/Z the gradient of the negative log-likelihood by the weights is a difference of two means,

    d/dw E_data[-log p(x)]  =  E_data[dE(x)/dw] - E_model[dE(x)/dw],

because d log Z/dw = -E_model[dE/dw]. The loss of an example is E(x_t) - E(negative). Only its *gradient* matters; its value is
no measure of fit. With negatives drawn from the model this would be maximum likelihood. Markov chains approximate such draws:

    contrastive   k Langevin steps from x_t itself: short chains, close to the data, biased
    persistent    the chain of the last visit continues for k steps, independent of the data: it follows the model as it learns

with steps x <- x + tau·score + sqrt(2·tau)·z, score = -grad E, at fixed weights. Unadjusted, a chain converges to the
stationary distribution of the step and not to the model: on E = x²/(2v) both methods settle where v/(1 - tau/(2v)) is the
variance of the data. With a Metropolis test it converges to the model.

Noise levels: t is drawn at random and the energy of p_t is learned from x_t = alpha·x0 + sigma·noise; with the process
`noiseless` it is the classical case of the data themselves. No divergence is minimised by CD (Sutskever, Tieleman 2010), so
none is declared.

References: Hinton (2002), "Training products of experts by minimizing contrastive divergence". Tieleman (2008), "Training
restricted Boltzmann machines using approximations to the likelihood gradient". Du, Mordatch (2019), "Implicit generation and
modeling with energy-based models", arXiv 1903.08689. Roberts, Tweedie (1996), on the test for Langevin proposals.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import field as default
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.levels import Levels, NoiseDistribution
from scorefield.objectives.base import Objective, Terms
from scorefield.process import Positive, Process
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample, Sample, flat, over, total

Steps = Annotated[int, Bound(ge=1)]
Share = Annotated[float, Bound(ge=0, le=1)]
GOLDEN = 0.6180339887498949  # any number of its multiples, modulo 1, fill (0, 1) evenly


def step_sizes(field: Field, t: PerSample, tau: float | None) -> PerSample:
    """Return tau of each sample, `(batch,)`; None gives sigma²/10, or a hundredth of the data's variance where sigma = 0."""
    sigma = field.process.sigma(t)
    if tau is not None:
        return torch.full_like(sigma, tau)
    return 0.1 * torch.where(sigma > 0, sigma**2, 0.1 * field.data_std**2)


@torch.no_grad()
def walk(
    field: EnergyField,
    x: Sample,
    t: PerSample,
    cond: Tensor | None = None,
    *,
    steps: int,
    tau: PerSample,
    adjusted: bool,
    rng: SampleRng,
) -> Sample:
    """Return x after Langevin steps of its energy, `(batch, *shape)`, detached.

    Args:
        field: the energy.
        x, t, cond: positions of the chains, their noise levels and conditions.
        steps: number of steps, k.
        tau: step size of each sample, `(batch,)`.
        adjusted: accept x' with probability min(1, p(x')·q(x|x') / (p(x)·q(x'|x))), q(x'|x) = N(x', x + tau·s(x), 2·tau·I), so
            that the steps leave exp(-E) exactly as it is.
        rng: one seed per sample.
    """
    step = over(tau, x)
    # A Metropolis test needs more than three digits of E.
    with torch.autocast(x.device.type, enabled=False) if adjusted else nullcontext():
        for _ in range(steps):
            drift = step * field(x, t, cond).score
            there = x + drift + (2 * step).sqrt() * rng.normal(x.shape[1:]).to(x)
            if adjusted:
                back = there + step * field(there, t, cond).score
                log_q = (total((there - x - drift) ** 2) - total((x - back) ** 2)) / (4 * tau)
                log_ratio = field.energy(x, t, cond) - field.energy(there, t, cond) + log_q
                accepted = rng.uniform(()).to(tau).log() < log_ratio
                there = torch.where(over(accepted.to(tau), x) > 0, there, x)
            x = there
    return x


def contrast(field: EnergyField, x: Sample, negative: Sample, t: PerSample, cond: Tensor | None) -> PerSample:
    """Return E(x) - E(negative), `(batch,)`."""
    return field.energy(x, t, cond) - field.energy(negative, t, cond)


def energy_of(field: Field) -> EnergyField:
    """Return the field as an energy; raises `ScorefieldError` for one that has none, or one with dropout in it."""
    if not isinstance(field, EnergyField):
        raise ScorefieldError(
            f"got a {type(field).__name__}, which has no energy, for contrastive divergence, expected an energy: "
            "set parametrisation=energy"
        )
    if isinstance(field, nn.Module) and any(isinstance(part, nn.Dropout) and part.p > 0 for part in field.modules()):
        raise ScorefieldError(
            "got a network with dropout for contrastive divergence, expected one energy for the data and for the chains: "
            "set network.dropout=0"
        )
    return field


class Chains(nn.Module):
    """Persistent chains, `(chains, *shape)`: a buffer, so that a checkpoint holds them and a resumed run continues them."""

    def __init__(self, x: Sample) -> None:
        """Hold the samples where the chains begin."""
        super().__init__()
        self.chains: Tensor
        self.register_buffer("chains", x)

    @torch.no_grad()
    def move(self, slots: Tensor, x: Sample) -> None:
        """Move the chains of these slots to x; those with a NaN, which the loss will report, stay where they are."""
        if len(torch.unique(slots)) < len(slots):
            raise _too_few(len(slots), len(self.chains))
        finite = flat(x).isfinite().all(dim=1)
        self.chains[slots[finite]] = x[finite].to(self.chains)


def _too_few(batch: int, chains: int) -> ScorefieldError:
    return ScorefieldError(
        f"got {batch} examples on {chains} persistent chains, expected one chain each: "
        "set objective.chains to at least training.batch"
    )


@register("objective", "contrastive")
@dataclass(frozen=True, config=COMPONENT)
class Contrastive(Objective):
    """Contrastive divergence, CD-k: the negatives are k Langevin steps away from the data.

    Attributes:
        noise_distribution: where t is drawn.
        steps: k.
        tau: step size, in units of x²; None takes sigma²/10, or a hundredth of the data's variance where sigma = 0.
        adjusted: make the steps exact by a Metropolis test, at three times the cost.

    Reference: Hinton (2002), "Training products of experts by minimizing contrastive divergence".

    >>> from scorefield import Gaussian, SampleRng, Noiseless
    >>> field = Gaussian([0.0], [[1.0]], Noiseless())
    >>> Contrastive(steps=2)(field, field.sample(SampleRng(range(4))), rng=SampleRng(range(4), stream=1)).shape
    torch.Size([4])
    """

    divergence: ClassVar[Literal["none"]] = "none"
    noise_distribution: NoiseDistribution = default(default_factory=Levels)
    steps: Steps = 10
    tau: Positive | None = None
    adjusted: bool = False

    @property
    def counts_known_cells(self) -> bool:
        return False  # an energy is one number for all cells

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        energy_of(field)

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        energy = energy_of(field)
        t = self.noise_distribution.quantile(field.process, rng.uniform(())).to(x0.device)
        x = field.process.perturb(x0, t, rng.normal(x0.shape[1:]).to(x0))
        tau = step_sizes(field, t, self.tau)
        negative = walk(energy, x, t, cond, steps=self.steps, tau=tau, adjusted=self.adjusted, rng=rng)
        return Terms(contrast(energy, x, negative, t, cond), t)


@register("objective", "persistent")
@dataclass(frozen=True, config=COMPONENT)
class Persistent(Objective):
    """Persistent contrastive divergence: chains that continue through the whole training, with random restarts.

    The chains are what `prepare` returns: checkpoints hold them and a resumed run continues them. Chain i stays at its own
    noise level, and the example with seed s is paired with chain s modulo their number. They move only when the model is in
    training mode and gradients are on: the held-out loss leaves them where they are.

    Attributes:
        noise_distribution: where t is drawn.
        steps: k, at each visit of a chain.
        tau: step size, in units of x²; None takes sigma²/10, or a hundredth of the data's variance where sigma = 0.
        adjusted: make the steps exact by a Metropolis test, at three times the cost.
        chains: number of chains; at least the batch.
        restart: probability that a chain restarts at a visit (Du, Mordatch 2019: 0.05); 0 is Tieleman's method.
        born: where it restarts: "data" (at the example's x_t; `restart` = 1 is CD-k then) or "noise" (N(alpha·mean, alpha²·std²
            + sigma²), as in Du, Mordatch; only for steps large enough to cross the data: with little noise and small steps a
            chain from far away never arrives).

    References: Tieleman (2008), "Training restricted Boltzmann machines using approximations to the likelihood gradient". Du,
    Mordatch (2019), arXiv 1903.08689.
    """

    divergence: ClassVar[Literal["none"]] = "none"
    one_process: ClassVar[bool] = True
    noise_distribution: NoiseDistribution = default(default_factory=Levels)
    steps: Steps = 10
    tau: Positive | None = None
    adjusted: bool = False
    chains: Steps = 1024
    restart: Share = 0.05
    born: Literal["data", "noise"] = "data"

    @property
    def counts_known_cells(self) -> bool:
        return False  # an energy is one number for all cells

    def visited(self, process: Process) -> Tensor | None:
        return self.noise_distribution.times(process)

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        energy_of(field)
        if batch > self.chains:
            raise _too_few(batch, self.chains)

    def times(self, field: Field, slots: Tensor) -> PerSample:
        """Return the noise level of each chain, `(batch,)`."""
        return self.noise_distribution.quantile(field.process, (slots.double() + 0.5) * GOLDEN % 1.0)

    @staticmethod
    def _prior(field: Field, t: PerSample, rng: SampleRng) -> Sample:
        """Draw N(alpha·mean, alpha²·std² + sigma²), `(batch, *shape)`, float64."""
        alpha, sigma = field.process.alpha(t), field.process.sigma(t)
        z = rng.normal(field.shape)
        return over(alpha, z) * field.data_mean.to(z) + over((alpha**2 * field.data_std**2 + sigma**2).sqrt(), z) * z

    def prepare(self, field: Field) -> Chains:
        """Return new chains; they are the same for every run of this noise distribution and number."""
        slots = torch.arange(self.chains)
        x = self._prior(field, self.times(field, slots), SampleRng(slots, stream=stream_of("chains")))
        return Chains(x.to(field.data_mean))

    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        energy = energy_of(field)
        if not isinstance(learned, Chains):
            raise ScorefieldError(
                "got no persistent chains, expected those of the model: pass learned=, which objective.prepare(model) returns"
            )
        if cond is not None:
            raise ScorefieldError(
                "got class labels for persistent chains, which have none, expected none: set objective=contrastive"
            )
        chains = learned.chains
        slots = rng.seeds.to(chains.device) % len(chains)
        t = self.times(field, slots)
        x = field.process.perturb(x0, t, rng.normal(x0.shape[1:]).to(x0))
        again = over((rng.uniform(()) < self.restart).to(t), x0) > 0
        birth = x if self.born == "data" else self._prior(field, t, rng).to(x0)
        start = torch.where(again, birth, chains[slots].to(x0))
        tau = step_sizes(field, t, self.tau)
        negative = walk(energy, start, t, None, steps=self.steps, tau=tau, adjusted=self.adjusted, rng=rng)
        if isinstance(field, nn.Module) and field.training and torch.is_grad_enabled():
            learned.move(slots, negative)
        return Terms(contrast(energy, x, negative, t, None), t)
