"""One sitting of a training, from its start to its end or a stop: its stopwatch, and when something is due.

A training whose length is a number of steps reports at fixed steps, so that its log is a function of its settings. One whose
length is a time reports by time, and spends at most a twentieth of it on the held-out examples and as much on pictures: those
that would cost more are passed over, but for the last one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from scorefield.config import Training
from scorefield.training.checkpoint import Clock

REPORTS = 100  # in a run whose length is a number of steps
RARELY, OFTEN = 25, 250  # steps between two reports of such a run, at least and at most
PAUSE = 2.0  # seconds between two reports of another run, at least
SHARE = 20  # of so many seconds one goes into the held-out examples, and one into pictures
PICTURE = 3.0  # what the first picture costs, in checks of the held-out examples: about twice as many evaluations


class Sitting:
    """The stopwatch of one sitting, which counts on in the run's clock."""

    def __init__(self, clock: Clock, budget: Training, fraction: float) -> None:
        """Start the stopwatch.

        Args:
            clock: of the run; it is moved on.
            budget: of the run.
            fraction: of the budget that is spent, 0 to 1.
        """
        self.clock, self.budget, self._mark = clock, budget, time.perf_counter()
        self._reported = self._saved = clock.seconds
        self._images, self._check, self._picture = clock.images, 0.0, 0.0  # seconds that the last check, or picture, took
        by_steps = budget.steps is not None and not budget.seconds
        self._every = min(max(RARELY, (budget.steps or 0) // REPORTS), OFTEN) if by_steps else None
        self._drawn, self._shown = self._pictures(fraction), clock.seconds

    def tick(self) -> None:
        """Count the time since the last tick: whatever it went into, it is what a person waits."""
        now = time.perf_counter()
        self.clock.seconds, self._mark = self.clock.seconds + now - self._mark, now

    def spend(self, reserved: float) -> None:
        """Count what a budget of time reserved as spent, where the time is what ended the training."""
        whole = self.budget.seconds
        if whole is not None and self.clock.seconds >= whole - reserved:
            self.clock.seconds = max(self.clock.seconds, whole)

    def checked(self, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what the check of held-out examples finds, and measure how long it takes."""
        start = time.perf_counter()
        found = check()
        self._check = time.perf_counter() - start
        return found

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Measure how long a picture takes."""
        start = time.perf_counter()
        yield
        self._picture = time.perf_counter() - start

    @property
    def pace(self) -> float:
        """Examples a second since the last report."""
        span = self.clock.seconds - self._reported
        return (self.clock.images - self._images) / span if span > 0 else 0.0

    def reported(self) -> None:
        """Begin to count anew for the next report."""
        self._reported, self._images = self.clock.seconds, self.clock.images

    def _pictures(self, fraction: float) -> int:
        """Return how many pictures are due by now; the last one is drawn at the end."""
        return math.floor(fraction * self.budget.pictures + 1e-6)

    # --- what is due --------------------------------------------------------------------------------------------------

    def report_is_due(self, fraction: float) -> bool:
        """Whether it is time for a report."""
        if fraction >= 1:
            return True
        if self._every:
            return self.clock.step % self._every == 0
        return self.clock.seconds - self._reported >= max(PAUSE, SHARE * self._check)

    def picture_is_due(self, fraction: float) -> bool:
        """Whether it is time for a picture, and there is time for one; asking counts it as drawn."""
        due = self._drawn < (now := self._pictures(fraction)) < self.budget.pictures
        self._drawn = now if due else self._drawn
        if due and not self._every:
            due = SHARE * (self._picture or PICTURE * self._check) <= self.clock.seconds - self._shown
            self._shown = self.clock.seconds if due else self._shown
        return due

    def checkpoint_is_due(self, fraction: float) -> bool:
        """Whether it is time for a checkpoint; asking counts it as saved."""
        due = self.clock.seconds - self._saved >= self.budget.checkpoint_seconds and fraction < 1
        self._saved = self.clock.seconds if due else self._saved
        return due
