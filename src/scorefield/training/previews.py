"""Pictures and tables made while training: samples on the way, and the error by noise level at the end.

None of them may stop a training: an error in a picture is said once, and the training goes on (`Previews`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from scorefield import files, pictures
from scorefield.data import Dataset
from scorefield.drawing import picture_of
from scorefield.errors import ScorefieldError
from scorefield.exact import GaussianMixture
from scorefield.field import Field
from scorefield.levels import geometric, karras
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.known_cells import on_known
from scorefield.objectives.weightings import SigmaSquared
from scorefield.progress import Progress
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import Run, classes_of
from scorefield.samplers import Heun, simulate
from scorefield.training.loop import Trainer

CURVE_LEVELS = 24
CURVE_EXAMPLES = 32, 512  # of each part, at least and at most
CURVE_NUMBERS = 50_000  # of each part, on which the model is evaluated at every level
OPTIMUM_PRODUCTS = 500_000_000  # of a number of an example with one of a training example, at a level: a tenth of a second


class Previews:
    """The pictures and tables of a run, and the errors that have been reported about those that failed."""

    def __init__(self) -> None:
        """Begin with none."""
        self.written, self._reported = list[Path](), set[tuple[str, str]]()

    def take(self, what: str, make: Callable[[], Path]) -> tuple[str, ...]:
        """Call `make` and remember the file that it writes; return a sentence where it fails for the first time.

        Interrupts pass through, and so does a NaN of the training itself, which does not happen in here.
        """
        try:
            path = make()
        except Exception as error:  # of matplotlib, of the disk, of early weights that overflow, of memory
            kind = what, type(error).__name__
            if kind in self._reported:
                return ()
            self._reported.add(kind)
            name = "" if isinstance(error, ScorefieldError) else f"{type(error).__name__}: "
            return (f"no {what} ({name}{' '.join(str(error).split())[:300]}): passed over, the training does without it",)
        self.written.append(path)
        return ()


def preview(trainer: Trainer, folder: Path, data: Dataset) -> Path:
    """Draw a few samples from the raw weights (left) and their average (right), the same seeds in both."""
    drawn, ladder = [], karras(trainer.model.process, 12)
    for model in (trainer.model, trainer.average):
        model.eval()  # every training step turns training on again
        rng = SampleRng(range(25 if data.kind == "image" else 1000), stream=stream_of("preview"), device=trainer.device)
        classes = classes_of(trainer.config, data.classes)
        labels = torch.arange(len(rng), device=trainer.device) % classes if classes else None
        *_, last = simulate(model, Heun(), ladder, rng=rng, cond=labels)
        drawn.append(last.x.cpu())
    views = [picture_of(data.kind, data.normaliser.decode(x), data.normaliser, columns=data.columns) for x in drawn]
    (folder / "previews").mkdir(exist_ok=True)
    path = folder / "previews" / f"step-{trainer.clock.step:08d}-raw-and-average.png"
    files.write(path, pictures.png(pictures.beside(views[0], views[1])))
    return path


@torch.no_grad()
def losses_by_level(run: Run, data: Dataset, progress: Progress) -> tuple[list[float], dict[str, list[float]]]:
    """Return noise levels and ‖sigma·score + noise‖²/d at each, beside the smallest that is possible on the training set.

    The smallest is that of the exact field of the training set, which costs (examples·d)·(training set) products a level. Where
    these are too many it is the exact field of a random part of the training set, which holds the very examples that all are
    measured on. A field of fewer points has a smaller error on them; the name of the curve says how many there were.

    Args:
        run: trained.
        data: of the run.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        Noise levels, and the errors at each, by the name of the curve.
    """
    objective, process, size = Denoising(weighting=SigmaSquared()), run.config.process, math.prod(run.shape)
    label = run.config.parametrisation.noise_label
    times = geometric(process, label if isinstance(label, int) else CURVE_LEVELS)
    least, most = CURVE_EXAMPLES
    few = max(least, min(most, CURVE_NUMBERS // size))
    parts = [
        (
            data.normaliser.encode(part[rows := subsample(len(part), few)]),
            labels[rows] if labels is not None and run.classes else None,
        )
        for part, labels in ((data.train, data.labels), (data.held_out, data.held_out_labels))
    ]
    (seen, seen_labels), (unseen, unseen_labels) = parts
    # A smaller part lies within a larger one.
    within = subsample(len(data.train), max(len(seen), OPTIMUM_PRODUCTS // (len(seen) * size)))
    whole = len(within) == len(data.train)
    optimum = (
        "memorising optimum, on training examples" if whole else f"memorising optimum of {len(within):,} training examples"
    )
    fields: list[tuple[str, Field, Tensor, Tensor | None]] = [
        ("training examples", run.field, seen, seen_labels),
        ("held-out examples", run.field, unseen, unseen_labels),
    ]
    if data.normaliser.holes is None:  # examples with unknown cells are no points
        fields.append((optimum, GaussianMixture.empirical(data.x0(within), process), seen, None))
    curves: dict[str, list[float]] = {name: [] for name, *_ in fields}
    for index, (name, field, examples, given) in enumerate(fields):
        asked, x0, rng = on_known(field, examples, SampleRng(range(len(examples)), stream=stream_of("curve")))
        for level, t in enumerate(times):
            progress((index + level / len(times)) / len(fields), "measuring the error by noise level")
            loss = objective.at(asked, x0, t.expand(len(x0)), given, rng=rng).mean()
            curves[name].append(2 * float(loss) / data.cells)
    return process.sigma(times).tolist(), curves


def curve(run: Run, sigmas: list[float], curves: dict[str, list[float]]) -> Path:
    """Plot what `losses_by_level` returned."""
    path = run.path / "loss_by_level.png"
    plot = pictures.loss_by_level(sigmas, curves, f"{run.path.name}: error by noise level")
    files.write(path, pictures.png(plot, run.made_from))
    return path
