"""How a training begins, or goes on: what is trained, whether the folder allows it, and a trainer ready for its first step.

Nothing is written here. Under `torchrun` the first process decides and the others follow it; each opens the data itself.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scorefield import files, registry
from scorefield.config import RunConfig, from_dict, override, to_dict
from scorefield.data import Dataset, open_again, place_of
from scorefield.data.base import DataIssue
from scorefield.data.doctor import examine
from scorefield.distribution import World
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, portion, silent
from scorefield.recipes import DataStats, data_stats, measured_settings
from scorefield.runs import Run, manifest_of, open_run
from scorefield.specs import TrainSpec
from scorefield.training.clusters import with_clusters
from scorefield.training.expectations import too_few, unvisited_levels
from scorefield.training.loop import Trainer
from scorefield.training.memory import refuse_large_batch
from scorefield.training.resolve import budget_of, changes_of, model_of, parts_of, resolve, source_name

FIXED = ("data", "network", "process", "parametrisation", "objective")  # what a run cannot change when it goes on
ISSUES = "data_issues.json"


@dataclass(frozen=True)
class Begun:
    """What a training begins with, or goes on with.

    Attributes:
        config: of the run.
        data: opened.
        stats: of the data.
        manifest: of the run, as JSON values; it holds the reasons and the warnings.
        goes_on: whether the run was there before.
        issues: what is odd about the data.
    """

    config: RunConfig
    data: Dataset
    stats: DataStats
    manifest: dict[str, Any]
    goes_on: bool
    issues: tuple[DataIssue, ...] = ()

    def for_others(self) -> dict[str, Any]:
        """Return what the other processes need, as plain values; they open the data themselves."""
        return {
            "config": to_dict(self.config),
            "manifest": self.manifest,
            "goes_on": self.goes_on,
            "fingerprint": self.data.fingerprint,
        }


def folder_of(out: str | Path | None, source: Any) -> Path:
    """Return the folder of a run, or refuse a name that is none."""
    if out is not None and not os.fspath(out):
        raise ScorefieldError(f"got --out {os.fspath(out)!r}, expected the name of a folder: write one, or leave it out")
    folder = Path(out).expanduser() if out is not None else Path("runs") / folder_name(source)
    return Path(os.path.normpath(folder))


def folder_name(source: Any) -> str:
    """Return a folder's name for a source: its own name, without the ending of a file."""
    if not isinstance(source, str | os.PathLike):
        return "data"
    name = os.fspath(source)
    if name in registry.names("source"):
        return name
    path = Path(name).expanduser().resolve()
    return (path.stem if path.is_file() else path.name) or "run"


# --- decide what to train ---------------------------------------------------------------------------------------------


def begin(source: Any, spec: TrainSpec, folder: Path, resume: bool, world: World, progress: Progress = silent) -> Begun:
    """Decide in the first process what is trained, and follow it in the others.

    Args:
        source: as of `train`.
        spec: what is asked for.
        folder: of the run.
        resume: go on with the run that is there.
        world: the processes that train together.
        progress: called with the share done, 0 to 1, and a few words.

    Raises:
        ScorefieldError: what was asked for cannot be done, or `folder` is in use; in all processes alike.
    """
    first = world.agreed(lambda: _begin(source, spec, folder, resume, progress) if world.first else None)
    if world.size == 1:
        assert first is not None
        return first
    values = world.broadcast(first.for_others() if first is not None else {})
    return world.agreed(lambda: _follow(source, values) if first is None else first)


def _begin(source: Any, spec: TrainSpec, folder: Path, resume: bool, progress: Progress) -> Begun:
    progress(0.0, "opening the data")
    if (folder / "config.json").exists():
        return _resume(folder, source, spec) if resume else _go_on_unasked(folder, source, spec)
    _refuse_other_files(folder)
    run = resolve(source, spec, portion(progress, 0.0, 0.5))
    findings = examine(run.data, portion(progress, 0.5, 0.4))
    warnings = [*findings.warnings, *too_few(run.data), *unvisited_levels(run.config)]
    manifest = manifest_of(run.data, run.stats.std, run.reasons, 0, place_of(source)) | {"warnings": warnings}
    return Begun(run.config, run.data, run.stats, manifest, False, findings.issues)


def _follow(source: Any, values: dict[str, Any]) -> Begun:
    """Begin as the first process does, with the data that this one sees."""
    config, manifest = from_dict(values["config"]), values["manifest"]
    data = open_again(source, config.data, manifest["data"])
    if data.fingerprint != values["fingerprint"]:
        raise ScorefieldError(
            f"got data from {source_name(source)!r} that differ from those of the first process, expected the same everywhere: "
            "copy them"
        )
    return Begun(config, with_clusters(config, data)[1], data_stats(data), manifest, values["goes_on"])


def _refuse_other_files(folder: Path) -> None:
    """Refuse a folder with anything in it but what a run that was killed while it began leaves behind."""
    if not folder.exists():
        return
    inside = {path.name for path in folder.iterdir() if not path.name.endswith(".partial")} if folder.is_dir() else {"a file"}
    inside -= {ISSUES}
    begun = "manifest.json" in inside and inside <= {"model.safetensors", "manifest.json"}
    if begun:
        manifest = files.read_json(folder / "manifest.json")
        begun = isinstance(manifest, dict) and manifest.get("progress", {}).get("step") == 0
    if inside and not begun:
        raise ScorefieldError(f"got --out {folder}, which is there already and no run, expected a new folder: choose another")


