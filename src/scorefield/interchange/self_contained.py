"""The source of a class with all that it uses, as one file that imports nothing of scorefield.

From a class the names in its source are followed: a function, class or constant of scorefield is written before what uses it; a
name from elsewhere becomes an import. Nothing else of the modules is taken, neither their settings nor what registers them.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

from scorefield.errors import ScorefieldError

PACKAGE = "scorefield"


def source_of(module: str, name: str, replaced: Mapping[str, type] = MappingProxyType({})) -> str:
    """Return the source of a class with everything that it needs: imports first, then definitions, each before its use.

    Args:
        module, name: of the class.
        replaced: names in that module that stand for other classes here.

    Raises:
        ScorefieldError: two things of one name.

    >>> text = source_of("scorefield.nets.mlp", "MLP")
    >>> "import scorefield" in text, "class NoiseEmbedding(nn.Module)" in text, "MLPConfig" in text
    (False, True, False)
    """
    found = _Found(dict(replaced))
    found.follow(module, name)
    names = [name for _, name in found.parts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ScorefieldError(
            f"got {', '.join(sorted(twice))} in two modules that {name} needs, expected one thing of a name: rename one"
        )
    head = ["from __future__ import annotations", "", *sorted(found.imports)]
    return "\n".join(head) + "\n\n\n" + "\n\n\n".join(found.parts.values()) + "\n"


@dataclass
class _Found:
    """What was found: import statements, and the text of each definition by its module and name, in order of use."""

    replaced: dict[str, type]
    imports: set[str] = field(default_factory=set)
    parts: dict[tuple[str, str], str] = field(default_factory=dict)

    def follow(self, module: str, name: str) -> None:
        """Add the definition of a name of a module, after all that it uses."""
        known = _Module.of(module)
        if (module, name) in self.parts:
            return
        if name in self.replaced:
            other = self.replaced[name]
            self.follow(other.__module__, other.__name__)
            self.parts[module, name] = f"{name} = {other.__name__}"
        elif name in known.defined:
            node, text = known.defined[name]
            self.parts[module, name] = ""  # it may use itself
            for used in dict.fromkeys(one.id for one in ast.walk(node) if isinstance(one, ast.Name)):
                if used in known.defined or used in known.imported:
                    self.follow(module, used)
            del self.parts[module, name]
            self.parts[module, name] = text
        elif (source := known.imported[name])[0].partition(".")[0] == PACKAGE:
            self.follow(*source)
        else:
            self.imports.add(known.statements[name])


class _Module:
    """The top level of a module: its definitions, and the names that it imports."""

    def __init__(self, source: str) -> None:
        # What loads old names of weights is of scorefield alone: an exported file has its own weights.
        lines = [line for line in source.splitlines() if "renamed." not in line]
        self.defined, self.imported, self.statements = dict[str, tuple[ast.AST, str]](), dict[str, tuple[str, str]](), {}
        for node in ast.parse("\n".join(lines)).body:
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
            text = "\n".join(lines[first - 1 : node.end_lineno])
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                self.defined[node.name] = (node, text)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.defined |= {one.id: (node, text) for one in targets if isinstance(one, ast.Name)}
            elif isinstance(node, ast.ImportFrom | ast.Import):
                for alias in node.names:
                    name, where = alias.asname or alias.name.partition(".")[0], getattr(node, "module", None)
                    renamed = f" as {alias.asname}" if alias.asname else ""
                    self.imported[name] = (where or alias.name, alias.name)
                    self.statements[name] = (
                        f"from {where} import {alias.name}{renamed}" if where else f"import {alias.name}{renamed}"
                    )

    @staticmethod
    @cache
    def of(name: str) -> _Module:
        """Return the module of a name, read once; it is not imported."""
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None  # something of it was imported, or is imported from it
        return _Module(Path(spec.origin).read_text(encoding="utf-8"))
