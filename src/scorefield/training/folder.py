"""A run's folder while it is trained: weights, manifest, log and pictures are kept up to date.

What cannot be written while the loop runs is a warning and is tried again, for a full disk may be cleared while the training
goes on; at the end it is an error.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.config import to_dict
from scorefield.errors import NotFinite
from scorefield.moments import MOMENTS, save_moments
from scorefield.process import Process
from scorefield.progress import Viewer
from scorefield.runs import Run, open_run, read_log, save_model
from scorefield.training.begin import ISSUES, Begun, conditions
from scorefield.training.covariance import data_moments
from scorefield.training.loop import Trainer
from scorefield.training.previews import Previews, closing_seconds, curve, losses_by_level, preview
from scorefield.training.reports import Plan, TrainingState, TrainReport

WORDS = {"choosing": "choosing the moving average"}  # what a person reads of an event that takes its time
OPENING = 4.0  # seconds in which data are opened and looked at before they count in a budget


class RunFolder:
    """Runs the loop of a training and writes what it reports into the run's folder."""

    def __init__(self, path: Path, begun: Begun, trainer: Trainer, progress: Viewer, since: float | None = None) -> None:
        """Hold the parts; nothing is written yet. `since`: when the work began, by `time.perf_counter`; None for now."""
        self._since = time.perf_counter() if since is None else since
        self.path, self.begun, self.trainer, self.progress = path, begun, trainer, progress
        self.manifest, self.previews, self.messages = begun.manifest, Previews(), list[str]()
        self.held_out, self.ended = math.nan, "done"
        self._unwritten = list[str]()  # lines of the log

    def plan(self) -> Plan:
        """Return what the training is about to do."""
        config, manifest = self.trainer.config, self.manifest
        warnings = tuple(manifest.get("warnings", ()))
        why, parameters = tuple(manifest["why"]), manifest["parameters"]
        return Plan(self.trainer.data, config, why, parameters, self.path, self.begun.issues, warnings)

    def is_whole(self) -> bool:
        """Whether the run was finished and everything was written: if it was killed at the very end, the end is done again."""
        done, weights = self.manifest["progress"], self.path / "model.safetensors"
        return bool(
            done["finished"]
            and done["step"] == self.trainer.clock.step
            and weights.exists()
            and files.digest(weights.read_bytes()) == self.manifest["model_sha256"]
            and (not _has_levels(self.trainer.config.process) or (self.path / "levels.json").exists())
        )

    def train(self, stop: Callable[[], bool]) -> TrainReport:
        """Train until the budget is spent or `stop()`.

        Raises:
            ScorefieldError: another process trains here, or the last state could not be written.
            NotFinite: a NaN; the last good state has been kept.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with files.alone(self.path):
            self._open()
            try:
                for state in self.trainer.run(stop, self._reserve(time.perf_counter() - self._since)):
                    self._take(state)
            except NotFinite:
                if self.trainer.is_finite():
                    with contextlib.suppress(OSError):  # the NaN is what a person should hear of
                        self._save()
                raise
            if self.ended == "done":
                self._save()
                if _has_levels(self.trainer.config.process):
                    self._measure_levels(replace(state, messages=()))
                self._save(finished=True)
        return self.report(self.ended)

    def report(self, ended: str) -> TrainReport:
        """Return what the training did."""
        return TrainReport(
            self.path,
            **asdict(self.trainer.clock),
            held_out=self.held_out,
            ended=ended,
            written=tuple(self.previews.written),
            messages=tuple(self.messages),
            hardly_begun=ended == "done" and self.trainer.hardly_begun,
        )

    # --- the folder ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Make the folder that of a run, in an order in which a kill leaves something that says what it is."""
        if self.begun.issues:
            files.write_json(self.path / ISSUES, [asdict(issue) for issue in self.begun.issues])
        if not (self.path / "manifest.json").exists():
            files.write_json(self.path / "manifest.json", self.manifest)
        self._save()
        files.write_json(self.path / "config.json", to_dict(self.trainer.config))  # with it the folder is a run
        if not (self.path / MOMENTS).exists() and (moments := data_moments(self.trainer.data)) is not None:
            save_moments(self.path, moments, self.manifest["data"]["fingerprint"])
        _forget_later_lines(self.path / "metrics.jsonl", self.trainer.clock.step)

    def _save(self, finished: bool = False) -> None:
        """Write the weights in use, and the manifest that belongs to them."""
        self.manifest["progress"] = {**asdict(self.trainer.clock), "finished": finished}
        self.manifest.update(conditions(self.trainer))
        with files.together():
            save_model(self.path, self.trainer.average, self.manifest, self.trainer.averages.early)

    def _write_log(self) -> None:
        if self._unwritten:
            files.append(self.path / "metrics.jsonl", "".join(self._unwritten).encode())
            self._unwritten.clear()

    def _reserve(self, opening: float) -> Callable[[], float]:
        """Return the question how many seconds of a budget to keep: a person who gives a time waits about that long in all."""
        return lambda: max(0.0, opening - OPENING) + closing_seconds(self.trainer)

    # --- what the loop reports ----------------------------------------------------------------------------------------

    def _take(self, state: TrainingState) -> None:
        """Write what a state says, and show it."""
        self.held_out, self.ended = state.extra.get("held_out", self.held_out), state.event
        if state.event in ("log", "done"):
            self._unwritten.append(json.dumps(_line(state)) + "\n")
        try:
            self._write_log()
            if state.event in ("ready", "checkpoint", "stopped"):
                self._save()
        except OSError as error:
            if state.event in ("done", "stopped"):
                raise
            trouble = f"{self.path} could not be written ({error}): training goes on and will try again"
            state = replace(state, messages=(*state.messages, trouble))
        if state.event == "picture" or (state.event == "done" and self.trainer.config.training.pictures):
            trainer = self.trainer
            if state.event == "done":
                self._show(replace(state, event="measuring", messages=()), "drawing samples")
            said = self.previews.take("picture of samples", lambda: preview(trainer, self.path, trainer.data))
            state = replace(state, messages=(*state.messages, *said))
        self._show(state)

    def _show(self, state: TrainingState, text: str = "") -> None:
        self.messages += state.messages
        self.progress(state.fraction, text or WORDS.get(state.event, state.event), state)

    def _measure_levels(self, last: TrainingState) -> None:
        """Measure the error by noise level, write and plot it; say what could not be done."""

        def show(share: float, text: str) -> None:
            self.progress(share, text, replace(last, event="measuring", fraction=share))

        def measured() -> Path:
            run = open_run(self.path)
            sigmas, curves = losses_by_level(run, self.trainer.data, show)
            results.append((run, sigmas, curves))
            files.write_json(self.path / "levels.json", {"sigma": sigmas, **curves, "made_from": run.made_from})
            return self.path / "levels.json"

        results: list[tuple[Run, list[float], dict[str, list[float]]]] = []
        said = self.previews.take("table of the error by noise level", measured)
        if results:
            show(0.99, "plotting the error by noise level")
            said += self.previews.take("plot of the error by noise level", lambda: curve(*results[0]))
        if said:
            self._show(replace(last, event="warning", fraction=1.0, messages=said), "trained")


def _has_levels(process: Process) -> bool:
    """Whether a process has more than one time, and so a curve of its error by level."""
    return process.t_max > process.t_min


def _forget_later_lines(log: Path, step: int) -> None:
    """Drop what a killed run wrote after the checkpoint from which it goes on, a line cut short, and that it was done."""
    if log.exists():
        lines = [line for line in read_log(log) if line["step"] <= step and line["event"] != "done"]
        files.write(log, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _line(state: TrainingState) -> dict[str, Any]:
    """Return a line of the log as JSON values, with None for a NaN."""
    numbers = {"event": state.event, "step": state.step, "seconds": round(state.seconds, 3), "images": state.images}
    numbers |= {"loss": state.loss, "images_per_second": round(state.images_per_second, 1), **state.extra}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()}
