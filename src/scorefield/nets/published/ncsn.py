"""NCSN and NCSNv2: a RefineNet of dilated residual stages with instance normalisation++.

    instance norm++    z = gamma·((x - mu)/s + alpha·(mu - m)/v) + beta   mu, s of a channel, m, v of the means mu over channels
    residual block     x + conv(elu(norm(conv(elu(norm(x))))))           with x through a convolution where its size changes
    stages             two blocks each; the first keeps the size, the next halve it, the last are dilated by 2, 4 instead
    refinement         from the coarsest stage to the finest: residual units on each input, their sum at the larger size,
                       chained pooling  h <- h + conv(pool(h)) twice, residual units

NCSN (2019) has its own alpha, beta, gamma for each of L levels in every normalisation, also between the refinements, pools
by means, and its output is the score. NCSNv2 (2020) is not conditioned on the level, has no normalisation in the
refinements, pools by maxima, and its output is sigma·score, which is divided by sigma after it.

The paper of 2019 prints alpha outside of gamma; published weights have it inside, and so it is here. The variance of the means
over channels is the unbiased one.

References: Song, Ermon (2019), arXiv 1907.05600, appendix A; Song, Ermon (2020), arXiv 2006.09011, appendix B. Lin, Milan,
Shen, Reid (2017), "RefineNet", arXiv 1611.06612.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import ScorefieldError
from scorefield.nets.base import NetworkConfig
from scorefield.nets.embeddings import add_class
from scorefield.registry import COMPONENT, register

Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False)]
Pooling = Literal["average", "max"]
STAGES = {
    4: ("1", "2", "3", "4"),
    5: ("1", "2", "3", "4", "5"),
    6: ("1", "2", "3", "31", "4", "5"),
}  # published names, by number


def _conv(inward: int, outward: int, side: int = 3, *, bias: bool = True, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inward, outward, side, padding=dilation * (side // 2), dilation=dilation, bias=bias)


class InstanceNormPlus(nn.Module):
    """Instance normalisation that keeps how the channels' means differ; with levels, one of its own for each."""

    def __init__(self, channels: int, levels: int | None) -> None:
        super().__init__()
        if levels is not None:
            self.embed = nn.Embedding(levels, 3 * channels)
            nn.init.normal_(self.embed.weight[:, : 2 * channels], 1.0, 0.02)
            nn.init.zeros_(self.embed.weight[:, 2 * channels :])
        else:
            self.alpha, self.gamma = (nn.Parameter(1 + 0.02 * torch.randn(channels)) for _ in range(2))
            self.beta = nn.Parameter(torch.zeros(channels))
        self.levels = levels

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        """Return z of x, `(batch, channels, height, width)`; level `(batch,)`, whole numbers, where there are levels."""
        given = [self.gamma, self.alpha, self.beta] if level is None else self.embed(level).chunk(3, dim=1)
        gamma, alpha, beta = (part[..., None, None] for part in given)
        mu = x.mean(dim=(2, 3), keepdim=True)
        apart = (mu - mu.mean(dim=1, keepdim=True)) / (mu.var(dim=1, keepdim=True) + 1e-5).sqrt()
        return gamma * (F.instance_norm(x) + alpha * apart) + beta


class MeanPooled(nn.Module):
    """A convolution, then the mean of each 2 x 2 places."""

    def __init__(self, inward: int, outward: int, side: int) -> None:
        super().__init__()
        self.conv = _conv(inward, outward, side)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(x), 2)


class Residual(nn.Module):
    """A residual block; `shrinks` for the first of a stage, which halves the size, or is dilated in its place."""

    def __init__(
        self, inward: int, outward: int, *, levels: int | None, bias: bool, dilation: int = 1, shrinks: bool = False
    ) -> None:
        super().__init__()
        dilated, middle = dilation > 1, inward if shrinks else outward
        self.conv1 = _conv(inward, middle, bias=bias or dilated, dilation=dilation)
        self.normalize2 = InstanceNormPlus(middle, levels)
        halves = shrinks and not dilated
        self.conv2: nn.Module = (
            MeanPooled(middle, outward, 3) if halves else _conv(middle, outward, bias=bias or dilated, dilation=dilation)
        )
        self.shortcut: nn.Module | None = None
        if shrinks or inward != outward:
            side = 3 if dilated else 1
            self.shortcut = MeanPooled(inward, outward, 1) if halves else _conv(inward, outward, side, dilation=dilation)
        self.normalize1 = InstanceNormPlus(inward, levels)

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        h = self.conv1(F.elu(self.normalize1(x, level)))
        h = self.conv2(F.elu(self.normalize2(h, level)))
        out: Tensor = h + (x if self.shortcut is None else self.shortcut(x))
        return out


