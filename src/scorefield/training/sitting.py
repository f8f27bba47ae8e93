"""One sitting of a training, from its start to its end or a stop: its stopwatch, and when something is due.

A training whose length is a number of steps reports at fixed steps, so that its log is a function of its settings. One whose
length is a time reports by time, and spends at most a twentieth of it on the held-out examples.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from scorefield.config import Training
from scorefield.training.checkpoint import Clock

REPORTS = 100  # in a run whose length is a number of steps
RARELY, OFTEN = 25, 250  # steps between two reports of such a run, at least and at most
PAUSE = 2.0  # seconds between two reports of another run, at least


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
        self._images, self._check = clock.images, 0.0  # seconds that the last check of held-out examples took
        by_steps = budget.steps is not None and not budget.seconds
        self._every = min(max(RARELY, (budget.steps or 0) // REPORTS), OFTEN) if by_steps else None
        self._drawn = self._pictures(fraction)

    def tick(self) -> None:
        """Count the time since the last tick: whatever it went into, it is what a person waits."""
        now = time.perf_counter()
        self.clock.seconds, self._mark = self.clock.seconds + now - self._mark, now

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Measure how long the check of held-out examples takes."""
        start = time.perf_counter()
        yield
        self._check = time.perf_counter() - start

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
        return self.clock.seconds - self._reported >= max(PAUSE, 20 * self._check)

    def picture_is_due(self, fraction: float) -> bool:
        """Whether it is time for a picture; asking counts it as drawn."""
        due = self._drawn < (now := self._pictures(fraction)) < self.budget.pictures
        self._drawn = now if due else self._drawn
        return due

    def checkpoint_is_due(self, fraction: float) -> bool:
        """Whether it is time for a checkpoint; asking counts it as saved."""
        due = self.clock.seconds - self._saved >= self.budget.checkpoint_seconds and fraction < 1
        self._saved = self.clock.seconds if due else self._saved
        return due
