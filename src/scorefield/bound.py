"""The variational bound of a discrete diffusion chain: -log p(x0) <= prior + sum of KLs + decoder, all in nats.

A chain visits the times t_1 < ... < t_T of a process, with t_0 standing for the data themselves (alpha = 1, sigma = 0). Write
a, s for alpha and sigma at n and a', s' for those at n - 1. Forwards x_n = k·x_{n-1} + std·z with k = a/a', std² = s² - k²·s'²
(std² = beta_n for DDPM's chain). Backwards both the truth given x0 and the model are Gaussians whose means differ only in
what they use as x0:

    q(x_{n-1} | x_n, x0) = N(c·x0 + b·x_n, v·I)             c = a'·std²/s²,  b = k·s'²/s²,  v = std²·s'²/s²  (beta~_n)
    p(x_{n-1} | x_n)     = N(c·denoised + b·x_n, w·I)

    -log p(x0) <=  KL(q(x_T | x0) ‖ prior) + sum_{n=2..T} E KL(q(x_{n-1} | x_n, x0) ‖ p(x_{n-1} | x_n)) - E log p(x0 | x_1)
    KL_n           = d/2·(v/w - 1 - log(v/w)) + 1/2·lambda_n·‖score + noise/s‖²        lambda_n = std⁴/(k²·w)
    -log p(x0|x_1) = d/2·log(2·pi·w) + 1/2·lambda_1·‖score + noise/s‖²                 (the Gaussian decoder: c = 1, v = 0)

since c·(denoised - x0) = (std²/k)·(score + noise/s). So the bound is denoising score matching with the weight lambda_n on the
score, plus what only w decides; L_simple has the weight s² instead and is no bound. The model's variance w is

    log w = mix·log std² + (1 - mix)·log v         "posterior": mix = 0;  "transition": mix = 1;  "learned": a number per step

where v_1 = 0 is replaced by v_2, as is customary. For pixels, that is x0 on the 256 values -1, -1 + 2/255, ..., 1, the decoder
is the mass that the Gaussian puts on the pixel's bin of width 2/255, the first and the last bin being open.

References: Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015), arXiv 1503.03585. Ho, Jain, Abbeel (2020), "Denoising
diffusion probabilistic models", arXiv 2006.11239, equations 5 to 13. Nichol, Dhariwal (2021), "Improved denoising diffusion
probabilistic models", arXiv 2102.09672, equation 15. Bao, Li, Zhu, Zhang (2022), "Analytic-DPM", arXiv 2201.06503.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.field import Field, ScoreModel
from scorefield.levels import chain_times
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, check_rows, flat, over, total

Variance = Literal["posterior", "transition", "learned"]
Decoder = Literal["gaussian", "pixels"]
HALF_BIN = 1 / 255


@dataclass(frozen=True)
class Chain:
    """The coefficients of a discrete chain, each a table over n = 0..T, float64.

    Attributes:
        process: how the data are noised.
        steps: T, equally spaced times from t_min to t_max; None for times one apart, DDPM's n = 1..T.

    >>> from scorefield import DDPMChain
    >>> chain = Chain(DDPMChain(1000))
    >>> len(chain), round(float(chain.transition[1000]), 6)  # beta_T
    (1000, 0.02)
    """

    process: Process
    steps: int | None = None

    @cached_property
    def times(self) -> Tensor:
        """t_1 < ... < t_T, `(T,)`."""
        return chain_times(self.process, self.steps)

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def alpha(self) -> Tensor:
        """Signal scale, 1 at n = 0, `(T+1,)`."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.process.alpha(self.times)])

    @cached_property
    def sigma(self) -> Tensor:
        """Noise standard deviation, 0 at n = 0, `(T+1,)`."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.process.sigma(self.times)])

    @cached_property
    def k(self) -> Tensor:
        """alpha_n/alpha_{n-1}, `(T+1,)`; the entry at n = 0 means nothing."""
        return self.alpha / self.alpha.roll(1)

    @cached_property
    def transition(self) -> Tensor:
        """std² of x_n given x_{n-1}, beta_n for DDPM's chain, `(T+1,)`; the entry at n = 0 means nothing."""
        return self.sigma**2 - self.k**2 * self.sigma.roll(1) ** 2

    @cached_property
    def posterior(self) -> Tensor:
        """v of x_{n-1} given x_n and x0, beta~_n for DDPM's chain, `(T+1,)`; 0 at n = 1, no meaning at n = 0."""
        return self.transition * self.sigma.roll(1) ** 2 / self.sigma**2

    def variance(self, n: Tensor, mix: PerSample) -> PerSample:
        """Return w, the variance of the model's x_{n-1} given x_n, `(batch,)`.

        Args:
            n: steps in 1..T, `(batch,)`, int64.
            mix: 0 for the posterior's variance, 1 for the transition's, anything else between or beyond, `(batch,)`.
        """
        floor = self.posterior.to(n.device)[n.clamp(min=min(2, len(self)))]
        low = torch.where(floor > 0, floor, self.transition.to(n.device)[n])  # a chain of one step has no v_2
        return torch.exp(mix * self.transition.to(n.device)[n].log() + (1 - mix) * low.log())


