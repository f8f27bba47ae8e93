"""The metric protocol: two sets of feature vectors in, an estimate with its standard error out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error over draws of the samples.

    Attributes:
        value: the estimate.
        standard_error: one standard deviation over fresh draws of the samples, the real examples being fixed: figures are
            compared with each other, and with floors, on the same real examples, so they share the chance in these.
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.standard_error:.1g}"


class Metric(ABC):
    """A distance or a rate between samples and reference.

    Declared facts:
        better: whether a lower or a higher value is better.
        space: what it compares: features of an extractor, or the data's own coordinates in model space, flattened.
        least: how many rows of each set it needs.
    """

    better: ClassVar[Literal["lower", "higher"]]
    space: ClassVar[Literal["features", "data"]] = "features"
    least: ClassVar[int] = 2

    @abstractmethod
    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        """Compare features of samples `(n, d)` with features of real data `(m, d)`."""


def check(samples: Tensor, reference: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Return both in float64; raises `ScorefieldError` for shapes that disagree, too few rows, or NaN."""
    if samples.ndim != 2 or reference.ndim != 2 or samples.shape[1] != reference.shape[1]:
        raise ScorefieldError(
            f"got features of shape {tuple(samples.shape)} and {tuple(reference.shape)}, expected (n, d) and (m, d): "
            "use one extractor"
        )
    if min(len(samples), len(reference)) < least:
        raise ScorefieldError(
            f"got {len(samples)} samples and {len(reference)} real examples, expected at least {least} of each: draw more"
        )
    for name, features in (("samples", samples), ("real examples", reference)):
        if not bool(features.isfinite().all()):
            raise NotFinite(f"got NaN or infinity in the features of the {name}, expected finite numbers: leave them out")
    return samples.double(), reference.double()
