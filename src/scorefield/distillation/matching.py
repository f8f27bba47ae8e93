"""Distribution matching: a generator whose samples have the field's score at every level of noise.

    x0 = G(x_t, t)                               of the generator, begun as a copy of the field's network
    x  = alpha·x0 + sigma·z                      noised to a level that is drawn at random
    D(x)   = E[x0 | x] under the data            the field that is distilled; it stays as it is
    D'(x)  = E[x0 | x] under the generator       learned beside it, of the generator's samples

By Tweedie's formula alpha·(D' - D)/sigma² is the score of the generator's p'_t less that of the data's p_t, and the gradient of
KL(p'_t || p_t) over the generator's weights theta is

    d/d theta KL = E[(s'(x) - s(x)) · alpha·d x0/d theta] = E[(alpha/sigma)²·(D'(x) - D(x)) · d x0/d theta]

It is zero for all levels only where both distributions are the same, and no sample of the data is needed: adversarial training
without an adversary, for D' has a loss of its own that it cannot but minimise. Levels count alike when (alpha/sigma)² is
replaced by 1/mean|x0 - D(x)| of each sample. One forward pass of D' serves both: its own loss |D' - x0|², and the generator's
gradient.

With K > 1 levels the generator learns at all of them, a step at one: its input at level j is what it makes of level j - 1,
noised again, as sampling has it. Each level has a D' of its own: with one for all, what is made equal to the data is the
mixture over levels, and the last level, whose samples are used, may lack what the first has (of a ring with K = 4, a
distance of .5 and not .2).

What it is not: exact. It stops where D' can be learned no better, and the KL of this direction leaves out rare modes before it
blurs. `tests/test_distill.py` measures it on a Gaussian and a mixture.

References: Yin et al. (2024), "One-step diffusion with distribution matching distillation", arXiv 2311.18828, and "Improved
distribution matching distillation for fast image synthesis", arXiv 2405.14867. Luo et al. (2023), "Diff-Instruct", arXiv
2305.18455. Zhou et al. (2024), "Score identity distillation", arXiv 2404.04057.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorefield.errors import NotFinite
from scorefield.field import Field, ScoreModel
from scorefield.generator import few_levels
from scorefield.levels import NoiseDistribution
from scorefield.randomness import SampleRng
from scorefield.shapes import over
from scorefield.training.averages import beta
from scorefield.training.precision import autocast

LEAST = 1e-3  # of data_std: samples that the field leaves as they are have no difference to measure by


@dataclass(frozen=True)
class Matching:
    """How a generator is learned.

    Attributes:
        batch: samples a step.
        regression_lr: peak learning rate of the regression on pairs with which the generator begins (`pairs.py`).
        lr, score_lr: peak learning rates of the generator and of D', which must follow it: at 3e-4 and 5e-4 a generator of the
            digits was best after 150 steps, and lost rare ones from then on.
        warmup: steps from 0 to the peak.
        average: relative width of the moving average of the generator's weights.
        clip: largest norm of a gradient.
    """

    batch: int = 64
    regression_lr: float = 5e-4
    lr: float = 1e-4
    score_lr: float = 1e-3
    warmup: int = 20
    average: float = 0.1
    clip: float = 1.0

    def share(self, step: int, fraction: float) -> float:
        """Return the share of the peak learning rates: up over the first steps, down to a fiftieth over the second half.

        Args:
            step: steps done.
            fraction: of the training that is done, 0 to 1.
        """
        return min(1.0, (step + 1) / self.warmup) * max(0.02, min(1.0, 2 * (1 - fraction)))


class Matcher:
    """A generator in training.

    Attributes:
        generator: its weights as they are.
        average: their moving average: what is used.
        step: steps done.
    """

    def __init__(
        self,
        field: Field,
        network: ScoreModel,
        noise: NoiseDistribution,
        evaluations: int,
        how: Matching = Matching(),  # it is frozen
        *,
        classes: Tensor | None = None,
        precision: str = "float32",
    ) -> None:
        """Begin with copies of a network.

        Args:
            field: that is distilled.
            network: what the generator and D' begin as: the field itself, if it is a network.
            noise: of the levels at which samples are compared.
            evaluations: K.
            how: learning rates and the like.
            classes: how often each class is drawn, `(classes,)`; None without classes.
            precision: of the networks, as of `training/precision.py`.
        """
        self.field, self.noise, self.how, self.classes, self.precision = field, noise, how, classes, precision
        self.generator, *self.others = (copy.deepcopy(network).eval().requires_grad_(True) for _ in range(evaluations + 1))
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        betas = (0.0, 0.99)  # without momentum, for each of the two moves what the other learns from
        self.optimiser, *self.score_optimisers = (
            torch.optim.AdamW(model.parameters(), lr=how.lr, betas=betas, weight_decay=0.0)
            for model in (self.generator, *self.others)
        )
        self.times = few_levels(field.process, evaluations, field.data_std)
        self.step = 0

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    def begin_average(self) -> None:
        """Begin the moving average with the generator as it is."""
        self.average.load_state_dict(self.generator.state_dict())

    def take_step(self, rng: SampleRng, fraction: float) -> tuple[float, float]:
        """Take one step of the generator and one of D'.

        Args:
            rng: a seed for each sample of the batch.
            fraction: of the training that is done, 0 to 1, by which the learning rates fall.

        Returns:
            The mean difference |D' - D|/|x0 - D|, and the mean loss of D', in which 1 is what a guess at the mean has.

        Raises:
            NotFinite: a loss that is no number; the weights are as they were.
        """
        with autocast(self.precision, rng.seeds.device):
            level = self.step % len(self.times)
            x0, cond = self._generated(rng, level)
            fixed, process = x0.detach(), self.field.process
            t = self.noise.quantile(process, rng.uniform())
            alpha, sigma = process.alpha(t).to(fixed), process.sigma(t).to(fixed)
            x = over(alpha, fixed) * fixed + over(sigma, fixed) * rng.normal(self.field.shape).to(fixed)
            own = self.others[level](x, t, cond).denoised
            with torch.no_grad():
                true = self.field(x, t, cond).denoised
        axes = tuple(range(1, x.ndim))
        ratio, std = (sigma / alpha).square(), max(self.field.data_std, LEAST) ** 2
        own_loss = ((own - fixed).float().square().mean(axes) * (ratio + std) / (ratio * std).clamp(min=1e-30)).mean()
        size = (fixed - true).abs().mean(axes, keepdim=True).clamp(min=LEAST * self.field.data_std)
        pull = ((own.detach() - true) / size).float()
        loss = (pull * x0.float()).mean()
        moved = float(pull.abs().mean())
        if not bool(torch.isfinite(own_loss.detach() + pull.sum())):
            raise NotFinite(
                f"got NaN or infinity at step {self.step + 1} of the distillation, expected finite numbers: nothing is "
                "written; distil for less time, or train the run for longer"
            )
        for model, optimiser, peak, one in (
            (self.generator, self.optimiser, self.how.lr, loss),
            (self.others[level], self.score_optimisers[level], self.how.score_lr, own_loss),
        ):
            optimiser.zero_grad(set_to_none=True)
            one.backward()
            nn.utils.clip_grad_norm_(model.parameters(), self.how.clip)
            for group in optimiser.param_groups:
                group["lr"] = peak * self.how.share(self.step, fraction)
            optimiser.step()
        self.step += 1
        self._take_average()
        return moved, float(own_loss.detach())

    def _generated(self, rng: SampleRng, level: int) -> tuple[Tensor, Tensor | None]:
        """Return x0 of a level, with the graph of its last evaluation, and the classes."""
        field, cond = self.field, None if self.classes is None else rng.choose(self.classes)
        alpha, spread = field.process.prior(float(self.times[0]), field.data_std)
        x = (alpha * field.data_mean.to(rng.seeds.device) + spread * rng.normal(field.shape)).float()
        for j, time in enumerate(self.times.tolist()):
            t = torch.full((len(x),), time, dtype=torch.float64, device=x.device)
            with torch.set_grad_enabled(j == level):
                x0: Tensor = self.generator(x, t, cond).denoised
            if j == level:
                break
            s = self.times[j + 1].to(x.device)
            x = field.process.alpha(s) * x0 + field.process.sigma(s) * rng.normal(field.shape).to(x0)
            x = x.float()
        return x0, cond

    @torch.no_grad()
    def _take_average(self) -> None:
        """Take the step's weights into their average."""
        keep = beta(self.how.average, self.step)
        pairs = zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True)
        for mean, value in pairs:
            if value.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)
