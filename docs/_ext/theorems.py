"""Formulas that tests hold: `theorem` numbers a formula and names, under it, each test that holds it.

    .. theorem:: fisher-divergence

       D(p, q) = \\tfrac12 E_p |s_p(x) - s_q(x)|^2

A test names the formulas that it holds by a marker, `@pytest.mark.theorem("fisher-divergence")`. The build fails where a
formula has no test or a marker no formula (`tests/test_book.py` says the same without Sphinx). The page `theorems` lists all of
them with the source of their tests.
"""

import ast
import functools
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FORMULA = re.compile(r"^(?:# )?\.\. theorem:: (\S+)$", re.M)  # in a docstring, or in a cell of comments


@dataclass(frozen=True)
class Held:
    """A test that holds a formula."""

    path: Path
    name: str

    @property
    def sentence(self) -> str:
        """The name as a sentence."""
        words = self.name.removeprefix("test_").replace("_", " ")
        return words[:1].upper() + words[1:]


@functools.cache  # all tests are parsed, which takes seconds, and every formula asks
def tests_of() -> dict[str, list[Held]]:
    """Return the tests of each formula by its label, as the markers in the tests' sources say: nothing is imported."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "mark.theorem" in text else ():
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.theorem":
                    for label in map(ast.literal_eval, mark.args):
                        found[label].append(Held(path, node.name))  # type: ignore[attr-defined]
    return dict(found)


def formulas() -> dict[str, Path]:
    """Return the lesson of each formula by its label."""
    found: dict[str, Path] = {}
    for page in sorted((ROOT / "docs" / "lessons").glob("*.py")):
        for label in FORMULA.findall(page.read_text(encoding="utf-8")):
            assert label not in found, f"got the formula {label} in {page} and {found[label]}, expected it once"
            found[label] = page
    return found


def unmatched() -> list[str]:
    """Return a sentence for each formula without a test and each marker without a formula."""
    stated, held = formulas(), tests_of()
    alone = [f"{page.name}: no test has the marker theorem({label!r})" for label, page in stated.items() if label not in held]
    return alone + [
        f"{held[label][0].path.name}: no lesson states the formula {label!r}" for label in held if label not in stated
    ]


def listing() -> str:
    """Return the page of all formulas with the sources of their tests."""
    text = ["Formulas and their tests", "=" * 24, "", "Each numbered formula of the lessons, and the tests that hold it.", ""]
    for label, tests in sorted(tests_of().items()):
        text += [f".. _theorem-{label}:", "", label, "-" * len(label), "", f"Formula :eq:`{label}`.", ""]
        for test in tests:
            text += [f"**{test.sentence}** (``tests/{test.path.name}``)", ""]
            text += [f".. literalinclude:: ../tests/{test.path.name}", f"   :pyobject: {test.name}", ""]
    return "\n".join(text)


def setup(app: Any) -> dict[str, Any]:
    from sphinx.errors import ExtensionError
    from sphinx.util.docutils import SphinxDirective

    class Theorem(SphinxDirective):
        has_content = True
        required_arguments = 1

        def run(self) -> list[Any]:
            label, tests = self.arguments[0], tests_of()
            names = "; ".join(test.sentence[:1].lower() + test.sentence[1:] for test in tests[label])
            lines = [".. math::", f"   :label: {label}", "", *(f"   {line}" for line in self.content), ""]
            lines += [".. rst-class:: held", "", f":ref:`Tested <theorem-{label}>`: {names}.", ""]
            if self.state.__class__.__module__.startswith("myst_parser"):
                raise self.error("got a theorem in a page of Markdown, expected it in a lesson: move it")
            nodes: list[Any] = self.parse_text_to_nodes("\n".join(lines))
            return nodes

    def check(app: Any) -> None:
        if problems := unmatched():
            raise ExtensionError("; ".join(problems))
        (Path(app.srcdir) / "theorems.rst").write_text(listing(), encoding="utf-8")

    app.add_directive("theorem", Theorem)
    app.connect("builder-inited", check)
    return {"parallel_read_safe": True}
