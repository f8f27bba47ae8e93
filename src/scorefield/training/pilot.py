"""The pilot: a few real training steps on this machine, to say what a training will cost before it begins.

The step that is timed is the trainer's own, on a copy of the model, so that it holds everything: drawing and encoding the
batch, noise, loss, gradient, clipping, optimiser and moving average. Each pace is the median of a few steps
after one that warms up.

    steps in a budget    seconds / pace              epochs    steps·batch / examples
    memory of a training weights + gradients + the optimiser's moments + the moving averages + activations·batch

Activations are what autograd keeps for the backward pass, counted on one small batch; they grow in proportion to the batch. The
workspace of single operations comes on top and is not counted. Nothing global changes: no random state, no number of threads.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import ScoreModel
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.training.loop import Trainer
from scorefield.training.memory import available
from scorefield.training.precision import autocast

STEPS = 8  # timed at each pace, at most
SAMPLES = 64  # drawn at once, of which the time is told
FIRST = 8  # examples of the first step, which finds out whether this machine is up to more
COUNTED = 2  # examples on which the activations are counted

Precision = Literal["float32", "bfloat16", "float16"]


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
class Memory:
    """Bytes that a training needs, and has.

    Attributes:
        parameters, gradients, optimiser, averages: of the weights, their gradients, moments and moving averages.
        activations: kept for the backward pass, of one batch, or one piece of it.
        available: free on the device, within the limits of the process's group.
    """

    parameters: int
    gradients: int
    optimiser: int
    averages: int
    activations: int
    available: int

    @property
    def total(self) -> int:
        """Bytes needed, without the workspace of single operations."""
        return self.parameters + self.gradients + self.optimiser + self.averages + self.activations

    @property
    def fits(self) -> bool:
        """Whether it fits with half of the activations again as workspace."""
        return self.total + self.activations // 2 <= self.available


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
        baselines = [pace for pace in self.paces if pace.precision == self.chosen.precision]
        best = max(baselines, key=lambda pace: pace.images_per_second)
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
        seconds: how long to measure, about; on a slow machine fewer examples a step are timed, and no rival of float32.
        clock: tells the time in seconds.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        What was measured.

    Raises:
        ScorefieldError: by the objective's check.
        NotFinite: the first steps overflow in float32.
    """
    began, limit, own = clock(), seconds / 4, config.training.batch

    def trainer_of(precision: Precision, batch: int) -> Trainer:
        pieces = min(config.training.accumulate, batch)
        settings = replace(config.training, precision=precision, batch=batch, accumulate=pieces)
        return Trainer(replace(config, training=settings), data, copy.deepcopy(model), None, device)

    def timed(function: Callable[[], Any]) -> float:
        start = clock()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    def second(function: Callable[[], Any]) -> float:
        function()  # kernels are chosen and memory is found at the first call of each size
        return timed(function)

    def affordable() -> int:
        """Return the most examples, up to the run's batch, of which three steps take about the limit at most."""
        size = min(FIRST, own)
        while size < own:
            most = int(size * limit / (3 * max(second(trainer_of("float32", size)._step), 1e-9)))
            if most < 1.5 * size:
                break
            size = min(most, 8 * size, own)
        return size

    def measure(precision: Precision, batch: int, size: int) -> tuple[Pace, Trainer]:
        progress(min((clock() - began) / seconds, 0.99), f"timing {precision}, batch {batch}")
        trainer, record, start = trainer_of(precision, size), list[float](), clock()
        trainer._step()
        while not record or (len(record) < STEPS and clock() - start < limit):
            record.append(timed(trainer._step))
        return Pace(precision, batch, median(record) * batch / size, size), trainer

    wanted, size = config.training.precision, affordable()
    paces = [measure("float32" if wanted == "auto" else wanted, own, size)]
    if wanted == "auto" and clock() - began < 2 * seconds:  # elsewhere a single step took longer than all should
        with contextlib.suppress(NotFinite):  # its range is float32's, but not every loss bears its coarseness
            few = min(FIRST, size)  # on machines without it, it may be ten times as slow
            slow = second(trainer_of("bfloat16", few)._step) > 3 * second(trainer_of("float32", few)._step)
            paces.append(measure("bfloat16", own, few if slow else size))
    chosen, trainer = min(paces, key=lambda pair: pair[0].seconds)
    rng = SampleRng(range(chosen.timed), stream=stream_of("pilot"), device=device)
    loading = median(timed(lambda: trainer._batch(rng)) for _ in range(3)) * own / chosen.timed / chosen.seconds
    for batch in (own // 2, 2 * own):
        if batch and chosen.timed == own and 3 * chosen.seconds * batch / own < began + seconds - clock():
            with contextlib.suppress(ScorefieldError):  # an objective may need the run's own batch
                paces.append(measure(chosen.precision, batch, batch))
    size = min(SAMPLES, max(chosen.timed, FIRST))
    x, t = torch.zeros(size, *data.shape, dtype=torch.float64, device=device), torch.ones(size, device=device)
    t = t.double() * model.process.t_max
    cond = trainer._batch(SampleRng(range(size), stream=stream_of("pilot"), device=device))[1]
    with torch.no_grad():
        evaluation = second(lambda: trainer.average.eval()(x, t, cond)) * SAMPLES / size
    progress(1.0, "")
    return Pilot(
        device=_name(device),
        paces=tuple(pace for pace, _ in paces),
        chosen=chosen,
        loading=min(loading, 1.0),
        evaluation=evaluation,
        memory=_memory(trainer, -(-own // config.training.accumulate), device),
    )


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _memory(trainer: Trainer, piece: int, device: torch.device) -> Memory:
    """Return what a training of this trainer's model needs with `piece` examples at once, after it has taken a step."""
    weights = _bytes(trainer.model.parameters())
    snapshots = (value for state in trainer.optimiser.state.values() for value in state.values() if isinstance(value, Tensor))
    few, more = (kept_for_backward(trainer, size) for size in (COUNTED, 2 * COUNTED))
    each = max(more - few, 0) // COUNTED  # what does not grow with the batch: weights in another precision
    return Memory(
        parameters=weights,
        gradients=weights,
        optimiser=_bytes(snapshots),
        averages=sum(_bytes(average.parameters()) for average in trainer.averages.kept.values()),
        activations=few + (piece - COUNTED) * each,
        available=available(device),
    )


def kept_for_backward(trainer: Trainer, examples: int) -> int:
    """Return how many bytes autograd keeps between the loss of so many examples and its gradient, beside the weights."""
    weights = {value.untyped_storage().data_ptr() for value in trainer.model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value  # and so alive: no other storage can have its place

    rng = SampleRng(range(examples), stream=stream_of("pilot"), device=trainer.device)
    x0, cond = trainer._batch(rng)
    trainer.model.train()
    cuda = [trainer.device] if trainer.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),  # dropout
        autocast(trainer.precision, trainer.device),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
    ):
        terms = trainer.config.objective.terms(trainer.model, x0, cond, rng=rng, learned=trainer.model.learned)
    return sum(kept.values()) if terms.loss.requires_grad else 0


def refuse_large_batch(trainer: Trainer) -> None:
    """Refuse a batch of which what is taken at once needs more memory than there is, before the first step takes it.

    Args:
        trainer: it stays as it is.

    Raises:
        ScorefieldError: what autograd would keep, or the examples themselves, are more than is free.
    """
    config, data, size = trainer.config.training, trainer.data, math.prod(trainer.data.shape)
    share = -(-config.batch // trainer.world.size)
    piece = -(-share // config.accumulate)
    double = torch.float64.itemsize  # an example as it came, encoded, and its noise
    trial = Trainer(trainer.config, data, copy.deepcopy(trainer.model), None, trainer.device)
    few, more = (kept_for_backward(trial, count) for count in (COUNTED, 2 * COUNTED))
    least = max(size * (data.train.dtype.itemsize + 2 * double), (more - few) // COUNTED)
    if piece * least > (have := available(trainer.device)):
        pieces = min(share, -(-2 * share * least // max(have, 1)))  # of half of what is free, for more is needed on the way
        raise ScorefieldError(
            f"got training.batch={config.batch:,}, of which {piece:,} examples at once need {piece * least / 2**30:,.1f} GiB, "
            f"expected at most the {have / 2**30:,.1f} GiB that are free: lower it, or take it in training.accumulate={pieces} "
            "pieces"
        )


@torch.enable_grad()
def reach(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how wide a piece of its input the middle of a network's output depends on, along each axis behind the channels.

    Measured as the extent of a gradient: all weights are set to equal positive numbers, so that nothing cancels, and the
    normalisations, whose averages depend on everything, are taken out.

    Args:
        network: an image or signal network; it stays as it is.
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
    told = () if isinstance(bare, (nn.Conv1d, nn.Conv2d)) else (torch.zeros(1),)
    y = bare(x, *told)
    middle = (0, 0, *(size // 2 for size in shape[1:]))
    (gradient,) = torch.autograd.grad(y[middle], x)
    places = gradient[0].abs().sum(dim=0).nonzero()
    return tuple((places.amax(dim=0) - places.amin(dim=0) + 1).tolist())
