"""smalldiffusion's U-Net of images: DDPM's blocks, told two numbers about the noise and, of some, a class.

    e = L2(silu(L1[sin(ln(sigma)/2), cos(ln(sigma)/2)])) [+ L3(silu(row of the class))]      the condition of every block
    h = conv(x/r);  down: (block [attention])·n, conv with stride 2;  middle: block, attention, block;
    up: (block of [h, skip] [attention])·(n + 1), nearest neighbour x2 and conv;  y = conv(silu(norm(h)))

    block       S·h + conv(silu(norm(conv(silu(norm(h))) + W·silu(e))))            S = 1, or a 1 x 1 convolution
    attention   h + P·(Q·softmax(q·k/sqrt(width))·v + b)                           q, k, v without bias, of norm(h); one head
    r           sqrt(1 + sigma²) for a scaled one, else 1

Its output is the noise of x = x0 + sigma·noise, of images in [-1, 1]. The last row of the classes is that of no class.

References: Permenter, Yuan (2024), arXiv 2306.04848. Ho, Jain, Abbeel (2020), arXiv 2006.11239, appendix B, for the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, pairwise, takewhile
from typing import Annotated

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from scorefield.errors import ScorefieldError
from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import add_class, class_embedding
from scorefield.registry import COMPONENT, register

GROUPS, EPS = 32, 1e-6  # of every normalisation
Positive = Annotated[int, Bound(ge=1)]


@register("network", "smalldiffusion-unet")
@dataclass(frozen=True, config=COMPONENT)
class SmallDiffusionUNetConfig(NetworkConfig):
    """Settings of smalldiffusion's U-Net of images, with or without classes; the defaults are those for CIFAR-10.

    Attributes:
        channels: after the first convolution, a multiple of 32.
        multipliers: channels at each resolution in units of that, finest first.
        blocks: residual blocks per resolution, down; one more up.
        attention: the resolutions with attention, 0 for the finest; the middle has it anyway.
        condition: size of e.
        scaled: whether x is divided by sqrt(1 + sigma²) first.
        dropout: probability, in [0, 1).
    """

    channels: Annotated[int, Bound(ge=GROUPS, multiple_of=GROUPS)] = 128
    multipliers: Annotated[tuple[Positive, ...], Bound(min_length=1)] = (1, 2, 2, 2)
    blocks: Positive = 2
    attention: tuple[Annotated[int, Bound(ge=0)], ...] = (1,)
    condition: Positive = 512
    scaled: bool = True
    dropout: Annotated[float, Bound(ge=0, lt=1)] = 0.1

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        parts = 2 ** (len(self.multipliers) - 1)
        if len(shape) != 3 or any(side % parts for side in shape[1:]):
            raise ScorefieldError(
                f"got samples of shape {shape} for a smalldiffusion-unet of {len(self.multipliers)} resolutions, expected "
                f"(channels, height, width) with sides that {parts} divides: choose another size"
            )
        return SigmaUNet(self, shape[0], classes)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], *, scaled: bool = True) -> SmallDiffusionUNetConfig:
        """Return the settings of a network by the names and shapes of its tensors.

        Args:
            weights: its state dict.
            scaled: which no tensor says.

        Raises:
            LookupError: a tensor without which they are not known is missing.
        """
        channels = weights["conv_in.weight"].shape[0]
        levels = list(takewhile(lambda i: f"downs.{i}.blocks.0.0.layer1.2.weight" in weights, count()))
        blocks = list(takewhile(lambda j: f"downs.0.blocks.{j}.0.layer1.2.weight" in weights, count()))
        return cls(
            channels=channels,
            multipliers=tuple(weights[f"downs.{i}.blocks.0.0.layer1.2.weight"].shape[0] // channels for i in levels),
            blocks=len(blocks),
            attention=tuple(i for i in levels if any(name.startswith(f"downs.{i}.blocks.0.1.") for name in weights)),
            condition=weights["sig_embed.mlp.2.weight"].shape[0],
            scaled=scaled,
        )


def _conv(inward: int, outward: int, *before: nn.Module) -> nn.Sequential:
    """Return a normalisation, SiLU, what comes between, and a convolution."""
    return nn.Sequential(nn.GroupNorm(GROUPS, inward, EPS), nn.SiLU(), *before, nn.Conv2d(inward, outward, 3, padding=1))


class Block(nn.Module):
    """A residual block with a condition."""

    def __init__(self, config: SmallDiffusionUNetConfig, inward: int, outward: int) -> None:
        super().__init__()
        self.layer1 = _conv(inward, outward)
        self.temb_proj = nn.Sequential(nn.SiLU(), nn.Linear(config.condition, outward))
        self.layer2 = _conv(outward, outward, nn.Dropout(config.dropout))
        self.shortcut = nn.Conv2d(inward, outward, 1) if inward != outward else None

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        inner = self.layer1(h) + self.temb_proj(condition)[:, :, None, None]
        out: Tensor = (h if self.shortcut is None else self.shortcut(h)) + self.layer2(inner)
        return out


class Attention(nn.Module):
    """Self-attention between pixels, added to its input; written out, because it is differentiated twice (`nets/unet.py`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=False), "proj": nn.Linear(width, width)})
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return it in the shape of h; the condition is of no use here."""
        q, k, v = self.attn["qkv"](self.norm(h).flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        mixed = self.attn["proj"](torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1) @ v)
        out: Tensor = h + self.proj_out(mixed.transpose(1, 2).unflatten(2, h.shape[2:]))
        return out


class Steps(nn.ModuleList):
    """Blocks and attention, one after the other, each with the same condition."""

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        for step in self:
            h = step(h, condition)
        return h


class Stage(nn.Module):
    """The blocks of one resolution: with attention behind each or none, and a change of size, by its name, in the end."""

    def __init__(self, config: SmallDiffusionUNetConfig, inward: list[int], width: int, attends: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Steps([Block(config, size, width), *([Attention(width)] if attends else [])]) for size in inward
        )

    def resized(self, h: Tensor) -> Tensor | None:
        """Return it at the next resolution; None of the last stage."""
        change = getattr(self, "downsample", getattr(self, "upsample", None))
        return None if change is None else change(h)


class ClassEmbedding(nn.Module):
    """A row of each class, the last for none, and a linear layer behind SiLU."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embeddings = class_embedding(classes, width)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, width))

    def forward(self, like: Tensor, cond: Tensor | None) -> Tensor:
        out: Tensor = self.mlp(add_class(self.embeddings, torch.zeros_like(like), cond))
        return out


