"""HDF5: files and folders of them; what is chosen, what is refused before it is read, and what goes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import GENERATOR, SPOTS, N, assert_same, opened, samples_of

from scorefield import ScorefieldError, app
from scorefield.data.files.hdf5 import write
from scorefield.data.files.rows import Rows

h5py = pytest.importorskip("h5py")
LABELS = np.arange(N) % 3


def made(path: Path, fill: Callable[[Any], Any]) -> Path:
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def humidity(file: Any) -> None:
    file.attrs["instrument"] = "sonde 7"
    found = file.create_dataset("run/u", data=0.02 * SPOTS, chunks=(7, 5, 16), compression="gzip")
    found.attrs["units"], found.attrs["max"], found.attrs["gains"] = "kg/kg", 0.02, np.float32([1, 2])
    file["run/labels"] = LABELS


# --- reading -----------------------------------------------------------------------------------------------------------


def test_compressed_floats_come_back_in_their_own_units_with_the_labels_beside_them(tmp_path: Path) -> None:
    data = opened(made(tmp_path / "a.h5", humidity))
    assert_same(data, 0.02 * SPOTS, 1e-6)
    assert data.classes == ("0", "1", "2")
    assert data.labels is not None and data.held_out_labels is not None
    kinds = np.concatenate([data.labels.numpy(), data.held_out_labels.numpy()])
    owner = {spot.tobytes(): label for spot, label in zip((0.02 * SPOTS).astype("f4"), LABELS.tolist(), strict=True)}
    rows = np.concatenate([data.train[:].numpy(), data.held_out[:].numpy()])
    assert [owner[row[0].tobytes()] for row in rows] == kinds.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", ">f4", "bool", "complex64"])
def test_every_type_comes_back_as_it_was(tmp_path: Path, dtype: str) -> None:
    scale = {"bool": 1.5, "uint8": 255}.get(dtype, 30_000)
    array = (SPOTS * scale).astype(dtype) if dtype != "complex64" else (SPOTS + 2j * SPOTS[::-1]).astype(dtype)
    data = opened(made(tmp_path / "a.h5", lambda file: file.create_dataset("u", data=array)))
    assert_same(data, array.astype(np.dtype(dtype).newbyteorder("=")), 0 if np.dtype(dtype).kind in "iub" else 1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_an_attribute_calls_missing_is_not_learned_and_stands_there_again(tmp_path: Path, dtype: str) -> None:
    array = (1000 * SPOTS).astype(dtype)
    array[:, 3, 3], array[::2, 0, 0] = -9999, -9999

    def fill(file: Any) -> None:
        file.create_dataset("u", data=array, chunks=(7, 16, 16)).attrs["_FillValue"] = np.dtype(dtype).type(-9999)

    data = opened(made(tmp_path / "a.h5", fill))
    rows = np.concatenate([data.train[:].numpy(), data.held_out[:].numpy()])[:, 0]
    assert data.layout.dtype == dtype
    assert np.isnan(rows).sum() == (array == -9999).sum() and np.nanmin(rows) >= 0
    write(str(tmp_path / "b.h5"), data.layout.to_source(rows[:, None]), data.layout)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["u"].attrs["_FillValue"] == -9999 and file["u"].dtype == dtype
        assert sorted(one.tobytes() for one in file["u"][:]) == sorted(one.tobytes() for one in array)


def test_two_fields_are_asked_about_and_the_last_part_of_a_name_is_enough(tmp_path: Path) -> None:
    file = made(tmp_path / "a.h5", lambda file: [file.create_dataset(f"flow/{name}", data=SPOTS) for name in "uv"])
    with pytest.raises(ScorefieldError, match=r"got 'a\.h5' with flow/u \(40, 16, 16\) float32, .* --set data\.key=flow/u"):
        opened(file)
    assert_same(opened(file, key="v"), SPOTS, 1e-6)
    assert opened(file, key="v").layout.header["key"] == "flow/v"


def test_a_folder_of_scans_is_asked_for_its_array_once_and_the_slices_of_all_files_are_examples(tmp_path: Path) -> None:
    scans = [GENERATOR.normal(size=(2, slices, 3, 8, 6)).astype(np.float32) for slices in (5, 7, 6)]
    for i, (real, imaginary) in enumerate(scans):
        with h5py.File(tmp_path / f"scan{i}.h5", "w") as file:
            file["kspace"], file["reconstruction_esc"] = real + 1j * imaginary, real[:, 0]
            file["ismrmrd_header"], file.attrs["acquisition"], file.attrs["gain"] = b"<xml/>", "CORPD", float(i)
    with pytest.raises(
        ScorefieldError, match=r"kspace \(5, 3, 8, 6\) complex64, .*reconstruction_esc .*--set data\.key=kspace"
    ):
        opened(tmp_path)
    data = opened(tmp_path, key="kspace")
    assert_same(data, np.concatenate([real + 1j * imaginary for real, imaginary in scans]), 1e-6)
    assert (data.shape, data.layout.axes) == ((6, 8, 6), "cyx")
    assert data.layout.header["file"] == {"acquisition": "CORPD"}  # what all files share
    assert {"scan0.h5[0]", "scan2.h5[5]"} <= set(data.names)
    assert_same(opened(tmp_path, key="reconstruction_esc"), np.concatenate([real[:, 0] for real, _ in scans]), 1e-6)


def test_a_file_is_one_volume_where_its_axes_say_so(tmp_path: Path) -> None:
    volumes = SPOTS.reshape(10, 4, 16, 16)
    for i, volume in enumerate(volumes):
        made(tmp_path / f"{i}.h5", lambda file, volume=volume: file.create_dataset("u", data=volume))
    assert_same(opened(tmp_path, axes="zyx"), volumes, 1e-6)
    assert_same(opened(tmp_path), SPOTS, 1e-6)


def test_a_compound_array_is_a_table(tmp_path: Path) -> None:
    rows = np.zeros(N, [("mass", "f8"), ("count", "i4")])
    rows["mass"], rows["count"] = GENERATOR.normal(size=N), LABELS
    data = opened(made(tmp_path / "a.h5", lambda file: file.create_dataset("t", data=rows)))
    assert data.kind == "table" and data.columns is not None
    assert [column["name"] for column in data.columns] == ["mass", "count"]


def test_texts_are_labels_and_lists_are_named(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["u"], file["labels"] = SPOTS, [("cat", "dog")[i % 2] for i in range(N)]
        file.create_dataset("peaks", (N,), h5py.vlen_dtype("f4"))

    data = opened(made(tmp_path / "a.h5", fill))
    assert data.classes == ("cat", "dog")
    assert "Left out of 'a.h5': peaks (lists of different lengths)." in data.notes


def test_an_enumeration_gives_its_classes_their_names(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["u"] = SPOTS
        file.create_dataset("y", data=np.arange(N) % 2, dtype=h5py.enum_dtype({"cat": 0, "dog": 1}, basetype="i1"))

    assert opened(made(tmp_path / "a.h5", fill)).classes == ("cat", "dog")


def test_a_group_that_holds_itself_is_walked_through_once(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["run/u"] = SPOTS
        file["run/again"], file["run/same"] = file["/"], file["run/u"]

    assert_same(opened(made(tmp_path / "a.h5", fill)), SPOTS, 1e-6)


# --- in order ----------------------------------------------------------------------------------------------------------


def test_a_walk_through_all_rows_unpacks_each_chunk_once() -> None:
    asked = list[tuple[int, int]]()

    def read(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        return np.arange(first, last, dtype=float)[:, None].repeat(2**20, axis=1)

    rows = Rows((20, 2**20), "f8", read, "u", chunk=3)  # rows of 8 MiB: a block is a chunk
    walked = [rows[first : first + 2][:, 0].tolist() for first in range(0, 20, 2)]
    assert [i for part in walked for i in part] == list(range(20))
    assert asked == [(first, min(first + 3, 20)) for first in range(0, 20, 3)]


# --- what is refused ---------------------------------------------------------------------------------------------------


def written_nowhere(file: Any) -> None:
    file.create_dataset("u", (100, 8, 8), "f4")


def bomb(file: Any) -> None:
    file.create_dataset("u", (10**7, 64, 64), "f4", chunks=(16, 64, 64), compression="gzip")[:64] = 0


def outside(file: Any) -> None:
    file["u"] = h5py.ExternalLink("/somewhere/secret.h5", "u")


def view(file: Any) -> None:
    layout = h5py.VirtualLayout((N, 16, 16), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "u", (N, 16, 16))
    file.create_virtual_dataset("u", layout)


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (written_nowhere, r"\(100, 8, 8\) float32 of which nothing was written"),
        (bomb, r"whose header claims 152\.6 GiB where 0\.00 MiB are stored"),
        (outside, r"u \(\) a link to secret\.h5, which is not followed"),
        (view, r"u \(40, 16, 16\) a view of other files \(secret\.h5\), which are not opened"),
        (lambda file: None, r"got 'a\.h5' with nothing, expected one array of data"),
        (lambda file: file.create_dataset("u", data=SPOTS[:5]), r"got 5 examples in 'a\.h5', expected at least 8"),
    ],
)
def test_what_a_file_only_claims_to_hold_is_refused_before_anything_is_read(tmp_path: Path, fill: Any, said: str) -> None:
    with pytest.raises(ScorefieldError, match=said):
        opened(made(tmp_path / "a.h5", fill))


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda file: file.create_dataset("u", data=SPOTS, chunks=(N, 16, 16), compression="gzip"))
    content = path.read_bytes()
    place = content.index(b"deflate\x00") - 8  # the number of the filter, in the message that lists them
    assert content[place : place + 2] == b"\x01\x00" and content.count(b"deflate\x00") == 1
    path.write_bytes(content[:place] + (32_099).to_bytes(2, "little") + content[place + 2 :])
    with pytest.raises(ScorefieldError, match=r"u of 'a\.h5', packed by the filter .*\(number 32099\), which is not installed"):
        opened(path)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_cut_file_is_named_with_its_cause_and_the_others_of_its_folder_are_used(tmp_path: Path, keep: int) -> None:
    for i in range(4):
        made(tmp_path / f"{i}.h5", lambda file, i=i: file.create_dataset("u", data=SPOTS[10 * i : 10 * i + 10]))
    whole = (tmp_path / "2.h5").read_bytes()
    (tmp_path / "2.h5").write_bytes(whole[:keep])
    with pytest.raises(ScorefieldError, match=r"got '2\.h5'"):
        opened(tmp_path / "2.h5")
    data = opened(tmp_path)
    assert_same(data, np.concatenate([SPOTS[:20], SPOTS[30:]]), 1e-6)
    assert [issue.where for issue in data.issues] == ["2.h5"]
    assert {0: "empty", 100: "truncated file", 3000: "truncated file"}[keep] in data.issues[0].cause


def test_the_slices_before_a_broken_chunk_are_used_and_the_fault_is_named(tmp_path: Path) -> None:
    for i in range(2):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            found = file.create_dataset("u", data=SPOTS[20 * i : 20 * i + 20], chunks=(20, 16, 16), compression="gzip")
            place, size = found.id.get_chunk_info(0).byte_offset, found.id.get_chunk_info(0).size
    content = bytearray((tmp_path / "1.h5").read_bytes())
    content[place + size // 2 : place + size] = bytes(size - size // 2)
    (tmp_path / "1.h5").write_bytes(content)
    with pytest.raises(ScorefieldError, match=r"got u of '1\.h5', of which the examples 0 to 19 cannot be read"):
        opened(tmp_path / "1.h5")
    data = opened(tmp_path)
    assert_same(data, SPOTS[:20], 1e-6)
    assert [issue.where for issue in data.issues] == ["1.h5"]


def test_older_hdf4_and_other_files_of_the_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.hdf").write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    (tmp_path / "b.h5").write_bytes(b"no HDF5" * 99)
    with pytest.raises(ScorefieldError, match="it is an older HDF4 file: convert it with h4toh5"):
        opened(tmp_path / "a.hdf")
    with pytest.raises(ScorefieldError, match="file signature not found"):
        opened(tmp_path / "b.h5")


def test_without_the_library_the_line_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "a.h5", humidity)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ScorefieldError, match=r'without the library h5py, expected it: run pip install "scorefield\[hdf5\]"'):
        opened(tmp_path / "a.h5")


# --- going back --------------------------------------------------------------------------------------------------------


def test_samples_go_back_under_the_same_name_with_what_still_holds(tmp_path: Path) -> None:
    data = opened(made(tmp_path / "a.h5", humidity))
    write(str(tmp_path / "b.h5"), samples_of(data), data.layout)
    with h5py.File(tmp_path / "b.h5") as file:
        found = file["run/u"]
        assert np.array_equal(found[:], samples_of(data)) and found.dtype == np.float32 and found.compression == "gzip"
        assert set(found.attrs) == {"units", "gains"} and found.attrs["units"] == "kg/kg"  # the largest value is the data's own
        assert found.attrs["gains"].dtype == np.float32 and found.attrs["gains"].tolist() == [1, 2]
        assert dict(file.attrs) == {"instrument": "sonde 7"}
    assert_same(opened(tmp_path / "b.h5"), samples_of(data), 1e-6)


def test_plan_train_and_sample_take_a_file_to_a_file(tmp_path: Path) -> None:
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.pictures=0", "training.labels=0")
    made(tmp_path / "a.h5", humidity)
    app.train(str(tmp_path / "a.h5"), out=tmp_path / "run", steps=3, settings=small)
    app.sample(tmp_path / "run", n=3, steps=3, out=tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["run/u"].shape == (3, 16, 16) and file["run/u"].dtype == np.float32
