"""Processes: the server's side of its workers.

Each worker is a new Python process, so that what it does neither blocks the server nor outlives it, and a job that does not
stop when it is asked to can be ended. A thread reads its events and passes them to the event loop.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scorefield.errors import ScorefieldError
from scorefield.web import worker

Listener = Callable[[tuple[Any, ...]], None]


class Process:
    """A worker, and the pipe to it. Events come to `listener` in the event loop; ("gone",) is the last."""

    def __init__(self, listener: Listener, threads: int | None = None) -> None:
        """Start a worker.

        Args:
            listener: called with each event.
            threads: of torch; None for as many as there are free cores.
        """
        context = multiprocessing.get_context("spawn")
        self.loop, self.listener = asyncio.get_running_loop(), listener
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=worker.main, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            with suppress(EOFError, OSError):
                while True:
                    self.loop.call_soon_threadsafe(self.listener, self.connection.recv())
            self.process.join(5.0)
            self.loop.call_soon_threadsafe(self.listener, ("gone",))

    def send(self, message: Any) -> None:
        """Send a task, or STOP."""
        with suppress(OSError, BrokenPipeError):
            self.connection.send(message)

    def close(self) -> None:
        """Let the worker end after what it is doing. A pipe that a thread reads is not closed by `Connection.close`."""
        self.send(None)

    def kill(self) -> None:
        """End the worker now."""
        self.process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for the worker to end; return whether it has."""
        self.process.join(seconds)
        return self.process.exitcode is not None


class Asked:
    """A worker for what is answered at once: forms, held-out examples, scores. Questions wait for each other."""

    def __init__(self, most: int) -> None:
        """Start the worker; at most `most` questions wait."""
        self.most, self.number = most, 0
        self.waiting = dict[int, asyncio.Future[Any]]()
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.process: Process | None = Process(self._hear, threads=1)

    def _hear(self, event: tuple[Any, ...]) -> None:
        if event[0] == "ready":
            if not self.ready.done():
                self.ready.set_result(event[1])
            return
        if event[0] == "gone":  # it was killed, as by a machine without memory
            for future in [*self.waiting.values(), *([] if self.ready.done() else [self.ready])]:
                future.set_exception(RuntimeError("the process that answers has ended: ask again"))
            self.waiting.clear()
            self.process = None
            return
        kind, number, *values = event
        future = self.waiting.pop(number)
        if not future.done():  # who asked may have left
            future.set_result((kind == "done", *values))

    async def ask(self, kind: str, **arguments: Any) -> Any:
        """Return the answer of a function of `shown.py`.

        Raises:
            ScorefieldError: a refusal.
            RuntimeError: a failure, in a sentence.
            BlockingIOError: too many questions wait.
        """
        if len(self.waiting) >= self.most:
            raise BlockingIOError
        await self.ready
        self.number += 1
        number, future = self.number, asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        if self.process is None:
            self.process = Process(self._hear, threads=1)
        self.process.send({"id": number, "kind": kind, "arguments": arguments})
        done, value, *refused = await future
        if not done:
            raise ScorefieldError(value) if refused == [True] else RuntimeError(value)
        return value

    def close(self) -> None:
        """Let the worker end."""
        if self.process is not None:
            self.process.close()
