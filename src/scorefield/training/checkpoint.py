"""Checkpoints: what a run needs to go on, whole and verified, or not at all.

A checkpoint is a folder `step-00000500/` of safetensors (model, averages, optimiser, loop) and a `manifest.json` with the
sha256 of each, how far the run is, and a sha256 of its own content. It is written under a temporary name, every file flushed,
the folder flushed, renamed, and the folder above flushed: it is there as a whole, or not. Data order and noise are functions of
(seed, step), so nothing else needs saving.

The newest that verifies is used. One that does not is named and set aside: a flipped bit, a missing byte, a file from another
checkpoint, a manifest whose bytes are not those that its content is written as.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from scorefield import files
from scorefield.errors import ScorefieldError

KEEP = 2
FORMAT = 2

Parts = Mapping[str, Mapping[str, Tensor]]  # name of a file -> name of a tensor -> tensor


@dataclass
class Clock:
    """How far a run is.

    Attributes:
        step: optimiser steps done.
        seconds: of training so far, over all sittings.
        images: examples seen.
    """

    step: int = 0
    seconds: float = 0.0
    images: int = 0


@dataclass
class Saved:
    """A checkpoint that verified.

    Attributes:
        clock: how far the run was.
        parts: tensors by file.
        facts: further values of the loop, as JSON values.
        damaged: a sentence for each newer checkpoint that did not verify.
    """

    clock: Clock
    parts: dict[str, dict[str, Tensor]]
    facts: dict[str, Any] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def of_optimiser(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return the moments of an optimiser as a flat dict `number of the parameter/name of the moment`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}/{name}": value for index, moments in state.items() for name, value in moments.items()}


def put_back(tensors: Mapping[str, Tensor], into: nn.Module) -> None:
    """Load the tensors of a module.

    Raises:
        ScorefieldError: they are those of another model, or of another objective that learned something besides.
    """
    try:
        into.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ScorefieldError(
            f"got a checkpoint that does not fit the model ({str(error).splitlines()[-1].strip()}), expected its own network "
            "and objective: go on with those, or start a new run"
        ) from None


def put_back_moments(tensors: Mapping[str, Tensor], optimiser: Optimizer) -> None:
    """Load what `of_optimiser` returned.

    Raises:
        ScorefieldError: they are those of another optimiser.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, moment = name.split("/")
        state.setdefault(int(index), {})[moment] = value
    try:
        optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    except (ValueError, KeyError) as error:
        raise ScorefieldError(
            f"got a checkpoint of another optimiser ({error}), expected the run's own: go on with it, or start a new run"
        ) from None


def name_of(step: int) -> str:
    """Return the name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def _sealed(content: dict[str, Any]) -> bytes:
    """Return the bytes of a manifest: its content, and the sha256 of that."""
    return files.render({**content, "sha256": files.digest(files.render(content))})


def save(folder: Path, clock: Clock, parts: Parts, facts: Mapping[str, Any] | None = None) -> Path:
    """Write a checkpoint and drop all but the newest two; returns its folder.

    Raises:
        OSError: it could not be written; nothing of it is left, and the ones before it are untouched.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        files.flush_folder(folder.parent)
    target, temporary = folder / name_of(clock.step), folder / f".{name_of(clock.step)}-{os.getpid()}"
    if target.exists():
        return target
    for debris in folder.glob(".step-*"):  # of a run that was killed while it saved
        shutil.rmtree(debris, ignore_errors=True)
    temporary.mkdir()
    try:
        digests = {}
        for name, tensors in parts.items():
            state = save_tensors({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
            files.put(temporary / f"{name}.safetensors", state)
            digests[f"{name}.safetensors"] = files.digest(state)
        manifest = {"format": FORMAT, **asdict(clock), "facts": dict(facts or {}), "files": digests}
        files.put(temporary / "manifest.json", _sealed(manifest))
        files.flush_folder(temporary)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files.flush_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _read(path: Path) -> Saved:
    """Read a checkpoint; raises OSError, ValueError, KeyError or TypeError with what is wrong in it."""
    raw = (path / "manifest.json").read_bytes()
    manifest = json.loads(raw.decode())
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    if content.get("format") != FORMAT:
        raise ValueError(f"its format is {content.get('format')}, not {FORMAT}")
    if raw != _sealed(content):
        raise ValueError("manifest.json does not agree with its own sha256")
    if name_of(content["step"]) != path.name:
        raise ValueError(f"it holds step {content['step']}")
    parts = {}
    for name, digest in content["files"].items():
        state = (path / name).read_bytes()
        if files.digest(state) != digest:
            raise ValueError(f"the sha256 of {name} differs from the manifest's")
        parts[name.removesuffix(".safetensors")] = load_tensors(state)
    return Saved(Clock(content["step"], content["seconds"], content["images"]), parts, content["facts"])


def newest(folder: Path) -> Saved | None:
    """Return the newest checkpoint that verifies, naming each newer one that did not; None if there is none at all.

    Raises:
        ScorefieldError: there are checkpoints and every one is damaged.
    """
    damaged: dict[Path, str] = {}
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            found = _read(candidate)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            damaged[candidate] = f"{candidate.name} is damaged ({error})"
            continue
        for bad in damaged:  # out of the way of good ones that will be saved under their names
            with contextlib.suppress(OSError):
                os.replace(bad, folder / f"damaged-{bad.name}-{os.urandom(3).hex()}")
        found.damaged = [f"{sentence} and was set aside" for sentence in damaged.values()]
        return found
    if damaged:
        raise ScorefieldError(
            f"got only damaged checkpoints in {folder} ({'; '.join(damaged.values())}), expected one that verifies: train anew"
        )
    return None
