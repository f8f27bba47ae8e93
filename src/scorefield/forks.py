"""A forked child has the memory of its parent and none of its threads: PyTorch in it must do with one.

Where the parent has computed on several threads, OpenMP in the child waits for them at its first parallel loop, and they will
never come. PyTorch's own data loaders set their forked workers to one thread; this does it for every fork of a process that has
imported a field. A child that is sure of what it does calls `torch.set_num_threads` afterwards; one that was spawned has
threads of its own and is left alone.
"""

from __future__ import annotations

import os

import torch

if hasattr(os, "register_at_fork"):  # a system without forks needs none of it
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
