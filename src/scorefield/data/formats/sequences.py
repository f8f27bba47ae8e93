"""Arrays, tensors and sequences of examples: what is left when no other format claims a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "sequence")
class Sequence(Format):
    """An array, a tensor, a pair (X, y) of them, a list of images or arrays, or a data set for torch."""

    description, takes, priority = "an array, a tensor, a list of images or arrays", "data", 100

    def claims(self, source: Any) -> bool:
        """Claim whatever is left: `read` says what it lacks."""
        return True

    def read(self, source: Any, spec: ReadSpec) -> Dataset:
        """Read the examples, each alone or with its label."""
        from scorefield.data.sequences import of_sequence

        return of_sequence(source, spec.config)
