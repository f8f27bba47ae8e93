"""Zarr: stores of versions 2 and 3, folders and archives, never written to; and what goes back."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import KELVIN, SPOTS, N, assert_same, encrypt, opened, samples_of
from helpers import contents, each_case

from scorefield import ScorefieldError, app
from scorefield.data.files.zarrs import write

zarr, xarray = pytest.importorskip("zarr"), pytest.importorskip("xarray")
pytestmark = pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated metadata")
versions = pytest.mark.parametrize("version", [2, 3])
STORED = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 285.0, "_FillValue": np.int16(-32768), "chunks": (7, 16, 16)}


def by_xarray(path: Path, version: int, **stored: Any) -> Path:
    data = xarray.Dataset(
        {"t2m": (("time", "lat", "lon"), KELVIN, {"units": "K"})},
        {"time": np.arange(N), "lat": ("lat", np.linspace(30, 60, 16)), "lon": ("lon", np.linspace(0, 30, 16))},
    )
    data.to_zarr(path, zarr_format=version, encoding={"t2m": stored}, consolidated=False)
    return path


def plain(path: Path, version: int, array: np.ndarray = SPOTS, **made: Any) -> Path:
    how = {"chunks": (4, *array.shape[1:]), "zarr_format": version, **made}
    zarr.create_array(path, shape=array.shape, dtype=array.dtype, **how)[:] = array
    return path


def chunk(path: Path, version: int, number: int) -> Path:
    return path / (f"c/{number}/0/0" if version == 3 else f"{number}.0.0")


# --- reading -----------------------------------------------------------------------------------------------------------


@versions
@each_case(dtype=["uint8", "int16", "float32", "bool", "complex64"])
def test_every_type_comes_back_as_it_was(tmp_path: Path, version: int, dtype: str) -> None:
    array = (SPOTS * {"uint8": 255, "int16": 30_000}.get(dtype, 1.5)).astype(dtype)
    assert_same(opened(plain(tmp_path / "a.zarr", version, array)), array, 0 if np.dtype(dtype).kind in "iub" else 1e-6)


@versions
def test_reading_leaves_every_byte_of_a_store_as_it_was_and_adds_none(tmp_path: Path, version: int) -> None:
    path = by_xarray(tmp_path / "a.zarr", version, **STORED)
    before = contents(path)
    data = opened(path)
    assert contents(path) == before
    assert_same(data, ((KELVIN.astype("f8") - 285) / 0.001).round().astype("f4") * np.float32(0.001) + 285, 1e-5)
    assert (data.layout.axes, "The examples lie along time." in data.notes) == ("yx", True)
    with pytest.raises(ScorefieldError):
        opened(tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()


def test_zeros_are_numbers_though_zarr_fills_with_zero(tmp_path: Path) -> None:
    """xarray takes the fill value of a store of version 2 for missing, and zarr-python writes 0 there by default."""
    rain = np.where(SPOTS > 0.5, SPOTS, 0)
    path = plain(tmp_path / "a.zarr", 2, rain, attributes={"_ARRAY_DIMENSIONS": ["time", "y", "x"]})
    assert_same(opened(path), rain, 1e-6)


def test_an_archive_and_chunks_in_shards_are_read_as_the_folder_is(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.zarr", 3, chunks=(4, 8, 16), shards=(8, 16, 16))
    assert_same(opened(path), SPOTS, 1e-6)
    shutil.make_archive(str(path), "zip", path)
    assert_same(opened(tmp_path / "a.zarr.zip"), SPOTS, 1e-6)


def test_arrays_of_groups_are_asked_about_with_their_labels_beside_them(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name, array in {"raw/u": SPOTS, "raw/v": SPOTS + 1, "raw/labels": np.arange(N) % 3}.items():
        root.create_array(name, data=array)
    with pytest.raises(
        ScorefieldError, match=r"raw/u \(40, 16, 16\) float32, .*say which to learn, such as --set data\.key=raw/u"
    ):
        opened(tmp_path / "a.zarr")
    data = opened(tmp_path / "a.zarr", key="v")
    assert_same(data, SPOTS + 1, 1e-6)
    assert data.classes == ("0", "1", "2")


# --- broken stores -----------------------------------------------------------------------------------------------------


@versions
def test_chunks_that_are_not_there_are_counted(tmp_path: Path, version: int) -> None:
    path = plain(tmp_path / "a.zarr", version)
    chunk(path, version, 3).unlink()
    data = opened(path)
    lost = SPOTS.copy()
    lost[12:16] = 0
    assert_same(data, lost, 1e-6)
    assert data.notes[0].startswith("1 of the 10 chunks of a are not in the store: zarr reads them as 0.0.")
    for number in range(10):
        chunk(path, version, number).unlink(missing_ok=True)
    with pytest.raises(ScorefieldError, match=r"of which no chunk is there, expected numbers: copy the store again"):
        opened(path)


@versions
def test_a_cut_chunk_is_named_with_its_cause(tmp_path: Path, version: int) -> None:
    path = plain(tmp_path / "a.zarr", version)
    cut = chunk(path, version, 5)
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(ScorefieldError, match=r"got a of 'a\.zarr', of which the examples 0 to 39 cannot be read \(.+\)"):
        opened(path)


def test_a_store_without_a_root_and_an_archive_that_is_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(ScorefieldError, match=r"no zarr\.json, \.zgroup or \.zarray in it"):
        opened(tmp_path / "a.zarr")
    with pytest.raises(ScorefieldError, match="File is not a zip file"):
        opened(tmp_path / "a.zarr.zip")
    assert list((tmp_path / "a.zarr").iterdir()) == []


def test_an_encrypted_archive_is_named_as_such(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.zarr", 3)
    shutil.make_archive(str(path), "zip", path)
    encrypt(tmp_path / "a.zarr.zip")
    with pytest.raises(ScorefieldError, match=r"got 'a\.zarr\.zip', which cannot be read \(encrypted\)"):
        opened(tmp_path / "a.zarr.zip")


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_codec_that_runs_code_is_refused_before_a_chunk_is_opened(tmp_path: Path, place: str) -> None:
    path = plain(tmp_path / "a.zarr", 2)
    about = json.loads((path / ".zarray").read_text())
    about[place] = [{"id": "pickle"}] if place == "filters" else {"id": "pickle"}
    (path / ".zarray").write_text(json.dumps(about))
    chunk(path, 2, 0).write_bytes(b"cos\nmkdir\n(S'%s'\ntR." % str(tmp_path / "sprung").encode())
    with pytest.raises(ScorefieldError, match="pickle"):
        opened(path)
    assert not (tmp_path / "sprung").exists()


def test_an_array_that_claims_far_more_than_is_stored_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(10**7, 64, 64), chunks=(4, 64, 64), dtype="f4")[:8] = 1
    with pytest.raises(ScorefieldError, match=r"whose header claims 152\.6 GiB where 0\.00 MiB are stored"):
        opened(tmp_path / "a.zarr")


# --- going back --------------------------------------------------------------------------------------------------------


@versions
def test_samples_go_back_packed_in_the_same_version_with_their_coordinates(tmp_path: Path, version: int) -> None:
    data = opened(by_xarray(tmp_path / "a.zarr", version, **STORED))
    write(str(tmp_path / "b.zarr"), samples_of(data), data.layout)
    found = zarr.open(tmp_path / "b.zarr", mode="r")["t2m"]
    assert (found.dtype, found.metadata.zarr_format) == ("int16", version)
    assert np.array_equal(found[:], np.rint((samples_of(data).astype("f8") - 285) / 0.001))
    with xarray.open_zarr(tmp_path / "b.zarr") as back:  # which finds the packing, the axes and the coordinates again
        assert back.t2m.dims == ("sample", "lat", "lon") and back.t2m.attrs["units"] == "K"
        assert np.abs(back.t2m.values - samples_of(data)).max() < 1e-4
        assert np.array_equal(back.lat, np.linspace(30, 60, 16))


@versions
def test_an_array_alone_goes_back_as_an_array_alone(tmp_path: Path, version: int) -> None:
    data = opened(plain(tmp_path / "a.zarr", version))
    write(str(tmp_path / "b.zarr"), samples_of(data), data.layout)
    found = zarr.open(tmp_path / "b.zarr", mode="r")
    assert isinstance(found, zarr.Array) and found.metadata.zarr_format == version
    assert np.array_equal(found[:], samples_of(data))


@versions
def test_unknown_cells_of_floats_go_back_as_nan_and_not_as_a_number(tmp_path: Path, version: int) -> None:
    """A float has NaN for what is unknown; a fill value that no attribute names would be read as a number."""
    holed = SPOTS.astype("f4").copy()
    holed[:, :3] = np.nan
    data = opened(plain(tmp_path / "in.zarr", version, holed))
    write(str(tmp_path / "out.zarr"), data.layout.to_source(data.train[:].numpy()), data.layout)
    back = zarr.open(tmp_path / "out.zarr", mode="r")
    got = np.asarray(back[:] if hasattr(back, "shape") else back[next(iter(back.array_keys()))][:])
    assert np.isnan(got[:, :3]).all() and np.nanmax(got) <= np.nanmax(holed)


def test_train_and_sample_take_a_store_to_a_store(tmp_path: Path) -> None:
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.pictures=0")
    app.train(str(by_xarray(tmp_path / "a.zarr", 3, **STORED)), out=tmp_path / "run", steps=3, settings=small)
    app.sample(tmp_path / "run", n=3, steps=3, out=tmp_path / "b.zarr")
    assert zarr.open(tmp_path / "b.zarr", mode="r")["t2m"].shape == (3, 16, 16)
