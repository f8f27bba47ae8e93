"""Names that 0.6 and 0.7 renamed: each still works until 0.8, and warns once.

Components by their registered name, settings of a run by their key, classes and functions by their import, modules by their
path, arguments by their keyword, and flags of the command. What an old run's folder says is read without a word.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Report = TypeVar("Report")

KINDS = {"density": "noise_distribution"}
COMPONENTS = {  # (kind, old name) -> new name
    ("sampler", "adams"): "abm",
    ("sampler", "stochastic-adams"): "stochastic-abm",
    ("ladder", "cauchy"): "log-cauchy",
    ("process", "karras"): "linear-ve",
    ("process", "flow"): "rectified-flow",
    ("process", "still"): "noiseless",
}
KEYS = {  # (kind of the component, or "" for the run; old key) -> new key
    ("", "rungs"): "ladder",
    ("objective", "density"): "noise_distribution",
    ("parametrisation", "label"): "noise_label",
}
CLASSES = {
    "Noise": "SampleRng",
    "Karras": "LinearVE",
    "Flow": "RectifiedFlow",
    "Still": "Noiseless",
    "cauchy": "log_cauchy",
    "Density": "NoiseDistribution",
    "Adams": "ABM",
    "StochasticAdams": "StochasticABM",
    "Moment": "Snapshot",
    "Rung": "Step",
    "Counted": "CountedField",
    "Affine": "Normaliser",
    "Facts": "DataStats",
    "plain": "to_dict",
    "of_plain": "from_dict",
}
MODULES = {
    "app.common": "drawing",
    "app.stages": "progress",
    "app.quality": "app.evaluate",
    "app.tuning": "app.tune",
    "app.training": "app.train",
    "app.planning": "app.plan",
    "app.sampling": "app.sample",
    "app.inspection": "app.inspect",
    "app.verification": "app.verify",
    "data.affine": "data.normaliser",
    "data.toy": "data.builtin.toys",
    "data.natures": "data.table.granularity",
    "data.archives": "data.files.archives",
    "data.columns": "data.table.columns",
    "data.coordinates": "data.table.coordinates",
    "data.decode": "data.image.decode",
    "data.delimited": "data.text.delimited",
    "data.frames": "data.table.frames",
    "data.granularity": "data.table.granularity",
    "data.images": "data.image.images",
    "data.npz": "data.files.npz",
    "data.series": "data.table.series",
    "data.shards": "data.image.shards",
    "data.tables": "data.table.tables",
    "data.store": "data.spill",
    "data.rows": "data.views",
    "samplers.stochastic": "samplers.multistep",
    "training.distribution": "distribution",
}
MOVED = {  # (module, old name) -> module and name of now
    ("scorefield.prediction", "label_of"): ("scorefield.noise_label", "noise_label_of"),
    ("scorefield.prediction", "rung_of"): ("scorefield.noise_label", "nearest_level"),
    ("scorefield.prediction", "check_label"): ("scorefield.noise_label", "check_noise_label"),
    ("scorefield.prediction", "unvisited"): ("scorefield.noise_label", "unvisited"),
    ("scorefield.recipes", "measure"): ("scorefield.recipes", "data_stats"),
    ("scorefield.recipes", "measured"): ("scorefield.recipes", "measured_settings"),
    ("scorefield.drawing", "pick_device"): ("scorefield.devices", "pick_device"),
    ("scorefield.training.memory", "keep_freed"): ("scorefield.devices", "keep_freed"),
    ("scorefield.drawing", "told_of"): ("scorefield.drawing", "conditions_of"),
    ("scorefield.drawing", "way_of"): ("scorefield.drawing", "sampling_id"),
    ("scorefield.levels", "thin"): ("scorefield.randomness", "subsample"),
    **{
        ("scorefield.levels", name): ("scorefield.ncsnv2", name)
        for name in (
            "largest_distance",
            "level_ratio",
            "number_of_levels",
            "variance_ratio",
            "step_size",
            "reachable_ratio",
            "closest_variance",
        )
    },
}
PARTS = {"told": "condition"}  # of a layer of a network, in saved weights
ARGUMENTS = {"noise": "rng", "watch": "progress", "rungs": "levels", "known": "observed"}
RESULTS = {"rival": "baseline", "apart": "better_by", "ways": "measurements", "behind": "dropped", "own": "recipe"}
RESULTS["beaten"] = "beaten_by"  # keys of files of results, and attributes of reports
FLAGS = {("likelihood", "--rungs"): "--levels"}


@functools.cache
def _warn(old: str, new: str) -> None:
    message = f"{old} is called {new} now; the old name works until scorefield 0.8"
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "scorefield":
        frame, level = frame.f_back, level + 1  # the line that is to be changed is outside this package
    warnings.warn(message, FutureWarning, stacklevel=level)


def component(kind: str, name: str) -> tuple[str, str]:
    """Return the kind and the name of a component, both as they are called now."""
    kind, old = KINDS.get(kind, kind), name
    if (name := COMPONENTS.get((kind, old), old)) != old:
        _warn(f"the {kind} {old!r}", repr(name))
    return kind, name


def key(kind: str, name: str) -> str:
    """Return the key of a setting as it is called now."""
    if new := KEYS.get((kind, name)):
        _warn(f"the setting {name!r}", repr(new))
    return new or name


def settings(values: Mapping[str, Any], kind: str = "") -> dict[str, Any]:
    """Return the settings of a run, as an older version wrote them, in the names of now."""
    new = dict[str, Any]()
    for old, value in values.items():
        name = KEYS.get((kind, old), old)
        if isinstance(value, Mapping):
            value = settings(value, name)
        elif name in ("name", "ladder") and isinstance(value, str):
            value = COMPONENTS.get((kind or "ladder", value), value)
        new[name] = value
    return new


def results(values: Any) -> Any:
    """Return what a file of results holds, as an older version wrote it, in the names of now."""

    def named(row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        return {RESULTS.get(key, key): COMPONENTS.get((key, it), it) if isinstance(it, str) else it for key, it in row.items()}

    new = named(values)
    for key in {"baseline", "measurements", "dropped"} & (new.keys() if isinstance(new, Mapping) else set()):
        new[key] = [named(row) for row in new[key]] if isinstance(new[key], list) else named(new[key])
    return new


def old_name(kind: str, name: str) -> str:
    """Return the name that a component had before 0.6."""
    return next((old for (of, old), new in COMPONENTS.items() if (of, new) == (kind, name)), name)


def report(cls: type[Report]) -> type[Report]:
    """Let the reports of a class answer to the old names of its attributes."""

    def get(self: object, name: str) -> Any:
        if (new := RESULTS.get(name, "")) not in getattr(cls, "__dataclass_fields__", {}):
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
        _warn(f"{cls.__name__}.{name}", f"{cls.__name__}.{new}")
        return getattr(self, new)

    cls.__getattr__ = get  # type: ignore[attr-defined]
    return cls


def parts(layer: Any, tensors: dict[str, Any], prefix: str, *_: object) -> None:
    """Name the tensors of a layer, as an older version saved them, as they are called now: a hook before they are loaded."""
    for old, new in PARTS.items():
        for name in [name for name in tensors if name.startswith(f"{prefix}{old}.")]:
            tensors[prefix + new + name.removeprefix(prefix + old)] = tensors.pop(name)


def attributes(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose classes or functions were renamed."""

    def get(name: str) -> Any:
        if place := MOVED.get((module, name)):
            _warn(f"{module}.{name}", ".".join(place))
            return getattr(importlib.import_module(place[0]), place[1])
        home, new = sys.modules[module], CLASSES.get(name, "")
        if not new or (new not in vars(home) and new not in getattr(home, "__all__", ())):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{module}.{new}")
        return getattr(home, new)

    return get


