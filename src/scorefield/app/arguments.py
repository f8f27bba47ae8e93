"""Arguments of the verbs: a wrong one is refused in one sentence, by the types that the signature declares.

>>> @checked
... def half(n: int, *, times: float = 1.0) -> float:
...     return n / 2 * times
>>> half(3)
1.5
>>> half("many")
Traceback (most recent call last):
    ...
scorefield.errors.ScorefieldError: got n='many' for half, expected a whole number: correct n
>>> half(3, tims=2)
Traceback (most recent call last):
    ...
scorefield.errors.ScorefieldError: unknown argument of half 'tims': did you mean 'times'? Known: n, times.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import numbers
import operator
import os
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ValidationError

from scorefield import renamed
from scorefield.errors import ScorefieldError, unknown
from scorefield.progress import Progress, Viewer

Function = TypeVar("Function", bound=Callable[..., Any])


class _Wrong(Exception):
    """A value that is not of a type."""


def _bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _Wrong
    return bool(value)


def _int(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise _Wrong
    try:
        return operator.index(value)
    except TypeError:
        raise _Wrong from None


def _float(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise _Wrong
    try:
        return float(value)
    except OverflowError:
        raise _Wrong from None


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not isinstance(name := os.fspath(value), str):
        raise _Wrong
    return Path(name)


def _nothing(value: Any) -> None:
    if value is not None:
        raise _Wrong


PLAIN: dict[Any, tuple[str, str, Callable[[Any], Any]]] = {  # type -> one, several, and what makes one of a value
    bool: ("True or False", "booleans", _bool),
    int: ("a whole number", "whole numbers", _int),
    float: ("a number", "numbers", _float),
    str: ("a text", "texts", _str),
    Path: ("a path", "paths", _path),
    type(None): ("None", "Nones", _nothing),
}


def _of(wanted: Any, value: Any) -> Any:
    """Return a value as one of a declared type; raises `_Wrong` if it is none."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return value
    if wanted in PLAIN:
        return PLAIN[wanted][2](value)
    if origin in (Union, types.UnionType):
        for one in inside:
            try:
                return _of(one, value)
            except _Wrong:
                continue
        raise _Wrong
    if origin is Literal:
        if not any(isinstance(value, type(one)) and value == one for one in inside):
            raise _Wrong
        return value
    if origin is collections.abc.Callable:
        if not callable(value):
            raise _Wrong
        return value
    if origin in (tuple, list, Sequence):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
            raise _Wrong
        fixed = origin is tuple and inside[-1] is not Ellipsis
        if fixed and len(value) != len(inside):
            raise _Wrong
        made = tuple(_of(one, part) for one, part in zip(inside if fixed else (inside[0],) * len(value), value, strict=True))
        return list(made) if origin is list else made
    if not isinstance(value, origin or wanted):
        raise _Wrong
    return value


