"""Checkpoints: what a run needs to go on, whole and verified, or not at all.

A checkpoint is a folder `step-00000500/` with `state.safetensors` (weights, moving average, moments of the optimiser) and
`manifest.json` (step, seconds, sha256 of the state). It is written under a temporary name, flushed, and renamed. Data order and
noise are functions of (seed, step), so nothing else needs saving. The newest that verifies is used; a damaged one is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from scorefield import files
from scorefield.errors import ScorefieldError

KEEP = 2


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


def state_of(model: nn.Module, average: nn.Module | None, optimiser: Optimizer) -> dict[str, Tensor]:
    """Return everything that changes in training as one flat dict of tensors."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
    return {name: value.detach().contiguous().cpu().clone() for name, value in tensors.items()}


def put_back(tensors: dict[str, Tensor], model: nn.Module, average: nn.Module | None, optimiser: Optimizer) -> None:
    """Load what `state_of` returned.

    Raises:
        ScorefieldError: it is that of another model, or of another objective that learned something besides.
    """

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        model.load_state_dict(part("model/"))
        if average is not None:
            average.load_state_dict(part("average/"))
    except RuntimeError as error:
        raise ScorefieldError(
            f"got a checkpoint that does not fit the model ({str(error).splitlines()[-1].strip()}), expected its own network "
            "and objective: go on with those, or start a new run"
        ) from None
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimiser/").items():
        index, moment = name.split("/")
        state.setdefault(int(index), {})[moment] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


def save(folder: Path, clock: Clock, tensors: dict[str, Tensor]) -> Path:
    """Write a checkpoint and drop all but the newest two; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / f"step-{clock.step:08d}", folder / f".step-{clock.step:08d}-{os.getpid()}"
    if target.exists():
        return target
    for debris in folder.glob(".step-*"):  # of a run that was killed while it saved
        shutil.rmtree(debris, ignore_errors=True)
    temporary.mkdir()
    try:
        state = save_tensors(tensors)
        files.write(temporary / "state.safetensors", state)
        files.write_json(temporary / "manifest.json", {**asdict(clock), "sha256": files.digest(state)})
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files.flush_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> tuple[Clock, dict[str, Tensor], list[str]] | None:
    """Return the newest checkpoint that verifies, with a sentence for each newer one that did not; None if there is none.

    Raises:
        ScorefieldError: there are checkpoints and every one is damaged.
    """
    damaged: list[str] = []
    candidates = sorted(folder.glob("step-*"), reverse=True)
    for candidate in candidates:
        try:
            manifest = json.loads((candidate / "manifest.json").read_text(encoding="utf-8"))
            state = (candidate / "state.safetensors").read_bytes()
            if files.digest(state) != manifest["sha256"]:
                raise ValueError("its sha256 differs from the manifest's")
            clock = Clock(int(manifest["step"]), float(manifest["seconds"]), int(manifest["images"]))
            return clock, load_tensors(state), damaged
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{candidate.name} is damaged ({error}) and was set aside")
            with contextlib.suppress(OSError):  # out of the way of the good ones that will be saved under its name
                os.replace(candidate, folder / f"damaged-{candidate.name}-{os.urandom(3).hex()}")
    if candidates:
        raise ScorefieldError(
            f"got only damaged checkpoints in {folder} ({'; '.join(damaged)}), expected one that verifies: train anew"
        )
    return None
