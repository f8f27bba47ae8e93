"""Memory: what is free, what a training needs, and what is freed in one step and needed again in the next.

    weights + gradients + the optimiser's moments + the moving averages + activations·batch

Activations are what autograd keeps for the backward pass, counted on one small batch; they grow in proportion to the batch. The
workspace of single operations comes on top and is not counted.

The system promises more memory than it has and ends a process that uses what was promised, so what cannot fit is refused before
it begins.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from scorefield import renamed
from scorefield.config import RunConfig
from scorefield.errors import ScorefieldError
from scorefield.randomness import SampleRng, stream_of
from scorefield.training.loop import Trainer
from scorefield.training.precision import autocast

COUNTED = 2  # examples on which the activations are counted


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


def available(device: torch.device) -> int:
    """Return the free bytes of a device; of a machine, within the limits of the process's group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such files elsewhere, and "max" is no number
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = int(kept.get("inactive_file", 0)) + int(kept.get("active_file", 0))  # read once, and given up when needed
        free = min(free, limit - used + files)
    return free


class _AsTheyAre(TorchFunctionMode):
    """Weights are not filled: on the device "meta" that imports 800 modules of torch, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def refuse_large_network(config: RunConfig, shape: tuple[int, ...], classes: int, device: torch.device) -> None:
    """Refuse a network whose training needs more memory than there is, without building it.

    Weights, gradient, two moments and the moving averages, four bytes each; activations come on top.

    Args:
        config: of the run.
        shape: of one example.
        classes: that the network is conditioned on.
        device: where to train.

    Raises:
        ScorefieldError: it does not fit.
    """
    with _AsTheyAre(), torch.device("meta"):
        network = config.network.build(shape, classes)
    weights = sum(p.numel() for p in network.parameters())
    need, have = 4 * weights * (4 + len(config.training.lengths)), available(device)
    if need > have:
        raise ScorefieldError(
            f"got a network of {weights:,} weights, whose training needs {need / 2**30:,.1f} GiB, expected at most the "
            f"{have / 2**30:,.1f} GiB that are free: choose a smaller one with --set network..."
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def memory_of(trainer: Trainer, piece: int, device: torch.device) -> Memory:
    """Return what a training of this trainer's model needs with `piece` examples at once, after it has taken a step."""
    weights = _bytes(trainer.model.parameters())
    moments = (value for state in trainer.optimiser.state.values() for value in state.values() if isinstance(value, Tensor))
    few, more = (kept_for_backward(trainer, size) for size in (COUNTED, 2 * COUNTED))
    each = max(more - few, 0) // COUNTED  # without what does not grow with the batch: weights in another precision
    return Memory(
        parameters=weights,
        gradients=weights,
        optimiser=_bytes(moments),
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
        terms = trainer.config.objective.of_known(trainer.model, x0, cond, rng=rng, learned=trainer.model.learned)
    return sum(kept.values()) if terms.loss.requires_grad else 0


def refuse_large_batch(trainer: Trainer) -> None:
    """Refuse a batch that needs more memory at once than is free, before the first step takes it.

    Args:
        trainer: it stays as it is.

    Raises:
        ScorefieldError: what autograd would keep, or the examples themselves, are more than is free.
    """
    config, data, size = trainer.config.training, trainer.data, math.prod(trainer.data.shape)
    share = -(-config.batch // trainer.world.size)
    piece = -(-share // config.accumulate)
    double = torch.float64.itemsize  # of an example, encoded, and its noise
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


__getattr__ = renamed.attributes(__name__)