class StepVariances(nn.Module):
    """The variances of a chain's steps as they are learned: the mix of log variances at each, 1/2 before training."""

    def __init__(self, steps: int) -> None:
        """Hold one number for each of the T steps."""
        super().__init__()
        self.variance_mix = nn.Parameter(torch.full((steps,), 0.5))

    def forward(self, n: Tensor) -> PerSample:
        """Return the mix at steps n in 1..T, `(batch,)`, float64."""
        return self.variance_mix.double()[n - 1]


def mix_of(field: Field, n: Tensor, variance: Variance | StepVariances) -> PerSample:
    """Return the mix of log variances at steps n, `(batch,)`, float64.

    Args:
        field: a trained model's own variances are those of "learned".
        n: steps in 1..T, `(batch,)`, int64.
        variance: which variances, or the learned ones themselves.

    Raises:
        ScorefieldError: "learned" for a field that was trained without.
    """
    if variance == "posterior" or variance == "transition":
        return torch.full(n.shape, float(variance == "transition"), dtype=torch.float64, device=n.device)
    learned = field.learned if variance == "learned" and isinstance(field, ScoreModel) else variance
    if not isinstance(learned, StepVariances):
        raise ScorefieldError(
            "got variance = learned for a field without learned variances, expected a model trained with them: "
            "choose posterior or transition"
        )
    mix: PerSample = learned(n)
    return mix


def log_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """Return log(Phi(upper) - Phi(lower)), lower < upper, either of them infinite, without cancellation in either tail.

    >>> log_mass(torch.tensor([-torch.inf, 9.0, 0.0]), torch.tensor([0.0, torch.inf, 1e-3]).double()).exp()
    tensor([5.0000e-01, 1.1286e-19, 3.9894e-04], dtype=torch.float64)
    """
    right = lower + upper > 0  # mirrored, since in the right tail Phi is close to 1 and differences lose their digits
    lower, upper = torch.where(right, -upper, lower), torch.where(right, -lower, upper)
    high = torch.special.log_ndtr(upper)
    inside: Tensor = high + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - high))
    return inside


def check_pixels(x0: Sample) -> None:
    """Refuse values that are not on the grid -1, -1 + 2/255, ..., 1 of 8-bit pixels; raises `ScorefieldError`."""
    level = (x0.double() + 1) / (2 * HALF_BIN)
    if bool(((level - level.round()).abs() > 1e-3).any() | (level < -0.5).any() | (level > 255.5).any()):
        raise ScorefieldError(
            "got values that are no 8-bit pixels scaled to [-1, 1], expected -1 + 2·k/255 for k = 0..255: "
            "use the decoder gaussian"
        )


def pixel_log_prob(x0: Sample, mean: Sample, std: PerSample) -> PerSample:
    """Return the log of the mass that N(mean, std²) puts on the bins of 8-bit pixels, `(batch,)`, nats, float64.

    Args:
        x0: pixels on -1, -1 + 2/255, ..., 1, `(batch, *shape)`.
        mean: of the Gaussian, `(batch, *shape)`.
        std: its standard deviation, `(batch,)`.

    Raises:
        ScorefieldError: x0 is not on that grid.

    >>> values = (2 * torch.arange(256.0).double() / 255 - 1)[:, None]
    >>> round(float(pixel_log_prob(values, torch.full_like(values, 0.3), torch.full((256,), 0.2)).exp().sum()), 12)
    1.0
    """
    check_pixels(x0)
    x0, mean = x0.double(), mean.double()
    level = (x0 + 1) / (2 * HALF_BIN)
    below, above = ((x0 + shift - mean) / over(std.double(), x0) for shift in (-HALF_BIN, HALF_BIN))
    return total(log_mass(torch.where(level < 0.5, -torch.inf, below), torch.where(level > 254.5, torch.inf, above)))


