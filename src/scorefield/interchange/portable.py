"""What a run says of itself, without what describes the machine it was made on.

Paths are left out: of the data, of the run that a generator was distilled from, and in every sentence. What it says of its data
stays: names of classes and columns, texts of a table, moments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from scorefield.config import to_dict
from scorefield.runs import Run

DATA = ("columns", "classes", "layout", "normaliser", "style")  # of the manifest's data: texts of the data, which are no paths
DESCRIBED = ("name", "kind", "shape", "std", "class_counts", *DATA)
ABSOLUTE = re.compile(r"""(?<![\w.:/\\-])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/'",;()]+[\\/])+""")


def portable(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's settings and its manifest as JSON values without paths."""
    hidden = places(run)
    config, manifest = to_dict(run.config), dict(run.manifest)
    config["source"] = without_paths(config["source"], hidden)
    about = {key: value if key in DATA else without_paths(value, hidden) for key, value in manifest["data"].items()}
    return config, {**without_paths(manifest, hidden), "data": {**about, "path": None}}


def described(run: Run) -> dict[str, Any]:
    """Return what an exported model must say of its run to become one again: its settings, and those of its data."""
    config, manifest = portable(run)
    data = {name: manifest["data"].get(name) for name in DESCRIBED}
    return {"config": config, "data": {**data, "layout": run.layout.to_dict()}}  # which a run of 0.6 does not record


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


def places(run: Run) -> tuple[str, ...]:
    """Return the paths that a run knows, longest first."""
    made_of = (run.manifest.get("distilled") or {}).get("from")
    known = {run.manifest["data"].get("path"), made_of, run.config.source, str(run.path), str(run.path.resolve())}
    paths = {path.rstrip("\\/") for path in (*known, os.path.expanduser("~")) if path}
    return tuple(sorted((path for path in paths if re.search(r"[\\/]", path)), key=len, reverse=True))
