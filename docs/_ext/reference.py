"""The reference: pages of the components, the commands and the modules, made from the registry, `--help` and the docstrings.

The build fails where a component has no docstring, where one of its options has no text, or where a command has no help.
"""

import contextlib
import dataclasses
import inspect
import io
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstrings import rewritten

PRIVATE = (
    "scorefield.cli",
    "scorefield.web",
    "scorefield.__main__",
    "scorefield.renamed",
    "scorefield.forks",
    "scorefield.interchange.diffusers_code",
)
TITLES = {
    "extractor": "Feature extractors",
    "process": "Processes",
    "checkpoint": "Formats of foreign checkpoints",
    "posterior": "Methods of posterior sampling",
}


def _heading(text: str, mark: str) -> list[str]:
    return [text, mark * len(text), ""]


def _option_texts(thing: Any) -> dict[str, str]:
    """Return the text of each attribute, as the docstrings of a class and of what it inherits from say."""
    from docstring_parser import parse

    found: dict[str, str] = {}
    for cls in reversed(inspect.getmro(thing) if inspect.isclass(thing) else (thing,)):
        parsed = parse(inspect.getdoc(cls) or "") if "__doc__" in vars(cls) else None
        for param in parsed.params if parsed else ():
            for name in param.arg_name.split(", "):
                found[name.split(" ")[0]] = " ".join((param.description or "").split())
    return found


def _written(thing: Any) -> str:
    """Return how a component is made in Python, with its defaults."""
    if not hasattr(thing, "__qualname__"):
        return ""
    parts = []
    for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) and inspect.isclass(thing) else ():
        if field.init and not field.name.startswith("_"):
            default = field.default if field.default is not dataclasses.MISSING else None
            parts.append(field.name if default is None and field.default is not None else f"{field.name}={default!r}")
    call = f"({', '.join(parts)})" if inspect.isclass(thing) else ""
    return f"``{thing.__module__}.{thing.__qualname__}{call}``"


def _components(kind: str, problems: list[str]) -> list[str]:
    from scorefield import registry

    text = _heading(TITLES.get(kind, registry.in_words(kind).capitalize() + "s"), "=")
    for name, thing in registry.built_in(kind).items():
        doc = inspect.getdoc(thing)
        if not doc:
            problems.append(f"{kind} {name} has no docstring")
            continue
        text += [
            f".. _{kind}-{name}:",
            "",
            *_heading(name, "-"),
            _written(thing),
            "",
        ]
        text += [*rewritten(doc.splitlines()), ""]
        if dataclasses.is_dataclass(thing) and inspect.isclass(thing):
            told = _option_texts(thing)
            for field in dataclasses.fields(thing):
                if field.init and not field.name.startswith("_") and not told.get(field.name):
                    problems.append(f"{kind} {name} does not say what its option {field.name} is")
    return text


def _help(verb: str) -> str:
    """Return what `scorefield VERB --help` prints."""
    from scorefield import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def _commands(problems: list[str]) -> list[str]:
    from scorefield import cli

    text = [*_heading("Commands", "="), "Each as ``scorefield VERB --help`` prints it.", ""]
    for verb, line in cli.VERBS.items():
        shown = _help(verb)
        if "usage" not in shown.lower():
            problems.append(f"scorefield {verb} --help prints no usage")
        text += [f".. _command-{verb}:", "", *_heading(verb, "-"), line, "", ".. code-block:: none", ""]
        text += [f"   {row}".rstrip() for row in shown.splitlines()] + [""]
    return text


def modules() -> Iterator[str]:
    """Yield the public modules by name."""
    import scorefield

    yield "scorefield"
    for module in pkgutil.walk_packages(scorefield.__path__, "scorefield."):
        if not module.name.startswith(PRIVATE) and not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def _modules() -> dict[str, list[str]]:
    """Return a page for each package of the first level, with its modules."""
    pages: dict[str, list[str]] = {}
    for name in modules():
        first = name.split(".")[1] if "." in name else "scorefield"
        page = pages.setdefault(first, _heading(f"scorefield.{first}" if first != "scorefield" else "scorefield", "="))
        if name != "scorefield":
            if name.count(".") > 1:
                page += _heading(name, "-")
            page += [f".. automodule:: {name}", "   :members:", "   :ignore-module-all:", "   :show-inheritance:", ""]
    return pages


def build(app: Any) -> None:
    from sphinx.errors import ExtensionError

    from scorefield import registry

    place, problems = Path(app.srcdir) / "reference", list[str]()
    place.mkdir(exist_ok=True)
    pages = {f"component-{kind}": _components(kind, problems) for kind in registry.HOMES}
    pages["commands"] = _commands(problems)
    pages |= {f"module-{name}": page for name, page in _modules().items() if name != "scorefield"}
    index = [*_heading("Reference", "="), "Made from the registry, from ``--help`` and from the docstrings.", ""]
    for title, start in (("Commands", "commands"), ("Components", "component-"), ("Modules", "module-")):
        index += [
            ".. toctree::",
            f"   :caption: {title}",
            "   :maxdepth: 1",
            "",
            *(f"   {name}" for name in sorted(pages) if name.startswith(start)),
            "",
        ]
    pages["index"] = index
    if problems:
        raise ExtensionError("; ".join(problems))
    for name, page in pages.items():
        path, text = place / f"{name}.rst", "\n".join(page) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # what is unchanged is not built again
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", build)
    return {"parallel_read_safe": True}
