"""Soundness of a run: on its held-out examples, or, where there are no data and none were named, on samples of its own."""

from __future__ import annotations

import math
from typing import Any

import torch

from scorefield.drawing import Drawing, conditions_of
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress, silent
from scorefield.randomness import subsample
from scorefield.runs import Run
from scorefield.specs import SampleSpec
from scorefield.verification.soundness import MOST, Soundness, examine

SAMPLES, FEWEST, NUMBERS = 256, 32, 4096  # most and fewest samples that are drawn for want of data, and numbers in them


def soundness_of(
    run: Run, *, data: Any = None, examples: int | None = None, seed: int = 0, device: torch.device, progress: Progress = silent
) -> Soundness:
    """Say whether the field of a run is sound (`verification/soundness.py`).

    Args:
        run: an opened run, with the data that were given.
        data: those, which must then be usable; None to do without if there are none.
        examples: how many are measured, or drawn; None for as many as are needed.
        seed: of the noise, of the choice of examples and of samples.
        device: where the network computes.
        progress: called with the share that is done, and words.

    Raises:
        ScorefieldError: data that were given and do not suit, fewer than two examples.
    """
    if examples is not None and examples < 2:
        raise ScorefieldError(f"got {examples} examples, expected at least 2: ask for more")
    field = run.field.to(device)
    try:
        held = run.data
    except ScorefieldError:
        if data is not None:
            raise
        drawing = Drawing.of(run, SampleSpec(autoguidance=1.0, clip_denoised="no", seed=seed), device)
        count = examples or max(FEWEST, min(SAMPLES, NUMBERS // math.prod(run.shape)))
        x0 = drawing.draw(count, view=lambda done, text, _=None: progress(0.5 * done, text))
        labels = drawing.labels(range(count))
        own = None if labels is None else labels.to(device)
        return examine(field, x0.to(device), own, drawn=True, examples=count, seed=seed)
    rows = subsample(len(held.held_out), examples or MOST, seed)
    x0 = held.normaliser.encode(torch.as_tensor(held.held_out[rows])).reshape(-1, *run.shape)
    labels = conditions_of(run, held, None if held.held_out_labels is None else held.held_out_labels[rows])
    own = None if labels is None else labels.to(device)
    return examine(field, x0.to(device), own, examples=examples, seed=seed, progress=progress)
