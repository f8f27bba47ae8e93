"""A run's folder: self-describing, so that it opens without the code or the data that made it.

config.json        the run as one nested value (`config.py`)
model.safetensors  averaged weights, and the data's mean
moments.safetensors  mean and covariance of the training data, for posterior sampling
manifest.json      what the data were (shape, scaling, fingerprint, place), versions, reasons, how far the training went
metrics.jsonl      one line per report of the training loop
imputing.json      what `impute` measured on held-out rows of a table
early.safetensors  averaged weights from early in the training, a worse version of the field for autoguidance
generator.safetensors  of a distilled run: weights that draw in a few evaluations (`generator.py`); `distilled` in the manifest
checkpoints/       what a stopped training continues from

A run may be opened while another process trains it: weights and manifest are then read until they belong together. Every file
of results that is computed from a run names its weights and data in `made_from`, so that a reader can tell when it is stale.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as default
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import scorefield
from scorefield import files, fragments
from scorefield.config import RunConfig, from_dict, to_dict
from scorefield.data import Dataset, Normaliser, open_again, open_unseen, place_of
from scorefield.data.layout import Layout
from scorefield.data.table.coordinates import snapped
from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.models import build_model as build_model
from scorefield.models import classes_of as classes_of
from scorefield.moments import Moments, read_moments
from scorefield.noise_label import check_noise_label

VERSION = 1
LEAST_HELD_OUT = 20  # held-out examples, below which `evaluate` and `tune` have nothing to compare samples with
PAUSES = (0.0, 0.0, *(2**k / 1000 for k in range(10)))  # seconds between attempts to read a run that is being written: 1 s
UNSURE = 0.02  # of the data's standard deviation: about what a network's denoised image is off by where data do not vary
NEEDED = ("shape", "kind", "classes", "std", "normaliser", "fingerprint")  # of a manifest's data


@dataclass(frozen=True)
class Run:
    """A run's folder, opened.

    Attributes:
        path: the folder.
        config: its settings.
        manifest: its data, versions, reasons and progress, as JSON values.
        weights: content of its model.safetensors, the one that the manifest describes; None where there is no such file.
        given: its data, or where they are, if they are not where the manifest says; None to look there.
    """

    path: Path
    config: RunConfig
    manifest: dict[str, Any]
    weights: bytes | None = default(default=None, repr=False)
    given: Any = default(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.manifest["data"]["shape"])

    @property
    def kind(self) -> str:
        """ "image", "signal", "volume", "vector" or "table"."""
        return str(self.manifest["data"]["kind"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the network is conditioned on, none for a network without classes."""
        names = tuple(self.manifest["data"]["classes"])
        return names if classes_of(self.config, names) else ()

    def _repr_html_(self) -> str:
        return fragments.of_run(self.path, self.manifest, to_dict(self.config))

    @property
    def is_imported(self) -> bool:
        """Whether it was trained elsewhere: it has weights, and no data of its own."""
        return "imported" in self.manifest

    @property
    def has_raw_times(self) -> bool:
        """Whether the noise label changes too fast for the network to know times between those of its training.

        Those of an imported run are asked between the steps of its chain where they came from, too: fast samplers do.
        """
        if self.is_imported:
            return False
        with contextlib.suppress(ScorefieldError):
            check_noise_label(self.config.parametrisation.noise_label, self.config.process)
            return False
        return True

    @cached_property
    def normaliser(self) -> Normaliser:
        """How raw values map to model space."""
        return Normaliser(**self.manifest["data"]["normaliser"])

    @property
    def made_from(self) -> dict[str, Any]:
        """The run's weights and data, as JSON values: files of results computed from them hold these as `made_from`."""
        weights = {"model_sha256": self.manifest.get("model_sha256"), "step": self.manifest["progress"]["step"]}
        return {**weights, "data": self.fingerprint, "scorefield": scorefield.__version__}

    @property
    def fingerprint(self) -> str:
        """That of its data; of an imported run, that of the data that were given, "" where none were."""
        own = str(self.manifest["data"]["fingerprint"])
        return own or (self.data.fingerprint if self.given is not None else "")

    def stale(self, values: Any) -> str | None:
        """Return why results in a file are not of the run as it is now, in words; None if they are."""
        made, now = values.get("made_from") if isinstance(values, Mapping) else None, self.made_from
        if not isinstance(made, Mapping):
            return "it does not say of which weights it is"
        if made.get("model_sha256") != now["model_sha256"]:
            return f"it is of other weights (step {made.get('step')}) than the run has now (step {now['step']})"
        return None if made.get("data") == now["data"] or not now["data"] else "it is of other data than the run's"

    @cached_property
    def layout(self) -> Layout:
        """What an example was in its source, so that samples go back as the same thing."""
        recorded = self.manifest["data"].get("layout")
        if recorded is not None:
            return Layout.from_dict(recorded)
        plain = Layout.plain(self.kind, self.shape)  # of a run of 0.6
        floats = self.kind == "image" and self.normaliser.high != 255
        return replace(plain, dtype="float32") if floats else plain

    def to_source(self, raw: Tensor) -> NDArray[Any]:
        """Return samples in the data's own units as their source would hold them: its axes and its type, `(n, ...)`.

        Those of a table are coordinates, float64, at values that its columns can have; of a run of 0.5, as they were drawn.
        """
        about = self.manifest["data"]
        if self.kind == "table" and "layout" in about:
            return snapped(raw.cpu(), about["columns"]).numpy()
        return self.layout.to_source(raw.cpu().numpy())

    @cached_property
    def data(self) -> Dataset:
        """The data that the run was trained on, opened again: those that were given, else those where the manifest says.

        Raises:
            ScorefieldError: they are not there any more, or are not the same.
        """
        if self.is_imported:
            return open_unseen(self.given, self.config.data, self.manifest["data"])
        if self.given is not None:
            data = open_again(self.given, self.config.data, self.manifest["data"])
            if self._is_own(data):
                return data
            raise ScorefieldError(
                f"got data ({data.name}, {len(data.train)} and {len(data.held_out)} examples) that differ from those "
                f"{self.path} was trained on ({self._described}), expected the same: give those"
            )
        reasons = list[str]()
        for place in self._places:
            try:
                data = open_again(place, self.config.data, self.manifest["data"])
            except ScorefieldError as error:
                reasons.append(str(error) if os.path.exists(place) else f"nothing at {place}")
                continue
            if self._is_own(data):
                return data
            reasons.append(f"those at {place} differ from the run's")
        reason = "; ".join(reasons) or "they were given in Python, and a run does not keep them"
        raise ScorefieldError(
            f"got no data of {self.path} ({reason}), expected those it was trained on ({self._described}): "
            "name their place with --data, or give them as data= in Python"
        )

    def _is_own(self, data: Dataset) -> bool:
        return data.is_what_made(self.manifest["data"]["fingerprint"])

    @property
    def _described(self) -> str:
        data = self.manifest["data"]
        return f"{data['name']}, {data['examples']} and {data['held_out']} examples, fingerprint {data['fingerprint'][:12]}"

    @property
    def _places(self) -> list[str]:
        """Where the data may be: the absolute path, then the name as it was typed; nowhere for data given in Python."""
        described, typed = self.manifest["data"], self.config.source
        if "path" not in described or (path := described["path"]) == place_of(typed):
            return [place_of(typed) or typed]  # a run of 0.4 has only what was typed
        return [path, place_of(typed) or typed] if path is not None else []

    @cached_property
    def field(self) -> ScoreModel:
        """The trained field, in model space, ready to sample from."""
        if self.has_raw_times:
            warnings.warn(
                f"the network of {self.path} was conditioned on raw times by an older version, and knows only those of its "
                "training: sample with its recipe's own sampler and ladder, or train anew",
                stacklevel=3,  # where the property is used
            )
        model = self._loaded("model", self.weights)
        if self.moments is not None:
            model.moments = self.moments.floored((UNSURE * model.data_std) ** 2)
        return model

    @cached_property
    def early_field(self) -> ScoreModel:
        """The field as it was early in the training: a worse version of the same, for autoguidance."""
        if not (path := self.path / "early.safetensors").exists():
            raise ScorefieldError(
                f"got {self.path}, a run of an older version or of a single step, without weights from early in its training, "
                "expected some for autoguidance: train anew, or guide by classes with --guidance"
            )
        return self._loaded("early", path.read_bytes())

    @property
    def evaluations(self) -> int | None:
        """In how many evaluations the generator of a distilled run draws; None of a run without one."""
        return int(found["evaluations"]) if (found := self.manifest.get("distilled")) else None

    @cached_property
    def generator(self) -> ScoreModel:
        """The generator of a distilled run, as a field whose denoised sample is one draw, and not a mean."""
        return self._loaded("generator", path.read_bytes() if (path := self.path / "generator.safetensors").is_file() else None)

    def _loaded(self, name: str, weights: bytes | None) -> ScoreModel:
        """Return the field with the weights that `name`.safetensors holds, ready to sample from."""
        std, holes = float(self.manifest["data"]["std"]), self.normaliser.holes
        model = build_model(self.config, self.shape, std, classes=len(self.classes), holes=holes)
        path = self.path / f"{name}.safetensors"
        if weights is None:
            raise ScorefieldError(f"got no readable {path}, expected weights: train, or resume, first")
        if files.digest(weights) != self.manifest.get(f"{name}_sha256"):
            raise ScorefieldError(
                f"got a {path.name} that differs from the manifest's sha256, expected the trained weights: resume the run"
            )
        try:
            model.load_state_dict(load_tensors(weights))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ScorefieldError(
                f"got weights in {path} that do not fit config.json ({reason}), expected the run's own: restore both files"
            ) from None
        return model.eval().requires_grad_(False)

    @cached_property
    def moments(self) -> Moments | None:
        """Mean and covariance of the training data in model space; None where the run has none, or those of other data."""
        return read_moments(self.path, self.manifest["data"]["fingerprint"])

    def decode(self, x: Tensor) -> Tensor:
        """Return samples in the data's own units, `(n, *shape)`, float64."""
        return self.normaliser.decode(x)


