"""Every verb as a plain function: arguments in, a dataclass out, nothing printed.

Python, the command and the page are three faces of these functions and differ only in parsing and drawing. Long work takes a
`watch` callback and reports to it.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from scorefield import files, pictures, registry
from scorefield.config import RunConfig, data_config, override, plain
from scorefield.data import Affine, Dataset, open_source
from scorefield.errors import ScorefieldError
from scorefield.exact import GaussianMixture
from scorefield.field import Field
from scorefield.levels import geometric, karras
from scorefield.metrics.base import Estimate
from scorefield.metrics.judge import train_judge
from scorefield.objectives.base import SigmaSquared
from scorefield.objectives.denoising import Denoising
from scorefield.randomness import Noise, stream_of
from scorefield.recipes import measure
from scorefield.runs import Run, build_model, manifest_of, open_run, save_model
from scorefield.samplers import Heun, Moment, Sampler, simulate
from scorefield.shapes import flat
from scorefield.training.loop import Progress, Trainer

Watch = Callable[[Any], None]
CURVE_LEVELS = 24
CURVE_EXAMPLES = 512


def _quiet(_: Any) -> None:
    """Watch nothing."""


def pick_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; raises `ScorefieldError` for one that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ScorefieldError(f"got device {name!r}, expected auto, cpu or cuda: name one of them")
    if name == "cuda" and not torch.cuda.is_available():
        raise ScorefieldError("got device cuda on a machine where torch sees none, expected a CUDA device: use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


# --- train -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a training is about to do, for whoever watches: data, reasons, size."""

    data: Dataset
    config: RunConfig
    why: tuple[str, ...]
    parameters: int
    folder: Path


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes:
        folder: the run.
        step, seconds, images: how far it went.
        held_out: loss per coordinate on held-out examples, or NaN for a run that was already finished.
        finished_before: whether there was nothing left to do.
        written: pictures and tables it made.
    """

    folder: Path
    step: int
    seconds: float
    images: int
    held_out: float
    finished_before: bool
    written: tuple[Path, ...]


def train(
    source: str,
    *,
    out: str | Path | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    recipe: str = "auto",
    settings: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    watch: Watch = _quiet,
) -> TrainReport:
    """Learn the score of a data source and leave a self-describing run folder.

    Args:
        source: a built-in name, a folder of images, or a .npy/.npz file.
        out: the run's folder; None for runs/<name of the source>.
        seconds: of training, at most; with neither this nor `steps`, 180.
        steps: of the optimiser, at most.
        recipe: name of the recipe that chooses everything else.
        settings: `dotted.key=value` changes to the recipe's choices.
        seed: of weights, data order and noise.
        device: auto, cpu or cuda.
        resume: go on with the run in `out`; its own config is used, a new budget of seconds or steps replaces its own.
        watch: called with a `Plan`, then with each `Progress`.

    Raises:
        ScorefieldError: unusable data, unknown names, `out` in use; nothing has been written then.
        NotFinite: a NaN; the last good state has been kept.
    """
    where, chosen = pick_device(device), registry.find("recipe", recipe)
    folder = Path(out) if out is not None else Path("runs") / (Path(source).stem or "run")
    if (folder / "config.json").exists():
        if not resume:
            raise ScorefieldError(f"got --out {folder}, which holds a run already, expected a new folder: choose another, or add --resume")
        old = open_run(folder)
        budget = [f"training.steps={steps or 'none'}", f"training.seconds={seconds or 'none'}"] if steps or seconds else []
        config = override(old.config, [*budget, *settings])
        data = open_source(config.source, config.data)
        if data.fingerprint != old.manifest["data"]["fingerprint"]:
            raise ScorefieldError(f"got data from {config.source!r} that differ from those the run {folder} was trained on, expected the same: restore them or start a new run")
        manifest, why = old.manifest, tuple(old.manifest["why"])
    else:
        if folder.exists() and any(folder.iterdir()):
            raise ScorefieldError(f"got --out {folder}, a folder that is not empty and no run, expected a new one: choose another")
        data = open_source(source, data_config(settings))
        facts = measure(data, data.affine.encode(data.train))
        made = chosen(facts)
        config = override(replace(made.config, source=source, seed=seed), settings)
        if steps or seconds:
            config = override(config, [f"training.steps={steps or 'none'}", f"training.seconds={seconds or 'none'}"])
        why = made.why + tuple(f"{setting}: set by hand" for setting in settings)
        manifest = {}
    encoded = data.affine.encode(data.train)
    mean = encoded.double().mean(dim=0)
    std = float((encoded.double() - mean).square().mean().sqrt())
    model = build_model(config, data.shape, std, mean)
    parameters = sum(p.numel() for p in model.parameters())
    manifest = manifest or manifest_of(data, std, why, parameters)
    trainer = Trainer(config, data, model, folder / "checkpoints", where)
    if resume:
        trainer.resume()
    watch(Plan(data, config, why, parameters, folder))
    if resume and trainer.fraction >= 1:
        return TrainReport(folder, **asdict(trainer.clock), held_out=math.nan, finished_before=True, written=())
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "config.json", plain(config))
    held_out, written = math.nan, list[Path]()

    def keep(finished: bool = False) -> None:
        manifest["progress"] = {**asdict(trainer.clock), "finished": finished}
        manifest["precision"], manifest["device"] = trainer.precision, where.type
        save_model(folder, trainer.average, manifest)

    keep()
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for progress in trainer.run():
            held_out = progress.extra.get("held_out", held_out)
            if progress.event in ("log", "done"):
                log.write(json.dumps(_line(progress)) + "\n")
                log.flush()
            if progress.event in ("checkpoint", "done"):
                keep(finished=progress.event == "done")
            if progress.event == "picture" or (progress.event == "done" and config.training.pictures):
                written += _preview(trainer, folder, data)
            watch(progress)
    written += _curve(open_run(folder), data)
    return TrainReport(folder, **asdict(trainer.clock), held_out=held_out, finished_before=False, written=tuple(written))


def _line(progress: Progress) -> dict[str, Any]:
    numbers = {"event": progress.event, "step": progress.step, "seconds": round(progress.seconds, 3), "images": progress.images}
    numbers |= {"loss": progress.loss, "images_per_second": round(progress.images_per_second, 1), **progress.extra}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()}


def _preview(trainer: Trainer, folder: Path, data: Dataset) -> list[Path]:
    """Draw a few samples from the raw weights (left) and their average (right), the same seeds in both."""
    ladder, drawn = karras(trainer.model.process, 12), []
    for model in (trainer.model, trainer.average):
        training = model.training
        model.eval()
        noise = Noise(range(25 if data.kind == "image" else 1000), stream=stream_of("preview"), device=trainer.device)
        *_, last = simulate(model, Heun(), ladder, noise=noise)
        model.train(training)
        drawn.append(last.x.cpu())
    try:
        views = [picture_of(data.kind, data.affine.decode(x), data.affine) for x in drawn]
    except ScorefieldError:  # vectors without matplotlib: training must not stop for want of a plot
        return []
    (folder / "previews").mkdir(exist_ok=True)
    path = folder / "previews" / f"step-{trainer.clock.step:08d}-raw-and-average.png"
    files.write(path, pictures.png(pictures.beside(*views)))
    return [path]


def picture_of(kind: str, raw: Tensor, affine: Affine, columns: int | None = None) -> Image:
    """Return samples in the data's own units as a picture: a grid of images, or a scatter plot of two columns."""
    if kind == "image":
        low, high = affine.low, affine.high
        assert low is not None and high is not None
        return pictures.grid((raw - low) / (high - low), columns)
    return pictures.scatter(raw.flatten(1).cpu())


