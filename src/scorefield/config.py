"""A run is one nested value: what to learn from, with which process, network, objective and optimiser, for how long.

Every component is a frozen, validated dataclass of plain values, so it is its own configuration. `to_dict` turns a run into
JSON values, where a component is an object with its registered `name` beside its settings; `from_dict` turns it back;
`override` applies `--set dotted.key=value`. The field names `process`, `network`, `noise_distribution`, ... are the registry's
kinds, which is how a name inside a JSON object is looked up.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import field as default
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, ValidationError, model_validator
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield import renamed
from scorefield.data import DataConfig
from scorefield.errors import ScorefieldError, unknown
from scorefield.levels import MOST_LEVELS
from scorefield.nets.base import NetworkConfig
from scorefield.noise_label import check_levels
from scorefield.objectives.base import Objective
from scorefield.prediction import Parametrisation
from scorefield.process import Positive, Process
from scorefield.registry import HOMES, find, in_words, name_of, names
from scorefield.samplers import Sampler

__all__ = [
    "Optimiser",
    "RunConfig",
    "Training",
    "component",
    "data_config",
    "from_dict",
    "named",
    "override",
    "parsed",
    "to_dict",
]

_ANY = ConfigDict(arbitrary_types_allowed=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_ANY)
class Optimiser:
    """AdamW or Muon: learning rate with linear warm-up and a final linear decay, and clipping of the gradient's norm.

    Attributes:
        method: "adamw", or "muon" for the matrices of the network with AdamW for its other parameters.
        lr: peak learning rate, at most 1/100 of which is left at the end.
        betas: decay of AdamW's two moments.
        momentum: of Muon.
        weight_decay: decoupled.
        clip: largest norm of the gradient, 0 for no clipping.
        warmup: steps from 0 to the peak.
        decay: last fraction of the training over which lr falls, in [0, 1].
    """

    method: Literal["adamw", "muon"] = "adamw"
    lr: Positive = 2e-3
    betas: tuple[Annotated[float, Bound(ge=0, lt=1)], Annotated[float, Bound(ge=0, lt=1)]] = (0.9, 0.99)
    momentum: Annotated[float, Bound(ge=0, lt=1)] = 0.95
    weight_decay: Annotated[float, Bound(ge=0)] = 0.0
    clip: Annotated[float, Bound(ge=0)] = 1.0
    warmup: Annotated[int, Bound(ge=0)] = 200
    decay: Annotated[float, Bound(ge=0, le=1)] = 0.4


@dataclass(frozen=True, config=_ANY)
class Training:
    """How long to train, and in which pieces.

    Attributes:
        steps: stop after this many steps, or None. With steps alone the clock decides only when checkpoints are written:
            everything else that a run writes is a function of its config, even after interruptions, to the last bit on one
            machine with one number of threads (OMP_NUM_THREADS sets it; commands use fewer while others need the cores).
        seconds: stop after this many seconds of training, or None; the learning rate's schedule is fitted to whichever ends
            first.
        batch: examples a step, over all processes.
        accumulate: pieces in which a process takes its share of a batch; more pieces need less memory for the same gradient.
        ema: moving averages of the weights; the held-out loss chooses one at the end, and the first is shown during training.
            Each is a relative width in (0, 0.28], the share of the training that it spans, or a decay in [0.5, 1), warmed up
            as (1+n)/(10+n). 0 or [] for none.
        precision: float32, bfloat16 (autocast), float16 (with a scaled loss; only on GPUs), or auto: the one measured fastest
            on this machine where time ends the training, else the best for the kind of device (`training/precision.py`).
        labels: share of the labelled examples whose class is given to the network, so that it learns both p(x | class) and
            p(x); 0 for a network without classes.
        clusters: of data without classes: how many parts take their place, found by k-means (`training/clusters.py`); 0
            for none. The default recipe has some for 10,000 grey images and more.
        given: share of the rows of tables of which some columns are given to the network as they are, so that it learns
            p(other columns | given ones) beside p(x); 0 for a network that is given none.
        pictures: how many times samples are drawn during training.
        checkpoint_seconds: a checkpoint at least this often.
    """

    steps: Annotated[int, Bound(ge=1)] | None = None
    seconds: Positive | None = 180.0
    batch: Annotated[int, Bound(ge=1)] = 128
    accumulate: Annotated[int, Bound(ge=1)] = 1
    ema: Annotated[float, Bound(ge=0, lt=1)] | tuple[Annotated[float, Bound(gt=0, lt=1)], ...] = (0.05, 0.02, 0.12)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    labels: Annotated[float, Bound(ge=0, le=1)] = 0.0
    clusters: Annotated[int, Bound(ge=0, le=10_000)] = 0
    given: Annotated[float, Bound(ge=0, lt=1)] = 0.0
    pictures: Annotated[int, Bound(ge=0)] = 4
    checkpoint_seconds: Positive = 30.0

    @property
    def lengths(self) -> tuple[float, ...]:
        """The moving averages, as a tuple, empty for none."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,) if self.ema > 0 else ()

    @model_validator(mode="after")
    def _check(self) -> Training:
        if self.steps is None and self.seconds is None:
            raise ScorefieldError("got neither steps nor seconds, expected at least one of them: set one")
        for length in self.lengths:
            if 0.28 < length < 0.5 or self.lengths.count(length) > 1:
                raise ScorefieldError(
                    f"got ema {', '.join(map(str, self.lengths))}, expected different numbers, each a relative width in "
                    "(0, 0.28] or a decay in [0.5, 1): correct training.ema"
                )
        if self.accumulate > self.batch:
            raise ScorefieldError(
                f"got accumulate {self.accumulate} for a batch of {self.batch}, expected at least an example in each piece: "
                "lower training.accumulate"
            )
        return self


