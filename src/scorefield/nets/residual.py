"""The noise-conditioned residual block, and a network that is a stack of them.

    h = x + e(level)                    the level's embedding, one number a channel, added before the block
    h = conv1x1(relu(conv3x3(relu(conv1x1(h)))))
    y = x + h                           the residual sum

Three small convolutions (bottleneck) keep a deep stack cheap; the 3x3 convolutions are dilated in turn (1, 2, 4), so that a
few blocks see the whole of a small image without losing resolution. With `levels` every noise level has its own embedding, as
in NCSN (2019); without, levels share one embedding of ln(sigma). The equations are those of images; signals are convolved along
their one axis and volumes along their three.

A block's second derivative is zero almost everywhere (ReLU), so an energy made of such blocks has a degenerate Hessian and a
score that jumps: train this network as a score, by denoising score matching.

References: He, Zhang, Ren, Sun (2016), "Deep residual learning", arXiv 1512.03385. Song, Ermon (2019), arXiv 1907.05600.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import renamed
from scorefield.nets.base import NetworkConfig, axes_of, convolution
from scorefield.nets.embeddings import NoiseEmbedding, add_class, class_embedding
from scorefield.registry import COMPONENT, register


class NoiseConditionedBlock(nn.Module):
    """1x1, ReLU, 3x3, ReLU, 1x1 on x plus the level's embedding, and the residual sum.

    >>> import torch
    >>> block = NoiseConditionedBlock(16, condition=8)
    >>> block(torch.zeros(2, 16, 8, 8), torch.zeros(2, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(self, channels: int, condition: int, *, dilation: int = 1, axes: int = 2) -> None:
        """Build it.

        Args:
            channels: of input and output; the 3x3 convolution works on half of them.
            condition: size of the vector that embeds the noise level.
            dilation: of the 3x3 convolution.
            axes: that are convolved, 1 to 3.
        """
        super().__init__()
        inner = max(channels // 2, 1)
        self.condition = nn.Linear(condition, channels)
        self.conv1, self.conv3 = convolution(axes, channels, inner, 1), convolution(axes, inner, channels, 1)
        self.conv2 = convolution(axes, inner, inner, 3, dilation=dilation)
        # A stack of residual sums grows with its depth unless each block starts small.
        nn.init.normal_(self.conv3.weight, std=1e-2)  # type: ignore[arg-type]
        self.register_load_state_dict_pre_hook(renamed.parts)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return `(batch, channels, ...)` from x of that shape and the level's vector, `(batch, size)`."""
        h = x + self.condition(condition).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
        out: Tensor = x + self.conv3(F.relu(self.conv2(F.relu(self.conv1(h)))))
        return out


class ConditionedResNet(nn.Module):
    """A stack of noise-conditioned blocks between two 3x3 convolutions, at the image's own resolution.

    >>> import torch
    >>> ConditionedResNet((1, 8, 8), width=16, blocks=2, levels=10)(torch.zeros(2, 1, 8, 8), torch.tensor([0.0, 9.0])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self, shape: tuple[int, ...], *, width: int = 64, blocks: int = 9, levels: int | None = None, classes: int = 0
    ) -> None:
        """Build it.

        Args:
            shape: (channels, length) of a signal, (channels, height, width) of an image or (channels, depth, height, width)
                of a volume.
            width: feature channels.
            blocks: number of blocks.
            levels: None for a continuous noise label such as ln(sigma); L for a level index 0..L-1.
            classes: number of class labels, 0 for none.
        """
        super().__init__()
        axes = axes_of(shape)
        self.embed, self.classes = NoiseEmbedding(width, levels=levels), class_embedding(classes, width)
        self.first, self.last = convolution(axes, shape[0], width, 3), convolution(axes, width, shape[0], 3)
        self.blocks = nn.ModuleList(
            NoiseConditionedBlock(width, width, dilation=2 ** (i % 3), axes=axes) for i in range(blocks)
        )
        self.norm = nn.GroupNorm(1, width)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`, from labels `(batch,)`."""
        condition = add_class(self.classes, self.embed(label), cond)
        h = self.first(x)
        for block in self.blocks:
            h = block(h, condition)
        y: Tensor = self.last(F.relu(self.norm(h)))
        return y


@register("network", "residual")
@dataclass(frozen=True, config=COMPONENT)
class ResidualConfig(NetworkConfig):
    """Settings of the `ConditionedResNet`; `levels` goes with a parametrisation whose label is that number.

    Attributes:
        width: feature channels.
        blocks: number of blocks.
        levels: None for a continuous noise label such as ln(sigma); L for a level index 0..L-1.
    """

    width: Annotated[int, Bound(ge=2)] = 64
    blocks: Annotated[int, Bound(ge=1)] = 9
    levels: Annotated[int, Bound(ge=2)] | None = None

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        return ConditionedResNet(shape, width=self.width, blocks=self.blocks, levels=self.levels, classes=classes)