def arguments_of(function: str, named: Mapping[str, Any], taken: Container[str]) -> dict[str, Any]:
    """Return the keywords of a call of a function as they are called now; those that it takes stay."""
    new = dict[str, Any]()
    for name, value in named.items():
        if name in ARGUMENTS and name not in taken:
            _warn(f"the argument {name!r} of {function}", repr(ARGUMENTS[name]))
            name = ARGUMENTS[name]
        new[name] = value
    return new


def arguments(function: Function) -> Function:
    """Return a function that takes its arguments by their old keywords, too."""

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        if not ARGUMENTS.keys().isdisjoint(named):
            named = arguments_of(function.__name__, named, ())
        return function(*given, **named)

    return call  # type: ignore[return-value]  # it has the signature of what it wraps


def fields(kind: str, cls: Any) -> Any:
    """Let a component be made with the old names of its settings, too; returns it."""
    old = {old: new for (of, old), new in KEYS.items() if of == kind and new in getattr(cls, "__dataclass_fields__", {})}
    if not old:
        return cls
    make = cls.__init__

    @functools.wraps(make)
    def call(self: object, *given: Any, **named: Any) -> None:
        for name in old.keys() & named.keys():
            named[key(kind, name)] = named.pop(name)
        make(self, *given, **named)

    cls.__init__ = call
    return cls


def flags(given: Sequence[str]) -> list[str]:
    """Return the words of a command with its flags as they are called now."""
    words = list(given)
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if new := FLAGS.get((words[0], flag)):
            _warn(flag, new)
            words[place] = new + equals + value
    return words


class Moved:
    """Loads a module by the path that it had."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the module have what there is in the one of now."""
        new = f"scorefield.{MODULES[module.__name__.removeprefix('scorefield.')]}"
        _warn(module.__name__, new)
        now, old = importlib.import_module(new), attributes(new)
        module.__getattr__ = lambda name: getattr(now, name) if name in vars(now) else old(name)  # type: ignore[method-assign]


def moved(module: str) -> ModuleSpec | None:
    """Return how to load a module by the path that it had; None for one that never was."""
    known = module.removeprefix("scorefield.") in MODULES
    return ModuleSpec(module, Moved()) if known else None  # type: ignore[arg-type]  # it has what a loader needs
