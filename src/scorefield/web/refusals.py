"""Refusals and commands: which field of a form a sentence is about, and what the same job is on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

OPERATORS = r"\b(operator|kernel|blur|clip|crop|downsample|fourier|gray|jpeg|mask|matrix|projection|quantise|subsample)\b"
WORDS = {  # of a field, beside its name: its flag where that has another name, and what a refusal calls it
    "seconds": r"--time\b",
    "settings": r"--set\b|^unknown setting\b",
    "source": r"--data\b",
    "n": r"\bsamples to draw|^got \d+ samples$",
    "label": r"^unknown (class|label)\b",
    "method": r"^unknown posterior\b",
    "samplers": r"^unknown sampler\b",
    "operator": OPERATORS,
}
FLAGS = {"n": "-n", "seconds": "--time", "settings": "--set"}  # of arguments whose flag has another name


def field_of(sentence: str, names: Sequence[str]) -> str | None:
    """Return which field a refusal is about, by the first name in its sentence; None if it names none.

    >>> field_of("got --steps 0, expected at least 1: ask for more", ("n", "steps"))
    'steps'
    >>> field_of("unknown sampler 'heum': did you mean 'heun'?", ("n", "sampler"))
    'sampler'
    >>> field_of("got 0 samples to draw, expected at least 1: ask for more", ("n", "sampler"))
    'n'
    >>> field_of("got a mask of shape (9, 9) for samples of shape (1, 8, 8), expected the same size", ("samples", "operator"))
    'operator'
    """
    found = list[tuple[int, str]]()
    got = sentence.partition(", expected")[0]
    for name in names:
        words = [
            rf"--{name.replace('_', '-')}(?![\w-])",
            rf"\b{name}=|^got {name} ",
            rf"unknown {name}\b",
            rf"argument of \w+ '{name}'",
        ]
        for word in (*words, *([WORDS[name]] if name in WORDS else [])):
            match = re.search(word, got)
            if match:
                found.append((match.start(), name))
    return min(found)[1] if found else None


def command(verb: str, fields: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> str:
    """Return the command that does the same job, for a shell.

    Args:
        verb: its name.
        fields: of its form.
        given: arguments, with the paths that a shell would be given.

    >>> command("sample", [{"name": "n", "default": 64}], {"run": "runs/digits", "n": 9, "label": "3", "gif": True})
    'scorefield sample runs/digits -n 9 --label 3 --gif'
    """
    defaults = {field["name"]: field["default"] for field in fields}
    places = [name for name in ("run", "source", "a", "b") if name in given]
    words = ["scorefield", verb, *(str(given[name]) for name in places)]
    for name, value in given.items():
        if name in places or value is None or value in ("", []) or (name in defaults and value == defaults[name]):
            continue
        flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, bool):
            words += [flag] if value else []
        elif name in ("settings", "given"):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
    return shlex.join(words)
