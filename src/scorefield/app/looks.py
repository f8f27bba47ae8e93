"""What a training leaves to look at: samples on the way, and the error by noise level at the end."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from scorefield import files, pictures
from scorefield.app.common import picture_of
from scorefield.data import Dataset
from scorefield.errors import ScorefieldError
from scorefield.exact import GaussianMixture
from scorefield.field import Field
from scorefield.levels import geometric, karras, thin
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.weightings import SigmaSquared
from scorefield.randomness import Noise, stream_of
from scorefield.runs import Run, classes_of
from scorefield.samplers import Heun, simulate
from scorefield.shapes import flat
from scorefield.training.loop import Trainer

CURVE_LEVELS = 24
CURVE_EXAMPLES = 512
CURVE_NUMBERS = 50_000_000  # of the training set, above which its memorising optimum is too slow to be worth the wait


def preview(trainer: Trainer, folder: Path, data: Dataset) -> list[Path]:
    """Draw a few samples from the raw weights (left) and their average (right), the same seeds in both."""
    drawn = []
    try:
        ladder = karras(trainer.model.process, 12)
        for model in (trainer.model, trainer.average):
            model.eval()  # every training step turns training on again
            noise = Noise(range(25 if data.kind == "image" else 1000), stream=stream_of("preview"), device=trainer.device)
            classes = classes_of(trainer.config, data.classes)
            told = torch.arange(len(noise), device=trainer.device) % classes if classes else None
            *_, last = simulate(model, Heun(), ladder, noise=noise, cond=told)
            drawn.append(last.x.cpu())
        views = [picture_of(data.kind, data.affine.decode(x), data.affine, columns=data.columns) for x in drawn]
    except ScorefieldError:  # young weights that overflow, no levels, no matplotlib: training must not stop for a picture
        return []
    (folder / "previews").mkdir(exist_ok=True)
    path = folder / "previews" / f"step-{trainer.clock.step:08d}-raw-and-average.png"
    files.write(path, pictures.png(pictures.beside(views[0], views[1])))
    return [path]


@torch.no_grad()
def curve(run: Run, data: Dataset) -> list[Path]:
    """Measure and plot ‖sigma·score + noise‖²/d by noise level, beside the best that is possible on the training set."""
    objective, process = Denoising(weighting=SigmaSquared()), run.config.process
    label = run.config.parametrisation.label
    times = geometric(process, label if isinstance(label, int) else CURVE_LEVELS)
    parts = [
        (part[rows := thin(len(part), CURVE_EXAMPLES)], labels[rows] if labels is not None and run.classes else None)
        for part, labels in ((data.train, data.labels), (data.held_out, data.held_out_labels))
    ]
    (seen, seen_labels), (unseen, unseen_labels) = [(data.affine.encode(some), labels) for some, labels in parts]
    fields: list[tuple[str, Field, Tensor, Tensor | None]] = [
        ("training examples", run.field, seen, seen_labels),
        ("held-out examples", run.field, unseen, unseen_labels),
    ]
    if data.train.numel() <= CURVE_NUMBERS:
        exact = GaussianMixture.empirical(data.affine.encode(data.train[:]), process)
        fields.append(("memorising optimum, on training examples", exact, seen, None))
    curves: dict[str, list[float]] = {}
    for name, field, some, told in fields:
        noise = Noise(range(len(some)), stream=stream_of("curve"))
        size = flat(some).shape[1]
        losses = [objective.at(field, some, t.expand(len(some)), told, noise=noise).mean() for t in times]
        curves[name] = [2 * float(loss) / size for loss in losses]
    sigmas = process.sigma(times).tolist()
    files.write_json(run.path / "levels.json", {"sigma": sigmas, **curves, "made_from": run.made_from})
    try:
        plot = pictures.loss_by_level(sigmas, curves, f"{run.path.name}: error by noise level")
    except ScorefieldError:  # no matplotlib: the numbers are there
        return [run.path / "levels.json"]
    files.write(run.path / "loss_by_level.png", pictures.png(plot, run.made_from))
    return [run.path / "levels.json", run.path / "loss_by_level.png"]
