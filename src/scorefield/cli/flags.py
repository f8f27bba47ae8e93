"""Flags of a spec: a verb of the command takes the fields of a spec as its flags, with the texts of the spec's docstring."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

Spec = TypeVar("Spec")


def flags(spec: type[Spec], **metavars: str) -> Spec:
    """Return the default of a field that takes a spec, whose flags show their values under these names.

    The field is annotated `Annotated[SampleSpec, tyro.conf.arg(name="")]`, so that its flags have no prefix.

    Args:
        spec: a frozen dataclass.
        metavars: field -> what its value is called in the help, where that is not the name of its type.
    """
    types = get_type_hints(spec)
    annotated = {key: Annotated[types[key], tyro.conf.arg(metavar=name)] for key, name in metavars.items()}
    kind: Any = type(spec.__name__, (spec,), {"__annotations__": annotated, "__module__": spec.__module__})
    default: Spec = dataclasses.dataclass(frozen=True)(kind)()
    return default
