"""Baseline: the samples that `evaluate --against` names: those of another run, which are drawn, or images or a file of samples.

One extractor judges both sets against the same held-out examples. In two runs sample i starts from the same noise. The
difference of two figures is given the standard error of independent sets all the same: it is too large rather than too small.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefield import renamed
from scorefield.data import DataConfig, Normaliser, open_source
from scorefield.data.formats.tables import SUFFIXES
from scorefield.data.table.tables import aligned
from scorefield.distribution import World
from scorefield.drawing import Batch, Drawing
from scorefield.errors import ScorefieldError
from scorefield.evaluation.reference import Reference, least
from scorefield.metrics.base import Estimate
from scorefield.progress import Progress, Viewer, portion
from scorefield.randomness import subsample
from scorefield.runs import Run, open_run
from scorefield.specs import SampleSpec


@dataclass(frozen=True)
class Baseline:
    """Samples to compare with.

    Attributes:
        name: of the folder or file.
        how: how the samples were made, in words.
        draw: takes the number of samples and a viewer, and returns samples in the data's units `(n, *shape)`.
        drawing: what draws them from another run; None for samples that are there.
    """

    name: str
    how: str
    draw: Callable[[int, Viewer], Tensor]
    drawing: Drawing | None = None


@renamed.report
@dataclass(frozen=True)
class BaselineResult:
    """What a baseline scores.

    Attributes:
        name, how: where the samples are from, and how they were made.
        samples: how many.
        figures: metric name -> estimate, measured as those of the run.
        better_by: metric name -> by how many standard errors the run is better (positive) or worse (negative).
        seconds: for drawing the samples; None for samples that were there.
    """

    name: str
    how: str
    samples: int
    figures: dict[str, Estimate]
    better_by: dict[str, float]
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self)


class TimedDraw(NamedTuple):
    """Samples, the evaluations of the network for each of them, and the seconds for all of them."""

    x: Tensor
    evaluations: int
    seconds: float


def draw_timed(progress: Progress, draw: Callable[[Viewer], Tensor]) -> TimedDraw:
    """Draw samples and take the time.

    Args:
        progress: called with the fraction done and words.
        draw: takes a viewer and returns samples; a function that draws nothing need not call it.
    """
    evaluations, start = 0, time.perf_counter()

    def view(fraction: float, text: str, batch: Batch) -> None:
        nonlocal evaluations
        evaluations = batch.snapshot.evaluations
        progress(fraction, f"drawing, {text}")

    x = draw(view)
    return TimedDraw(x, evaluations, time.perf_counter() - start)


def is_run(path: str | Path) -> bool:
    """Return whether a path is the folder of a run."""
    place = Path(path).expanduser()
    return (place / "config.json").is_file() and (place / "manifest.json").is_file()


def baseline_of(path: str | Path, own: Run, *, seed: int, world: World) -> Baseline:
    """Return the samples that a path stands for.

    Args:
        path: the folder of a run of examples of the same shape, or samples: a folder or .zip of images, a .npy or .npz in the
            data's own units, a table with the same columns.
        own: the run that is compared with them.
        seed: of the samples, if a run draws them.
        world: the processes that draw them together, if a run draws them.

    Raises:
        ScorefieldError: nothing there, of another shape or kind, or fewer samples than the metrics need.
    """
    place = Path(path).expanduser()
    if is_run(place):
        other = open_run(place)
        if (other.kind, other.shape) != (own.kind, own.shape):
            raise ScorefieldError(
                f"got --against {place}, a run on {other.kind}s of shape {other.shape}, expected {own.kind}s of shape "
                f"{own.shape} as in {own.path}: compare runs on the same data"
            )
        drawing = replace(Drawing.of(other, SampleSpec(seed=seed), world.device), world=world)
        return Baseline(
            str(place),
            f"drawn by {drawing.sampler} on {len(drawing.ladder)} levels",
            lambda n, view: _shown(own.normaliser, other.normaliser, other.decode(drawing.draw(n, view=view))),
            drawing,
        )
    if not place.exists():
        raise ScorefieldError(
            f"got --against {str(path)!r}, which does not exist, expected a run or a folder: check its spelling"
        )
    if own.data.columns is not None:
        if not place.is_file() or not place.name.lower().endswith(SUFFIXES):
            kinds = ", ".join(SUFFIXES)
            raise ScorefieldError(f"got --against {place} for a run on a table, expected a run or a {kinds} file: give one")
        rows = aligned(str(place), own.data.columns)
        _refuse_few(place, len(rows))
        return Baseline(str(place), f"the {len(rows):,} rows that are there", lambda n, view: rows[subsample(len(rows), n)])
    size = (own.shape[1], own.shape[2]) if own.kind == "image" else None
    kind: Any = own.kind if own.kind == "volume" else "auto"  # the axes of an array alone may be those of images
    found = open_source(str(place), DataConfig(size=size, kind=kind, held_out=0.5))
    if found.kind != own.kind or found.shape != own.shape:
        raise ScorefieldError(
            f"got --against {place} with {found.kind}s of shape {found.shape}, expected {own.kind}s of shape {own.shape}: "
            "give samples of the same kind"
        )
    raw = torch.cat([found.train[:], found.held_out[:]])
    _refuse_few(place, len(raw))
    return Baseline(
        str(place),
        f"the {len(raw):,} examples that are there",
        lambda n, view: _shown(own.normaliser, found.normaliser, raw[subsample(len(raw), n)]),
    )


def compared(
    baseline: Baseline, reference: Reference, n: int, own: Mapping[str, Estimate], progress: Progress
) -> BaselineResult:
    """Measure a baseline as the run's own samples were measured.

    Args:
        baseline: what to compare with.
        reference: the real examples, and the metrics.
        n: samples to draw, or fewer where there are fewer.
        own: the run's figures.
        progress: called with the fraction done and words.
    """
    raw, evaluations, seconds = draw_timed(portion(progress, 0.0, 0.9), lambda view: baseline.draw(n, view))
    figures = reference.figures(reference.sets(reference.on_grid(raw)))
    better_by = {}
    for name in (name for name in own if name in figures):
        ours, theirs = own[name], figures[name]
        error = math.hypot(ours.standard_error, theirs.standard_error)
        lower_is_better = reference.metrics[name].better == "lower"
        gain = theirs.value - ours.value if lower_is_better else ours.value - theirs.value
        better_by[name] = gain / error if error > 0 else 0.0
    return BaselineResult(baseline.name, baseline.how, len(raw), figures, better_by, seconds if evaluations else None)


def _refuse_few(place: Path, count: int) -> None:
    """Refuse samples that are too few to be measured."""
    if count < (needed := least()):
        raise ScorefieldError(
            f"got {count} samples in --against {place}, expected at least {needed}, which the metrics need: add more"
        )


def _shown(own: Normaliser, other: Normaliser, raw: Tensor) -> Tensor:
    """Return examples of other data in the units of our own: images by their brightness, the others unchanged."""
    if own.low is None or own.high is None or own == other:
        return raw
    return other.visible(raw.double()) * (own.high - own.low) + own.low
