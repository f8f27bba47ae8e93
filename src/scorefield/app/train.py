"""Train: from a data source to a self-describing run folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from scorefield import files, registry
from scorefield.config import RunConfig, data_config, from_dict, named, override, to_dict
from scorefield.data import Dataset, open_again, open_data, place_of
from scorefield.data.base import DataIssue
from scorefield.data.doctor import examine
from scorefield.drawing import pick_device
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.noise_label import check_noise_label, unvisited
from scorefield.prediction import Score
from scorefield.process import Process
from scorefield.progress import Viewer, silent
from scorefield.recipes import DataStats, measure, measured
from scorefield.runs import LEAST_HELD_OUT, Run, build_model, classes_of, manifest_of, open_run, read_log, save_model
from scorefield.samplers import Langevin
from scorefield.training.distribution import World, join
from scorefield.training.loop import Trainer
from scorefield.training.memory import keep_freed, refuse_large_network
from scorefield.training.pilot import refuse_large_batch
from scorefield.training.previews import Previews, curve, losses_by_level, preview
from scorefield.training.reports import TrainingState

FIXED = ("data", "network", "process", "parametrisation", "objective")  # what a run cannot change when it goes on
ISSUES = "data_issues.json"
STOPPED = 143  # as a shell reports SIGTERM


@dataclass(frozen=True)
class Plan:
    """What a training is about to do, for whoever watches: data, reasons, size, and what is odd about the data."""

    data: Dataset
    config: RunConfig
    why: tuple[str, ...]
    parameters: int
    folder: Path
    issues: tuple[DataIssue, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes:
        folder: the run.
        step, seconds, images: how far it went.
        held_out: loss per coordinate on held-out examples, or NaN for a run that was already finished.
        ended: "done", "stopped" when it was asked to, or "before" when there was nothing left to do.
        written: pictures and tables it made.
        messages: what was said on the way: precision, warnings, the moving average that was chosen.
        hardly_begun: whether the time was over before the first steps were done, so that its samples are noise.
    """

    folder: Path
    step: int
    seconds: float
    images: int
    held_out: float
    ended: str
    written: tuple[Path, ...]
    messages: tuple[str, ...] = ()
    hardly_begun: bool = False


def train(
    source: Any,
    *,
    out: str | Path | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    recipe: str | None = None,
    settings: tuple[str, ...] = (),
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Viewer = silent,
    stop: Callable[[], bool] = lambda: False,
) -> TrainReport:
    """Learn the score of a data source and leave a self-describing run folder.

    Under `torchrun` all processes train together, and all but the first end inside this call, with the exit code of the run.

    Args:
        source: a built-in name, or the path of a folder or .zip of images, of an array, a table or tar shards. Or the data
            themselves: a data frame, an array, a list of images, anything with a length and things by number.
        out: the run's folder; None for runs/<name of the source>, runs/data for data themselves.
        seconds: of training, at most, but for one step; with neither this nor `steps`, 180.
        steps: of the optimiser, at most. With this alone no clock has a say: the same seed and steps give the same weights, to
            the last bit on the same machine with the same number of threads; with another number sums are added in another
            order, and the last digits differ. The run's manifest says how many there were.
        recipe: name of the recipe that chooses everything else; None for auto, or the run's own when it goes on.
        settings: `dotted.key=value` changes to the recipe's choices.
        seed: of weights, data order and noise; None for 0, or the run's own when it goes on.
        device: auto, cpu or cuda.
        resume: go on with the run in `out`; its own config is used, a new budget of seconds or steps replaces its own. A run
            that was cut short goes on without this, too, when everything asked for is what it was begun with.
        progress: called with the share done, words and a `Plan`, then with each `TrainingState` of the loop.
        stop: asked between steps; True saves the state and ends.

    Raises:
        ScorefieldError: unusable data, unknown names, `out` in use; nothing has been written then. Or the last state could not
            be written; the checkpoint before it stands.
        NotFinite: a NaN; the last good state has been kept.
    """
    settings = _settings(settings)
    where = os.fspath(source) if isinstance(source, os.PathLike) else source
    asked = _Asked(where, settings, tuple(_budget(steps, seconds, settings)), recipe, seed, resume)
    if out is not None and (not isinstance(out, str | os.PathLike) or not os.fspath(out)):
        raise ScorefieldError(f"got --out {out!r}, expected the name of a folder: write one, or leave it out")
    folder = Path(out).expanduser() if out is not None else Path("runs") / _name_of(asked.source)
    folder = Path(os.path.normpath(folder))
    keep_freed()
    with join(device) as world:
        begun = world.agreed(lambda: _begin(asked, folder) if world.first else None)
        if world.size > 1:
            begun = world.agreed(lambda: _follow(asked.source, world.told(begun.said() if begun else {}), begun))
        assert begun is not None  # by now every process has one
        return _work(begun, folder, world.device or pick_device(device), world, progress, stop)


