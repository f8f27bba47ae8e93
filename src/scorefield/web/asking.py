"""Asking: what a page gave becomes what a verb takes: paths for names, numbers for held-out examples, a place to write."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scorefield.errors import ScorefieldError
from scorefield.web.places import HELD_OUT, NAME, UPLOAD, Places

FOLDERS = ("denoise", "restore", "interpolate")  # verbs whose answer is a folder
SOURCES = ("source", "reference", "data", "against", "a", "b")


class Unfit(ScorefieldError):
    """An argument that the page may not give.

    Attributes:
        field: its name.
    """

    def __init__(self, field: str, sentence: str) -> None:
        """Keep the name."""
        super().__init__(sentence)
        self.field = field


@contextlib.contextmanager
def _about(field: str) -> Iterator[None]:
    """Name the argument in what is refused inside."""
    try:
        yield
    except ScorefieldError as error:
        raise Unfit(field, str(error)) from None


def resolved(places: Places, verb: str, given: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the arguments with paths for names, and which of them are held-out examples."""
    taken, held_out = dict(given), dict[str, int]()
    if verb == "train":
        with _about("out"):
            taken["out"] = str(places.new_run(given.get("out") or _run_name(given.get("source"))))
        with _about("source"):
            taken["source"] = _training_source(places, given)
        return taken, held_out
    if verb != "plan" and not (verb == "verify" and given.get("run") is None):
        with _about("run"):
            taken["run"] = str(places.run(given.get("run")))
    if verb == "distill":
        with _about("out"):
            named = given.get("out") or f"{given['run']}-distilled-{given.get('evaluations', 1)}"
            taken["out"] = str(places.new_run(named))
        return taken, held_out
    for name in SOURCES:
        value = given.get(name)
        if isinstance(value, str) and value.startswith(HELD_OUT) and value.removeprefix(HELD_OUT).isdecimal():
            held_out[name] = int(value.removeprefix(HELD_OUT))
            del taken[name]
        elif name in ("a", "b") and (isinstance(value, int) or str(value).isdecimal()):
            taken[name] = int(str(value))
        elif value is not None:
            with _about(name):
                is_run = name == "against" and value in list(places.runs())
                taken[name] = str(places.run(value)) if is_run else places.source(value)
    with _about("operator"):
        taken |= {"operator": places.operator(given["operator"])} if "operator" in given else {}
    with _about("out"):
        taken |= _out(verb, given, folder)
    return taken, held_out


def _training_source(places: Places, given: Mapping[str, Any]) -> str:
    """Return what a training learns from: of one that goes on, what it began with."""
    if given.get("resume") and not given.get("source"):
        return places.source_of(given.get("out"))
    source = given.get("source")
    if isinstance(source, str) and source.startswith(UPLOAD):
        places.upload(source)  # it is copied when nothing else is wrong
        return source
    return places.source(source)


def as_command(places: Places, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a job as a person would give them to the command, beside the runs' folder."""
    root, given = places.root, dict(asked)
    for name in ("run", "source", "data", "against", "out"):
        value = arguments.get(name)
        if isinstance(value, str) and value.startswith(f"{root}/"):
            given[name] = f"{root.name}/{Path(value).relative_to(root).as_posix()}"
    return {name: _plain(value) for name, value in given.items()}


def _out(verb: str, given: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return where a verb writes: into the folder of its job."""
    name = given.get("out")
    if name is not None and (not isinstance(name, str) or not NAME.fullmatch(name)):
        raise ScorefieldError(
            f"got out {name!r}, expected the name of a file, of letters, digits, dots and dashes: write another"
        )
    if verb in FOLDERS:
        return {"out": str(folder / (name or "answer"))}
    if verb in ("sample", "impute") or name is not None:
        default = {"sample": f"samples-seed{given.get('seed', 0)}.png", "impute": "filled.csv"}.get(verb, "out.json")
        return {"out": str(folder / (name or default))}
    return {}


def _run_name(source: Any) -> str:
    """Return the name of a run that was given none: that of its source."""
    name = str(source or "").rpartition("/")[2].partition(".")[0]
    return name if NAME.fullmatch(name) else "data"


def _plain(value: Any) -> Any:
    """Return a value without what only the page knows: an upload becomes the name of its file."""
    return re.sub(rf"{UPLOAD}[^/,]*/", "", value) if isinstance(value, str) else value
