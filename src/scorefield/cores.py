"""Cores: a program has as many threads as there are cores that no other program uses.

    free = cores - (busy time of all programs - busy time of this one) / time

PyTorch gives each thread a part of a loop and waits for the last of them, and it runs thousands of such loops a second. Where
another program holds a core, the part of one thread waits some milliseconds for its turn, and the other threads wait with it
and use up the time they have. On 2 cores beside one busy program two threads are 2.5 times as slow as one; on idle cores they
are the faster. So neither number is right, and no clock of ours is needed to choose one: the system counts who uses the cores.

Programs of low priority (nice) give way to others and are not counted beside one of usual priority. Where OMP_NUM_THREADS is
set, that number stands, which keeps results the same to the last bit: sums are split by threads, and rounded as they are split.

This changes the number of threads of the process, so it is for commands and servers, which own theirs, and not for a library.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

WINDOW = 1.0  # seconds over which use is measured
LOST, WON = 0.7, 0.4  # of a core that others use: above, it is lost; below, it is won back (on 2 cores half is the break-even)
NO_WORK = ("idle", "iowait", "nice", "guest", "guest_nice", "interrupt", "dpc")  # the last four are part of user, nice, system


class Cores:
    """The cores that are free for this program, and its threads on them.

    Attributes:
        most: threads that PyTorch has on idle cores; None before the first `adapt` that finds it loaded.
        others: cores that other programs used in the last window.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], tuple[float, float, int]] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Begin to measure.

        Args:
            clock: tells the time in seconds.
            used: tells seconds of work of all programs, those of this one, and the number of cores; None to ask the system.
            environment: of the process.
        """
        self.clock, self.used = clock, used or _used
        self.fixed = "OMP_NUM_THREADS" in environment
        self.most: int | None = None
        self.others, self.wanted = 0.0, list[int]()
        self.start = clock(), (0.0, 0.0, 1)
        if not self.fixed:
            try:
                self.start = clock(), self.used()
            except Exception:  # a system that does not say, as in some sandboxes: then the number stays as it is
                self.fixed = True

    def adapt(self) -> str | None:
        """Set PyTorch's threads to the free cores; returns what changed, in words, or None.

        Call it often, from the thread that computes: it does nothing within a second after the last time. The first time
        decides at once; later two windows must agree, so that what is short changes nothing.
        """
        now = self.clock()
        if self.fixed or "torch" not in sys.modules or now - self.start[0] < WINDOW:
            return None
        import torch

        before, used = self.start[1], self.used()
        self.others = max(0.0, (used[0] - before[0] - used[1] + before[1]) / (now - self.start[0]))
        self.start, threads = (now, used), torch.get_num_threads()
        first, self.most = self.most is None, self.most or threads
        least, free = (max(1, min(self.most, int(used[2] - self.others + share))) for share in (WON, LOST))
        free = free if free < threads else max(least, threads)  # between the two it stays as it is
        self.wanted = [*self.wanted[-1:], free]
        if free == threads or not (first or self.wanted == [free, free]):
            return None
        _limit(free)
        return f"{free} of {self.most} threads: other programs use {self.others:.1f} of {used[2]} cores"


def _used() -> tuple[float, float, int]:
    import psutil

    each, own = psutil.cpu_times(percpu=True), time.process_time()
    if hasattr(os, "sched_getaffinity"):  # a program may be confined to some of the cores
        each = [each[core] for core in os.sched_getaffinity(0) if core < len(each)] or each
    low = hasattr(os, "getpriority") and os.getpriority(os.PRIO_PROCESS, 0) > 0  # then others of low priority compete with it
    without = set(NO_WORK) - ({"nice"} if low else set())
    return sum(value for one in each for name, value in one._asdict().items() if name not in without), own, len(each)


def _limit(threads: int) -> None:
    """Set the threads of PyTorch, and of the libraries behind numpy and scikit-learn."""
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    torch.set_num_threads(threads)
