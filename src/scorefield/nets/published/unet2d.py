"""UNet2DModel of diffusers, rebuilt: a U-Net of images whose tensors have its names, so that weights come and go unchanged.

    e = L2(silu(L1(features(label)))) [+ row of the class]          the condition of every block
    h = conv(x);  down: (block [attention])·n, conv with stride 2;  middle: block, attention, block;
    up: (block of [h, skip] [attention])·(n + 1), nearest neighbour x2 and conv;  y = conv(silu(norm(h)))

    block       h + conv2(act(norm2(conv1(act(norm1(h))) + W·act(e))))             "default"
                h + conv2(act(norm2(conv1(act(norm1(h))))·(1 + scale) + shift))    "scale_shift", (scale, shift) = W·act(e)

The label is the index t - 1 of a chain's step, of which "positional" takes cos and sin of label·10000^(-k/(half -
freq_shift)); or it is sigma, of which "fourier" takes sin and cos of 2·pi·w·ln(sigma) with fixed random w, and the output is
divided by sigma.

References: Ho, Jain, Abbeel (2020), arXiv 2006.11239, appendix B. Dhariwal, Nichol (2021), arXiv 2105.05233, for scale and
shift. Song et al. (2021), arXiv 2011.13456, for random Fourier features.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import ScorefieldError, unknown
from scorefield.nets.base import NetworkConfig
from scorefield.registry import COMPONENT, register

DOWN, UP = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D")
ACTIVATIONS = {"silu": nn.SiLU, "swish": nn.SiLU, "mish": nn.Mish, "gelu": nn.GELU, "relu": nn.ReLU}
Positive = Annotated[int, Bound(ge=1)]


@register("network", "unet2d")
@dataclass(frozen=True, config=COMPONENT)
class UNet2DConfig(NetworkConfig):
    """Settings of the `UNet2D`, by the names that config.json of a UNet2DModel has for them.

    Attributes:
        down_block_types: each "DownBlock2D" or "AttnDownBlock2D", finest first.
        up_block_types: each "UpBlock2D" or "AttnUpBlock2D", coarsest first.
        block_out_channels: channels at each resolution, finest first.
        layers_per_block: residual blocks per resolution, down; one more up.
        out_channels: None for those of a sample; twice as many where a variance is predicted, too, which is left out.
        attention_head_dim: channels of one head; None for a single head.
        norm_num_groups: of every group normalisation.
        attn_norm_num_groups: of that before the middle attention; None for norm_num_groups, or for no normalisation there with
            "scale_shift".
        norm_eps: added to the variance.
        act_fn: silu, swish, mish, gelu or relu.
        dropout: probability, in [0, 1).
        resnet_time_scale_shift: how a block is conditioned, "default" or "scale_shift".
        time_embedding_type: "positional" or "fourier".
        time_embedding_dim: of e; None for four times the first channels.
        flip_sin_to_cos: cosines before sines, of the positional features.
        freq_shift: of the positional features.
        center_input_sample: 2·x - 1 in place of x.
        add_attention: attention in the middle.
        mid_block_scale_factor: by which the sums of the middle are divided.
        downsample_padding: 1 on all sides, or 0 for one row and column at the end.
    """

    down_block_types: Annotated[tuple[str, ...], Bound(min_length=1)] = ("DownBlock2D", "AttnDownBlock2D")
    up_block_types: Annotated[tuple[str, ...], Bound(min_length=1)] = ("AttnUpBlock2D", "UpBlock2D")
    block_out_channels: tuple[Positive, ...] = (32, 64)
    layers_per_block: Positive = 2
    out_channels: Positive | None = None
    attention_head_dim: Positive | None = 8
    norm_num_groups: Positive = 32
    attn_norm_num_groups: Positive | None = None
    norm_eps: Annotated[float, Bound(gt=0)] = 1e-5
    act_fn: str = "silu"
    dropout: Annotated[float, Bound(ge=0, lt=1)] = 0.0
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    time_embedding_type: Literal["positional", "fourier"] = "positional"
    time_embedding_dim: Positive | None = None
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    center_input_sample: bool = False
    add_attention: bool = True
    mid_block_scale_factor: Annotated[float, Bound(gt=0)] = 1.0
    downsample_padding: Literal[0, 1] = 1

    @model_validator(mode="after")
    def _check(self) -> UNet2DConfig:
        for name, known in (*((name, DOWN) for name in self.down_block_types), *((name, UP) for name in self.up_block_types)):
            if name not in known:
                raise unknown("block of a UNet2DModel", name, known)
        if self.act_fn not in ACTIVATIONS:
            raise unknown("act_fn", self.act_fn, ACTIVATIONS)
        lengths = {len(self.down_block_types), len(self.up_block_types), len(self.block_out_channels)}
        if len(lengths) > 1:
            raise ScorefieldError(
                f"got {len(self.down_block_types)} blocks down, {len(self.up_block_types)} up and "
                f"{len(self.block_out_channels)} numbers of channels, expected as many of each: correct config.json"
            )
        for channels in self.block_out_channels:
            for name, part in (
                ("norm_num_groups", self.norm_num_groups),
                ("attention_head_dim", self.attention_head_dim or channels),
            ):
                if channels % part:
                    raise ScorefieldError(
                        f"got {channels} channels for {name}={part}, expected a multiple: correct config.json"
                    )
        return self

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        return UNet2D(self, shape, classes)


class Features(nn.Module):
    """Sines and cosines of the label; those of "fourier" have their frequencies among the weights."""

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        self.config, self.size = config, config.block_out_channels[0] * (1 + (config.time_embedding_type == "fourier"))
        if config.time_embedding_type == "fourier":
            self.weight = nn.Parameter(16 * torch.randn(config.block_out_channels[0]), requires_grad=False)

    def forward(self, label: Tensor) -> Tensor:
        if self.config.time_embedding_type == "fourier":
            angle = label.log()[:, None] * self.weight * (2 * math.pi)
        else:
            half = self.size // 2
            falls = torch.arange(half, device=label.device, dtype=torch.float32) / (half - self.config.freq_shift)
            angle = label[:, None] * torch.exp(-math.log(10_000) * falls).to(label.dtype)
        flipped = self.config.flip_sin_to_cos and self.config.time_embedding_type == "positional"
        pair = (angle.cos(), angle.sin()) if flipped else (angle.sin(), angle.cos())
        return F.pad(torch.cat(pair, dim=1), (0, self.size - 2 * angle.shape[1]))


class Embedding(nn.Module):
    """Two linear layers and a SiLU between them."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inward, outward), nn.Linear(outward, outward)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.linear_2(F.silu(self.linear_1(features)))
        return out


