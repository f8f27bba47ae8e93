"""Restoration: what a person's file was before it was measured, y = H(x0) + noise, as draws of p(x0 | y) under a run.

    files       value                     what was measured, in its own units
    raw         offset + unit·value       the run's units, in which H acts and the noise is added (`inputs.py`)
    model       (raw - shift)/scale       where the field is (`operators/units.py`)

A file has the size of what H gives. The sample then is of the run's own size, or of a larger one, which tiles cover. Where a
number of a file is unknown it was not measured: H is followed by a mask of what is known. So `mask` alone, without a hole of
its own, needs no more than a file with NaN, or with an opacity of 0.

The residual of right answers is on average what `residuals.py` expects, whatever H and the data are: x0 and a draw of
p(x0 | y) have one distribution given y, so H(draw) lies from y as far as H(x0) does, which is the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefield import files, registry
from scorefield.drawing import field_of, labels_of
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.guidance.noise_level import DRAWS, refined_noise_level
from scorefield.guidance.posterior import Measured, Method, Posterior, Twisted, posterior_sample
from scorefield.guidance.posterior.stein import LEAST, answer_discrepancy
from scorefield.guidance.tiles import Tiled
from scorefield.inputs import Item, check_size, read_items
from scorefield.measurements import extent_of, read_measured, rounding_of, shape_of, target_of
from scorefield.metrics.base import Estimate
from scorefield.metrics.fidelity import psnr, ssim
from scorefield.operators import Identity, Mask, Operator, in_model_space, parse
from scorefield.operators.compose import compose
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.residuals import Fit, fit_of
from scorefield.runs import Run
from scorefield.specs import RestoreSpec

FEW = 64  # measured numbers, up to which the Stein discrepancy costs less than the draws


@dataclass(frozen=True, eq=False)
class Task:
    """One file to restore, checked.

    Attributes:
        item: as it was read.
        target: what an answer is written as.
        shape: of a sample.
        operator: H, of raw numbers.
        y: what was measured, raw, `operator.shape_out(shape)`.
        noise: its standard deviation in the units of the file, or the least that it can be.
        estimated: whether it is estimated from the file, with `noise` as the least.
        reference: what a sample should be, raw, `shape`; None where that is not known.
    """

    item: Item
    target: Item
    shape: tuple[int, ...]
    operator: Operator
    y: Tensor
    noise: float
    estimated: bool = False
    reference: Tensor | None = None

    @property
    def unit(self) -> float:
        """Raw numbers for one of the file's units; of channels with units of their own their mean."""
        return float(self.item.unit.mean())


