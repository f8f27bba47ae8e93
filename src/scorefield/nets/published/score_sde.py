"""The U-Nets of score_sde: DDPM, DDPM++ and NCSN++, one list of modules in the order in which they are used.

    noise        ln(sigma) -> sines and cosines at fixed random frequencies (Fourier), or a number -> at geometric ones
                 (positional), then two linear layers
    block        h = conv(swish(norm(x))) + W·swish(noise);  y = x + conv(swish(norm(h))), or that divided by sqrt(2)
    resampling   by a block whose two paths are halved or doubled (BigGAN), or by a convolution (DDPM); with a [1, 3, 3, 1]
                 filter, or by means and repetition
    input        of NCSN++: the image itself, halved at each level by a convolution and averaged with the features (residual),
                 or added to them through a 1 x 1 convolution (skip)
    output       the last features, or the sum of an image of each level (skip)

The output is sigma·score for VE, which the published code divides by sigma where `scale_by_sigma` is set, and the noise for
VP and sub-VP.

References: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), arXiv 2011.13456, appendix H. Ho, Jain, Abbeel (2020),
arXiv 2006.11239. Brock, Donahue, Simonyan (2019), "Large scale GAN training", arXiv 1809.11096. Karras et al. (2020),
"StyleGAN2", arXiv 1912.04958, whose filter it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import add_class
from scorefield.nets.published.ncsn import Positive, image_alone
from scorefield.registry import COMPONENT, register

Way = Literal["", "up", "down"]
EPS = 1e-6  # of the group normalisations
FIR = (1.0, 3.0, 3.0, 1.0)


def _groups(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(max(channels // 4, 1), 32), channels, eps=EPS)


def _conv(inward: int, outward: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inward, outward, side, padding=side // 2)


def _filtered(x: Tensor, gain: float) -> Tensor:
    """Return x, already padded, through the [1, 3, 3, 1] filter on both axes, whose weights sum to `gain`."""
    line = torch.tensor(FIR, dtype=x.dtype, device=x.device)
    kernel = line[:, None] * line * (gain / line.sum() ** 2)
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def resampled(x: Tensor, way: Way, fir: bool) -> Tensor:
    """Return x at half or twice the size: by the filter, or by means of 2 x 2 and repetition.

    >>> resampled(torch.ones(1, 1, 4, 4), "up", fir=True).shape
    torch.Size([1, 1, 8, 8])
    """
    if way == "down":
        return _filtered(F.pad(x, (1, 1, 1, 1)), 1.0)[:, :, ::2, ::2] if fir else F.avg_pool2d(x, 2)
    if not fir:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x  # zeros between the places: the filter's gain makes up for them
    return _filtered(F.pad(spread, (2, 1, 2, 1)), 4.0)


class Fourier(nn.Module):
    """Sines and cosines of 2·pi·W·u at fixed random W, which are saved with the weights and never trained."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Parameter(scale * torch.randn(size), requires_grad=False)

    def forward(self, u: Tensor) -> Tensor:
        angle = 2 * math.pi * u[:, None] * self.W
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def positional(u: Tensor, size: int) -> Tensor:
    """Return sines and cosines of u at frequencies from 1 to 1/10,000, `(batch, size)`."""
    half = size // 2
    angle = u[:, None] * torch.exp(torch.arange(half, device=u.device, dtype=u.dtype) * (-math.log(10_000) / (half - 1)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class NIN(nn.Module):
    """A linear map of the channels at every place."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inward, outward)))
        self.b = nn.Parameter(torch.zeros(outward))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.W.T[:, :, None, None], self.b)


class Block(nn.Module):
    """A residual block conditioned on the noise; `way` for one that halves or doubles the size, `nin` for DDPM's."""

    def __init__(self, inward: int, outward: int, told: int, *, way: Way, nin: bool, fir: bool, rescale: bool) -> None:
        super().__init__()
        self.GroupNorm_0, self.Conv_0 = _groups(inward), _conv(inward, outward)
        self.Dense_0, self.GroupNorm_1 = nn.Linear(told, outward), _groups(outward)
        self.Conv_1 = _conv(outward, outward)
        self.way, self.fir, self.rescale = way, fir, rescale
        self.skip = ""
        if inward != outward or way:
            self.skip = "NIN_0" if nin else "Conv_2"
            self.add_module(self.skip, NIN(inward, outward) if nin else _conv(inward, outward, 1))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        h = F.silu(self.GroupNorm_0(x))
        if self.way:
            h, x = (resampled(each, self.way, self.fir) for each in (h, x))
        h = self.Conv_0(h) + self.Dense_0(F.silu(told))[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        summed: Tensor = h + (self.get_submodule(self.skip)(x) if self.skip else x)
        return summed / math.sqrt(2) if self.rescale else summed


class Attention(nn.Module):
    """Self-attention between places, with one head."""

    def __init__(self, channels: int, rescale: bool) -> None:
        super().__init__()
        self.GroupNorm_0, self.rescale = _groups(channels), rescale
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        q, k, v = (one(h).flatten(2).mT for one in (self.NIN_0, self.NIN_1, self.NIN_2))
        mixed = torch.softmax(q @ k.mT * x.shape[1] ** -0.5, dim=2) @ v
        summed: Tensor = x + self.NIN_3(mixed.mT.reshape(x.shape))
        return summed / math.sqrt(2) if self.rescale else summed


class Resampled(nn.Module):
    """Resampling by a 3 x 3 convolution, with the filter (`Conv2d_0`) or as in DDPM (`Conv_0`)."""

    def __init__(self, inward: int, outward: int, way: Way, fir: bool) -> None:
        super().__init__()
        self.way, self.name = way, "Conv2d_0" if fir else "Conv_0"
        self.add_module(self.name, _conv(inward, outward))

    def forward(self, x: Tensor) -> Tensor:
        conv = self.get_submodule(self.name)
        assert isinstance(conv, nn.Conv2d)
        if self.way == "up":
            y: Tensor = conv(resampled(x, "up", fir=False))
            return y
        # Filtered, or one row and column of zeros behind the last: then every second place of the convolution.
        x = _filtered(F.pad(x, (2, 2, 2, 2)), 1.0) if self.name == "Conv2d_0" else F.pad(x, (0, 1, 0, 1))
        return F.conv2d(x, conv.weight, conv.bias, stride=2)


class Combine(nn.Module):
    """The image through a 1 x 1 convolution, added to the features."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.Conv_0 = _conv(inward, outward, 1)

    def forward(self, image: Tensor, h: Tensor) -> Tensor:
        summed: Tensor = self.Conv_0(image) + h
        return summed


@register("network", "score-sde")
@dataclass(frozen=True, config=COMPONENT)
class ScoreSDEConfig(NetworkConfig):
    """Settings of the published U-Nets of score_sde (DDPM, DDPM++, NCSN++), of images alone.

    Attributes:
        channels: features at each resolution, finest first.
        blocks: residual blocks of a resolution on the way down; one more on the way up.
        attention: resolutions with self-attention, counted from 0, beside the one in the middle: after each block down,
        attention_up: and after the last block of a resolution up ("once"), or after each, as in DDPM of 2020.
        features: of the first convolution, and of the embedding of the noise.
        embedding: how the noise is embedded.
        resampling: "biggan" by blocks, "ddpm" by convolutions; of DDPM the blocks change channels by a linear map, too.
        fir: whether the filter is used for it.
        rescale: whether sums of two paths are divided by sqrt(2).
        image_in, image_out: how the image enters and leaves at each resolution: "none", "residual" or "skip".
        label_scale: by which the noise label is multiplied.
        unit: by which exp(label) is divided, for a network of images in another unit.
    """

    channels: Annotated[tuple[Annotated[int, Bound(ge=4)], ...], Bound(min_length=1)] = (128, 256, 256, 256)
    blocks: Annotated[int, Bound(ge=1)] = 4
    attention: tuple[Annotated[int, Bound(ge=0)], ...] = (1,)
    attention_up: Literal["once", "each"] = "once"
    features: Annotated[int, Bound(ge=4)] = 128
    embedding: Literal["fourier", "positional"] = "positional"
    resampling: Literal["biggan", "ddpm"] = "biggan"
    fir: bool = False
    rescale: bool = True
    image_in: Literal["none", "residual", "skip"] = "none"
    image_out: Literal["none", "skip"] = "none"
    label_scale: Positive = 1.0
    unit: Positive = 1.0

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        image_alone(shape, classes)
        return ScoreSDE(shape, self)


class ScoreSDE(nn.Module):
    """DDPM, DDPM++ or NCSN++: a U-Net whose modules are numbered in the order of their use.

    >>> small = ScoreSDEConfig(channels=(8, 8), blocks=1, features=8, image_in="residual", fir=True, embedding="fourier")
    >>> ScoreSDE((1, 8, 8), small)(torch.zeros(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, shape: tuple[int, ...], config: ScoreSDEConfig) -> None:
        """Build it: shape is (channels, height, width)."""
        super().__init__()
        self.config = config
        self.all_modules = nn.ModuleList(self._built(shape[0]))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its outputs follow: 1.2 times as fast

    def _attends_up(self, level: int, block: int) -> bool:
        c = self.config
        return level in c.attention and (block == c.blocks or c.attention_up == "each")

    def _block(self, inward: int, outward: int, way: Way = "") -> Block:
        c = self.config
        nin = c.resampling == "ddpm"
        return Block(inward, outward, 4 * c.features, way=way, nin=nin, fir=c.fir, rescale=c.rescale)

    def _changed(self, channels: int, way: Way) -> nn.Module:
        ddpm = self.config.resampling == "ddpm"
        return Resampled(channels, channels, way, fir=False) if ddpm else self._block(channels, channels, way)

    def _built(self, image: int) -> Iterator[nn.Module]:
        """Yield the modules in the order of their use."""
        c = self.config
        size = c.features
        if c.embedding == "fourier":
            yield Fourier(size, 16.0)
            size *= 2
        yield nn.Linear(size, 4 * c.features)
        yield nn.Linear(4 * c.features, 4 * c.features)
        yield _conv(image, c.features)
        here, entered, last = c.features, image, len(c.channels) - 1
        stack = [here]
        for level, width in enumerate(c.channels):
            for _ in range(c.blocks):
                yield self._block(here, width)
                here = width
                if level in c.attention:
                    yield Attention(here, c.rescale)
                stack.append(here)
            if level < last:
                yield self._changed(here, "down")
                if c.image_in == "skip":
                    yield Combine(image, here)
                elif c.image_in == "residual":
                    yield Resampled(entered, here, "down", c.fir)
                    entered = here
                stack.append(here)
        yield self._block(here, here)
        yield Attention(here, c.rescale)
        yield self._block(here, here)
        for level in reversed(range(last + 1)):
            for block in range(c.blocks + 1):
                yield self._block(here + stack.pop(), c.channels[level])
                here = c.channels[level]
                if self._attends_up(level, block):
                    yield Attention(here, c.rescale)
            if c.image_out == "skip":
                yield _groups(here)
                yield _conv(here, image)
            if level:
                yield self._changed(here, "up")
        if c.image_out == "none":
            yield _groups(here)
            yield _conv(here, image)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, channels, height, width)`, from labels `(batch,)`."""
        c, modules = self.config, iter(self.all_modules)
        u = add_class(None, label - math.log(c.unit) if c.unit != 1 else label, cond) * c.label_scale
        u = next(modules)(u) if c.embedding == "fourier" else positional(u, c.features)
        told = next(modules)(u)
        told = next(modules)(F.silu(told))
        h = next(modules)(x)
        h, stack = self._down(x, h, told, modules)
        h = next(modules)(h, told)
        h = next(modules)(h)
        h = next(modules)(h, told)
        return self._up(h, stack, told, modules).contiguous()

    def _down(self, image: Tensor, h: Tensor, told: Tensor, modules: Iterator[nn.Module]) -> tuple[Tensor, list[Tensor]]:
        """Return the coarsest features and all that the way up goes back to."""
        c, stack = self.config, [h]
        for level in range(len(c.channels)):
            for _ in range(c.blocks):
                h = next(modules)(h, told)
                h = next(modules)(h) if level in c.attention else h
                stack.append(h)
            if level == len(c.channels) - 1:
                break
            h = next(modules)(h) if c.resampling == "ddpm" else next(modules)(h, told)
            if c.image_in == "skip":
                image = resampled(image, "down", c.fir)
                h = next(modules)(image, h)
            elif c.image_in == "residual":
                h = image = (next(modules)(image) + h) / (math.sqrt(2) if c.rescale else 1)
            stack.append(h)
        return h, stack

    def _up(self, h: Tensor, stack: list[Tensor], told: Tensor, modules: Iterator[nn.Module]) -> Tensor:
        """Return the output."""
        c, image = self.config, None
        for level in reversed(range(len(c.channels))):
            for block in range(c.blocks + 1):
                h = next(modules)(torch.cat([h, stack.pop()], dim=1), told)
                h = next(modules)(h) if self._attends_up(level, block) else h
            if c.image_out == "skip":
                own = self._image(h, modules)
                image = own if image is None else resampled(image, "up", c.fir) + own
            if level:
                h = next(modules)(h) if c.resampling == "ddpm" else next(modules)(h, told)
        return self._image(h, modules) if image is None else image

    def _image(self, h: Tensor, modules: Iterator[nn.Module]) -> Tensor:
        norm, conv = next(modules), next(modules)
        y: Tensor = conv(F.silu(norm(h)))
        return y
