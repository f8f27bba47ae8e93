"""The sampler protocol, and THE loop.

A ladder t_0 > t_1 > ... > t_{L-1} is visited level by level. At level j a sampler may dwell at t = t_j (Langevin dynamics,
which leaves p_t unchanged) or jump from t = t_j to s = t_{j+1} (differential equations). From the last level there is nowhere
to jump: s is None, and the loop calls only samplers that dwell (`steps_on_last_level`). It shows the last level all the same,
with x as it was. Then it ends with one denoising step, x <- E[x0 | x], because what is left in x is noise of level
sigma(t_{L-1}) (Jolicoeur-Martineau et al. 2021, "Adversarial score matching and improved sampling for image generation", arXiv
2009.05475). Between levels it scales the x of a sampler that dwells by alpha_{j+1}/alpha_j, so that x/alpha, the data with
noise of level sigma/alpha, is what passes from level to level.

The state is float64, every number that depends only on the ladder is a Python float computed once, evaluations of the field
are counted, and a NaN stops the loop and is named.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield import renamed
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.levels import ladder_of
from scorefield.prediction import Prediction
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.registry import find
from scorefield.shapes import FEW, PerSample, Sample, check_rows, flat


@dataclass(frozen=True)
class Step:
    """One level of a ladder and the next, with alpha and sigma of both as Python floats.

    Attributes:
        index: j, 0-based; 0 is the noisiest.
        t, alpha, sigma: this level.
        s, alpha_s, sigma_s: the next, less noisy one; None, 1 and 0 on the last level.
        sigma_min: sigma of the last level.
    """

    index: int
    t: float
    alpha: float
    sigma: float
    s: float | None
    alpha_s: float
    sigma_s: float
    sigma_min: float


def times_of(process: Process, ladder: Tensor) -> Tensor:
    """Return the times of a ladder, float64; raises `ScorefieldError` unless they descend inside the process's range."""
    times = torch.as_tensor(ladder)
    if times.ndim > 1 or times.is_complex() or times.dtype == torch.bool:
        raise ScorefieldError(
            f"got a ladder of shape {tuple(times.shape)} and type {times.dtype}, expected a row of times: "
            "make it with geometric(process, levels)"
        )
    times = times.to(torch.float64).reshape(-1)
    if len(times) == 0 or not bool(times.isfinite().all() and (times.diff() < 0).all()):
        raise ScorefieldError(
            f"got a ladder of {len(times)} times that do not fall strictly, expected t_0 > t_1 > ...: make it with "
            "geometric(process, levels) and do not turn it round"
        )
    low, high = process.t_min, process.t_max
    slack = 1e-9 * max(abs(high), 1.0)
    if float(times[0]) > high + slack or float(times[-1]) < low - slack:
        raise ScorefieldError(
            f"got times from {float(times[0]):g} to {float(times[-1]):g}, expected them inside [{low:g}, {high:g}] "
            f"of {process}: make the ladder with field.process"
        )
    return times


def steps_of(process: Process, ladder: Tensor) -> list[Step]:
    """Return the levels of a ladder; raises `ScorefieldError` as `times_of` does."""
    times = times_of(process, ladder)
    alphas, sigmas = process.alpha(times).tolist(), process.sigma(times).tolist()
    following = [*zip(times.tolist()[1:], alphas[1:], sigmas[1:], strict=True), (None, 1.0, 0.0)]
    return [
        Step(j, t, alpha, sigma, *after, sigmas[-1])
        for j, (t, alpha, sigma, after) in enumerate(zip(times.tolist(), alphas, sigmas, following, strict=True))
    ]


class CountedField:
    """A field that counts its evaluations and takes one Python float as the time of the whole batch."""

    def __init__(self, field: Field, cond: Tensor | None) -> None:
        self.field, self.cond, self.evaluations = field, cond, 0
        self._alike = False  # whether a prediction has one t, a and c for all samples, as almost every field's does
        self._means: Tensor | None = None

    @property
    def process(self) -> Process:
        return self.field.process

    def alpha(self, t: float) -> float:
        """Return the signal scale at a time, as a float."""
        return float(self.process.alpha(torch.tensor(t, dtype=torch.float64)))

    def data_mean(self, x: Sample) -> Tensor:
        """Return the data's mean, the shape of one sample, where and as `x` is."""
        return self.field.data_mean.to(x)

    def means(self, x: Sample) -> Sample:
        """Return the data's mean for every sample."""
        if self._means is None or self._means.shape != x.shape or self._means.dtype != x.dtype:
            mean = self.data_mean(x)
            self._means = mean.expand_as(x).contiguous() if mean.numel() <= FEW else mean.expand_as(x)  # broadcasts slowly
        return self._means

    @property
    def has_energy(self) -> bool:
        """Whether the field knows its energy -log p_t, up to a constant."""
        return isinstance(self.field, EnergyField)

    def __call__(self, x: Sample, t: float) -> Prediction:
        seen = self._first_checked(self.field(x, self._times(x, t), self.cond))
        if self.evaluations == 1:
            self._alike = len(x) > 0 and all(bool((number == number[:1]).all()) for number in (seen.t, seen.a, seen.c))
        return seen.with_one_time() if self._alike else seen

    def at(self, x: Sample, t: PerSample, rows: Tensor) -> Prediction:
        """Return the prediction for rows of the batch, each at a time of its own."""
        return self._first_checked(self.field(x, t, None if self.cond is None else self.cond[rows]))

    def _first_checked(self, prediction: Prediction) -> Prediction:
        """Count an evaluation and check the first one, and only that: on a GPU each check waits for all work under way."""
        self.evaluations += 1
        return prediction.check() if self.evaluations == 1 else prediction

    def energy(self, x: Sample, t: float) -> PerSample:
        """Return -log p_t(x) + constant, `(batch,)`; not counted, because it comes with the score of the same x."""
        assert isinstance(self.field, EnergyField)  # has_energy says so
        return self.field.energy(x, self._times(x, t), self.cond)

    @staticmethod
    def _times(x: Sample, t: float) -> PerSample:
        return torch.full((len(x),), t, dtype=torch.float64, device=x.device)