class ResidualUnits(nn.Module):
    """So many residual units of two convolutions, each after a nonlinearity (and, with levels, a normalisation)."""

    def __init__(self, channels: int, units: int, levels: int | None) -> None:
        super().__init__()
        self.units = units
        for place in itertools.product(range(1, units + 1), (1, 2)):
            if levels is not None:
                self.add_module("{}_{}_norm".format(*place), InstanceNormPlus(channels, levels))
            self.add_module("{}_{}_conv".format(*place), _conv(channels, channels, bias=False))

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        parts = dict(self.named_children())
        for unit in range(1, self.units + 1):
            h = x
            for one in (1, 2):
                norm = parts.get(f"{unit}_{one}_norm")
                h = parts[f"{unit}_{one}_conv"](F.elu(h if norm is None else norm(h, level)))
            x = x + h
        return x


class _Chain(nn.Module):
    """Convolutions and, with levels, normalisations before them: what `Fusion` and `ChainedPooling` hold."""

    def __init__(self, inward: list[int], outward: int, levels: int | None, bias: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(width, outward, bias=bias) for width in inward)
        self.norms = None if levels is None else nn.ModuleList(InstanceNormPlus(width, levels) for width in inward)

    def normed(self, index: int, x: Tensor, level: Tensor | None) -> Tensor:
        return x if self.norms is None else self.norms[index](x, level)


class Refine(nn.Module):
    """A refinement: residual units on each input, their sum, chained pooling, residual units."""

    def __init__(self, inward: list[int], outward: int, *, levels: int | None, pooling: Pooling, last: bool = False) -> None:
        super().__init__()
        self.adapt_convs = nn.ModuleList(ResidualUnits(width, 2, levels) for width in inward)
        self.output_convs = ResidualUnits(outward, 3 if last else 1, levels)
        self.msf = _Chain(inward, outward, levels, bias=True) if len(inward) > 1 else None
        self.crp = _Chain([outward] * 2, outward, levels, bias=False)
        self.pooling = pooling

    def forward(self, inputs: list[Tensor], level: Tensor | None) -> Tensor:
        """Return the refined features, in the size of the first input."""
        adapted = [units(x, level) for units, x in zip(self.adapt_convs, inputs, strict=True)]
        h = adapted[0]
        if self.msf is not None:
            convolved = [self.msf.convs[i](self.msf.normed(i, x, level)) for i, x in enumerate(adapted)]
            size = inputs[0].shape[2:]
            h = sum(F.interpolate(x, size, mode="bilinear", align_corners=True) for x in convolved)
        h = path = F.elu(h)
        pool = F.max_pool2d if self.pooling == "max" else F.avg_pool2d
        for i, conv in enumerate(self.crp.convs):
            path = conv(pool(self.crp.normed(i, path, level), 5, stride=1, padding=2))
            h = h + path
        refined: Tensor = self.output_convs(h, level)
        return refined


