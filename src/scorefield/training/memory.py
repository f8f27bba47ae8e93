"""Memory that is freed in one step is needed again in the next: ask the C library to keep it.

A training step frees and takes hundreds of megabytes of activations. glibc gives large pieces back to the system at once, and
the system clears every page before it gives it again: on small networks that is a tenth of the time. With these two settings it
keeps up to a gigabyte. Other C libraries are left alone; on GPUs PyTorch has a cache of its own.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h
KEPT, LARGEST = 2**30, 2**25  # LARGEST is the most that glibc accepts


def keep_freed() -> bool:
    """Keep freed memory in this process from now on; returns whether the C library is one that was asked, and agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))
