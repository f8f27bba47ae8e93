"""Features: the extractor that learns from the user's own images, and how to open all of them.

    data        a small network trained on the user's own training images (`learn`), stored as a file (`save`, `load`)
    identity    float vectors as they are
    lite0, ...  published weights, or a user's own of the same shapes
    a module    whatever a Python user has trained

`extractor.py` defines extractors.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from scorefield import files, registry
from scorefield.errors import ScorefieldError
from scorefield.metrics.extractor import Extractor, Module, Network, hash_of, resized
from scorefield.metrics.judge import Judge, strides_for, train_judge, train_without_labels
from scorefield.metrics.pretrained import Pretrained, read_weights, refuse_nan
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import register

__all__ = ["Extractor", "Learned", "learn", "load", "open_extractor", "save"]

SUFFIXES = (".safetensors", ".pth", ".pt")
ABOUT = "scorefield-extractor"  # the key of the architecture in the metadata of a saved extractor
MOST_SIDE = 64  # pixels of the longer side of a learned network's input
MOST_NUMBERS = 1 << 26  # in the images that it learns from: a quarter of a gigabyte; of more images a random part
LEAST = 2  # images to learn from


@register("extractor", "data")
class Learned(Network):
    """A small network trained on the user's own training images; stored with the run."""

    name = "data"
    score_name = "FD-data"

    def __init__(self, network: Judge, shape: tuple[int, int, int], classes: int) -> None:
        """Wrap a trained network.

        Args:
            network: what was trained.
            shape: channels, height and width of the network's input; other sizes are resized.
            classes: number of the user's classes that it distinguishes, 0 if it learned without labels.
        """
        self.network, self.shape, self.classes = network.eval().requires_grad_(False), shape, classes
        self.version_hash = hash_of(network.state_dict(), f"data {shape} {classes}")

    @property
    def dim(self) -> int:
        """How many features."""
        return self.network.head.in_features

    @classmethod
    def published(cls) -> Learned:
        """Refuse: these features must be learned from the user's images."""
        raise ScorefieldError(
            "got features 'data' without images to learn them from, expected those of a run: evaluate the run"
        )

    def _in_model_space(self, images: Tensor) -> Tensor:
        if images.shape[1] != self.shape[0]:
            raise ScorefieldError(
                f"got images of {images.shape[1]} channels, expected {self.shape[0]}, as the features 'data' were learned on: "
                "convert them, or take other features"
            )
        return resized(images, *self.shape[1:]) / 127.5 - 1

    def see(self, images: Tensor) -> Tensor:
        """Return features of uint8 images."""
        return self.network.features(self._in_model_space(images))

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return the most likely of the user's classes for each image, `(n,)`, int64.

        Raises:
            ScorefieldError: it learned without labels.
        """
        if not self.classes:
            raise ScorefieldError(
                "got no class labels to learn from, expected them for naming classes: sort into class folders"
            )
        return torch.cat([self.network.classify(self._in_model_space(batch)) for batch in self._each(images)])


def learn(
    images: Tensor, labels: Tensor | None = None, *, steps: int | None = None, seed: int = 0, progress: Progress = silent
) -> Learned:
    """Train an extractor on the user's own training images.

    Args:
        images: uint8 `(n, channels, height, width)`, at least 2; of those with a side over 64 a smaller copy is learned, and of
            more than 67 million numbers a random part.
        labels: int64 `(n,)`, 0-based; None, or all of one class, for the task that needs none (`train_without_labels`).
        steps: of the training; None for 600, or 400 where images are larger than 16 x 16 and a step takes longer.
        seed: of everything random.
        progress: called with the fraction done and words.

    Returns:
        The extractor; with `classes` > 0 it names classes, too.

    Raises:
        ScorefieldError: what is not such images, or labels that do not fit them.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) < LEAST or 0 in images.shape:
        raise ScorefieldError(
            f"got {images.dtype} of shape {tuple(images.shape)}, expected {LEAST} or more uint8 images (n, channels, height, "
            "width): give more images"
        )
    if labels is not None and (labels.shape != (len(images),) or labels.dtype != torch.int64 or int(labels.min()) < 0):
        raise ScorefieldError(
            f"got labels {labels.dtype} of shape {tuple(labels.shape)}, expected int64 of shape ({len(images)},), 0-based: "
            "give one label an image"
        )
    most = max(LEAST, MOST_NUMBERS // images[0].numel())
    if len(images) > most:
        rows = SampleRng(range(len(images)), stream=stream_of("learn", seed)).uniform(()).argsort()[:most]
        images, labels = images[rows], None if labels is None else labels[rows]
    factor = min(1.0, MOST_SIDE / max(images.shape[-2:]))
    height, width = (max(1, round(side * factor)) for side in images.shape[-2:])
    inputs = torch.cat([resized(batch, height, width) / 127.5 - 1 for batch in torch.split(images, 1024)])
    strides = strides_for(height, width)
    steps = steps or (600 if strides == (1, 1) else 400)
    if labels is None or bool((labels == labels[0]).all()):
        network, classes = train_without_labels(inputs, steps=steps, seed=seed, strides=strides, progress=progress), 0
    else:
        network = train_judge(inputs, labels, steps=steps, seed=seed, strides=strides, progress=progress)
        classes = network.head.out_features
    return Learned(network, (images.shape[1], height, width), classes)


def save(extractor: Learned, path: Path) -> None:
    """Write a learned extractor as safetensors, its architecture in the metadata; read again it has the same hash."""
    network = extractor.network
    about = {
        "shape": extractor.shape,
        "classes": extractor.classes,
        "outputs": network.head.out_features,
        "strides": network.strides,
    }
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    files.write(path, save_tensors(tensors, metadata={ABOUT: json.dumps(about)}))


def _is_saved(path: Path) -> bool:
    """Whether a safetensors file says that `save` wrote it."""
    try:
        with safe_open(path, framework="pt") as file:
            return ABOUT in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # reading the weights reports what is wrong


def load(path: Path) -> Learned:
    """Read what `save` wrote; raises `ScorefieldError` for a file that is missing, damaged or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[ABOUT])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        channels, height, width = (int(size) for size in about["shape"])
        first, second = (int(stride) for stride in about["strides"])
        with torch.device("meta"):
            network = Judge(channels, int(about["outputs"]), strides=(first, second))
        network.load_state_dict(weights, assign=True)
        classes = int(about["classes"])
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise ScorefieldError(
            f"got {path}, which does not open as features ({reason}), expected what was saved with a run: learn them again"
        ) from None
    refuse_nan(path, weights)
    return Learned(network, (channels, height, width), classes)


def open_extractor(what: str | Path | nn.Module) -> Extractor:
    """Open an extractor.

    Args:
        what: a registered name ("lite0", "identity"); a file: features that `save` wrote, or weights of a known architecture
            (`.safetensors`, `.pth`, `.pt`); or a module (`Module`).

    Raises:
        ScorefieldError: an unknown name, or a file that is no such thing.

    >>> open_extractor("identity")(torch.ones(1, 2))
    tensor([[1., 1.]], dtype=torch.float64)
    """
    if isinstance(what, nn.Module):
        return Module(what)
    path = Path(what)
    if isinstance(what, str) and path.suffix not in SUFFIXES:
        opened: Extractor = registry.find("extractor", what).published()
        return opened
    if path.suffix == ".safetensors" and _is_saved(path):
        return load(path)
    weights = read_weights(path)
    for kind in registry.every("extractor").values():
        if issubclass(kind, Pretrained) and kind.owns(weights):
            own: Extractor = kind.of_file(path, weights)
            return own
    raise ScorefieldError(
        f"got {path}, whose weights ({next(iter(weights))}, ...) are of no architecture that is known here, expected those of "
        "lite0 or inception: load them into their module and give that in Python"
    )
