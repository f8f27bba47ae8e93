"""Restoring: files in, draws of the posterior out, in the files' own units; what is wrong is refused, and leaves nothing."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents, each_case
from PIL import Image
from test_inputs import made

from scorefield import Gaussian, SampleRng, ScorefieldError, app, files, pictures, restoration
from scorefield.answers import GAP, HATCH, LINE, panel, shown
from scorefield.drawing import trained
from scorefield.guidance.posterior import Twisted
from scorefield.operators import JPEG, Blur, Gray, Mask, Matrix, Operator
from scorefield.process import VE
from scorefield.runs import Run, open_run

DEFAULT = restoration.method_of  # before any test replaces it
SIDE = (4, 6)
SHAPE = (1, *SIDE)
D = math.prod(SIDE)
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with fresh weights: grey images of 8 bits and of floats, colours, signals, classes, a table."""
    place = tmp_path_factory.mktemp("restore")
    np.save(place / "grey.npy", rng.integers(0, 256, (60, *SIDE), dtype=np.uint8))
    np.save(place / "floats.npy", (5 + 3 * rng.normal(size=(60, 8, 8))).astype(np.float32))
    np.save(place / "colour.npy", rng.integers(0, 256, (60, *SIDE, 3), dtype=np.uint8))
    np.save(place / "signal.npy", rng.normal(size=(60, 1, 16)).astype(np.float32))
    np.savez(place / "labelled.npz", images=rng.integers(0, 256, (60, *SIDE), dtype=np.uint8), labels=np.arange(60) % 3)
    (place / "table.csv").write_text("a,b\n" + "".join(f"{i / 7:.3f},{i % 5}\n" for i in range(60)))
    names = ("grey.npy", "floats.npy", "colour.npy", "signal.npy", "labelled.npz", "table.csv")
    return {name.partition(".")[0]: made(place / name.partition(".")[0], str(place / name)) for name in names}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default method on 20 levels; on Gaussian data it is exact on any number of them."""
    find = restoration.method_of
    monkeypatch.setattr(
        restoration, "method_of", lambda name: Twisted(levels=20, together=False) if name == "auto" else find(name)
    )


def covariance(d: int) -> torch.Tensor:
    """A covariance in model space, positive definite, with neighbours in a row correlated."""
    at = torch.arange(d, dtype=torch.float64)
    return 0.012 * torch.exp(-((at.unsqueeze(1) - at) ** 2) / 8) + 0.002 * torch.eye(d, dtype=torch.float64)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], Gaussian]:
    """A function that gives all runs the field of Gaussian data, in place of a network that has learned nothing."""

    def replace(run: Run) -> Gaussian:
        mean = torch.linspace(-0.3, 0.3, math.prod(run.shape), dtype=torch.float64).reshape(run.shape)
        field = Gaussian(mean, covariance(math.prod(run.shape)), VE(0.001, 100.0))
        monkeypatch.setattr(Run, "field", property(lambda self: field))
        monkeypatch.setattr(restoration, "field_of", lambda run, device: field)
        return field

    return replace


def png(path: Path, pixels: Any) -> Path:
    Image.fromarray(pixels).save(path)
    return path


GREY = rng.integers(90, 160, SIDE, dtype=np.uint8)


# --- the answer is the posterior, in the units of the file ----------------------------------------------------------------

EXACT: list[tuple[str, Operator]] = [
    ("blur", Blur(0.7)),
    ("mask", Mask(torch.arange(D).reshape(SIDE) % 3 > 0)),
    ("matrix", Matrix(torch.randn(5, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist())),
]


@pytest.mark.parametrize(("name", "operator"), EXACT, ids=[name for name, _ in EXACT])
def test_a_file_of_gaussian_data_is_restored_as_its_posterior_says(
    name: str, operator: Operator, runs: dict[str, Path], exact: Callable[[Run], Gaussian]
) -> None:
    """x0 ~ N(m, S) in model space, raw = 127.5 + 127.5·x0, y = A·raw + N(0, s²): a posterior in closed form, in grey levels."""
    exact(open_run(runs["grey"]))
    mean = 127.5 + 127.5 * torch.linspace(-0.3, 0.3, D, dtype=torch.float64)
    prior = 127.5**2 * covariance(D)
    a = torch.stack([operator(e.reshape(1, *SHAPE))[0].flatten() for e in torch.eye(D, dtype=torch.float64)], dim=1)
    if name == "mask":  # what is measured is in the whole image, whatever is in the hole
        source: Any = GREY
        y = a @ torch.from_numpy(GREY.flatten()).double()
    else:
        y = a @ mean + 10 * SampleRng([1]).normal((len(a),))[0]
        source = y.reshape(SHAPE if name == "blur" else (-1,))
    noise, n = 6.0, 2000
    found = app.restore(runs["grey"], source, operator, noise=noise, samples=n)
    draws = found.answers[0].samples.flatten(1)
    gain = prior @ a.mT @ torch.linalg.inv(a @ prior @ a.mT + noise**2 * torch.eye(len(a), dtype=torch.float64))
    right, spread = mean + gain @ (y - a @ mean), prior - gain @ a @ prior
    assert bool(((draws.mean(dim=0) - right).abs() < 5 * (spread.diagonal() / n).sqrt()).all())
    off = draws - right
    products = off.unsqueeze(2) * off.unsqueeze(1)
    assert bool(((products.mean(dim=0) - spread).abs() < 5 * products.std(dim=0) / math.sqrt(n)).all())
    assert found.answers[0].noise == noise and found.answers[0].posterior.effective.min() > 0.999


def test_the_residual_of_right_answers_is_one_on_average(runs: dict[str, Path], exact: Callable[[Run], Gaussian]) -> None:
    """A draw of p(x0 | y) and x0 itself have one distribution given y: |A·draw - y|² is m·s² on average over measured x0."""
    field, run, n = exact(open_run(runs["grey"])), open_run(runs["grey"]), 80
    intact = run.decode(field.sample(SampleRng(range(n))))
    found = app.restore(runs["grey"], intact, "blur:0.7", noise=8.0, samples=1, simulate=True)
    squares = torch.stack([one.posterior.residual.square() for one in found.answers]).flatten()
    assert abs(float(squares.mean()) - 1) < 5 * float(squares.std()) / math.sqrt(n)
    values = found.answers[0].to_dict()
    assert values["residual_expected"] == 1 and values["residual"] == pytest.approx(float(squares[0].sqrt()))


def test_a_larger_image_is_restored_by_tiles_and_a_small_one_says_how_large_its_original_was(runs: dict[str, Path]) -> None:
    tall = rng.integers(0, 256, (8, 9), dtype=np.uint8)
    assert app.restore(runs["grey"], tall, "blur:0.7", samples=2).answers[0].samples.shape == (2, 1, 8, 9)
    assert app.restore(runs["grey"], GREY, "downsample:2", samples=2).answers[0].samples.shape == (2, 1, 8, 12)
    assert app.restore(runs["grey"], GREY[:2, :3], "downsample:2", samples=2).answers[0].samples.shape == (2, *SHAPE)


@pytest.mark.parametrize("operator", ["jpeg:20", "blur:0.7,jpeg:50"])
def test_a_jpeg_file_has_the_size_of_its_picture_whatever_its_blocks_continue_it_to(
    operator: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    """4 x 6 pixels are coded as a block of 8 x 8: y has 64 coefficients, those of the picture, and the sample has 24 pixels."""
    path = tmp_path / "j.jpg"
    Image.fromarray(GREY).save(path, quality=int(operator[-2:]))
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.asarray(picture).astype(float))
    one = app.restore(runs["grey"], path, operator, samples=1, noise=1.0).answers[0]
    assert one.samples.shape == (1, *SHAPE)
    assert one.task.y.equal(JPEG(int(operator[-2:]))(pixels[None, None])[0]) and one.task.y.shape == (1, 8, 8)
    with pytest.raises(ScorefieldError, match="a sample of 1x3x3, expected 1x4x6 or larger"):
        app.restore(runs["grey"], GREY[:3, :3], operator, samples=1)


def test_a_hole_in_a_small_image_is_one_of_the_small_image(runs: dict[str, Path]) -> None:
    """y = the right half of the downsampled image: the file is the small image as a whole."""
    one = app.restore(runs["grey"], GREY[:2, :3], "downsample:2,mask:left", samples=1).answers[0]
    assert one.samples.shape == (1, *SHAPE) and one.task.y.tolist() == GREY[:2, 1:3].flatten().tolist()


def test_noise_is_in_the_units_of_the_file(runs: dict[str, Path], tmp_path: Path, exact: Callable[[Run], Gaussian]) -> None:
    """Of a run on floats an 8-bit picture is read as brightness: 3 grey levels are 3/255 of the range in its own units."""
    run = open_run(runs["floats"])
    exact(run)
    item = png(tmp_path / "grey.png", rng.integers(90, 160, (8, 8), dtype=np.uint8))
    from_file = app.restore(runs["floats"], item, "blur:0.7", noise=3.0, samples=50, out=tmp_path / "a").answers[0]
    unit = float(2 * run.normaliser.scale[0] / 255)
    from_array = app.restore(runs["floats"], from_file.task.item.raw, "blur:0.7", noise=3.0 * unit, samples=50).answers[0]
    assert float((from_file.samples - from_array.samples).abs().max()) < 1e-9
    assert from_file.task.unit == pytest.approx(unit)


def test_noise_that_nobody_states_is_estimated_and_no_less_than_rounding(
    runs: dict[str, Path], exact: Callable[[Run], Gaussian]
) -> None:
    field, run, n = exact(open_run(runs["grey"])), open_run(runs["grey"]), 30
    noisy = run.decode(field.sample(SampleRng(range(n)))) + 40 * SampleRng(range(n), stream=1).normal(SHAPE)
    answers = app.restore(runs["grey"], noisy, "identity", samples=1).answers
    levels = torch.tensor([one.noise for one in answers])
    assert all(one.to_dict()["noise_estimated"] for one in answers)
    assert abs(float(levels.mean()) - 40) < 5 * float(levels.std()) / math.sqrt(n) + 40 / D  # the bias is of order 1/D
    for said in (3.0, "3", 3):
        assert app.restore(runs["grey"], noisy[0], "identity", samples=1, noise=said).answers[0].noise == 3


# --- holes, references, simulation ----------------------------------------------------------------------------------------


def test_what_is_transparent_is_the_hole_and_the_rest_stays(runs: dict[str, Path], tmp_path: Path) -> None:
    opacity = np.full(SIDE, 255, dtype=np.uint8)
    opacity[:, 3:] = 0
    path = png(tmp_path / "erased.png", np.stack([GREY, opacity], axis=2))
    found = app.restore(runs["grey"], path, "mask", samples=3, noise=0.01).answers[0]
    assert found.task.y.tolist() == GREY[:, :3].flatten().tolist()
    seen = found.measured
    assert seen is not None and bool((seen[0].isnan() == torch.from_numpy(opacity == 0)).all())
    same = app.restore(runs["grey"], np.where(opacity, GREY, np.nan), "mask", samples=3, noise=0.01).answers[0]
    hidden = app.restore(runs["grey"], GREY, Mask(torch.from_numpy(opacity > 0)), samples=3, noise=0.01).answers[0]
    assert same.samples.equal(found.samples) and hidden.samples.equal(found.samples)


def test_what_is_unknown_after_a_blur_is_not_measured(runs: dict[str, Path]) -> None:
    holed = GREY.astype(float)
    holed[1, 2] = np.nan
    found = app.restore(runs["grey"], holed, "blur:0.7", samples=2).answers[0]
    assert found.task.y.shape == (D - 1,) and "then Mask" in str(found.task.operator)


def test_gray_gives_colours_back_and_the_file_is_a_grey_one(runs: dict[str, Path], tmp_path: Path) -> None:
    found = app.restore(runs["colour"], png(tmp_path / "g.png", GREY), "gray", samples=2)
    assert found.answers[0].samples.shape == (2, 3, *SIDE)
    assert found.folder is not None
    with Image.open(found.folder / "g-mean.png") as mean:
        assert mean.mode == "RGB" and mean.size == SIDE[::-1]


def test_a_simulated_measurement_is_the_operator_of_the_file_and_noise_and_the_file_is_the_reference(
    runs: dict[str, Path],
) -> None:
    colour = rng.integers(0, 256, (*SIDE, 3), dtype=np.uint8)
    still = app.restore(runs["colour"], colour, "gray", simulate=True, noise=0.0, samples=2).answers[0]
    raw = torch.from_numpy(colour.transpose(2, 0, 1).astype(float))
    assert still.task.y.equal(Gray()(raw[None])[0]) and still.task.reference is not None and still.task.reference.equal(raw)
    seeds = [app.restore(runs["grey"], GREY, "identity", simulate=True, noise=5.0, seed=k, samples=1) for k in range(10)]
    off = torch.stack([one.answers[0].task.y - torch.from_numpy(GREY.astype(float)) for one in seeds])
    assert abs(float(off.square().mean()) / 25 - 1) < 5 * math.sqrt(2 / off.numel())
    values = still.to_dict()
    error = float((still.mean - raw).square().mean())
    assert values["psnr"] == pytest.approx(10 * math.log10(255**2 / error)) and values["ssim"] <= 1


def test_references_are_matched_by_name(runs: dict[str, Path], tmp_path: Path) -> None:
    for folder in ("in", "right"):
        (tmp_path / folder).mkdir()
        for index, name in enumerate(("a", "b")):
            png(tmp_path / folder / f"{name}.png", np.full(SIDE, 100 * index + 50, dtype=np.uint8))
    found = app.restore(runs["grey"], tmp_path / "in", "identity", reference=tmp_path / "right", samples=2)
    assert [float(one.task.reference.mean()) for one in found.answers if one.task.reference is not None] == [50, 150]
    (tmp_path / "right" / "b.png").rename(tmp_path / "right" / "c.png")
    with pytest.raises(ScorefieldError, match="no reference for 'b' among the 2"):
        app.restore(runs["grey"], tmp_path / "in", "identity", reference=tmp_path / "right", out=tmp_path / "new")


def test_the_answer_for_a_file_does_not_depend_on_the_others(runs: dict[str, Path], tmp_path: Path) -> None:
    both = np.stack([GREY, GREY[::-1]])
    together = app.restore(runs["grey"], both, "blur:0.7", samples=3).answers
    for one, alone in zip(together, both, strict=True):
        assert one.samples.equal(app.restore(runs["grey"], alone, "blur:0.7", samples=3).answers[0].samples)


def test_a_label_is_that_of_the_samples_and_an_unknown_one_is_refused(runs: dict[str, Path]) -> None:
    found = app.restore(runs["labelled"], GREY, "blur:0.7", samples=2, label="2")
    assert found.answers[0].to_dict()["label"] == "2"
    with pytest.raises(ScorefieldError, match="unknown class 'seven'"):
        app.restore(runs["labelled"], GREY, "blur:0.7", label="seven")
    with pytest.raises(ScorefieldError, match="trained without classes"):
        app.restore(runs["grey"], GREY, "blur:0.7", label="seven")


# --- what is written -------------------------------------------------------------------------------------------------------


def test_a_folder_appears_with_every_file_that_its_list_names(runs: dict[str, Path], tmp_path: Path) -> None:
    path = png(tmp_path / "blurred.png", GREY)
    found = app.restore(runs["grey"], path, "blur:0.7", samples=3, noise=4.0)
    assert found.folder == tmp_path / "blurred-restored"
    written = contents(found.folder)
    listed = json.loads(written.pop("restore.json"))
    assert {name: files.digest(content) for name, content in written.items()} == listed["files"]
    samples = [f"blurred-sample-{k}.png" for k in (1, 2, 3)]
    assert set(written) == {*samples, "blurred-mean.png", "blurred-std.npy", "blurred-std.png", "blurred-answer.png"}
    answer = found.answers[0]
    for name, sample in zip([*samples, "blurred-mean.png"], [*answer.samples, answer.mean], strict=True):
        with Image.open(found.folder / name) as pixels:
            assert np.array_equal(np.asarray(pixels), sample[0].round().clamp(0, 255).numpy().astype(np.uint8))
    spread = np.load(found.folder / "blurred-std.npy")
    assert spread.shape == SIDE and np.allclose(spread, answer.samples.std(dim=0)[0], rtol=1e-6)
    assert listed["made_from"] == open_run(runs["grey"]).made_from and listed["answers"][0]["noise"] == 4
    assert not [one.name for one in tmp_path.iterdir() if one.name.endswith(".partial")]


def test_python_and_the_command_give_the_same_bytes(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = png(tmp_path / "b.png", GREY[:2, :3])
    app.restore(runs["grey"], path, "blur:1,downsample:2", samples=2, seed=3, out=tmp_path / "python")
    asked = ("--operator", "blur:1,downsample:2", "--samples", 2, "--seed", 3, "--out", tmp_path / "command")
    assert command("restore", runs["grey"], path, *asked) == 0
    assert contents(tmp_path / "python") == contents(tmp_path / "command")
    out = capsys.readouterr().out
    assert "particles" not in out and "effective" in (tmp_path / "command" / "restore.json").read_text()
    assert "b: noise" in out and "(expected 1)" in out and str(tmp_path / "command") in out


def test_signals_are_restored_and_plotted(runs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    signal = rng.normal(size=(1, 16))
    signal[0, 4:9] = np.nan
    np.save(tmp_path / "s.npy", signal)
    found = app.restore(runs["signal"], tmp_path / "s.npy", "mask", samples=3)
    assert found.folder is not None and np.load(found.folder / "s-mean.npy").shape == (1, 16)
    with Image.open(found.folder / "s-answer.png") as picture:
        assert picture.width > 500


def test_a_hole_is_hatched_in_colours_so_that_the_end_of_a_picture_is_seen() -> None:
    image = torch.full((1, 12, 12), 0.5)
    image[:, :, :6] = torch.nan
    pixels = np.asarray(panel([("a", image), ("b", torch.rand(3, 12, 12))])).astype(int)
    cell = pixels[GAP + LINE : GAP + LINE + 96, GAP : GAP + 96]  # enlarged by 8
    grey = (cell == cell[..., :1]).all(axis=2)
    assert not grey[:, :48].any() and grey[:, 48:].all()
    assert {tuple(colour) for colour in cell[:, :48].reshape(-1, 3).tolist()} == set(HATCH)


def test_a_hole_that_was_measured_by_a_mask_is_hatched_in_the_answer(runs: dict[str, Path]) -> None:
    one = app.restore(runs["grey"], GREY, "mask:left", samples=1).answers[0]
    assert one.measured is not None
    image = shown(open_run(runs["grey"]), one.measured)
    assert image[0].isnan().tolist() == [[True] * 3 + [False] * 3] * 4


def test_a_signal_is_drawn_with_its_measurement_by_its_name_and_axes_that_say_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(pictures, "render", figures.append)
    pictures.bands(torch.rand(3, 2, 16), torch.rand(2, 16), torch.rand(2, 16), ("noisy", torch.rand(2, 16)), torch.rand(2, 16))
    for channel, axes in enumerate(figures[0].axes):
        said = [text.get_text() for text in axes.get_legend().get_texts()]
        assert said == ["samples", "mean, 2 std", "noisy", "reference"]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("place", f"value of channel {channel + 1}")


def test_the_peak_of_a_signal_is_the_span_of_its_reference_and_that_of_an_image_its_range(runs: dict[str, Path]) -> None:
    truth = np.linspace(-3.0, 5.0, 16)[None]
    one = app.restore(runs["signal"], truth, "identity", samples=2, simulate=True, noise=0.5).answers[0]
    error = float((one.mean - torch.from_numpy(truth)).square().mean())
    assert one.to_dict()["psnr"] == pytest.approx(10 * math.log10(8**2 / error))
    assert app.restore(runs["grey"], GREY, "identity", samples=1, reference=GREY).answers[0].extent == 255
    flat = app.restore(runs["signal"], 0 * truth, "identity", samples=1, simulate=True, noise=0.5).answers[0]
    assert flat.extent == pytest.approx(2 * float(open_run(runs["signal"]).normaliser.scale[0]))


def test_force_replaces_an_answer_and_nothing_else(runs: dict[str, Path], tmp_path: Path) -> None:
    path, out = png(tmp_path / "b.png", GREY), tmp_path / "out"
    how = {"operator": "blur:0.7", "samples": 1, "out": out}
    app.restore(runs["grey"], path, **how)
    before = contents(out)
    with pytest.raises(ScorefieldError, match="where there is an answer already"):
        app.restore(runs["grey"], path, **how)
    app.restore(runs["grey"], path, seed=1, force=True, **how)
    assert contents(out) != before
    for name, message in (("mine.txt", "mine.txt is not as"), ("b-mean.png", "b-mean.png is not as")):
        kept = (out / name).read_bytes() if (out / name).exists() else None
        (out / name).write_text("mine")
        with pytest.raises(ScorefieldError, match=message):
            app.restore(runs["grey"], path, force=True, **how)
        assert (out / name).read_text() == "mine"
        (out / name).unlink() if kept is None else (out / name).write_bytes(kept)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.png").write_bytes(b"x")
    with pytest.raises(ScorefieldError, match=r"that no restore.json lists, .*: choose another --out"):
        app.restore(runs["grey"], path, force=True, **(how | {"out": tmp_path / "mine"}))


def test_a_failure_while_writing_leaves_nothing(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = png(tmp_path / "b.png", GREY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("scorefield.app.restore"), "save_spread", full)
    with pytest.raises(OSError, match="No space"):
        app.restore(runs["grey"], path, "blur:0.7", samples=2)
    assert [one.name for one in tmp_path.iterdir()] == ["b.png"]


# --- what is wrong -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files, good and bad."""
    png(tmp_path / "grey.png", GREY)
    png(tmp_path / "small.png", GREY[:3, :3])
    png(tmp_path / "colour.png", rng.integers(0, 256, (*SIDE, 3), dtype=np.uint8))
    png(tmp_path / "hole.png", np.zeros((5, 5), dtype=np.uint8))
    png(tmp_path / "white.png", np.full((5, 5), 255, dtype=np.uint8))
    png(tmp_path / "everything.png", np.full(SIDE, 255, dtype=np.uint8))
    (tmp_path / "broken.png").write_bytes((tmp_path / "grey.png").read_bytes()[:50])
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "kernel.npy", np.ones((9, 9)) / 81)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = [
    ("grey", ("grey.png", "--operator", "mask:hole.png"), "(5, 5)"),
    ("grey", ("colour.png", "--operator", "blur:1"), "three channels"),
    ("labelled", ("grey.png", "--operator", "blur:1", "--label", "seven"), "unknown class 'seven'"),
    ("grey", ("grey.png", "--operator", "blur:1", "--noise", "-1"), "--noise -1, expected auto, or a standard deviation >= 0"),
    (
        "grey",
        ("grey.png", "--operator", "blur:1", "--noise", "nan"),
        "--noise nan, expected auto, or a standard deviation >= 0",
    ),
    (
        "grey",
        ("grey.png", "--operator", "blur:1", "--noise", "abc"),
        "--noise abc, expected auto, or a standard deviation >= 0",
    ),
    ("grey", ("grey.png", "--operator", "mask:everything.png"), "keeps nothing"),
    ("grey", ("grey.png", "--operator", "mask:white.png"), "a mask of shape (5, 5)"),
    ("grey", ("grey.png", "--operator", "blur:kernel.npy"), "kernel"),
    ("grey", ("broken.png", "--operator", "blur:1"), "'broken.png', which cannot be read"),
    ("grey", ("nothing.png", "--operator", "blur:1"), "where nothing is"),
    ("grey", ("empty", "--operator", "blur:1"), "without such files"),
    ("grey", ("small.png", "--operator", "blur:1"), "1x3x3"),
    ("grey", ("grey.png", "--operator", "mask"), "without an unknown number"),
    ("grey", ("grey.png", "--operator", "blurr:1"), "did you mean 'blur'"),
    ("grey", ("grey.png", "--operator", "blur:1", "--method", "twistd"), "did you mean 'twisted'"),
    ("grey", ("grey.png", "--operator", "blur:1", "--samples", "0"), "--samples 0, expected at least 1"),
    ("grey", ("grey.png", "--operator", "blur:1", "--out", "no/where"), "in a folder that does not exist"),
    ("grey", ("grey.png", "--operator", "blur:1", "--out", "grey.png"), "where there is a file"),
    ("grey", ("grey.png", "--operator", "blur:1", "--reference", "small.png"), "reference of grey"),
    ("grey", ("grey.png", "--operator", "clip:10:200", "--noise", "auto"), "to estimate it: give a number"),
    ("table", ("grey.png", "--operator", "blur:1"), "a run of tables"),
]


@each_case(name__words__message=WRONG)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(
    name: str, words: tuple[str, ...], message: str, runs: dict[str, Path], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    assert command("restore", runs[name], *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said
    assert contents(place) == before


def test_a_run_of_no_steps_and_one_that_needs_a_class_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    run = open_run(runs["labelled"])
    changed = json.loads((run.path / "config.json").read_text())
    changed["training"]["labels"] = 1.0
    shutil.copytree(run.path, tmp_path / "always")
    files.write_json(tmp_path / "always" / "config.json", changed)
    with pytest.raises(ScorefieldError, match="got no --label"):
        app.restore(tmp_path / "always", GREY, "blur:0.7")
    assert trained(run) is run


def test_samples_of_one_file_do_not_descend_from_one_another(runs: dict[str, Path]) -> None:
    """One filter a sample: the first samples are the same however many are asked for."""
    few, more = (app.restore(runs["grey"], GREY, "blur:0.7", samples=n).answers[0].samples for n in (2, 5))
    assert float((few - more[:2]).abs().max()) < 1e-3
    assert not find_auto().together


def find_auto() -> Twisted:
    """The default of the verb itself, whatever the fixture puts in its place."""
    method = DEFAULT("auto")
    assert isinstance(method, Twisted)
    return method
