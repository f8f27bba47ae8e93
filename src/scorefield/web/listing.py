"""Listing: what runs there are and what is in them, from their JSON files alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from scorefield.web.places import SHOWN, read_json

MOST_LINES = 4000  # of the log of a training


def listed(folder: Path, training: bool) -> dict[str, Any]:
    """Return what a list of runs says of one; `training`: whether it is being trained by this server."""
    config, manifest = (read_json(folder / f"{name}.json") or {} for name in ("config", "manifest"))
    data, progress, found = (manifest.get(name, {}) for name in ("data", "progress", "distilled"))
    about = {key: data.get(key) for key in ("kind", "shape", "classes", "columns", "examples", "held_out")}
    about |= {key: progress.get(key) for key in ("step", "seconds", "images", "finished")}
    about |= {"recipe": config.get("recipe"), "source": config.get("source"), "parameters": manifest.get("parameters")}
    about |= {"distilled": {key: found.get(key) for key in ("evaluations", "steps", "seconds")} if found else None}
    about["imported"] = (manifest.get("imported") or {}).get("found")
    about["usable"] = bool(about["imported"] or (about["step"] or 0) > 0)
    if not (config.get("training") or {}).get("labels"):
        about["classes"] = []  # the network was not conditioned on them
    inside = (path for path in sorted(folder.rglob("*")) if path.suffix in SHOWN and path.is_file() and not path.is_symlink())
    names = [path.relative_to(folder).as_posix() for path in inside if not path.name.startswith(".")]
    files = [name for name in names if not name.startswith("checkpoints/")]
    values: dict[str, Any] = _finite({"name": folder.name, "training": training, **about, "files": files[:500]})
    return values


def described(folder: Path, training: bool) -> dict[str, Any]:
    """Return all that is known of a run."""
    names = ("config", "manifest", "levels", "quality", "tuning", "sampling", "likelihood")
    values: dict[str, Any] = _finite(listed(folder, training) | {name: read_json(folder / f"{name}.json") for name in names})
    return values


def metrics(folder: Path) -> list[Any]:
    """Return the lines of the log of a training, evenly thinned where there are many."""
    found = list[Any]()
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:  # cut short when its process was killed
            continue
    step = max(1, math.ceil(len(found) / MOST_LINES))
    lines: list[Any] = _finite(found[:-1:step] + found[-1:])
    return lines


def _finite(value: Any) -> Any:
    """Return JSON values with None for what is no finite number."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
