"""Progress of work in several stages: each has its share of the bar, and moves it from its beginning to its end.

>>> shown = []
>>> stages = Stages(lambda fraction, text: shown.append((fraction, text)), draw=30.0, measure=10.0)
>>> stages("draw")(0.5, "drawing")
>>> stages("measure")(0.0, "measuring")
>>> shown
[(0.375, 'drawing'), (0.75, 'measuring')]
"""

from __future__ import annotations

from collections.abc import Callable

Watch = Callable[[float, str], None]


def quiet(_fraction: float, _text: str) -> None:
    """Watch nothing."""


class Stages:
    """Hands out a `watch(fraction, text)` for each stage of a longer piece of work."""

    def __init__(self, watch: Watch, **weights: float) -> None:
        """Give each stage its share: its weight (about the seconds that it takes) over the sum of all, in this order."""
        total, self.watch, self.parts = sum(weights.values()), watch, dict[str, tuple[float, float]]()
        first = 0.0
        for name, weight in weights.items():
            self.parts[name] = (first / total, weight / total)
            first += weight

    def __call__(self, name: str) -> Watch:
        """Return the watch of a stage."""
        start, share = self.parts[name]
        return lambda fraction, text: self.watch(start + share * min(1.0, fraction), text)
