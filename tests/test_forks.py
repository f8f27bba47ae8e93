"""A child that is forked from a process that has computed on several threads computes, instead of waiting for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os
import numpy as np, torch
torch.set_num_threads(2)
from scorefield import ScoreDensity
X = np.random.default_rng(0).normal(size=(100, 3))
torch.nn.functional.relu(torch.randn(2000, 2000))  # on two threads, which the child will not have
child = os.fork()
if child == 0:
    torch.nn.functional.relu(torch.randn(2000, 2000))
    density = ScoreDensity(max_steps=2, random_state=0).fit(X)
    print(torch.get_num_threads(), density.sample(2, random_state=0).shape, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without forks")
def test_a_forked_child_fits_and_samples_on_one_thread_and_its_parent_keeps_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["1 (2, 3)", "2"], done.stderr
