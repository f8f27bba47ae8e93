"""A noise-aware classifier: which class a noisy sample is of, at every noise level.

Vectors go through residual linear layers; signals, images and volumes through residual blocks of convolutions, each followed by
halving the resolution, to the mean over what is left. Every layer is conditioned on the noise label, as in the score networks.
Everything is smooth (SiLU, means and no maxima), because guidance follows the gradient by the input.

Reference: Dhariwal, Nichol (2021), "Diffusion models beat GANs on image synthesis", arXiv 2105.05233, section 4.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.nets.base import axes_of, convolution
from scorefield.nets.embeddings import NoiseEmbedding
from scorefield.nets.unet import Block

SMALLEST = 4  # places along an axis, below which the resolution is not halved


class Classifier(nn.Module):
    """Noisy samples and their noise labels -> logits, `(batch, classes)`.

    >>> import torch
    >>> Classifier((1, 8, 8), 3)(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape, Classifier((2,), 3)(
    ...     torch.zeros(2, 2), torch.zeros(2)
    ... ).shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int = 32, depth: int = 3) -> None:
        """Build it.

        Args:
            shape: of one sample: (d,) of a vector, else (channels, places...).
            classes: how many.
            width: channels at the finest resolution, twice as many at each coarser one; of vectors four times as many units.
            depth: resolutions at most, or layers.
        """
        super().__init__()
        self.places = len(shape) > 1
        if self.places:
            axes, smallest = axes_of(shape), min(shape[1:])
            halvings = min(depth - 1, max(0, int(math.log2(max(1, smallest / SMALLEST)))))
            self.embed = NoiseEmbedding(4 * width)
            self.first: nn.Module = convolution(axes, shape[0], width, 3)
            widths = [width * 2**level for level in range(halvings + 1)]
            self.blocks = nn.ModuleList(
                Block(before, after, 4 * width, 0.0, axes) for before, after in zip([width, *widths[:-1]], widths, strict=True)
            )
            self.down = nn.ModuleList(convolution(axes, after, after, 3, stride=2) for after in widths[:-1])
            self.head = nn.Linear(widths[-1], classes)
        else:
            units = 4 * width
            self.embed = NoiseEmbedding(units)
            self.first = nn.Linear(math.prod(shape), units)
            self.blocks = nn.ModuleList(nn.Linear(units, units) for _ in range(depth))
            self.condition = nn.ModuleList(nn.Linear(units, units) for _ in range(depth))
            self.head = nn.Linear(units, classes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return logits of scaled noisy samples `(batch, *shape)` with noise labels `(batch,)`."""
        condition = F.silu(self.embed(label))
        h = self.first(x)
        if self.places:
            for level, block in enumerate(self.blocks):
                h = block(h, condition)
                h = self.down[level](h) if level < len(self.down) else h
            h = h.flatten(2).mean(dim=2)
        else:
            for layer, add in zip(self.blocks, self.condition, strict=True):
                h = h + layer(F.silu(h + add(condition)))
        logits: Tensor = self.head(F.silu(h))
        return logits
