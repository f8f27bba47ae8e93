"""Devices: where tensors are, by the name that a person gives.

A network frees and takes hundreds of megabytes of activations at every evaluation. glibc returns large pieces to the system at
once, and the system clears every page before it hands it out again: of small networks that is a tenth of the time of a training
step, and a tenth (one thread) to a quarter (two) of that of drawing samples. So whoever computes on the CPU keeps up to a
gigabyte of freed memory. Other C libraries stay as they are; on GPUs PyTorch has a cache of its own.
"""

from __future__ import annotations

import ctypes
import sys

import torch

from scorefield.errors import ScorefieldError

CPU = torch.device("cpu")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h
KEPT, LARGEST = 2**30, 2**25  # LARGEST is the most that glibc accepts


def pick_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda, where something large will be computed: on the CPU freed memory is kept.

    Raises:
        ScorefieldError: an unknown name, or a device that is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ScorefieldError(f"got device {name!r}, expected auto, cpu or cuda: name one of them")
    if name == "cuda" and not torch.cuda.is_available():
        raise ScorefieldError("got device cuda on a machine where torch sees none, expected a CUDA device: use cpu or auto")
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    keep_freed()
    return CPU


def keep_freed() -> bool:
    """Keep freed memory in this process from now on; returns whether the C library can, and agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))
