"""A noise-conditioned U-Net for signals, images and volumes of any size: residual blocks, down, attention, up, with skips.

The input may be folded first (`patch`: space to depth), which moves work from many small convolutions to few large ones; sizes
that do not divide are padded with their edge and cut back. The same code convolves along the one axis of a signal, the two of
an image and the three of a volume. Every block is conditioned on the noise (and the class) by a scale and shift after its
second normalisation. The last convolution starts at 0, so the network starts at y = 0.

References: Ronneberger, Fischer, Brox (2015), "U-Net", arXiv 1505.04597. Ho, Jain, Abbeel (2020), arXiv 2006.11239.
Dhariwal, Nichol (2021), "Diffusion models beat GANs on image synthesis", arXiv 2105.05233.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import renamed
from scorefield.nets.base import NetworkConfig, axes_of, convolution
from scorefield.nets.embeddings import NoiseEmbedding, add_class, class_embedding
from scorefield.registry import COMPONENT, register


def fold(x: Tensor, patch: int) -> Tensor:
    """Return `(batch, channels, ...)` with `patch` places along every axis folded into channels.

    >>> fold(torch.arange(6).reshape(1, 1, 6), 2)
    tensor([[[0, 2, 4],
             [1, 3, 5]]])
    """
    if patch == 1:
        return x
    batch, channels, *size = x.shape
    axes, coarse = len(size), [places // patch for places in size]
    cut = x.reshape(batch, channels, *(length for places in coarse for length in (places, patch)))
    inside, outside = range(3, 3 + 2 * axes, 2), range(2, 2 + 2 * axes, 2)
    return cut.permute(0, 1, *inside, *outside).reshape(batch, channels * patch**axes, *coarse)


def unfold(x: Tensor, patch: int) -> Tensor:
    """Undo `fold`."""
    if patch == 1:
        return x
    batch, channels, *coarse = x.shape
    axes, channels = len(coarse), channels // patch ** len(coarse)
    cut = x.reshape(batch, channels, *(patch,) * axes, *coarse)
    pairs = (axis for first in range(2, 2 + axes) for axis in (first + axes, first))
    return cut.permute(0, 1, *pairs).reshape(batch, channels, *(places * patch for places in coarse))


def _groups(channels: int) -> nn.GroupNorm:
    """GroupNorm with 8 to 16 channels a group where the number allows it."""
    groups = next(g for g in (channels // 8, channels // 16, 4, 2, 1) if g and channels % g == 0)
    return nn.GroupNorm(groups, channels)


class Block(nn.Module):
    """norm, SiLU, 3x3, norm·(1 + scale) + shift, SiLU, dropout, 3x3, and the residual sum."""

    def __init__(self, inward: int, outward: int, condition: int, dropout: float, axes: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = _groups(inward), _groups(outward)
        self.conv1, self.conv2 = convolution(axes, inward, outward, 3), convolution(axes, outward, outward, 3)
        self.condition = nn.Linear(condition, 2 * outward)
        self.drop = nn.Dropout(dropout)
        self.skip = convolution(axes, inward, outward, 1) if inward != outward else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # type: ignore[arg-type]  # every block starts as the identity
        self.register_load_state_dict_pre_hook(renamed.parts)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.condition(condition).reshape(h.shape[0], -1, *(1,) * (h.ndim - 2)).chunk(2, dim=1)
        h = self.drop(F.silu(self.norm2(h) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + self.conv2(h)
        return out


class Attention(nn.Module):
    """Self-attention between positions, added to its input.

    It is written out because torch's fused kernels have no second derivative, which energies and sliced matching need; at the
    coarsest resolution there are few positions, so they would save little time.
    """

    def __init__(self, channels: int, heads: int, axes: int = 2) -> None:
        super().__init__()
        self.heads, self.norm = heads, _groups(channels)
        self.qkv, self.out = convolution(axes, channels, 3 * channels, 1), convolution(axes, channels, channels, 1)
        nn.init.zeros_(self.out.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1).transpose(-1, -2).unbind(1)
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        mixed = (weights @ v).transpose(-1, -2).reshape(x.shape)
        out: Tensor = x + self.out(mixed)
        return out


class UNet(nn.Module):
    """A U-Net conditioned on the noise level: on ln(sigma) by default, or on a level index.

    >>> UNet((1, 8, 8), channels=(16, 32))(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])
    >>> UNet((2, 3, 8, 7), channels=(8, 16))(torch.zeros(1, 2, 3, 8, 7), torch.zeros(1)).shape
    torch.Size([1, 2, 3, 8, 7])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: tuple[int, ...] = (32, 64),
        blocks: int = 2,
        attention: bool = True,
        patch: int = 1,
        dropout: float = 0.0,
        levels: int | None = None,
        classes: int = 0,
    ) -> None:
        """Build it.

        Args:
            shape: (channels, length) of a signal, (channels, height, width) of an image or (channels, depth, height, width)
                of a volume.
            channels: feature channels at each resolution, finest first; each is half the resolution of the one before.
            blocks: residual blocks per resolution, down and up.
            attention: self-attention at the coarsest resolution.
            patch: fold patch steps of a signal, patch x patch pixels or patch x patch x patch voxels into channels first.
            dropout: probability, in [0, 1).
            levels: None for a continuous noise label such as ln(sigma); L for a level index 0..L-1.
            classes: number of class labels, 0 for none.
        """
        super().__init__()
        axes = axes_of(shape)
        condition, inward = 4 * channels[0], shape[0] * patch**axes
        self.patch, self.multiple = patch, patch * 2 ** (len(channels) - 1)
        self.embed, self.classes = NoiseEmbedding(condition, levels=levels), class_embedding(classes, condition)
        self.first = convolution(axes, inward, channels[0], 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        stack, here = [channels[0]], channels[0]
        for level, width in enumerate(channels):
            if level:
                self.down.append(convolution(axes, here, here, 3, stride=2))
                stack.append(here)
            for _ in range(blocks):
                self.down.append(Block(here, width, condition, dropout, axes))
                here = width
                stack.append(here)
        heads = next(n for n in range(max(1, here // 64), 0, -1) if here % n == 0)
        self.middle = nn.ModuleList([Block(here, here, condition, dropout, axes)])
        if attention:
            self.middle.extend([Attention(here, heads, axes), Block(here, here, condition, dropout, axes)])
        for level, width in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(Block(here + stack.pop(), width, condition, dropout, axes))
                here = width
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.norm, self.last = _groups(here), convolution(axes, here, inward, 3)
        nn.init.zeros_(self.last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`, from labels `(batch,)`."""
        condition = F.silu(add_class(self.classes, self.embed(label), cond))
        size = x.shape[2:]
        extra = [end for places in reversed(size) for end in (0, -places % self.multiple)]  # the last axis comes first
        if any(extra):
            x = F.pad(x, extra, mode="replicate")
        h = self.first(fold(x, self.patch))
        skips = [h]
        for layer in self.down:
            h = layer(h, condition) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, condition) if isinstance(layer, Block) else layer(h)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), condition) if isinstance(layer, Block) else layer(h)
        y = unfold(self.last(F.silu(self.norm(h))), self.patch)
        for axis, places in enumerate(size, start=2):
            y = y.narrow(axis, 0, places)
        return y


@register("network", "unet")
@dataclass(frozen=True, config=COMPONENT)
class UNetConfig(NetworkConfig):
    """Settings of the `UNet`; `levels` goes with a parametrisation whose label is that number.

    Attributes:
        channels: feature channels at each resolution, finest first; each is half the resolution of the one before.
        blocks: residual blocks at each resolution, on the way down and on the way up.
        attention: whether there is self-attention at the coarsest resolution.
        patch: folds patch steps, patch x patch pixels or patch x patch x patch voxels into channels first.
        dropout: probability, in [0, 1).
        levels: None for a continuous noise label such as ln(sigma); L for a level index 0..L-1.
    """

    channels: Annotated[tuple[Annotated[int, Bound(ge=4)], ...], Bound(min_length=1)] = (32, 64)
    blocks: Annotated[int, Bound(ge=1)] = 2
    attention: bool = True
    patch: Annotated[int, Bound(ge=1)] = 1
    dropout: Annotated[float, Bound(ge=0, lt=1)] = 0.0
    levels: Annotated[int, Bound(ge=2)] | None = None

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        return UNet(
            shape,
            channels=self.channels,
            blocks=self.blocks,
            attention=self.attention,
            patch=self.patch,
            dropout=self.dropout,
            levels=self.levels,
            classes=classes,
        )