class RefineNet(nn.Module):
    """NCSN's network, or with `levels=None` NCSNv2's, without its division by sigma.

    >>> RefineNet((1, 8, 8), widths=(4, 8, 8, 8), levels=10)(torch.zeros(2, 1, 8, 8), torch.tensor([0.0, 9.0])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        widths: tuple[int, ...] = (128, 256, 256, 256),
        halvings: int = 1,
        levels: int | None = None,
        bias: bool = True,
        pooling: Pooling = "max",
        unit: float = 1.0,
    ) -> None:
        """Build it.

        Args:
            shape: (channels, height, width).
            widths: channels of the stages, finest first.
            halvings: how many stages after the first halve the size; those after them are dilated.
            levels: L for NCSN's L levels, None for NCSNv2.
            bias: whether the 3 x 3 convolutions of residual blocks that are not dilated have one.
            pooling: in the refinements.
            unit: by which the output is divided.
        """
        super().__init__()
        names, steps = STAGES[len(widths)], range(len(widths))
        self.levels, self.unit, self.names = levels, unit, names
        self.begin_conv, self.normalizer = _conv(shape[0], widths[0]), InstanceNormPlus(widths[0], levels)
        self.end_conv = _conv(widths[0], shape[0])
        for k, width in enumerate(widths):
            dilation = 2 ** max(0, k - halvings)
            first = Residual(widths[max(k - 1, 0)], width, levels=levels, bias=bias, dilation=dilation, shrinks=k > 0)
            second = Residual(width, width, levels=levels, bias=bias, dilation=dilation)
            self.add_module(f"res{names[k]}", nn.ModuleList([first, second]))
        before: list[int] = []
        for k, name in zip(reversed(steps), names, strict=True):
            outward = widths[k] if not before else widths[max(k - 1, 0)]
            block = Refine([widths[k], *before], outward, levels=levels, pooling=pooling, last=k == 0)
            self.add_module(f"refine{name}", block)
            before = [outward]

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return y in the shape of x, `(batch, *shape)`; labels `(batch,)` are level indices, or not looked at."""
        level = self._index(label) if self.levels is not None else None
        h, stages, parts = add_class(None, self.begin_conv(x), cond), [], dict(self.named_children())
        for name in self.names:
            for block in parts[f"res{name}"]:  # type: ignore[attr-defined]
                h = block(h, level)
            stages.append(h)
        refined: list[Tensor] = []
        for stage, name in zip(reversed(stages), self.names, strict=True):
            refined = [parts[f"refine{name}"]([stage, *refined], level)]
        y: Tensor = self.end_conv(F.elu(self.normalizer(refined[0], level)))
        return y / self.unit

    def _index(self, label: Tensor) -> Tensor:
        assert self.levels is not None
        level = label.round().long()
        if bool(((level < 0) | (level >= self.levels)).any()):
            raise ScorefieldError(
                f"got level {int(level.max())} (or {int(level.min())}), expected 0 to {self.levels - 1}: this network knows "
                f"{self.levels} levels only"
            )
        return level


@register("network", "ncsn")
@dataclass(frozen=True, config=COMPONENT)
class NCSNConfig(NetworkConfig):
    """Settings of the published `RefineNet`: NCSN with a number of `levels`, NCSNv2 without; of images alone.

    Attributes:
        widths: channels of the stages, finest first.
        halvings: how many stages after the first halve the size; those after them are dilated.
        levels: L for NCSN's L levels, None for NCSNv2.
        bias: whether the 3 x 3 convolutions of residual blocks that are not dilated have one.
        pooling: of the refinements, max or mean.
        unit: by which the output is divided.
    """

    widths: Annotated[tuple[Annotated[int, Bound(ge=2)], ...], Bound(min_length=4, max_length=6)] = (128, 256, 256, 256)
    halvings: Annotated[int, Bound(ge=1)] = 1
    levels: Annotated[int, Bound(ge=2)] | None = None
    bias: bool = True
    pooling: Pooling = "max"
    unit: Positive = 1.0

    def build(self, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
        image_alone(shape, classes)
        return RefineNet(
            shape,
            widths=self.widths,
            halvings=self.halvings,
            levels=self.levels,
            bias=self.bias,
            pooling=self.pooling,
            unit=self.unit,
        )


def image_alone(shape: tuple[int, ...], classes: int) -> None:
    """Refuse what the published networks of images were not made for.

    Raises:
        ScorefieldError: samples that are no images, or classes.
    """
    if len(shape) != 3:
        raise ScorefieldError(f"got samples of shape {shape}, expected (channels, height, width): use network=unet for others")
    if classes:
        raise ScorefieldError(f"got {classes} classes for a published network without any: set training.labels=0")
