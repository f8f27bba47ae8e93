"""A run as a folder to share: the run itself, which opens again, without what describes the machine it was made on.

Paths are left out: of the data, of the run a generator was distilled from, and in every sentence. What the run says of its data
stays: names of classes and columns, texts of a table, moments. `README.md` is its model card (`model_card.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.config import to_dict
from scorefield.drawing import trained
from scorefield.errors import ScorefieldError
from scorefield.interchange.model_card import model_card
from scorefield.moments import MOMENTS
from scorefield.runs import Run

WEIGHTS = ("model.safetensors", "early.safetensors", "generator.safetensors", MOMENTS)
RESULTS = ("quality.json", "sampling.json")  # of the weights that they name, and left out where those are others
DATA = ("columns", "classes", "layout", "normaliser", "style")  # of the manifest's data: texts of the data, which are no paths
ABSOLUTE = re.compile(r"""(?<![\w.:/\\-])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/'",;()]+[\\/])+""")


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
    hidden, quality = _places(run), None
    config, manifest = to_dict(run.config), dict(run.manifest)
    config["source"] = without_paths(config["source"], hidden)
    about = {key: value if key in DATA else without_paths(value, hidden) for key, value in manifest["data"].items()}
    manifest = {**without_paths(manifest, hidden), "data": {**about, "path": None}}
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


def without_paths(value: Any, hidden: tuple[str, ...] = ()) -> Any:
    """Return JSON values in which texts have the last name of a path in place of the path.

    Args:
        value: JSON values.
        hidden: paths that are known, which may have any letters; others are found where they are absolute and have no spaces.

    >>> without_paths({"why": ["distilled from /home/ann/runs/cats to 1", "a/b"]}, ("/home/ann/runs",))
    {'why': ['distilled from cats to 1', 'a/b']}
    """
    if isinstance(value, Mapping):
        return {key: without_paths(one, hidden) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one, hidden) for one in value]
    if not isinstance(value, str):
        return value
    for path in hidden:
        value = re.sub(re.escape(path) + r"[\\/]+(?=[^\s\\/])", "", value)  # of what lies in it
        value = re.sub(re.escape(path) + r"(?![\w.-])", re.sub(r".*[\\/]", "", path), value)
    return ABSOLUTE.sub("", value)


def _places(run: Run) -> tuple[str, ...]:
    """Return the paths that a run knows, longest first."""
    made_of = (run.manifest.get("distilled") or {}).get("from")
    known = {run.manifest["data"].get("path"), made_of, run.config.source, str(run.path), str(run.path.resolve())}
    paths = {path.rstrip("\\/") for path in (*known, os.path.expanduser("~")) if path}
    return tuple(sorted((path for path in paths if re.search(r"[\\/]", path)), key=len, reverse=True))


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