def _ladder(name: str) -> str:
    """Return the name of a ladder; raises `ScorefieldError` for one that does not exist."""
    find("ladder", name)
    return name


@dataclass(frozen=True, config=_ANY)
class RunConfig:
    """All settings of a run.

    Attributes:
        source: where the data come from: a built-in name or a path.
        recipe: name of the recipe that chose the rest.
        process, parametrisation, network, objective: what is learned.
        sampler, levels: how samples are drawn by default, and from how many levels of noise.
        ladder: name of the ladder of those levels; None for the sampler's own.
        autoguidance: strength g with which samples are drawn by default (`guidance/autoguidance.py`); 1 for none.
        clipped: whether samples are drawn by default with every denoised one kept in the legal range
            (`guidance/clipped.py`).
        data, optimiser, training: their settings.
        seed: of weights, data order and noise.
    """

    source: str
    recipe: str
    process: Process
    parametrisation: Parametrisation
    network: NetworkConfig
    objective: Objective
    sampler: Sampler
    levels: Annotated[int, Bound(ge=1, le=MOST_LEVELS)]
    data: DataConfig = default(default_factory=DataConfig)
    optimiser: Optimiser = default(default_factory=Optimiser)
    training: Training = default(default_factory=Training)
    seed: Annotated[int, Bound(ge=0)] = 0
    ladder: Annotated[str, AfterValidator(_ladder)] | None = None
    autoguidance: Annotated[float, Bound(ge=0)] = 1.0
    clipped: bool = False

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        check_levels(self.network.levels, self.parametrisation.noise_label, self.process)
        return self


Measured = Mapping[str, Mapping[str, Any]]  # "kind/name" of a component -> setting -> value
_SECTIONS = {"data": DataConfig, "optimiser": Optimiser, "training": Training}