def manifest_of(data: Dataset, std: float, why: tuple[str, ...], parameters: int, path: str | None = None) -> dict[str, Any]:
    """Return the manifest of a new run.

    Args:
        data: what it is trained on.
        std: root of the data's variance around its mean, averaged over coordinates.
        why: the recipe's reasons.
        parameters: number of weights.
        path: absolute path of the data; None if they are no file or folder.
    """
    about = {
        "name": data.name,
        "path": path,
        "kind": data.kind,
        "shape": list(data.shape),
        "std": std,
        "examples": len(data.train),
        "held_out": len(data.held_out),
        "classes": list(data.classes),
        "class_counts": [] if data.labels is None else data.labels.bincount(minlength=len(data.classes)).tolist(),
        "normaliser": to_dict(data.normaliser),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
        "columns": data.columns,
        "layout": data.layout.to_dict(),
        "style": data.style,
    }
    return new_manifest(about, why, parameters)


def new_manifest(about: dict[str, Any], why: tuple[str, ...], parameters: int) -> dict[str, Any]:
    """Return the manifest of a new run whose data are described by JSON values; their fingerprint is "" if it has none."""
    return {
        "format": VERSION,
        "scorefield": scorefield.__version__,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "data": about,
        "why": list(why),
        "parameters": parameters,
        "progress": {"step": 0, "seconds": 0.0, "images": 0, "finished": False},
    }


