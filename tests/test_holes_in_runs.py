"""Holes from file to file: what was never known comes back as NaN, what was known here and there does not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import command, contents, small_evaluations
from PIL import Image

from scorefield import ScorefieldError, app
from scorefield.app import evaluate, train
from scorefield.data import DataConfig
from scorefield.data.doctor import examine
from scorefield.data.sources import open_data
from scorefield.evaluation.reference import bytes_of, holed
from scorefield.runs import load_field, open_run
from scorefield.specs import TrainSpec

NAN = math.nan
SMALL = ("network=mlp", "network.width=16", "network.depth=1", "training.batch=16", "training.ema=0.9")
LAND = np.add.outer(np.arange(8), np.arange(8)) < 4  # 10 of 64 cells, in a corner


def seas(count: int = 60) -> np.ndarray:
    """Temperatures around a warm spot, in kelvin, with land in a corner and clouds."""
    r = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    middle = r.uniform(1, 7, (count, 2, 1, 1))
    images = 288 + 4 * np.exp(-((y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2) / 8)
    clouds = r.uniform(0, 8, (count, 2, 1, 1))
    images[(y - clouds[:, 0]) ** 2 + (x - clouds[:, 1]) ** 2 < 2] = NAN
    images[:, LAND] = NAN
    return images.astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("holes")
    np.save(folder / "sea.npy", seas())
    settings = (*SMALL, "data.held_out=0.34", "training.pictures=1")
    train(folder / "sea.npy", TrainSpec(steps=12, settings=settings), out=folder / "run")
    return folder / "run"


def test_the_plan_says_what_is_unknown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("plan", run.parent / "sea.npy", *(word for one in SMALL for word in ("--set", one))) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of the training examples' cells are unknown (NaN): training goes around them." in said
    assert "10 of 64 cells are unknown in every training example and come back so." in said


def test_a_manifest_holds_the_absent_cells_as_runs_and_the_network_takes_them_from_there(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["data"]["normaliser"]["holes"]["runs"] == [0, 4, 4, 3, 5, 2, 6, 1, 39]
    opened = open_run(run)
    assert opened.field.takes_unknown and not any("absent" in name for name in opened.field.state_dict())
    assert (opened.field.network.absent[0].numpy() == LAND).all()
    assert bool(torch.isfinite(load_field(run)(torch.zeros(2, 1, 8, 8), torch.ones(2)).score).all())


def test_samples_have_nan_exactly_where_no_example_knows_the_cell_in_every_file(run: Path, tmp_path: Path) -> None:
    for name in ("drawn.npy", "drawn.npz", "drawn.png"):
        assert command("sample", run, "-n", 4, "--out", tmp_path / name) == 0
    drawn = np.load(tmp_path / "drawn.npy")
    assert drawn.dtype == np.float32 and drawn.shape == (4, 8, 8)
    assert (np.isnan(drawn) == LAND).all()
    with np.load(tmp_path / "drawn.npz") as found:
        assert np.array_equal(found["images"], drawn, equal_nan=True)
    picture = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert (picture[2:10, 2:10] == 128).all()  # the corner of the first is land
    assert (run / "previews").exists() and (run / "loss_by_level.png").exists()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(run: Path, tmp_path: Path) -> None:
    source = run.parent / "sea.npy"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = (*SMALL, "training.pictures=0")
    train(source, TrainSpec(steps=12, settings=settings), out=whole)
    asked = iter([False] * 7)
    train(source, TrainSpec(steps=12, settings=settings), out=cut, stop=lambda: next(asked, True))
    assert open_run(cut).manifest["progress"]["step"] < 12
    train(source, TrainSpec(steps=12), out=cut, resume=True)
    assert contents(whole)["model.safetensors"] == contents(cut)["model.safetensors"]


def test_the_loss_of_known_cells_is_that_of_a_run_of_which_they_are_all(tmp_path: Path) -> None:
    """A score of 0, with which training begins, has the same loss a cell, 1/2·noise², whatever is unknown."""
    whole = np.random.default_rng(0).normal(size=(400, 6))
    holed = np.where(np.random.default_rng(1).random((400, 6)) < 0.4, NAN, whole)
    holed[:, 2] = NAN
    losses = []
    for name, rows in (("whole", whole), ("holed", holed)):
        settings = (
            *SMALL,
            "objective.weighting=sigma2",
            "parametrisation=scaled-score",
            "training.pictures=0",
            "training.batch=512",
        )
        train(rows, TrainSpec(steps=1, settings=settings), out=tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses.append(next(line["loss"] for line in lines if line["event"] == "log"))
    error = math.sqrt(0.5 / (512 * 6)) + math.sqrt(0.5 / (512 * 6 * 0.5))  # of 1/2·noise², whose variance is 1/2
    assert abs(losses[0] - 0.5) < 5 * error and abs(losses[1] - 0.5) < 5 * error


def test_evaluate_compares_samples_that_have_the_holes_of_real_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_evaluations(monkeypatch)
    rows = np.random.default_rng(0).normal(size=(200, 3))
    rows[np.random.default_rng(1).random(rows.shape) < 0.3] = NAN
    rows[:, 1] = NAN
    np.save(tmp_path / "rows.npy", rows)
    train(tmp_path / "rows.npy", TrainSpec(steps=5, settings=(*SMALL, "training.pictures=0")), out=tmp_path / "run")
    found = evaluate(tmp_path / "run", n=20, steps=5)
    assert set(found.figures) == set(found.floor)
    assert all(math.isfinite(one.value) for one in (*found.figures.values(), *found.floor.values()))
    assert any("not measured on examples with unknown cells" in reason for reason in found.left_out)
    assert not any("Error" in reason.split(": ")[1] for reason in found.left_out)
    with pytest.raises(ScorefieldError, match=r"got examples with unknown cells \(NaN\).*expected whole ones: take"):
        app.likelihood(tmp_path / "run")


def test_samples_that_are_compared_have_the_holes_and_the_fillings_of_real_examples() -> None:
    """Examples of one value: with holes and filled with the mean, all are that value again, as bytes and as coordinates."""
    images = seas(200)
    data = open_data(np.where(np.isnan(images), NAN, 290 + (np.arange(200) % 2)[:, None, None]), DataConfig(range=(288, 292)))
    drawn = holed(data, torch.full((100, 1, 8, 8), 290.0, dtype=torch.float64))
    share = float(drawn.isnan().double().mean())
    assert abs(share - (1 - data.normaliser.holes.known)) < 5 * 0.1 / math.sqrt(100)  # of images, at most a tenth of it cloud
    patterns = [set(map(str, rows.isnan().flatten(1).int().tolist())) for rows in (drawn, data.train[:])]
    assert 10 < len(patterns[0]) and patterns[0] <= patterns[1]
    shown, middle = bytes_of(data, drawn), data.normaliser.decode(data.cell_means)[0]
    assert (shown[:, 0][:, LAND] == 128).all() and (shown[drawn == 290] == 128).all()
    unknown = drawn.isnan()[:, 0] & ~torch.from_numpy(LAND)
    wanted = ((middle - 288) / 4 * 255).round().expand(100, 8, 8)[unknown]
    assert float((shown[:, 0][unknown].double() - wanted).abs().max()) <= 1


def test_the_doctor_looks_at_examples_filled_with_the_mean_of_each_cell() -> None:
    images = seas(40)
    images[5], images[9] = images[4], NAN
    data = open_data(images, DataConfig())
    found = examine(data)
    assert (found.low, found.high) == (float(np.nanmin(images)), float(np.nanmax(images)))
    assert found.constant == () and found.copies + found.leaks >= 1
    assert any("unknown in every cell: nothing is learned from it" in issue.cause for issue in found.issues)
    assert math.isfinite(found.nearest_training) and math.isfinite(found.nearest_held_out)
    x = data.filled(data.x0(slice(None)))
    column = data.x0(slice(None))[:, 0, 5, 5].double()
    there = ~column.isnan()
    assert bool(x.isfinite().all()) and float(x[:, 0, :2, :2].abs().max()) == 0
    assert float((x[:, 0, 5, 5][~there] - column[there].mean()).abs().max()) < 1e-6 and bool(
        (x[:, 0, 5, 5][there] == column[there]).all()
    )


def test_data_without_nan_have_no_holes_and_a_network_of_their_own_shape(tmp_path: Path) -> None:
    data = open_data(np.random.default_rng(0).normal(size=(40, 3)), DataConfig())
    assert data.normaliser.holes is None and data.cells == 3
    train(data, TrainSpec(steps=1, settings=SMALL), out=tmp_path / "run")
    field = load_field(tmp_path / "run")
    assert not field.takes_unknown and field.network.first.weight.shape == (16, 3)


@pytest.mark.parametrize("kind", ["image", "signal", "volume", "vector"])
def test_every_kind_of_array_has_holes(kind: str, tmp_path: Path) -> None:
    shape = {"image": (8, 8, 2), "signal": (2, 32), "volume": (4, 4, 4), "vector": (5,)}[kind]
    axes = {"image": "yxc", "signal": "ct", "volume": "zyx"}.get(kind)
    rows = 7 + np.random.default_rng(0).normal(size=(40, *shape))
    rows[np.random.default_rng(1).random(rows.shape) < 0.2] = NAN
    rows.reshape(40, -1)[:, 1] = NAN
    settings = (*SMALL, "training.pictures=0", *([f"data.axes={axes}"] if axes else []))
    train(rows.astype(np.float32), TrainSpec(steps=2, settings=settings), out=tmp_path / "run")
    opened = open_run(tmp_path / "run")
    assert opened.kind == kind
    assert command("sample", tmp_path / "run", "-n", 3, "--out", tmp_path / "drawn.npz") == 0
    with np.load(tmp_path / "drawn.npz") as found:
        (drawn,) = found.values()
    assert drawn.shape == (3, *shape)
    assert np.isnan(drawn.reshape(3, -1)).tolist() == [[i == 1 for i in range(math.prod(shape))]] * 3


def test_infinite_values_are_no_holes(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    rows[3, 1], rows[5, 2] = np.inf, NAN
    with pytest.raises(ScorefieldError, match=r"got 1 infinite or too large values in 'data', the first at \[3, 1\]"):
        open_data(rows, DataConfig())
    with pytest.raises(ScorefieldError, match="got 'data' with NaN alone"):
        open_data(np.full((40, 3), NAN), DataConfig())


def test_an_animation_of_signals_with_an_absent_part_has_the_limits_of_the_rest(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 2, 32))
    rows[:, :, 3:6] = NAN
    train(rows, TrainSpec(steps=1, settings=(*SMALL, "training.pictures=0", "data.axes=ct")), out=tmp_path / "run")
    assert command("sample", tmp_path / "run", "-n", 2, "--steps", 3, "--out", tmp_path / "drawn.npz", "--gif") == 0
    assert (tmp_path / "drawn.gif").stat().st_size > 1000


def test_what_lies_under_a_mask_changes_no_bit_of_a_run(tmp_path: Path) -> None:
    rows, mask = np.random.default_rng(0).normal(size=(60, 4)), np.random.default_rng(1).random((60, 4)) < 0.3
    mask[:, 2] = True
    weights = []
    for name, under in (("one", -9999.0), ("other", 1e20)):
        held = np.ma.masked_array(np.where(mask, under, rows), mask)
        train(held, TrainSpec(steps=5, settings=(*SMALL, "training.pictures=0")), out=tmp_path / name)
        weights.append(contents(tmp_path / name)["model.safetensors"])
    assert weights[0] == weights[1]
