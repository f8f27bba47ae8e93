"""What several files of tests share: cases in a loop, numbers, fields with a known fault, the command and its folders."""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefield import Gaussian, Process
from scorefield.cli import main
from scorefield.prediction import Prediction

# --- cases ------------------------------------------------------------------------------------------------------------


def each_case(**axes: Mapping[str, Any] | Iterable[Any]) -> Callable[[Any], Any]:
    """Call one test for every combination of the axes' values: for cheap checks of which thousands need no line of their own.

    Axes are values, or values by their names; `a__b` is the axis of pairs (a, b). All cases are tried; the first failure is
    raised and names all that failed. Every case finds torch's generator, and `tmp_path`, as a test does.
    """
    named: dict[str, Mapping[str, Any]] = {}
    for axis, values in axes.items():
        values = values if isinstance(values, Mapping) else list(values)
        named[axis] = values if isinstance(values, Mapping) else {repr(value): value for value in values}
        assert len(named[axis]) == len(values), f"two values of {axis} have one name: name them"

    def arguments(axis: str, value: Any) -> dict[str, Any]:
        return dict(zip(axis.split("__"), value, strict=True)) if "__" in axis else {axis: value}

    def decorate(test: Any) -> Any:
        signature, taken = inspect.signature(test), {name for axis in named for name in axis.split("__")}
        left = [parameter for name, parameter in signature.parameters.items() if name not in taken]

        @functools.wraps(test)
        def looped(**given: Any) -> None:
            failures: dict[str, BaseException] = {}
            folder = given.get("tmp_path")
            for number, names in enumerate(itertools.product(*named.values())):
                if folder is not None:
                    given["tmp_path"] = folder / str(number)
                    given["tmp_path"].mkdir()
                torch.default_generator.manual_seed(0)
                try:
                    chosen = (arguments(axis, named[axis][name]) for axis, name in zip(named, names, strict=True))
                    test(**given, **{name: value for values in chosen for name, value in values.items()})
                except (Exception, pytest.fail.Exception) as failure:
                    failures[", ".join(f"{axis} = {name}" for axis, name in zip(named, names, strict=True))] = failure
            for first in failures.values():
                first.add_note(f"{len(failures)} cases failed, of which this is the first: " + "; ".join(failures))
                raise first

        looped.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return looped

    return decorate


# --- numbers ----------------------------------------------------------------------------------------------------------


def double(numbers: Any) -> Tensor:
    """A tensor in double precision of a number, a list, a list of lists."""
    return torch.tensor(numbers, dtype=torch.float64)


def doubles(*numbers: Any) -> Tensor:
    """A row in double precision."""
    return double(numbers)


def between(process: Process, share: float) -> float:
    """The time at a share of a process's range."""
    return process.t_min + share * (process.t_max - process.t_min)


def standard_error(*samples: Tensor) -> float:
    """Of the sum or the difference of the means of independent samples."""
    return math.sqrt(sum(float(sample.detach().var()) / len(sample) for sample in samples))


def within_five(a: Tensor, b: Tensor | float = 0.0) -> bool:
    """The means of two independent samples, or a mean and a number, agree within 5 standard errors."""
    if not isinstance(b, Tensor):
        return abs(float(a.detach().mean()) - b) < 5 * standard_error(a)
    return abs(float(a.detach().mean() - b.detach().mean())) < 5 * standard_error(a, b)


# --- fields and networks ----------------------------------------------------------------------------------------------


class OfScore:
    """A field whose score is a function of (x, t), on the process and the data of another; it remembers its questions."""

    def __init__(self, like: Any, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.process, self.shape, self.data_mean, self.data_std = like.process, like.shape, like.data_mean, like.data_std
        self.score, self.asked = score, list[tuple[Tensor, Tensor]]()

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        self.asked.append((x, t))
        return Prediction.of_score(self.process, x, t, self.score(x, t))


class Remembers:
    """A field that remembers what it was asked and what it said, so that a test can undo the noising."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.process, self.shape, self.data_mean, self.data_std = inner.process, inner.shape, inner.data_mean, inner.data_std

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        self.x, self.t, self.said = x, t, self.inner(x, t)
        return self.said


class Learner(nn.Module):
    """An exact field that can carry what an objective learns besides."""

    def __init__(self, true: Gaussian) -> None:
        super().__init__()
        self.true = true
        self.process, self.shape, self.data_mean, self.data_std = true.process, true.shape, true.data_mean, true.data_std

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        return self.true(x, t)


def shaken(network: nn.Module, seed: int = 0, by: float = 0.1) -> nn.Module:
    """The network in float64 with every weight moved at random, so that no zero hides a path."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for weight in network.parameters():
            weight += by * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return network.eval()


# --- the command and its folders --------------------------------------------------------------------------------------


def command(*words: object) -> int:
    """Run the command in this process; return its exit code."""
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def few_measured(patch: pytest.MonkeyPatch) -> None:
    """Let an evaluation measure on little what takes most of its time: likelihood, floors, classifiers have their own tests."""
    for limit, few in (("LIKELIHOODS", 2), ("GAPS", 8), ("EXAMPLES", 16), ("LEVELS", 3)):
        patch.setattr(f"scorefield.evaluation.parts.{limit}", few)
    patch.setattr("scorefield.evaluation.reference.FLOORS", 1)
    patch.setattr("scorefield.metrics.classifier.TREES", 4)
    patch.setattr("scorefield.metrics.classifier.CENTRES", 20)


def small_evaluations(patch: pytest.MonkeyPatch) -> None:
    """Let an evaluation also take one width of noise for separate values, instead of the best of four."""
    from scorefield.evaluation import subject

    few_measured(patch)
    patch.setattr(subject.Subject, "width", lambda one, *_: 8 * subject._lowest(one.field.process))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
