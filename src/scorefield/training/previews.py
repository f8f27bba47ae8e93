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

PREVIEWED = {"image": 25, "volume": 9}  # samples in a preview; of other kinds more, for they are dots and bars
CURVE_LEVELS = 24
CURVE_EXAMPLES = 32, 512  # of each part, at least and at most
CURVE_NUMBERS = 50_000  # of each part, on which the model is evaluated at every level
OPTIMUM_PRODUCTS = 500_000_000  # of a number of an example with one of a training example, at a level: a tenth of a second
OPTIMUM_EXAMPLES = 64  # at least, on which the optimum is evaluated
PAIR_PRODUCTS = 45  # what else a pair of two examples costs: the exponential and the sums, in such products


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
        rng = SampleRng(range(PREVIEWED.get(data.kind, 1000)), stream=stream_of("preview"), device=trainer.device)
        classes = classes_of(trainer.config, data.classes)
        labels = torch.arange(len(rng), device=trainer.device) % classes if classes else None
        *_, last = simulate(model, Heun(), ladder, rng=rng, cond=labels)
        drawn.append(last.x.cpu())
    views = [picture_of(data, data.normaliser.decode(x)) for x in drawn]
    (folder / "previews").mkdir(exist_ok=True)
    path = folder / "previews" / f"step-{trainer.clock.step:08d}-raw-and-average.png"
    files.write(path, pictures.png(pictures.beside(views[0], views[1])))
    return path


@torch.no_grad()
def losses_by_level(run: Run, data: Dataset, progress: Progress) -> tuple[list[float], dict[str, list[float]]]:
    """Return noise levels and ‖sigma·score + noise‖²/d at each, beside the smallest that is possible on the training set.

    The smallest is that of the exact field of the training set, which costs (examples·d)·(training set) products a level. Where
    these are too many it is measured on fewer of the examples: the same number with a larger standard error. Where that is not
    enough, it is the exact field of a random part of the training set, which holds the very examples that it is measured on. A
    field of fewer points has a smaller error on them. The name of the curve says how many there were of either.

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
    on, points = optimum_sizes(len(data.train), len(seen), size)
    optimum = "memorising optimum" if points == len(data.train) else f"memorising optimum of {points:,} training examples"
    optimum += f", on {on:,} training examples" * (on < len(seen))
    optimum += ", on training examples" * (on == len(seen) and points == len(data.train))
    # A smaller part of the training set lies within a larger one.
    chosen = torch.isin(subsample(len(data.train), len(seen)), subsample(len(data.train), on))
    noise = SampleRng(range(few), stream=stream_of("curve"))
    fields: list[tuple[str, Field, Tensor, Tensor | None, SampleRng]] = [
        ("training examples", run.field, seen, seen_labels, noise[: len(seen)]),
        ("held-out examples", run.field, unseen, unseen_labels, noise[: len(unseen)]),
    ]
    if data.normaliser.holes is None:  # examples with unknown cells are no points
        exact = GaussianMixture.empirical(data.x0(subsample(len(data.train), points)), process)
        fields.append((optimum, exact, seen[chosen], None, noise[: len(seen)][chosen]))
    curves: dict[str, list[float]] = {name: [] for name, *_ in fields}
    for index, (name, field, examples, given, rng) in enumerate(fields):
        asked, x0, rng = on_known(field, examples, rng)
        for level, t in enumerate(times):
            progress((index + level / len(times)) / len(fields), "measuring the error by noise level")
            loss = objective.at(asked, x0, t.expand(len(x0)), given, rng=rng).mean()
            curves[name].append(2 * float(loss) / data.cells)
    return process.sigma(times).tolist(), curves


def optimum_sizes(training: int, seen: int, size: int) -> tuple[int, int]:
    """Return on how many of the examples the memorising optimum is evaluated, and of how many training examples it is.

    >>> optimum_sizes(1000, 512, 2), optimum_sizes(90_000, 512, 6), optimum_sizes(10**6, 512, 6)
    ((512, 1000), (108, 90000), (64, 153186))
    """
    pairs = OPTIMUM_PRODUCTS // (size + PAIR_PRODUCTS)
    on = min(seen, max(OPTIMUM_EXAMPLES, pairs // training))
    return on, min(training, max(seen, pairs // on))


def curve(run: Run, sigmas: list[float], curves: dict[str, list[float]]) -> Path:
    """Plot what `losses_by_level` returned."""
    path = run.path / "loss_by_level.png"
    plot = pictures.loss_by_level(sigmas, curves, f"{run.path.name}: error by noise level")
    files.write(path, pictures.png(plot, run.made_from))
    return path
