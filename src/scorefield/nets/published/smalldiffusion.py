"""smalldiffusion's network for vectors: linear layers and GELU on x and two numbers about the noise.

    y = W_n·gelu(... gelu(W_1·[x/r, sin(ln(sigma)/2), cos(ln(sigma)/2)]))        r = 1, or sqrt(1 + sigma²) for a scaled one

Its output is the noise of x = x0 + sigma·noise. Reference: Permenter, Yuan (2024), "Interpreting and improving diffusion models
from an optimization perspective", arXiv 2306.04848, whose sampler and schedules that library is about.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.errors import ScorefieldError
from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import add_class
from scorefield.registry import COMPONENT, register


class SigmaMLP(nn.Module):
    """Vectors and ln(sigma) -> the noise in them.

    >>> SigmaMLP(2, (16, 8))(torch.zeros(3, 2), torch.zeros(3)).shape
    torch.Size([3, 2])
    """

    def __init__(self, size: int, hidden: tuple[int, ...], *, scaled: bool = False) -> None:
        """Build it.

        Args:
            size: of a vector.
            hidden: units of the hidden layers.
            scaled: whether x is divided by sqrt(1 + sigma²) first.
        """
        super().__init__()
        self.scaled, layers = scaled, []
        for inward, outward in zip((size + 2, *hidden), hidden, strict=False):
            layers += [nn.Linear(inward, outward), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden[-1], size))

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the noise in x, `(batch, size)`; labels `(batch,)` are ln(sigma)."""
        label = add_class(None, label, cond)[:, None]
        x = x / (1 + (2 * label).exp()).sqrt() if self.scaled else x
        y: Tensor = self.net(torch.cat([x, (label / 2).sin(), (label / 2).cos()], dim=1))
        return y


@register("network", "smalldiffusion")
@dataclass(frozen=True, config=COMPONENT)
class SmallDiffusionConfig(NetworkConfig):
    """Settings of smalldiffusion's linear layers, for vectors without classes.

    Attributes:
        hidden: units of the hidden layers.
        scaled: whether x is divided by sqrt(1 + sigma²) first.
    """

    hidden: Annotated[tuple[Annotated[int, Bound(ge=1)], ...], Bound(min_length=1)] = (16, 128, 256, 128, 16)
    scaled: bool = False

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        if len(shape) != 1 or classes:
            raise ScorefieldError(
                f"got samples of shape {shape} with {classes} classes, expected vectors without: use network=mlp"
            )
        return SigmaMLP(shape[0], self.hidden, scaled=self.scaled)