@dataclass(frozen=True)
class _Asked:
    """What a person asked for; the source is a string, or the data themselves."""

    source: Any
    settings: tuple[str, ...]
    budget: tuple[str, ...]
    recipe: str | None
    seed: int | None
    resume: bool


@dataclass(frozen=True)
class _Begun:
    """What a training begins with, or goes on with."""

    config: RunConfig
    data: Dataset
    stats: DataStats
    manifest: dict[str, Any]
    goes_on: bool
    issues: tuple[DataIssue, ...] = ()  # the warnings are in the manifest

    def said(self) -> dict[str, Any]:
        """Return what the other processes are told, as plain values; they open the data themselves."""
        return {
            "config": to_dict(self.config),
            "manifest": self.manifest,
            "goes_on": self.goes_on,
            "print": self.data.fingerprint,
        }


def _begin(asked: _Asked, folder: Path) -> _Begun:
    """Decide what to train, in the first process; nothing is written."""
    if (folder / "config.json").exists():
        if not asked.resume:
            _refuse_another(asked, folder)
        config, data, stats, manifest = _go_on(folder, asked)
        return _Begun(config, data, stats, manifest, True)
    _refuse_strangers(folder)
    config, data, stats, why = _anew(asked)
    found = examine(data)
    manifest = manifest_of(data, stats.std, why, 0, place_of(asked.source)) | {
        "warnings": [*found.warnings, *too_few(data), *unvisited_levels(config)]
    }
    return _Begun(config, data, stats, manifest, False, found.issues)


def _follow(source: Any, said: dict[str, Any], begun: _Begun | None) -> _Begun:
    """Begin as the first process does, with the data that this one sees."""
    if begun is not None:
        return begun
    config = from_dict(said["config"])
    data = open_again(source, config.data, said["manifest"]["data"].get("columns"))
    if data.fingerprint != said["print"]:
        raise ScorefieldError(
            f"got data from {_source_of(source)!r} that differ from those of the first process, expected the same everywhere: "
            "copy them"
        )
    return _Begun(config, data, measure(data), said["manifest"], said["goes_on"])


def _anew(asked: _Asked) -> tuple[RunConfig, Dataset, DataStats, tuple[str, ...]]:
    """Return a new run of what was asked for, its data, their facts and the reasons."""
    chosen = registry.find("recipe", asked.recipe or "auto")
    data = open_data(asked.source, data_config(asked.settings))
    stats = measure(data)
    made = chosen(stats)
    own = [*([] if asked.seed is None else [f"seed={json.dumps(_number(asked.seed))}"]), *asked.budget]
    config = override(replace(made.config, source=_source_of(asked.source)), [*own, *asked.settings], measured=measured(stats))
    config, reasons = _without_noise(config, asked.settings, stats.std)
    check_noise_label(config.parametrisation.noise_label, config.process)
    return config, data, stats, made.why + by_hand(asked.settings) + reasons


def _work(
    begun: _Begun, folder: Path, device: torch.device, world: World, progress: Viewer, stop: Callable[[], bool]
) -> TrainReport:
    """Build the model, go on where the run was, and train."""
    config, data, manifest = begun.config, begun.data, begun.manifest
    classes = classes_of(config, data.classes)
    world.agreed(lambda: refuse_large_network(config, data.shape, classes, device))
    model = build_model(config, data.shape, begun.stats.std, begun.stats.mean, classes=classes)
    manifest["parameters"] = sum(p.numel() for p in model.parameters())
    trainer = world.agreed(lambda: Trainer(config, data, model, folder / "checkpoints", device, world))
    if begun.goes_on:
        if config.training.precision == "auto":
            trainer.precision = manifest.get("precision", trainer.precision)  # chosen once, so that both sittings agree
        if not trainer.resume() and manifest["progress"]["step"]:
            raise ScorefieldError(
                f"got no checkpoint in {trainer.folder}, though the run had reached step {manifest['progress']['step']}, "
                "expected one to go on from: restore the folder, or start a new run"
            )
        trainer.messages += _elsewhere(manifest, trainer)
    world.agreed(lambda: refuse_large_batch(trainer))
    world.agreed(trainer.rehearse)
    if world.first:
        warnings = tuple(manifest.get("warnings", ()))
        plan = Plan(data, config, tuple(manifest["why"]), manifest["parameters"], folder, begun.issues, warnings)
        progress(0.0, "beginning", plan)
    if begun.goes_on and trainer.fraction >= 1:
        done = world.told(world.first and _is_whole(folder, manifest, trainer.clock.step, _has_levels(config.process)))
        if done:
            return TrainReport(folder, **asdict(trainer.clock), held_out=math.nan, ended="before", written=())
    if world.first:
        if begun.issues:
            folder.mkdir(parents=True, exist_ok=True)
            files.write_json(folder / ISSUES, [asdict(issue) for issue in begun.issues])
        return _train(trainer, folder, data, manifest, progress, stop)
    for _ in trainer.run(stop):
        pass
    raise SystemExit(STOPPED if trainer.fraction < 1 else 0)


