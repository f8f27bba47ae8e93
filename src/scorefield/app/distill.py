"""Distill: a run that draws in 1, 2 or 4 evaluations. `distillation/` makes its generator; this verb writes the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from scorefield import files
from scorefield.app.sample import sample
from scorefield.data.planes import PICTURED
from scorefield.devices import pick_device
from scorefield.distillation.distil import check, distil
from scorefield.drawing import trained
from scorefield.progress import Progress, silent
from scorefield.runs import Run, open_run
from scorefield.specs import DistillSpec, SampleSpec

DEFAULT = DistillSpec()
KEPT = ("config.json", "early.safetensors", "moments.safetensors", "data_issues.json", "model.safetensors")
SHOWN = 64  # samples in the picture


@dataclass(frozen=True)
class DistillReport:
    """What a distillation came to.

    Attributes:
        folder: of the new run.
        evaluations: of the network for a sample.
        steps, images, seconds: how much was done.
        stopped: whether a person ended it.
        reasons: for what was chosen.
        written: the folder's picture, if there is one.
    """

    folder: Path
    evaluations: int
    steps: int
    images: int
    seconds: float
    stopped: bool
    reasons: tuple[str, ...]
    written: tuple[Path, ...]


def distill(
    run: str | Path,
    spec: DistillSpec = DEFAULT,
    *,
    out: str | Path | None = None,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> DistillReport:
    """Make a run that draws in 1, 2 or 4 evaluations of a run that needs about 20; no data are needed.

    The new folder is a run like any other: `sample`, `evaluate` and the page draw from its generator, and what asks for a score
    (likelihood, restore, denoise, or a sampler by name) has the score of the run that it was made of, which stays as it is.

    Args:
        run: the folder of a trained run.
        spec: how; its fields may be given as keywords: evaluations, seconds, steps, seed and device.
        out: the new folder; None for RUN-distilled-1 beside the run, by the number of evaluations.
        progress: called after every step with the share done and words.
        stop: asked after every step; True ends it with what is there then.

    Raises:
        ScorefieldError: a run of one level, of an energy, of a table with other columns than numbers, or one that is distilled
            already; `out` in use; a time too short to begin, or a stop before it did. Nothing is written then.
        NotFinite: a loss that is no number; nothing is written.
    """
    opened, device = trained(open_run(run)), pick_device(spec.device)
    check(opened, spec)
    own = opened.path.absolute()
    folder = files.new_folder(out, own.with_name(f"{own.name}-distilled-{spec.evaluations}"))
    made = distil(opened, spec, device, progress, stop)
    about: dict[str, Any] = {
        "from": os.path.abspath(opened.path),
        "evaluations": spec.evaluations,
        "steps": made.steps,
        "images": made.images,
    }
    about |= {"seconds": made.seconds, "seed": spec.seed, "why": made.reasons, "device": device.type}
    with files.placing(folder) as place:
        place.mkdir()
        content = save_tensors({key: value.contiguous().clone() for key, value in made.weights.items()})
        files.write(place / "generator.safetensors", content)
        for name in KEPT:
            if (opened.path / name).is_file():
                files.write(place / name, _content(opened, name))
        lines = [
            {"step": step, "seconds": spent, "difference": moved, "loss": loss} for step, spent, moved, loss in made.history
        ]
        files.write_json(place / "distill.json", lines)
        said = f"distilled from {opened.path} to {spec.evaluations} evaluations; --sampler abm asks its own score"
        manifest = opened.manifest | {"distilled": about, "generator_sha256": files.digest(content)}
        manifest["why"] = [*opened.manifest.get("why", []), said]
        files.write_json(place / "manifest.json", manifest)
    written: tuple[Path, ...] = ()
    if opened.kind in PICTURED or opened.kind == "table":
        picture = folder / "samples.png"
        written = sample(folder, SampleSpec(seed=spec.seed), n=SHOWN, out=picture).written
    return DistillReport(folder, spec.evaluations, made.steps, made.images, made.seconds, made.stopped, made.reasons, written)


def _content(run: Run, name: str) -> bytes:
    """Return a file of a run; the weights are those that were distilled, should a training have gone on since."""
    if name == "model.safetensors" and run.weights is not None:
        return run.weights
    return (run.path / name).read_bytes()
