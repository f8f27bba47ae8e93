"""Evaluate: real data score like real data, copies are called copies, the page is whole, one question has one answer."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_evaluations
from PIL import Image
from torch import Tensor

from scorefield import ScorefieldError, app, registry
from scorefield.cli import main
from scorefield.drawing import Drawing
from scorefield.evaluation import html, parts
from scorefield.evaluation.html import page
from scorefield.evaluation.reference import reference_of
from scorefield.metrics.base import Estimate
from scorefield.metrics.features import learn
from scorefield.runs import open_run

SMALL = (
    *("network.channels=8,16", "network.blocks=1", "training.batch=16"),
    *("training.precision=float32", "training.pictures=0", "training.ema=0.999"),
)


NARROW = ("network.width=16", "network.depth=1", "training.precision=float32", "training.pictures=0")


@pytest.fixture(scope="module", autouse=True)
def short_lessons() -> Iterator[None]:
    """Extractors learn for a third of the time: they have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefield.evaluation.reference.extractors.learn", partial(learn, steps=200))
        yield


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits that has learned next to nothing, and has been evaluated once: its extractor is there."""
    folder = tmp_path_factory.mktemp("evaluate") / "digits"
    app.train("digits", out=folder, steps=8, settings=SMALL)
    reference_of(open_run(folder))
    return folder


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "moons"
    app.train("two-moons", out=folder, steps=8, settings=("data.examples=1000", *NARROW))
    return folder


Drawn = Callable[[Tensor], None]


@pytest.fixture(scope="module", autouse=True)
def once_for_all() -> Iterator[None]:
    """What depends on the run's weights alone is measured once: likelihoods and the diagnosis on few examples, its plot."""
    known = dict[tuple[str, str], Any]()

    def once(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def measured(run: Any, *rest: Any, **named: Any) -> Any:
            key = name, str(run.manifest["model_sha256"])
            if key not in known:
                known[key] = real(run, *rest, **named)
            return known[key]

        return measured

    plots, plot = dict[str, Any](), html._levels

    def levels(found: Any) -> Any:
        return plots.get(str(found)) or plots.setdefault(str(found), plot(found))

    with pytest.MonkeyPatch.context() as patch:
        small_evaluations(patch)
        for name in ("measure_likelihood", "bound_gap", "diagnosis_of"):
            patch.setattr(parts, name, once(name, getattr(parts, name)))
        patch.setattr(html, "_levels", levels)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Call with examples in model space: they are what the run draws from then on."""

    def put(x: Tensor) -> None:
        monkeypatch.setattr(Drawing, "draw", lambda _, n, **__: x[:n].double())

    return put


# What real data score


def test_held_out_images_against_themselves_are_perfect_and_no_copies(digits: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    drawn(data.normaliser.encode(data.held_out[:]))
    report = app.evaluate(digits, n=len(data.held_out))
    assert {name: report.figures[name].value for name in ("precision", "recall", "coverage")} == dict.fromkeys(
        ("precision", "recall", "coverage"), 1.0
    )
    assert abs(report.figures["frechet"].value) < 1e-6
    assert report.figures["sliced-wasserstein"].value == 0.0
    assert not report.memorisation.copies
    assert report.accuracy is not None and report.accuracy > 0.95
    assert [share.value for share in report.classes.values()] == pytest.approx(list(report.real_classes.values()), abs=1e-12)
    assert any("no sign of copying" in sentence for sentence in report.verdict)


def test_training_images_score_as_the_floor_does_in_every_figure_and_only_the_verdict_tells(digits: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    drawn(data.normaliser.encode(data.train[:]))
    report = app.evaluate(digits, n=len(data.train))
    for name, figure in report.figures.items():
        assert figure.value == pytest.approx(report.floor[name].value, abs=1e-9), name  # all of them, in another order
    assert report.memorisation.copies
    assert all(one.copied.value > 0.9 for one in report.memorisation.spaces.values())
    assert any("copies of training examples" in sentence for sentence in report.verdict)


def test_noise_is_worse_than_the_floor_in_every_figure(digits: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(300, *data.shape)))
    drawn(data.normaliser.encode(data.train[:300]) + noise)
    report = app.evaluate(digits, n=300)
    for name, figure in report.figures.items():
        worse = (figure.value - report.floor[name].value) * (1 if report.better[name] == "lower" else -1)
        assert worse > 5 * report.floor[name].standard_error, name
    assert any("real data drawn independently" in sentence and "no difference" not in sentence for sentence in report.verdict)


def test_samples_are_compared_at_the_values_that_data_can_have(digits: Path, drawn: Drawn) -> None:
    """Digits have 17 grey levels: less than half a level of noise changes no figure."""
    data = open_run(digits).data
    x = data.normaliser.encode(data.held_out[:])
    drawn(x + 0.9 * (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 0.5) / 8)
    report = app.evaluate(digits, n=len(x))
    assert report.figures["sliced-wasserstein"].value == 0.0


# What is kept, and what is written


def test_the_same_question_has_one_answer_and_a_damaged_cache_is_made_again(
    digits: Path, tmp_path: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorefield.evaluation.reference.extractors.learn", partial(learn, steps=10))  # it learns twice
    run = tmp_path / "run"
    shutil.copytree(digits, run, ignore=shutil.ignore_patterns("evaluation"))
    data = open_run(run).data
    drawn(data.normaliser.encode(data.train[:100]))
    first = app.evaluate(run, n=100)
    again = app.evaluate(run, n=100)
    kept = sorted((run / "evaluation").iterdir())
    assert {path.name.partition("-")[0] for path in kept} == {"extractor", "floor", "reference"}
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    anew = app.evaluate(run, n=100)
    timeless = [replace(report, seconds=0.0, verdict=report.verdict[:-1]) for report in (first, again, anew)]
    assert asdict(timeless[1]) == asdict(timeless[0])
    assert asdict(timeless[2]) == asdict(timeless[0])


class Page(HTMLParser):
    """What a page is made of: its tags, what it would fetch, and its text."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.links, self.images, self.text = list[str](), list[str](), list[bytes](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        self.open += [tag] * (tag not in self.VOID)
        for name, value in attrs:
            if name in ("src", "href") and value is not None:
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_fetches_nothing_and_says_what_the_report_says(digits: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    drawn(data.normaliser.encode(data.train[:100]))
    report = app.evaluate(digits, n=100)
    figures, table, file = report.written
    text = file.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.links) == 4 and all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert not re.search(r"https?://|url\(|@import", text)
    for sentence in report.verdict:
        assert sentence in parsed.text
        assert sentence in table.read_text(encoding="utf-8")
    for name, figure in report.figures.items():
        assert str(figure) in parsed.text and report.labels[name] in parsed.text
    plain = json.loads(figures.read_text(encoding="utf-8"))
    assert plain["figures"]["frechet"]["value"] == report.figures["frechet"].value
    assert plain["extractor"]["hash"] == report.extractor["hash"] and report.extractor["hash"] in parsed.text
    assert set(plain["figures"]) == set(registry.names("metric"))


def test_a_hostile_class_name_stays_text(digits: Path, drawn: Drawn) -> None:
    data, share = open_run(digits).data, Estimate(0.5, 0.1)
    drawn(data.normaliser.encode(data.train[:40]))
    report = app.evaluate(digits, n=40)
    odd = replace(report, run="<b>run</b>", classes={"<script>alert(1)<": share}, real_classes={"<script>alert(1)<": 0.5})
    text = page(odd, {}, pixels=True)
    assert "<script" not in text and "&lt;script&gt;" in text and "<b>run" not in text


def test_training_examples_that_were_not_looked_at_for_copies_are_counted(moons: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("copies" in sentence for sentence in app.evaluate(moons, n=50).left_out)
    for limit in ("HELD_OUT", "KNOWN"):
        monkeypatch.setattr(f"scorefield.evaluation.reference.{limit}", 100)
    assert any("100 of 900 training examples" in sentence for sentence in app.evaluate(moons, n=50).left_out)


def test_real_examples_seen_by_another_version_or_on_other_limits_are_seen_anew(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is named by what it was made from, so a later version neither reads nor overwrites it."""
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    own, lessons = reference_of(open_run(run)).extractor, list[int]()

    def learn_again(*_: Any, **__: Any) -> Any:
        lessons.append(1)
        return own

    monkeypatch.setattr("scorefield.evaluation.reference.extractors.learn", learn_again)
    assert len(reference_of(open_run(run)).held_out_rows) == 599
    assert lessons == []
    monkeypatch.setattr("scorefield.evaluation.reference.HELD_OUT", 100)
    assert len(reference_of(open_run(run)).held_out["features"]) == 100
    assert len(lessons) == 1
    monkeypatch.setattr("scorefield.__version__", "0.0.0")
    reference_of(open_run(run))
    assert len(lessons) == 2
    reference_of(open_run(run))
    assert len(lessons) == 2


# A part that fails


def test_a_metric_that_fails_is_left_out_by_name_and_the_others_are_what_they_were(
    moons: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = app.evaluate(moons, n=40)

    def fail(*_: Any) -> Any:
        raise RuntimeError("can't allocate memory: you tried\nto allocate much")

    with monkeypatch.context() as patch:
        patch.setattr(registry.find("metric", "frechet"), "__call__", fail)
        patch.setattr("scorefield.evaluation.reference.FLOORS", 2)  # none that is kept
        report = app.evaluate(moons, n=40)
    assert report.figures == {name: figure for name, figure in whole.figures.items() if name != "frechet"}
    assert report.floor.keys() == whole.floor.keys() - {"frechet"}
    (left,) = [sentence for sentence in report.left_out if sentence not in whole.left_out]
    assert left == "FD-identity: RuntimeError: can't allocate memory: you tried"
    assert left in report.written[1].read_text() and left in report.written[2].read_text().replace("&#39;", "'")
    main(["inspect", str(moons)])
    assert "sliced-wasserstein" in capsys.readouterr().out
    monkeypatch.setattr("scorefield.evaluation.reference.FLOORS", 2)
    assert reference_of(open_run(moons)).floors(40)[0].keys() == whole.floor.keys()  # one with a gap was not kept


def test_parts_that_run_out_of_memory_are_left_out_and_the_figures_are_written(
    moons: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = app.evaluate(moons, n=40)

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    for part in ("memorisation", "classes_of", "marginals_of", "diagnosis_of", "measure_likelihood"):
        monkeypatch.setattr(parts, part, fail)
    monkeypatch.setattr(html, "picture_of", fail)
    report = app.evaluate(moons, n=40)
    assert (report.figures, report.floor) == (whole.figures, whole.floor)
    named = ("classes", "likelihood", "error of the score", "copying", "columns")
    assert report.left_out == tuple(f"{part}: MemoryError" for part in named)
    assert report.verdict[:2] == whole.verdict[:2]
    figures, table, file = (path.read_text(encoding="utf-8") for path in report.written)
    assert json.loads(figures)["figures"]["frechet"]["value"] == whole.figures["frechet"].value
    assert "Not measured: copying: MemoryError" in table
    assert Page(file).open == [] and "Not measured: copying: MemoryError" in file


def test_a_baseline_that_cannot_be_drawn_is_left_out(moons: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = Drawing.draw, list[int]()

    def once(*arguments: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise MemoryError
        return real(*arguments, **named)

    monkeypatch.setattr(Drawing, "draw", once)
    report = app.evaluate(moons, n=40, against=moons)
    assert report.baseline is None and len(report.figures) > 5
    assert any(sentence.startswith(f"comparison with {moons}: MemoryError") for sentence in report.left_out)


@pytest.mark.parametrize("kind", ["images", "array", "table"])
def test_too_few_samples_to_compare_with_are_refused_before_any_are_drawn(
    kind: str, digits: Path, moons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Drawing, "draw", lambda *_, **__: pytest.fail("it drew"))
    place, run = tmp_path / kind, moons
    if kind == "images":
        run = digits
        place.mkdir()
        for i in range(10):
            Image.new("L", (8, 8), i).save(place / f"{i}.png")
    elif kind == "array":
        np.save(place := tmp_path / "few.npy", np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32))
    else:
        rows = "\n".join(f"{i},{i * i % 7}" for i in range(40))
        (tmp_path / "all.csv").write_text(f"a,b\n{rows}\n")
        place = tmp_path / "few.csv"
        place.write_text("a,b\n" + "\n".join(rows.splitlines()[:10]))
        run = app.train(tmp_path / "all.csv", out=tmp_path / "run", steps=1, settings=("data.held_out=0.5",)).folder
    with pytest.raises(ScorefieldError, match=r"got 10 samples in --against .*, expected at least 20, which the metrics need"):
        app.evaluate(run, n=30, against=place)


# Vectors, tables and baselines


def test_vectors_are_measured_in_their_own_coordinates(moons: Path) -> None:
    report = app.evaluate(moons, n=200)
    assert report.extractor["name"] == "identity"
    assert report.labels["frechet"] == "FD-identity"
    assert report.accuracy is None and report.classes == {}
    assert report.likelihood is not None and report.likelihood.unit == "nats"


def test_a_run_against_its_own_samples_in_a_file_differs_by_rounding_only(moons: Path, tmp_path: Path) -> None:
    app.sample(moons, n=200, out=tmp_path / "samples.npz")
    report = app.evaluate(moons, n=200, against=tmp_path / "samples.npz")
    assert report.baseline is not None and report.baseline.samples == 200 and report.baseline.seconds is None
    for name, figure in report.figures.items():
        assert report.baseline.figures[name].value == pytest.approx(figure.value, rel=1e-3, abs=1e-5), name


def test_a_run_against_itself_is_no_better(moons: Path) -> None:
    report = app.evaluate(moons, n=100, against=moons)
    assert report.baseline is not None
    assert report.baseline.figures == report.figures
    assert set(report.baseline.better_by.values()) == {0.0}


def test_a_baseline_that_is_real_is_better_than_noise(digits: Path, tmp_path: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    folder = tmp_path / "real"
    folder.mkdir()
    for i, image in enumerate(data.train[:200]):
        Image.fromarray((image[0].double() * 255 / 16).round().to(torch.uint8).numpy()).save(folder / f"{i}.png")
    drawn(torch.from_numpy(np.random.default_rng(0).normal(size=(200, *data.shape))))
    report = app.evaluate(digits, n=200, against=folder)
    assert report.baseline is not None
    assert all(gain < -2 for gain in report.baseline.better_by.values())
    reference = reference_of(open_run(digits))
    real = reference.figures(reference.sets(data.train[:200]))
    for name, figure in real.items():  # 17 grey levels survive the way through 8 bits; the files are read in another order
        assert report.baseline.figures[name].value == pytest.approx(figure.value, abs=1e-9), name


def test_a_table_is_compared_with_the_rows_of_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{3 * kind + 0.1 * rng.normal():.6f},{'red' if kind else 'blue'},{7 * kind}" for kind in rng.integers(0, 2, 400)]
    (tmp_path / "all.csv").write_text("\n".join(["number,colour,count", *rows]))
    one_kind = [row for row in rows if "red" in row][:100]
    (tmp_path / "few.csv.gz").write_bytes(gzip.compress("\n".join(["number,colour,count", *one_kind]).encode()))
    run = tmp_path / "run"
    app.train(str(tmp_path / "all.csv"), out=run, steps=20, settings=NARROW)
    report = app.evaluate(run, n=100, against=tmp_path / "few.csv.gz")
    assert report.baseline is not None and report.baseline.better_by["energy"] > 2
    assert report.likelihood is not None and report.likelihood.separate == ("colour", "count")
    truth = math.log(0.5) - 0.5 * math.log(2 * math.pi * math.e * 0.1**2)  # of the kind, and of the number given the kind
    assert report.likelihood.flow.value < truth + 5 * report.likelihood.flow.standard_error


# Bad input


def test_too_few_samples_are_refused_with_the_number_that_is_needed_before_anything_is_drawn(
    digits: Path, drawn: Drawn
) -> None:
    drawn(torch.zeros(0))
    with pytest.raises(ScorefieldError, match="got 19 samples, expected at least 20"):
        app.evaluate(digits, n=19, progress=lambda *_: pytest.fail("it began"))


def wrong(run: Path, *words: str) -> tuple[str, ...]:
    return ("evaluate", str(run), "--samples", "30", *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--features", "lite1"), "did you mean 'lite0'"),
        (("--features", "identity"), "an extractor of images: use data or lite0"),
        (("--features", "EMPTY/none.safetensors"), "none.safetensors"),
        (("--against", "EMPTY"), "no images|expected"),
        (("--against", "EMPTY/none"), "does not exist"),
        (("--html", "EMPTY/none/page.html"), "a folder that does not exist"),
        (("--sampler", "huen"), "did you mean 'heun'"),
    ],
)
def test_a_wrong_word_gets_one_sentence_and_exit_code_2(
    words: tuple[str, ...], says: str, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in digits.iterdir()}
    with pytest.raises(SystemExit) as exit_:
        main(list(wrong(digits, *(word.replace("EMPTY", str(tmp_path)) for word in words))))
    assert exit_.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("evaluating")]
    assert len(lines) == 1 and re.search(says, lines[0]), lines
    assert {path.name for path in digits.iterdir()} == before
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_there_is_not_overwritten_unasked(digits: Path, tmp_path: Path, drawn: Drawn) -> None:
    data = open_run(digits).data
    drawn(data.normaliser.encode(data.train[:40]))
    file = tmp_path / "page.html"
    file.write_text("mine")
    with pytest.raises(ScorefieldError, match=r"page\.html"):
        app.evaluate(digits, n=40, html=file)
    assert file.read_text() == "mine"
    app.evaluate(digits, n=40, html=file, force=True)
    assert file.read_text().startswith("<!doctype html>")


def test_a_run_with_too_few_held_out_examples_says_how_many_it_needs(tmp_path: Path) -> None:
    run: Any = tmp_path / "run"
    app.train("two-moons", out=run, steps=2, settings=("data.examples=100",))
    with pytest.raises(ScorefieldError, match=r"got 10 held-out examples, expected at least 20: .*data.held_out"):
        app.evaluate(run, n=50)
