"""Interpolating: the ends come back as they were, whatever they are, and what is wrong is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import command, contents, each_case
from PIL import Image
from test_inputs import made

from scorefield import Gaussian, ScorefieldError, app, files, interpolation
from scorefield.process import VE
from scorefield.runs import Run, open_run

SIDE = (4, 6)
rng = np.random.default_rng(0)
GREY = rng.integers(60, 200, (2, *SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("interpolate")
    np.save(place / "grey.npy", rng.integers(0, 256, (60, *SIDE), dtype=np.uint8))
    np.save(place / "signal.npy", rng.normal(size=(60, 1, 16)).astype(np.float32))
    np.savez(place / "labelled.npz", images=rng.integers(0, 256, (60, *SIDE), dtype=np.uint8), labels=np.arange(60) % 3)
    (place / "table.csv").write_text("a,b\n" + "".join(f"{i / 7:.3f},{i % 5}\n" for i in range(60)))
    names = ("grey.npy", "signal.npy", "labelled.npz", "table.csv")
    return {name.partition(".")[0]: made(place / name.partition(".")[0], str(place / name)) for name in names}


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    for name, pixels in zip("ab", GREY, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_the_ends_come_back_bit_for_bit_and_the_middle_is_another(runs: dict[str, Path], pictures: tuple[Path, Path]) -> None:
    found = app.interpolate(runs["grey"], *pictures, frames=3)
    assert found.folder == pictures[0].parent / "a-to-b"
    frames = [np.asarray(Image.open(found.folder / f"frame-{k}.png")) for k in (1, 2, 3)]
    assert np.array_equal(frames[0], GREY[0]) and np.array_equal(frames[2], GREY[1])
    assert found.frames.error is not None and found.frames.error < 0.1  # of a grey level
    assert not np.array_equal(frames[1], GREY[0]) and not np.array_equal(frames[1], GREY[1])


def test_frames_of_gaussian_data_are_on_the_great_circle_in_whitened_coordinates(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of N(m, s²·I) the flow is a scaling, so that frames are what slerp makes of the deviations from the mean."""
    mean, s = 0.2, 0.3
    field = Gaussian(torch.full((1, *SIDE), mean), s**2 * torch.eye(24), VE(0.001, 1000.0))
    monkeypatch.setattr(Run, "field", property(lambda self: field))
    monkeypatch.setattr(interpolation, "field_for", lambda run, shape, device: field)
    found = app.interpolate(runs["grey"], GREY[0], GREY[1], frames=5)
    a, b = (torch.from_numpy(one.flatten().astype(float)) - 127.5 * (1 + mean) for one in GREY)
    angle = torch.arccos(a @ b / a.norm() / b.norm())
    for k, frame in enumerate(found.frames.raw):
        v = k / 4
        expected = (torch.sin((1 - v) * angle) * a + torch.sin(v * angle) * b) / torch.sin(angle) + 127.5 * (1 + mean)
        assert float((frame.flatten() - expected.clamp(0, 255)).abs().max()) < 0.01


def test_an_end_may_be_a_new_sample(runs: dict[str, Path], pictures: tuple[Path, Path], tmp_path: Path) -> None:
    found = app.interpolate(runs["grey"], pictures[0], 7, frames=2)
    assert found.folder is not None and found.folder.name == "a-to-seed7"
    other = app.interpolate(runs["grey"], 7, 8, frames=2)
    assert other.folder is None and other.frames.error is None
    assert float((found.frames.raw[1] - other.frames.raw[0]).abs().max()) < 0.5  # the same seed, the same sample
    app.interpolate(runs["grey"], 7, 8, frames=2, out=tmp_path / "new")
    array = np.load(tmp_path / "new" / "frames.npy")
    assert array.dtype == np.uint8 and array.shape == (2, *SIDE)


def test_python_and_the_command_give_the_same_bytes_and_a_gif(
    runs: dict[str, Path], pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app.interpolate(runs["grey"], *pictures, frames=4, gif=True, out=tmp_path / "python")
    assert command("interpolate", runs["grey"], *pictures, "--frames", 4, "--gif", "--out", tmp_path / "command") == 0
    written = contents(tmp_path / "python")
    assert written == contents(tmp_path / "command")
    listed = json.loads(written.pop("interpolate.json"))
    assert {name: files.digest(content) for name, content in written.items()} == listed["files"]
    with Image.open(tmp_path / "python" / "frames.gif") as film:
        assert film.n_frames == 6  # there and back, each frame once on the way
    assert "the ends came back within" in capsys.readouterr().out


def test_larger_images_and_signals_are_interpolated_too(runs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    large = rng.integers(0, 256, (2, 7, 9), dtype=np.uint8)
    assert app.interpolate(runs["grey"], *large, frames=3).frames.raw.shape == (3, 1, 7, 9)
    waves = rng.normal(size=(2, 1, 16))
    found = app.interpolate(runs["signal"], *waves, frames=3, out=tmp_path / "s")
    assert float((found.frames.raw[0] - torch.from_numpy(waves[0])).abs().max()) < 1e-3
    assert (tmp_path / "s" / "strip.png").exists() and (tmp_path / "s" / "frame-2.npy").exists()


WRONG = [
    ("grey", ("a.png", "nothing.png"), "where nothing is"),
    ("grey", ("a.png", "small.png"), "the size of the other end"),
    ("grey", ("small.png", "small.png"), "1x3x3"),
    ("grey", ("a.png", "holed.png"), "with unknown numbers"),
    ("grey", ("a.png", "colour.png"), "three channels"),
    ("grey", ("a.png", "b.png", "--frames", "1"), "--frames 1, expected at least 2"),
    ("grey", ("a.png", "b.png", "--label", "2"), "without classes"),
    ("labelled", ("a.png", "b.png", "--label", "seven"), "unknown class 'seven'"),
    ("grey", ("several.npy", "b.png"), "got 2 examples"),
    ("grey", ("1", "2"), "got no --out"),
    ("grey", ("a.png", "b.png", "--out", "a.png"), "where there is a file"),
    ("table", ("a.png", "b.png"), "a run of tables"),
]


@each_case(name__words__message=WRONG)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(
    name: str,
    words: tuple[str, ...],
    message: str,
    runs: dict[str, Path],
    pictures: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = pictures[0].parent
    monkeypatch.chdir(place)
    Image.fromarray(GREY[0][:3, :3]).save("small.png")
    Image.fromarray(np.stack([GREY[0], np.zeros(SIDE, np.uint8)], axis=2)).save("holed.png")
    Image.fromarray(rng.integers(0, 256, (*SIDE, 3), dtype=np.uint8)).save("colour.png")
    np.save("several.npy", GREY)
    before = contents(place)
    assert command("interpolate", runs[name], *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said
    assert contents(place) == before


def test_ends_that_are_one_give_that_one(runs: dict[str, Path]) -> None:
    found = app.interpolate(runs["grey"], GREY[0], GREY[0], frames=3)
    assert float((found.frames.raw[0, 0] - torch.from_numpy(GREY[0].astype(float))).abs().max()) < 0.5
    assert float((found.frames.raw - found.frames.raw[:1]).abs().max()) < 0.01
    with pytest.raises(ScorefieldError, match="expected at least 2"):
        app.interpolate(runs["grey"], GREY[0], GREY[0], frames=0)
    assert open_run(runs["grey"]).kind == "image"