def _where(trainer: Trainer) -> dict[str, Any]:
    """Return what beside its settings a run's numbers depend on, in their last digits."""
    return {
        "device": trainer.device.type,
        "threads": torch.get_num_threads(),
        "processes": trainer.world.size,
        **({} if trainer.precision == "auto" else {"precision": trainer.precision}),
    }


def _elsewhere(manifest: dict[str, Any], trainer: Trainer) -> list[str]:
    """Say in what a sitting differs from the one before, where that changes numbers."""
    new = [(key, manifest[key], now) for key, now in _where(trainer).items() if manifest.get(key, now) != now]
    if not new:
        return []
    changes = ", ".join(f"{key} {now} instead of {before}" for key, before, now in new)
    return [f"goes on with {changes}: its numbers will not be quite those of a run that changes nothing"]


def too_few(data: Dataset) -> list[str]:
    """Say what the number of held-out examples will not allow later."""
    held, total = len(data.held_out), len(data.train) + len(data.held_out)
    if held >= LEAST_HELD_OUT:
        return []
    share = math.ceil(100 * LEAST_HELD_OUT / total) / 100
    advice = (
        f"--set data.held_out={share:g} holds out enough"
        if total >= 2 * LEAST_HELD_OUT
        else f"with {total} in all, add more data"
    )
    held_out = "1 example is" if held == 1 else f"{held} examples are"
    return [f"Only {held_out} held out, but scorefield evaluate needs {LEAST_HELD_OUT}: {advice}."]


def unvisited_levels(config: RunConfig) -> list[str]:
    """Say that a network is trained on a few noise levels and is told them in a form that means nothing in between."""
    label, process, times = config.parametrisation.noise_label, config.process, config.objective.visited(config.process)
    if times is None or (apart := unvisited(label, process, times)) == 1:
        return []
    seen = "one noise level alone" if len(times) == 1 else f"{len(times)} noise levels alone"
    advice = f"set parametrisation.noise_label={len(times)}, or a" if len(times) > 1 else "set a"
    return [
        f"The network learns {seen} and nothing of those between, up to a factor of {apart:.3g} away, where samplers on other "
        f"ladders will ask it: {advice} density of levels such as objective.noise_distribution=uniform."
    ]


def _has_levels(process: Process) -> bool:
    """Whether a process has more than one time, and so a curve of its error by level."""
    return process.t_max > process.t_min


def _without_noise(config: RunConfig, settings: tuple[str, ...], std: float) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the run with what can be learned and sampled without noise, where nobody chose by hand, and the reasons."""
    end = torch.tensor(config.process.t_max, dtype=torch.float64)
    if float(config.process.sigma(end)) > 0:
        return config, ()
    asked, reasons = {named(setting).partition(".")[0] for setting in settings}, list[str]()
    if "parametrisation" not in asked:
        config = replace(config, parametrisation=Score())
        reasons.append("parametrisation = score: without noise other outputs hold no score")
    if "sampler" not in asked:
        config = replace(config, sampler=Langevin(tau=float(f"{0.01 * std**2:.3g}")), levels=1)
        reasons.append("sampler = langevin: there is one level; tau is a hundredth of the data's variance")
    return config, tuple(reasons)


def _source_of(source: Any) -> str:
    """Return what a run's config calls its source."""
    return source if isinstance(source, str) else "data"


def _name_of(source: Any) -> str:
    """Return a folder's name for a source: its own name, without the ending of a file."""
    if not isinstance(source, str):
        return _source_of(source)
    if source in registry.names("source"):
        return source
    path = Path(source).expanduser().resolve()
    return (path.stem if path.is_file() else path.name) or "run"