@torch.no_grad()
def _curve(run: Run, data: Dataset) -> list[Path]:
    """Measure and plot ‖sigma·score + noise‖²/d by noise level, beside the best that is possible on the training set."""
    objective, process = Denoising(weighting=SigmaSquared()), run.config.process
    times = geometric(process, CURVE_LEVELS)
    training = data.affine.encode(data.train)
    exact = GaussianMixture.empirical(training, process)
    curves: dict[str, list[float]] = {}
    for name, field, some in (
        ("training examples", run.field, training[:CURVE_EXAMPLES]),
        ("held-out examples", run.field, data.affine.encode(data.held_out)[:CURVE_EXAMPLES]),
        ("memorising optimum, on training examples", exact, training[:CURVE_EXAMPLES]),
    ):
        noise = Noise(range(len(some)), stream=stream_of("curve"))
        size = flat(some).shape[1]
        losses = [objective.at(field, some, t.expand(len(some)), noise=noise).mean() for t in times]
        curves[name] = [2 * float(loss) / size for loss in losses]
    sigmas = process.sigma(times).tolist()
    files.write_json(run.path / "levels.json", {"sigma": sigmas, **curves})
    try:
        plot = pictures.loss_by_level(sigmas, curves, f"{run.path.name}: error by noise level")
    except ScorefieldError:  # no matplotlib: the numbers are there
        return [run.path / "levels.json"]
    files.write(run.path / "loss_by_level.png", pictures.png(plot))
    return [run.path / "levels.json", run.path / "loss_by_level.png"]


