"""Denoising: files in, their mean, doubt and samples out, in the files' own units; what is wrong leaves nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from helpers import command, contents, each_case
from PIL import Image
from test_inputs import made

from scorefield import Gaussian, ScorefieldError, app, noise_removal
from scorefield.guidance.tiles import Tiled
from scorefield.process import VE
from scorefield.runs import Run, open_run
from scorefield.specs import DenoiseSpec

SIDE, D = (4, 6), 24
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with fresh weights: grey images of 8 bits, colours, signals, classes, channels of different scales, a table."""
    place = tmp_path_factory.mktemp("denoise")
    np.save(place / "grey.npy", rng.integers(0, 256, (60, *SIDE), dtype=np.uint8))
    np.save(place / "colour.npy", rng.integers(0, 256, (60, *SIDE, 3), dtype=np.uint8))
    np.save(place / "signal.npy", rng.normal(size=(60, 1, 16)).astype(np.float32))
    np.save(place / "scales.npy", (rng.normal(size=(60, 2, 16)) * [[1.0], [50.0]]).astype(np.float32))
    np.savez(place / "labelled.npz", images=rng.integers(0, 256, (60, *SIDE), dtype=np.uint8), labels=np.arange(60) % 3)
    (place / "table.csv").write_text("a,b\n" + "".join(f"{i / 7:.3f},{i % 5}\n" for i in range(60)))
    names = ("grey.npy", "colour.npy", "signal.npy", "scales.npy", "labelled.npz", "table.csv")
    return {name.partition(".")[0]: made(place / name.partition(".")[0], str(place / name)) for name in names}


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Gaussian:
    """The field of the grey run replaced by that of independent pixels, N(0, 0.2²) in model space, [-1, 1]."""
    field = Gaussian(torch.zeros(1, *SIDE), 0.04 * torch.eye(D), VE(0.001, 20.0))

    def field_for(run: Run, shape: tuple[int, ...], device: torch.device) -> Gaussian | Tiled:
        return field if shape == field.shape else Tiled(field, shape)

    monkeypatch.setattr(noise_removal, "field_for", field_for)
    return field


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def grey(path: Path, seed: int = 1, size: tuple[int, int] = SIDE) -> Path:
    return save(path, np.random.default_rng(seed).integers(60, 200, size, dtype=np.uint8))


# --- what comes out ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("sigma", [20, "20", 20.0])
def test_sigma_is_in_the_grey_levels_of_the_file_and_so_is_the_map_of_doubt(
    sigma: str | float, runs: dict[str, Path], tmp_path: Path
) -> None:
    source = grey(tmp_path / "noisy.png")
    report = app.denoise(runs["grey"], source, sigma=sigma, samples=2, out=tmp_path / "out")
    noisy, prior = np.asarray(Image.open(source)).astype(float), 0.2 * 127.5  # standard deviation of a pixel in grey levels
    gain = prior**2 / (prior**2 + 20**2)
    mean, std = 127.5 + gain * (noisy - 127.5), 20 * math.sqrt(gain)
    written = np.asarray(Image.open(tmp_path / "out" / "noisy-denoised.png")).astype(float)
    assert np.abs(written - mean).max() <= 0.5 + 1e-3
    np.testing.assert_allclose(report.answers[0].mean[0], mean, rtol=1e-6)
    spread = np.load(tmp_path / "out" / "noisy-std.npy")
    draws = report.answers[0].draws
    assert spread.shape == SIDE
    assert abs((spread**2).mean() / std**2 - 1) < 5 * math.sqrt(2 / (D * (draws - 1)))
    low, high = (np.asarray(Image.open(tmp_path / "out" / f"noisy-{end}.png")).astype(float) for end in ("low", "high"))
    share = NormalDist(0, std).cdf((high - mean).mean()) - NormalDist(0, std).cdf((low - mean).mean())
    assert abs(share - 0.9) < 5 * math.sqrt(0.09 / (D * draws)) + 1 / std * 0.2  # an order statistic; rounding to whole levels
    values = json.loads((tmp_path / "out" / "denoise.json").read_text())["answers"][0]
    assert (values["sigma"], values["sigma_unit"]) == (20.0, "grey levels, 0 to 255")
    assert values["std_mean"] == pytest.approx(math.sqrt((spread**2).mean()), rel=1e-5)
    assert (values["sigma_estimated"], values["draws"], values["samples"]) == (False, 39, 2)


