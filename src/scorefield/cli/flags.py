"""Flags of a spec: a verb of the command takes the fields of a spec as its flags, with the texts of the spec's docstring."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

Spec = TypeVar("Spec")


def flags(spec: type[Spec], **shown: str | tuple[Any, ...]) -> Spec:
    """Return the default of a field that takes a spec, whose flags are shown in the way that is said here.

    The field is annotated `Annotated[SampleSpec, tyro.conf.arg(name="")]`, so that its flags have no prefix.

    Args:
        spec: a frozen dataclass.
        shown: field -> what its value is called in the help, where that is not the name of its type; or what tyro annotates the
            type with, as `(tyro.conf.Suppress,)` for a field that is no flag.
    """
    types = get_type_hints(spec)
    marks = {key: (tyro.conf.arg(metavar=how),) if isinstance(how, str) else how for key, how in shown.items()}
    form: Any = Annotated
    annotated = {key: form[(types[key], *mark)] for key, mark in marks.items()}
    kind: Any = type(spec.__name__, (spec,), {"__annotations__": annotated, "__module__": spec.__module__})
    default: Spec = dataclasses.dataclass(frozen=True)(kind)()
    return default
