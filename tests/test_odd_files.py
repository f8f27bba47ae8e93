"""Odd files: on images of Gaussian pixels everything is known: what is odd, by which voice, at which pixel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents
from PIL import Image
from test_inputs import made

from scorefield import VE, Gaussian, SampleRng, app
from scorefield.anomaly import files
from scorefield.anomaly.detector import Detector

SIDE, D, COUNT, HELD = 8, 64, 600, 60
AT = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
COVARIANCE = 0.04 * (torch.exp(-torch.cdist(AT, AT) / 1.5) + 0.01 * torch.eye(D))  # neighbours are alike; in [-1, 1]


def pictures_of(n: int, stream: int) -> np.ndarray[Any, Any]:
    """Draw images of Gaussian pixels, 8 bits."""
    x = SampleRng(range(n), stream=stream).normal((D,)) @ torch.linalg.cholesky(COVARIANCE).mT
    return ((x.reshape(n, SIDE, SIDE) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(0)
    np.save(place / "grey.npy", pictures_of(COUNT, 1))
    np.save(place / "signal.npy", rng.normal(size=(60, 1, 16)).astype(np.float32))
    return {name: made(place / name, str(place / f"{name}.npy")) for name in ("grey", "signal")}


def data_of(run: Path) -> str:
    return str(run.with_suffix(".npy"))


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field of the grey run replaced by the true one."""
    field = Gaussian(torch.zeros(1, SIDE, SIDE), COVARIANCE.tolist(), VE(0.001, 20.0))
    monkeypatch.setattr(files, "Detector", lambda _, *parts: Detector(field, *parts))


@pytest.mark.usefixtures("_exact")
def test_the_mean_of_two_images_is_odd_though_it_is_likelier_than_either(runs: dict[str, Path]) -> None:
    one, other = pictures_of(40, 5).astype(float), pictures_of(40, 6).astype(float)
    mean = ((one + other) / 2).round().astype(np.uint8)
    found = app.odd(runs["grey"], mean, rate="5%", data=data_of(runs["grey"])).found
    # |x|² in units of its deviations is chi²(64) of an image and half of that of a mean, above the median of the first in 5
    # cases of a million: all means are among the likeliest half
    assert float(found.found.density.max()) < np.log(2)
    assert all(row["spoke"] == "norms" for row in found.to_dict()["rows"])
    best = 0.97  # P(chi²(64)/2 < the 2.5 % quantile of chi²(64)): what a test of |x|² finds, that knows where to look
    assert np.mean(found.odd) > 0.9 * best - 5 * np.sqrt(best * (1 - best) / 40)


@pytest.mark.usefixtures("_exact")
def test_a_pixel_that_its_neighbours_do_not_explain_is_where_an_image_is_odd(runs: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    usual = pictures_of(3, 7)
    broken = usual[2].copy()
    broken[5, 2] = np.uint8(min(int(broken[5, 2]) + 120, 255))
    for name, pixels in (("a", usual[0]), ("b", usual[1]), ("broken", broken)):
        Image.fromarray(pixels).save(source / f"{name}.png")
    report = app.odd(runs["grey"], source, rate="2%", data=data_of(runs["grey"]), out=tmp_path / "out").to_dict()
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["broken"]["odd"]
    assert rows["broken"]["place"] == [5, 2]
    assert rows["broken"]["p_value"] == 1 / (HELD + 1)
    odd = [name for name, row in rows.items() if row["odd"]]
    written = sorted(one.name for one in (tmp_path / "out").iterdir())
    assert written == sorted(["odd.csv", "odd.json", "oddest.png", *(f"{name}-odd.png" for name in odd)])
    assert json.loads((tmp_path / "out" / "odd.json").read_text())["rows"] == json.loads(json.dumps(report["rows"]))
    assert (tmp_path / "out" / "odd.csv").read_text().splitlines()[0] == "name,surprise,p_value,odd,spoke"


@pytest.mark.usefixtures("_exact")
def test_the_oddest_image_comes_first_and_the_brightest_place_beside_it_is_the_odd_pixel(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    usual = pictures_of(4, 8)
    usual[3, 1, 6] = np.uint8(min(int(usual[3, 1, 6]) + 90, 255))
    assert app.odd(runs["grey"], usual, data=data_of(runs["grey"]), out=tmp_path / "out").found.order[0] == 3
    drawn = np.asarray(Image.open(tmp_path / "out" / "oddest.png").convert("L"))
    zoom, gap, across = 8, 2, 2 * (8 * 8 + 2) + 2  # pixels.Grid: each image is enlarged 8 times, with 2 pixels between
    first = drawn[gap : gap + 8 * zoom : zoom, gap : gap + 8 * zoom : zoom]
    assert np.abs(first.astype(int) - usual[3]).max() <= 1
    left = across + 16 + gap
    heat = drawn[gap : gap + 8 * zoom : zoom, left : left + 8 * zoom : zoom]
    assert np.unravel_index(heat.argmax(), heat.shape) == (1, 6)
    assert heat.max() == 255


def test_signals_get_their_lines_and_no_pictures(runs: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.random.default_rng(1).normal(size=(3, 1, 16)).astype(np.float32))
    data = data_of(runs["signal"])
    assert command("odd", runs["signal"], tmp_path / "new.npy", "--data", data, "--out", tmp_path / "out") == 0
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["odd.csv", "odd.json"]
    assert len((tmp_path / "out" / "odd.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("pixels", "out", "says"),
    [
        (np.zeros((6, 8), dtype=np.uint8), "o.csv", "got 'x' of 1x6x8 .*expected 1x8x8, as the run's data are"),
        (np.zeros((8, 8), dtype=np.uint8), "no/such", "in a folder that does not exist"),
    ],
)
def test_a_file_of_another_size_or_a_place_that_is_not_there_is_refused_before_any_work(
    pixels: np.ndarray[Any, Any], out: str, says: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.png")
    before = contents(tmp_path)
    assert command("odd", runs["grey"], tmp_path / "x.png", "--out", tmp_path / out) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0]), lines[0]
    assert contents(tmp_path) == before


def test_an_image_with_missing_pixels_is_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = pictures_of(1, 9)[0].astype(np.float32)
    pixels[0, 0] = np.nan
    np.save(tmp_path / "x.npy", pixels)
    assert command("odd", runs["grey"], tmp_path / "x.npy") == 2
    assert "of which 2% is missing, expected all of it" in capsys.readouterr().err
