"""What a notebook shows of runs, samples and evaluations: their own numbers and pictures, inside, and any text escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import small_evaluations

from scorefield import app, fragments
from scorefield.evaluation.report import QualityReport
from scorefield.runs import Run, open_run

SMALL = ("network.channels=[8]", "network.blocks=1", "training.batch=16", "training.precision=float32", "training.ema=0.9")
NASTY = "<script>alert('&')</script>"


class Page(HTMLParser):
    """The tags, the cells of tables and the pictures of a fragment; a tag that is not closed is remembered."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.cells, self.images = list[str](), set[str](), list[str](), list[tuple[str, bytes]]()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", dict(attributes)["src"] or "").groups()  # type: ignore[union-attr]
            self.images.append((kind, base64.b64decode(data, validate=True)))
            assert dict(attributes)["alt"]
            return
        self.open.append(tag)
        if tag in ("td", "th", "li", "pre"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th", "li", "pre"):
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("fragments") / "run & <b>run"
    app.train("digits", out=folder, steps=4, settings=(*SMALL, "training.pictures=2"))
    return open_run(folder)


@pytest.fixture(scope="module")
def quality(tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    folder = tmp_path_factory.mktemp("fragments") / "moons"
    settings = ("data.examples=200", "training.precision=float32", "training.pictures=0")
    app.train("two-moons", out=folder, steps=4, settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        small_evaluations(patch)
        return app.evaluate(folder, n=50, sampler="ddim", steps=4)


def shown(value: object) -> Page:
    page = Page(value._repr_html_())  # type: ignore[attr-defined]
    assert not page.open, "every tag is closed"
    assert page.tags <= {"p", "b", "ul", "li", "table", "tr", "td", "th", "img", "pre"}
    return page


def test_a_run_shows_its_manifest_and_its_last_preview(run: Run) -> None:
    page = shown(run)
    facts = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    assert facts["examples"] == "1,198, and 599 held out"
    assert facts["trained"].startswith("4 steps, ") and "not finished" not in facts["trained"]
    assert facts["network"] == "unet" and facts["classes"] == ", ".join("0123456789")
    last = sorted((run.path / "previews").glob("*.png"))[-1]
    assert page.images == [("png", last.read_bytes())]
    unfinished = replace(run, manifest=run.manifest | {"progress": {"step": 3, "seconds": 1.0, "finished": False}})
    assert "3 steps, 1 s, not finished" in shown(unfinished).cells


def test_samples_show_every_picture_that_was_written_and_one_that_is_gone_not(run: Run, tmp_path: Path) -> None:
    report = app.sample(run.path, n=4, steps=3, out=tmp_path / "few.png", gif=True)
    contents = [(path.suffix[1:], path.read_bytes()) for path in report.written]
    assert shown(report).images == contents and [kind for kind, _ in contents] == ["png", "gif"]
    assert "4 samples by abm, 3 evaluations each" in report._repr_html_()
    (tmp_path / "few.gif").unlink()
    assert shown(report).images == contents[:1]
    assert str(tmp_path / "few.gif") in report._repr_html_()


def test_samples_of_a_table_show_its_header_and_its_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text(f"a,b\n1,{NASTY}\n" + "".join(f"{i},x\n" for i in range(2, 20)))
    report = app.SampleReport((path,), 19, None, 0, 0, note="a note", given="b = x")
    page = shown(report)
    assert page.cells == ["\n".join(path.read_text().splitlines()[:6]), "a note"]
    assert "19 samples given b = x" in report._repr_html_()


def test_an_evaluation_shows_its_verdict_its_figures_and_the_samples_of_its_page(quality: QualityReport) -> None:
    page = shown(quality)
    assert page.cells[: len(quality.verdict)] == list(quality.verdict)
    for name, value in quality.figures.items():
        at = page.cells.index(quality.labels[name])
        assert page.cells[at + 1] == str(value) and page.cells[at + 2] == str(quality.floor.get(name, "-"))
    ((kind, content),) = page.images
    html = next(path for path in quality.written if path.suffix == ".html").read_text()
    assert kind == "png" and f'src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="Samples"' in html
    assert f"everything: {quality.written[-1]}" in page.cells


def test_the_picture_is_no_part_of_the_values_of_a_report(quality: QualityReport) -> None:
    assert quality.picture and "picture" not in quality.to_dict() and "picture=" not in repr(quality)
    assert not shown(replace(quality, picture=b"")).images


def test_no_text_of_anybody_becomes_a_tag(quality: QualityReport) -> None:
    parts = (
        fragments.heading(NASTY),
        fragments.sentences([NASTY]),
        fragments.table([[NASTY], [NASTY]]),
        fragments.text([NASTY]),
        fragments.image(b"x", "png", f'"{NASTY}'),
        replace(quality, run=NASTY, verdict=(NASTY,), labels=dict.fromkeys(quality.labels, NASTY))._repr_html_(),
    )
    for part in parts:
        assert "<script" not in part and "script" not in Page(part).tags
        assert NASTY in unescape(part)
