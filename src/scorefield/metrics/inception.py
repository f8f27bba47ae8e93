"""Inception-v3 as the Frechet inception distance uses it: features that published figures are measured on.

The weights are not ours to hand out and no package holds them: give the file that other FID programs keep
(`pt_inception-2015-12-05-6726825d.pth`), whose sha256 starts with 6726825d. On these weights, and on no others, the Frechet
distance is called FID.

The network is a stem and eleven blocks; in a block several chains of convolutions read the same input, and their outputs are
laid side by side. Every convolution is followed by batch normalisation and ReLU. It differs from the usual Inception-v3 where
the network of 2015 did: means over 3 x 3 pixels leave the padding out, the last block takes the largest of 3 x 3 instead,
and images are brought to 299 x 299 linearly, pixel i from the place i·size/299, without antialiasing: a property of the score,
not a recommendation.

References: Szegedy et al. (2015), "Rethinking the Inception architecture for computer vision", arXiv 1512.00567. Heusel et al.
(2017), "GANs trained by a two time-scale update rule", arXiv 1706.08500.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import files
from scorefield.errors import ScorefieldError
from scorefield.metrics.extractor import three_channels
from scorefield.metrics.pretrained import Pretrained
from scorefield.registry import register

SHA256 = "6726825d"  # how it starts
SIDE = 299

Kernel = int | tuple[int, int]
Chain = tuple[tuple[str, int, Kernel], ...]  # name, channels out, kernel; "mean" and "largest" pool


class Unit(nn.Module):
    """A convolution, batch normalisation, ReLU; without padding where it is `bare` or has a stride."""

    def __init__(self, into: int, out: int, kernel: Kernel, stride: int = 1, bare: bool = False) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if bare or stride > 1 else (size[0] // 2, size[1] // 2)
        self.conv = nn.Conv2d(into, out, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, into, height, width)` to `(n, out, ...)`."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Chains of units that read the same input, their outputs side by side; chains may begin with the same units.

    With a stride of 2 the last unit of every chain has it, and the input's largest values are laid beside them.
    """

    def __init__(self, into: int, chains: tuple[Chain, ...], stride: int = 1) -> None:
        super().__init__()
        self.stride, self.out = stride, into if stride > 1 else 0
        self.chains = tuple(tuple(name for name, _, _ in chain) for chain in chains)
        for chain in chains:
            channels = into
            for place, (name, out, kernel) in enumerate(chain):
                if name in ("mean", "largest"):
                    continue
                if name not in self._modules:
                    self.add_module(name, Unit(channels, out, kernel, stride if place == len(chain) - 1 else 1))
                channels = out
            self.out += channels

    def _apply_unit(self, name: str, x: Tensor) -> Tensor:
        if name == "mean":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        if name == "largest":
            return F.max_pool2d(x, 3, 1, 1)
        made: Tensor = self._modules[name](x)  # type: ignore[misc]  # never None
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, into, height, width)` to `(n, out, ...)`."""
        known: dict[tuple[str, ...], Tensor] = {(): x}
        for chain in self.chains:
            for length in range(1, len(chain) + 1):
                if chain[:length] not in known:
                    known[chain[:length]] = self._apply_unit(chain[length - 1], known[chain[: length - 1]])
        sides = [known[chain] for chain in self.chains]
        return torch.cat([*sides, F.max_pool2d(x, 3, 2)] if self.stride > 1 else sides, dim=1)


def _fine(into: int, pooled: int) -> Mixed:
    double: Chain = (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))
    five: Chain = (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5))
    return Mixed(into, ((("branch1x1", 64, 1),), five, double, (("mean", 0, 3), ("branch_pool", pooled, 1))))


def _seven(c: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    single: Chain = (("branch7x7_1", c, 1), ("branch7x7_2", c, row), ("branch7x7_3", 192, column))
    double: Chain = (
        *(("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, column), ("branch7x7dbl_3", c, row)),
        *(("branch7x7dbl_4", c, column), ("branch7x7dbl_5", 192, row)),
    )
    return Mixed(768, ((("branch1x1", 192, 1),), single, double, (("mean", 0, 3), ("branch_pool", 192, 1))))


def _coarse(into: int, pool: str) -> Mixed:
    once: Chain = (("branch3x3_1", 384, 1),)
    twice: Chain = (("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3))
    chains: tuple[Chain, ...] = (
        (("branch1x1", 320, 1),),
        *((*once, ("branch3x3_2a", 384, (1, 3))), (*once, ("branch3x3_2b", 384, (3, 1)))),
        *((*twice, ("branch3x3dbl_3a", 384, (1, 3))), (*twice, ("branch3x3dbl_3b", 384, (3, 1)))),
        ((pool, 0, 3), ("branch_pool", 192, 1)),
    )
    return Mixed(into, chains)


class InceptionNetwork(nn.Module):
    """Inception-v3 up to the average before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Unit(3, 32, 3, 2), Unit(32, 32, 3, bare=True)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Unit(64, 80, 1), Unit(80, 192, 3, bare=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _fine(192, 32), _fine(256, 64), _fine(288, 64)
        double: Chain = (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))
        self.Mixed_6a = Mixed(288, ((("branch3x3", 384, 3),), double), stride=2)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _seven(128), _seven(160), _seven(160), _seven(192)
        long: Chain = (
            *(("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7))),
            *(("branch7x7x3_3", 192, (7, 1)), ("branch7x7x3_4", 192, 3)),
        )
        self.Mixed_7a = Mixed(768, ((("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)), long), stride=2)
        self.Mixed_7b, self.Mixed_7c = _coarse(1280, "mean"), _coarse(2048, "largest")

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, 3, 299, 299)` to features `(n, 2048)`."""
        for name, layer in self.named_children():  # in the order in which they were set
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, 2)
            x = layer(x)
        return x.mean(dim=(2, 3))


def _linear(into: int, out: int) -> Tensor:
    """Return the matrix (out, into) of linear interpolation at the places i·into/out."""
    place = torch.arange(out, dtype=torch.float32) * (into / out)
    below = place.floor().long().clamp(max=into - 1)
    above = (below + 1).clamp(max=into - 1)
    share, rows = place - below, torch.arange(out)
    matrix = torch.zeros(out, into)
    matrix[rows, below] += 1 - share
    matrix[rows, above] += share  # where both are the last pixel they add up to 1
    return matrix


@register("extractor", "inception")
class Inception(Pretrained):
    """Inception-v3 of 2015, 2,048 features, from a file of your own: the Frechet distance on it is FID."""

    network_class: ClassVar[type[nn.Module]] = InceptionNetwork
    spare: ClassVar[frozenset[str]] = frozenset({"fc.weight", "fc.bias"})
    dim: ClassVar[int] = 2048
    batch: ClassVar[int] = 8

    @property
    def score_name(self) -> str:
        """ "FID" for the weights of the known hash."""
        return "FID" if self.name == "inception" else f"FD-{self.name}"

    def see(self, images: Tensor) -> Tensor:
        """Return features of uint8 images `(n, 1 to 4, height, width)`."""
        down, across = (_linear(side, SIDE) for side in images.shape[-2:])
        features: Tensor = self.network((down @ three_channels(images).float() @ across.mT - 128) / 128)
        return features

    @classmethod
    def of_file(cls, path: Path, weights: Mapping[str, Tensor]) -> Inception:
        """Take weights that `path` holds; those of the known hash are called "inception", others by the file's name."""
        if files.digest(path.read_bytes()).startswith(SHA256):
            return cls(weights, "inception")
        stem = path.stem.lower()
        return cls(weights, "own" if "fid" in stem or stem == "inception" else path.stem)

    @classmethod
    def published(cls) -> NoReturn:
        """Refuse: its weights come as a file."""
        raise ScorefieldError(
            f"got features 'inception' without their weights, expected the file pt_inception-2015-12-05-{SHA256}.pth: "
            "give its path"
        )
