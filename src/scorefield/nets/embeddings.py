"""Embeddings: from the noise label, one number, to a vector that a network can use.

There are two kinds. A *level index* j = 0..L-1 gets a learned row of a table (NCSN 2019): nothing is shared between levels. A
*continuous* label u, such as ln(sigma), gets sines and cosines of u at geometrically spaced frequencies and two linear layers,
so that neighbouring levels share what they learn and levels that training does not visit are interpolated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import ScorefieldError

SEEN = 27  # classes of which each is seen often enough to begin as N(0, 1)


class NoiseEmbedding(nn.Module):
    """Noise label -> vector: a learned table of level indices, or Fourier features and an MLP.

    >>> NoiseEmbedding(32)(torch.tensor([0.1, 2.0])).shape
    torch.Size([2, 32])
    """

    def __init__(self, width: int, *, levels: int | None = None) -> None:
        """Build the embedding.

        Args:
            width: size of the vector.
            levels: None for a continuous label; L for a table of L level indices (0 is the noisiest).
        """
        super().__init__()
        self.levels = levels
        if levels is None:
            half = max(width // 4, 4)
            self.frequencies: Tensor
            # On a CPU first: on the device "meta", where only weights are counted, linspace imports torch's compiler.
            found = torch.exp(torch.linspace(math.log(0.25), math.log(16.0), half, device="cpu"))
            self.register_buffer("frequencies", found.to(torch.get_default_device()))
            self.layers = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width))
        else:
            self.table = nn.Embedding(levels, width)

    def index(self, label: Tensor) -> Tensor:
        """Return the level of each label, `(batch,)`, int64; a table of L entries has no index L."""
        assert self.levels is not None
        step = label.round().long()
        if not torch.compiler.is_compiling() and bool(((step < 0) | (step >= self.levels)).any()):  # a graph has no errors
            raise ScorefieldError(
                f"got level {int(step.max())} (or {int(step.min())}), expected 0 to {self.levels - 1}: this network knows "
                f"{self.levels} levels only; sample with the ladder it was trained on"
            )
        return step

    def forward(self, label: Tensor) -> Tensor:
        """Return `(batch, width)` from labels `(batch,)`."""
        if self.levels is not None:
            row: Tensor = self.table(self.index(label))
            return row
        angle = label[:, None] * self.frequencies * math.pi
        out: Tensor = self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))
        return out


def class_embedding(classes: int, width: int) -> nn.Embedding | None:
    """Return a table for `classes` labels plus one row (the last) for "no label", or None when there are no classes.

    Its numbers begin as N(0, min(1, SEEN/classes)). Rows of N(0, 1) are noise that the network has to unlearn, and a row of
    many is seen seldom: with 300 of them the error of p(x) at low noise was 25 % above that of a network without classes, with
    rows of zero 5 %. Few are learned sooner from N(0, 1).
    """
    if not classes:
        return None
    table = nn.Embedding(classes + 1, width)
    with torch.no_grad():
        table.weight.mul_(min(1.0, math.sqrt(SEEN / classes)))
    return table


def add_class(table: nn.Embedding | None, vector: Tensor, cond: Tensor | None) -> Tensor:
    """Add the embedding of the class labels `(batch,)`, or of "no label", to `(batch, width)`."""
    if table is None:
        if cond is not None:
            raise ScorefieldError("got class labels, expected none: this network was trained without classes")
        return vector
    no_label = table.num_embeddings - 1
    if cond is None:
        return vector + F.embedding(torch.full((vector.shape[0],), no_label, device=vector.device), table.weight)
    return vector + F.embedding(_labels(cond, no_label), table.weight)


def _labels(cond: Tensor, no_label: int) -> Tensor:
    """Return class labels as int64; raises `ScorefieldError` for those without a row in the table."""
    if cond.ndim != 1 or cond.is_floating_point() or cond.is_complex() or cond.dtype == torch.bool:
        raise ScorefieldError(
            f"got class labels of shape {tuple(cond.shape)} and type {cond.dtype}, expected one whole number per sample: "
            f"0 to {no_label - 1}: make them with torch.tensor([...])"
        )
    # Only on a CPU: elsewhere the check would wait for the device at every evaluation, and the table's own check refuses it.
    checks = cond.device.type == "cpu" and not torch.compiler.is_compiling()
    if checks and bool(((cond < 0) | (cond > no_label)).any()):
        raise ScorefieldError(
            f"got class labels from {int(cond.min())} to {int(cond.max())}, expected 0 to {no_label - 1} (or {no_label} for "
            f"any class): this network was trained with {no_label} classes"
        )
    return cond.long()
