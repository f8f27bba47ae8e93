"""Arrays come back as they were: axes, type, units, range; masks and label maps legal; what cannot be known is asked."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case

from scorefield import ScorefieldError
from scorefield.data import DataConfig, open_source
from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.layout import RAW, Layout
from scorefield.data.normaliser import Normaliser
from scorefield.data.scan import scan

R = np.random.default_rng(5)
# Forty smooth spots on 16x16.
SPOTS = np.exp(-((np.mgrid[:16, :16] - R.uniform(4, 12, (40, 2, 1, 1))) ** 2).sum(1) / 8)


def opened(path: Path, array: np.ndarray, **config: Any) -> Any:
    """The data set of an array in a .npy file."""
    np.save(path / "x.npy", array)
    return open_source(str(path / "x.npy"), DataConfig(held_out=0.25, **config))


def back(data: Any) -> np.ndarray:
    """All examples, through model space, as the source would hold them, in the order of the data set."""
    parts = [data.layout.to_source(data.normaliser.decode(data.normaliser.encode(part[:]).double()).numpy()) for part in
             (data.train, data.held_out)]  # fmt: skip
    return np.concatenate(parts)


def in_order(data: Any, array: np.ndarray) -> np.ndarray:
    """The source in the order of the data set, by its raw values."""
    raw = torch.cat([data.train[:], data.held_out[:]]).numpy()
    mine = data.layout.to_raw(array)
    order = [next(i for i in range(len(mine)) if np.array_equal(mine[i].astype(raw.dtype), one)) for one in raw]
    assert sorted(order) == list(range(len(array)))
    return array[order]


# --- units and types -----------------------------------------------------------------------------------------------------

QUANTITIES = {
    "humidity": (0.02 * SPOTS).astype("f4"),
    "unit range": SPOTS.astype("f4"),
    "signed": (2 * SPOTS - 1).astype("f4"),
    "kelvin": (250 + 50 * SPOTS).astype("f4"),
    "double": 1e-7 * SPOTS,
    "half": SPOTS.astype("f2"),
    "counts of a detector": (100 + 200 * SPOTS).astype("u2"),
    "twelve bits": (4095 * SPOTS).astype("u2"),
    "sixteen bits": (65535 * SPOTS).astype("u2"),
    "hounsfield": (1000 * SPOTS - 1000).astype("i2"),
    "eight bits": (255 * SPOTS).astype("u1"),
    "large integers": (2**24 + 1 + (1000 * SPOTS)).astype("i4"),
    "mask": SPOTS > 0.5,
    "label map": np.digitize(SPOTS, [0.2, 0.5, 0.8]).astype("i8"),
    "label map of bytes": np.digitize(SPOTS, [0.2, 0.5, 0.8]).astype("u1"),
    "labels with gaps": np.array([0, 7, 200])[np.digitize(SPOTS, [0.3, 0.6])].astype("i2"),
    "complex": (SPOTS * np.exp(1j * 3 * SPOTS)).astype("c8"),
}


@each_case(name=[*QUANTITIES])
def test_images_of_every_type_come_back_in_their_own_type_and_units(tmp_path: Path, name: str) -> None:
    """Model space has float32: a value may move by its rounding, 2^-24 of the range and of the value; whole numbers do not."""
    array = QUANTITIES[name]
    data = opened(tmp_path, array)
    got, wanted = back(data), in_order(data, array)
    assert (data.kind, got.dtype, got.shape) == ("image", array.dtype, array.shape)
    if array.dtype.kind in "biu":
        assert np.array_equal(got, wanted)
    else:
        allowed = 2**-22 * np.abs(wanted).max() + np.finfo(array.real.dtype).eps * np.abs(wanted).max()
        assert np.abs(got - wanted).max() <= allowed
    x = data.x0(slice(None))
    assert float(x.abs().max()) == pytest.approx(1, abs=1e-6)  # the whole range is used


@each_case(name=["mask", "label map", "labels with gaps"])
def test_any_sample_of_a_mask_or_a_label_map_is_legal(tmp_path: Path, name: str) -> None:
    array = QUANTITIES[name]
    data = opened(tmp_path, array)
    drawn = data.layout.to_source(data.normaliser.decode(3 * torch.randn(20, 1, 16, 16, dtype=torch.float64)).numpy())
    assert drawn.dtype == array.dtype
    assert set(np.unique(drawn)) == set(np.unique(array))


def test_whole_numbers_of_many_kinds_or_below_zero_are_quantities_and_not_labels(tmp_path: Path) -> None:
    for array in (QUANTITIES["counts of a detector"], -QUANTITIES["label map"], QUANTITIES["eight bits"]):
        assert opened(tmp_path, array).layout.legal == ()


def test_a_measured_range_clips_only_at_an_end_that_many_cells_have(tmp_path: Path) -> None:
    """Saturation at the top and nothing at the bottom: samples stop at the top."""
    data = opened(tmp_path, np.minimum(250 + 50 * SPOTS + R.normal(size=SPOTS.shape), 290).astype("f4"))
    free, top = data.normaliser.low, data.normaliser.high
    assert (free, top) == (None, 290)
    assert any("clipped at 290, which many cells have exactly" in note for note in data.notes)
    rain = np.maximum(SPOTS - 0.2, 0).astype("f4") * 7
    data = opened(tmp_path, rain)
    assert (data.normaliser.low, data.normaliser.high) == (0, None)
    assert float(data.normaliser.decode(torch.tensor([[[[-1.5, 1.5]]]])).min()) == 0


def test_a_declared_range_is_mapped_and_clips_and_must_hold_the_values(tmp_path: Path) -> None:
    kelvin = QUANTITIES["kelvin"]
    data = opened(tmp_path, kelvin, range=(200.0, 400.0))
    assert data.normaliser.decode(torch.tensor([-2.0, 0.0, 2.0])).tolist() == [200, 300, 400]
    with pytest.raises(ScorefieldError, match=r"got values from 250 to 299.* expected data\.range=\[200\.0, 280\.0\] to"):
        opened(tmp_path, kelvin, range=(200.0, 280.0))


def test_channels_of_different_units_have_a_range_each_and_colours_share_one(tmp_path: Path) -> None:
    weather = np.stack([250 + 50 * SPOTS, 1e5 + 2000 * SPOTS[::-1], 0.01 * SPOTS], axis=1).astype("f4")
    data = opened(tmp_path, weather)
    x = data.x0(slice(None))
    assert data.normaliser.per_channel and data.shape == (3, 16, 16)
    assert np.allclose(x.amin((0, 2, 3)), -1) and np.allclose(x.amax((0, 2, 3)), 1)
    got, wanted = back(data), in_order(data, weather)
    assert (np.abs(got - wanted) <= 2**-22 * np.abs(wanted).max((0, 2, 3), keepdims=True)).all()
    colours = np.stack([SPOTS, 0.5 * SPOTS, 0.7 * SPOTS], axis=-1)
    assert len(opened(tmp_path, colours).normaliser.scale) == 1


@each_case(name=["unit", "bytes", "declared", "measured"])
def test_a_channel_of_one_value_comes_back_exactly_whatever_is_drawn(tmp_path: Path, name: str) -> None:
    still = {"unit": 0.3, "bytes": 7, "declared": 0.3, "measured": 0.3}[name]
    varies = {"bytes": 255 * SPOTS, "measured": 5 + SPOTS}.get(name, SPOTS)
    array = np.stack([varies, np.full_like(SPOTS, still)], axis=-1).astype("u1" if name == "bytes" else "f4")
    data = opened(tmp_path, array, **({"range": (-1.0, 2.0)} if name == "declared" else {}))
    drawn = data.layout.to_source(data.normaliser.decode(torch.randn(3, 2, 16, 16, dtype=torch.float64)).numpy())
    assert (drawn[..., 1] == array[0, 0, 0, 1]).all() and np.ptp(drawn[..., 0]) > 0
    assert np.abs(back(data) - in_order(data, array)).max() <= 2**-20 * array.max()


@pytest.mark.parametrize("value", [20000003, 2460000.5])
def test_vectors_that_float32_cannot_hold_come_back_exactly(tmp_path: Path, value: float) -> None:
    array = np.stack([value + np.arange(40), R.normal(size=40)], axis=1)
    data = opened(tmp_path, array)
    got, wanted = back(data), in_order(data, array)
    assert got.dtype == np.float64
    assert np.abs(got - wanted)[:, 0].max() < 1e-4  # of a step of 1: float32 in model space, where the spread is 1


def test_julian_dates_as_signals_are_not_all_the_same(tmp_path: Path) -> None:
    array = 2460000.5 + np.arange(30)[:, None] * 1e-3 + R.uniform(0, 0.5, (30, 50))
    data = opened(tmp_path, array, kind="signal")
    assert data.train.dtype == torch.float64
    assert float(data.x0(slice(None)).std()) == pytest.approx(1, abs=1e-3)


def test_signals_in_volts_of_a_millionth_have_variance_one(tmp_path: Path) -> None:
    array = (1e-6 * R.normal(size=(30, 8, 200))).astype("f4")
    data = opened(tmp_path, array, axes="ct")
    assert float(data.x0(slice(None)).std()) == pytest.approx(1, abs=1e-3)
    assert np.abs(back(data) - in_order(data, array)).max() < 1e-6 * 2**-20


# --- axes ----------------------------------------------------------------------------------------------------------------

SHAPES = {  # axes of an example in the source -> lengths
    "yx": (5, 6), "yxc": (5, 6, 3), "cyx": (3, 5, 6), "xy": (6, 5), "ycx": (5, 7, 6), "ct": (3, 40), "tc": (40, 3), "t": (40,),
    "zyx": (4, 5, 6), "xyz": (6, 5, 4), "czyx": (2, 4, 5, 6), "zyxc": (4, 5, 6, 2), "cxyz": (2, 6, 5, 4),
}  # fmt: skip


@each_case(axes=[*SHAPES])
@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i2", "c8"])
def test_any_order_of_axes_comes_back_and_raw_examples_have_their_channels_first(axes: str, dtype: str) -> None:
    array = 1000 * R.normal(size=(12, *SHAPES[axes])) + 1j * R.normal(size=(12, *SHAPES[axes]))
    array = array.astype(dtype) if dtype == "c8" else array.real.astype(dtype)
    data = of_array(array, "x", DataConfig(held_out=0.5), source=ArraySource(axes=axes))
    lengths = dict(zip(axes, array.shape[1:], strict=True))
    parts = 2 if dtype == "c8" else 1
    assert data.shape == (lengths.get("c", 1) * parts, *(lengths[letter] for letter in RAW[data.kind][1:]))
    got = back(data)
    wanted = in_order(data, array)
    assert got.dtype == array.dtype and got.shape == array.shape
    rounding = 2**-20 * np.abs(array).max()
    assert np.abs(got.astype("c16") - wanted.astype("c16")).max() <= (0 if array.dtype.kind in "iu" else rounding)


def test_a_layout_survives_json_and_one_that_is_none_is_refused() -> None:
    layout = Layout("yxc", "uint16", (4, 5, 3), (0.0, 7.0), 9.0, "tiff", {"unit": "m"})
    assert Layout.from_dict(layout.to_dict()) == layout
    for values in ({"axes": "yx"}, {"axes": "yx", "dtype": "no type", "shape": [2]}, {**layout.to_dict(), "more": 1}):
        with pytest.raises(ScorefieldError, match="expected one that a run wrote"):
            Layout.from_dict(values)


def test_unknown_cells_of_whole_numbers_come_back_as_what_stood_for_them() -> None:
    layout = Layout("yx", "int16", (1, 2), missing=-32768)
    assert layout.to_source(np.array([[[[np.nan, 3.6]]]])).tolist() == [[[-32768, 4]]]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "uint64"])
def test_whole_numbers_stop_at_the_ends_of_their_type(dtype: str) -> None:
    ends = np.iinfo(dtype)
    got = Layout("yx", dtype, (1, 2)).to_source(np.array([[[[-1e30, 1e30]]]]))
    assert got.dtype == dtype and got[0, 0, 0] == ends.min
    assert ends.max - int(got[0, 0, 1]) <= ends.max * 2**-53  # of 64 bits the largest that a float has


def test_flat_rows_are_folded_into_the_shape_that_is_given(tmp_path: Path) -> None:
    pictures = R.integers(0, 256, (20, 3, 32, 32)).astype("u1")
    rows = opened(tmp_path, pictures.reshape(20, -1))
    assert rows.kind == "vector"
    assert rows.notes[0].startswith("Read as vectors of 3,072 numbers. If a row is a picture, say --set data.shape=[3,32,32]")
    data = opened(tmp_path, pictures.reshape(20, -1), shape=(3, 32, 32), axes="cyx")
    assert np.array_equal(data.layout.to_raw(pictures)[0].sum(), pictures[0].sum()) and data.shape == (3, 32, 32)
    assert np.array_equal(back(data), in_order(data, pictures))
    with pytest.raises(ScorefieldError, match=r"expected 3,072 numbers in all: change it"):
        opened(tmp_path, pictures.reshape(20, -1), shape=(3, 30, 30))


def test_axes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for axes, kind, words in (
        ("yx", "auto", "expected a letter for each"),
        ("yyx", "auto", "expected a letter for each"),
        ("cty", "auto", "expected t .signals., y and x .images."),
        ("cyx", "signal", "expected those of signals"),
    ):
        with pytest.raises(ScorefieldError, match=words):
            opened(tmp_path, R.normal(size=(20, 2, 5, 6)), axes=axes, kind=kind)


# --- the scan ------------------------------------------------------------------------------------------------------------


@each_case(dtype=["f4", "f8", "i2", "i8", "u1", "bool"])
def test_the_scan_in_pieces_is_what_numpy_says_of_the_whole(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr("scorefield.data.scan.NUMBERS", 50)  # many pieces
    array = np.clip(R.normal(size=(40, 6)) * 4, -6, 6)
    array = (array > 0) if dtype == "bool" else np.abs(np.rint(array)).astype(dtype) if dtype != "f8" else array
    found = scan(array, "x")
    low, high = float(array.min()), float(array.max())
    assert (found.low, found.high, found.cells) == (low, high, array.size)
    assert (found.at_low, found.at_high) == ((array == low).sum(), (array == high).sum())
    assert found.whole == bool((array == np.rint(array.astype("f8"))).all())
    assert found.values == (set(np.unique(array).astype("f8").tolist()) if found.whole else None)


def test_what_is_read_in_slices_is_read_once_in_order_and_whole_chunks_at_a_time() -> None:
    class Chunked:
        """As a data set of HDF5: a shape, a type, chunks and slices."""

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype, self.chunks, self.asked = array, array.shape, array.dtype, (7, 4), list[slice]()

        def __len__(self) -> int:
            return len(self.array)

        def __getitem__(self, which: slice) -> np.ndarray:
            self.asked.append(which)
            return self.array[which]

    array = R.normal(size=(50, 4)).astype(">f4")
    chunked = Chunked(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorefield.data.arrays.NUMBERS", 64)
        data = of_array(chunked, "x", DataConfig())
    assert [one.start for one in chunked.asked] == [0, 14, 28, 42]
    assert data.fingerprint == of_array(np.ascontiguousarray(array.astype("f4")), "x", DataConfig()).fingerprint


# --- to a file and back --------------------------------------------------------------------------------------------------


@each_case(name=["kelvin", "counts of a detector", "mask", "label map", "complex", "eight bits"])
@pytest.mark.parametrize("out", ["x.npy", "x.npz", "folder"])
def test_samples_of_a_run_are_written_in_the_type_and_axes_of_its_data(tmp_path: Path, name: str, out: str) -> None:
    """What the writers get is raw data; they must give them back as the source had them."""
    from PIL import Image
    from test_outputs import made

    from scorefield.outputs.base import Output
    from scorefield.runs import open_run

    array = QUANTITIES[name][:12]
    tmp_path = tmp_path / name
    tmp_path.mkdir()
    np.save(tmp_path / "data.npy", array)
    run = open_run(made(tmp_path / "run", tmp_path / "data.npy"))
    with Output.of(run, 12, tmp_path / out).writing({"seed": 0}) as add:
        raw = torch.from_numpy(run.layout.to_raw(array).astype("f8"))
        add(raw[:5], None)
        add(raw[5:], None)
    if out == "folder":
        files = sorted(path for path in (tmp_path / out).iterdir() if path.suffix != ".jsonl")
        assert len(files) == 12
        read = [np.asarray(Image.open(path)) if path.suffix == ".png" else np.load(path) for path in files]
        got = np.stack(read)
        wanted = array
        assert {path.suffix for path in files} == {".png" if array.dtype in ("u1", "u2", "bool") else ".npy"}, name
    else:
        got = np.load(tmp_path / out) if out == "x.npy" else np.load(tmp_path / out)["images"]
        wanted = array
    assert got.dtype == wanted.dtype and np.array_equal(got, wanted)


def test_a_channel_of_one_value_has_its_own_pixels_in_pictures(tmp_path: Path) -> None:
    """Blue is 7 of 255 everywhere: so it must be in every picture, and not the middle of a range."""
    from PIL import Image
    from test_outputs import made

    from scorefield.outputs.base import Output
    from scorefield.runs import open_run

    array = np.stack([255 * SPOTS, 200 * SPOTS, np.full_like(SPOTS, 7)], axis=-1).astype("u1")[:12]
    np.save(tmp_path / "data.npy", array)
    run = open_run(made(tmp_path / "run", tmp_path / "data.npy"))
    with Output.of(run, 12, tmp_path / "folder").writing({"seed": 0}) as add:
        add(torch.from_numpy(run.layout.to_raw(array).astype("f8")), None)
    for index, one in enumerate(array):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "folder" / f"{index:05d}.png")), one)


def test_the_same_digits_in_four_units_give_the_same_numbers_to_learn_and_the_same_samples() -> None:
    """Then the training loss is the same, bit for bit, up to float32."""
    from scorefield.data.builtin.digits import digits

    grey = (torch.cat([(d := digits(DataConfig())).train[:], d.held_out[:]]).numpy()[:, 0].astype("f8") / 16 * 255).round()
    forms = {
        "uint8": grey.astype("u1"), "uint16": (grey * 257).astype("u2"), "unit": (grey / 255).astype("f4"),
        "kelvin": (230 + 70 * grey / 255).astype("f4"),
    }  # fmt: skip
    data = {name: of_array(array, name, DataConfig()) for name, array in forms.items()}
    x = {name: one.x0(slice(None)) for name, one in data.items()}
    assert all((one - x["uint8"]).abs().max() < 1e-5 for one in x.values())
    drawn = torch.randn(9, 1, 8, 8, dtype=torch.float64).clamp(-1, 1)
    out = {name: one.layout.to_source(one.normaliser.decode(drawn).numpy()) for name, one in data.items()}
    levels = {
        "uint8": out["uint8"],
        "uint16": out["uint16"] / 257,
        "unit": out["unit"] * 255,
        "kelvin": (out["kelvin"] - 230) / 70 * 255,
    }
    for name, values in levels.items():
        assert np.abs(values - (drawn.numpy()[:, 0] + 1) * 127.5).max() < (0.51 if name == "uint8" else 0.01), name


def test_bytes_of_npz_hold_the_units_of_the_data(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=QUANTITIES["kelvin"])
    (tmp_path / "t.npz").write_bytes(buffer.getvalue())
    assert open_source(str(tmp_path / "t.npz"), DataConfig()).layout.dtype == "float32"


def test_the_same_digits_in_four_units_train_to_the_same_loss_and_draw_the_same_samples(tmp_path: Path) -> None:
    """From the reader to the file of samples: what differs is the rounding of float32 alone."""
    from scorefield.app import sample, train
    from scorefield.data.builtin.digits import digits

    grey = (digits(DataConfig()).train[:100].numpy()[:, 0].astype("f8") / 16 * 255).round()
    forms = {
        "uint8": (grey.astype("u1"), 1.0, 0.0),
        "uint16": ((grey * 257).astype("u2"), 257.0, 0.0),
        "unit": ((grey / 255).astype("f4"), 1 / 255, 0.0),
        "kelvin": ((230 + 70 * grey / 255).astype("f4"), 70 / 255, 230.0),
    }
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.batch=16", "training.pictures=0")
    losses, drawn = {}, {}
    for name, (array, scale, shift) in forms.items():
        np.save(tmp_path / f"{name}.npy", array)
        report = train(str(tmp_path / f"{name}.npy"), steps=12, out=tmp_path / name, settings=small)
        losses[name] = report.held_out
        sample(tmp_path / name, n=6, steps=6, out=tmp_path / f"{name}-samples.npy")
        samples = np.load(tmp_path / f"{name}-samples.npy")
        assert samples.dtype == array.dtype
        drawn[name] = (samples - shift) / scale
    for name in forms:
        assert losses[name] == pytest.approx(losses["uint8"], rel=1e-3), name
        assert np.abs(drawn[name] - drawn["uint8"]).max() < 0.51 + 0.1, name  # half a grey of rounding, and float32


def test_few_long_rows_are_refused_with_the_way_to_say_that_columns_are_the_examples() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 500))
    with pytest.raises(ScorefieldError, match=r"got 3 examples in 'x', of shape \(3, 500\), .* an n in data\.axes, such as tn"):
        of_array(rows, "x", DataConfig())
    assert of_array(rows, "x", DataConfig(axes="tn")).shape == (1, 3)


def test_bytes_have_the_same_probability_whatever_their_channels_are_mapped_by() -> None:
    """A probability counts in bins of one grey level: a channel of one value moves the map, and changes no probability."""
    from scorefield.likelihood.elbo import _decoded

    raw = np.stack([np.full_like(SPOTS, 7), 255 * SPOTS], axis=1).astype("u1")[:20]
    own = of_array(raw, "x", DataConfig(), source=ArraySource(axes="cyx")).normaliser
    assert (own.fixed, own.scale, own.per_channel) == ((0,), (127.5, 127.5), True)
    rows = torch.from_numpy(raw)
    guess = rows.double() + 3 * torch.randn(rows.shape, dtype=torch.float64)
    found = [
        _decoded(grid.encode(rows).double(), grid.encode(guess).double(), 0.02, grid, None)
        for grid in (own, Normaliser.between(0.0, 255.0))
    ]
    assert torch.allclose(*found, rtol=1e-4)  # model space has float32: 2^-24 of 7 in bins of 1
    assert float(found[0].max()) < 0