def save_model(folder: Path, model: ScoreModel, manifest: dict[str, Any], early: Mapping[str, Tensor] | None = None) -> None:
    """Write weights, early ones if there are any, and last the manifest with the hashes of the weights that it describes."""
    for name, tensors in {**({"early": early} if early else {}), "model": model.state_dict()}.items():
        content = save_tensors({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
        files.write(folder / f"{name}.safetensors", content)
        manifest[f"{name}_sha256"] = files.digest(content)
    files.write_json(folder / "manifest.json", manifest)


def _opened(folder: Path) -> tuple[Any, Any, bytes | None]:
    """Return config, manifest and weights that belong together, though another process may be writing them.

    The weights are written before their manifest, so a manifest read after them may describe them even if one read before them
    did not. What does not belong together after a second is damaged, and `Run.field` refuses it.
    """
    for pause in PAUSES:
        time.sleep(pause)
        config, manifest = (files.read_json(folder / f"{name}.json") for name in ("config", "manifest"))
        try:
            weights = (folder / "model.safetensors").read_bytes()
        except OSError:
            return config, manifest, None
        sha256 = files.digest(weights)
        for read in (manifest, files.read_json(folder / "manifest.json")):
            if not isinstance(read, dict) or read.get("model_sha256") == sha256:
                return config, read, weights
    return config, manifest, weights


def open_run(path: str | Path, data: Any = None) -> Run:
    """Open a run's folder, which may be in training.

    Args:
        path: the folder.
        data: what it was trained on, or where that is now, if it was moved: as `train` takes it. It is compared with what the
            manifest says when it is used.

    Raises:
        ScorefieldError: no run there, a damaged file, or a format that this version does not know.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ScorefieldError(f"got {str(path)!r}, which is no folder, expected a run's folder: make one with scorefield train")
    config, manifest, weights = _opened(folder)
    if not isinstance(config, dict):
        raise ScorefieldError(f"got a damaged {folder / 'config.json'}, expected a run's settings: restore it")
    if not isinstance(manifest, dict) or manifest.get("format") != VERSION:
        version = manifest.get("format") if isinstance(manifest, dict) else None
        raise ScorefieldError(
            f"got a run of format {version!r} in {folder}, expected {VERSION}: "
            "open it with the scorefield version in its manifest"
        )
    described, progress = manifest.get("data"), manifest.get("progress")
    if isinstance(described, dict) and "affine" in described:  # as 0.5 called it
        described["normaliser"] = described.pop("affine")
    missing = [name for name in NEEDED if not isinstance(described, dict) or name not in described]
    if missing or not isinstance(progress, dict) or "step" not in progress:
        raise ScorefieldError(
            f"got a damaged {folder / 'manifest.json'} without {', '.join(missing) or 'progress'}, expected what the data "
            "were, and how far the training went: restore it"
        )
    try:
        return Run(folder, from_dict(config), manifest, weights, data)
    except (ScorefieldError, ValidationError, TypeError) as error:
        raise ScorefieldError(
            f"got a {folder / 'config.json'} that does not open ({' '.join(str(error).split())}), expected a run's settings: "
            "restore it, or open it with the scorefield version in its manifest"
        ) from None


def load_field(path: str | Path) -> ScoreModel:
    """Return the trained field of a run's folder: a `Field` like any other."""
    return open_run(path).field


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, without one that was cut short when its process was killed."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            values = json.loads(line)
            lines += [values] if isinstance(values, dict) else []
    return lines