@dataclass(frozen=True, eq=False)
class Restored:
    """The answer for one file. Numbers are in the run's units.

    Attributes:
        name: of the file.
        task: what was asked.
        samples: draws of p(x0 | y), `(n, *shape)`.
        noise: standard deviation of the noise that was assumed, in the units of the file.
        posterior: what is known of the draws: evaluations, effective particles.
        fit: how far they lie from what was measured, and how far right ones would.
        extent: the peak of PSNR and SSIM: see `measurements.extent_of`.
        label: the class of the samples, if one was asked for.
        discrepancy: squared kernel Stein discrepancy of the draws from p(x0 | y), and its standard error; None where it is not
            known: of few draws, a nonlinear operator, or many measured numbers, where it costs more than the draws.
    """

    name: str
    task: Task
    samples: Tensor
    noise: float
    posterior: Posterior
    fit: Fit
    extent: float
    label: str | int | None = None
    discrepancy: Estimate | None = None

    @property
    def mean(self) -> Tensor:
        """Mean of the samples, `shape`."""
        return self.samples.mean(dim=0)

    @property
    def std(self) -> Tensor | None:
        """Standard deviation of the samples, `shape`; None of one sample."""
        return self.samples.std(dim=0) if len(self.samples) > 1 else None

    @property
    def measured(self) -> Tensor | None:
        """What was measured, `(channels, *size)`, NaN where it was not; None of numbers that have no place in a picture."""
        task = self.task
        if task.y.ndim == len(task.shape):
            return task.y
        seen = task.operator(torch.ones(1, *task.shape, dtype=torch.float64))
        if not task.operator.linear or not bool((seen == 1).all()):
            return None
        kept = task.operator.adjoint(seen, task.shape)[0]
        whole = bool(((kept == 0) | (kept == 1)).all()) and int(kept.sum()) == task.y.numel()
        return torch.where(kept == 1, task.operator.adjoint(task.y[None], task.shape)[0], torch.nan) if whole else None

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as values of JSON."""
        found, effective = self.posterior, self.posterior.effective
        values: dict[str, Any] = {
            "name": self.name,
            "shape": list(self.task.shape),
            "operator": str(self.task.operator),
            "label": self.label,
            "noise": self.noise,
            "noise_estimated": self.task.estimated,
            "samples": len(self.samples),
            "method": found.method,
            "evaluations": found.evaluations,
            "particles": found.particles,
            "effective": None if bool(effective.isnan().any()) else float(effective.mean()),
            "residual": self.fit.residual,
            "residual_expected": self.fit.expected,
            "ksd": None if self.discrepancy is None else [self.discrepancy.value, self.discrepancy.standard_error],
        }
        if self.task.reference is not None and len(self.task.shape) > 1:
            pair = self.mean[None], self.task.reference[None], self.extent
            values |= {"psnr": float(psnr(*pair)), "ssim": float(ssim(*pair))}
        return values


def method_of(name: str) -> Method:
    """Return a method by its name; raises `ScorefieldError` for an unknown one.

    auto is the twisted filter, one for each sample: a file has few samples of many numbers, and in one filter for all of them
    one particle is the ancestor of every sample.
    """
    method: Method = Twisted(particles=4, together=False, levels=80) if name == "auto" else registry.find("posterior", name)()
    return method


def operator_of(operator: Any, seed: int) -> Operator:
    """Return an operator, or the one that a text describes; `mask` without a file leaves it to the unknown numbers."""
    if isinstance(operator, Operator):
        return operator
    if not isinstance(operator, str):
        raise ScorefieldError(
            f"got {operator!r} for an operator, expected one, or a text such as 'blur:2': see scorefield list operator"
        )
    return Identity() if operator.strip() == "mask" else parse(operator, seed=seed)


def tasks_of(run: Run, source: Any, operator: Any, spec: RestoreSpec, reference: Any = None) -> list[Task]:
    """Return what is asked, one task a file, all of them checked before any work.

    Args:
        run: an opened run.
        source: what was measured, or with `spec.simulate` what is to be measured: as `read_items` takes it.
        operator: H, or its text.
        spec: how it is restored.
        reference: files of what the samples should be, by the names of those of the source, or one for one; None for none.

    Raises:
        ScorefieldError: what `read_items` and the operator refuse, a size that does not fit, a negative noise, a hole that was
            asked for and is not there, or references that do not fit.
    """
    check_run(run)
    check_spec(run, spec)
    made = operator_of(operator, spec.seed)
    items = read_items(run, source) if spec.simulate else read_measured(run, source, made)
    references = references_of(run, reference, items) if reference is not None else {}
    tasks = [_task(run, item, made, spec, references.get(item.name)) for item in items]
    if isinstance(operator, str) and operator.strip() == "mask":
        for task in tasks:
            if task.operator is made:
                raise ScorefieldError(
                    f"got {task.item.name!r} without an unknown number for --operator mask, expected NaN, or an opacity of 0, "
                    "in the hole: make it so, or name a picture that is white there, as mask:hole.png"
                )
    return tasks


def check_spec(run: Run, spec: RestoreSpec) -> None:
    """Refuse what a run cannot do, and numbers out of range."""
    _stated(spec)
    if spec.samples < 1:
        raise ScorefieldError(f"got --samples {spec.samples}, expected at least 1: ask for more")
    conditions(run, spec.label, spec.samples)
    method_of(spec.method)


def _stated(spec: RestoreSpec) -> float | None:
    """Return the noise that is stated; None where it is left to the file. Raises `ScorefieldError` for what is no noise."""
    text = str(spec.noise).strip()
    if spec.noise is None or text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ScorefieldError(
            f"got --noise {text}, expected auto, or a standard deviation >= 0 in the units of the file (of an 8-bit image 0 to "
            "255): correct it"
        )
    return value


def check_run(run: Run) -> None:
    """Refuse a run on data with unknown cells, whose samples have some, too."""
    if run.normaliser.holes is not None:
        raise ScorefieldError(
            f"got {run.path}, a run on data with unknown cells (NaN), expected one on whole data: train on those without"
        )


def conditions(run: Run, label: str | int | None, n: int) -> Tensor | None:
    """Return the class of each of n samples: that of a label, or None, where the field is that of all classes.

    Raises:
        ScorefieldError: a class that the run does not know, or none for a network that needs one.
    """
    if label is None and run.classes and run.config.training.labels >= 1:
        raise ScorefieldError(
            f"got no --label for {run.path}, whose network was given the class of every example (training.labels=1), expected "
            "the class of what was measured: add --label, or train with training.labels=0.9"
        )
    return None if label is None else labels_of(run, range(n), label=label)


def field_for(run: Run, shape: tuple[int, ...], device: torch.device) -> Field:
    """Return the field of samples of a shape: the run's own, or tiles of it for larger ones."""
    field = field_of(run, device)
    return field if shape == run.shape else Tiled(field, shape)


def references_of(run: Run, reference: Any, items: Sequence[Item]) -> dict[str, Tensor]:
    """Return references by the names of items, or one for one; raises `ScorefieldError` for an item without one."""
    found = read_items(run, reference)
    if len(found) == len(items) == 1:
        return {items[0].name: found[0].raw}
    named = {item.name: item.raw for item in found}
    for item in items:
        if item.name not in named:
            raise ScorefieldError(
                f"got no reference for {item.name!r} among the {len(found)} of --reference, expected a file of this name for "
                "each of the source: add it, or leave --reference out"
            )
    return named


