"""What `evaluate --against` names: another run, whose samples are drawn, or samples that are there already: images, or a file.

Both sets are judged by one extractor against the same held-out examples. Between two runs sample i starts from the same noise,
but the difference of two figures is given the error of independent sets, which is too large rather than too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data import DataConfig, Normaliser, open_source
from scorefield.data.formats.tables import SUFFIXES, aligned
from scorefield.drawing import Drawing, SampleSpec
from scorefield.errors import ScorefieldError
from scorefield.evaluation.reference import least
from scorefield.progress import Viewer
from scorefield.randomness import subsample
from scorefield.runs import Run, open_run


@dataclass(frozen=True)
class Baseline:
    """Somebody else's samples.

    Attributes:
        name: of the folder or file.
        how: how they were made, in words.
        draw: given how many are wanted, returns samples in the data's units `(n, *shape)`.
    """

    name: str
    how: str
    draw: Callable[[int, Viewer], Tensor]


def baseline_of(path: str | Path, own: Run, *, seed: int, device: torch.device) -> Baseline:
    """Return whose samples a path stands for.

    Args:
        path: the folder of a run of examples of the same shape, or samples: a folder or .zip of images, a .npy or .npz in the
            data's own units, a table with the same columns.
        own: the run that they are compared with.
        seed: of the samples of a run.
        device: where those are drawn.

    Raises:
        ScorefieldError: nothing there, of another shape or kind, or fewer samples than the metrics need.
    """
    place = Path(path).expanduser()
    if (place / "config.json").is_file() and (place / "manifest.json").is_file():
        other = open_run(place)
        if (other.kind, other.shape) != (own.kind, own.shape):
            raise ScorefieldError(
                f"got --against {place}, a run on {other.kind}s of shape {other.shape}, expected {own.kind}s of shape "
                f"{own.shape} as in {own.path}: compare runs on the same data"
            )
        drawing = Drawing.of(other, SampleSpec(seed=seed), device)
        return Baseline(
            str(place),
            f"drawn by {drawing.sampler} on {len(drawing.ladder)} levels",
            lambda n, view: _shown(own.normaliser, other.normaliser, other.decode(drawing.draw(n, view=view))),
        )
    if not place.exists():
        raise ScorefieldError(
            f"got --against {str(path)!r}, which does not exist, expected a run or a folder: check its spelling"
        )
    if own.data.columns is not None:
        if not place.is_file() or place.suffix.lower() not in SUFFIXES:
            raise ScorefieldError(f"got --against {place} for a run on a table, expected a run or a {', '.join(SUFFIXES)} file")
        rows = aligned(str(place), own.data.columns)
        _refuse_few(place, len(rows))
        return Baseline(str(place), f"the {len(rows):,} rows that are there", lambda n, view: rows[subsample(len(rows), n)])
    size = (own.shape[1], own.shape[2]) if own.kind == "image" else None
    found = open_source(str(place), DataConfig(size=size, held_out=0.5))
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


def _refuse_few(place: Path, count: int) -> None:
    """Refuse samples that are too few to be measured."""
    if count < (needed := least()):
        raise ScorefieldError(
            f"got {count} samples in --against {place}, expected at least {needed}, which the metrics need: add more"
        )


def _shown(own: Normaliser, other: Normaliser, raw: Tensor) -> Tensor:
    """Return examples of other data in the units of our own: images by what is seen of them, the rest as they are."""
    if own.low is None or own.high is None or own == other:
        return raw
    return other.visible(raw.double()) * (own.high - own.low) + own.low
