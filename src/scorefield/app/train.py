"""Train: from a data source to a self-describing run folder.

resolve   what is asked for becomes a whole run                (`training/resolve.py`)
begin     the folder is free, or its run goes on               (`training/begin.py`)
train     the loop, whose reports the folder keeps             (`training/loop.py`, `training/folder.py`)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scorefield.distribution import join
from scorefield.progress import Viewer, silent
from scorefield.specs import TrainSpec
from scorefield.training.begin import begin, folder_of, trainer_of
from scorefield.training.folder import RunFolder
from scorefield.training.reports import Plan, TrainReport

__all__ = ["Plan", "TrainReport", "train"]

STOPPED = 143  # as a shell reports SIGTERM


def train(
    source: Any,
    spec: TrainSpec = TrainSpec(),  # noqa: B008  # it is frozen
    *,
    out: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Viewer = silent,
    stop: Callable[[], bool] = lambda: False,
) -> TrainReport:
    """Learn the score of a data source and leave a self-describing run folder.

    Under `torchrun` all processes train together, and all but the first end inside this call, with the exit code of the run.

    Args:
        source: a built-in name, or the path of a folder or .zip of images, of an array, a table or tar shards. Or the data
            themselves: a data frame, an array, a list of images, anything with a length and things by number.
        spec: what is asked for; its fields may be given as keywords, as in `train("digits", steps=100, seed=1)`.
        out: the run's folder; None for runs/<name of the source>, runs/data for data themselves.
        device: auto, cpu or cuda.
        resume: go on with the run in `out`; its own config is used, a new budget of seconds or steps replaces its own. A run
            that was cut short goes on without this, too, when everything asked for is what it was begun with.
        progress: called with the share done and words while the data are opened, with a `Plan` as event, then with each
            `TrainingState` of the loop.
        stop: asked between steps; True saves the state and ends.

    Returns:
        How far it went, and what it wrote.

    Raises:
        ScorefieldError: unusable data, unknown names, `out` in use; nothing has been written then. Or the last state could not
            be written; the checkpoint before it stands.
        NotFinite: a NaN; the last good state has been kept.
    """
    path, since = folder_of(out, source), time.perf_counter()
    with join(device) as world:
        begun = begin(source, spec, path, resume, world, lambda share, text: progress(0.0, text, None))
        trainer = trainer_of(begun, path, world.device, world)
        folder = RunFolder(path, begun, trainer, progress, since)
        if world.first:
            progress(0.0, "beginning", folder.plan())
        if begun.goes_on and trainer.fraction >= 1 and world.broadcast(world.first and folder.is_whole()):
            return folder.report("before")
        if world.first:
            return folder.train(stop)
        for _ in trainer.run(stop):
            pass
        raise SystemExit(STOPPED if trainer.fraction < 1 else 0)
