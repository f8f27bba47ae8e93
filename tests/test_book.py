"""The book: formulas and tests name each other, every lesson has its parts, and colours stay apart for colour-blind readers."""

import itertools
import math
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import pytest

DOCS = Path(__file__).parents[1] / "docs"
LESSONS = sorted((DOCS / "lessons").glob("lesson_*.py"))


@pytest.fixture(scope="module", autouse=True)
def extensions() -> Iterator[None]:
    sys.path.insert(0, str(DOCS / "_ext"))
    yield
    sys.path.remove(str(DOCS / "_ext"))


def extension(name: str) -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "_ext" / f"{name}.py"), run_name=name)


def test_every_formula_of_a_lesson_is_held_by_a_test_and_every_marked_test_holds_a_formula() -> None:
    import theorems  # type: ignore[import-not-found]  # of docs/_ext

    assert not theorems.unmatched()
    assert len(theorems.formulas()) >= 100
    assert len(LESSONS) >= 20
    assert sum(".. field-view:: " in lesson.read_text(encoding="utf-8") for lesson in LESSONS) >= 5  # the view moves in them


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_derives_draws_and_sets_exercises_with_solutions(lesson: Path) -> None:
    text = lesson.read_text(encoding="utf-8")
    assert re.match(r'r?"""\n\d+\. .+\n={10,}\n', text), "a title with its number"
    assert "theorem:: " in text and "plt." in text
    parts = re.split(r"^# (?:Exercises|Solutions)\n# -+\n", text, flags=re.M)
    assert len(parts) == 3, "Exercises, then Solutions"
    count = len(re.findall(r"^# \d\. ", parts[1], re.M))
    assert count >= 2
    solved = re.split(r"^# \*\*\d\.\*\* ", parts[2], flags=re.M)[1:]
    assert len(solved) == count
    assert all(re.search(r"^ *assert ", solution, re.M) for solution in solved), "each solution checks itself"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_the_code_of_a_lesson_runs_and_its_solutions_hold(
    lesson: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runpy.run_path(str(lesson), run_name="__main__")
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    assert figures
    for axes in itertools.chain.from_iterable(figure.axes for figure in figures):
        spec = axes.get_subplotspec()
        across, up = axes.get_xlabel(), axes.get_ylabel()
        for other in axes.figure.axes if spec else ():  # one label serves a column, or a row
            beside = other.get_subplotspec()
            across = across or (beside and beside.colspan == spec.colspan and other.get_xlabel())
            up = up or (beside and beside.rowspan == spec.rowspan and other.get_ylabel())
        bar, picture = axes.get_label() == "<colorbar>", axes.images and not axes.lines  # pixels have no axes
        assert bar or picture or not axes.axison or (across and up), f"{axes.get_title()}: label both axes"


def test_every_registered_part_and_each_of_its_options_is_documented() -> None:
    import reference  # type: ignore[import-not-found]  # of docs/_ext

    from scorefield import registry

    problems: list[str] = []
    pages = {kind: reference._components(kind, problems) for kind in registry.HOMES}
    assert not problems
    assert all(name in pages[kind] for kind in registry.HOMES for name in registry.built_in(kind))


# --- colours ----------------------------------------------------------------------------------------------------------

# Machado, Oliveira, Fernandes (2009), "A physiologically-based model for simulation of color vision deficiency", severity 1:
# linear RGB as those see it who lack one kind of cone.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour: str, matrix: Any = None) -> Any:
    """CIELAB of a colour as it is seen."""
    rgb = numpy.array(matplotlib.colors.to_rgb(colour))
    linear = numpy.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = numpy.clip(linear if matrix is None else numpy.array(matrix) @ linear, 0, 1)
    x, y, z = numpy.array(TO_XYZ) @ seen / numpy.array([0.95047, 1.0, 1.08883])
    f = [v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z)]
    return numpy.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", [None, *BLINDNESS])
def test_the_colours_of_figures_stay_apart_for_every_kind_of_colour_vision(blindness: str | None) -> None:
    """A difference of 10 in CIELAB is seen at a glance; 2.3 is just noticeable."""
    colours = extension("lesson_style")["COLOURS"]
    seen = {colour: lab(colour, BLINDNESS.get(blindness or "")) for colour in colours}
    assert min(math.dist(seen[a], seen[b]) for a, b in itertools.combinations(colours, 2)) > 10
