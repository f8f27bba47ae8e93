"""What the settings of all networks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


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
