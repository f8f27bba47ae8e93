"""Pairs: a generator begins with the flow of its field, which is as varied as the data from the first step.

    x_0 -> x_1 -> ... -> x0        the field's probability flow from the generator's first level, in a few evaluations of `abm`
    |G(x_j, t_j) - x0|²            at each of the generator's levels t_j, through which the flow is led

A copy of the field's network answers with the mean of all x0 that x_j may have come from: at high noise the same blurred sample
whatever x_j is. To spread that out takes distribution matching (`matching.py`) most of its time, and what is not spread by then
is missing: of MNIST, half of the steps after a regression on pairs left a higher recall than all of them without
(results/distill-search.md). The flow map that is regressed on is exact but for the few steps of `abm`, and what the regression
leaves of blur the matching takes away. Kept up beside the matching it holds the blur: it only begins.

References: Luhman, Luhman (2021), "Knowledge distillation in iterative generative models for improved sampling speed", arXiv
2101.02388. Yin et al. (2024), "One-step diffusion with distribution matching distillation", arXiv 2311.18828.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scorefield.distillation.matching import Matching
from scorefield.errors import NotFinite
from scorefield.field import Field, ScoreModel
from scorefield.levels import CENTRE, WIDTH
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.samplers import ABM, simulate
from scorefield.training.precision import autocast

EVALUATIONS = 5  # of the flow from the first level, and one or two more where it is led through others
LOW = 0.05  # noise of the last of them, in the data's standard deviation; the last evaluation denoises


@dataclass(frozen=True, eq=False)
class Pairs:
    """Where the flow of some samples passes the levels of a generator, and where it ends.

    Attributes:
        passed: x at each level, `(levels, n, *shape)`, float32.
        ends: x0, `(n, *shape)`, float32.
        cond: the classes, `(n,)`, or None.
    """

    passed: Tensor
    ends: Tensor
    cond: Tensor | None

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Return all pairs of several."""
        conds = [part.cond for part in parts if part.cond is not None]
        passed, ends = torch.cat([part.passed for part in parts], dim=1), torch.cat([part.ends for part in parts])
        return cls(passed, ends, torch.cat(conds) if conds else None)


def ladder_through(process: Process, times: Tensor, data_std: float) -> Tensor:
    """Return descending times that begin with the first of a generator's, hold them all, and go down to little noise.

    Between them they are spaced as `log-cauchy` has it.

    Args:
        process: of the field.
        times: of the generator, `(levels,)`, descending.
        data_std: the data's standard deviation, > 0.

    >>> from scorefield import VE
    >>> from scorefield.generator import few_levels
    >>> process = VE(0.01, 80.0)
    >>> [round(float(t), 2) for t in process.sigma(ladder_through(process, few_levels(process, 2, 1.0), 1.0))]
    [5.0, 1.47, 0.8, 0.29, 0.05]
    """
    noise = process.sigma(times) / process.alpha(times)
    end = torch.tensor(process.t_min, dtype=torch.float64)
    low = max(LOW * data_std, float(process.sigma(end) / process.alpha(end)))
    own, last = (((lam / data_std).log() - CENTRE) / WIDTH for lam in (noise, torch.tensor(low, dtype=torch.float64)))
    own = own.arctan()
    between = torch.linspace(float(own[0]), float(last.arctan()), EVALUATIONS, dtype=torch.float64)
    apart = (between[:, None] - own).abs().amin(dim=1) > 0.5 * (between[0] - between[1])
    kept = process.time_of_sigma(data_std * torch.exp(CENTRE + WIDTH * between[apart].tan()))
    return torch.cat([times, kept]).sort(descending=True).values


def draw_pairs(field: Field, times: Tensor, rng: SampleRng, classes: Tensor | None, precision: str = "float32") -> Pairs:
    """Draw pairs, one for each seed.

    Args:
        field: whose flow it is.
        times: of the generator.
        rng: a seed for each.
        classes: how often each class is drawn, `(classes,)`; None without classes.
        precision: of the network, as of `training/precision.py`.

    Raises:
        NotFinite: a flow that leads to NaN or infinity.
    """
    cond = None if classes is None else rng.choose(classes)
    ladder, levels, passed = ladder_through(field.process, times, field.data_std), times.tolist(), list[Tensor]()
    with autocast(precision, rng.seeds.device):
        for at in simulate(field, ABM(), ladder, rng=rng, cond=cond):
            if at.t in levels and len(passed) < len(times):
                passed.append(at.x.float())
    return Pairs(torch.stack(passed), at.x.float(), cond)


class Regression:
    """A generator that learns pairs.

    Attributes:
        step: steps done.
    """

    def __init__(self, generator: ScoreModel, pairs: Pairs, times: Tensor, how: Matching, precision: str = "float32") -> None:
        """Begin.

        Args:
            generator: is changed.
            pairs: what it learns.
            times: of its levels.
            how: learning rates and the like.
            precision: of the network, as of `training/precision.py`.
        """
        self.generator, self.pairs, self.times, self.how, self.precision = generator, pairs, times, how, precision
        self.optimiser = torch.optim.AdamW(generator.parameters(), lr=how.regression_lr, betas=(0.9, 0.99), weight_decay=0.0)
        self.step = 0

    def take_step(self, rng: SampleRng, fraction: float) -> float:
        """Take a step at one of the levels, and return its loss, in which 1 is what a guess at the mean has.

        Args:
            rng: a seed for each pair of the batch.
            fraction: of the regression that is done, 0 to 1, by which the learning rate falls.

        Raises:
            NotFinite: a loss that is no number; the weights are as they were.
        """
        level = self.step % len(self.times)
        which = (rng.uniform() * len(self.pairs)).long()
        cond = None if self.pairs.cond is None else self.pairs.cond[which]
        ends, std = self.pairs.ends[which], max(self.generator.data_std, 1e-30)
        with autocast(self.precision, ends.device):
            t = torch.full((len(which),), float(self.times[level]), dtype=torch.float64, device=ends.device)
            x0 = self.generator(self.pairs.passed[level, which], t, cond).denoised
        loss = (x0.float() - ends).square().mean() / std**2
        if not bool(torch.isfinite(loss.detach())):
            raise NotFinite(
                f"got NaN or infinity at step {self.step + 1} of the regression on pairs, expected finite numbers: nothing is "
                "written; train the run for longer"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), self.how.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.how.regression_lr * self.how.share(self.step, fraction)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())
