"""Progress of long work: one protocol, `progress(fraction, text)`, with the share that is done, 0 to 1, and what is being done.

Work that also has something to show (a training its state, sampling its snapshots) passes it as a third argument, `event`.
Work in several stages gives each stage its share of the bar.

>>> shown = []
>>> stages = Stages(lambda fraction, text: shown.append((fraction, text)), draw=30.0, measure=10.0)
>>> stages("draw")(0.5, "drawing")
>>> stages("measure")(0.0, "measuring")
>>> shown
[(0.375, 'drawing'), (0.75, 'measuring')]
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Is called with the share of the work that is done, 0 to 1, and with what is being done."""

    def __call__(self, fraction: float, text: str, /) -> None:
        """Show them, or store them."""


@runtime_checkable
class Viewer(Protocol):
    """Is called as a `Progress`, and with an event: something to look at."""

    def __call__(self, fraction: float, text: str, event: Any, /) -> None:
        """Show them, or store them."""


def silent(fraction: float, text: str, event: Any = None, /) -> None:
    """Show nothing."""


class Stages:
    """Gives a `progress` for each stage of long work."""

    def __init__(self, progress: Progress, **weights: float) -> None:
        """Give each stage its share: its weight (about the seconds that it takes) over the sum of all, in this order."""
        total, self.progress, self.parts = sum(weights.values()), progress, dict[str, tuple[float, float]]()
        first = 0.0
        for name, weight in weights.items():
            self.parts[name] = (first / total, weight / total)
            first += weight

    def __call__(self, name: str) -> Progress:
        """Return the progress of a stage."""
        start, share = self.parts[name]
        return portion(self.progress, start, share)


def portion(progress: Progress, start: float, share: float) -> Progress:
    """Return the `progress` of a part of the work, which begins at `start` and is `share` of the whole.

    >>> seen = []
    >>> portion(lambda fraction, text: seen.append(fraction), 0.5, 0.25)(0.5, "drawing")
    >>> seen
    [0.625]
    """

    return lambda fraction, text: progress(start + share * min(1.0, fraction), text)