# --- sample ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleReport:
    """What was drawn and where it went.

    Attributes:
        written: the files.
        samples: how many.
        sampler: what drew them.
        levels: of noise.
        evaluations: of the network, for one sample.
    """

    written: tuple[Path, ...]
    samples: int
    sampler: Sampler
    levels: int
    evaluations: int


def choose_sampler(run: Run, name: str | None, steps: int | None) -> tuple[Sampler, Tensor]:
    """Return the sampler called `name` (None: the run's own) with about `steps` steps, and its ladder."""
    own = run.config.sampler
    sampler: Sampler = own if name in (None, registry.name_of("sampler", own)) else registry.find("sampler", str(name))()
    levels = run.config.levels if sampler is own else sampler.levels
    if steps is not None:
        if steps < 1:
            raise ScorefieldError(f"got --steps {steps}, expected at least 1: ask for more")
        sampler, levels = sampler.within(steps)
    return sampler, registry.find("ladder", sampler.ladder)(run.config.process, levels)


def draw(
    run: Run,
    n: int,
    sampler: Sampler,
    ladder: Tensor,
    *,
    seed: int = 0,
    batch: int = 256,
    device: torch.device | None = None,
    watch: Callable[[int, int, Moment], None] = lambda first, count, moment: None,
) -> Tensor:
    """Return n samples in model space, `(n, *shape)`, float64; sample i is the same for every n and batch.

    Args:
        run: an opened run.
        n: how many.
        sampler, ladder: how.
        seed: of the whole set; sample i owns number i of it.
        batch: how many at a time.
        device: where.
        watch: called after every step with the first index of the batch, its size, and the moment.
    """
    if n < 1:
        raise ScorefieldError(f"got {n} samples to draw, expected at least 1: ask for more")
    where = device or torch.device("cpu")
    field: Field = run.field.to(where)
    drawn = []
    for first in range(0, n, batch):
        noise = Noise(range(first, min(first + batch, n)), stream=stream_of("sample", seed), device=where)
        for moment in simulate(field, sampler, ladder, noise=noise):
            watch(first, len(noise), moment)
        drawn.append(moment.x.cpu())
    return torch.cat(drawn)


