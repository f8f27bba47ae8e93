"""Interpolation: frames between two samples of a run, on the great circle between their latents (`likelihood/latents.py`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.inputs import Item, check_size, read_items
from scorefield.likelihood.latents import decode, encode, great_circle
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.restoration import check_run, check_tiles, conditions, field_for
from scorefield.runs import Run
from scorefield.specs import InterpolateSpec

TOLERANCE = 1e-5  # of the solver: what an 8-bit image loses on both ways is below a grey level


@dataclass(frozen=True, eq=False)
class End:
    """One end of an interpolation.

    Attributes:
        name: of the file, or the seed.
        item: as it was read; None of a new sample.
        seed: of a new sample.
    """

    name: str
    item: Item | None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames between two ends.

    Attributes:
        raw: `(frames, *shape)`, in the run's units; the first and the last are the ends, encoded and decoded.
        error: the largest root mean square of what this changed in an end, in the units of its file; None of new samples.
        evaluations: of the network, of an end and of a frame together, of those that took most.
    """

    raw: Tensor
    error: float | None
    evaluations: int


def end_of(run: Run, given: Any) -> End:
    """Return the end that a path, an array, or a whole number names; the number is the seed of a new sample.

    Raises:
        ScorefieldError: what `read_items` refuses, several examples, or an example with unknown numbers.
    """
    digits = isinstance(given, str | os.PathLike) and os.fspath(given).isdecimal() and not Path(given).exists()
    if digits or (isinstance(given, int) and not isinstance(given, bool)):
        return End(f"seed{int(given)}", None, int(given))
    items = read_items(run, given)
    if len(items) > 1:
        raise ScorefieldError(
            f"got {len(items)} examples in {str(given)[:80]!r} for one end, expected one: name a file of one example"
        )
    if not bool(items[0].known.all()):
        raise ScorefieldError(
            f"got {items[0].name!r} with unknown numbers (NaN, or an opacity of 0), expected a whole sample: restore it first"
        )
    return End(items[0].name, items[0])


def check_ends(run: Run, ends: tuple[End, End], spec: InterpolateSpec) -> tuple[int, ...]:
    """Return the shape of the frames between two ends.

    Raises:
        ScorefieldError: a run or a label that does not suit, fewer than 2 frames, or ends of different or too small sizes.
    """
    check_run(run)
    if spec.frames < 2:
        raise ScorefieldError(f"got --frames {spec.frames}, expected at least 2, which are the ends: ask for more")
    conditions(run, spec.label, spec.frames)
    items = [end.item for end in ends if end.item is not None]
    shape = tuple(items[0].raw.shape) if items else run.shape
    for item in items:
        check_size(item, shape, "the size of the other end")
        check_tiles(run, shape, item.name)
    return shape


def between(
    run: Run, ends: tuple[End, End], spec: InterpolateSpec, device: torch.device, progress: Progress = silent
) -> Frames:
    """Return frames from one end to the other.

    Args:
        run: an opened run.
        ends: of `end_of`.
        spec: how many, and of which class.
        device: where to compute.
        progress: called with the fraction done.

    Raises:
        ScorefieldError: what `check_ends` refuses, and opposite ends.
        NotFinite: a field that cannot be followed.
    """
    shape = check_ends(run, ends, spec)
    field, labels = field_for(run, shape, device), conditions(run, spec.label, spec.frames)
    cond = None if labels is None else labels.to(device)
    latents, spent = list[Tensor](), 0
    for index, end in enumerate(ends):
        if end.item is None:
            rng = SampleRng([end.seed], stream=stream_of("interpolate"), device=device)
            latents += [rng.normal(shape)[0]]
            continue
        x = _encoded(run, end.item).to(device)[None]
        up = encode(
            field, x, None if cond is None else cond[:1], tolerance=TOLERANCE, progress=portion(progress, index * 0.15, 0.15)
        )
        latents, spent = [*latents, up.x[0]], max(spent, int(up.evaluations.max()))
    steps = torch.linspace(0, 1, spec.frames, dtype=torch.float64, device=device)
    down = decode(
        field, great_circle(latents[0], latents[1], steps), cond, tolerance=TOLERANCE, progress=portion(progress, 0.3, 0.7)
    )
    raw, errors = run.decode(down.x.cpu()), list[float]()
    for frame, end in zip((raw[0], raw[-1]), ends, strict=True):
        if end.item is not None:
            errors.append(float(((frame - end.item.raw) / end.item.unit).square().mean().sqrt()))
    return Frames(raw, max(errors, default=None), spent + int(down.evaluations.max()))


def _encoded(run: Run, item: Item) -> Tensor:
    """Return an item in model space, float64: the float32 of `Normaliser.encode` would round it."""
    shape = tuple(item.raw.shape)
    return (item.raw - run.normaliser.shifts(shape)) / run.normaliser.scales(shape)
