"""Forms: what a verb can be asked for, from the signature and the specs that Python and the command have.

A field of a form is an argument of the verb's function, or a field of the spec that it takes. Its text is the one that
`--help` shows. Values come as JSON; texts of durations, sizes and intervals are read as the command reads them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

from scorefield import app, registry
from scorefield.durations import seconds_of
from scorefield.errors import ScorefieldError, unknown
from scorefield.specs import SampleSpec, interval_of, size_of

VERBS = (
    *("plan", "train", "sample", "denoise", "restore", "interpolate", "evaluate", "tune", "likelihood", "verify"),
    *("distill", "impute", "odd"),
)
NOT_ASKED = {
    "progress",
    "stop",
    "force",
    "html",
    "json",
    "pilot_seconds",
    "compute",
    "spec",
    "training",
}  # a page has no use for them
NAMES = {  # field -> the kind of component that it names, and what else it may be
    "sampler": ("sampler", ()),
    "samplers": ("sampler", ()),
    "ladder": ("ladder", ("optimised",)),
    "recipe": ("recipe", ()),
    "method": ("posterior", ("auto",)),
    "features": ("extractor", ()),
}
NEEDED = {("impute", "source")}  # the page fills a table by a run that is there
TEXTS = {"seconds": seconds_of, "size": size_of, "guidance_interval": interval_of}  # fields that may come as a person's text


@dataclasses.dataclass(frozen=True)
class FormField:
    """What can be filled in.

    Attributes:
        name: of the argument.
        kind: text, integer, number, boolean, choice or list.
        default: what holds if it is left out.
        help: what it is.
        choices: all values there are, or None.
        suggestions: values that are often wanted, or None.
        required: whether the verb needs it.
    """

    name: str
    kind: str
    default: Any
    help: str
    choices: tuple[Any, ...] | None = None
    suggestions: tuple[str, ...] | None = None
    required: bool = False


@cache
def forms() -> dict[str, Any]:
    """Return for each verb its summary and its fields, as JSON values."""
    return {
        verb: {"summary": _summary(verb), "fields": [dataclasses.asdict(field) for field in fields_of(verb)]} for verb in VERBS
    }


def _summary(verb: str) -> str:
    return (getattr(app, verb).__doc__ or "").strip().splitlines()[0]


@cache
def fields_of(verb: str) -> tuple[FormField, ...]:
    """Return the fields of a verb: arguments first, then those of its specs."""
    function = getattr(app, verb)
    hints, texts = get_type_hints(function), _texts(function)
    own, asked = list[FormField](), list[FormField]()
    for name, parameter in inspect.signature(function).parameters.items():
        if getattr(hints[name], "__flat__", False):
            kinds, about = get_type_hints(hints[name]), _texts(hints[name])
            asked += [
                _field(one.name, kinds[one.name], getattr(parameter.default, one.name), about.get(one.name, ""))
                for one in dataclasses.fields(hints[name])
            ]
        elif name not in NOT_ASKED:
            default = inspect.Parameter.empty if (verb, name) in NEEDED else parameter.default
            own.append(_field(name, hints[name], default, texts.get(name, "")))
    return (*own, *asked)


def _texts(documented: Any) -> dict[str, str]:
    """Return what a docstring says of each argument or attribute; several may share a text: `sampler, steps, seed: ...`."""
    found = dict[str, str]()
    for each in parse(inspect.getdoc(documented) or "").params:
        text = re.sub(r"`([^`]*)`", r"\1", " ".join((each.description or "").split()))
        for name in each.arg_name.split(","):
            found[name.strip()] = _texts(SampleSpec).get(name.strip(), text) if "as in SampleSpec" in text else text
    return found


def _field(name: str, hint: Any, default: Any, text: str) -> FormField:
    required = default is inspect.Parameter.empty
    kind, choices = _kind(name, hint)
    suggestions: tuple[str, ...] | None = None
    if name in NAMES:
        of, more = NAMES[name]
        suggestions = (*more, *(one for one in registry.names(of) if one not in more))
    elif name == "operator":
        suggestions = tuple(registry.forms("operator").values())
    value = None if required else list(default) if isinstance(default, tuple) else default
    return FormField(name, kind, value, text, choices, suggestions, required)


def _kind(name: str, hint: Any) -> tuple[str, tuple[Any, ...] | None]:
    """Return which kind of input a type asks for, and all its values, if it has only a few."""
    inside = [
        one for one in (get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]) if one is not type(None)
    ]
    first = inside[0]
    if name in TEXTS or (len(inside) > 1 and name != "given"):
        return "text", None
    if get_origin(first) is Literal:
        return "choice", get_args(first)
    if get_origin(first) in (tuple, list, Sequence):
        return "list", None
    return {bool: "boolean", int: "integer", float: "number"}.get(first, "text"), None


def arguments(verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a page gave as what the verb takes: an empty field is one that was left out.

    Raises:
        ScorefieldError: a duration, a size or an interval that cannot be read.
    """
    taken = dict[str, Any]()
    for name, value in given.items():
        if value is None or value == "" or value == []:
            continue
        taken[name] = TEXTS[name](value) if name in TEXTS and isinstance(value, str) else value
    return taken


def check_names(verb: str, given: Mapping[str, Any]) -> None:
    """Refuse what a page may not ask for: an argument that is none of the form's, or a setting that names other data.

    Raises:
        ScorefieldError: such an argument.
    """
    known = [field.name for field in fields_of(verb)]
    for name in given:
        if name not in known:
            raise unknown(f"argument of {verb}", name, known)
    settings = given.get("settings") or ()
    for setting in settings if isinstance(settings, list | tuple) else ():
        if "." not in str(setting).partition("=")[0]:
            raise ScorefieldError(
                f"got settings {str(setting)!r}, expected one inside a part, such as training.batch=64: correct it"
            )
    features = given.get("features")
    if features not in (None, "") and features not in registry.names("extractor"):
        raise unknown("features", str(features), registry.names("extractor"))