class Block(nn.Module):
    """A residual block with a condition."""

    def __init__(self, config: UNet2DConfig, inward: int, outward: int, condition: int, scale: float = 1.0) -> None:
        super().__init__()
        self.act, self.scaled, self.scale = ACTIVATIONS[config.act_fn](), config.resnet_time_scale_shift != "default", scale
        self.norm1 = nn.GroupNorm(config.norm_num_groups, inward, config.norm_eps)
        self.conv1 = nn.Conv2d(inward, outward, 3, padding=1)
        self.time_emb_proj = nn.Linear(condition, outward * (1 + self.scaled))
        self.norm2 = nn.GroupNorm(config.norm_num_groups, outward, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(outward, outward, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inward, outward, 1) if inward != outward else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        told = self.time_emb_proj(self.act(condition))[:, :, None, None]
        h = self.conv1(self._activated(self.norm1(x)))
        if self.scaled:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + told)
        h = self.conv2(self.drop(self._activated(h)))
        out: Tensor = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h
        return out if self.scale == 1 else out / self.scale

    def _activated(self, normed: Tensor) -> Tensor:
        """Return the activation, in the memory of its argument where no gradient asks for that."""
        in_place = isinstance(self.act, nn.SiLU) and not torch.is_grad_enabled()
        out: Tensor = F.silu(normed, inplace=True) if in_place else self.act(normed)
        return out


class Attention(nn.Module):
    """Self-attention between pixels, added to its input; written out, because it is differentiated twice (`nets/unet.py`)."""

    def __init__(self, config: UNet2DConfig, channels: int, groups: int | None, scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.scale = channels // (config.attention_head_dim or channels), scale
        self.group_norm = nn.GroupNorm(groups, channels, config.norm_eps) if groups else nn.Identity()
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v))
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        mixed = self.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
        out: Tensor = x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])
        return out if self.scale == 1 else out / self.scale


class Sampler(nn.Module):
    """A convolution that halves a size, or one after its doubling."""

    def __init__(self, channels: int, *, up: bool, padding: int = 1) -> None:
        super().__init__()
        self.up, self.padding = up, padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        elif not self.padding:
            x = F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class Stage(nn.Module):
    """The blocks of one resolution: each may be followed by attention, the last by a change of size."""

    def __init__(self, blocks: list[Block], attentions: list[Attention], name: str, sampler: Sampler | None) -> None:
        super().__init__()
        self.resnets, self.sampler = nn.ModuleList(blocks), name
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if sampler is not None:
            setattr(self, name, nn.ModuleList([sampler]))

    def after(self, place: int, h: Tensor) -> Tensor:
        """Return what the attention behind a block makes of its output."""
        out: Tensor = self.attentions[place](h) if hasattr(self, "attentions") else h
        return out

    def resized(self, h: Tensor) -> Tensor | None:
        """Return it at the next resolution; None of the last stage."""
        out: Tensor | None = getattr(self, self.sampler)[0](h) if hasattr(self, self.sampler) else None
        return out


