"""The pilot: a few real training steps on this machine, to say what a training will cost before it begins.

The step that is timed is the trainer's own, on a copy of the model, so that it holds everything: drawing and encoding the
batch, noise, loss, gradient, clipping, optimiser and moving average. Each pace is the median of a few steps
after one that warms up.

Nothing global changes: no random state, no number of threads.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import ScoreModel
from scorefield.nets.base import CONVOLUTIONS
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.training.loop import Trainer
from scorefield.training.memory import Memory, memory_of
from scorefield.training.precision import Precision

STEPS = 8  # timed at each pace, at most
SAMPLES = 64  # drawn at once, of which the time is estimated
FIRST = 8  # examples of the first step, which finds out whether this machine is up to more


@dataclass(frozen=True)
class Pace:
    """How fast a training step is.

    Attributes:
        precision: float32, bfloat16 or float16.
        batch: examples a step.
        seconds: a step, the median.
        timed: examples a step in what was timed; less than `batch` on a machine too slow for more, and scaled up from there.
    """

    precision: Precision
    batch: int
    seconds: float
    timed: int

    @property
    def images_per_second(self) -> float:
        """Examples a second."""
        return self.batch / self.seconds


@dataclass(frozen=True)
class Pilot:
    """What a few steps on this machine have shown.

    Attributes:
        device: cpu or cuda, with its name.
        paces: all that were measured.
        chosen: the one that the training will have: the run's batch, and its precision or the faster one.
        loading: share of a step spent in drawing and encoding the batch.
        evaluation: seconds of one evaluation of the model on 64 examples.
        memory: of the chosen pace.
    """

    device: str
    paces: tuple[Pace, ...]
    chosen: Pace
    loading: float
    evaluation: float
    memory: Memory

    @property
    def better_batch(self) -> Pace | None:
        """A batch with 20 % more examples a second than the chosen one, or None."""
        alike = [pace for pace in self.paces if pace.precision == self.chosen.precision]
        best = max(alike, key=lambda pace: pace.images_per_second)
        return best if best.images_per_second > 1.2 * self.chosen.images_per_second else None


def pilot(
    config: RunConfig,
    data: Dataset,
    model: ScoreModel,
    device: torch.device,
    *,
    seconds: float = 5.0,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = silent,
) -> Pilot:
    """Take a few training steps and throw them away.

    Args:
        config: the whole run.
        data: what it learns from.
        model: fresh weights, which stay as they are.
        device: where to compute.
        seconds: how long to measure, about; on a slow machine fewer examples a step are timed, and float32 alone.
        clock: tells the time in seconds.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        What was measured.

    Raises:
        ScorefieldError: by the objective's check.
        NotFinite: the first steps overflow in float32.
    """
    bench = _Bench(config, data, model, device, _Stopwatch(clock, seconds, device), progress)
    paces = bench.precisions(bench.affordable())
    chosen, trainer = min(paces, key=lambda pair: pair[0].seconds)
    loading = bench.loading(chosen, trainer)
    paces += bench.batches(chosen)
    evaluation = bench.evaluation(chosen, trainer)
    progress(1.0, "")
    return Pilot(
        device=_name(device),
        paces=tuple(pace for pace, _ in paces),
        chosen=chosen,
        loading=min(loading, 1.0),
        evaluation=evaluation,
        memory=memory_of(trainer, -(-config.training.batch // config.training.accumulate), device),
    )


class _Stopwatch:
    """The time that a pilot has, and what of it is over."""

    def __init__(self, clock: Callable[[], float], seconds: float, device: torch.device) -> None:
        """Start it: `seconds` is what all measurements may take, about."""
        self.clock, self.seconds, self.device = clock, seconds, device
        self.start, self.limit = clock(), seconds / 4  # of one pace

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    def time(self, function: Callable[[], Any]) -> float:
        """Return the seconds that a call takes."""
        start = self.clock()
        function()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - start

    def second(self, function: Callable[[], Any]) -> float:
        """Return the seconds that the second of two calls takes: the first chooses kernels and finds memory."""
        function()
        return self.time(function)


@dataclass(frozen=True)
class _Bench:
    """Measures training steps of a run on copies of its model."""

    config: RunConfig
    data: Dataset
    model: ScoreModel
    device: torch.device
    watch: _Stopwatch
    progress: Progress

    def trainer(self, precision: Precision, batch: int) -> Trainer:
        """Return a trainer of a copy of the model, without a folder."""
        pieces = min(self.config.training.accumulate, batch)
        settings = replace(self.config.training, precision=precision, batch=batch, accumulate=pieces)
        return Trainer(replace(self.config, training=settings), self.data, copy.deepcopy(self.model), None, self.device)

    def step(self, precision: Precision, batch: int) -> float:
        """Return the seconds of a step, roughly."""
        return self.watch.second(self.trainer(precision, batch)._step)

    def affordable(self) -> int:
        """Return the most examples, up to the run's batch, of which three steps take about the limit at most."""
        own = self.config.training.batch
        size = min(FIRST, own)
        while size < own:
            most = int(size * self.watch.limit / (3 * max(self.step("float32", size), 1e-9)))
            if most < 1.5 * size:
                break
            size = min(most, 8 * size, own)
        return size

    def pace(self, precision: Precision, batch: int, size: int) -> tuple[Pace, Trainer]:
        """Time steps of `size` examples, which stand for those of `batch`."""
        self.progress(min(self.watch.spent / self.watch.seconds, 0.99), f"timing {precision}, batch {batch}")
        trainer, record, start = self.trainer(precision, size), list[float](), self.watch.clock()
        trainer._step()
        while not record or (len(record) < STEPS and self.watch.clock() - start < self.watch.limit):
            record.append(self.watch.time(trainer._step))
        return Pace(precision, batch, median(record) * batch / size, size), trainer

    def precisions(self, size: int) -> list[tuple[Pace, Trainer]]:
        """Return the paces in the run's precision, or in all that it may choose from."""
        wanted, own = self.config.training.precision, self.config.training.batch
        paces = [self.pace("float32" if wanted == "auto" else wanted, own, size)]
        if wanted == "auto" and self.watch.spent < 2 * self.watch.seconds:  # else a single step took longer than all should
            with contextlib.suppress(NotFinite):  # its range is float32's, but not every loss bears its coarseness
                few = min(FIRST, size)  # on machines without it, it may be ten times as slow
                slow = self.step("bfloat16", few) > 3 * self.step("float32", few)
                paces.append(self.pace("bfloat16", own, few if slow else size))
        return paces

    def loading(self, chosen: Pace, trainer: Trainer) -> float:
        """Return the share of a step that is spent in drawing and encoding the batch."""
        rng = SampleRng(range(chosen.timed), stream=stream_of("pilot"), device=self.device)
        seconds = median(self.watch.time(lambda: trainer._batch(rng)) for _ in range(3))
        return seconds * self.config.training.batch / chosen.timed / chosen.seconds

    def batches(self, chosen: Pace) -> list[tuple[Pace, Trainer]]:
        """Return the paces of half and of twice the batch, where there is time for them."""
        own, paces = self.config.training.batch, list[tuple[Pace, Trainer]]()
        for batch in (own // 2, 2 * own):
            needed = 3 * chosen.seconds * batch / own
            if batch and chosen.timed == own and needed < self.watch.seconds - self.watch.spent:
                with contextlib.suppress(ScorefieldError):  # an objective may need the run's own batch
                    paces.append(self.pace(chosen.precision, batch, batch))
        return paces

    def evaluation(self, chosen: Pace, trainer: Trainer) -> float:
        """Return the seconds of one evaluation of the model on 64 examples."""
        size = min(SAMPLES, max(chosen.timed, FIRST))
        x = torch.zeros(size, *self.data.shape, dtype=torch.float64, device=self.device)
        t = torch.ones(size, device=self.device).double() * self.model.process.t_max
        cond = trainer._batch(SampleRng(range(size), stream=stream_of("pilot"), device=self.device))[1]
        with torch.no_grad():
            return self.watch.second(lambda: trainer.average.eval()(x, t, cond)) * SAMPLES / size


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


@torch.enable_grad()
def reach(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how wide a piece of its input the middle of a network's output depends on, along each axis behind the channels.

    Measured as the extent of a gradient: all weights are set to equal positive numbers, so that nothing cancels, and the
    normalisations, whose averages depend on everything, are taken out.

    Args:
        network: of signals, images or volumes; it stays as it is.
        shape: (channels, *size).

    Returns:
        One width per axis behind the channels, at most `size`; it equals `size` when the whole input is seen.

    >>> reach(nn.Conv2d(1, 1, 3, padding=1), (1, 8, 8))
    (3, 3)
    """
    bare = copy.deepcopy(network).cpu().float().eval()
    for module in list(bare.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase)):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for weight in bare.parameters():
            weight.fill_(1 / max(1, weight[0].numel()))
    x = torch.ones(1, *shape, requires_grad=True)
    labels = () if isinstance(bare, tuple(CONVOLUTIONS.values())) else (torch.zeros(1),)  # noise labels
    y = bare(x, *labels)
    middle = (0, 0, *(size // 2 for size in shape[1:]))
    (gradient,) = torch.autograd.grad(y[middle], x)
    places = gradient[0].abs().sum(dim=0).nonzero()
    return tuple((places.amax(dim=0) - places.amin(dim=0) + 1).tolist())
