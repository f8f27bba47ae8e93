"""The README, the guides and docs/how hold: their Python runs, their commands parse, and their links lead somewhere.

A block of Python runs after those above it on its page, in an empty folder. What a reader would have at hand stands above a
block in a comment that no page shows, `<!-- given ... -->`; a block below `<!-- not run: reason -->` is only compiled.
"""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefield import ScoreModel, app, cli
from scorefield.runs import load_field

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
HOW = sorted((ROOT / "docs" / "how").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *GUIDES, *HOW]
BLOCK = re.compile(
    r"(?:<!-- given\n(?P<given>.*?)-->\n)?(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A block of Python of a page, and the number of the line where its code begins."""

    page: Path
    line: int
    code: str
    given: str
    reason: str | None

    def run(self, names: dict[str, Any]) -> None:
        exec(compile(self.given, f"what {self.page.name}:{self.line} is given", "exec"), names)
        exec(compile("\n" * (self.line - 1) + self.code, str(self.page), "exec"), names)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("code")) + 1, m["code"], m["given"] or "", m["reason"])
        for m in BLOCK.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_CODE = [page for page in PAGES if blocks(page)]


# --- Python -----------------------------------------------------------------------------------------------------------


def test_no_block_of_python_escapes() -> None:
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```python") == len(blocks(page)), name_of(page)
    assert sum(block.reason is None for page in WITH_CODE for block in blocks(page)) >= 10


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page.name != "README.md"], ids=name_of)
def test_the_python_of_a_guide_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks(page):
        if block.reason is None:
            block.run(names)
        else:
            compile(block.code, f"{page}:{block.line}", "exec")


def test_the_ten_lines_of_the_readme_find_the_left_mode_and_work_unchanged_with_a_trained_run(tmp_path: Path) -> None:
    first, names = blocks(ROOT / "README.md")[0], dict[str, Any]()
    first.run(names)
    for x in (names["last"].x, names["x"]):
        assert abs(float((x[:, 0] < 0).double().mean()) - 0.8) < 5 * (0.8 * 0.2 / 1000) ** 0.5
    said = re.search(r'`(field = load_field\("runs/digits"\))`', (ROOT / "README.md").read_text(encoding="utf-8"))
    assert said is not None
    small = ("network.width=8", "data.examples=100", "training.precision=float32", "training.pictures=0")
    app.train("two-moons", out=tmp_path / "moons", steps=2, settings=small)
    lines = first.code.splitlines()
    (at,) = [index for index, line in enumerate(lines) if line.startswith("field = ")]
    lines[at] = said[1].replace("runs/digits", str(tmp_path / "moons"))
    names = {"load_field": load_field}
    exec(compile("\n".join(lines), "README.md", "exec"), names)
    assert bool(names["last"].x.isfinite().all()) and isinstance(names["field"], ScoreModel)


def test_the_network_of_the_readme_learns_the_ring() -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    blocks(ROOT / "README.md")[1].run(names)
    x = names["x"]
    radius = x.norm(dim=1)
    said = re.search(r"# radius ([\d.]+) ± ([\d.]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert said is not None
    mean, std = float(said[1]), float(said[2])
    assert abs(float(radius.mean()) - mean) < 0.02 and abs(float(radius.std()) - std) < 0.03
    assert float(x.mean(dim=0).norm()) < 5 * (0.5 / 1000) ** 0.5 + 0.05, "all around, up to what a small network errs"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `scorefield` of every command in code: of indented blocks, of console blocks, and in lines."""
    text = re.sub(r"^```console\n(.*?)^```$", lambda block: re.sub(r"^", "    ", block[1], flags=re.M), text, flags=re.M | re.S)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S).replace("\\\n", " ")
    for line in text.splitlines():
        shown = re.match(r"    (?:\$ )?(?:torchrun .*-m )?scorefield (\S.*)", line)
        for words in [shown[1]] if shown else re.findall(r"`(?:torchrun [^`]*-m )?scorefield ([^`]+)`", line):
            yield shlex.split(words, comments=True)


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return why a command does not parse; of a verb alone, which a sentence names, only whether there is one."""
    if words[0] in ("VERB", "--help", "--version"):
        return None
    if words[0] not in cli.VERBS:
        return f"no verb {words[0]}"
    if len(words) == 1:
        return None
    try:
        cli.parsed(words)
    except SystemExit as stop:
        return None if stop.code == 0 else " ".join(capsys.readouterr().err.split())[-300:]
    return None


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("    scorefield sample runs/a -n 64 --gif   # a comment", True),
        ("```console\ntorchrun --nproc-per-node 2 -m scorefield train photos/ --time 8h\n```", True),
        ("or `scorefield verify RUN`, which", True),
        ("    scorefield sample runs/a --giff", False),
        ("    scorefield sample runs/a -n many", False),
        ("    scorefield smaple runs/a", False),
        ("as `scorefield sample` does", True),
        ("    scorefield export runs/a", False),
    ],
)
def test_a_command_that_would_not_parse_is_recognised(line: str, right: bool, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = commands(line)
    assert (refusal(words, capsys) is None) == right


def test_every_command_of_the_docs_parses(capsys: pytest.CaptureFixture[str]) -> None:
    found = [(name_of(page), words) for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
    said = [f"{page}: scorefield {' '.join(words)}: {why}" for page, words in found if (why := refusal(words, capsys))]
    assert not said, "\n".join(said)
    assert {words[0] for _, words in found} >= set(cli.VERBS), "every verb is shown somewhere"


# --- links ------------------------------------------------------------------------------------------------------------


def targets(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as its place on the web makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_something(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{name_of(page)}: {target}"
        assert place.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(place), f"{name_of(page)}: {target}"


def test_in_the_book_links_to_other_files_of_the_repository_are_downloads_and_no_other_link_changes() -> None:
    inside_out = runpy.run_path(str(ROOT / "docs" / "_ext" / "outside.py"), run_name="outside")["inside_out"]
    page, outside = ROOT / "docs" / "guides" / "photos.md", "../../benchmarks/results/denoise.md"
    kept = f"[tables](tables.md) [here](#draw) [away](https://example.org) ![picture]({outside}) [none](../../no/such.md)"
    text = inside_out(f"[denoise.md]({outside}) {kept}", page, ROOT / "docs")
    assert text == f"{{download}}`denoise.md <{outside}>` {kept}"


def test_every_guide_is_in_the_table_of_guides_and_linked_by_the_readme() -> None:
    listed = set(re.findall(r"^([\w-]+)$", (ROOT / "docs" / "guides" / "index.md").read_text(encoding="utf-8"), re.M))
    linked = {Path(target).stem for target in targets(ROOT / "README.md") if target.startswith("docs/guides/")}
    names = {page.stem for page in GUIDES} - {"index"}
    assert names <= listed and names <= linked


def test_the_readme_can_be_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
