"""The data doctor: what in a data set is repeated, leaked, odd or badly scaled, found in bounded time and memory.

    exact copies    equal digests of the raw bytes; where columns have so few values that rows are equal by chance, a count
    near copies     root mean square difference below a tenth of the data's standard deviation, in 16 coordinates and more
    leak            a copy of a training example in the held-out part, which makes the held-out loss look better than it is
    outliers        values far from their column's median; examples far from their nearest neighbour; blank images

Its stages: `survey.py` looks at every example once, at most 100,000 of them spread evenly over the source; `copies.py`,
`outliers.py` and `warnings.py` say what is wrong with what was seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from scorefield.data.base import DataIssue, Dataset
from scorefield.data.doctor.copies import copy_issues, find_copies
from scorefield.data.doctor.outliers import find_outliers, measure_distances
from scorefield.data.doctor.survey import survey_of
from scorefield.data.doctor.warnings import warnings_of
from scorefield.progress import Progress, portion, silent


@dataclass(frozen=True)
class Findings:
    """What the doctor found.

    Attributes:
        looked_at: examples looked at, of both parts.
        examples: examples there are, of both parts.
        low, high: smallest and largest raw value seen.
        constant: flat indices of coordinates that never change on the training examples looked at.
        copies: training examples that repeat an earlier one, exactly.
        near_copies: training examples that all but repeat an earlier one.
        leaks: held-out examples that repeat a training example, exactly or nearly.
        nearest_training: median distance of a training example to the nearest other, per coordinate (root mean square), in
            units of model space.
        nearest_held_out: likewise, of a held-out example to the nearest training example.
        counts: training examples of each class, by name; empty without labels.
        warnings: sentences about the data as a whole.
        issues: single files, rows or columns: the source's own, then the doctor's.
    """

    looked_at: int
    examples: int
    low: float
    high: float
    constant: tuple[int, ...]
    copies: int
    near_copies: int
    leaks: int
    nearest_training: float
    nearest_held_out: float
    counts: dict[str, int]
    warnings: tuple[str, ...]
    issues: tuple[DataIssue, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def examine(data: Dataset, progress: Progress = silent) -> Findings:
    """Look at a data set and say what is worth knowing before training on it.

    Args:
        data: an opened data set.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        What was found; the order and every number are a function of the data alone.

    >>> from scorefield.data import DataConfig, open_source
    >>> examine(open_source("two-moons", DataConfig(examples=200))).leaks
    0
    """
    seen = survey_of(data, portion(progress, 0.0, 0.5))
    progress(0.5, "looking for copies")
    copies = find_copies(data, seen)
    progress(0.8, "measuring distances")
    distances = measure_distances(data, seen)
    counts = _counts(data)
    named = any(issue.used for issue in data.issues)  # the source names odd examples by file, which says more than a number
    leaks, repeats = copy_issues(data, seen, copies, named=named)
    issues = [*data.issues, *leaks, *find_outliers(data, seen, distances, named=named), *repeats]
    progress(1.0, "")
    both, holes = (copies.exact, copies.near), data.normaliser.holes
    there = torch.tensor(True) if holes is None else ~holes.absent
    leaked = {later for pairs in both for later, earlier in pairs.items() if earlier < seen.training <= later}
    exact, near = (sum(later < seen.training for later in pairs) for pairs in both)
    return Findings(
        looked_at=len(seen.rows),
        examples=len(data.train) + len(data.held_out),
        low=seen.raw[0],
        high=seen.raw[1],
        constant=tuple((seen.low == seen.high).logical_and(there).nonzero().flatten().tolist()),
        copies=exact,
        near_copies=near,
        leaks=len(leaked),
        nearest_training=float(distances.training.median()),
        nearest_held_out=float(distances.held_out.median()),
        counts=counts,
        warnings=(*warnings_of(data, seen, counts), *copies.by_chance),
        issues=tuple(issues),
    )


def _counts(data: Dataset) -> dict[str, int]:
    """Return how many training examples each class has; clusters, which have no names, are not counted."""
    if data.labels is None or data.clustered:
        return {}
    return dict(zip(data.classes, torch.bincount(data.labels, minlength=len(data.classes)).tolist(), strict=True))