@pytest.mark.usefixtures("exact")
def test_a_percentage_is_of_the_legal_range(runs: dict[str, Path], tmp_path: Path) -> None:
    source = grey(tmp_path / "noisy.png")
    means = [app.denoise(runs["grey"], source, sigma=s, samples=0, out=tmp_path / str(s)).answers[0] for s in ("10%", 25.5)]
    torch.testing.assert_close(means[0].mean, means[1].mean)
    assert means[0].sigma == pytest.approx(25.5)


@pytest.mark.usefixtures("exact")
def test_the_noise_of_a_large_image_is_found_and_its_intervals_hold(runs: dict[str, Path]) -> None:
    size, sigma = (32, 48), 12.0
    clean = 127.5 + 0.2 * 127.5 * rng.normal(size=size)
    report = app.denoise(runs["grey"], (clean + sigma * rng.normal(size=size))[None], samples=3, reference=clean[None])
    one = report.answers[0]
    values = one.to_dict()
    variance = (0.2 * 127.5) ** 2 + sigma**2  # independent pixels tell no more than this sum
    error = variance * math.sqrt(2 / clean.size) / (2 * sigma)
    assert abs(one.sigma - sigma) < 5 * error
    assert abs(values["within_90"] - 0.9) < 5 * math.sqrt(0.09 / clean.size)
    least = 10 * math.log10(255**2 / (sigma**2 * (1 - sigma**2 / variance)))
    assert values["psnr"] == pytest.approx(least, abs=5 * 10 / math.log(10) * math.sqrt(2 / clean.size))
    assert one.samples.shape == (3, 1, *size)


def test_intervals_of_exact_draws_hold_ninety_percent_even_of_pixels_with_few_values(runs: dict[str, Path]) -> None:
    draw, size = np.random.default_rng(5), (64, 96)
    levels = draw.choice([0, 0, 0, 100, 255], size=(40, 1, *size)).astype(np.uint8)  # the truth and 39 draws of one law
    opened = open_run(runs["grey"])
    (task,) = noise_removal.noisy_files(opened, levels[0], DenoiseSpec(sigma=20), levels[0])
    held = noise_removal._within(torch.from_numpy(levels[1:]).double(), task)
    assert held is not None
    assert abs(held - 0.9) < 5 * math.sqrt(0.09 / math.prod(size))
    none = noise_removal._within(torch.full((39, 1, *size), 101.0), task)
    assert none == pytest.approx(0.0)  # a truth that no draw reaches is inside none


@pytest.mark.usefixtures("exact")
def test_what_is_missing_is_filled_in_and_does_not_count(runs: dict[str, Path]) -> None:
    noisy = 127.5 + 40 * rng.normal(size=(1, *SIDE))
    noisy[0, 1, 2:4] = np.nan
    one = app.denoise(runs["grey"], noisy, sigma=30, samples=2).answers[0]
    assert bool(one.mean.isfinite().all() and one.samples.isfinite().all())
    assert one.to_dict()["seen"] == pytest.approx(22 / 24)
    known = one.std[0, 0, 0]
    assert bool((one.std[0, 1, 2:4] > 0.8 * known / (30 / math.hypot(30, 25.5))).all())  # about the prior's own


@pytest.mark.usefixtures("exact")
def test_an_image_without_noise_comes_back_as_it_was_and_says_so(runs: dict[str, Path], tmp_path: Path) -> None:
    source = save(tmp_path / "clean.png", np.full(SIDE, 127, dtype=np.uint8))
    other = save(tmp_path / "other.png", np.full(SIDE, 90, dtype=np.uint8))
    report = app.denoise(runs["grey"], source, reference=other, out=tmp_path / "out")
    assert report.answers[0].sigma == 0
    assert report.answers[0].to_dict()["within_90"] is None  # there are no draws, so no interval that could hold it
    assert "no noise was found" in report.notes[0]
    assert (np.asarray(Image.open(tmp_path / "out" / "clean-denoised.png")) == 127).all()


