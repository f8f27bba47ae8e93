"""Memory: what is free, what a network would need, and what is freed in one step and needed again in the next.

The system promises more memory than it has and kills who takes it at its word, so what cannot fit is refused before it begins.

A training step frees and takes hundreds of megabytes of activations. glibc gives large pieces back to the system at once, and
the system clears every page before it gives it again: on small networks that is a tenth of the time. With these two settings it
keeps up to a gigabyte. Other C libraries are left alone; on GPUs PyTorch has a cache of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import psutil
import torch

from scorefield.config import RunConfig
from scorefield.errors import ScorefieldError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h
KEPT, LARGEST = 2**30, 2**25  # LARGEST is the most that glibc accepts


def keep_freed() -> bool:
    """Keep freed memory in this process from now on; returns whether the C library is one that was asked, and agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))


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


def refuse_large_network(config: RunConfig, shape: tuple[int, ...], classes: int, device: torch.device) -> None:
    """Refuse a network whose training needs more memory than there is, without building it.

    Weights, gradient, two moments and the moving averages, four bytes each; activations come on top.

    Args:
        config: of the run.
        shape: of one example.
        classes: that the network is told of.
        device: where to train.

    Raises:
        ScorefieldError: it does not fit.
    """
    with torch.device("meta"):
        network = config.network.build(shape, classes)
    weights = sum(p.numel() for p in network.parameters())
    need, have = 4 * weights * (4 + len(config.training.lengths)), available(device)
    if need > have:
        raise ScorefieldError(
            f"got a network of {weights:,} weights, whose training needs {need / 2**30:,.1f} GiB, expected at most the "
            f"{have / 2**30:,.1f} GiB that are free: choose a smaller one with --set network..."
        )