def _called(wanted: Any) -> str:
    """Return what a declared type is called."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if wanted in PLAIN:
        return PLAIN[wanted][0]
    if origin in (Union, types.UnionType):
        parts = [_called(one) for one in inside if not (one is str and Path in inside)]  # a text is a path there
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
    if origin is Literal:
        return " or ".join(map(repr, inside))
    if origin is collections.abc.Callable or wanted in (Progress, Viewer):
        return "something to call"
    if origin is tuple and inside[-1] is not Ellipsis:
        return f"({', '.join(map(_called, inside))})"
    if origin in (tuple, list, Sequence):
        return f"a list of {PLAIN[inside[0]][1]}"
    return "a dictionary" if origin is collections.abc.Mapping else f"a {wanted.__name__}"


class _Declared:
    """What a function declares: the types of its arguments, and which of them are fields of a spec."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name, self.types = function.__name__, get_type_hints(function)
        self.keys = list(inspect.signature(function).parameters)
        self.specs = {key: self.types[key] for key in self.keys if getattr(self.types[key], "__flat__", False)}
        self.spec_of = dict[str, str]()  # the name of a field -> the parameter that takes its spec
        for key, spec in self.specs.items():
            hints = get_type_hints(spec)
            for field in (one.name for one in dataclasses.fields(spec)):
                if field in self.types:
                    raise TypeError(f"{self.name} takes {field!r} twice: rename a parameter, or a field of {spec.__name__}")
                self.keys.append(field)
                self.spec_of[field], self.types[field] = key, hints[field]

    def value(self, key: str, value: Any) -> Any:
        """Return the value of an argument in its declared type; raises `ScorefieldError` if it is of another."""
        try:
            return _of(self.types[key], value)
        except _Wrong:
            got = f"{key}={reprlib.repr(value)}"
            raise ScorefieldError(f"got {got} for {self.name}, expected {_called(self.types[key])}: correct {key}") from None

    def spec(self, key: str, given: Any, flat: Mapping[str, Any]) -> Any:
        """Return a spec with the fields that were given as keywords in place of its own, and every field checked."""
        own = [field for field, parameter in self.spec_of.items() if parameter == key]
        values = {field: self.value(field, flat.get(field, getattr(given, field))) for field in own}
        try:
            return dataclasses.replace(given, **values)
        except ValidationError as error:  # a spec may have bounds
            first = error.errors()[0]
            field, reason = str((*first["loc"], key)[0]), first["msg"].removeprefix("Value error, ")
            got = f"{field}={reprlib.repr(values.get(field, given))}"
            raise ScorefieldError(f"got {got} for {self.name}, {reason[0].lower()}{reason[1:]}: correct {field}") from None


def checked(function: Function) -> Function:
    """Return the function with its arguments compared with their declared types, and numbers of numpy taken as Python's.

    A parameter whose type is a frozen dataclass with `__flat__ = True`, and which has a default, is a spec: the function takes
    the fields as keywords, too. They replace those of a spec that is given: `sample(run, spec, seed=2)` draws as `spec` says,
    but with seed 2.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Cut:
    ...     __flat__ = True
    ...     length: float = 1.0
    ...     pieces: int = 2
    >>> @checked
    ... def saw(wood: str, cut: Cut = Cut()) -> str:
    ...     return f"{cut.pieces} pieces of {wood}, {cut.length} m"
    >>> saw("oak", pieces=3), saw("ash", Cut(2.0), pieces=4)
    ('3 pieces of oak, 1.0 m', '4 pieces of ash, 2.0 m')
    >>> saw("oak", length="long")
    Traceback (most recent call last):
        ...
    scorefield.errors.ScorefieldError: got length='long' for saw, expected a number: correct length

    Raises:
        ScorefieldError: an argument of another type, an unknown one (with a did-you-mean), or one that is missing.
        TypeError: a mistake in the function: two of its parameters, or fields of its specs, have one name.
    """
    signature, name = inspect.signature(function), function.__name__
    declared = functools.cache(lambda: _Declared(function))

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        taken = declared()
        named = renamed.arguments_of(name, named, taken.keys)
        for key in named:
            if key not in taken.keys:
                raise unknown(f"argument of {name}", key, taken.keys)
        flat = {field: named.pop(field) for field in taken.spec_of if field in named}
        try:
            bound = signature.bind(*arguments, **named)
        except TypeError as error:
            raise ScorefieldError(
                f"got a call of {name} with {error}, expected {name}{_shape(signature)}: correct it"
            ) from None
        for key, value in bound.arguments.items():
            bound.arguments[key] = taken.value(key, value)
        for key in taken.specs:
            given = bound.arguments.get(key, signature.parameters[key].default)
            bound.arguments[key] = taken.spec(key, given, flat)
        return function(*bound.args, **bound.kwargs)

    return cast(Function, call)


def _shape(signature: inspect.Signature) -> str:
    """Return the names of the arguments that a function must be given, in brackets."""
    needed = [name for name, each in signature.parameters.items() if each.default is each.empty]
    return f"({', '.join([*needed, '...'])})"