def _refuse_another(asked: _Asked, folder: Path) -> None:
    """Refuse a run that is there already, unless it was cut short and is the very one that was asked for."""
    old = open_run(folder)
    config, data, *_ = _anew(asked)
    named = _source_of(asked.source) == old.config.source  # another spelling, or another place, of the same data is as good
    same = named or data.is_what_made(old.manifest["data"]["fingerprint"])
    if old.manifest["progress"]["finished"] or not same or replace(config, source=old.config.source) != old.config:
        raise ScorefieldError(
            f"got --out {folder}, which holds a run already, expected a new folder: choose another, or add --resume"
        )


def _go_on(folder: Path, asked: _Asked) -> tuple[RunConfig, Dataset, DataStats, dict[str, Any]]:
    """Return what the run in `folder` goes on with, or refuse."""
    old = open_run(folder)
    swaps = [setting for setting in asked.settings if named(setting).partition(".")[0] in FIXED]
    known = measured(measure(open_again(asked.source, old.config.data, old.manifest["data"].get("columns")))) if swaps else {}
    config = override(old.config, [*asked.budget, *asked.settings], measured=known)
    for part, wanted, own in (
        ("recipe", asked.recipe, old.config.recipe),
        ("seed", asked.seed, old.config.seed),
        *((part, getattr(config, part), getattr(old.config, part)) for part in FIXED),
        ("seed", config.seed, old.config.seed),
        ("training.batch", config.training.batch, old.config.training.batch),
        ("training.ema", config.training.lengths, old.config.training.lengths),
        ("training.labels", config.training.labels, old.config.training.labels),
        ("optimiser.method", config.optimiser.method, old.config.optimiser.method),  # its moments mean nothing to another
    ):
        if wanted is not None and wanted != own:
            raise ScorefieldError(
                f"got another {part} for the run {folder}, expected its own, {own}: start a new run to change it"
            )
    data = open_again(asked.source, config.data, old.manifest["data"].get("columns"))
    if not data.is_what_made(old.manifest["data"]["fingerprint"]):
        raise ScorefieldError(
            f"got data from {_source_of(asked.source)!r} that differ from those the run {folder} was trained on, expected the "
            "same: restore them or start a new run"
        )
    if (place := place_of(asked.source)) is not None:
        old.manifest["data"]["path"] = place  # where they lie now
    return config, data, measure(data), old.manifest


def _is_whole(folder: Path, manifest: dict[str, Any], step: int, has_levels: bool) -> bool:
    """Whether a run was finished and everything was written: if it was killed at the very end, the end is done again."""
    done, weights = manifest["progress"], folder / "model.safetensors"
    return bool(
        done["finished"]
        and done["step"] == step
        and weights.exists()
        and files.digest(weights.read_bytes()) == manifest["model_sha256"]
        and (not has_levels or (folder / "levels.json").exists())
    )


def _refuse_strangers(folder: Path) -> None:
    """Refuse a folder with anything in it but what a run that was killed while it began leaves behind."""
    if not folder.exists():
        return
    inside = {path.name for path in folder.iterdir() if not path.name.endswith(".partial")} if folder.is_dir() else {"a file"}
    inside -= {ISSUES}
    begun = "manifest.json" in inside and inside <= {"model.safetensors", "manifest.json"}
    if begun:
        manifest = files.read_json(folder / "manifest.json")
        begun = isinstance(manifest, dict) and manifest.get("progress", {}).get("step") == 0
    if inside and not begun:
        raise ScorefieldError(f"got --out {folder}, which is there already and no run, expected a new folder: choose another")


