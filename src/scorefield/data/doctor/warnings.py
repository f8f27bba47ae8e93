"""Warnings: sentences about the data as a whole, on classes, ranges, tails, few distinct values and grey images."""

from __future__ import annotations

import math

import torch

from scorefield.data.base import Dataset, format_number
from scorefield.data.doctor.outliers import COMPARED
from scorefield.data.doctor.survey import FEATURES, Survey, evenly

HEAVY = 20.0  # standard deviations from a column's mean


def warnings_of(data: Dataset, seen: Survey, counts: dict[str, int]) -> list[str]:
    """Return the warnings.

    Args:
        data: the data set.
        seen: the survey of it.
        counts: training examples of each class.
    """
    said = [*_on_classes(counts), *_on_range(data, seen)]
    if data.kind == "vector":  # a table's reader says so of its columns
        said += _on_tails(seen)
        if math.prod(data.shape) <= FEATURES:
            said += _on_few_values(seen)
    if seen.grey:
        said.append(
            f"All three channels are equal: grey {data.kind}s saved as colour; one channel would be three times as cheap to "
            "read."
        )
    return said


def _on_classes(counts: dict[str, int]) -> list[str]:
    said, present = [], {name: n for name, n in counts.items() if n}
    if len(present) < len(counts):
        said.append(f"No training example of {', '.join(name for name in counts if not counts[name])}.")
    if present and max(present.values()) >= 5 * min(present.values()):
        big, small = max(present, key=lambda name: present[name]), min(present, key=lambda name: present[name])
        said.append(
            f"Unequal classes: {present[big]:,} of {big!r} but {present[small]:,} of {small!r}; rare ones are learned worse."
        )
    return said


def _on_range(data: Dataset, seen: Survey) -> list[str]:
    low, high = data.normaliser.low, data.normaliser.high
    if low is None or high is None or seen.raw[1] - seen.raw[0] >= 0.3 * (high - low):
        return []
    least, most, lowest, highest = map(format_number, (*seen.raw, low, high))
    said = f"Values lie in {least} to {most} of the legal {lowest} to {highest}"
    return [f"{said}: mis-scaled? Stretch them, or the model learns almost nothing but the mean."]


def _on_tails(seen: Survey) -> list[str]:
    reach = torch.maximum(seen.low.abs(), seen.high.abs())
    heavy = (reach > HEAVY).nonzero().flatten().tolist()
    if not heavy:
        return []
    worst = int(reach.argmax())
    said = f"Heavy tails: column {worst} reaches {float(reach[worst]):.0f} standard deviations from its mean"
    return [f"{said} ({len(heavy)} such): take logarithms, or clip."]


def _on_few_values(seen: Survey) -> list[str]:
    x = seen.features[evenly(seen.training, COMPARED)]
    few = [c for c in range(x.shape[1]) if 1 < len(torch.unique(x[:, c])) <= min(20, len(x) // 10)]
    if not few:
        return []
    listed = ", ".join(map(str, few[:8])) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
    which = f"Columns {listed} hold" if len(few) > 1 else f"Column {listed} holds"
    return [f"{which} few distinct values: a density peaks without bound there; samples will fall between them."]
