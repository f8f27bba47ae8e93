"""Pictures and tables made while training: samples on the way, and the error by noise level at the end.

None of them may stop a training: an error in a picture is said once, and the training goes on (`Previews`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scorefield import files, pictures
from scorefield.data import Dataset
from scorefield.data.base import PIECE
from scorefield.drawing import picture_of
from scorefield.errors import ScorefieldError
from scorefield.levels import geometric, karras
from scorefield.objectives.denoising import Denoising
from scorefield.objectives.known_cells import on_known
from scorefield.objectives.weightings import SigmaSquared
from scorefield.progress import Progress, Stages
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import Run, classes_of
from scorefield.samplers import Heun, simulate
from scorefield.training.loop import Trainer
from scorefield.training.optimum import memorising_errors
from scorefield.training.precision import autocast

PREVIEWED = {"image": 25, "volume": 9}  # samples in a preview; of other kinds more, for they are dots and bars:
DOTS = 1000
PREVIEW_LEVELS = 12
CURVE_LEVELS = 16
CURVE_EXAMPLES = 32, 512  # of each part, at least and at most
CURVE_NUMBERS = 25_000  # of each part, on which the model is evaluated at every level
OPTIMUM_PRODUCTS = 2_800_000_000  # of a number of an example with one of a training example, at a level: a tenth of a second
OPTIMUM_EXAMPLES = 32  # at least, on which the optimum is evaluated
PAIR_PRODUCTS = 700  # what else a pair of two examples costs: the exponential and the sums, in such products
OPTIMUM_SECONDS = 2.5  # so many products at each level
FILES = 1.5  # seconds for the plot and the files of a run
MEASURING = "measuring the error by noise level"


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
    drawn, ladder = [], karras(trainer.model.process, PREVIEW_LEVELS)
    for model in (trainer.model, trainer.average):
        model.eval()  # every training step turns training on again
        rng = SampleRng(range(PREVIEWED.get(data.kind, DOTS)), stream=stream_of("preview"), device=trainer.device)
        classes = classes_of(trainer.config, data.classes)
        labels = torch.arange(len(rng), device=trainer.device) % classes if classes else None
        with autocast(trainer.precision, trainer.device):
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
    field of fewer points has a smaller error on them; `training/optimum.py` bounds the difference. The name of the curve says
    how many there were of either. An example has the same noise at every level and in every curve.

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
    few = _curve_examples(size)
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
    parts_of_bar = Stages(progress, seen=1.0, unseen=1.0, optimum=1.0)
    curves: dict[str, list[float]] = {}
    for name, stage, examples, given in (
        ("training examples", parts_of_bar("seen"), seen, seen_labels),
        ("held-out examples", parts_of_bar("unseen"), unseen, unseen_labels),
    ):
        curves[name] = []
        for level, t in enumerate(times):
            stage(level / len(times), MEASURING)
            asked, x0, rng = on_known(run.field, examples, noise[: len(examples)])
            loss = objective.at(asked, x0, t.expand(len(x0)), given, rng=rng).mean()
            curves[name].append(2 * float(loss) / data.cells)
    if data.normaliser.holes is None:  # examples with unknown cells are no points
        rows, step = subsample(len(data.train), points), max(1, min(PIECE, 2**24 // size))
        drawn = noise[: len(seen)][chosen].normal(run.shape).float()
        errors = memorising_errors(
            lambda: map(data.x0, torch.split(rows, step)), seen[chosen], drawn, process, times, parts_of_bar("optimum")
        )
        curves[optimum] = errors.mean(dim=1).tolist()
    return process.sigma(times).tolist(), curves


def _curve_examples(size: int) -> int:
    """Return on how many examples of each part, of `size` numbers, the model is evaluated at every level."""
    least, most = CURVE_EXAMPLES
    return max(least, min(most, CURVE_NUMBERS // size))


def optimum_sizes(training: int, seen: int, size: int) -> tuple[int, int]:
    """Return on how many of the examples the memorising optimum is evaluated, and of how many training examples it is.

    >>> optimum_sizes(1000, 512, 2), optimum_sizes(90_000, 512, 6), optimum_sizes(10**6, 512, 6)
    ((512, 1000), (44, 90000), (32, 123937))
    """
    pairs = OPTIMUM_PRODUCTS // (size + PAIR_PRODUCTS)
    on = min(seen, max(OPTIMUM_EXAMPLES, pairs // training))
    return on, min(training, max(seen, pairs // on))


@torch.no_grad()
def closing_seconds(trainer: Trainer) -> float:
    """Estimate how long everything takes that is done after the last step of a training: a few evaluations are timed.

    The other averages are compared on the held-out examples, and a picture is drawn, in the precision of the training; the
    error by noise level is measured in float32. The rest is the memorising optimum, the plot and the files.
    """
    config, data, size = trainer.config, trainer.data, math.prod(trainer.data.shape)
    few = _curve_examples(size)
    x = torch.zeros(few, *data.shape, dtype=torch.float64, device=trainer.device)
    t = torch.full((few,), config.process.t_max, dtype=torch.float64, device=trainer.device)
    classes = classes_of(config, data.classes)
    labels = torch.zeros(few, dtype=torch.int64, device=trainer.device) if classes else None

    def seconds(precision: str) -> float:
        """Return the time of one evaluation of an example: the second call, for the first one finds memory."""
        for _ in range(2):
            start = time.perf_counter()
            with autocast(precision, trainer.device):
                trainer.average.eval()(x, t, labels).output.sum().item()
        return (time.perf_counter() - start) / few

    compared = max(0, len(config.training.lengths) - 1) * len(trainer.held_out.examples)
    drawn = 2 * PREVIEWED.get(data.kind, DOTS) * (2 * PREVIEW_LEVELS - 1) * (config.training.pictures > 0)
    on, points = optimum_sizes(len(data.train), min(few, len(data.train)), size)
    optimum = OPTIMUM_SECONDS * on * points * (size + PAIR_PRODUCTS) / OPTIMUM_PRODUCTS
    return (compared + drawn) * seconds(trainer.precision) + 2 * few * CURVE_LEVELS * seconds("float32") + optimum + FILES


def curve(run: Run, sigmas: list[float], curves: dict[str, list[float]]) -> Path:
    """Plot what `losses_by_level` returned."""
    path = run.path / "loss_by_level.png"
    plot = pictures.loss_by_level(sigmas, curves, f"{run.path.name}: error by noise level")
    files.write(path, pictures.png(plot, run.made_from))
    return path