def prior_kl(field: Field, x0: Sample, t: float | None = None) -> PerSample:
    """Return KL(q(x_t | x0) ‖ N(alpha·mean, alpha²·std² + sigma²)) in nats, `(batch,)`, float64.

    The prior is where samplers start; for DDPM's chains it is all but N(0, I).

    Args:
        field: whose prior.
        x0: clean samples, `(batch, *shape)`.
        t: the time of the prior, where the chain begins; None for t_max.
    """
    alpha, start = field.process.prior(field.process.t_max if t is None else t, field.data_std)
    ratio = 1 - (alpha * field.data_std / start) ** 2  # of the variances: sigma²/start²
    distance = alpha**2 * total((x0.double() - field.data_mean.to(x0.device).double()) ** 2)
    return 0.5 * (flat(x0).shape[1] * (ratio - 1 - math.log(ratio)) + distance / start**2)


@renamed.arguments
def bound_terms(
    field: Field,
    x0: Sample,
    n: Tensor,
    cond: Tensor | None = None,
    *,
    rng: SampleRng,
    variance: Variance | StepVariances = "posterior",
    decoder: Decoder = "gaussian",
    steps: int | None = None,
) -> PerSample:
    """Return the n-th term of the bound in nats, `(batch,)`, float64: the decoder's at n = 1, a KL divergence above.

    Args:
        field: any field.
        x0: clean samples, `(batch, *shape)`; for the decoder "pixels", 8-bit values scaled to [-1, 1].
        n: steps in 1..T, `(batch,)`, int64.
        cond: conditioning, one row per example, or None.
        rng: one seed per example; one draw of x_n is taken.
        variance: of the model's steps; "learned" are those of a trained model, and `StepVariances` any others.
        decoder: a density for real-valued data, or the mass on a bin for pixels.
        steps: T, see `Chain`.

    Raises:
        ScorefieldError: n outside 1..T; a learned variance that the field does not have.

    >>> from scorefield import DDPMChain, Gaussian
    >>> field = Gaussian([0.0], [[1.0]], DDPMChain(100))
    >>> x0, rng = field.sample(SampleRng(range(3))), SampleRng(range(3), stream=1)
    >>> bound_terms(field, x0, torch.tensor([1, 50, 100]), rng=rng).shape
    torch.Size([3])
    """
    check_rows(len(x0), cond=cond, seeds=len(rng))
    return _terms(Chain(field.process, steps), field, x0, n, cond, rng, variance, decoder)


def _terms(
    chain: Chain,
    field: Field,
    x0: Sample,
    n: Tensor,
    cond: Tensor | None,
    rng: SampleRng,
    variance: Variance | StepVariances,
    decoder: Decoder,
) -> PerSample:
    if bool(((n < 1) | (n > len(chain))).any()):
        raise ScorefieldError(
            f"got steps from {int(n.min())} to {int(n.max())}, expected 1 to {len(chain)}: 0 is the data, above T is nothing"
        )

    def at(table: Tensor) -> PerSample:
        return table.to(n.device)[n]

    t, sigma = chain.times.to(n.device)[n - 1], at(chain.sigma)
    eps = rng.normal(x0.shape[1:]).to(x0)
    x_t = over(at(chain.alpha), x0) * x0 + over(sigma, x0) * eps
    said = field(x_t, t, cond)
    w = chain.variance(n, mix_of(field, n, variance))
    error = over(at(chain.transition) / at(chain.k), x0) * (said.score + eps / over(sigma, x0))
    ratio, d = at(chain.posterior) / w, flat(x0).shape[1]
    # at n = 1 the ratio is 0: the logarithm of 1 in its stead keeps gradients finite
    gap = torch.where(n > 1, ratio - 1 - torch.where(n > 1, ratio, 1.0).log(), torch.log(2 * math.pi * w))
    terms = 0.5 * (d * gap + total(error.double() ** 2) / w)
    if decoder == "gaussian" or not bool((n == 1).any()):
        return terms
    return torch.where(n > 1, terms, -pixel_log_prob(x0, said.denoised, w.sqrt()))


@renamed.arguments
def bound(
    field: Field,
    x0: Sample,
    cond: Tensor | None = None,
    *,
    rng: SampleRng,
    variance: Variance | StepVariances = "posterior",
    decoder: Decoder = "gaussian",
    steps: int | None = None,
) -> PerSample:
    """Return an unbiased estimate of the bound on -log p(x0), all T steps with one draw each, nats, `(batch,)`, float64.

    Arguments as in `bound_terms`; T evaluations of the field.
    """
    check_rows(len(x0), cond=cond, seeds=len(rng))
    chain, terms = Chain(field.process, steps), prior_kl(field, x0)
    for step in range(1, len(chain) + 1):
        n = torch.full((len(x0),), step, device=x0.device)
        terms = terms + _terms(chain, field, x0, n, cond, rng, variance, decoder)
    return terms