def _go_on_unasked(folder: Path, source: Any, spec: TrainSpec) -> Begun:
    """Go on without `resume` with a run that was cut short, where the very same run is asked for; else refuse."""
    old, asked = open_run(folder), resolve(source, spec)
    same = asked.config.source == old.config.source  # another spelling, or another place, of the same data will do as well
    same = same or asked.data.is_what_made(old.manifest["data"]["fingerprint"])
    if old.manifest["progress"]["finished"] or not same or replace(asked.config, source=old.config.source) != old.config:
        raise ScorefieldError(
            f"got --out {folder}, which holds a run already, expected a new folder: choose another, or add --resume"
        )
    whole = asked.data.fingerprint == old.manifest["data"]["fingerprint"]  # else its table is read as the run reads it
    data, stats = (asked.data, asked.stats) if whole else _data_of(old, source)
    return Begun(old.config, data, stats, _moved(old.manifest, source), True)


def _resume(folder: Path, source: Any, spec: TrainSpec) -> Begun:
    """Go on with the run in `folder`: a new budget replaces its own, and a few settings may change."""
    old, changes = open_run(folder), changes_of(spec)
    opened = functools.cache(lambda: _data_of(old, source))
    known = measured_settings(opened()[1]) if parts_of(changes) & set(FIXED) else {}
    config = override(old.config, [*budget_of(spec), *changes], measured=known)
    _refuse_change(old, config, spec)
    data, stats = opened()
    return Begun(config, data, stats, _moved(old.manifest, source), True)


def _refuse_change(old: Run, config: RunConfig, spec: TrainSpec) -> None:
    """Refuse a config with which the run could not go on as what it is."""
    own = old.config
    for part, wanted, has in (
        ("recipe", spec.recipe, own.recipe),
        ("seed", spec.seed, own.seed),
        *((part, getattr(config, part), getattr(own, part)) for part in FIXED),
        ("seed", config.seed, own.seed),
        ("training.batch", config.training.batch, own.training.batch),
        ("training.ema", config.training.lengths, own.training.lengths),
        ("training.labels", config.training.labels, own.training.labels),
        ("optimiser.method", config.optimiser.method, own.optimiser.method),  # one cannot use the moments of the other
    ):
        if wanted is not None and wanted != has:
            raise ScorefieldError(
                f"got another {part} for the run {old.path}, expected its own, {has}: start a new run to change it"
            )


def _data_of(old: Run, source: Any) -> tuple[Dataset, DataStats]:
    """Open the data of a run again, as the run reads them, and measure them."""
    data = open_again(source, old.config.data, old.manifest["data"])
    if not data.is_what_made(old.manifest["data"]["fingerprint"]):
        raise ScorefieldError(
            f"got data from {source_name(source)!r} that differ from those the run {old.path} was trained on, expected the "
            "same: restore them or start a new run"
        )
    return with_clusters(old.config, data)[1], data_stats(data)


def _moved(manifest: dict[str, Any], source: Any) -> dict[str, Any]:
    """Return a manifest that names where the data lie now."""
    if (place := place_of(source)) is not None:
        manifest["data"]["path"] = place
    return manifest


# --- make it ready ----------------------------------------------------------------------------------------------------


def trainer_of(begun: Begun, folder: Path, device: torch.device, world: World) -> Trainer:
    """Return a trainer where the run stands; the manifest of `begun` learns how many parameters there are.

    Raises:
        ScorefieldError: the network, or a batch, needs too much memory, parts do not fit, or the checkpoints are gone.
        NotFinite: the first loss is no number.
    """
    config, data, manifest = begun.config, begun.data, begun.manifest
    model = world.agreed(lambda: model_of(config, data, begun.stats, device))
    manifest["parameters"] = sum(p.numel() for p in model.parameters())
    trainer = world.agreed(lambda: Trainer(config, data, model, folder / "checkpoints", device, world))
    if begun.goes_on:
        if config.training.precision == "auto":
            trainer.precision = manifest.get("precision", trainer.precision)  # chosen once, so that both sittings agree
        if not trainer.resume() and manifest["progress"]["step"]:
            raise ScorefieldError(
                f"got no checkpoint in {trainer.folder}, though the run had reached step {manifest['progress']['step']}, "
                "expected one to go on from: restore the folder, or start a new run"
            )
        trainer.messages += _changed_conditions(manifest, trainer)
    world.agreed(lambda: refuse_large_batch(trainer))
    world.agreed(trainer.rehearse)
    return trainer


def conditions(trainer: Trainer) -> dict[str, Any]:
    """Return what a run's numbers depend on besides its settings, in their last digits."""
    return {
        "device": trainer.device.type,
        "threads": torch.get_num_threads(),
        "processes": trainer.world.size,
        **({} if trainer.precision == "auto" else {"precision": trainer.precision}),
    }


def _changed_conditions(manifest: dict[str, Any], trainer: Trainer) -> list[str]:
    """Say which conditions differ from those of the training before."""
    new = [(key, manifest[key], now) for key, now in conditions(trainer).items() if manifest.get(key, now) != now]
    if not new:
        return []
    changes = ", ".join(f"{key} {now} instead of {before}" for key, before, now in new)
    return [f"goes on with {changes}: its numbers will not be quite those of a run that changes nothing"]
