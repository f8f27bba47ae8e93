"""Train: from a data source to a self-describing run folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scorefield import files, pictures, registry
from scorefield.app.common import pick_device, picture_of
from scorefield.config import RunConfig, data_config, override, plain
from scorefield.data import Dataset, open_source
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.exact import GaussianMixture
from scorefield.levels import geometric, karras
from scorefield.objectives.base import SigmaSquared
from scorefield.objectives.denoising import Denoising
from scorefield.randomness import Noise, stream_of
from scorefield.recipes import measure
from scorefield.runs import Run, build_model, manifest_of, open_run, read_log, save_model
from scorefield.samplers import Heun, simulate
from scorefield.shapes import flat
from scorefield.training.loop import Progress, Trainer

CURVE_LEVELS = 24
CURVE_EXAMPLES = 512


Watch = Callable[["Plan | Progress"], None]


def _quiet(_: Any) -> None:
    """Watch nothing."""


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
    budget = _budget(steps, seconds)
    goes_on = (folder / "config.json").exists()
    if goes_on:
        config, data, manifest = _go_on(folder, source, [*budget, *settings], resume)
        facts, why = measure(data), tuple(manifest["why"])
    else:
        _refuse_strangers(folder)
        data = open_source(source, data_config(settings))
        facts = measure(data)
        made = chosen(facts)
        config = override(replace(made.config, source=source), [f"seed={seed}", *budget, *settings])
        why = made.why + tuple(f"{setting}: set by hand" for setting in settings)
        manifest = {}
    model = build_model(config, data.shape, facts.std, facts.mean)
    parameters = sum(p.numel() for p in model.parameters())
    manifest = manifest or manifest_of(data, facts.std, why, parameters)
    trainer = Trainer(config, data, model, folder / "checkpoints", where)
    if goes_on:
        trainer.precision = manifest.get("precision", trainer.precision)  # measured once, so that both sittings agree
        trainer.resume()
    watch(Plan(data, config, why, parameters, folder))
    if trainer.fraction >= 1:
        return TrainReport(folder, **asdict(trainer.clock), held_out=math.nan, finished_before=True, written=())
    return _train(trainer, folder, data, manifest, watch)


def _go_on(folder: Path, source: str, settings: list[str], resume: bool) -> tuple[RunConfig, Dataset, dict[str, Any]]:
    """Return what the run in `folder` goes on with, or refuse."""
    if not resume:
        raise ScorefieldError(
            f"got --out {folder}, which holds a run already, expected a new folder: choose another, or add --resume"
        )
    old = open_run(folder)
    config = override(old.config, settings)
    if source != config.source:
        raise ScorefieldError(
            f"got {source!r} for the run {folder}, expected {config.source!r}, which it was trained on: name that"
        )
    for part in ("data", "network", "process", "parametrisation", "seed"):
        if getattr(config, part) != getattr(old.config, part):
            raise ScorefieldError(f"got another {part} for the run {folder}, expected its own: start a new run to change it")
    data = open_source(config.source, config.data)
    if data.fingerprint != old.manifest["data"]["fingerprint"]:
        raise ScorefieldError(
            f"got data from {config.source!r} that differ from those the run {folder} was trained on, expected the same: "
            "restore them or start a new run"
        )
    return config, data, old.manifest


def _refuse_strangers(folder: Path) -> None:
    """Refuse a folder with anything in it but what a run that was killed while it began leaves behind."""
    ours = {"model.safetensors", "manifest.json"}
    if folder.exists() and (not folder.is_dir() or any(p.name not in ours and p.name[0] != "." for p in folder.iterdir())):
        raise ScorefieldError(f"got --out {folder}, which is there already and no run, expected a new folder: choose another")


def _train(trainer: Trainer, folder: Path, data: Dataset, manifest: dict[str, Any], watch: Watch) -> TrainReport:
    """Run the loop, keeping weights, log and pictures up to date in the run's folder."""
    held_out, written = math.nan, list[Path]()

    def keep(finished: bool = False) -> None:
        manifest["progress"] = {**asdict(trainer.clock), "finished": finished}
        if trainer.precision != "auto":
            manifest["precision"] = trainer.precision
        manifest["device"] = trainer.device.type
        save_model(folder, trainer.average, manifest)

    folder.mkdir(parents=True, exist_ok=True)
    keep()
    files.write_json(folder / "config.json", plain(trainer.config))  # last: with it the folder is a run
    _forget_later_lines(folder / "metrics.jsonl", trainer.clock.step)
    try:
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
            for progress in trainer.run():
                held_out = progress.extra.get("held_out", held_out)
                if progress.event in ("log", "done"):
                    log.write(json.dumps(_line(progress)) + "\n")
                    log.flush()
                if progress.event in ("ready", "checkpoint", "done"):
                    keep(finished=progress.event == "done")
                if progress.event == "picture" or (progress.event == "done" and trainer.config.training.pictures):
                    written += _preview(trainer, folder, data)
                watch(progress)
    except (KeyboardInterrupt, NotFinite):
        if trainer.is_finite():
            keep()
        raise
    written += _curve(open_run(folder), data)
    return TrainReport(folder, **asdict(trainer.clock), held_out=held_out, finished_before=False, written=tuple(written))


def _forget_later_lines(log: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after the checkpoint from which it goes on, and a line cut short."""
    if log.exists():
        lines = [line for line in read_log(log) if line["step"] <= step]
        files.write(log, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _budget(steps: int | None, seconds: float | None) -> list[str]:
    """Return the settings that replace a budget, or none when neither is given."""
    if steps is None and seconds is None:
        return []
    return [f"training.{key}={json.dumps(value)}" for key, value in (("steps", steps), ("seconds", seconds))]


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
    files.write(path, pictures.png(pictures.beside(views[0], views[1])))
    return [path]


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