def to_dict(value: Any, kind: str = "") -> Any:
    """Return a component or a run as JSON-able values; a registered component carries its name.

    >>> from scorefield import VE
    >>> to_dict(VE(0.01, 5.0), "process")
    {'name': 've', 'sigma_min': 0.01, 'sigma_max': 5.0}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"name": name_of(kind, value)} if kind in HOMES else {}
        return named | {f.name: to_dict(getattr(value, f.name), f.name) for f in dataclasses.fields(value)}
    return [to_dict(one) for one in value] if isinstance(value, tuple) else value


_ADVICE = {  # by pydantic's type of error, where its own message speaks of Python types
    "tuple_type": "expected several values: write them with commas, or in brackets as {key}=[3]",
    "dataclass_type": "expected settings below it: name one, as {key}.{first}",
}


def _refuse(error: ValidationError, cls: Any, where: str) -> ScorefieldError:
    """Return one sentence about the first error of a pydantic report."""
    first = error.errors()[0]
    key = ".".join([*([where] if where else []), *map(str, first["loc"][:1])])  # deeper parts are internal to pydantic
    if first["type"] == "missing":
        return ScorefieldError(f"got no {key}, which is required: add the setting {key!r}")
    if first["type"] in _ADVICE:
        example = next(iter(f.name for f in dataclasses.fields(_SECTIONS.get(key, cls))))
        return ScorefieldError(f"got {first['input']!r} for {key!r}, {_ADVICE[first['type']].format(key=key, first=example)}")
    reason = first["msg"].removeprefix("Value error, ")
    if reason.startswith("unknown"):
        return ScorefieldError(reason.replace(repr(first["input"]), f"{first['input']!r} for {key!r}", 1))
    if ": " in reason.partition("expected")[2]:  # a message of this package, complete with its advice
        return ScorefieldError(reason)
    has_value = reason.startswith("got") or not first["loc"]  # without a place the value would be the whole run
    got = "" if has_value else f"got {first['input']!r} for {key}, "
    return ScorefieldError(f"{got}{reason[0].lower() + reason[1:]}: correct the setting {key!r}")


def component(cls: Any, settings: Mapping[str, Any], where: str) -> Any:
    """Return a component, or a section of a run, from JSON values.

    Args:
        cls: its class.
        settings: by name.
        where: its dotted key, for messages.

    Raises:
        ScorefieldError: unknown names, values out of range.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in settings.items():
        if key not in known:
            raise unknown(f"setting of {where or 'the run'}", key, known)
        if isinstance(value, bool) and "bool" not in str(cls.__pydantic_fields__[key].annotation):  # pydantic reads 0 or 1
            at = f"{where}.{key}".strip(".")
            raise ScorefieldError(f"got {json.dumps(value)} for {at!r}, expected no truth value: write a number or a word")
    try:
        return cls(**{key: _build(key, value, f"{where}.{key}".strip(".")) for key, value in settings.items()})
    except ValidationError as error:
        raise _refuse(error, cls, where) from None


def _a(kind: str) -> str:
    """Return the name of a kind with its article: "a noise distribution"."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {in_words(kind)}"


def _build(key: str, value: Any, where: str) -> Any:
    if key in _SECTIONS and isinstance(value, Mapping):
        return component(_SECTIONS[key], value, where)
    if key in HOMES and key not in ("source", "recipe", "ladder"):
        if isinstance(value, (str, Mapping)):
            settings = {"name": value} if isinstance(value, str) else dict(value)
            if not isinstance(settings.get("name"), str):
                raise ScorefieldError(
                    f"got {_a(key)} without a name, expected {where}.name: name one of the {in_words(key)} components"
                )
            return component(find(key, settings.pop("name")), settings, where)
        if value is None or isinstance(value, bool | int | float | list):
            raise ScorefieldError(f"got {value!r} for {where!r}, expected {_a(key)}: name one, as in {where}={names(key)[0]}")
    return tuple(value) if isinstance(value, list) else value


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Return a run from JSON values; raises `ScorefieldError` for unknown names, unknown settings and values out of range."""
    run: RunConfig = component(RunConfig, renamed.settings(values), "")
    return run


def parsed(text: str) -> Any:
    """Return the value that a text says: as JSON, or as a comma-separated list, or as itself."""
    for candidate in (text, f"[{text}]") if "," in text else (text,):
        try:
            return json.loads(candidate)
        except json.JSONDecodeError:
            continue
    return None if text.lower() == "none" else text


def named(setting: str) -> str:
    """Return the dotted key of a setting.

    >>> named("training.batch = 64")
    'training.batch'
    """
    return setting.partition("=")[0].strip()


def _swapped(kind: str, name: str, measured: Measured) -> Any:
    """Return the plain values of a component with its defaults, or only its measured ones where it has required settings."""
    if kind not in HOMES:
        return name
    component = find(kind, name)
    required = any(f.default is f.default_factory is dataclasses.MISSING for f in dataclasses.fields(component))
    return _filled({"name": name} if required else to_dict(component(), kind), kind, measured)


