"""A person's files for a run: every number arrives in the run's units, and goes back as it came; what is wrong is named."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield import ScorefieldError, app, files, registry
from scorefield.config import override, to_dict
from scorefield.data import DataConfig, open_source
from scorefield.inputs import Item, check_size, read_items
from scorefield.recipes import data_stats
from scorefield.runs import Run, build_model, classes_of, manifest_of, open_run, save_model

SMALL = {
    "image": ("network=residual", "network.width=8", "network.blocks=1"),
    "signal": ("network.channels=8,8", "network.blocks=1"),
}
rng = np.random.default_rng(0)


def made(folder: Path, source: str, kind: str = "auto") -> Path:
    """Return a run's folder with fresh weights that says it was trained for a step."""
    data = open_source(source, DataConfig(kind=kind))  # type: ignore[arg-type]
    stats = data_stats(data)
    config = registry.find("recipe", "auto")(stats).config
    config = override(replace(config, source=source), [*SMALL.get(data.kind, ("network.width=8",)), "levels=3"])
    model = build_model(config, data.shape, stats.std, stats.mean, classes=classes_of(config, data.classes))
    manifest = manifest_of(data, stats.std, (), 0)
    manifest["progress"]["step"] = 1
    folder.mkdir()
    save_model(folder, model, manifest)
    files.write_json(folder / "config.json", to_dict(config))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs of images of several types, of signals, vectors and a table."""
    place = tmp_path_factory.mktemp("inputs")
    arrays: dict[str, Any] = {
        "colour": rng.integers(0, 256, (60, 4, 6, 3), dtype=np.uint8),
        "grey": rng.integers(0, 256, (60, 4, 6), dtype=np.uint8),
        "deep": rng.integers(0, 60_000, (60, 4, 6), dtype=np.uint16),
        "floats": rng.normal(size=(60, 4, 6, 3)).astype(np.float32),
        "labels": rng.integers(0, 4, (60, 4, 6), dtype=np.uint8),
        "masks": rng.integers(0, 2, (60, 4, 6)).astype(bool),
        "signal": rng.normal(size=(60, 2, 16)).astype(np.float32),
        "vector": rng.normal(size=(60, 3)).astype(np.float32),
    }
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array)
    (place / "table.csv").write_text("a,b\n" + "".join(f"{i / 7:.3f},{i % 5}\n" for i in range(60)))
    sources = {name: str(place / f"{name}.npy") for name in arrays} | {"table": str(place / "table.csv"), "digits": "digits"}
    kinds = dict.fromkeys(("colour", "grey", "deep", "floats", "labels", "masks"), "image")
    return {name: open_run(made(place / name, source, kinds.get(name, "auto"))) for name, source in sources.items()}


def one(run: Run, source: Any) -> Item:
    (item,) = read_items(run, source)
    return item


def picture(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


# --- numbers arrive in the run's units, and go back as they came --------------------------------------------------------

GREY = rng.integers(0, 256, (9, 7), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)


def test_8_bit_pixels_are_the_raw_values_of_a_run_of_8_bit_images_of_any_size(runs: dict[str, Run], tmp_path: Path) -> None:
    grey, colour = (
        one(runs["grey"], picture(tmp_path / "g.png", GREY)),
        one(runs["colour"], picture(tmp_path / "c.png", COLOUR)),
    )
    assert grey.raw.dtype == torch.float64
    assert np.array_equal(grey.raw, GREY[None]) and np.array_equal(colour.raw, COLOUR.transpose(2, 0, 1))
    assert float(grey.unit) == 1 and float(grey.offset) == 0


def test_what_sample_writes_as_pictures_is_read_as_the_samples_themselves(runs: dict[str, Run], tmp_path: Path) -> None:
    for name in ("grey", "colour", "deep", "digits", "labels"):
        run = runs[name]
        app.sample(run.path, n=3, out=tmp_path / name)
        app.sample(run.path, n=3, out=tmp_path / f"{name}.npy")
        from_pictures, from_array = read_items(run, tmp_path / name), read_items(run, tmp_path / f"{name}.npy")
        assert [item.name for item in from_pictures] == ["00000", "00001", "00002"]
        for item, exact in zip(from_pictures, from_array, strict=True):
            half = 0.5 + float(item.unit.max()) / 2  # each was rounded to the steps of its own type
            assert float((item.raw - exact.raw).abs().max()) <= half * (1 + 1e-12), name


@pytest.mark.parametrize("name", ["grey", "colour", "deep", "floats", "digits", "labels", "masks"])
def test_every_file_of_an_image_goes_back_bit_for_bit_as_it_came(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    run, channels = runs[name], runs[name].shape[0]
    pixels = {"labels": GREY % 4, "masks": (GREY % 2 * 255).astype(np.uint8)}.get(name, GREY if channels == 1 else COLOUR)
    sources = [picture(tmp_path / "p.png", pixels)]
    array = run.to_source(torch.rand(2, *run.shape).double() * 3)
    np.save(tmp_path / "a.npy", array)
    sources.append(tmp_path / "a.npy")
    if channels == 1:
        sources.append(picture(tmp_path / "d.png", rng.integers(0, 65536, (5, 5), dtype=np.uint16)))
    for source in sources if name not in ("labels", "masks") else sources[:2]:
        for index, item in enumerate(read_items(run, source)):
            assert item.raw.shape[0] == channels
            target = tmp_path / f"back-{source.stem}-{index}{item.ending}"
            item.save(target, item.raw)
            if source.suffix == ".npy":
                assert np.array_equal(np.load(target), array[index]) and np.load(target).dtype == array.dtype
            elif item.ending == ".png" and not (name == "deep" and source.stem == "p"):
                was, now = (np.asarray(Image.open(path)) for path in (source, target))
                assert was.dtype == now.dtype and np.array_equal(was, now), (name, source)


def test_8_bits_are_16_where_the_data_have_16_as_in_training(runs: dict[str, Run], tmp_path: Path) -> None:
    assert np.array_equal(one(runs["deep"], picture(tmp_path / "g.png", GREY)).raw, 257.0 * GREY[None])


def test_an_array_may_have_its_channels_first_or_where_the_data_had_them(runs: dict[str, Run], tmp_path: Path) -> None:
    raw = torch.from_numpy(COLOUR.transpose(2, 0, 1).astype(np.float64))
    for array in (COLOUR, raw.numpy(), raw, COLOUR.astype(np.float32)):
        item = one(runs["colour"], array)
        assert item.raw.equal(raw)
        assert np.array_equal(item.to_source(raw[None])[0], np.asarray(array))
    assert [item.name for item in read_items(runs["colour"], np.stack([COLOUR, COLOUR]))] == ["array-0", "array-1"]
    assert one(runs["grey"], GREY).raw.equal(one(runs["grey"], GREY[None]).raw)
    assert one(runs["grey"], GREY[..., None]).raw.shape == (1, 9, 7)
    np.savez(tmp_path / "a.npz", images=COLOUR[None], labels=np.zeros(1))
    assert one(runs["colour"], tmp_path / "a.npz").raw.equal(raw)


def test_signals_and_vectors_are_arrays_and_sounds(runs: dict[str, Run], tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = rng.uniform(-0.9, 0.9, (25, 2))
    soundfile.write(tmp_path / "s.wav", wave, 8000, subtype="PCM_16")
    item = one(runs["signal"], tmp_path / "s.wav")
    assert item.raw.shape == (2, 25) and float((item.raw - torch.from_numpy(wave.T)).abs().max()) < 2**-15
    item.save(tmp_path / "back.wav", item.raw)
    assert (tmp_path / "back.wav").read_bytes() == (tmp_path / "s.wav").read_bytes()
    assert one(runs["signal"], wave.T).raw.equal(torch.from_numpy(wave.T))
    assert one(runs["vector"], np.arange(3.0)).raw.tolist() == [0, 1, 2]
    assert len(read_items(runs["vector"], np.zeros((5, 3)))) == 5


def test_a_colour_file_that_is_grey_is_grey_and_a_grey_one_becomes_colour(runs: dict[str, Run], tmp_path: Path) -> None:
    as_colour = picture(tmp_path / "c.png", np.repeat(GREY[..., None], 3, axis=2))
    assert np.array_equal(one(runs["grey"], as_colour).raw, GREY[None])
    assert np.array_equal(one(runs["colour"], picture(tmp_path / "g.png", GREY)).raw, np.repeat(GREY[None], 3, axis=0))


# --- what is unknown ---------------------------------------------------------------------------------------------------


def test_nan_and_an_opacity_of_0_are_unknown_and_a_half_opacity_is_not(runs: dict[str, Run], tmp_path: Path) -> None:
    opacity = np.full((9, 7), 255, dtype=np.uint8)
    opacity[2:4, 1:3], opacity[8, 6] = 0, 128
    for name, array in (("grey", np.stack([GREY, opacity], axis=2)), ("colour", np.dstack([COLOUR, opacity]))):
        item = one(runs[name], picture(tmp_path / f"{name}.png", array))
        assert np.array_equal(item.known, np.broadcast_to(opacity != 0, item.raw.shape))
        seen = opacity == 255
        pixels = array[..., :1] if name == "grey" else array[..., :3]
        assert np.array_equal(item.raw[:, torch.from_numpy(seen)], pixels.transpose(2, 0, 1)[:, seen])
    holed = GREY.astype(np.float32)
    holed[3, 3] = np.nan
    assert int((~one(runs["grey"], holed).known).sum()) == 1
    assert bool(one(runs["grey"], GREY).known.all())


# --- what is wrong is named ----------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_with_its_cause(runs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.png").write_bytes(picture(tmp_path / "whole.png", COLOUR).read_bytes()[:60])
    (tmp_path / "text.npy").write_text("1, 2, 3")
    (tmp_path / "mixed").mkdir()
    picture(tmp_path / "mixed" / "a.png", GREY)
    (tmp_path / "mixed" / "b.png").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([None, 1]), allow_pickle=True)
    os.mkfifo(tmp_path / "pipe.png")
    cases = [
        ("nothing.png", "where nothing is"),
        ("empty", "without such files, expected images in files ending in .png"),
        ("cut.png", r"'cut.png', which cannot be read \(.*truncated|which cannot be read"),
        ("text.npy", "'text.npy', which cannot be read"),
        ("objects.npy", "'objects.npy', which cannot be read"),
        ("mixed", r"'b.png', which cannot be read \(empty\)"),
        ("pipe.png", "not a file"),
    ]
    for name, message in cases:
        with pytest.raises(ScorefieldError, match=message):
            read_items(runs["grey"], tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ScorefieldError, match="expected images in files ending in"):
        read_items(runs["grey"], tmp_path / "notes.txt")


def test_another_number_of_channels_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"'c.png' of three channels \(colours\), expected one channel \(grey\)"):
        read_items(runs["grey"], picture(tmp_path / "c.png", COLOUR))
    for name, array in (("grey", COLOUR), ("colour", GREY), ("signal", np.zeros((3, 16))), ("vector", np.zeros(4))):
        with pytest.raises(ScorefieldError, match="an array of shape"):
            read_items(runs[name], array)


def test_a_run_of_tables_is_refused_with_what_fills_tables(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match="a run of tables, expected one of images or signals: fill the gaps of tables"):
        read_items(runs["table"], tmp_path)


def test_values_in_other_units_are_refused(runs: dict[str, Run]) -> None:
    for array in (GREY / 255.0, GREY * 100.0, GREY / 127.5 - 1):
        with pytest.raises(ScorefieldError, match="expected the units of the run's data, 0 to 255"):
            read_items(runs["grey"], array)
    noisy = GREY + rng.normal(0, 100, GREY.shape)  # a measurement leaves the range, and is not cut
    assert np.array_equal(one(runs["grey"], noisy).raw[0], noisy)
    assert one(runs["grey"], np.zeros((4, 6))).raw.shape == (1, 4, 6)  # a black image is one


def test_a_size_that_does_not_fit_is_refused_in_the_callers_words(runs: dict[str, Run]) -> None:
    item = one(runs["grey"], GREY)
    check_size(item, (1, 9, 7), "the run's size")
    with pytest.raises(ScorefieldError, match=r"'array' of 1x9x7 .* expected 1x4x6, the run's size"):
        check_size(item, runs["grey"].shape, "the run's size")


# --- folders and measurements --------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_its_paths_with_names_that_differ(runs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.png", "a.bmp", "sub/a.png"):
        picture(tmp_path / name, GREY)
    (tmp_path / "readme.txt").write_text("not an image")
    assert [item.name for item in read_items(runs["grey"], tmp_path)] == ["a", "a-2", "b", "sub-a"]


def test_a_measurement_may_have_other_channels_or_be_a_row(runs: dict[str, Run], tmp_path: Path) -> None:
    path = picture(tmp_path / "g.png", GREY[:4, :6])
    assert np.array_equal(read_items(runs["colour"], path, (1, 4, 6))[0].raw, GREY[None, :4, :6])
    row = np.arange(5.0)
    assert read_items(runs["colour"], row, (5,))[0].raw.tolist() == row.tolist()
    with pytest.raises(ScorefieldError, match=r"of shape \(5,\), expected \(6,\)"):
        read_items(runs["colour"], row, (6,))