def _train(
    trainer: Trainer, folder: Path, data: Dataset, manifest: dict[str, Any], progress: Viewer, stop: Callable[[], bool]
) -> TrainReport:
    """Run the loop, keeping weights, log and pictures up to date in the run's folder.

    What cannot be written while the loop runs is a warning and is tried again, for the loop may outlast a full disk; at the end
    it is an error.
    """
    held_out, looks, ended, lines, messages = math.nan, Previews(), "done", list[str](), list[str]()

    def keep(finished: bool = False) -> None:
        manifest["progress"] = {**asdict(trainer.clock), "finished": finished}
        manifest.update(_where(trainer))
        with files.together():
            save_model(folder, trainer.average, manifest)

    def note() -> None:
        files.append(folder / "metrics.jsonl", "".join(lines).encode())
        lines.clear()

    folder.mkdir(parents=True, exist_ok=True)
    with files.alone(folder):
        if not (folder / "manifest.json").exists():
            files.write_json(folder / "manifest.json", manifest)  # first: a kill leaves a folder that says what it is
        keep()
        files.write_json(folder / "config.json", to_dict(trainer.config))  # last: with it the folder is a run
        _forget_later_lines(folder / "metrics.jsonl", trainer.clock.step)
        try:
            for state in trainer.run(stop):
                held_out, ended = state.extra.get("held_out", held_out), state.event
                if state.event in ("log", "done"):
                    lines.append(json.dumps(_line(state)) + "\n")
                try:
                    if lines:
                        note()
                    if state.event in ("ready", "checkpoint", "stopped"):
                        keep()
                except OSError as error:
                    if state.event in ("done", "stopped"):
                        raise
                    trouble = f"{folder} could not be written ({error}): training goes on and will try again"
                    state = replace(state, messages=(*state.messages, trouble))
                if state.event == "picture" or (state.event == "done" and trainer.config.training.pictures):
                    said = looks.take("picture of samples", lambda: preview(trainer, folder, data))
                    state = replace(state, messages=(*state.messages, *said))
                messages += state.messages
                progress(state.fraction, state.event, state)
        except NotFinite:
            if trainer.is_finite():
                with contextlib.suppress(OSError):  # the NaN is what a person should hear of
                    keep()
            raise
        if ended == "done":
            keep()
            if _has_levels(trainer.config.process):
                messages += _look_at_levels(looks, folder, data, replace(state, messages=()), progress)
            keep(finished=True)
    written = tuple(looks.written)
    hardly = ended == "done" and trainer.hardly_begun
    said = tuple(messages)
    return TrainReport(
        folder, **asdict(trainer.clock), held_out=held_out, ended=ended, written=written, messages=said, hardly_begun=hardly
    )


def _look_at_levels(looks: Previews, folder: Path, data: Dataset, last: TrainingState, progress: Viewer) -> tuple[str, ...]:
    """Measure the error by noise level, write and plot it; return what could not be done."""

    def show(share: float, text: str) -> None:
        progress(share, text, replace(last, event="looking", fraction=share))

    def measured() -> Path:
        run = open_run(folder)
        sigmas, curves = losses_by_level(run, data, show)
        found.append((run, sigmas, curves))
        files.write_json(folder / "levels.json", {"sigma": sigmas, **curves, "made_from": run.made_from})
        return folder / "levels.json"

    found: list[tuple[Run, list[float], dict[str, list[float]]]] = []
    said = looks.take("table of the error by noise level", measured)
    if found:
        said += looks.take("plot of the error by noise level", lambda: curve(*found[0]))
    if said:
        progress(1.0, "trained", replace(last, event="warning", messages=said))
    return said


def _forget_later_lines(log: Path, step: int) -> None:
    """Drop what a killed run wrote after the checkpoint from which it goes on, a line cut short, and that it was done."""
    if log.exists():
        lines = [line for line in read_log(log) if line["step"] <= step and line["event"] != "done"]
        files.write(log, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _settings(settings: Any) -> tuple[str, ...]:
    """Return `--set` settings, or refuse what are none, and keys that have a place of their own."""
    if isinstance(settings, str) or not isinstance(settings, Sequence) or not all(isinstance(one, str) for one in settings):
        raise ScorefieldError(f"got settings {settings!r}, expected a sequence of texts: write ('training.batch=64',)")
    for setting in settings:
        if (key := named(setting)) in ("source", "recipe", "data"):
            raise ScorefieldError(f"got --set {setting!r}, expected no {key} there: name it itself, or one setting below it")
    return tuple(settings)


def by_hand(settings: tuple[str, ...]) -> tuple[str, ...]:
    """Return as reasons the settings that hold: of two for one key the later."""
    last = {named(setting): setting for setting in settings}
    return tuple(f"{setting}: set by hand" for setting in last.values())


def _number(value: Any) -> Any:
    """Return a number of any library as Python's own; anything else as it is, or its text, for the setting to refuse."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else repr(value)


def _budget(steps: Any, seconds: Any, settings: tuple[str, ...] = ()) -> list[str]:
    """Return the settings that replace a budget, or none when none is given; steps alone, set by hand too, mean no clock."""
    if steps is None and seconds is None:
        keys = {named(setting) for setting in settings}
        return ["training.seconds=null"] * ("training.steps" in keys and "training.seconds" not in keys)
    return [f"training.{key}={json.dumps(_number(value))}" for key, value in (("steps", steps), ("seconds", seconds))]


def _line(state: TrainingState) -> dict[str, Any]:
    numbers = {"event": state.event, "step": state.step, "seconds": round(state.seconds, 3), "images": state.images}
    numbers |= {"loss": state.loss, "images_per_second": round(state.images_per_second, 1), **state.extra}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in numbers.items()}