def test_python_and_the_command_give_the_same_bytes_and_a_file_the_same_among_others(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    one = grey(folder / "a.png", 1)
    grey(folder / "b.png", 2)
    app.denoise(runs["grey"], one, samples=2, out=tmp_path / "python", seed=3)
    assert command("denoise", runs["grey"], one, "--samples", 2, "--out", tmp_path / "command", "--seed", 3) == 0
    first = contents(tmp_path / "python")
    assert first == contents(tmp_path / "command")
    app.denoise(runs["grey"], folder, samples=2, out=tmp_path / "folder", seed=3)
    both = contents(tmp_path / "folder")
    assert {name: both[name] for name in first if name != "denoise.json"} == {
        name: content for name, content in first.items() if name != "denoise.json"
    }
    app.denoise(runs["grey"], one, samples=2, out=tmp_path / "other", seed=4)
    assert contents(tmp_path / "other")["a-sample-1.png"] != first["a-sample-1.png"]


def test_colours_signals_and_classes_are_denoised_too(runs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    colour = save(tmp_path / "c.png", rng.integers(50, 200, (7, 9, 3), dtype=np.uint8))
    assert app.denoise(runs["colour"], colour, sigma=9, samples=1).folder == tmp_path / "c-denoised"
    assert Image.open(tmp_path / "c-denoised" / "c-denoised.png").size == (9, 7)
    np.save(tmp_path / "s.npy", rng.normal(size=20).astype(np.float32))
    report = app.denoise(runs["signal"], tmp_path / "s.npy", sigma=0.3, samples=0)
    assert report.answers[0].mean.shape == (1, 20)
    assert app.denoise(runs["labelled"], grey(tmp_path / "l.png"), sigma=9, samples=1, label=2).answers[0].samples.shape[0] == 1


def test_an_answer_is_replaced_only_if_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    source = grey(tmp_path / "a.png")
    app.denoise(runs["grey"], source, sigma=9, samples=0)
    with pytest.raises(ScorefieldError, match="add --force"):
        app.denoise(runs["grey"], source, sigma=9, samples=0)
    app.denoise(runs["grey"], source, sigma=12, samples=0, force=True)


def test_large_numbers_are_said_without_an_exponent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "deep.npy", rng.integers(0, 60_000, (60, *SIDE), dtype=np.uint16))
    np.save(tmp_path / "noisy.npy", rng.integers(0, 60_000, SIDE, dtype=np.uint16))
    run = made(tmp_path / "run", str(tmp_path / "deep.npy"), "image")
    assert command("denoise", run, tmp_path / "noisy.npy", "--sigma", 6731.4, "--samples", 0) == 0
    said = capsys.readouterr().out
    assert "sigma 6,731, grey levels, 0 to 65535; std " in said and "e+" not in said


# --- what is refused ---------------------------------------------------------------------------------------------------


WRONG = {
    "no such file": (["grey", "{place}/none.png"], "where nothing is"),
    "sigma 0": (["grey", "{place}/a.png", "--sigma", "0"], "expected auto, a number above 0"),
    "sigma below 0": (["grey", "{place}/a.png", "--sigma=-3"], "expected auto, a number above 0"),
    "sigma of another unit": (["grey", "{place}/a.png", "--sigma", "0.3"], "write 30%"),
    "a word": (["grey", "{place}/a.png", "--sigma", "much"], "expected auto, a number above 0"),
    "more noise than was learned": (["grey", "{place}/a.png", "--sigma", "99999"], "the most noise that"),
    "a share of no range": (["signal", "{place}/s.npy", "--sigma", "10%"], "no legal range"),
    "other channels": (["grey", "{place}/c.png"], "one channel"),
    "too small": (["grey", "{place}/small.png"], "or larger"),
    "unreadable": (["grey", "{place}/broken.png"], "cannot be read"),
    "a table": (["table", "{place}/a.png"], "a run of tables"),
    "channels of different scales": (["scales", "{place}/two.npy"], "scales of their own"),
    "an unknown class": (["labelled", "{place}/a.png", "--label", "7"], "unknown class"),
    "a class of a run without": (["grey", "{place}/a.png", "--label", "7"], "without classes"),
    "samples below 0": (["grey", "{place}/a.png", "--samples=-1"], "expected 0 or more"),
    "a reference of another size": (["grey", "{place}/a.png", "--reference", "{place}/large.png"], "the same size"),
    "a folder as out that holds something": (["grey", "{place}/a.png", "--out", "{place}"], "choose another --out"),
}


@each_case(case=list(WRONG))
def test_what_is_wrong_is_one_sentence_and_leaves_nothing(
    case: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey(tmp_path / "a.png")
    grey(tmp_path / "small.png", size=(3, 6))
    grey(tmp_path / "large.png", size=(8, 9))
    save(tmp_path / "c.png", rng.integers(0, 256, (*SIDE, 3), dtype=np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    np.save(tmp_path / "s.npy", np.zeros(16, dtype=np.float32))
    np.save(tmp_path / "two.npy", np.zeros((2, 16), dtype=np.float32))
    before = contents(tmp_path)
    (name, *rest), words = WRONG[case]
    assert command("denoise", runs[name], *(one.format(place=tmp_path) for one in rest)) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in message
    assert message.startswith("scorefield: got") or message.startswith("scorefield: unknown")
    assert contents(tmp_path) == before