@dataclass(frozen=True)
class Info:
    """What a step reports besides x and the state. It is never carried to the next step, and it does not change afterwards.

    A sampler that has more to report returns a frozen subclass.

    Attributes:
        acceptance: of a sampler with Metropolis' test, the mean probability of acceptance on every level visited so far.
    """

    acceptance: tuple[float, ...] = ()


NOTHING = Info()  # most steps have nothing to report


class Sampler(ABC):
    """One step of a sampling method.

    A sampler declares its facts, which the tests and `scorefield verify` measure. A class that leaves one out cannot be used.
    A sampler that wraps another passes its facts on.
    """

    @property
    @abstractmethod
    def order(self) -> int | None:
        """Order of the global error in the step length; None for a sampler that dwells, which makes no such error."""

    @property
    @abstractmethod
    def dwells(self) -> bool:
        """Whether x stays on its level, at time t, instead of jumping to the next, at time s."""

    @property
    @abstractmethod
    def remembers(self) -> bool:
        """Whether the state couples successive x, so that x must not be changed between steps."""

    @property
    @abstractmethod
    def evaluations_per_step(self) -> int | None:
        """Evaluations of the field in every step; None where their number varies."""

    @property
    @abstractmethod
    def ladder(self) -> str:
        """Name of the registered ladder that it uses by default."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """Number of levels of that ladder."""

    @property
    def steps_per_level(self) -> int:
        """Number of steps on each level: j = step // steps_per_level."""
        return 1

    def within(self, steps: int) -> tuple[Sampler, int]:
        """Return a sampler and a number of levels that together take about `steps` steps."""
        return self, max(2, round(steps / self.steps_per_level))

    def at_fixed_steps(self) -> Sampler:
        """Return the sampler with one step a level, to which its order refers: itself, unless it chooses its own steps."""
        return self

    @property
    def steps_on_last_level(self) -> bool:
        """Whether it does something on the last level, from which there is nowhere to jump: a sampler that dwells does."""
        return self.dwells

    def start(self, field: CountedField, steps: list[Step]) -> Any:
        """Return the state that is carried from step to step, with coefficients of the ladder; None where none is needed."""
        return None

    @abstractmethod
    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        """Return the next x, `(batch, *shape)`, the state to carry on, and what there is to report.

        A step is a function of its arguments: it changes neither `x` nor `state` in place. On the last level, where `step.s`
        is None, only samplers with `steps_on_last_level` are called: those that dwell.
        """


@dataclass(frozen=True)
class Snapshot:
    """What the loop shows after a step.

    Attributes:
        x: the state, `(batch, *shape)`, float64; of the last snapshot, the samples.
        t: the time at which x lives; 0 for the clean samples at the end.
        step: steps done, from 0 (the starting noise).
        steps: steps there will be.
        evaluations: of the field so far.
        info: what else the step reported (acceptance rates and the like); it does not change afterwards.
    """

    x: Tensor
    t: float
    step: int
    steps: int
    evaluations: int
    info: Info = NOTHING


def _check(x: Tensor, sampler: Sampler, step: int, t: float) -> None:
    if math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all()):  # one pass where all is well; a sum may overflow
        return
    bad = int((~torch.isfinite(flat(x))).any(dim=1).sum())
    if step == 0:
        raise NotFinite(
            f"got NaN or infinity in {bad} of the {len(x)} samples to start from, expected finite numbers: give others"
        )
    raise NotFinite(
        f"got NaN or infinity in {bad} of {len(x)} samples at step {step} (t = {t:g}) of {sampler}, expected finite numbers: "
        "use smaller steps (more levels, or a smaller eps), or inspect the model at this noise level"
    )


