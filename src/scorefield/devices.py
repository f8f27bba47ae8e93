"""Devices: where tensors are, by the name that a person gives."""

from __future__ import annotations

import torch

from scorefield.errors import ScorefieldError

CPU = torch.device("cpu")


def pick_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; raises `ScorefieldError` for one that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ScorefieldError(f"got device {name!r}, expected auto, cpu or cuda: name one of them")
    if name == "cuda" and not torch.cuda.is_available():
        raise ScorefieldError("got device cuda on a machine where torch sees none, expected a CUDA device: use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
