"""From a run to samples: device, sampler, ladder, seeds and classes; and a picture of what was drawn.

A `SampleSpec` says how samples are wanted. A `Drawing` is a run with the sampler and the ladder that a spec asks for. It draws
sample i the same for every number of samples, every batch, and every number of processes that draw together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from typing import Any

import torch
from PIL.Image import Image
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import files, pictures, registry, renamed
from scorefield.config import to_dict
from scorefield.data import Dataset
from scorefield.data.planes import PICTURED, planes
from scorefield.data.table.coordinates import decode
from scorefield.devices import CPU
from scorefield.distribution import World
from scorefield.drawn_field import as_drawn
from scorefield.drawn_field import field_of as field_of
from scorefield.errors import ScorefieldError, unknown
from scorefield.field import Field
from scorefield.generator import SAMPLER, few_levels
from scorefield.levels import ladder_of
from scorefield.progress import Viewer, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run
from scorefield.samplers import Sampler, Snapshot, simulate
from scorefield.samplers.optimal import optimised
from scorefield.specs import SampleSpec as SampleSpec

VOXELS = 2**24  # of volumes at a time, of which a network holds dozens of channels in memory
OPTIMISED = "optimised"  # a ladder that is made for a field, not for a process alone: the registry cannot hold it


def picture_of(data: Dataset, raw: Tensor) -> Image:
    """Return samples in the data's own units as a picture.

    Images and volumes are a grid (`planes`), signals are lines, a table is a histogram of each column, and of vectors two
    columns are plotted.

    Args:
        data: what they are of.
        raw: the samples, `(n, *shape)`.
    """
    if data.kind in PICTURED:
        return pictures.grid(planes(raw, data))
    if data.kind == "signal":
        return pictures.lines(raw.cpu())
    if data.columns:
        return pictures.histograms(decode(raw.cpu(), data.columns))
    return pictures.scatter(raw.flatten(1).cpu())


@dataclass(frozen=True)
class Tuned:
    """How a run is sampled by default, as `scorefield tune` wrote it into the run's `sampling.json`.

    It is a file of its own because `config.json` says how the run was made, and a resumed training compares it.

    Attributes:
        sampler, steps, ladder: as in `SampleSpec`; naming them gives the same samples.
        times: their ladder; an optimised one need not be made again.
        evaluations: of the network for one sample.
        model_sha256: of the weights it was measured on. For other weights it is not used.
        why: what was measured, in a sentence.
    """

    sampler: str
    steps: int
    ladder: str | None
    times: tuple[float, ...]
    evaluations: int
    model_sha256: str
    why: str


def tuned_of(run: Run) -> tuple[Tuned | None, bool]:
    """Return what `scorefield tune` chose for a run, if it did, and whether the run's weights are still those it measured."""
    path = run.path / "sampling.json"
    if not path.exists():
        return None, False
    try:
        tuned = Tuned(**renamed.results(files.read_json(path)))
    except (ScorefieldError, ValidationError, TypeError):
        raise ScorefieldError(
            f"got a damaged {path}, expected what scorefield tune writes: tune again, or tune with --forget"
        ) from None
    return tuned, tuned.model_sha256 == run.manifest.get("model_sha256")


