"""Worker: a process that does what the page asks for, and reports to the server as it goes.

The server sends tasks, and (STOP, task) to end one; the worker sends events. When the server is gone, killed for instance,
the pipe ends: a training then saves its state and stops as if it had been asked to, and everything else is given up. Tasks are
done one after the other, in the main thread; a second thread listens.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scorefield.cores import Cores
from scorefield.web.limits import LEARNING

STOP = "stop"
EVERY = 0.1  # seconds between two reports of progress
FRAMES = 1 / 15  # seconds between two frames
PATIENCE = 60.0  # seconds for a training to save its state when the server is gone


class Stopped(BaseException):
    """The work was given up. No `except Exception` on the way takes it for a failure."""


class Worker:
    """The process's side of the pipe."""

    def __init__(self, connection: Connection) -> None:
        """Listen to the server from now on."""
        self.connection, self.tasks = connection, queue.SimpleQueue[Any]()
        self.stopped, self.alone, self.sending = set[Any](), False, threading.Lock()
        self.cores: Cores | None = None  # whose number decides; None for threads that stay as they are
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message = self.connection.recv()
                if isinstance(message, tuple):
                    self.stopped.add(message[1])
                else:
                    self.tasks.put(message)
        self.alone = True  # the server is gone
        self.tasks.put(None)
        time.sleep(PATIENCE)
        os._exit(1)

    def must_stop(self, task: Any) -> bool:
        """Whether a task was asked to stop, or its owner waits no longer. Asked often: threads follow the free cores."""
        if self.cores is not None:
            self.cores.adapt()
        return self.alone or task in self.stopped

    def send(self, *event: Any) -> None:
        """Send an event; it is lost when the server has ended."""
        with self.sending, suppress(OSError, BrokenPipeError):
            self.connection.send(event)

    def run(self) -> None:
        """Do tasks until the server is gone."""
        while (task := self.tasks.get()) is not None:
            self._do(task)

    def _do(self, task: Mapping[str, Any]) -> None:
        from scorefield.errors import ScorefieldError

        name = task["id"]
        try:
            if task["kind"] == "verb":
                self.send("done", name, Verb(self, task).run())
            else:
                from scorefield.web import shown

                self.send("done", name, getattr(shown, task["kind"])(**task["arguments"]))
        except Stopped:
            self.send("stopped", name)
        except ScorefieldError as error:
            self.send("failed", name, str(error), True)
        except Exception as error:  # a bug, a full disk: the page shows what there is, and the terminal all of it
            traceback.print_exc()
            self.send(
                "failed", name, f"got {type(error).__name__} ({error}), expected none: see the terminal of the server", False
            )
        finally:
            self.stopped.discard(name)


class Verb:
    """A verb that is run for the page."""

    def __init__(self, worker: Worker, task: Mapping[str, Any]) -> None:
        """Hold what is asked."""
        self.worker, self.id, self.verb = worker, task["id"], task["verb"]
        self.given, self.held_out = dict(task["arguments"]), dict(task["held_out"])
        self.folder = Path(task["folder"])
        self.spoke = self.drew = -1.0
        self.run_: Any = None

    def run(self) -> dict[str, Any]:
        """Run it; return its report as JSON values."""
        from scorefield import app
        from scorefield.runs import open_run
        from scorefield.training.reports import json_values
        from scorefield.web import forms, limits, shown

        forms.check_names(self.verb, self.given)
        arguments = forms.arguments(self.verb, self.given)
        limits.check(self.verb, arguments)  # again, of what came as a text
        for name, index in self.held_out.items():
            arguments[name] = str(shown.held_out_file(arguments["run"], index, self.folder))
        if self.verb == "sample":
            self.run_ = open_run(arguments["run"])
        if self.verb in LEARNING:
            arguments["stop"] = lambda: self.worker.must_stop(self.id)
        report = getattr(app, self.verb)(**arguments, progress=self.show)
        values: dict[str, Any] = json_values(report.to_dict() if hasattr(report, "to_dict") else dataclasses.asdict(report))
        return values

    def show(self, fraction: float, text: str, event: Any = None, /) -> None:
        """Report progress, at most ten times a second, and what there is to look at."""
        if self.worker.must_stop(self.id) and self.verb not in LEARNING:
            raise Stopped
        now = time.monotonic()
        if event is not None:
            self._show_event(event, now, last=fraction >= 1)
        if now - self.spoke >= EVERY or fraction >= 1:
            self.spoke = now
            self.worker.send("progress", self.id, fraction, text)

    def _show_event(self, event: Any, now: float, last: bool) -> None:
        from scorefield.web import shown

        if self.verb == "train":
            self.worker.send(*shown.training_event(self.id, event))
        elif self.verb == "sample" and (now - self.drew >= FRAMES or last):
            self.drew = now
            frame = shown.frame(self.run_, self.id, event)
            if frame is not None:
                self.worker.send("frame", self.id, frame)


def main(connection: Connection, threads: int | None = None) -> None:
    """Be a worker: import what is slow, say so, and wait for tasks.

    Args:
        connection: to the server.
        threads: of torch; None for as many as there are free cores, as the commands have.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt in the terminal is the server's, which says what to do
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):  # where a machine runs out of memory, Linux ends this process before any other
        Path("/proc/self/oom_score_adj").write_text("1000")
    worker = Worker(connection)
    import torch

    from scorefield.web import forms, shown

    if threads is not None:
        torch.set_num_threads(threads)
    else:
        worker.cores = Cores()
    worker.send("ready", {"forms": forms.forms(), "sources": shown.sources()})
    worker.run()
