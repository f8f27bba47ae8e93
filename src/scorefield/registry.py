"""Names: kind -> name -> class, for the callers that use strings: the command, the page and a run's JSON.

Python users import classes and never need this file. `@register(kind, name)` adds a class; `find` looks one up with a
did-you-mean; `names` and `every` list them. The modules of a kind are imported only when that kind is asked for, so `--help`
stays fast, and a new file in a listed package is found without a change here. Other packages add their own classes by an entry
point (`load_plugins`).
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scorefield import renamed
from scorefield.errors import ScorefieldError, unknown

if TYPE_CHECKING:
    from pydantic import ConfigDict

T = TypeVar("T")
# A component is a pydantic dataclass with this configuration: it refuses a setting that it does not have.
COMPONENT: ConfigDict = {"extra": "forbid", "arbitrary_types_allowed": True}

HOMES = {
    "process": "scorefield.process",
    "parametrisation": "scorefield.prediction",
    "noise_distribution": "scorefield.levels",
    "ladder": "scorefield.levels",
    "network": "scorefield.nets",
    "objective": "scorefield.objectives",
    "weighting": "scorefield.objectives",
    "sampler": "scorefield.samplers",
    "source": "scorefield.data.builtin",
    "format": "scorefield.data.formats",
    "operator": "scorefield.operators",
    "posterior": "scorefield.guidance.posterior",
    "metric": "scorefield.metrics",
    "extractor": "scorefield.metrics",
    "recipe": "scorefield.recipes",
    "checkpoint": "scorefield.interchange.checkpoints",
}
_tables: dict[str, dict[str, Any]] = {kind: {} for kind in HOMES}


def in_words(kind: str) -> str:
    """Return the name of a kind as a message has it: "noise distribution" for noise_distribution."""
    return kind.replace("_", " ")


def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a decorator that adds a class or function to the table of `kind` under `name`, and returns it."""

    def enter(thing: T) -> T:
        table = _tables[kind]
        if name in table and table[name] is not thing:
            raise TypeError(f"the {in_words(kind)} name {name!r} is taken by {table[name]!r}: choose another name")
        table[name] = renamed.fields(kind, thing)
        return thing

    return enter


@functools.cache
def load_plugins() -> tuple[str, ...]:
    """Import the plugins of other packages (entry point `scorefield.plugins`), once, and return their names.

    A plugin is a module whose import calls `@register(kind, name)`. In its pyproject.toml:

        [project.entry-points."scorefield.plugins"]
        mine = "my_package.samplers"

    Raises:
        ScorefieldError: a plugin that cannot be imported, with its name and the reason.
    """
    import importlib.metadata

    found = importlib.metadata.entry_points(group="scorefield.plugins")
    for plugin in found:
        try:
            plugin.load()
        except Exception as error:  # a plugin may raise anything
            raise ScorefieldError(
                f"got {type(error).__name__} ({error}) from the plugin {plugin.name!r} ({plugin.value}), expected it to be "
                "imported: fix or uninstall it"
            ) from error
    return tuple(plugin.name for plugin in found)


def every(kind: str) -> dict[str, Any]:
    """Return every registered class or function of a kind by name, sorted.

    >>> "annealed" in every("sampler")
    True
    """
    kind = renamed.KINDS.get(kind, kind)
    if kind not in HOMES:
        raise unknown("kind of component", kind, HOMES)
    built_in(kind)
    load_plugins()
    return dict(sorted(_tables[kind].items()))


def built_in(kind: str) -> dict[str, Any]:
    """Return what this package registers of a kind, by name, sorted: plugins are not loaded for it.

    >>> "images" in built_in("format")
    True
    """
    home = importlib.import_module(HOMES[kind])
    for module in pkgutil.walk_packages(getattr(home, "__path__", []), f"{HOMES[kind]}."):
        importlib.import_module(module.name)
    return dict(sorted(_tables[kind].items()))


def names(kind: str) -> list[str]:
    """Return the names of a kind, sorted."""
    return list(every(kind))


def _sources(kind: str) -> list[str]:
    """Return the texts of the modules of a kind, of which none is imported."""
    home = importlib.util.find_spec(HOMES[kind])
    assert home is not None and home.origin is not None  # it is a part of this package
    path = Path(home.origin)
    sources = sorted(path.parent.rglob("*.py")) if home.submodule_search_locations else [path]
    return [source.read_text(encoding="utf-8") for source in sources]


def written(kind: str) -> list[str]:
    """Return the names of a kind that this package registers, sorted, as its source says: nothing is imported, for `--help`.

    >>> written("recipe")
    ['auto', 'ddpm', 'edm', 'ncsn', 'ncsnv2']
    """
    found = (re.findall(rf'@register\("{kind}", "([^"]+)"\)', source) for source in _sources(kind))
    return sorted({name for names in found for name in names})


def forms(kind: str) -> dict[str, str]:
    """Return how each component of a kind is written in a command, by name, as its source says: see `form`.

    >>> forms("operator")["crop"]
    'crop:SIZE, crop:HEIGHTxWIDTH or crop:HEIGHTxWIDTH+TOP+LEFT'
    """
    found = {}
    for source in _sources(kind):
        for node in ast.parse(source).body:
            of_text = next(
                (one for one in getattr(node, "body", ()) if isinstance(one, ast.FunctionDef) and one.name == "of_text"), None
            )
            for decorator in getattr(node, "decorator_list", ()):
                name = re.fullmatch(rf"register\('{kind}', '([^']+)'\)", ast.unparse(decorator))
                if name:
                    found[name[1]] = form(name[1], None if of_text is None else ast.get_docstring(of_text))
    return dict(sorted(found.items()))


def form(name: str, docstring: str | None) -> str:
    """Return how a component is written: what its `of_text` returns, as its docstring opens; without one its name.

    >>> form("gray", "Return `gray`, or `gray:W:W:W` with other weights.")
    'gray, or gray:W:W:W with other weights'
    """
    if docstring is None:
        return name
    first = " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())
    return first.removeprefix("Return ").removesuffix(".").replace("`", "")


def find(kind: str, name: str) -> Any:
    """Return the class or function called `name`; raises `ScorefieldError` with a did-you-mean for an unknown one.

    >>> find("process", "ve").__name__
    'VE'
    """
    table = every(kind)
    if name not in table:
        kind, name = renamed.component(kind, name)
    if name not in table:
        raise unknown(in_words(kind), name, table)
    return table[name]


def name_of(kind: str, thing: Any) -> str:
    """Return the name under which an object's class (or the object itself) is registered."""
    for name, entry in every(kind).items():
        if thing is entry or type(thing) is entry:
            return name
    raise unknown(in_words(kind), type(thing).__name__, every(kind))