class SigmaEmbedding(nn.Module):
    """Two linear layers on sine and cosine of ln(sigma)/2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, label: Tensor) -> Tensor:
        out: Tensor = self.mlp(torch.stack([(label / 2).sin(), (label / 2).cos()], dim=1))
        return out


class SigmaUNet(nn.Module):
    """Images and ln(sigma) -> the noise in them.

    >>> config = SmallDiffusionUNetConfig(channels=32, multipliers=(1, 2), blocks=1)
    >>> SigmaUNet(config, 1)(torch.zeros(2, 1, 8, 12), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 12])
    """

    def __init__(self, config: SmallDiffusionUNetConfig, channels: int, classes: int = 0) -> None:
        """Build it.

        Args:
            config: its settings.
            channels: of an image.
            classes: number of class labels; 0 for none.
        """
        super().__init__()
        self.scaled, widths = config.scaled, [config.channels * one for one in (1, *config.multipliers)]
        coarsest = len(config.multipliers) - 1
        self.sig_embed = SigmaEmbedding(config.condition)
        self.cond_embed = ClassEmbedding(classes, config.condition) if classes else None
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.downs = nn.ModuleList()
        for level, (finer, width) in enumerate(pairwise(widths)):
            stage = Stage(config, [finer] + [width] * (config.blocks - 1), width, level in config.attention)
            if level < coarsest:
                stage.downsample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2))
            self.downs.append(stage)
        middle = widths[-1]
        self.mid = Steps([Block(config, middle, middle), Attention(middle), Block(config, middle, middle)])
        self.ups = nn.ModuleList()
        for level in range(coarsest, -1, -1):
            finer, width, coarser = widths[level], widths[level + 1], widths[min(level + 1, coarsest) + 1]
            inward = [coarser + width] + [2 * width] * (config.blocks - 1) + [width + finer]
            stage = Stage(config, inward, width, level in config.attention)
            if level:
                stage.upsample = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1))
            self.ups.append(stage)
        self.out_layer = _conv(widths[1], channels)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the noise in x, `(batch, channels, height, width)`; labels `(batch,)` are ln(sigma)."""
        e = self.sig_embed(label)
        e = add_class(None, e, cond) if self.cond_embed is None else e + self.cond_embed(e, cond)
        skips = [self.conv_in(x * (1 + (2 * label).exp()).rsqrt()[:, None, None, None] if self.scaled else x)]
        for stage in self.downs:
            assert isinstance(stage, Stage)
            for steps in stage.blocks:
                skips.append(steps(skips[-1], e))
            if (smaller := stage.resized(skips[-1])) is not None:
                skips.append(smaller)
        h = self.mid(skips[-1], e)
        for stage in self.ups:
            assert isinstance(stage, Stage)
            for steps in stage.blocks:
                h = steps(torch.cat([h, skips.pop()], dim=1), e)
            h = h if (larger := stage.resized(h)) is None else larger
        y: Tensor = self.out_layer(h)
        return y
