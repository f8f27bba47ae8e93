"""NetCDF: variables and their dimensions, packed numbers, every kind of missing cell, and what goes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import GENERATOR, KELVIN, N, assert_same, examples, in_order, opened, samples_of

from scorefield import ScorefieldError, app
from scorefield.data.files.netcdf import write
from scorefield.data.files.packing import DEFAULT_FILLS, Packing
from scorefield.data.formats import writers
from scorefield.data.layout import Layout

xarray, h5py = pytest.importorskip("xarray"), pytest.importorskip("h5py")
pytest.importorskip("h5netcdf")
LATITUDES, LONGITUDES = np.linspace(30, 60, 16), np.linspace(0, 30, 16, dtype="f4")
STORED = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 285.0, "_FillValue": np.int16(-32768)}


def grid(values: np.ndarray, *, name: str = "t2m", **attributes: Any) -> Any:
    dims = ("time", "lat", "lon")
    coordinates = {
        "time": ("time", np.arange(len(values)), {"units": "days since 2000-01-01"}),
        "lat": ("lat", LATITUDES, {"units": "degrees_north"}),
        "lon": ("lon", LONGITUDES),
    }
    about = {"units": "K", "long_name": "2 metre temperature", **attributes}
    return xarray.Dataset({name: (dims, values, about)}, coordinates, {"title": "a test", "history": "made today"})


def saved(path: Path, data: Any, version: int = 4, **stored: Any) -> Path:
    encoding = {name: {"_FillValue": None, **stored} for name in data.data_vars}
    data.to_netcdf(path, engine="h5netcdf" if version == 4 else "scipy", encoding=encoding)
    return path


# --- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
def test_a_variable_over_time_is_pictures_by_the_names_of_its_dimensions(tmp_path: Path, version: int) -> None:
    data = opened(saved(tmp_path / "a.nc", grid(KELVIN), version))
    assert_same(data, KELVIN, 1e-6)
    assert (data.kind, data.layout.axes) == ("image", "yx")
    assert "The examples lie along time." in data.notes


def test_packed_numbers_are_learned_in_their_own_units(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nc", grid(KELVIN), zlib=True, chunksizes=(7, 16, 16), **STORED)
    data = opened(path)
    with xarray.open_dataset(path, engine="h5netcdf") as known:  # which unpacks by itself, in float64
        assert_same(data, known.t2m.values.astype("f4"), 1e-6)


def test_two_variables_are_asked_about_and_coordinates_are_none_of_them(tmp_path: Path) -> None:
    both = grid(KELVIN).merge(grid(KELVIN - 280, name="u10"))
    path = saved(tmp_path / "a.nc", both)
    with pytest.raises(ScorefieldError) as refusal:
        opened(path)
    assert "t2m (time 40, lat 16, lon 16) float32, u10 (time 40, lat 16, lon 16) float32" in str(refusal.value)
    assert str(refusal.value).endswith("expected one array of data: say which to learn, such as --set data.key=t2m")
    assert_same(opened(path, key="u10"), KELVIN - 280, 1e-6)


@pytest.mark.parametrize(
    ("dims", "axes", "kind"),
    [
        (("time", "level", "lat", "lon"), "zyx", "volume"),
        (("time", "band", "y", "x"), "cyx", "image"),
        (("sample", "x", "y"), "xy", "image"),
        (("lat", "lon", "time"), "yx", "image"),
        (("sample", "channel", "time"), "ct", "signal"),
        (("station", "time"), "t", "signal"),
    ],
)
def test_dimensions_are_told_by_their_names(tmp_path: Path, dims: tuple[str, ...], axes: str, kind: str) -> None:
    sizes = dict(zip(("time", "sample", "station"), (20, 20, 20), strict=True)) | {
        "lat": 7,
        "lon": 9,
        "x": 9,
        "y": 7,
        "level": 5,
    }
    shape = [{"band": 3, "channel": 2}.get(dim, sizes.get(dim)) for dim in dims]
    values = GENERATOR.normal(size=shape).astype("f4")
    path = saved(tmp_path / "a.nc", xarray.Dataset({"u": (dims, values)}))
    data = opened(path)
    assert (data.kind, data.layout.axes) == (kind, axes)
    along = 2 if dims == ("lat", "lon", "time") else 0
    assert_same(data, np.moveaxis(values, along, 0), 1e-6)


def test_members_and_times_both_run_over_examples(tmp_path: Path) -> None:
    values = KELVIN.reshape(4, 10, 16, 16)
    data = opened(saved(tmp_path / "a.nc", xarray.Dataset({"u": (("member", "time", "lat", "lon"), values)})))
    assert_same(data, KELVIN, 1e-6)
    assert "The examples lie along member and time." in data.notes


def test_up_to_four_levels_are_channels_and_a_note_says_so(tmp_path: Path) -> None:
    values = GENERATOR.normal(size=(20, 2, 7, 9)).astype("f4")
    data = opened(saved(tmp_path / "a.nc", xarray.Dataset({"u": (("time", "level", "lat", "lon"), values)})))
    assert (data.kind, data.shape) == ("image", (2, 7, 9))
    assert "level, of 2, was read as channels." in data.notes
    assert_same(data, values, 1e-6)


def test_one_field_is_no_data_set(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nc", xarray.Dataset({"u": (("lat", "lon"), KELVIN[0])}))
    with pytest.raises(ScorefieldError, match=r"got u \(lat 16, lon 16\) float32 in 'a\.nc', one example by the names"):
        opened(path, key="u")


def test_a_folder_of_months_is_one_data_set(tmp_path: Path) -> None:
    for i in range(4):
        saved(tmp_path / f"{i}.nc", grid(KELVIN[10 * i : 10 * i + 10]))
    (tmp_path / "3.nc").write_bytes((tmp_path / "3.nc").read_bytes()[:4000])
    data = opened(tmp_path)
    assert_same(data, KELVIN[:30], 1e-6)
    assert [issue.where for issue in data.issues] == ["3.nc"] and "truncated file" in data.issues[0].cause


def test_months_that_are_packed_differently_are_unpacked_each_by_its_own_numbers_and_written_unpacked(tmp_path: Path) -> None:
    cold = KELVIN - 40
    for i, (values, scale, offset) in enumerate(((KELVIN, 0.001, 285.0), (cold, 0.0005, 240.0))):
        saved(tmp_path / f"{i}.nc", grid(values), **STORED | {"scale_factor": scale, "add_offset": offset})
    data = opened(tmp_path)
    assert_same(data, np.concatenate([KELVIN, cold]), 0.001)
    write(str(tmp_path / "b.nc"), samples_of(data), data.layout)
    with xarray.open_dataset(tmp_path / "b.nc", engine="h5netcdf", mask_and_scale=False) as back:
        assert back.t2m.dtype == np.float32 and set(back.t2m.attrs) == {"units", "long_name"}
        assert np.array_equal(back.t2m.values, samples_of(data))


def test_a_variable_in_a_group_is_found(tmp_path: Path) -> None:
    grid(KELVIN).to_netcdf(tmp_path / "a.nc", engine="h5netcdf", group="model/run")
    data = opened(tmp_path / "a.nc")
    assert_same(data, KELVIN, 1e-6)
    assert data.layout.header["key"] == "model/run/t2m"


# --- missing cells -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_what_the_netcdf_library_fills_with_is_missing_though_no_attribute_says_so(dtype: str) -> None:
    packed = np.array([DEFAULT_FILLS[dtype], 5, -7], dtype)
    assert np.array_equal(Packing.of(dtype, {}).decode(packed), [np.nan, 5, -7], equal_nan=True)
    assert np.array_equal(Packing.of(dtype, {"_FillValue": packed[1]}).decode(packed)[1:], [np.nan, -7], equal_nan=True)


@pytest.mark.parametrize(
    ("attributes", "known"),
    [
        ({"_FillValue": np.int16(1)}, [False, True, True, True]),
        ({"missing_value": np.int16([1, 2])}, [False, False, True, True]),
        ({"_FillValue": np.int16(1), "missing_value": np.int16(4)}, [False, True, True, False]),
        ({"valid_range": np.int16([2, 3])}, [False, True, True, False]),
        ({"valid_min": np.int16(2)}, [False, True, True, True]),
        ({"valid_max": np.int16(3)}, [True, True, True, False]),
        ({"valid_range": [20.19, 20.3], "scale_factor": 0.1, "add_offset": 20.0}, [False, True, True, False]),
        ({"valid_range": np.int16([2, 3]), "scale_factor": 0.1, "add_offset": 20.0}, [False, True, True, False]),
    ],
)
def test_every_convention_of_missing_cells_becomes_nan(attributes: dict[str, Any], known: list[bool]) -> None:
    packed = np.array([1, 2, 3, 4], "int16")
    packing = Packing.of("int16", attributes)
    wanted = packed * (0.1 if packing.is_scaled else 1.0) + (20.0 if packing.is_scaled else 0.0)
    found = packing.decode(packed)
    assert np.isfinite(found).tolist() == known
    assert np.abs(found[known] - wanted[known]).max() < 1e-6


def test_bytes_that_are_stored_as_signed_are_unsigned_where_the_attribute_says_so() -> None:
    packing = Packing.of("int8", {"_Unsigned": "true", "scale_factor": 2.0, "_FillValue": np.int8(-1)})
    assert np.array_equal(packing.decode(np.array([-1, -2, 3], "int8")), [np.nan, 508, 6], equal_nan=True)


@pytest.mark.parametrize("offset", [0.0, 273.15, 1e6])
def test_every_packed_number_is_packed_again_as_itself(offset: float) -> None:
    packed = np.arange(-32766, 32768, dtype="int16")
    packing = Packing.of("int16", {"scale_factor": 0.01, "add_offset": offset})
    assert np.array_equal(packing.encode(packing.decode(packed)), packed)
    assert packing.quantity == ("float32" if offset < 1e6 else "float64")  # float32 has 16 steps to 1 at a million


def test_a_quantity_is_never_packed_as_the_number_that_means_missing() -> None:
    packing = Packing.of("int16", {"scale_factor": 1.0, "add_offset": 0.5, "_FillValue": np.int16(-32768)})
    assert packing.encode(np.array([-1e9, np.nan, 1e9])).tolist() == [-32767, -32768, 32767]


# --- broken files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "keep", "said"), [(3, 20_000, "truncated"), (4, 6_000, "truncated file"), (4, 0, "empty")])
def test_a_cut_file_is_named_with_its_cause(tmp_path: Path, version: int, keep: int, said: str) -> None:
    path = saved(tmp_path / "a.nc", grid(KELVIN), version)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ScorefieldError, match=rf"got 'a\.nc', which cannot be read \(.*{said}"):
        opened(path)


def test_what_lies_in_other_files_is_not_followed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nc", grid(KELVIN))
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/somewhere/secret.nc", "u")
    with pytest.raises(ScorefieldError, match=r"elsewhere is a link to secret\.nc, which is not followed"):
        opened(path)


# --- going back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
def test_samples_go_back_packed_with_units_and_the_coordinates_of_their_grid(tmp_path: Path, version: int) -> None:
    data = opened(saved(tmp_path / "a.nc", grid(KELVIN), version, **STORED))
    write(str(tmp_path / "b.nc"), samples_of(data), data.layout)
    engine = "h5netcdf" if version == 4 else "scipy"
    with xarray.open_dataset(tmp_path / "b.nc", engine=engine, mask_and_scale=False) as back:
        assert (back.t2m.dtype, back.t2m.dims) == ("int16", ("sample", "lat", "lon"))
        assert {key: back.t2m.attrs[key] for key in ("scale_factor", "add_offset", "_FillValue", "units", "long_name")} == {
            "scale_factor": 0.001, "add_offset": 285.0, "_FillValue": -32768, "units": "K", "long_name": "2 metre temperature",
        }  # fmt: skip
        assert np.array_equal(back.lat, LATITUDES) and back.lat.attrs == {"units": "degrees_north"}
        assert np.array_equal(back.lon, LONGITUDES) and back.lon.dtype == np.float32
        assert back.attrs == {"title": "a test"} and set(back.coords) == {"lat", "lon"}
        packed = np.rint((samples_of(data).astype("f8") - 285) / 0.001)
        assert np.array_equal(back.t2m.values, packed)
    with open(tmp_path / "b.nc", "rb") as stream:
        assert stream.read(3) == (b"CDF" if version == 3 else b"\x89HD")


def test_numbers_that_the_library_would_take_for_missing_are_written_beside_another_fill_value(tmp_path: Path) -> None:
    counts = GENERATOR.integers(-32767, 32768, (N, 16, 16)).astype("i2")
    counts[0, 0, 0] = DEFAULT_FILLS["int16"]
    data = opened(saved(tmp_path / "a.nc", grid(counts), _FillValue=np.int16(-32768)))
    assert_same(data, counts)
    write(str(tmp_path / "b.nc"), counts, data.layout)
    assert np.array_equal(in_order(examples(opened(tmp_path / "b.nc"))), in_order(counts))


def test_complex_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", (KELVIN + 1j).astype("c8"))
    data = opened(tmp_path / "a.npy")
    with pytest.raises(ScorefieldError, match=r"for complex numbers, which NetCDF does not have, expected \.npz or \.h5"):
        write(str(tmp_path / "b.nc"), samples_of(data), data.layout)


def test_train_and_sample_take_a_file_to_a_file(tmp_path: Path) -> None:
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.pictures=0")
    app.train(str(saved(tmp_path / "a.nc", grid(KELVIN), **STORED)), out=tmp_path / "run", steps=3, settings=small)
    app.sample(tmp_path / "run", n=3, steps=3, out=tmp_path / "b.nc")
    with xarray.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as back:
        assert back.t2m.shape == (3, 16, 16) and back.t2m.encoding["dtype"] == np.int16
        assert np.isfinite(back.t2m.values).all()


def test_complex_samples_are_refused_before_anything_is_drawn() -> None:
    layout = Layout("", "complex64", (5,))
    with pytest.raises(ScorefieldError, match=r"got 'a\.nc' for complex numbers, which NetCDF does not have"):
        writers("vector")[".nc"].check("a.nc", layout)


@pytest.mark.parametrize("keep", [60, 400, -5])
def test_a_classic_file_that_was_cut_is_said_to_be(tmp_path: Path, keep: int) -> None:
    grid(KELVIN).to_netcdf(tmp_path / "a.nc", engine="scipy", format="NETCDF3_64BIT")
    (tmp_path / "b.nc").write_bytes((tmp_path / "a.nc").read_bytes()[:keep])
    with pytest.raises(
        ScorefieldError, match=r"got 'b\.nc', which cannot be read \(truncated: it ends before its numbers do\)"
    ):
        opened(tmp_path / "b.nc", key="t2m")
