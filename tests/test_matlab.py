"""MATLAB: files of v4, v5 and v7.3; along which axis the examples lie, and their own classes and axes."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import GENERATOR, SPOTS, N, assert_same, opened, samples_of

from scorefield import ScorefieldError
from scorefield.data.files.matlab import write

h5py, io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
LAST = np.moveaxis(SPOTS, 0, -1)
KINDS = np.arange(N) % 3


def saved(path: Path, **arrays: Any) -> Path:
    io.savemat(path, arrays, do_compression=True)
    return path


def newer(path: Path, **arrays: tuple[str, np.ndarray]) -> Path:
    """A file of v7.3, as MATLAB lays it out: HDF5 behind a header, arrays column by column, each with its class."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, (kind, array) in arrays.items():
            stored = np.atleast_2d(array).T
            if array.dtype.kind == "c":
                stored = stored.view([("real", stored.real.dtype), ("imag", stored.real.dtype)])
            file.create_dataset(name, data=stored, compression="gzip").attrs["MATLAB_class"] = np.bytes_(kind)
        file.create_group("#refs#")["a"] = np.zeros((N, 5))
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def double_as_bytes(path: Path, array: np.ndarray, *, imaginary: np.ndarray | None = None) -> Path:
    """A file of v5 as MATLAB writes it: whole numbers of the class double are packed as bytes."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags = 6 | (0x0800 if imaginary is not None else 0)
    body = (
        element(6, struct.pack("<II", flags, 0)) + element(5, struct.pack(f"<{array.ndim}i", *array.shape)) + element(1, b"X")
    )
    body += element(2, array.astype("u1").tobytes("F"))
    if imaginary is not None:
        body += element(2, imaginary.astype("u1").tobytes("F"))
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element(14, body))
    return path


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_pictures_along_the_last_axis_are_upright_whatever_the_version(tmp_path: Path, version: str) -> None:
    tall = LAST[:, :12]  # 16 rows, 12 columns
    arrays = {"X": tall, "y": KINDS[:, None]}
    if version == "5":
        data = opened(saved(tmp_path / "a.mat", **arrays, note="hello"))
    else:
        kinds = {"X": ("single", tall), "y": ("double", KINDS[:, None] / 1.0), "note": ("char", np.array([[104, 105]], "u2"))}
        data = opened(newer(tmp_path / "a.mat", **kinds))
    assert_same(data, SPOTS[:, :, :12], 1e-6)
    assert data.classes == ("0", "1", "2") and data.layout.axes == "yx"
    assert "Left out of 'a.mat': note (text)." in data.notes
    assert "The 40 examples lie along the last axis of X (16, 12, 40)." in data.notes


def test_where_the_ends_are_alike_a_person_is_asked_and_an_n_in_the_axes_answers(tmp_path: Path) -> None:
    cube = GENERATOR.normal(size=(9, 16, 12)).astype("f4")
    file = saved(tmp_path / "a.mat", X=cube)
    with pytest.raises(ScorefieldError, match=r"say --set data\.axes=yxn if they lie along the last, nyx if along the first"):
        opened(file)
    assert_same(opened(file, axes="nyx"), cube, 1e-6)
    assert_same(opened(file, axes="yxn"), np.moveaxis(cube, -1, 0), 1e-6)


def test_colour_pictures_with_their_labels_need_no_word(tmp_path: Path) -> None:
    pictures = GENERATOR.integers(0, 256, (32, 32, 3, 50), dtype="u1")
    data = opened(saved(tmp_path / "a.mat", X=pictures, y=np.arange(50)[:, None] % 10 + 1))
    assert_same(data, np.moveaxis(pictures, -1, 0))
    assert len(data.classes) == 10


@pytest.mark.parametrize("version", ["4", "5"])
def test_rows_of_a_matrix_are_vectors(tmp_path: Path, version: str) -> None:
    rows = GENERATOR.normal(size=(30, 3))
    io.savemat(tmp_path / "a.mat", {"X": rows}, format=version)
    assert_same(opened(tmp_path / "a.mat"), rows, 1e-6)


def test_doubles_that_are_whole_numbers_stay_doubles(tmp_path: Path) -> None:
    """MATLAB packs them as bytes, and a reader that takes the packed type would make 8-bit pictures of them."""
    counts = (100 * LAST).round()
    assert_same(opened(double_as_bytes(tmp_path / "a.mat", counts)), np.moveaxis(counts.astype("f8"), -1, 0), 1e-6)


@pytest.mark.parametrize("version", ["5", "5 in bytes", "7.3"])
def test_complex_numbers_keep_their_imaginary_part(tmp_path: Path, version: str) -> None:
    array = (100 * LAST).round() + 1j * (100 * LAST[::-1]).round()
    match version:
        case "5":
            file = saved(tmp_path / "a.mat", X=array.astype("c16"))
        case "7.3":
            file = newer(tmp_path / "a.mat", X=("double", array.astype("c16")))
        case _:
            file = double_as_bytes(tmp_path / "a.mat", array.real, imaginary=array.imag)
    assert_same(opened(file), np.moveaxis(array.astype("c16"), -1, 0), 1e-6)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_logical_arrays_are_masks(tmp_path: Path, version: str) -> None:
    mask = LAST > 0.5
    file = saved(tmp_path / "a.mat", X=mask) if version == "5" else newer(tmp_path / "a.mat", X=("logical", mask.view("u1")))
    assert_same(opened(file), np.moveaxis(mask, -1, 0))


def test_cells_structs_and_sparse_matrices_are_named_and_not_opened(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    cells = np.array([1, "a"], dtype=object)
    saved(tmp_path / "a.mat", c=cells, s={"q": 1}, m=sparse.eye(30).tocsc())
    with pytest.raises(ScorefieldError, match=r"c \(2,\) cells, s \(1,\) a struct, m \(30, 30\) a sparse matrix, expected one"):
        opened(tmp_path / "a.mat")


def test_a_folder_has_the_examples_of_all_files(tmp_path: Path) -> None:
    for i in range(4):
        saved(tmp_path / f"{i}.mat", X=LAST[..., 10 * i : 10 * i + 10] + 1j)
    (tmp_path / "2.mat").write_bytes((tmp_path / "2.mat").read_bytes()[:300])
    data = opened(tmp_path)
    assert_same(data, (np.concatenate([SPOTS[:20], SPOTS[30:]]) + 1j).astype("c8"), 1e-6)
    assert [issue.where for issue in data.issues] == ["2.mat"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"junk" * 100, "Unknown mat file type"), (b"MATLAB 5.0 MAT-file", "Mat file appears to be truncated")],
)
def test_files_that_are_none_are_named_with_their_cause(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ScorefieldError, match=rf"got 'a\.mat', which cannot be read \({said}.*expected a whole \.mat file"):
        opened(tmp_path / "a.mat")


def test_an_array_that_claims_more_than_the_file_could_hold_is_refused(tmp_path: Path) -> None:
    path = double_as_bytes(tmp_path / "a.mat", np.ones((16, 16, 40)))
    path.write_bytes(path.read_bytes().replace(struct.pack("<3i", 16, 16, 40), struct.pack("<3i", 16, 16, 10**8)))
    with pytest.raises(ScorefieldError, match=r"X of 'a\.mat', whose header claims 190\.7 GiB where 0\.01 MiB are stored"):
        opened(path)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_samples_go_back_along_the_axis_of_the_examples_under_the_same_name(tmp_path: Path, version: str) -> None:
    file = saved(tmp_path / "a.mat", X=LAST) if version == "5" else newer(tmp_path / "a.mat", X=("single", LAST))
    data = opened(file)
    write(str(tmp_path / "b.mat"), samples_of(data), data.layout)
    assert io.whosmat(tmp_path / "b.mat") == [("X", (16, 16, 36), "single")]
    assert np.array_equal(io.loadmat(tmp_path / "b.mat")["X"], np.moveaxis(samples_of(data), 0, -1))