class UNet2D(nn.Module):
    """A U-Net of images, conditioned on the index of a chain's step, or on sigma.

    >>> config = UNet2DConfig(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1)
    >>> UNet2D(config, (1, 8, 12))(torch.zeros(2, 1, 8, 12), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 12])
    """

    def __init__(self, config: UNet2DConfig, shape: tuple[int, ...], classes: int = 0) -> None:
        """Build it.

        Args:
            config: its settings.
            shape: (channels, height, width) of a sample.
            classes: number of class labels, each with its row; 0 for none. There is no row for "no label".

        Raises:
            ScorefieldError: no image, sides that cannot be halved so often, or outputs of another number of channels.
        """
        super().__init__()
        channels, halvings = config.block_out_channels, len(config.block_out_channels) - 1
        if len(shape) != 3 or any(side % 2**halvings for side in shape[1:]):
            raise ScorefieldError(
                f"got samples of shape {shape} for a unet2d of {halvings + 1} resolutions, expected (channels, height, width) "
                f"with sides that {2**halvings} divides: correct sample_size"
            )
        if config.out_channels not in (None, shape[0], 2 * shape[0]):
            raise ScorefieldError(
                f"got out_channels={config.out_channels} for samples of {shape[0]} channels, expected as many, or twice as "
                "many with a variance: correct config.json"
            )
        self.config, condition = config, config.time_embedding_dim or 4 * channels[0]
        self.conv_in = nn.Conv2d(shape[0], channels[0], 3, padding=1)
        self.time_proj = Features(config)
        self.time_embedding = Embedding(self.time_proj.size, condition)
        self.class_embedding = nn.Embedding(classes, condition) if classes else None
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        here, skips = channels[0], [channels[0]]
        for place, (name, width) in enumerate(zip(config.down_block_types, channels, strict=True)):
            inward = [here] + [width] * (config.layers_per_block - 1)
            sampler = Sampler(width, up=False, padding=config.downsample_padding) if place < halvings else None
            self.down_blocks.append(_stage(config, name, inward, width, condition, sampler))
            here, skips = width, [*skips, *[width] * (config.layers_per_block + (sampler is not None))]
        self.mid_block = _middle(config, here, condition)
        for place, (name, width) in enumerate(zip(config.up_block_types, reversed(channels), strict=True)):
            inward = [size + skips.pop() for size in [here] + [width] * config.layers_per_block]
            sampler = Sampler(width, up=True) if place < halvings else None
            self.up_blocks.append(_stage(config, name, inward, width, condition, sampler))
            here = width
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, here, config.norm_eps)
        self.conv_out = nn.Conv2d(here, config.out_channels or shape[0], 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its outputs follow: 1.2 times as fast

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, channels, height, width)`, from labels `(batch,)`."""
        channels, condition = x.shape[1], self._condition(label, cond)
        h = self.conv_in(2 * x - 1 if self.config.center_input_sample else x)
        skips = [h]
        for stage in self.down_blocks:
            assert isinstance(stage, Stage)
            for place, block in enumerate(stage.resnets):
                skips.append(stage.after(place, block(h if place == 0 else skips[-1], condition)))
            h = skips[-1]
            if (smaller := stage.resized(h)) is not None:
                h = smaller
                skips.append(h)
        first, *others = self.mid_block.resnets
        h = first(h, condition)
        for place, block in enumerate(others):
            h = block(self.mid_block.after(place, h), condition)
        for stage in self.up_blocks:
            assert isinstance(stage, Stage)
            for place, block in enumerate(stage.resnets):
                h = stage.after(place, block(torch.cat([h, skips.pop()], dim=1), condition))
            larger = stage.resized(h)
            h = h if larger is None else larger
        y: Tensor = self.conv_out(F.silu(self.conv_norm_out(h)))[:, :channels].contiguous()
        return y / label[:, None, None, None] if self.config.time_embedding_type == "fourier" else y

    def _condition(self, label: Tensor, cond: Tensor | None) -> Tensor:
        """Return e, `(batch, size)`."""
        condition: Tensor = self.time_embedding(self.time_proj(label))
        if self.class_embedding is None:
            if cond is not None:
                raise ScorefieldError("got class labels, expected none: this network was trained without classes")
            return condition
        classes = self.class_embedding.num_embeddings
        if cond is None or (not torch.compiler.is_compiling() and bool(((cond < 0) | (cond >= classes)).any())):
            raise ScorefieldError(
                f"got {'no class labels' if cond is None else f'class labels from {int(cond.min())} to {int(cond.max())}'}, "
                f"expected 0 to {classes - 1}: this network was trained with {classes} classes"
            )
        row: Tensor = self.class_embedding(cond)
        return condition + row


def _stage(config: UNet2DConfig, kind: str, inward: list[int], width: int, condition: int, sampler: Sampler | None) -> Stage:
    blocks = [Block(config, size, width, condition) for size in inward]
    attentions = [Attention(config, width, config.norm_num_groups) for _ in blocks] if kind.startswith("Attn") else []
    return Stage(blocks, attentions, "downsamplers" if kind in DOWN else "upsamplers", sampler)


def _middle(config: UNet2DConfig, width: int, condition: int) -> Stage:
    scale = config.mid_block_scale_factor
    blocks = [Block(config, width, width, condition, scale) for _ in range(2)]
    groups = config.attn_norm_num_groups or (config.norm_num_groups if config.resnet_time_scale_shift == "default" else None)
    return Stage(blocks, [Attention(config, width, groups, scale)] if config.add_attention else [], "none", None)
