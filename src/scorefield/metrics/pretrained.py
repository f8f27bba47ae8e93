"""Extractors with published weights, or a user's own of the same shapes.

The bytes come from files of others: nothing in them is run, and what does not fit is refused in a sentence.
"""

from __future__ import annotations

import io
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from scorefield import files
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.metrics.extractor import Network, hash_of


def refuse_nan(path: Path, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NotFinite(f"got NaN or infinity in the weight {name} of {path}, expected finite numbers: give other weights")


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a `.safetensors`, `.pth` or `.pt` file, running none of its code.

    Args:
        path: the file; a dictionary of weights, or one that holds it under "state_dict".
        sha256: what the file's must be, checked before anything in it is read; None for any.

    Raises:
        ScorefieldError: a file that is missing, damaged, another, or holds more than weights.
        NotFinite: a weight that is NaN or infinite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScorefieldError(f"got no readable {path} ({error.strerror}), expected weights: check the path") from None
    if sha256 is not None and files.digest(content) != sha256:
        raise ScorefieldError(
            f"got {path} with the sha256 {files.digest(content)[:12]}..., expected {sha256[:12]}..., the published weights: "
            "install them again"
        )
    held: Any
    try:
        if path.suffix == ".safetensors":
            held = load_tensors(content)
        else:
            with warnings.catch_warnings():  # about how the file was written, which is not this person's doing
                warnings.simplefilter("ignore")
                held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a stranger's bytes raise
        raise ScorefieldError(
            f"got {path}, which does not open as weights alone ({type(error).__name__}), expected a dictionary of tensors: "
            "save network.state_dict(), best as safetensors"
        ) from None
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ScorefieldError(
            f"got {path}, which holds {type(held).__name__} and not weights by name, expected a dictionary of tensors: save "
            "network.state_dict()"
        )
    refuse_nan(path, held)
    return held


def _shape(key: str, shape: tuple[int, ...] | None) -> str:
    return f"no {key}" if shape is None else f"{key} of shape {shape}"


class Pretrained(Network):
    """An extractor of a known architecture with weights from a file."""

    dim: ClassVar[int]
    most_channels: ClassVar[int | None] = 4  # colour and opacity
    network_class: ClassVar[type[nn.Module]]
    spare: ClassVar[frozenset[str]] = frozenset()  # weights of the file that features do not need

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Build the network; raises `ScorefieldError`, naming the first weight that is missing, unknown or of another shape."""
        with torch.device("meta"):
            network = self.network_class()
        own = network.state_dict()
        for key in sorted(own.keys() | weights.keys() - self.spare):
            got, expected = (tuple(held[key].shape) if key in held else None for held in (weights, own))
            if got != expected:
                raise ScorefieldError(
                    f"got weights {name!r} with {_shape(key, got)}, expected {_shape(key, expected)}, as "
                    f"{type(self).__name__} has: give weights of that architecture"
                )
        used = {key: weights[key].to(value.dtype) for key, value in own.items()}
        network.load_state_dict(used, assign=True)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast, the same numbers
        self.network, self.name = network.eval().requires_grad_(False), name
        self.version_hash = hash_of(used, type(self).__name__)

    @property
    def score_name(self) -> str:
        """The name of the Frechet distance on these features."""
        return f"FD-{self.name}"

    @classmethod
    def owns(cls, weights: Mapping[str, Tensor]) -> bool:
        """Whether most of the architecture's names are there."""
        with torch.device("meta"):
            own = cls.network_class().state_dict().keys()
        return 2 * len(own & weights.keys()) > len(own)

    @classmethod
    def of_file(cls, path: Path, weights: Mapping[str, Tensor]) -> Pretrained:
        """Take weights that `path` holds under the file's name, which never lets them pass for Inception's."""
        return cls(weights, "own" if "fid" in path.stem.lower() else path.stem)

    @classmethod
    @abstractmethod
    def published(cls) -> Pretrained:
        """Open the published weights, of the known sha256."""
