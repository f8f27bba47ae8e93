"""The extractor protocol: features of the images that metrics compare.

Distances between raw pixels do not see what a person sees; features of a trained network do. An extractor is a function

    uint8 images (n, channels, height, width)  ->  features (n, dim), float64

and it takes care of sizes, channels, scaling and batches. A figure means something only together with
the extractor that it was measured with, so an extractor has a name, a hash of its weights, and the name of the Frechet distance
on its features: FD-data, FD-lite0, ...; only the Inception weights of the known hash give what is called FID.

Two need no weights: `Identity` for vectors, and `Module` for whatever a Python user has trained.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.registry import register


@runtime_checkable
class Extractor(Protocol):
    """A function from images to features.

    Attributes:
        name: for reports: "data", "lite0", "identity", the name of a file.
        score_name: the name of the Frechet distance on its features.
        dim: number of features; 0 where it depends on the images.
        version_hash: 16 hex digits of its weights: figures are comparable only where it agrees.
    """

    @property
    def name(self) -> str: ...
    @property
    def score_name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def version_hash(self) -> str: ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return features `(n, dim)`, float64, of uint8 images `(n, channels, height, width)`."""


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return float32 images of another size, values in [0, 255]; images that have it already as they are.

    Cubic interpolation with a kernel that grows as the image shrinks: without that, what is finer than the new pixels would
    come out as a coarse pattern that is not in the image.

    Reference: Parmar, Zhang, Zhu (2022), "On aliased resizing and surprising subtleties in GAN evaluation", arXiv 2104.11222.

    >>> resized(torch.full((1, 1, 9, 5), 7, dtype=torch.uint8), 4, 4).round().unique()
    tensor([7.])
    """
    images = images.float()
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp(0, 255)


def three_channels(images: Tensor) -> Tensor:
    """Return uint8 images `(n, 3, height, width)`: grey three times, and 2 or 4 channels, the last opacity, over white."""
    if images.shape[1] in (2, 4):
        colour, opacity = images[:, :-1].float(), images[:, -1:].float() / 255
        images = (colour * opacity + 255 * (1 - opacity)).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1)


def hash_of(weights: Mapping[str, Tensor], about: str) -> str:
    """Return 16 hex digits of a network's weights and of what is done with them."""
    content = hashlib.sha256(about.encode())
    for name, value in sorted(weights.items()):
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


class Network(ABC):
    """An extractor with a network, which takes images in batches."""

    batch: ClassVar[int] = 256
    most_channels: ClassVar[int | None] = None  # what it can make sense of; None for any number

    @abstractmethod
    def see(self, images: Tensor) -> Tensor:
        """Return features `(n, dim)` of uint8 images `(n, channels, height, width)` that fit into memory."""

    def _each(self, images: Tensor) -> list[Tensor]:
        most = self.most_channels
        if images.dtype != torch.uint8 or images.ndim != 4 or 0 in images.shape or (most and images.shape[1] > most):
            channels = f"1 to {most} channels" if most else "channels"
            raise ScorefieldError(
                f"got {images.dtype} of shape {tuple(images.shape)}, expected uint8 images (n, {channels}, height, width): "
                "convert them, or take the features 'identity'"
            )
        return list(torch.split(images.cpu(), self.batch))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return features `(n, dim)`, float64, of uint8 images `(n, channels, height, width)`.

        Raises:
            ScorefieldError: what is not such images.
            NotFinite: a network that gives NaN or infinity.
        """
        features = torch.cat([self.see(batch) for batch in self._each(images)])
        if not bool(features.isfinite().all()):
            raise NotFinite("got NaN or infinity among the features of the images, expected finite numbers: use other features")
        return features.double()


@register("extractor", "identity")
class Identity:
    """Vectors as they are: the features of data that are no images."""

    name = "identity"
    score_name = "FD-identity"
    version_hash = "0" * 16
    dim = 0

    @classmethod
    def published(cls) -> Identity:
        """Open it."""
        return cls()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the rows `(n, d)` in float64."""
        if images.ndim != 2:
            raise ScorefieldError(f"got shape {tuple(images.shape)}, expected vectors (n, d): take other features for images")
        return images.double()


class Module(Network):
    """A user's own network: float32 images in [0, 1], of the size and channels that they have, to `(n, dim)`."""

    dim = 0

    def __init__(self, module: nn.Module) -> None:
        """Keep a copy of the module, in evaluation mode."""
        self.network = copy.deepcopy(module).cpu().eval().requires_grad_(False)
        self.name = f"module-{type(module).__name__}"
        self.score_name = f"FD-{self.name}"
        self.version_hash = hash_of(self.network.state_dict(), repr(self.network))

    def see(self, images: Tensor) -> Tensor:
        """Return what the module makes of uint8 images."""
        features = self.network(images.float() / 255)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise ScorefieldError(
                f"got {got} from {self.name} for {len(images)} images, expected (n, dim): return one row an image"
            )
        return features
