"""Many devices: the same training, the same samples, divided.

`torchrun --nproc-per-node N -m scorefield train ...` starts N processes; Accelerate gives each its rank, its device and a way
to communicate. Each holds the whole model. A training gives each its share of every batch:

    gradient of the batch's mean loss = sum over processes of (sum of the losses of its share)' / (size of the batch)

Example i of step n has the same numbers whichever process draws them, so the batch is the same for any number of processes, and
so are the results, up to the order in which float32 sums are added. All processes then take the same step. What they could
decide differently - is the time over, was a stop asked for, did the memory suffice - is agreed upon first; the clock is that of
the first process. It alone writes and prints.

Sampling gives each its own batches of samples (`batches_of`). The first process receives them one after the other, in the
order of the samples, so it never holds more than its own batch and another's. Sample i has its own seed, so it is the same
whichever process draws it, up to the rounding of a network that is asked in a batch of another size; while all processes have
work, batches are those of one process.

Not `DistributedDataParallel`: its hooks expect one forward and one backward pass a step, and an objective that differentiates
the score makes several of each. One sum of all gradients a step is a page shorter and right for every objective.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from scorefield.devices import CPU, pick_device
from scorefield.errors import ScorefieldError
from scorefield.launch import processes

T = TypeVar("T")
LOST = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited")  # what gloo and NCCL say of one that ended
GRACE = 1.0  # seconds for the first process to say why all end: when one has ended, torchrun stops the others
PATIENCE = datetime.timedelta(days=1)  # the others wait while the first one opens data, learns features, or writes


class World:
    """The processes that work together: `World()` is one alone, `join()` asks the environment for others.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        device: on which this process computes.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device = CPU) -> None:
        """Hold the number of this process, how many there are, and where this one computes."""
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

    def agreed(self, work: Callable[[], T], faults: type[Exception] = ScorefieldError) -> T:
        """Call `work`; where it refuses in one process it fails in all, with the same sentence.

        Args:
            work: what each process does. Only where it sends nothing may faults be more than refusals: the others would wait.
            faults: that the others learn of; any other ends this process, and they notice that it is gone.
        """
        if self.size == 1:
            return work()
        result, own, trouble = None, None, None
        try:
            result = work()
        except faults as error:
            own, trouble = error, str(error) if isinstance(error, ScorefieldError) else f"{type(error).__name__}: {error}"
        for rank, other in enumerate(self.gather(trouble)):
            if other is not None:
                if own is not None and (rank == self.rank or not isinstance(own, ScorefieldError)):
                    raise own  # a bug keeps its traceback
                raise ScorefieldError(other if rank == 0 else f"process {rank}: {other}")
        return result  # type: ignore[return-value]  # work() returned

    def from_first(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process alone; return what it returns in all, or fail in all as it fails."""
        return self.broadcast(self.agreed(lambda: work() if self.first else None))  # type: ignore[return-value]

    def in_order(
        self, n: int, batch: int, work: Callable[[range], Sequence[Tensor]]
    ) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Do numbered work in batches, each in one of the processes; yield all in order in the first, nothing in the others.

        Args:
            n: how many rows, of the numbers 0, 1, ..., n - 1.
            batch: how many at a time, at most.
            work: takes numbers, and returns tensors with a row for each, whose other axes and types are always the same.

        Yields:
            The numbers of a batch, and its tensors, on the CPU; the first process holds its own and one of another at a time.

        Raises:
            ScorefieldError: work has failed in one of the processes; in all.
        """
        for parts in batches_of(n, batch, self.size):

            def done(mine: range = parts[self.rank]) -> tuple[Tensor, ...]:
                return tuple(part.cpu().contiguous() for part in work(mine)) if len(mine) else ()

            own = self.agreed(done, Exception)
            if self.first:
                yield parts[0], own
                for rank, numbers in enumerate(parts[1:], 1):
                    if len(numbers):
                        yield numbers, tuple(self._received(rank, len(numbers), like) for like in own)
            else:
                for part in own:
                    torch.distributed.send(part.to(self.device), 0)

    def _received(self, rank: int, rows: int, like: Tensor) -> Tensor:
        """Return the tensor that another process sends, with so many rows, for the rest like one of this process's."""
        part = torch.empty(rows, *like.shape[1:], dtype=like.dtype, device=self.device)
        torch.distributed.recv(part, rank)
        return part.cpu()

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
            if error is not None and _is_lost(error):
                raise ScorefieldError(
                    f"got {self.size} processes of which one has ended early, expected all to run to the end: read its "
                    "message, or whether the system had too little memory for so many, and start again"
                ) from None
            return
        if isinstance(error, SystemExit):
            leave(error.code if isinstance(error.code, int) else 1)
        if isinstance(error, ScorefieldError):  # the first process says it, if torchrun does not stop it before
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(GRACE)
            leave(2)
        if isinstance(error, KeyboardInterrupt):
            leave(143 if error.args == ("SIGTERM",) else 130)
        if error is not None and not _is_lost(error):  # a bug: shown whichever process has it
            sys.excepthook(type(error), error, trace)
        leave(0 if error is None else 1)


def _is_lost(error: BaseException) -> bool:
    """Whether an error is that another process has gone, which has said why."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)


def leave(code: int) -> NoReturn:
    """End the process at once with this code, after everything that was printed has gone out."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it was closed
            stream.flush()
    os._exit(code)


def batches_of(n: int, batch: int, size: int) -> Iterator[list[range]]:
    """Yield, turn by turn, the numbers that each of `size` processes does next, of 0, 1, ..., n - 1 in order.

    A batch is divided only where a process would have nothing to do.

    >>> list(batches_of(7, 2, 2))
    [[range(0, 2), range(2, 4)], [range(4, 6), range(6, 7)]]
    >>> list(batches_of(6, 2, 2))
    [[range(0, 2), range(2, 4)], [range(4, 5), range(5, 6)]]
    >>> list(batches_of(2, 256, 3))
    [[range(0, 1), range(1, 2), range(2, 2)]]
    """
    for first in range(0, n, size * batch):
        rest = min(n - first, size * batch)
        each = batch if rest > (size - 1) * batch else -(-rest // size)
        ends = [first + min(rank * each, rest) for rank in range(size + 1)]
        yield [range(start, stop) for start, stop in zip(ends, ends[1:], strict=False)]


def join(device: str = "auto") -> World:
    """Return the processes that `torchrun` started, or this one alone, and where it computes.

    On CUDA each process has a device of its own, on CPUs its share of the cores. `torchrun` sets `OMP_NUM_THREADS` to 1 where
    it is not set, so 1 is taken for that; another number holds.

    Args:
        device: auto, cpu or cuda.

    Raises:
        ScorefieldError: a device that is not there, or fewer of them than processes.
    """
    picked = pick_device(device)
    if processes() == 1:
        return World(device=picked)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if picked.type == "cuda" and here > (devices := torch.cuda.device_count()):
        raise ScorefieldError(
            f"got {here} processes on a machine of {devices} GPUs, expected at most one process for each: start "
            f"--nproc-per-node {devices}, or add --device cpu"
        )
    from accelerate import PartialState  # type: ignore[import-untyped]

    if picked.type == "cpu" and "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // here))
    state = PartialState(cpu=picked.type == "cpu", timeout=PATIENCE)
    if not torch.distributed.is_initialized():  # the others have ended with an earlier call: this process goes on alone
        return World(device=picked)
    return World(state.process_index, state.num_processes, state.device)
