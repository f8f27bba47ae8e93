"""Devices: what picking one does."""

import os
import subprocess
import sys

import pytest

PAGES = """
import resource, torch
from scorefield.devices import pick_device
if {picks}:
    pick_device("cpu")
def evaluate():
    return len([torch.ones(1 << 21) for _ in range(12)])  # 12 activations of 8 MiB, freed together
for _ in range(20):
    evaluate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    evaluate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


# What glibc begins with, and raises by itself at some layouts of the heap, which would hide the difference.
AT_ONCE = "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072"


def _faults(picks: bool) -> int:
    """Return how many pages the system clears for memory that the process had before, and freed."""
    words, own = [sys.executable, "-c", PAGES.format(picks=picks)], os.environ | {"GLIBC_TUNABLES": AT_ONCE}
    return int(subprocess.run(words, check=True, capture_output=True, text=True, env=own).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_what_computes_on_the_cpu_keeps_the_memory_that_it_frees() -> None:
    if (returned := _faults(picks=False)) < 1000:  # large pages, or a C library that keeps memory itself
        pytest.skip("freed memory costs no page faults here")
    assert _faults(picks=True) < returned / 4
