"""What networks have in common: their settings, and a convolution over one, two or three axes.

Signals `(channels, length)`, images `(channels, height, width)` and volumes `(channels, depth, height, width)` go through the
same networks. They differ in the number of axes that are convolved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from scorefield.errors import ScorefieldError

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def axes_of(shape: tuple[int, ...]) -> int:
    """Return over how many axes samples of a shape are convolved.

    Raises:
        ScorefieldError: a shape without axes behind the channels, or with more than three.

    >>> axes_of((1, 8, 16, 16))
    3
    """
    if len(shape) - 1 not in CONVOLUTIONS:
        raise ScorefieldError(
            f"got samples of shape {shape}, expected (channels, length), (channels, height, width) or (channels, depth, "
            "height, width): use the mlp for vectors"
        )
    return len(shape) - 1


def convolution(axes: int, inward: int, outward: int, side: int, *, stride: int = 1, dilation: int = 1) -> nn.Module:
    """Return a convolution over that many axes, which keeps the size up to its stride."""
    return CONVOLUTIONS[axes](inward, outward, side, stride=stride, padding=dilation * (side // 2), dilation=dilation)


class NetworkConfig(ABC):
    """Settings of a network: a frozen, validated dataclass of plain values, registered as a `network`.

    Attributes:
        levels: rows of the network's table of noise levels, which takes the labels 0, 1, ..., levels - 1; None for a network
            that takes any real number as its label.
    """

    levels: int | None = None

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return the network with fresh weights, `network(x, label, cond) -> y`.

        Args:
            shape: shape of one sample; x and y are `(batch, *shape)`, label and cond `(batch,)`.
            classes: number of class labels, 0 for none.

        Raises:
            ScorefieldError: samples of a shape that the network does not take.
        """