def _filled(values: Any, kind: str, measured: Measured, given: Mapping[str, Any] | None = None) -> Any:
    """Return a component's plain values, with those measured on data in place of all that are not given, at every depth."""
    if not isinstance(values, dict):
        return values
    final = {**measured.get(f"{kind}/{values.get('name')}", {}), **(given or {})}
    inner = {key: _filled(value, key, measured) for key, value in values.items() if key not in final}
    return values | inner | final


def _same_ending(key: str, values: Mapping[str, Any], above: str = "") -> list[str]:
    """Return the dotted keys, at any depth, whose last part is that of a key."""
    last = key.rpartition(".")[2]
    keys = list[str]()
    for name, value in values.items():
        at = f"{above}.{name}".strip(".")
        keys += [at] * (name == last)
        keys += _same_ending(key, value, at) if isinstance(value, dict) else []
    return keys


def _unknown(key: str, part: str, walked: str, node: Mapping[str, Any], values: Mapping[str, Any]) -> ScorefieldError:
    """Return the refusal of a key, with the nearest key in its place, or the same key in another place."""
    refusal = unknown(f"setting of {walked}", part, node)
    if ": did you mean" not in str(refusal) and (others := _same_ending(key, values)):
        place = " or ".join(repr(other) for other in others)
        refusal = ScorefieldError(
            f"unknown setting of {walked} {part!r}: did you mean {place}? Known: {', '.join(sorted(node))}."
        )
    return refusal


def _apply(values: dict[str, Any], settings: Sequence[str], measured: Measured) -> None:
    """Write `dotted.key=value` settings into nested plain values: a component before its own settings, in any order."""
    for setting in sorted(settings, key=lambda one: named(one).count(".")):
        _, equals, text = setting.partition("=")
        if not equals:
            raise ScorefieldError(f"got --set {setting!r}, expected dotted.key=value: for example training.batch=64")
        *path, last = named(setting).split(".")
        path = [renamed.key(path[at - 1] if at else "", part) for at, part in enumerate(path)]
        last = renamed.key(path[-1] if path else "", last)
        node, walked = values, "the run"
        for part in path:
            if part not in node:
                raise _unknown(named(setting), part, walked, node, values)
            if not isinstance(node[part], dict):
                raise ScorefieldError(
                    f"got --set {setting!r}, expected no setting below {part!r}, which is a plain value: shorten it"
                )
            node, walked = node[part], part
        if last not in node:
            raise _unknown(named(setting), last, walked, node, values)
        value = parsed(text.strip())
        if isinstance(node[last], dict) and isinstance(value, str):
            value = _swapped(last, value, measured)
        elif isinstance(value, dict) and isinstance(value.get("name"), str) and last in HOMES:
            name = renamed.component(last, value["name"])[1]
            value = _filled({"name": name}, last, measured, value | {"name": name})
        elif isinstance(value, dict) and last in _SECTIONS:
            value = node[last] | value  # the rest stays what the recipe chose
        node[last] = value


def override(config: RunConfig, settings: Sequence[str], *, measured: Measured | None = None) -> RunConfig:
    """Return the run with `dotted.key=value` settings applied; `sampler=heun` swaps a whole component for its defaults.

    Args:
        config: the run, which is not changed.
        settings: in any order; of two for one key the later is used.
        measured: settings that are measured on data, by "kind/name" of a component: a swapped component has these in place of
            its defaults, unless they are given.

    Raises:
        ScorefieldError: no equals sign, an unknown key (with a did-you-mean), a value out of range.
    """
    values = to_dict(config)
    _apply(values, settings, measured or {})
    return from_dict(values)


def data_config(settings: Sequence[str]) -> DataConfig:
    """Return the data settings among `dotted.key=value` settings: they are needed before a recipe can see the data."""
    values = {"data": to_dict(DataConfig())}
    _apply(values, [setting for setting in settings if setting.strip().startswith("data.")], {})
    data: DataConfig = component(DataConfig, values["data"], "data")
    return data


__getattr__ = renamed.attributes(__name__)