class _Film:
    """Collects about 60 frames of the first samples: the state at a noise level, scaled back to the size of the data."""

    def __init__(self, run: Run, shown: int) -> None:
        self.run, self.shown, self.frames = run, shown, list[Tensor]()

    def look(self, moment: Moment) -> None:
        every = max(1, moment.steps // 60)
        if moment.step % every and moment.step != moment.steps:
            return
        field = self.run.field
        x = moment.x[: self.shown].cpu()
        if moment.t > 0 or moment.step < moment.steps:
            # alpha·mean + std·(x - alpha·mean)/sqrt(alpha²·std² + sigma²): noise looks like noise, not like saturation.
            alpha, spread = field.process.prior(moment.t, field.data_std)
            mean = alpha * field.data_mean.cpu()
            x = mean + field.data_std * (x - mean) / spread
        self.frames.append(x)

    def picture(self, frame: Tensor, limits: tuple[float, float, float, float] | None) -> Image:
        raw = self.run.decode(frame)
        if self.run.kind == "image":
            return picture_of("image", raw, self.run.affine)
        return pictures.scatter(raw.flatten(1), limits=limits)

    def gif(self) -> bytes:
        limits = None
        if self.run.kind == "vector":
            ends = self.run.decode(self.frames[-1]).flatten(1)[:, :2]
            low, high = ends.min(dim=0).values, ends.max(dim=0).values
            pad = 0.15 * (high - low)
            (left, bottom), (right, top) = (low - pad).tolist(), (high + pad).tolist()
            limits = (left, right, bottom, top)
        return pictures.gif([self.picture(frame, limits) for frame in self.frames])


def sample(
    run: str | Path,
    *,
    n: int = 64,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    gif: bool = False,
    batch: int = 256,
    device: str = "auto",
    force: bool = False,
    watch: Callable[[int, int, Moment], None] = lambda first, count, moment: None,
) -> SampleReport:
    """Draw samples from a trained run into a picture, an array file or a folder.

    Args:
        run: the run's folder.
        n: how many.
        sampler: its registered name; None for the run's own.
        steps: about how many sampling steps; None for the sampler's own number.
        seed: the same seed gives the same samples and the same bytes.
        out: `.png` (a grid or a scatter plot), `.npz` (array), or a folder (one PNG each); None for a picture in the run.
        gif: also write an animation of the sampling, beside `out`.
        batch: how many at a time; changes memory, not samples.
        device: auto, cpu or cuda.
        force: overwrite what is there.
        watch: called after every step with the first index of the batch, its size, and the moment.

    Raises:
        ScorefieldError: no such run or sampler, a file in the way, an `out` that does not suit the data.
    """
    opened, where = open_run(run), pick_device(device)
    chosen, ladder = choose_sampler(opened, sampler, steps)
    target = Path(out) if out is not None else opened.path / f"samples-seed{seed}.png"
    as_folder = target.suffix == "" or str(out).endswith(os.sep)
    if not as_folder and target.suffix not in (".png", ".npz"):
        raise ScorefieldError(f"got --out {target}, expected a name ending in .png or .npz, or a folder: change the ending")
    if as_folder and opened.kind != "image":
        raise ScorefieldError(f"got --out {target}, a folder, for samples that are no images, expected .png or .npz: change it")
    film, film_path = _Film(opened, min(n, 64 if opened.kind == "image" else 2000)), target.with_suffix(".gif")
    files.refuse_existing(target, force, "something" if as_folder else "a file")
    if gif:
        files.refuse_existing(film_path, force)
    if not as_folder and not target.parent.is_dir():
        raise ScorefieldError(f"got --out {target} in a folder that does not exist, expected one that does: make {target.parent} first")
    evaluations = 0

    def look(first: int, count: int, moment: Moment) -> None:
        nonlocal evaluations
        evaluations = moment.evaluations
        if gif and first == 0:
            film.look(moment)
        watch(first, count, moment)

    x = draw(opened, n, chosen, ladder, seed=seed, batch=batch, device=where, watch=look)
    raw = opened.decode(x)
    written = [target]
    if as_folder:
        target.mkdir(parents=True, exist_ok=True)
        for index, pixels in enumerate(pictures.to_pixels(opened.visible(x))):
            content = pictures.png(pictures.image(pixels if opened.shape[0] > 1 else pixels[..., 0]))
            files.write(target / f"{index:05d}.png", content)
    elif target.suffix == ".npz":
        buffer = io.BytesIO()
        if opened.kind == "image":
            pixels = pictures.to_pixels(opened.visible(x))
            np.savez(buffer, images=pixels if opened.shape[0] > 1 else pixels[..., 0])
        else:
            np.savez(buffer, x=raw.numpy().astype(np.float32))
        files.write(target, buffer.getvalue())
    else:
        files.write(target, pictures.png(picture_of(opened.kind, raw, opened.affine)))
    if gif:
        files.write(film_path, film.gif())
        written.append(film_path)
    return SampleReport(tuple(written), n, chosen, len(ladder), evaluations)


# --- evaluate ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QualityReport:
    """How good the samples of a run are, beside what real data score.

    Attributes:
        samples, reference: how many of each.
        judge: name and hash of the features, with its accuracy on held-out data.
        accuracy: of the judge on held-out data, in [0, 1].
        figures: metric name -> estimate on samples.
        floor: the same on as many real training examples: what perfect samples would score.
        better: metric name -> "lower" or "higher".
        classes: class -> share of the samples.
        nearest_training: median distance of a sample to its nearest training example.
        nearest_held_out: the same for held-out examples: a copying model is much closer than they are.
        written: the files.
    """

    samples: int
    reference: int
    judge: str
    accuracy: float
    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
    better: dict[str, str]
    classes: dict[str, float]
    nearest_training: float
    nearest_held_out: float
    written: tuple[Path, ...]


def evaluate(
    run: str | Path,
    *,
    n: int = 1000,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Callable[[int, int, Moment], None] = lambda first, count, moment: None,
) -> QualityReport:
    """Measure samples of a run against its held-out data with a judge trained on its labelled training data.

    Args:
        run: the run's folder; its data source must still be there, unchanged, and have class labels.
        n: samples to draw.
        sampler, steps, seed, device, watch: as in `sample`.

    Raises:
        ScorefieldError: data that changed or have no labels; too few samples.
    """
    opened, where = open_run(run), pick_device(device)
    data = open_source(opened.config.source, opened.config.data)
    if data.fingerprint != opened.manifest["data"]["fingerprint"]:
        raise ScorefieldError(f"got data from {opened.config.source!r} that differ from the run's, expected the same: restore them")
    if data.kind != "image" or data.labels is None:
        raise ScorefieldError(f"got a run on {data.name!r}, which has no labelled images, expected them for the judge: evaluate digits, or images in class folders")
    chosen, ladder = choose_sampler(opened, sampler, steps)
    judge = train_judge(data.affine.encode(data.train), data.labels)
    x = draw(opened, n, chosen, ladder, seed=seed, device=where, watch=watch).clamp(-1, 1).float()
    held_out, training = data.affine.encode(data.held_out), data.affine.encode(data.train)
    some = Noise(range(len(training)), stream=stream_of("floor")).uniform(()).argsort()[:n]
    real, drawn, floor = judge.features(held_out), judge.features(x), judge.features(training[some])
    metrics = {name: cls() for name, cls in registry.every("metric").items()}
    figures = {name: metric(drawn, real) for name, metric in metrics.items()}
    best = {name: metric(floor, real) for name, metric in metrics.items()}
    found = torch.bincount(judge.classify(x), minlength=len(data.classes)).double() / n
    assert data.held_out_labels is not None
    report = QualityReport(
        samples=n,
        reference=len(held_out),
        judge=judge.name,
        accuracy=float((judge.classify(held_out) == data.held_out_labels).double().mean()),
        figures=figures,
        floor=best,
        better={name: metric.better for name, metric in metrics.items()},
        classes=dict(zip(data.classes, found.tolist(), strict=True)),
        nearest_training=_nearest(x, training),
        nearest_held_out=_nearest(held_out, training),
        written=(opened.path / "quality.json", opened.path / "quality.md"),
    )
    values = {key: value for key, value in asdict(report).items() if key != "written"}
    values |= {"sampler": plain(chosen, "sampler"), "levels": len(ladder), "seed": seed}
    files.write_json(opened.path / "quality.json", values)
    files.write(opened.path / "quality.md", quality_table(report).encode())
    return report


def _nearest(samples: Tensor, training: Tensor) -> float:
    return float(torch.cdist(flat(samples).double(), flat(training).double()).min(dim=1).values.median())


def quality_table(report: QualityReport) -> str:
    """Return the report as a Markdown table."""
    lines = [
        f"# Quality of {report.samples} samples against {report.reference} held-out real examples",
        "",
        f"Features: {report.judge}, trained on the training part only, {report.accuracy:.1%} right on the held-out part.",
        "",
        "| figure | samples | real against real | better |",
        "|---|---|---|---|",
    ]
    for name, value in report.figures.items():
        lines.append(f"| {name} | {value} | {report.floor[name]} | {report.better[name]} |")
    lines += [
        f"| median distance to the nearest training example | {report.nearest_training:.3g} | {report.nearest_held_out:.3g} | like real |",
        "",
        "| class | " + " | ".join(report.classes) + " |",
        "|---" * (len(report.classes) + 1) + "|",
        "| share | " + " | ".join(f"{share:.1%}" for share in report.classes.values()) + " |",
    ]
    return "\n".join(lines) + "\n"


# --- inspect -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InspectReport:
    """What is in a run's folder.

    Attributes:
        run: the opened run.
        sigmas: the noise levels of the run's own ladder, noisiest first.
        quality: what `evaluate` found, or None.
        held_out: the last held-out loss per coordinate, or None.
    """

    run: Run
    sigmas: tuple[float, ...]
    quality: dict[str, Any] | None
    held_out: float | None


def inspect(run: str | Path) -> InspectReport:
    """Open a run's folder and say what it holds."""
    opened = open_run(run)
    sampler, ladder = choose_sampler(opened, None, None)
    quality = opened.path / "quality.json"
    held_out = None
    log = opened.path / "metrics.jsonl"
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            held_out = json.loads(line).get("held_out", held_out)
    sigmas = tuple(opened.config.process.sigma(ladder).tolist())
    return InspectReport(opened, sigmas, files.read_json(quality) if quality.exists() else None, held_out)
