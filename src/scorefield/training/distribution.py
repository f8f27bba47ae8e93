"""Many devices: the same training, divided.

`torchrun --nproc-per-node N -m scorefield train ...` starts N processes; Accelerate gives each its rank, its device and a way
to communicate. Each holds the whole model and takes its share of every batch:

    gradient of the batch's mean loss = sum over processes of (sum of the losses of its share)' / (size of the batch)

Example i of step n has the same numbers whichever process draws them, so the batch is the same for any number of processes, and
so are the results, up to the order in which float32 sums are added. All processes then take the same step. What they could
decide differently - is the time over, was a stop asked for, did the memory suffice - is agreed upon first; the clock is that of
the first process. It alone writes and prints.

Not `DistributedDataParallel`: its hooks expect one forward and one backward pass a step, and an objective that differentiates
the score makes several of each. One sum of all gradients a step is a page shorter and right for every objective.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError

T = TypeVar("T")


class World:
    """The processes that train together: `World()` is one alone, `join()` asks the environment for others.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        device: that `torchrun` gave to this process, or None.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        """Hold the number of this process, and how many there are."""
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, size: int) -> range:
        """Return the examples of a batch that are this process's.

        >>> World(1, 3).share(8)
        range(2, 5)
        """
        return range(self.rank * size // self.size, (self.rank + 1) * size // self.size)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes: one message for each type of number."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            together = torch.cat([tensor.reshape(-1) for tensor in alike])
            torch.distributed.all_reduce(together)
            for tensor, part in zip(alike, torch.split(together, [tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def maximum(self, *numbers: float) -> list[float]:
        """Return the largest of each number over the processes."""
        if self.size == 1:
            return list(numbers)
        together = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX)
        return together.tolist()

    def gather(self, value: T) -> list[T]:
        """Return the value of every process, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the value of the first process."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def agreed(self, work: Callable[[], T]) -> T:
        """Call `work`; where it refuses in one process it fails in all, with the same sentence."""
        result, trouble = None, None
        try:
            result = work()
        except ScorefieldError as error:
            if self.size == 1:
                raise
            trouble = str(error)
        for rank, other in enumerate(self.gather(trouble)):
            if other is not None:
                raise ScorefieldError(other if rank == 0 else f"process {rank}: {other}")
        return result  # type: ignore[return-value]  # work() returned

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End together. All but the first end at once: gloo's threads may abort a process that exits in the usual way."""
        if self.size == 1:
            return
        if error is None or isinstance(error, SystemExit):
            try:
                torch.distributed.barrier()  # the others wait until the first has written everything
            except RuntimeError:  # one of them failed at the very end, and has said so
                if not self.first:
                    leave(1)
        if self.first:
            torch.distributed.destroy_process_group()
            return
        if isinstance(error, SystemExit):
            leave(error.code if isinstance(error.code, int) else 1)
        if isinstance(error, ScorefieldError | KeyboardInterrupt):  # the first process says it
            leave(2 if isinstance(error, ScorefieldError) else 130)
        if error is not None and not _is_lost(error):  # a bug: shown whichever process has it
            sys.excepthook(type(error), error, trace)
        leave(0 if error is None else 1)


def _is_lost(error: BaseException) -> bool:
    """Whether an error is that another process has gone, which has said why."""
    return isinstance(error, RuntimeError) and "closed by peer" in str(error)


def leave(code: int) -> NoReturn:
    """End the process at once with this code, after everything that was printed has gone out."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it was closed
            stream.flush()
    os._exit(code)


def join(device: str = "auto") -> World:
    """Return the processes that `torchrun` started, or this one alone.

    Args:
        device: auto, cpu or cuda.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    from accelerate import PartialState  # type: ignore[import-untyped]

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return World(state.process_index, state.num_processes, state.device)
