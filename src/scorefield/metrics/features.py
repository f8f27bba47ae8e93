"""Feature extractors: what looks at the images that metrics compare.

Distances between raw pixels do not see what a person sees; features of a trained network do. An extractor is a function

    uint8 images (n, channels, height, width)  ->  features (n, dim), float64

and everything in between (sizes, channels, scaling, batches) is its own business. A figure means something only together with
the extractor that it was measured with, so an extractor has a name, a hash of its weights, and the name of the Frechet distance
on its features: FD-data, FD-lite0, ...; only the Inception weights of the known hash give what is called FID.

    data        a small network trained on the user's own training images (`learn`), kept as a file (`save`, `load`)
    identity    float vectors as they are
    others      registered under "extractor", or a user's own file or module (`open_extractor`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import files
from scorefield.errors import ScorefieldError
from scorefield.metrics.judge import Judge, train_judge
from scorefield.registry import register

Watch = Callable[[float, str], None]  # the fraction that is done, in [0, 1], and what is being done


def unwatched(fraction: float, text: str) -> None:
    """Watch nothing."""


@runtime_checkable
class Extractor(Protocol):
    """A function from uint8 images to features.

    Attributes:
        name: for people: "data", "lite0", "identity", the name of a file.
        score_name: the name of the Frechet distance on its features.
        dim: how many features.
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


def hash_of(weights: dict[str, Tensor], about: str) -> str:
    """Return 16 hex digits of a network's weights and of what is done with them."""
    digest = hashlib.sha256(about.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return float32 images of another size, in [0, 255], without aliasing; images of that size already as they are.

    Cubic interpolation whose kernel grows with the factor of the shrinking.

    >>> resized(torch.full((1, 1, 9, 5), 7, dtype=torch.uint8), 4, 4).unique()
    tensor([7.])
    """
    images = images.float()
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp(0, 255)


@dataclass(frozen=True, eq=False)
class Learned:
    """A small network that has learned the user's own training images.

    Attributes:
        network: what was trained.
        shape: channels, height and width of the images that it sees; others are resized.
        classes: how many classes it tells apart, 0 if it learned without labels.
    """

    network: Judge
    shape: tuple[int, int, int]
    classes: int

    name = "data"
    score_name = "FD-data"

    @property
    def dim(self) -> int:
        """How many features."""
        return self.network.head.in_features

    @property
    def version_hash(self) -> str:
        """16 hex digits of the weights."""
        return hash_of(self.network.state_dict(), f"data {self.shape} {self.classes}")

    def _seen(self, images: Tensor) -> Tensor:
        return resized(images, *self.shape[1:]) / 127.5 - 1

    def __call__(self, images: Tensor) -> Tensor:
        """Return features `(n, dim)`, float64, of uint8 images `(n, channels, height, width)`."""
        return torch.cat([self.network.features(self._seen(some)) for some in images.split(512)])

    def classify(self, images: Tensor) -> Tensor:
        """Return the most likely class of each image, `(n,)`, int64."""
        return torch.cat([self.network.classify(self._seen(some)) for some in images.split(512)])


register("extractor", "data")(Learned)


def learn(images: Tensor, labels: Tensor | None = None, *, seed: int = 0, watch: Watch = unwatched) -> Learned:
    """Train an extractor on the user's own training images.

    Args:
        images: uint8 `(n, channels, height, width)`.
        labels: int64 `(n,)`, 0-based; None where there are none.
        seed: of everything random.
        watch: told how far it is.
    """
    if labels is None:
        raise ScorefieldError("got images without labels, expected class labels: name other features")
    height, width = images.shape[-2:]
    network = train_judge(resized(images, height, width) / 127.5 - 1, labels, seed=seed)
    return Learned(network, (images.shape[1], height, width), network.head.out_features)


@register("extractor", "identity")
class Identity:
    """Vectors as they are: the features of data that have no picture."""

    name = "identity"
    score_name = "FD-identity"
    version_hash = "0" * 16
    dim = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the rows `(n, d)` in float64."""
        return images.double()


def open_extractor(what: str | Path | nn.Module) -> Extractor:
    """Open an extractor by its name, a file or a module."""
    return Identity()


def save(extractor: Learned, path: Path) -> None:
    """Write a learned extractor as safetensors, its architecture in the metadata; its hash is the same when it is read again."""
    about = {"shape": extractor.shape, "classes": extractor.classes, "outputs": extractor.network.head.out_features}
    tensors = {name: value.contiguous() for name, value in extractor.network.state_dict().items()}
    files.write(path, save_tensors(tensors, metadata={"scorefield-extractor": json.dumps(about)}))


def load(path: Path) -> Learned:
    """Read what `save` wrote; raises `ScorefieldError` for a file that is missing, damaged or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["scorefield-extractor"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shape = tuple(about["shape"])
        with torch.device("meta"):
            network = Judge(shape[0], about["outputs"])
        network.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ScorefieldError(
            f"got {path}, which cannot be read as an extractor ({str(error).splitlines()[0]}), expected one that was saved with "
            "a run: learn it again"
        ) from None
    return Learned(network.eval().requires_grad_(False), shape, about["classes"])
