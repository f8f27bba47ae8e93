"""Plan: what the data are, what training would do with them, and what to expect of it; and nothing is written unasked.

    the doctor    what in the data is broken, repeated, leaked or odd               (`data/doctor.py`)
    the recipe    process, network, objective and sampler, with the reasons          (`recipes.py`)
    the pilot     seconds and bytes of a training step on this machine               (`training/pilot.py`)

From these follow steps = seconds/pace, images = steps·batch and epochs = images/examples, and the sentences of `expectations`.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scorefield import files, registry
from scorefield.app.train import _budget, _settings, _source_of, _without_noise, by_hand, too_few, unvisited_levels
from scorefield.config import RunConfig, data_config, override, to_dict
from scorefield.data import Dataset, open_data
from scorefield.data.doctor import Findings, examine
from scorefield.drawing import pick_device
from scorefield.errors import ScorefieldError
from scorefield.exact import Gaussian
from scorefield.levels import ladder_of
from scorefield.noise_label import check_noise_label
from scorefield.prediction import Energy
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng
from scorefield.recipes import measure, measured
from scorefield.runs import build_model, classes_of
from scorefield.samplers import simulate
from scorefield.training.memory import refuse_large_network
from scorefield.training.pilot import Pilot, pilot, reach

LARGE = 64  # pixels a side, above which a CPU takes hours
FEW = 5_000  # examples, below which a network of usual size learns them by heart if it sees them often
HANDFUL = 200  # examples, below which it does so in minutes
OFTEN = 200  # epochs
BEGUN = 100_000  # images seen, of 28 x 28 pixels, from which on samples of a small U-Net begin to look right
SLOW = 0.1  # share of a step for loading that is worth a word
PATIENCE = 60.0  # seconds for 64 samples that are worth a word
COUNTED = 2_000  # steps of a sampler whose evaluations are counted
QUICK = 20  # steps of a quick sampler


@dataclass(frozen=True)
class DataPlan:
    """What the data are, and what a training on this machine would do.

    Attributes:
        data: the data set, opened.
        findings: of the doctor.
        config: the run that would be trained.
        why: the reasons for its numbers.
        std: of the data in model space, around their mean.
        sigmas: noise levels of the run's own ladder, noisiest first.
        parameters: of the network, and of what the objective learns besides.
        reach: how far an output of an image network sees, along each axis; empty for vectors.
        pilot: what a few steps have shown.
        seconds: the budget, or None where only steps are given.
        steps, images: that the budget allows.
        sampling_seconds: to draw 64 samples with the run's own sampler.
        evaluations: of the network for a sample.
        expectations: what to expect, and what to do about it.
    """

    data: Dataset
    findings: Findings
    config: RunConfig
    why: tuple[str, ...]
    std: float
    sigmas: tuple[float, ...]
    parameters: int
    reach: tuple[int, ...]
    pilot: Pilot
    seconds: float | None
    steps: int
    images: int
    sampling_seconds: float
    evaluations: int
    expectations: tuple[str, ...]

    @property
    def epochs(self) -> float:
        """How often each training example is seen, on average."""
        return self.images / len(self.data.train)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        data, chosen = self.data, self.pilot.chosen
        return {
            "data": {
                "name": data.name,
                "kind": data.kind,
                "shape": list(data.shape),
                "examples": len(data.train),
                "held_out": len(data.held_out),
                "classes": list(data.classes),
                "notes": list(data.notes),
                "normaliser": to_dict(data.normaliser),
                "fingerprint": data.fingerprint,
                "std": self.std,
            },
            "findings": {**asdict(self.findings), "constant": list(self.findings.constant)},
            "config": to_dict(self.config),
            "why": list(self.why),
            "sigmas": list(self.sigmas),
            "parameters": self.parameters,
            "reach": list(self.reach),
            "pilot": {
                **asdict(self.pilot),
                "images_per_second": chosen.images_per_second,
                "memory": {**asdict(self.pilot.memory), "total": self.pilot.memory.total, "fits": self.pilot.memory.fits},
            },
            "expected": {
                "seconds": self.seconds,
                "steps": self.steps,
                "images": self.images,
                "epochs": self.epochs,
                "sampling_seconds": self.sampling_seconds,
                "evaluations": self.evaluations,
                "sentences": list(self.expectations),
            },
        }


def plan(
    source: Any,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    recipe: str | None = None,
    settings: tuple[str, ...] = (),
    size: int | tuple[int, int] | None = None,
    fit: Literal["crop", "pad", "stretch"] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    force: bool = False,
    pilot_seconds: float = 4.0,
    progress: Progress = silent,
) -> DataPlan:
    """Say what the data are and what a training would do, after a few seconds of trying it.

    Args:
        source: a built-in name, a path, or the data themselves, as `train` takes them, or a data set that is open already.
        seconds: of training, at most; with neither this nor `steps`, the recipe's own.
        steps: of the optimiser, at most.
        recipe: name of the recipe; None for auto.
        settings: `dotted.key=value` changes to the recipe's choices.
        size: of images: side, or (height, width).
        fit: how images of another shape are brought to it.
        device: auto, cpu or cuda.
        out: a .json file for everything; None for none.
        force: overwrite it.
        pilot_seconds: how long to measure, about.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        The plan.

    Raises:
        ScorefieldError: unusable data, unknown names, `out` in use; nothing has been written then.
    """
    where, target = pick_device(device), _target(out, force)
    shaped = [] if size is None else [f"data.size={size if isinstance(size, int) else ','.join(map(str, size))}"]
    shaped += [] if fit is None else [f"data.fit={fit}"]
    settings = (*shaped, *_settings(settings))
    if not (isinstance(pilot_seconds, int | float) and 0 < pilot_seconds < math.inf):
        raise ScorefieldError(f"got pilot_seconds {pilot_seconds!r}, expected a positive number of seconds: give it some")
    chosen = registry.find("recipe", recipe or "auto")
    progress(0.0, "opening the data")
    if isinstance(source, Dataset):
        name, data = source.name, source
    else:
        named = os.fspath(source) if isinstance(source, os.PathLike) else source
        name, data = _source_of(named), open_data(named, data_config(settings))
    findings = examine(data, portion(progress, 0.1, 0.3))
    progress(0.4, "choosing noise levels")
    stats = measure(data)
    made = chosen(stats)
    budget = _budget(steps, seconds, settings)
    config = override(replace(made.config, source=name), [*budget, *settings], measured=measured(stats))
    config, reasons = _without_noise(config, settings, stats.std)
    check_noise_label(config.parametrisation.noise_label, config.process)
    why = made.why + by_hand(settings) + reasons
    refuse_large_network(config, data.shape, classes_of(config, data.classes), where)
    model = build_model(config, data.shape, stats.std, stats.mean, classes=classes_of(config, data.classes))
    parameters = sum(p.numel() for p in model.parameters())
    ladder = ladder_of(model, config.ladder or config.sampler.ladder, config.levels)
    spatial = data.kind in ("image", "signal") and not isinstance(config.parametrisation, Energy)  # an energy is one number
    seen = reach(model.network, data.shape) if spatial else ()
    tried = pilot(config, data, model, where, seconds=pilot_seconds, progress=portion(progress, 0.45, 0.55))
    training, each = config.training, tried.chosen.seconds
    count = min(int(training.seconds / each) if training.seconds else training.steps or 0, training.steps or 2**62)
    easy = Gaussian([0.0], [[1.0]], config.process)  # the sampler itself knows best how often it asks a field
    for snapshot in simulate(easy, config.sampler, ladder, rng=SampleRng([0])):
        if snapshot.step >= COUNTED:  # and as many in each of the steps to come
            break
    evaluations = round(snapshot.evaluations * snapshot.steps / max(snapshot.step, 1))
    done = DataPlan(
        data=data,
        findings=findings,
        config=config,
        why=why,
        std=stats.std,
        sigmas=tuple(config.process.sigma(ladder).tolist()),
        parameters=parameters,
        reach=seen,
        pilot=tried,
        seconds=training.seconds,
        steps=count,
        images=count * training.batch,
        sampling_seconds=tried.evaluation * evaluations,
        evaluations=evaluations,
        expectations=(),
    )
    done = replace(done, expectations=tuple(_expectations(done)))
    if target is not None:
        files.write_json(target, _finite(done.to_dict()))
    return done


def _expectations(plan: DataPlan) -> list[str]:
    """Return what to expect, the gravest first, each with what to do about it."""
    data, found, chosen, memory = plan.data, plan.findings, plan.pilot.chosen, plan.pilot.memory
    n, d, epochs = len(data.train), math.prod(data.shape), plan.epochs
    said = []
    if not memory.fits:
        need, have = memory.total / 2**20, memory.available / 2**20
        half = f"--set training.batch={max(1, chosen.batch // 4)}"
        said.append(f"It will not fit: it needs {need:,.0f} MiB and {have:,.0f} MiB are free; add {half}, or a smaller --size.")
    said += too_few(data) + unvisited_levels(plan.config)
    if found.leaks:
        said.append(
            f"{found.leaks:,} of {len(data.held_out):,} held-out examples are copies of training examples: the held-out loss "
            "will look better than it is; remove them."
        )
    if found.copies > n // 100:
        said.append(
            f"{found.copies / n:.0%} of the training examples repeat another one: they weigh double; remove them unless "
            "they are meant."
        )
    side, begun = max(data.shape[1:]) if data.kind == "image" else 0, round(BEGUN * min(1, d / 784))
    wait = begun / chosen.images_per_second
    if side > LARGE and wait > 3600 and plan.pilot.device.startswith("cpu"):
        said.append(
            f"{data.shape[1]} x {data.shape[2]} pixels are many for this machine: {duration(wait)} until {begun:,} images are "
            f"seen, about where samples begin to look right; --size {LARGE} costs about 1/{(side / LARGE) ** 2:.0f} of that."
        )
    elif side and plan.images < begun:
        said.append(
            f"{plan.images:,} images seen are few: expect rough shapes. --time {_flag(wait)} would show it {begun:,}, about "
            "where samples begin to look right" + (f"; --size {side // 2} would need a quarter." if side >= LARGE else ".")
        )
    few = f"{n:,} examples of {d:,} dimensions are few"
    if n < HANDFUL:
        said.append(f"{few}: it will memorise them, and samples will be copies; several thousand are needed.")
    elif n < FEW and epochs > OFTEN:
        remedy = "add examples, or --flip" if data.kind == "image" else "add examples"
        said.append(
            f"{few} for {epochs:,.0f} passes: it will memorise some of them; {remedy}, or stop when the held-out loss rises."
        )
    elif epochs < 1:
        said.append(f"There is time for {epochs:.0%} of the examples, once: more time helps, more data do not.")
    else:
        said.append(f"Each example is seen {epochs:,.1f} times; the held-out loss will tell if that is too often.")
    said.append(
        f"A new example lies {found.nearest_held_out:.3g} a coordinate from the nearest training example (these from each "
        f"other: {found.nearest_training:.3g}): samples that lie much nearer are copies."
    )
    if plan.sampling_seconds > PATIENCE:
        quick = duration(plan.pilot.evaluation * QUICK * 2)
        said.append(
            f"64 samples take {duration(plan.sampling_seconds)} with the run's own sampler; --sampler heun --steps {QUICK} "
            f"takes about {quick}."
        )
    if better := plan.pilot.better_batch:
        gain = better.images_per_second / chosen.images_per_second - 1
        said.append(f"--set training.batch={better.batch} would see {gain:.0%} more examples a second.")
    if plan.pilot.loading > SLOW:
        said.append(
            f"{plan.pilot.loading:.0%} of a step is spent on loading examples: keep them on a faster disk, or in memory."
        )
    return said


def duration(seconds: float) -> str:
    """Write a duration in the one or two units that matter.

    >>> duration(0.42), duration(42.0), duration(480.0), duration(75.0), duration(5400.0)
    ('0.4 s', '42 s', '8 min', '1 min 15 s', '1 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= 36000:
        return f"{whole / 3600:,.0f} h"
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest if minutes < 10 else 0, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _flag(seconds: float) -> str:
    """Write a duration as --time takes it, rounded up."""
    return f"{math.ceil(seconds / 60)}m" if seconds < 7200 else f"{math.ceil(seconds / 3600)}h"


def _target(out: str | Path | None, force: bool) -> Path | None:
    """Return where the JSON goes, or refuse before the work."""
    if out is None:
        return None
    if not isinstance(out, str | os.PathLike):
        raise ScorefieldError(f"got --json {out!r}, expected the name of a file: write one")
    path = Path(out).expanduser()
    files.refuse_existing(path, force, option="--json")
    if not path.absolute().parent.is_dir():
        raise ScorefieldError(f"got --json {path}, expected a file in a folder that exists: make it first")
    return path


def _finite(value: Any) -> Any:
    """Return JSON values with None for what is no number, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
