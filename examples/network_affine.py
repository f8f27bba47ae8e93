"""A network: an affine map of x whose matrix and shift depend on the noise, the smallest that learns a Gaussian.

    y = W(label)·x + b(label)

The score of Gaussian data is affine at every noise level, so nothing is lost. What it learns of other data is their Gaussian.

python examples/network_affine.py
"""

from __future__ import annotations

import math
import tempfile
from typing import Annotated

import numpy as np
import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield import ScorefieldError, app
from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import NoiseEmbedding
from scorefield.registry import COMPONENT, register
from scorefield.runs import load_field


class Affine(nn.Module):
    """y = W(label)·x + b(label) on the flattened sample, W and b linear in features of the label."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.size = math.prod(shape)
        self.embed = NoiseEmbedding(width)
        self.head = nn.Linear(width, self.size * (self.size + 1))
        nn.init.zeros_(self.head.weight)  # start from y = 0, the mean of every unit-variance target
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`."""
        made = self.head(nn.functional.silu(self.embed(label)))
        matrix, shift = made[:, self.size :].unflatten(1, (self.size, self.size)), made[:, : self.size]
        return (torch.einsum("bij,bj->bi", matrix, x.flatten(1)) + shift).reshape(x.shape)


@register("network", "affine")
@dataclass(frozen=True, config=COMPONENT)
class AffineConfig(NetworkConfig):
    """An affine map of x that depends on the noise.

    Attributes:
        width: features of the noise label.
    """

    width: Annotated[int, Bound(ge=2)] = 64

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return the network with fresh weights."""
        if classes:
            raise ScorefieldError(f"got {classes} classes for the network affine, expected none: set training.labels=0")
        return Affine(shape, self.width)


if __name__ == "__main__":
    rows = np.random.default_rng(0).multivariate_normal([1.0, 2.0], [[2.0, 1.2], [1.2, 1.0]], size=2000)
    run = app.train(rows, out=f"{tempfile.mkdtemp()}/run", steps=200, settings=("network=affine", "training.pictures=0")).folder
    field = load_field(run)
    x, t = torch.tensor([[1.0, -1.0]]), field.process.time_of_sigma(torch.tensor([0.5]))
    print("what x = (1, -1) was before noise of level 0.5, in standard deviations:", field(x, t).denoised.tolist())
