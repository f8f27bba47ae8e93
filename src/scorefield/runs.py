"""A run's folder: self-describing, so that it opens without the code or the data that made it.

config.json        the run as one nested value (`config.py`)
model.safetensors  averaged weights, and the data's mean
manifest.json      what the data were (shape, scaling, fingerprint), versions, reasons, how far the training went
metrics.jsonl      one line per report of the loop
checkpoints/       to go on from
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import scorefield
from scorefield import files
from scorefield.config import RunConfig, of_plain, plain
from scorefield.data import Affine, Dataset, open_source
from scorefield.errors import ScorefieldError
from scorefield.field import EnergyModel, ScoreModel
from scorefield.nets.energy import Potential
from scorefield.prediction import Energy
from scorefield.randomness import stream_of

VERSION = 1


def classes_of(config: RunConfig, names: Sequence[str]) -> int:
    """Return how many classes a run's network is told of, 0 for none: those of the data, where the run uses labels."""
    return len(names) if config.training.labels > 0 and len(names) > 1 else 0


def build_model(
    config: RunConfig, shape: tuple[int, ...], data_std: float, data_mean: Tensor | None = None, *, classes: int = 0
) -> ScoreModel:
    """Return the model of a run with fresh weights, a function of the run's seed, and what its objective learns besides."""
    with torch.random.fork_rng(devices=[]):  # torch's initialisers know only the global generator: leave it as it was
        torch.manual_seed(stream_of("weights", config.seed) >> 1)
        network = config.network.build(shape, classes)
    model: ScoreModel
    parts, both = (config.process, shape, data_mean, data_std), not classes or config.training.labels < 1
    if isinstance(meaning := config.parametrisation, Energy):
        model = EnergyModel(Potential(network, meaning.form), meaning, *parts, unconditional=both)
    else:
        model = ScoreModel(network, meaning, *parts, unconditional=both)
    config.objective.prepare(model)
    return model


@dataclass(frozen=True)
class Run:
    """A run's folder, opened.

    Attributes:
        path: the folder.
        config: what it was made from.
        manifest: what it was made on, as JSON values.
    """

    path: Path
    config: RunConfig
    manifest: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.manifest["data"]["shape"])

    @property
    def kind(self) -> str:
        """ "image", "signal", "vector" or "table"."""
        return str(self.manifest["data"]["kind"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the network is told of, none where it knows no classes."""
        names = tuple(self.manifest["data"]["classes"])
        return names if classes_of(self.config, names) else ()

    @cached_property
    def affine(self) -> Affine:
        """How raw values map to model space."""
        return Affine(**self.manifest["data"]["affine"])

    @cached_property
    def data(self) -> Dataset:
        """The data that the run was made on, opened again; raises `ScorefieldError` if they are gone or have changed."""
        found = open_source(self.config.source, self.config.data)
        if found.fingerprint != self.manifest["data"]["fingerprint"]:
            raise ScorefieldError(
                f"got data from {self.config.source!r} that differ from the run's, expected the same: restore them"
            )
        return found

    @cached_property
    def field(self) -> ScoreModel:
        """The trained field, in model space, ready to sample from."""
        model = build_model(self.config, self.shape, float(self.manifest["data"]["std"]), classes=len(self.classes))
        path = self.path / "model.safetensors"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ScorefieldError(
                f"got no readable {path} ({error.strerror}), expected weights: train, or resume, first"
            ) from None
        if files.digest(content) != self.manifest["model_sha256"]:
            raise ScorefieldError(
                f"got a {path.name} that differs from the manifest's sha256, expected the trained weights: resume the run"
            )
        try:
            model.load_state_dict(load_tensors(content))
        except (SafetensorError, RuntimeError) as error:
            raise ScorefieldError(
                f"got weights in {path} that do not fit config.json ({str(error).splitlines()[0]}), expected the run's own"
            ) from None
        return model.eval().requires_grad_(False)

    def decode(self, x: Tensor) -> Tensor:
        """Return samples in the data's own units, `(n, *shape)`, float64."""
        return self.affine.decode(x)


def manifest_of(data: Dataset, std: float, why: tuple[str, ...], parameters: int) -> dict[str, Any]:
    """Return the manifest of a new run."""
    return {
        "format": VERSION,
        "scorefield": scorefield.__version__,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "data": {
            "name": data.name,
            "kind": data.kind,
            "shape": list(data.shape),
            "std": std,
            "examples": len(data.train),
            "held_out": len(data.held_out),
            "classes": list(data.classes),
            "class_counts": [] if data.labels is None else data.labels.bincount(minlength=len(data.classes)).tolist(),
            "affine": plain(data.affine),
            "fingerprint": data.fingerprint,
            "notes": list(data.notes),
            "columns": data.columns,
        },
        "why": list(why),
        "parameters": parameters,
        "progress": {"step": 0, "seconds": 0.0, "images": 0, "finished": False},
    }


def save_model(folder: Path, model: ScoreModel, manifest: dict[str, Any]) -> None:
    """Write weights and manifest; the manifest last, with the hash of the weights it belongs to."""
    content = save_tensors({name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()})
    files.write(folder / "model.safetensors", content)
    manifest["model_sha256"] = files.digest(content)
    files.write_json(folder / "manifest.json", manifest)


def open_run(path: str | Path) -> Run:
    """Open a run's folder.

    Raises:
        ScorefieldError: no run there, a damaged file, or a format that this version does not know.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ScorefieldError(f"got {str(path)!r}, which is no folder, expected a run's folder: make one with scorefield train")
    config, manifest = files.read_json(folder / "config.json"), files.read_json(folder / "manifest.json")
    if not isinstance(config, dict):
        raise ScorefieldError(f"got a damaged {folder / 'config.json'}, expected a run's settings: restore it")
    if not isinstance(manifest, dict) or manifest.get("format") != VERSION:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ScorefieldError(
            f"got a run of format {found!r} in {folder}, expected {VERSION}: "
            "open it with the scorefield version in its manifest"
        )
    try:
        return Run(folder, of_plain(config), manifest)
    except (ValidationError, TypeError) as error:
        raise ScorefieldError(
            f"got a damaged {folder / 'config.json'} ({error}), expected a run's settings: restore it"
        ) from None


def load_field(path: str | Path) -> ScoreModel:
    """Return the trained field of a run's folder: a `Field` like any other."""
    return open_run(path).field


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, without one that a kill cut short."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines
