"""A run as a folder to share: the run itself, which opens again, without what describes the machine it was made on.

Paths are left out: of the data, of the run a generator was distilled from, and in every sentence. What the run says of its data
stays: names of classes and columns, texts of a table, moments. `README.md` is its model card (`model_card.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.drawing import trained
from scorefield.errors import ScorefieldError
from scorefield.interchange.model_card import model_card
from scorefield.interchange.portable import places, portable, without_paths
from scorefield.moments import MOMENTS
from scorefield.runs import Run

WEIGHTS = ("model.safetensors", "early.safetensors", "generator.safetensors", MOMENTS)
RESULTS = ("quality.json", "sampling.json")  # of the weights that they name, and left out where those are others


def to_hub(run: Run, folder: Path, licence: str | None = None) -> None:
    """Write a run's folder to share.

    Args:
        run: an opened run.
        folder: an empty folder.
        licence: of the weights, as "apache-2.0"; None for a card that says that none was chosen.

    Raises:
        ScorefieldError: a run without weights, or without a step of training.
    """
    _ = trained(run).field  # refuses weights that are missing, or that are not those of the manifest
    hidden, quality = places(run), None
    config, manifest = portable(run)
    for name in WEIGHTS:
        content = run.weights if name == "model.safetensors" else _content(run.path / name)
        if content is not None:
            files.write(folder / name, content)
    for name in RESULTS:
        if (run.path / name).is_file() and (values := _fresh(run, name)) is not None:
            values = without_paths(values, hidden)
            files.write_json(folder / name, values)
            quality = values if name == "quality.json" else quality
    files.write_json(folder / "config.json", config)
    files.write_json(folder / "manifest.json", manifest)
    files.write(folder / "README.md", model_card(run, manifest, quality, licence).encode())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _fresh(run: Run, name: str) -> Any:
    """Return what a file of results holds if it is of the run's present weights, else None."""
    try:
        values = files.read_json(run.path / name)
    except ScorefieldError:
        return None
    if name == "sampling.json":
        return values if isinstance(values, dict) and values.get("model_sha256") == run.manifest.get("model_sha256") else None
    return values if run.stale(values) is None else None
