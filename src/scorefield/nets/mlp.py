"""A multilayer perceptron for vectors: linear layers with SiLU, a residual sum each, the noise added to every layer.

SiLU and not ReLU, because exact-trace and sliced score matching differentiate the score once more, and a ReLU network's
second derivative is zero almost everywhere.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import renamed
from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import NoiseEmbedding, add_class, class_embedding
from scorefield.registry import COMPONENT, register


class MLP(nn.Module):
    """Residual MLP on the flattened sample.

    >>> import torch
    >>> MLP((2,), width=16)(torch.zeros(3, 2), torch.zeros(3)).shape
    torch.Size([3, 2])
    """

    def __init__(self, shape: tuple[int, ...], *, width: int = 128, depth: int = 4, classes: int = 0) -> None:
        """Build it.

        Args:
            shape: shape of one sample.
            width: hidden units in a layer.
            depth: number of hidden layers.
            classes: number of class labels, 0 for none.
        """
        super().__init__()
        size = math.prod(shape)
        self.embed, self.classes = NoiseEmbedding(width), class_embedding(classes, width)
        self.first = nn.Linear(size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.condition = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)  # start from y = 0, the mean of every unit-variance target
        nn.init.zeros_(self.last.bias)
        self.register_load_state_dict_pre_hook(renamed.parts)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`."""
        condition = F.silu(add_class(self.classes, self.embed(label), cond))
        h = self.first(x.flatten(1))
        for hidden, map_condition in zip(self.hidden, self.condition, strict=True):
            h = h + hidden(F.silu(h + map_condition(condition)))
        y: Tensor = self.last(F.silu(h))
        return y.reshape(x.shape)


@register("network", "mlp")
@dataclass(frozen=True, config=COMPONENT)
class MLPConfig(NetworkConfig):
    """Settings of the `MLP`.

    Attributes:
        width: hidden units in a layer.
        depth: number of hidden layers.
    """

    width: Annotated[int, Bound(ge=1)] = 128
    depth: Annotated[int, Bound(ge=1)] = 4

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        return MLP(shape, width=self.width, depth=self.depth, classes=classes)
