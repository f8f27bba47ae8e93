"""The page of results says what the files of results say, and names every one of them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "_ext" / "results.py"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="results")


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_page_is_the_one_that_the_files_of_results_give(results: dict[str, Any], page: str) -> None:
    assert results["made"]() == page, f"docs/results.md is not of benchmarks/results any more: run {results['COMMAND']}"


def test_the_script_is_the_command_that_the_failure_names(results: dict[str, Any]) -> None:
    assert results["COMMAND"] == f"python {SCRIPT.relative_to(ROOT)}"
    assert results["PAGE"] == ROOT / "docs" / "results.md"


def test_every_file_of_results_is_on_the_page_and_every_link_leads_to_one(results: dict[str, Any], page: str) -> None:
    kept = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    linked = set(re.findall(r"\]\(\.\./benchmarks/results/([\w-]+\.md)\)", page))
    tables = {f"{name}.md" for name in results["parts"]()}
    assert kept - tables <= linked, "say in a sentence what it is, in ELSEWHERE of docs/_ext/results.py"
    assert linked <= kept


def test_figures_on_the_page_are_those_of_the_files_and_samplers_have_their_names_of_now(page: str) -> None:
    place = ROOT / "benchmarks" / "results"
    row = json.loads((place / "time-to-quality.json").read_text())["rows"]["default"]
    assert f"| {row['fd']:.2f} ± {row['fd_error']:.1g} |" in page
    (few,) = (
        row
        for row in json.loads((place / "distill.json").read_text())["rows"]
        if (row["set"], row["run"]) == ("mnist", "distilled, 1")
    )
    assert f"| {few['images']:,} | {few['fd'][0]:.2f} ± {few['fd'][1]:.2f} |" in page
    best = next(
        row for row in json.loads((place / "samplers.json").read_text()) if row["sampler"] == "adams" and row["budget"] == 20
    )
    assert f"{best['ratio']:.2f} ± {best['error']:.2f}" in re.search(r"^\| abm \|.*$", page, re.M).group()  # type: ignore[union-attr]
    assert not re.search(r"^\| adams|\bcauchy\b", page, re.M)