def choose_sampler(run: Run, spec: SampleSpec, device: torch.device = CPU) -> tuple[Sampler, Tensor]:
    """Return the sampler that a spec asks for, and its ladder, which is made for the field and the class that will be drawn.

    Raises:
        ScorefieldError: an unknown sampler or ladder (with a did-you-mean), no steps, a damaged `sampling.json`.
    """
    name, steps, ladder, times = spec.sampler, spec.steps, spec.ladder, tuple[float, ...]()
    if run.evaluations is not None and name is None:
        return generated(run, steps, ladder)
    if (name, steps, ladder) == (None, None, None):
        tuned, holds = tuned_of(run)
        if tuned is not None and holds:
            name, steps, ladder = tuned.sampler, tuned.steps, tuned.ladder
            same = as_drawn(run, spec) == replace(as_drawn(run), seed=spec.seed)
            times = tuned.times if same else ()  # one made for a field suits no other
    name, ladder = name and renamed.component("sampler", name)[1], ladder and renamed.component("ladder", ladder)[1]
    own = run.config.sampler
    sampler: Sampler = own if name in (None, registry.name_of("sampler", own)) else registry.find("sampler", str(name))()
    levels = run.config.levels if sampler is own else sampler.levels
    ladder = ladder or (run.config.ladder if sampler is own else None)
    if steps is not None:
        if steps < 1:
            raise ScorefieldError(f"got --steps {steps}, expected at least 1: ask for more")
        sampler, levels = sampler.within(steps)
    field, kinds = field_of(run, device, as_drawn(run, spec)), [*registry.names("ladder"), OPTIMISED]
    if ladder not in (None, *kinds):
        raise unknown("ladder", str(ladder), kinds)
    if times:
        return sampler, torch.tensor(times, dtype=torch.float64)
    if ladder != OPTIMISED:
        return sampler, ladder_of(field, ladder or sampler.ladder, levels)
    # At most 2^20 numbers a level, and at least 8 samples; a stream of its own, so that the seed of a set changes no ladder.
    pilots = max(8, min(128, 2**20 // math.prod(field.shape)))
    labels = labels_of(run, range(pilots), seed=stream_of("ladder"), label=spec.label)
    rng = SampleRng(range(pilots), stream=stream_of("ladder"), device=device)
    return sampler, optimised(field, levels, rng=rng, cond=None if labels is None else labels.to(device))


def generated(run: Run, steps: int | None, ladder: str | None) -> tuple[Sampler, Tensor]:
    """Return the sampler and the levels of a distilled run's generator; `ScorefieldError` where others are asked for."""
    own = run.evaluations or 0
    if ladder is not None or steps not in (None, own):
        raise ScorefieldError(
            f"got {f'--steps {steps}' if ladder is None else f'--ladder {ladder}'} for {run.path}, whose generator knows its "
            f"own {own} alone, expected none: leave it out, or name a sampler, such as --sampler abm, that asks the run's score"
        )
    return SAMPLER, few_levels(run.config.process, own, float(run.manifest["data"]["std"]))


def stale_tuning(run: Run, spec: SampleSpec) -> str | None:
    """Return, in a sentence, that what `tune` chose was not used because it was measured on other weights; else None."""
    tuned, holds = tuned_of(run)
    asked = (spec.sampler, spec.steps, spec.ladder) != (None, None, None) or run.evaluations is not None
    if asked or tuned is None or holds:
        return None
    return "it was tuned for other weights than it has now, so its recipe's own sampler drew: scorefield tune again"


def sampling_id(sampler: Sampler, ladder: Tensor, name: str | None = None) -> str:
    """Return a hash of a sampler's settings, its name among them, and of its levels to six digits."""
    settings = to_dict(sampler, "sampler")
    settings["name"] = name or settings["name"]
    return files.digest(json.dumps([settings, [f"{t:.6g}" for t in ladder.tolist()]]).encode())[:16]


class NotWritten(OSError):
    """A report that is complete could not be written.

    Attributes:
        report: the report.
    """

    def __init__(self, report: Any, error: OSError) -> None:
        """Keep the report, and the error of the system."""
        super().__init__(str(error))
        self.report = report


def trained(run: Run) -> Run:
    """Return a run whose field will be used; raises `ScorefieldError` for one that was not trained for a single step."""
    if run.manifest["progress"]["step"] < 1 and not run.is_imported:
        raise ScorefieldError(
            f"got {run.path}, a run of 0 steps, which has learned nothing yet, expected a trained one: give scorefield train "
            "more time, with --resume"
        )
    return run


def class_of(run: Run, label: str | int) -> int:
    """Return the number of a class by its name; a whole number stands for the name with these digits.

    Raises:
        ScorefieldError: a class that the run does not have (with a did-you-mean), or of which training saw no example.
    """
    name = str(label)
    if not run.classes:
        raise ScorefieldError(
            f"got --label {name!r} for {run.path}, which was trained without classes, expected none: leave it out, or train on "
            "labelled data with training.labels above 0"
        )
    if name not in run.classes:
        raise unknown("class", name, run.classes)
    number, counts = run.classes.index(name), run.manifest["data"]["class_counts"]
    if counts[number] < 1:
        seen = ", ".join(one for one, count in zip(run.classes, counts, strict=True) if count)
        raise ScorefieldError(
            f"got --label {name!r}, of which {run.path} had no training example, expected one of {seen}: choose one, or "
            "train on data with more of it"
        )
    return number


def labels_of(run: Run, samples: range, *, seed: int = 0, label: str | int | None = None) -> Tensor | None:
    """Return the class of each sample: `label`, or classes drawn as often as in the training data; None without classes.

    To draw a class from p(class), and x from p(x | class), is to draw x from p(x), and better than without a condition.
    """
    if label is not None:
        return torch.full((len(samples),), class_of(run, label))
    if not run.classes:
        return None
    counts = torch.tensor(run.manifest["data"]["class_counts"])
    return SampleRng(samples, stream=stream_of("label", seed)).choose(counts)


def conditions_of(run: Run, data: Dataset, labels: Tensor | None) -> Tensor | None:
    """Return the run's own numbers of the classes of examples, on which its network is conditioned; None without classes.

    Args:
        run: an opened run.
        data: where the examples are from: the run's data, or others, whose classes are matched by name.
        labels: of the examples, numbers in `data.classes`, or None.

    Raises:
        ScorefieldError: a class that the run does not have; no labels for a network that was given the class of every example.
    """
    if not run.classes:
        return None
    if labels is None:
        if run.config.training.labels < 1:
            return None
        raise ScorefieldError(
            f"got examples of {data.name!r} without classes for {run.path}, whose network was given the class of every example "
            "(training.labels=1), expected labelled data: label them, or train with training.labels=0.9"
        )
    numbers = [class_of(run, name) if name in run.classes else -1 for name in data.classes]
    classes = torch.tensor(numbers)[labels]
    if bool((classes < 0).any()):
        raise unknown("class", data.classes[int(labels[classes < 0][0])], run.classes)
    return classes


@plain_dataclass(frozen=True)
class Batch:
    """What a `Viewer` of a drawing is shown after every step.

    Attributes:
        first: number of the first sample of the batch in the set.
        snapshot: what the sampling loop shows.
    """

    first: int
    snapshot: Snapshot


@plain_dataclass(frozen=True, eq=False)
class Drawing:
    """How samples are drawn from a run: sample i is the same for every number of samples and every batch.

    Attributes:
        run: an opened run.
        sampler, ladder: what draws, and the times it visits.
        spec: gives the temperature, the class, the guidance and the seed.
        device: where to compute.
        world: the processes that draw together.
    """

    run: Run
    sampler: Sampler
    ladder: Tensor
    spec: SampleSpec = field(default_factory=SampleSpec)
    device: torch.device = CPU
    world: World = field(default_factory=World)

    @classmethod
    def of(cls, run: Run, spec: SampleSpec, device: torch.device = CPU) -> Drawing:
        """Return the drawing that a spec asks for; raises `ScorefieldError` as `choose_sampler` does."""
        return cls(run, *choose_sampler(run, spec, device), as_drawn(run, spec), device)

    @classmethod
    def divided(cls, run: Run, spec: SampleSpec, world: World) -> Drawing:
        """Return the drawing that a spec asks for, divided over processes; raises `ScorefieldError` in all of them alike."""
        own = world.agreed(lambda: cls.of(run, spec, world.device))
        times = world.broadcast(own.ladder.tolist())  # an optimised ladder is measured, and measurements differ by rounding
        ladder = torch.tensor(times, dtype=own.ladder.dtype, device=own.ladder.device)
        return replace(own, ladder=ladder, world=world)

    @property
    def field(self) -> Field:
        """The field that is drawn from."""
        return field_of(self.run, self.device, self.spec)

    @property
    def said(self) -> str:
        """The sampler, in words; whether it is clipped, and the strength of autoguidance if there is some."""
        strength, how = self.spec.autoguidance, f"{self.sampler}{', clipped' if self.spec.clip_denoised == 'yes' else ''}"
        return how if strength in (None, 1) else f"{how}, autoguidance {strength:g}"

    @property
    def about(self) -> dict[str, Any]:
        """What a set of samples says of itself, as plain values: how it was drawn, and from which weights."""
        how = {"seed": self.spec.seed, "sampler": str(self.sampler), "levels": len(self.ladder)}
        how |= {"temperature": self.spec.temperature, "label": self.spec.label, "guidance": self.spec.guidance}
        how |= {"autoguidance": self.spec.autoguidance, "guidance_interval": self.spec.guidance_interval}
        how |= {"clip_denoised": self.spec.clip_denoised}
        return how | {"model_sha256": self.run.manifest.get("model_sha256")}

    def labels(self, samples: range) -> Tensor | None:
        """Return the class of each sample, `(n,)`; None without classes."""
        return labels_of(self.run, samples, seed=self.spec.seed, label=self.spec.label)

    def batches(self, n: int, *, start: int = 0, batch: int = 256, view: Viewer = silent) -> Iterator[Tensor]:
        """Draw n samples in model space, float64, `batch` at a time; of several processes the first yields them all, in order.

        Args:
            n: how many.
            start: number of the first of them in the set.
            batch: how many at a time in a process; of large volumes fewer, which changes no sample.
            view: called in the first process after every step with the share done, words, and a `Batch`.

        Raises:
            ScorefieldError: n or batch below 1, or a run of no steps; at the call, before anything is drawn.
        """
        trained(self.run)
        if n < 1:
            raise ScorefieldError(f"got {n} samples to draw, expected at least 1: ask for more")
        if batch < 1:
            raise ScorefieldError(f"got a batch of {batch}, expected at least 1: ask for more")
        field = self.field
        if self.run.kind == "volume":
            batch = min(batch, max(1, VOXELS // math.prod(self.run.shape)))

        size = self.world.size
        shown = view if self.world.first else silent

        def drawn(rows: range) -> tuple[Tensor]:
            numbers = range(start + rows.start, start + rows.stop)
            labels = self.labels(numbers)
            rng = SampleRng(numbers, stream=stream_of("sample", self.spec.seed), device=self.device)
            cond = None if labels is None else labels.to(self.device)
            together = min(size * len(numbers), n - rows.start)  # with what the others draw meanwhile
            for snapshot in simulate(field, self.sampler, self.ladder, rng=rng, cond=cond):
                done = (rows.start + together * snapshot.step / snapshot.steps) / n
                text = f"step {snapshot.step} of {snapshot.steps}, samples {numbers[0]} to {numbers[0] + together - 1}"
                shown(done, text, Batch(numbers[0], snapshot))
            return (snapshot.x,)

        return (x for _, (x,) in self.world.in_order(n, batch, drawn))

    def draw(self, n: int, *, start: int = 0, batch: int = 256, view: Viewer = silent) -> Tensor:
        """Return n samples in model space, `(n, *shape)`, float64; arguments and errors are those of `batches`."""
        return torch.cat(list(self.batches(n, start=start, batch=batch, view=view)))
