"""Plan: what the data are, what training would do with them, and what to expect of it; nothing is written unasked.

the doctor    what in the data is broken, repeated, leaked or odd               (`data/doctor.py`)
the recipe    process, network, objective and sampler, with the reasons          (`training/resolve.py`)
the pilot     seconds and bytes of a training step on this machine               (`training/pilot.py`)
the estimate  steps, epochs, seconds of sampling, and what to expect of them     (`training/estimate.py`)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.data.doctor import examine
from scorefield.devices import pick_device
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, portion, silent
from scorefield.specs import TrainSpec
from scorefield.training.estimate import DataPlan, estimate
from scorefield.training.resolve import resolve

__all__ = ["DataPlan", "plan"]


def plan(
    source: Any,
    spec: TrainSpec = TrainSpec(),  # noqa: B008  # it is frozen
    *,
    device: str = "auto",
    out: str | Path | None = None,
    force: bool = False,
    pilot_seconds: float = 4.0,
    progress: Progress = silent,
) -> DataPlan:
    """Say what the data are and what a training would do, after a few seconds of trying it.

    Args:
        source: a built-in name, a path, or the data themselves, as `train` takes them, or a data set that is open already.
        spec: what `train` would be asked for; its fields may be given as keywords, as in `plan("digits", seconds=600)`.
        device: auto, cpu or cuda.
        out: a .json file for everything; None for none.
        force: overwrite it.
        pilot_seconds: how long to measure, about, > 0.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        The plan.

    Raises:
        ScorefieldError: unusable data, unknown names, `out` in use; nothing has been written then.
    """
    where, target = pick_device(device), _target(out, force)
    if not 0 < pilot_seconds < math.inf:
        raise ScorefieldError(f"got pilot_seconds {pilot_seconds!r}, expected a positive number of seconds: correct it")
    run = resolve(source, spec, portion(progress, 0.0, 0.2))
    findings = examine(run.data, portion(progress, 0.2, 0.2))
    made = estimate(run, findings, where, seconds=pilot_seconds, progress=portion(progress, 0.4, 0.6))
    if target is not None:
        files.write_json(target, made.to_dict())
    return made


def _target(out: str | Path | None, force: bool) -> Path | None:
    """Return where the JSON goes, or refuse before the work."""
    if out is None:
        return None
    path = Path(out).expanduser()
    files.refuse_existing(path, force, option="--json")
    if not path.absolute().parent.is_dir():
        raise ScorefieldError(f"got --json {path}, expected a file in a folder that exists: make it first")
    return path
