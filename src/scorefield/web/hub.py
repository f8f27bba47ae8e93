"""Hub: the pages that are open, and the events that wait for each.

A page that is slow gets the latest state of each job and the latest frame, not all of them. States of a training are few, and
every one is sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from typing import Any

LIVE = ("waiting", "running")  # states of a job that has not ended
MOST_STATES = 500  # of trainings that wait to be sent to one page


class Outbox:
    """The events that wait for one page."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.jobs, self.frames = dict[str, Any](), dict[str, bytes]()
        self.states, self.filled = deque[Any](maxlen=MOST_STATES), asyncio.Event()

    async def next(self) -> list[str | bytes]:
        """Wait until there is something, and return all of it: texts of JSON, and frames; a job ends after its last frame."""
        await self.filled.wait()
        self.filled.clear()
        told = [json.dumps(state, allow_nan=False) for state in self.states]
        live, over = list[str](), list[str]()
        for job in self.jobs.values():
            (live if job["state"] in LIVE else over).append(json.dumps({"type": "job", "job": job}, allow_nan=False))
        frames = list(self.frames.values())
        for kept in (self.states, self.jobs, self.frames):
            kept.clear()
        return [*told, *live, *frames, *over]


class Hub:
    """Pages by owner; an owner may have several, after a reload for a moment."""

    def __init__(self) -> None:
        """Begin without pages."""
        self.pages, self.seen = defaultdict[str, list[Outbox]](list), dict[str, float]()

    def enter(self, owner: str) -> Outbox:
        """Open a page."""
        outbox = Outbox()
        self.pages[owner].append(outbox)
        self.see(owner)
        return outbox

    def leave(self, owner: str, outbox: Outbox) -> None:
        """Close a page."""
        self.pages[owner].remove(outbox)
        if not self.pages[owner]:
            del self.pages[owner]
        self.see(owner)

    def see(self, owner: str) -> None:
        """Note that an owner has just been here."""
        self.seen[owner] = time.monotonic()

    def away(self, owner: str) -> float:
        """Return for how many seconds an owner has had no page open and asked for nothing, 0 for one that has a page open."""
        return 0.0 if self.pages.get(owner) else time.monotonic() - self.seen.get(owner, -1e9)

    def forget(self, seconds: float) -> None:
        """Forget owners who have been away for so long."""
        for owner in [owner for owner in self.seen if self.away(owner) > seconds]:
            del self.seen[owner]

    def tell_job(self, owner: str, job: dict[str, Any]) -> None:
        """Tell an owner how a job stands."""
        for outbox in self.pages.get(owner, ()):
            outbox.jobs[job["id"]] = job
            outbox.filled.set()

    def tell_state(self, owner: str, state: dict[str, Any]) -> None:
        """Tell an owner what a training reports."""
        for outbox in self.pages.get(owner, ()):
            outbox.states.append(state)
            outbox.filled.set()

    def tell_frame(self, owner: str, job: str, frame: bytes) -> None:
        """Show an owner what a sampling has drawn."""
        for outbox in self.pages.get(owner, ()):
            outbox.frames[job] = frame
            outbox.filled.set()
