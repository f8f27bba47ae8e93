"""Where samples go: as they were drawn, whatever the batch and the file; and no file of a person's is lost on the way."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import contents, each_case
from PIL import Image
from torch import Tensor

from scorefield import ScorefieldError, app, files, outputs, pictures, registry
from scorefield.config import DataConfig, override, to_dict
from scorefield.data import open_source
from scorefield.data.table.coordinates import snapped
from scorefield.drawing import Drawing, SampleSpec, choose_sampler, labels_of
from scorefield.outputs import parquet, picture, text
from scorefield.outputs.base import Output, Writer
from scorefield.recipes import data_stats
from scorefield.runs import Run, build_model, classes_of, manifest_of, open_run, save_model

SMALL = {
    "image": ("network=residual", "network.width=8", "network.blocks=1"),
    "signal": ("network.channels=8,8", "network.blocks=1"),
}


def made(folder: Path, source: Path, *, step: int = 1) -> Path:
    """Return a run's folder with fresh weights that says it was trained for a step."""
    data = open_source(str(source), DataConfig())
    stats = data_stats(data)
    config = registry.find("recipe", "auto")(stats).config
    config = override(replace(config, source=str(source)), [*SMALL.get(data.kind, ("network.width=8",)), "levels=3"])
    model = build_model(config, data.shape, stats.std, stats.mean, classes=classes_of(config, data.classes))
    manifest = manifest_of(data, stats.std, (), 0)
    manifest["progress"]["step"] = step
    folder.mkdir()
    save_model(folder, model, manifest)
    files.write_json(folder / "config.json", to_dict(config))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind: colour and grey images, signals and vectors with three classes, and a table."""
    place, rng = tmp_path_factory.mktemp("outputs"), np.random.default_rng(0)
    labels = np.arange(60) % 3
    np.savez(place / "colour.npz", images=rng.integers(0, 256, (60, 4, 6, 3), dtype=np.uint8), labels=labels)
    np.save(place / "grey.npy", rng.integers(0, 256, (60, 4, 6), dtype=np.uint8))
    np.savez(place / "signal.npz", x=rng.normal(size=(60, 2, 16)).astype(np.float32), labels=labels)
    np.savez(place / "vector.npz", x=rng.normal(size=(60, 3)).astype(np.float32), labels=labels)
    with (place / "table.csv").open("w") as file:
        file.write("height,count,colour,day,same\n")
        for i in range(60):
            colour = ("blue", "red", "")[i % 3]
            file.write(f"{rng.normal(170, 10):.1f},{rng.integers(0, 9)},{colour},2024-01-{1 + i % 28:02d},7\n")
    sources = ("colour.npz", "grey.npy", "signal.npz", "vector.npz", "table.csv")
    return {name.partition(".")[0]: made(place / name.partition(".")[0], place / name) for name in sources}


def raw_of(run: Run, n: int) -> Tensor:
    """The samples themselves, drawn at once."""
    return run.decode(Drawing.of(run, SampleSpec()).draw(n, batch=5))


# --- the same samples in every kind of file ----------------------------------------------------------------------------

N = 12  # in batches of 5: two full ones and a rest


def test_images_are_their_8_bit_pixels_in_every_kind_of_file(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("colour", "grey"):
        run = open_run(runs[name])
        pixels = np.round(np.clip(raw_of(run, N).numpy(), 0, 255)).astype(np.uint8)  # the affine map's raw values are 0 to 255
        pixels = pixels.transpose(0, 2, 3, 1) if name == "colour" else pixels[:, 0]
        for out in (f"{name}.npz", f"{name}.png", name):
            app.sample(runs[name], n=N, batch=5, out=tmp_path / out)
        with np.load(tmp_path / f"{name}.npz") as file:
            assert file["images"].dtype == np.uint8 and np.array_equal(file["images"], pixels)
        for index in range(N):
            assert np.array_equal(np.asarray(Image.open(tmp_path / name / f"{index:05d}.png")), pixels[index])
        canvas = np.asarray(Image.open(tmp_path / f"{name}.png"))
        for index, (row, column) in enumerate(itertools.product(range(3), range(4))):
            top, left = 2 + row * (8 * 4 + 2), 2 + column * (8 * 6 + 2)  # eight times enlarged, two pixels between neighbours
            seen = canvas[top : top + 32 : 8, left : left + 48 : 8]
            assert np.array_equal(seen if name == "colour" else seen[..., 0], pixels[index])


def test_an_npz_holds_the_bytes_that_numpy_itself_would_write(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in runs:
        run, target = open_run(runs[name]), tmp_path / f"{name}.npz"
        app.sample(runs[name], n=N, batch=5, out=target)
        with np.load(target) as file:
            arrays = dict(file)
        np.savez(tmp_path / "again.npz", **arrays)
        assert (tmp_path / "again.npz").read_bytes() == target.read_bytes(), name
        if run.kind != "image":
            assert arrays["x"].dtype == (np.float64 if run.kind == "table" else np.float32), name
            raw = raw_of(run, N)
            expected = snapped(raw, run.manifest["data"]["columns"]) if run.kind == "table" else raw
            assert np.array_equal(arrays["x"], expected.numpy().astype(arrays["x"].dtype)), name


@pytest.mark.parametrize("label", [None, "2", 1])
def test_labelled_samples_say_their_class_whatever_they_are(
    runs: dict[str, Path], tmp_path: Path, label: str | int | None
) -> None:
    for name in ("colour", "signal", "vector"):
        run = open_run(runs[name])
        labels = labels_of(run, range(N), seed=4, label=label)
        assert labels is not None and run.classes == ("0", "1", "2")
        app.sample(runs[name], n=N, batch=5, seed=4, label=label, out=tmp_path / f"{name}.npz")
        with np.load(tmp_path / f"{name}.npz") as file:
            assert file["labels"].tolist() == labels.tolist()
            assert file["classes"].tolist() == ["0", "1", "2"]
    app.sample(runs["colour"], n=N, batch=5, seed=4, label=label, out=tmp_path / "folder")
    _, *lines = (tmp_path / "folder" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["class"] for line in lines] == [str(number) for number in labels.tolist()]
    assert label is None or set(labels.tolist()) == {int(label)}


def test_a_table_comes_back_in_its_own_types_and_is_the_same_in_every_kind_of_file(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import read_table

    run = open_run(runs["table"])
    for ending in ("csv", "tsv", "parquet", "npy", "npz"):
        app.sample(runs["table"], n=40, batch=7, out=tmp_path / f"more.{ending}")
    table = read_table(tmp_path / "more.parquet")
    types = [pyarrow.float64(), pyarrow.int64(), pyarrow.string(), pyarrow.date32(), pyarrow.int64()]
    assert table.schema.types == types and table.num_rows == 40
    columns = table.to_pydict()
    assert set(columns["same"]) == {7} and set(columns["colour"]) <= {"blue", "red", None}
    assert all(isinstance(day, date) for day in columns["day"])
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"more.{ending}").open(newline="") as file:
            head, *rows = csv.reader(file, delimiter=delimiter)
        assert head == list(columns)
        shown = [["" if value is None else str(value) for value in row] for row in zip(*columns.values(), strict=True)]
        assert rows == shown
    x = np.load(tmp_path / "more.npy")
    assert np.array_equal(x, snapped(raw_of(run, 40), run.manifest["data"]["columns"]).numpy())
    assert np.array_equal(x, np.load(tmp_path / "more.npz")["x"])


@pytest.mark.parametrize("out", ["more.parquet", "more.csv", "x.npy"])
def test_the_bytes_of_a_table_do_not_depend_on_the_batch(runs, tmp_path, monkeypatch, out: str) -> None:
    """Groups of rows are as long for every batch: of 35 cells, 7 rows of five columns."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "CELLS", 35)
    raw = raw_of(open_run(runs["table"]), 20)  # a network adds in another order for another batch: the same numbers for both
    written = []
    for batch in (3, 20):
        target = tmp_path / f"{batch}-{out}"
        with Output(open_run(runs["table"]), 20, target).writing() as add:
            for part in raw.split(batch):
                add(part, None)
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_an_animation_shows_the_first_samples_whatever_the_batch(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("grey", "colour"):
        frames = []
        for batch in (2, N):
            app.sample(runs[name], n=N, batch=batch, out=tmp_path / f"{name}-{batch}.png", gif=True)
            with Image.open(tmp_path / f"{name}-{batch}.gif") as film:
                film.seek(film.n_frames - 1)
                frames.append((film.n_frames, np.asarray(film.convert("RGB"), dtype=int)))
        (count, few), (other, many) = frames
        assert count == other and few.shape == many.shape, name
        assert np.mean(np.abs(few - many) > 8) < 0.01, name  # a batch of another size rounds otherwise


def test_a_plot_of_very_many_samples_shows_the_first_of_them_and_says_so(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(picture, "PLOTTED", 8)
    report = app.sample(runs["vector"], n=N, batch=5, out=tmp_path / "x.png")
    assert report.note is not None and "shows the first 8 of 12 samples" in report.note
    shown = raw_of(open_run(runs["vector"]), 8)
    assert (tmp_path / "x.png").read_bytes() == pictures.png(pictures.scatter(shown))
    assert app.sample(runs["vector"], n=8, out=tmp_path / "y.png").note is None
    assert app.sample(runs["vector"], n=N, out=tmp_path / "all.npz").note is None


def test_a_picture_too_large_to_be_opened_is_refused_before_anything_is_drawn(runs: dict[str, Path], tmp_path: Path) -> None:
    """A grid of k x k images of 4 x 6 enlarged or not, takes 6k·8k pixels and a little more: 2^26 for k = 1,182."""
    asked = {"out": tmp_path / "grid.png", "progress": lambda *_: pytest.fail("something was drawn")}
    with pytest.raises(ScorefieldError, match=r"got 1,500,000 images of 4x6 for one picture, .*: lower -n, or choose"):
        app.sample(runs["colour"], n=1_500_000, **asked)
    assert list(tmp_path.iterdir()) == []


def test_what_is_drawn_a_batch_at_a_time_is_what_is_drawn_at_once(runs: dict[str, Path]) -> None:
    run = open_run(runs["vector"])
    how = choose_sampler(run, SampleSpec())
    drawing = Drawing(run, *how, SampleSpec(seed=1))
    parts = list(drawing.batches(N, start=3, batch=5))
    assert [len(part) for part in parts] == [5, 5, 2]
    assert torch.equal(torch.cat(parts), drawing.draw(N, start=3, batch=5))
    for wrong in ({"n": 0}, {"n": 3, "batch": 0}):
        with pytest.raises(ScorefieldError, match="expected at least 1"):
            drawing.batches(**wrong)  # at once, and not when the first is asked for


def test_many_samples_take_no_more_memory_than_few(runs: dict[str, Path], tmp_path: Path) -> None:
    """12,000 numbers of 8 bytes a sample would be 96 MB for 1,000; what is held beside the file is a batch of 10."""
    import tracemalloc

    known = open_run(runs["vector"])
    data = known.manifest["data"] | {"shape": [12_000], "classes": []}
    del data["layout"]  # that of vectors
    run = Run(known.path, known.config, known.manifest | {"data": data})
    part = torch.zeros(10, 12_000, dtype=torch.float64)
    tracemalloc.start()
    for out in ("x.npz", "x.npy"):
        with Output(run, 1000, tmp_path / out).writing() as add:
            for _ in range(100):
                add(part, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 10 * 12_000 * 8
    assert np.load(tmp_path / "x.npy", mmap_mode="r").shape == (1000, 12_000)


# --- the table of file types -------------------------------------------------------------------------------------------


@each_case(one=outputs.FILE_TYPES)
def test_every_file_type_has_its_writer_and_is_named_in_the_help(one: outputs.FileType, runs: dict[str, Path]) -> None:
    run = open_run(runs["table" if one.only == "table" else "colour"])
    path = Path("x" if one.ending == "/" else f"x{one.ending}")
    assert isinstance(Output.of(run, 1, path).writer, Writer)
    assert ("a folder" if one.ending == "/" else one.ending) in outputs.help_text()


@pytest.mark.parametrize("name", ["colour", "signal", "vector", "table"])
def test_a_file_that_does_not_suit_the_data_is_refused_with_those_that_do(runs, tmp_path, name: str) -> None:
    run = open_run(runs[name])
    suitable = {one.ending for one in outputs.types_for(run.kind)}
    for ending in {".txt", "/", *(one.ending for one in outputs.FILE_TYPES)} - suitable:
        with pytest.raises(ScorefieldError, match=r"expected a name ending in .*: change (it|the ending)$") as refusal:
            app.sample(runs[name], n=1, out=tmp_path / ("x" if ending == "/" else f"x{ending}"))
        advice = str(refusal.value).partition("expected")[2]
        assert {word.strip(",:") for word in advice.split() if word.startswith(".")} == suitable - {"/"}
        assert ("or a folder" in advice) == ("/" in suitable)
    assert list(tmp_path.iterdir()) == []


def test_without_out_the_first_suitable_type_is_written_into_the_run(runs: dict[str, Path]) -> None:
    for name, file in (("colour", "samples-seed7.png"), ("table", "samples-seed7.csv")):
        assert Output.of(open_run(runs[name]), 1, None, seed=7).path == runs[name] / file


def test_a_report_is_plain_values(runs: dict[str, Path], tmp_path: Path) -> None:
    report = app.sample(runs["vector"], n=3, sampler="annealed-mala", steps=4, out=tmp_path / "x.npz")
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values == report.to_dict()
    assert values["written"] == [str(tmp_path / "x.npz")] and values["sampler"]["name"] == "annealed-mala"
    assert len(values["acceptance"]) == len(report.acceptance) > 0


# --- nobody's files are lost -------------------------------------------------------------------------------------------


def pictures_of(folder: Path, count: int) -> Path:
    """A folder with pictures of a person's own, called as ours are."""
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:05d}.png").write_bytes(b"mine, number %d" % index)
    return folder


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_files_of_a_persons_own_is_left_as_it_is(runs: dict[str, Path], tmp_path: Path, force: bool) -> None:
    mine = pictures_of(tmp_path / "mine", 20)
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a cat")
    (tmp_path / "nested" / "inside").mkdir(parents=True)
    before = contents(tmp_path)
    for name in ("mine", "link", "photos", "nested", "."):
        with pytest.raises(ScorefieldError, match=r"expected a new or an empty one: choose another name$") as refusal:
            app.sample(runs["grey"], n=2, out=tmp_path / name, force=force)
        assert "\n" not in str(refusal.value) and "--force" not in str(refusal.value)  # which would be refused as well
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["", ".", "..", ".png", "run"])
def test_an_out_that_names_no_place_of_its_own_is_refused_even_if_forced(runs, tmp_path, monkeypatch, out: str) -> None:
    shutil.copytree(runs["grey"], tmp_path / "run")
    pictures_of(tmp_path / "here", 2)
    monkeypatch.chdir(tmp_path / "here")
    before = contents(tmp_path)
    with pytest.raises(ScorefieldError, match="expected a"):
        app.sample(tmp_path / "run", n=1, out=tmp_path / "run" if out == "run" else out, force=True)
    assert contents(tmp_path) == before


def test_an_earlier_set_is_replaced_by_force_and_what_lies_beside_it_stays(runs: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "set"
    app.sample(runs["colour"], n=6, out=target)
    (target / "notes.txt").write_text("years of work")
    (target / "best").mkdir()
    (target / "99999.png").write_bytes(b"mine")
    before = contents(target)
    with pytest.raises(ScorefieldError, match=r"where there are samples already, .* or add --force"):
        app.sample(runs["colour"], n=3, seed=1, out=target)
    assert contents(target) == before
    app.sample(runs["colour"], n=3, seed=1, out=target, force=True)
    app.sample(runs["colour"], n=3, seed=1, out=tmp_path / "alone")
    ours = contents(tmp_path / "alone")
    assert ours.keys() == {"00000.png", "00001.png", "00002.png", "samples.jsonl"}
    assert contents(target) == {**ours, "notes.txt": b"years of work", "99999.png": b"mine"}
    assert (target / "best").is_dir()
    app.sample(runs["colour"], n=7, out=target, force=True)  # a larger set, where nothing is in the way
    assert len(contents(target)) == 7 + 3


@pytest.mark.parametrize("index", [1, 5], ids=["one that would be overwritten", "one that would be deleted"])
@pytest.mark.parametrize("how", ["edited", "a folder", "a link"])
def test_a_picture_that_changed_since_it_was_written_is_no_longer_ours(runs, tmp_path, index: int, how: str) -> None:
    target = tmp_path / "set"
    app.sample(runs["grey"], n=6, out=target)
    changed = target / f"{index:05d}.png"
    (tmp_path / "copy").write_bytes(changed.read_bytes())
    changed.unlink()
    if how == "edited":
        changed.write_bytes(b"retouched by hand")
    elif how == "a folder":
        changed.mkdir()
        (changed / "thesis.txt").write_text("years of work")
    else:
        changed.symlink_to(tmp_path / "copy")
    before = contents(tmp_path)
    with pytest.raises(ScorefieldError, match=rf"where 0000{index}\.png changed since scorefield sample wrote it"):
        app.sample(runs["grey"], n=3, out=target, force=True)
    assert contents(tmp_path) == before and changed.is_symlink() == (how == "a link")


def test_a_name_that_is_not_on_the_list_is_not_overwritten(runs: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "set"
    app.sample(runs["grey"], n=2, out=target)
    (target / "00004.png").write_bytes(b"mine")
    before = contents(target)
    with pytest.raises(ScorefieldError, match=r"where 00004\.png was not written by scorefield sample"):
        app.sample(runs["grey"], n=5, out=target, force=True)
    assert contents(target) == before
    app.sample(runs["grey"], n=4, out=target, force=True)
    assert (target / "00004.png").read_bytes() == b"mine"


def test_a_list_from_elsewhere_opens_no_way_to_other_files(runs: dict[str, Path], tmp_path: Path) -> None:
    """A downloaded folder may say anything: only plain names of pictures in the folder itself count."""
    target, thesis = tmp_path / "set", tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    app.sample(runs["grey"], n=3, out=target)
    (target / "00007.png").mkdir()
    entry = {"file": "../thesis.txt", "sha256": files.digest(thesis.read_bytes())}
    with (target / "samples.jsonl").open("a") as file:
        file.writelines(json.dumps(entry | {"file": name}) + "\n" for name in ("../thesis.txt", str(thesis), "notes.txt"))
    (target / "notes.txt").write_text("years of work")
    app.sample(runs["grey"], n=1, out=target, force=True)
    assert thesis.exists() and (target / "notes.txt").exists()
    pictures_of(tmp_path / "mine", 3)
    for stranger in (b"", b"\xff\xfe", b"[]", b'{"written_by": "somebody"}\n', (target / "samples.jsonl").read_bytes()):
        (tmp_path / "mine" / "samples.jsonl").write_bytes(stranger)
        before = contents(tmp_path / "mine")
        with pytest.raises(ScorefieldError, match="expected"):
            app.sample(runs["grey"], n=3, out=tmp_path / "mine", force=True)
        assert contents(tmp_path / "mine") == before


def test_an_empty_folder_and_one_with_leavings_of_a_kill_can_be_written_into(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / ".0123456789abcdef.partial").write_bytes(b"half a picture")
    app.sample(runs["grey"], n=2, out=tmp_path)
    assert {"00000.png", "00001.png", "samples.jsonl"} <= set(contents(tmp_path))


def test_an_animation_is_replaced_by_force_only_if_it_is_one_of_ours(runs: dict[str, Path], tmp_path: Path) -> None:
    """It lies beside what was named, under a name that nobody typed."""
    (tmp_path / "a.gif").write_bytes(b"GIF89a, mine")
    (tmp_path / "folder.gif").write_bytes(b"GIF89a, mine")
    before = contents(tmp_path)
    for out in ("a.png", "a.npz", "folder"):
        with pytest.raises(ScorefieldError, match=r"got --gif, which goes to .*\.gif, a file that scorefield sample did not"):
            app.sample(runs["grey"], n=1, out=tmp_path / out, gif=True, force=True)
    assert contents(tmp_path) == before
    app.sample(runs["grey"], n=1, out=tmp_path / "b.png", gif=True)
    first = contents(tmp_path)
    with pytest.raises(ScorefieldError, match=r"which goes to .*b\.gif, where there is a file already"):
        app.sample(runs["grey"], n=1, out=tmp_path / "b.npz", gif=True)
    app.sample(runs["grey"], n=1, seed=1, out=tmp_path / "b.png", gif=True, force=True)
    assert contents(tmp_path)["b.gif"] != first["b.gif"]
    report = app.sample(runs["grey"], n=1, out=f"{tmp_path / 'v1.5'}/", gif=True)
    assert [path.name for path in report.written] == ["v1.5", "v1.5.gif"]  # and not v1.gif


def test_force_takes_the_one_file_that_was_named_and_no_folder(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.npz").write_bytes(b"named, and forced")
    (tmp_path / "taken.npz").mkdir()
    app.sample(runs["grey"], n=1, out=tmp_path / "thesis.npz", force=True)
    assert np.load(tmp_path / "thesis.npz")["images"].shape == (1, 4, 6)
    with pytest.raises(ScorefieldError, match="where there is a folder"):
        app.sample(runs["grey"], n=1, out=tmp_path / "taken.npz", force=True)


# --- faults on the way -------------------------------------------------------------------------------------------------

OUTS = [
    *(("grey", out) for out in ("x.npz", "x.png", "folder")),
    *(("table", out) for out in ("x.npy", "x.csv", "x.parquet", "x.npz")),
]


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let the disk be full when so many files have been flushed to it."""
    fsync, left = os.fsync, [10**9]

    def counted(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", counted)
    return left


# Every kind of file with every fault, and both with and without an old one; a folder, of many files, with all of them together.
ENDS = [
    (name, out, fault, old)
    for i, (name, out) in enumerate(OUTS)
    for j, fault in enumerate(("disk full", "NaN in the last batch", "ctrl-c in the last batch"))
    for old in ([False, True] if out == "folder" else [(i + j) % 2 == 1])
]


@pytest.mark.parametrize(("name", "out", "fault", "old"), ENDS)
def test_whatever_ends_the_sampling_leaves_what_was_there(
    runs, tmp_path, monkeypatch, full_after, name, out, fault, old
) -> None:
    if out.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / "beside.txt").write_text("mine")
    asked: dict[str, Any] = {"n": N, "batch": 5, "steps": 4, "out": tmp_path / out}
    if old:
        app.sample(runs[name], **asked)
    before = contents(tmp_path)

    def view(_fraction: float, _text: str, seen: Any) -> None:
        snapshot = seen.snapshot
        if seen.first == 10 and snapshot.step == snapshot.steps:
            if fault == "disk full":
                full_after[0] = 1  # one more picture of a folder has room
            elif fault == "NaN in the last batch":
                raise ScorefieldError("got NaN")
            else:
                raise KeyboardInterrupt

    full_after[0] = 10**9
    if fault == "disk full" and out != "folder":
        monkeypatch.setattr(Run, "to_source", _fails)
        monkeypatch.setattr(Output, "pixels", _fails)
        for writer in (text, parquet, picture):
            monkeypatch.setattr(writer, "decode", _fails)
        monkeypatch.setattr(pictures, "png", _fails)
    with pytest.raises((OSError, ScorefieldError, KeyboardInterrupt)):
        app.sample(runs[name], **asked, seed=1, force=True, progress=view)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"beside.txt", *([out] if old else [])}


def _fails(*_given: Any, **_named: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_set_that_was_half_replaced_when_the_process_was_killed_can_still_be_replaced(runs, tmp_path, monkeypatch) -> None:
    """After the list and two of four pictures have taken their places, the process is gone, and puts nothing back."""
    target = tmp_path / "set"
    app.sample(runs["grey"], n=6, out=target)
    old = contents(target)

    class Killed(BaseException):
        pass

    def killed(pairs: list[tuple[Path, Path]]) -> None:
        for temporary, path in pairs[:3]:
            os.replace(temporary, path)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(files, "rename", killed)
        with pytest.raises(Killed):
            app.sample(runs["grey"], n=4, seed=1, out=target, force=True)
    now = {name: content for name, content in contents(target).items() if not name.endswith(".partial")}
    changed = {name for name in old if now[name] != old[name]}
    assert now.keys() == old.keys() and changed == {"samples.jsonl", "00000.png", "00001.png"}
    app.sample(runs["grey"], n=4, seed=1, out=target, force=True)
    app.sample(runs["grey"], n=4, seed=1, out=tmp_path / "alone")
    left = {name: content for name, content in contents(target).items() if not name.endswith(".partial")}
    assert left == contents(tmp_path / "alone")


def test_a_run_that_cannot_be_written_is_sampled_elsewhere_and_refused_before_the_work_otherwise(
    runs, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(files, "can_write", lambda folder: folder.resolve() != runs["grey"].resolve())
    fail = {"progress": lambda *_: pytest.fail("something was drawn")}
    with pytest.raises(
        ScorefieldError, match=r"got no --out for .*grey, which cannot be written, .* --out samples-seed0\.png$"
    ):
        app.sample(runs["grey"], n=1, **fail)
    with pytest.raises(ScorefieldError, match=r"in a folder that cannot be written, expected one that can: choose another$"):
        app.sample(runs["grey"], n=1, out=runs["grey"] / "x.png", **fail)
    app.sample(runs["grey"], n=1, out=tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


# --- what was never learned --------------------------------------------------------------------------------------------


def test_a_class_without_a_training_example_is_refused_by_name(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["vector"], tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["data"]["class_counts"][1] = 0
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    for label in ("1", 1):
        with pytest.raises(ScorefieldError, match=r"got --label '1', of which .* no training example, expected one of 0, 2:"):
            app.sample(tmp_path / "run", n=1, label=label, out=tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
    app.sample(tmp_path / "run", n=300, out=tmp_path / "x.npz")
    assert set(np.load(tmp_path / "x.npz")["labels"].tolist()) == {0, 2}
    with pytest.raises(ScorefieldError, match=r"unknown class '7'"):
        app.sample(tmp_path / "run", n=1, label=7, out=tmp_path / "y.npz")


def test_a_run_of_no_steps_is_not_sampled(runs: dict[str, Path], tmp_path: Path) -> None:
    run = made(tmp_path / "run", runs["grey"].parent / "grey.npy", step=0)
    before = contents(tmp_path)
    with pytest.raises(ScorefieldError, match=r"a run of 0 steps, which has learned nothing yet, .* --resume$"):
        app.sample(run, n=1)
    with pytest.raises(ScorefieldError, match="a run of 0 steps"):
        Drawing.of(open_run(run), SampleSpec()).draw(1)  # as evaluate and tune do
    assert contents(tmp_path) == before