def _task(run: Run, item: Item, operator: Operator, spec: RestoreSpec, reference: Tensor | None) -> Task:
    shape = tuple(item.raw.shape) if spec.simulate else shape_of(run, operator, item)
    check_tiles(run, shape, item.name)
    if reference is not None:
        check_size(replace(item, name=f"reference of {item.name}", raw=reference), shape, "the size of a sample")
    if spec.simulate:
        if not bool(item.known.all()):
            raise ScorefieldError(f"got unknown numbers in {item.name!r} for --simulate, expected an intact file: fill them")
        reference = item.raw
        y = operator(reference[None])[0]
    else:
        y = operator.measurement_of(item.raw, shape)
    known = ~y.isnan()
    if not bool(known.any()):
        raise ScorefieldError(f"got {item.name!r} with nothing that is measured and known, expected some numbers: check it")
    if not bool(known.all()):
        operator, y = compose(operator, Mask(known)), y[known]
    stated = _stated(spec)
    noise = rounding_of(run, item) if stated is None else stated
    estimated = stated is None and not spec.simulate and shape == run.shape and operator.linear
    if spec.noise is not None and stated is None and not estimated:
        raise ScorefieldError(
            f"got --noise auto for {item.name!r}, expected a measurement of the run's own size by a linear operator, to "
            "estimate it: give a number"
        )
    task = Task(item, target_of(run, item, shape), shape, operator, y, noise, estimated, reference)
    if spec.simulate and noise:
        rng = SampleRng([0], stream=_stream("simulate", spec, item.raw))
        task = replace(task, y=operator.noisy(item.raw[None], noise * task.unit * rng.normal(tuple(y.shape)))[0])
    return task


def check_tiles(run: Run, shape: tuple[int, ...], name: str) -> None:
    """Refuse a sample that is smaller than the run's in some axis, or larger where tiles cannot cover it."""
    if shape == run.shape:
        return
    if len(shape) != len(run.shape) or len(shape) < 2 or any(a < b for a, b in zip(shape, run.shape, strict=True)):
        got, wanted = ("x".join(map(str, size)) for size in (shape, run.shape))
        raise ScorefieldError(
            f"got {name!r}, which is or belongs to a sample of {got}, expected {wanted} or larger, as {run.path.name} was "
            "trained on: enlarge it, or train on smaller ones"
        )


def _stream(what: str, spec: RestoreSpec, values: Tensor) -> int:
    """Return the stream of a file's noise: its own, whatever it is called and whatever else is restored."""
    return stream_of(what, spec.seed, files.digest(values.numpy().tobytes()))


def restore_one(run: Run, task: Task, spec: RestoreSpec, device: torch.device, progress: Progress = silent) -> Restored:
    """Draw the answers for one file.

    Args:
        run: an opened run.
        task: of `tasks_of`.
        spec: how many, by which method, of which class, by which seed. The same file has the same answer among any others.
        device: where to compute.
        progress: called after every level.

    Raises:
        ScorefieldError: an operator that does not suit the method.
        NotFinite: a field that gives NaN.
    """
    field = field_for(run, task.shape, device)
    scales, shifts = run.normaliser.scales(task.shape), run.normaliser.shifts(task.shape)
    operator, y = in_model_space(task.operator, task.y, scales, shifts)
    y, noise, stages = y.to(device), task.noise, Stages(progress, noise=1.0 if task.estimated else 0.01, samples=6.0)

    def seeds_of(what: str, n: int) -> dict[str, Any]:
        """Return the random numbers and the class of n draws."""
        cond = conditions(run, spec.label, n)
        rng = SampleRng(range(n), stream=_stream(what, spec, task.y), device=device)
        return {"rng": rng, "cond": None if cond is None else cond.to(device)}

    if task.estimated:
        estimate = refined_noise_level(
            field, operator, y, least=noise * task.unit, progress=stages("noise"), **seeds_of("noise", DRAWS)
        )
        noise = estimate / task.unit
    seeds = seeds_of("restore", spec.samples)
    found = posterior_sample(
        field, operator, y, noise * task.unit, method=method_of(spec.method), progress=stages("samples"), **seeds
    )
    extent, discrepancy = extent_of(run, run.shape, task.reference), None
    if operator.linear and noise > 0 and y.numel() <= FEW and len(found.x) >= LEAST:
        measured = Measured(operator, y, noise * task.unit)
        discrepancy = answer_discrepancy(field, measured, found.x, seeds["cond"])
    x, ends = found.x.cpu(), (run.normaliser.low, run.normaliser.high)
    fit = fit_of(task.operator, shifts + scales * x, task.y, noise * task.unit, None if None in ends else ends)  # type: ignore[arg-type]
    return Restored(task.item.name, task, run.decode(x), noise, found, fit, extent, spec.label, discrepancy)
