"""A network that is conditioned on what is known of each cell of its input: with noise, as it is, or not at all.

    noisy      x_t of the cell; the network's output is read there
    given      x0 of the cell, without noise, where the network takes such; its output is not read there
    unknown    neither; its output is not read there

    input     [x_t or 0, 1 where noisy and else 0]    twice the channels, or coordinates
              [x_t or 0, x0 or 0, 1 where noisy and else 0, 1 where given and else 0, a guess of x0]
                                                      five times, where cells may be given: the guess is of `mixture.py`
    output    the first of as many parts of the network's own, 0 where the cell is not noisy

The network so learns p(noisy cells | given cells), unknown ones left out, for each choice of them. Cells that no example knows
are unknown whatever they hold, so that a sampler, whose state has a number everywhere, finds the network as it was trained.

References: Ouyang, Xie, Li, Cheng (2023), "MissDiff: training diffusion models on tabular data with missing values",
arXiv 2307.00467, whose loss counts observed values alone. Tashiro, Song, Song, Ermon (2021), "CSDI: conditional score-based
diffusion models for probabilistic time series imputation", arXiv 2107.03502, whose network is given clean values and a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefield.nets.mixture import MixturePart


class KnownCells(nn.Module):
    """Any network of more channels, as one whose input may hold NaN.

    >>> from scorefield.nets.mlp import MLP
    >>> network = KnownCells(MLP((4,), width=16), torch.tensor([False, False]))
    >>> network(torch.tensor([[0.5, torch.nan]]), torch.zeros(1)).isnan().any()
    tensor(False)
    """

    takes_unknown = True

    def __init__(self, network: nn.Module, absent: Tensor, mixture: MixturePart | None = None) -> None:
        """Hold the parts.

        Args:
            network: `network(x, label, cond) -> y`, with x and y `(batch, *widened(shape))`.
            absent: cells that no example knows, the shape of one sample, bool.
            mixture: what is known of the data before the network learns; with it cells may be given.
        """
        super().__init__()
        self.network, self.mixture = network, mixture
        self.absent: Tensor
        self.register_buffer("absent", absent.clone(), persistent=False)  # the run's manifest holds it

    @property
    def takes_given(self) -> bool:
        """Whether cells may be given."""
        return self.mixture is not None

    def explained(self, z: Tensor, lam: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the mixture says of z = x_t/alpha; see `MixturePart`."""
        assert self.mixture is not None
        found: tuple[Tensor, Tensor] = self.mixture(torch.where(self.absent, torch.nan, z), lam, given)
        return found

    def forward(
        self,
        x: Tensor,
        label: Tensor,
        cond: Tensor | None = None,
        given: Tensor | None = None,
        guess: Tensor | None = None,
    ) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`; it depends on no number in an unknown cell.

        Args:
            x: the scaled input, NaN where a cell is not noisy.
            label: of the noise.
            cond: classes, or None.
            given: x0 where a cell is given and NaN elsewhere, or None for none given.
            guess: of x0 in all cells (`mixture.py`), for a network that takes given cells.
        """
        noisy = ~(x.isnan() | self.absent)
        parts = [torch.where(noisy, x, 0.0), noisy.to(x.dtype)]
        if self.takes_given:
            clean = torch.full_like(x, torch.nan) if given is None else given
            parts[1:1] = [clean.nan_to_num(nan=0.0)]
            parts += [(~clean.isnan()).to(x.dtype), x.new_zeros(x.shape) if guess is None else guess]
        y: Tensor = self.network(torch.cat(parts, dim=1), label, cond)
        return torch.where(noisy, y[:, : x.shape[1]], 0.0)


def widened(shape: tuple[int, ...], takes_given: bool = False) -> tuple[int, ...]:
    """Return the shape of what the inner network is given for a sample of this shape.

    >>> widened((3, 8, 8)), widened((2,), takes_given=True)
    ((6, 8, 8), (10,))
    """
    return (5 if takes_given else 2) * shape[0], *shape[1:]
