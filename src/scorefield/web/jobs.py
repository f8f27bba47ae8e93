"""Jobs: what pages have asked for: waiting, running, done.

One training or distillation and one other job run at a time; the rest wait, at most eight of them. A job ends when it is done,
when it is cancelled, and when its owner has left, unless it is a training that was asked to stay. What it wrote can be
downloaded until its owner has been away for a while.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

from scorefield.web import limits
from scorefield.web.asking import resolved
from scorefield.web.hub import LIVE, Hub
from scorefield.web.places import UPLOAD, Places
from scorefield.web.processes import Process
from scorefield.web.worker import STOP

SWEEP = 1.0  # seconds between two looks at who has left
GRACE = 10.0  # seconds for a page to come back, as when it is loaded again
KEPT = 600.0  # seconds for which the files of an owner who has left are kept
STOPPING = 20.0  # seconds for a job to end when it is asked to; a training may take longer to save


class Busy(Exception):
    """Too many jobs wait."""


@dataclass(eq=False)
class Job:
    """What a page has asked for.

    Attributes:
        id, owner, verb: what it is, and whose.
        asked: arguments as the page gave them.
        arguments: as the verb takes them, without what stands in `held_out`.
        held_out: argument -> number of the held-out example that it is.
        folder: where it writes.
        stays: whether it goes on when its owner leaves.
        state, fraction, text, error, field, report, plan: how it stands.
        made, ended: seconds since 1970.
        stopping: when it was asked to end, else None.
        process: the worker that does it.
        kept: the copy of an upload that was made for it.
    """

    id: str
    owner: str
    verb: str
    asked: dict[str, Any]
    arguments: dict[str, Any]
    held_out: dict[str, int]
    folder: Path
    stays: bool = False
    state: str = "waiting"
    fraction: float = 0.0
    text: str = ""
    error: str | None = None
    field: str | None = None
    report: Any = None
    plan: Any = None
    command: str = ""
    made: float = default(default_factory=time.time)
    ended: float | None = None
    stopping: float | None = None
    process: Process | None = None
    kept: Path | None = None

    @property
    def lane(self) -> str:
        """Jobs of one lane wait for each other."""
        return "train" if self.verb in limits.LEARNING else "work"

    def files(self) -> list[dict[str, Any]]:
        """Return what it wrote into its folder, the main file first."""
        if self.state != "done" or not self.folder.is_dir():
            return []
        given = set(self.folder.glob("held-out-*"))  # the example that was to be restored, not the answers named after it
        inside = sorted(
            path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".") and path not in given
        )
        named = [(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in inside]
        return [{"name": name, "url": f"/api/jobs/{self.id}/files/{name}", "bytes": size} for name, size in named]

    def told(self, place: int | None = None) -> dict[str, Any]:
        """Return how it stands, as JSON values; `place` is that in the queue."""
        keys = ("id", "verb", "state", "fraction", "text", "error", "field", "report", "plan", "command", "made")
        return {key: getattr(self, key) for key in keys} | {
            "arguments": self.asked,
            "place": place,
            "stay": self.stays,
            "files": self.files(),
        }


class Jobs:
    """All jobs, and the workers that do them."""

    def __init__(self, places: Places, hub: Hub) -> None:
        """Begin without jobs, and without workers."""
        self.places, self.hub = places, hub
        self.jobs, self.running = dict[str, Job](), dict[str, Job]()
        self.idle: list[Process] = []
        self.closing = False

    # --- workers ------------------------------------------------------------------------------------------------------

    def warm(self) -> None:
        """Start a worker, to be ready for the first job."""
        if not self.idle and not self.running and not self.closing:
            self._start_worker()

    def _start_worker(self) -> None:
        holder = list[Process]()
        process = Process(lambda event: self._hear(holder[0], event))
        holder.append(process)
        self.idle.append(process)

    def _next(self) -> None:
        """Start what can be started."""
        for job in list(self.jobs.values()):
            if job.state == "waiting" and job.lane not in self.running and not self.closing:
                if not self.idle:
                    self._start_worker()
                job.process, job.state, job.text = self.idle.pop(0), "running", "starting"
                self.running[job.lane] = job
                job.process.send(
                    {"id": job.id, "kind": "verb", "verb": job.verb, "arguments": job.arguments}
                    | {"held_out": job.held_out, "folder": str(job.folder)}
                )
        for job in self.jobs.values():
            if job.state == "waiting":
                self._tell(job)

    def _hear(self, process: Process, event: tuple[Any, ...]) -> None:
        """Take an event of a worker."""
        job = next((one for one in self.running.values() if one.process is process), None)
        if event[0] == "gone":
            self.idle = [one for one in self.idle if one is not process]
            if job is not None:
                self._end(job, "cancelled" if job.stopping else "failed", None if job.stopping else _GONE, reuse=False)
        if job is None or event[0] in ("gone", "ready") or event[1] != job.id:
            return
        kind, _, *values = event
        if kind == "progress":
            job.fraction, job.text = max(0.0, min(1.0, values[0])), values[1]
            self._tell(job)
        elif kind == "frame":
            self.hub.tell_frame(job.owner, job.id, values[0])
        elif kind == "plan":
            job.plan = values[0]
            self._tell(job)
            if not self.idle:  # for the next job, now that this one is under way
                self._start_worker()
        elif kind == "training":
            self.hub.tell_state(job.owner, {"type": "training", "job": job.id, "state": values[0]})
        elif kind == "done":
            job.report, job.fraction = values[0], 1.0
            self._end(job, "cancelled" if job.verb == "train" and job.stopping else "done")
        elif kind == "failed":
            self._end(job, "failed", values[0])
        elif kind == "stopped":
            self._end(job, "cancelled")

    def _end(self, job: Job, state: str, error: str | None = None, reuse: bool = True) -> None:
        """Note that a job has ended, and use its worker for the next."""
        job.state, job.error, job.ended = state, error, time.time()
        if error is not None:
            # A page knows no folder of this server: what it uploaded or named has the name that it gave.
            job.error = error = re.sub(rf"{re.escape(str(self.places.temporary))}/(jobs|uploads)/[\w-]+/", "", error)
            job.field = self.field_of(job.verb, error)
        process, job.process = job.process, None
        if self.running.get(job.lane) is job:
            del self.running[job.lane]
        if job.verb == "train":
            _forget_unused(job)
        if process is not None and reuse and job.verb != "train" and not self.idle:
            self.idle.append(process)
        elif process is not None:
            process.close()
            if not self.idle and not self.closing:
                self._start_worker()
        self._tell(job)
        self._next()

    def field_of(self, verb: str, sentence: str) -> str | None:
        """Return which field of a form a sentence is about; the API sets what knows the forms."""
        return None

    # --- what pages ask -----------------------------------------------------------------------------------------------

    def waiting(self) -> list[Job]:
        """Return the jobs that wait, the next one first."""
        return [job for job in self.jobs.values() if job.state == "waiting"]

    def add(self, verb: str, asked: Mapping[str, Any], owner: str, stays: bool = False) -> Job:
        """Take a job.

        Raises:
            ScorefieldError: an argument that the page may not ask for.
            Busy: too many wait.
        """
        if len(self.waiting()) >= limits.MOST_WAITING:
            raise Busy
        given = {name: value for name, value in asked.items() if value is not None and value != "" and value != []}
        limits.check(verb, given)
        name = secrets.token_urlsafe(9)
        folder = self.places.temporary / "jobs" / name
        folder.mkdir(parents=True)
        try:
            arguments, held_out = resolved(self.places, verb, given, folder)
            kept = None
            if verb == "train" and str(arguments["source"]).startswith(UPLOAD):
                arguments["source"], kept = self.places.keep(arguments["source"])
                arguments["source"] = str(arguments["source"])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        job = Job(name, owner, verb, dict(asked), arguments, held_out, folder, stays, kept=kept)
        self.jobs[name] = job
        self._drop_old()
        self._next()
        return job

    def cancel(self, job: Job) -> None:
        """End a job: one that waits at once, another when it next reports; a training saves its state."""
        if job.state == "waiting":
            self._end(job, "cancelled")
        elif job.state == "running" and job.stopping is None:
            job.stopping, job.text = time.monotonic(), "stopping"
            assert job.process is not None  # it runs
            job.process.send((STOP, job.id))
            self._tell(job)

    def _tell(self, job: Job) -> None:
        self.hub.tell_job(job.owner, self.told(job))

    def told(self, job: Job) -> dict[str, Any]:
        """Return how a job stands, with its place in the queue."""
        waiting = self.waiting()
        return job.told(waiting.index(job) + 1 if job in waiting else None)

    # --- time passes --------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """End jobs whose owners have left, and workers that do not end; drop old files. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            self.sweep()

    def sweep(self) -> None:
        """Do once what `watch` does again and again."""
        self.hub.forget(2 * KEPT)
        for job in list(self.jobs.values()):
            away = self.hub.away(job.owner)
            if job.state in LIVE and away > GRACE and not (job.stays and job.verb == "train"):
                self.cancel(job)
            if job.state not in LIVE and away > KEPT:
                self._drop(job)
            patience = STOPPING * (10 if job.verb == "train" else 1)
            if job.state == "running" and job.stopping is not None and time.monotonic() - job.stopping > patience:
                assert job.process is not None  # it runs
                job.process.kill()

    def _drop_old(self) -> None:
        done = [job for job in self.jobs.values() if job.state not in LIVE]
        for job in done[: max(0, len(done) - limits.MOST_KEPT)]:
            self._drop(job)

    def _drop(self, job: Job) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        del self.jobs[job.id]

    def close(self) -> None:
        """End everything; trainings save their state."""
        self.closing = True
        processes = [*self.idle, *(job.process for job in self.running.values() if job.process is not None)]
        for job in list(self.running.values()):
            if job.process is not None:
                job.process.send((STOP, job.id))
        for process in processes:
            process.close()
        limit = time.monotonic() + 60
        for process in processes:
            if not process.wait(max(0.1, limit - time.monotonic())):
                process.kill()


_GONE = "got a process that ended in the middle of its work, expected it to finish: there may be too little memory for it"


def _forget_unused(job: Job) -> None:
    """Delete the copy of an upload that was made for a training which was then refused."""
    if job.kept is not None and not (Path(str(job.arguments["out"])) / "config.json").exists():
        job.kept.unlink(missing_ok=True)
