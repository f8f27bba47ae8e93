"""A network that is told which cells of its input are known: unknown ones are NaN.

    input     [x with 0 where it is unknown, 1 where it is known and 0 elsewhere]      twice the channels, or coordinates
    output    the first half of the network's own, 0 where the cell is unknown

The network so learns the marginal of the known cells, for each set of them: what it is given of an unknown cell is that it is
unknown, and what it says of one is never read. Cells that no example knows are unknown whatever they hold, so that a sampler,
whose state has a number everywhere, finds the network as it was trained.

Reference: Ouyang, Xie, Li, Cheng (2023), "MissDiff: training diffusion models on tabular data with missing values",
arXiv 2307.00467, whose loss counts observed values alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KnownCells(nn.Module):
    """Any network of twice the channels, as one whose input may hold NaN.

    >>> from scorefield.nets.mlp import MLP
    >>> network = KnownCells(MLP((4,), width=16), torch.tensor([False, False]))
    >>> network(torch.tensor([[0.5, torch.nan]]), torch.zeros(1)).isnan().any()
    tensor(False)
    """

    def __init__(self, network: nn.Module, absent: Tensor) -> None:
        """Hold the parts.

        Args:
            network: `network(x, label, cond) -> y`, with x and y `(batch, 2·shape[0], *shape[1:])`.
            absent: cells that no example knows, the shape of one sample, bool.
        """
        super().__init__()
        self.network = network
        self.absent: Tensor
        self.register_buffer("absent", absent.clone(), persistent=False)  # the run's manifest holds it

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`; it depends on no number in an unknown cell."""
        known = ~(x.isnan() | self.absent)
        seen = torch.where(known, x, 0.0)
        y: Tensor = self.network(torch.cat([seen, known.to(x.dtype)], dim=1), label, cond)
        return torch.where(known, y[:, : x.shape[1]], 0.0)


def doubled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what the inner network is given for a sample of this shape.

    >>> doubled((3, 8, 8)), doubled((2,))
    ((6, 8, 8), (4,))
    """
    return 2 * shape[0], *shape[1:]