@renamed.arguments
def simulate(
    field: Field,
    sampler: Sampler,
    ladder: Tensor,
    x: Tensor | None = None,
    *,
    rng: SampleRng,
    cond: Tensor | None = None,
    denoise: bool = True,
) -> Iterator[Snapshot]:
    """Take samples down a ladder: `*_, last = simulate(...)` gives the samples as `last.x`.

    Args:
        field: any field.
        sampler: any sampler.
        ladder: descending times, `(levels,)`.
        x: where to start, `(batch, *shape)`; None starts from the prior N(alpha·mean, alpha²·std² + sigma²) at ladder[0].
        rng: one seed per sample; sample i is the same whatever else is in the batch.
        cond: conditioning of each sample, one row per seed, or None.
        denoise: end with x <- E[x0 | x].

    Yields:
        A `Snapshot` for the start, after every step of every level, and for the end. Values are detached; memory does not grow
        with the number of steps.

    Raises:
        ScorefieldError: a ladder that does not descend or leaves the process's range; a start of the wrong shape or type; no
            seeds, or conditioning that is not one row for each.
        NotFinite: NaN or infinity, with the step and level named.

    >>> from scorefield import VE, GaussianMixture, SampleRng, geometric
    >>> from scorefield.samplers import Annealed
    >>> field = GaussianMixture([.8, .2], [[-5., 0.], [5., 0.]], [1., 1.], VE(.01, 10.))
    >>> *_, last = simulate(field, Annealed(steps_per_level=2), geometric(field.process, 10), rng=SampleRng(range(3)))
    >>> last.x.shape, last.evaluations
    (torch.Size([3, 2]), 21)
    """
    steps = steps_of(field.process, ladder)
    if not len(rng):
        raise ScorefieldError("got an rng without seeds, expected one for each sample: for example SampleRng(range(64))")
    check_rows(len(rng), cond=cond)
    counted, device = CountedField(field, cond), rng.seeds.device
    if x is None:
        alpha, spread = field.process.prior(steps[0].t, field.data_std)
        x = alpha * field.data_mean.to(device) + spread * rng.normal(field.shape)
    elif x.shape != (len(rng), *field.shape) or x.is_complex():
        kind = "complex " if x.is_complex() else ""
        raise ScorefieldError(
            f"got a {kind}start of shape {tuple(x.shape)}, expected {(len(rng), *field.shape)}: one sample per seed"
        )
    x = x.detach().to(device, torch.float64, copy=True)  # what the caller does to the start does not reach the first snapshot
    _check(x, sampler, 0, steps[0].t)
    state, info, hold = sampler.start(counted, steps), NOTHING, sampler.steps_per_level
    total = len(steps) * hold + int(denoise)
    yield Snapshot(x, steps[0].t, 0, total, 0)
    # Gradients are off inside a step only: around a yield they would stay off in the caller.
    for step in steps:
        if sampler.dwells and step.index:  # a dwelling sampler is carried to the next level as it is in z = x/alpha
            x = x * (step.alpha / steps[step.index - 1].alpha)
        lives = step.t if step.s is None or sampler.dwells else step.s
        for held in range(hold):
            done = step.index * hold + held + 1
            if step.s is not None or sampler.steps_on_last_level:
                with torch.no_grad():
                    x, state, info = sampler.step(counted, x, step, state, rng)
                _check(x, sampler, done, step.t)
            yield Snapshot(x, lives, done, total, counted.evaluations, info)
    if denoise:
        with torch.no_grad():
            x = counted(x, steps[-1].t).denoised
        _check(x, sampler, total, steps[-1].t)
        yield Snapshot(x, 0.0, total, total, counted.evaluations, info)


@renamed.arguments
def sample(
    field: Field,
    sampler: Sampler | None = None,
    ladder: Tensor | None = None,
    *,
    rng: SampleRng,
    cond: Tensor | None = None,
) -> Tensor:
    """Return samples, one per seed, `(batch, *shape)`, float64: the end of `simulate`.

    Args:
        field: any field.
        sampler: any sampler; None for `ABM()`, the best in few evaluations.
        ladder: descending times, `(levels,)`; None for the sampler's own, with its own number of levels.
        rng: one seed per sample.
        cond: conditioning of each sample, or None.

    >>> from scorefield import VE, GaussianMixture, SampleRng
    >>> field = GaussianMixture([.8, .2], [[-5., 0.], [5., 0.]], [1., 1.], VE(.01, 50.))
    >>> x = sample(field, rng=SampleRng(range(1000)))  # 20 evaluations
    >>> round(float((x[:, 0] < 0).double().mean()), 1)
    0.8
    """
    chosen: Sampler = find("sampler", "abm")() if sampler is None else sampler
    times = ladder_of(field, chosen.ladder, chosen.levels) if ladder is None else ladder
    return deque(simulate(field, chosen, times, rng=rng, cond=cond), maxlen=1).pop().x  # only the last is kept


__getattr__ = renamed.attributes(__name__)
