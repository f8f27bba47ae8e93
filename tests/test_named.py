"""Files of several arrays: .npz archives and folders of .npy; which array is learned, and what is asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import SPOTS, N, assert_same, encrypt, examples, opened

from scorefield import ScorefieldError, app
from scorefield.data import DataConfig, open_source
from scorefield.data.formats import ordered

LABELS = np.arange(N) % 3
GREY = (255 * SPOTS).astype(np.uint8)


def archive(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


# --- one choice is plain, or a person is asked -------------------------------------------------------------------------


def test_a_grid_with_matrices_of_coordinates_is_asked_about_in_a_sentence_that_lists_all_arrays(tmp_path: Path) -> None:
    y, x = np.mgrid[:16, :16].astype(float)
    file = archive(tmp_path, x=x, y=y, u=SPOTS)
    with pytest.raises(ScorefieldError) as refusal:
        opened(file)
    assert str(refusal.value) == (
        "got 'data.npz' with x (16, 16) float64, y (16, 16) float64, u (40, 16, 16) float32, expected one array of data: say "
        "which to learn, such as --set data.key=u"
    )
    assert_same(opened(file, key="u"), SPOTS, 1e-6)


def test_axes_of_a_grid_are_coordinates_and_the_field_on_it_is_learned(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, x=np.arange(16.0), y=np.arange(16.0) / 2, t=np.float64(3), u=SPOTS))
    assert_same(data, SPOTS, 1e-6)
    assert data.notes[0] == "Left out of 'data.npz': x (16,) float64, y (16,) float64, taken as coordinates of u."


def test_two_arrays_of_pictures_are_asked_about_whatever_their_names(tmp_path: Path) -> None:
    file = archive(tmp_path, images=GREY, masks=GREY > 99)
    with pytest.raises(ScorefieldError, match=r"images \(40, 16, 16\) uint8, masks \(40, 16, 16\) bool, expected one array"):
        opened(file)
    assert_same(opened(file, key="masks"), GREY > 99)


def test_a_key_that_is_not_there_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"expected one array called 'presure': .* --set data\.key=pressure"):
        opened(archive(tmp_path, pressure=SPOTS, wind=SPOTS), key="presure")
    np.save(tmp_path / "one.npy", SPOTS)
    with pytest.raises(ScorefieldError, match=r"got data\.key for 'one\.npy', expected it for files of several arrays"):
        opened(tmp_path / "one.npy", key="u")


def test_python_objects_beside_the_data_are_named_and_never_opened(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, u=SPOTS, meta=np.array([{"a": 1}], dtype=object)))
    assert data.notes[0] == "Left out of 'data.npz': meta (Python objects, which are never opened)."
    with pytest.raises(ScorefieldError, match=r"got data\.key=meta of 'data\.npz', Python objects, which are never opened"):
        opened(tmp_path / "data.npz", key="meta")


def test_an_encrypted_archive_is_named_as_such(tmp_path: Path) -> None:
    file = archive(tmp_path, u=SPOTS)
    encrypt(file)
    with pytest.raises(ScorefieldError, match=r"got 'data\.npz', which cannot be read \(.*is encrypted, password required"):
        opened(file)


def test_the_axis_of_the_examples_may_be_the_last_one(tmp_path: Path) -> None:
    file = archive(tmp_path, u=np.moveaxis(SPOTS, 0, -1))
    assert_same(opened(file, axes="yxn"), SPOTS, 1e-6)
    np.save(tmp_path / "u.npy", np.moveaxis(SPOTS, 0, -1))
    assert_same(opened(tmp_path / "u.npy", axes="yxn"), SPOTS, 1e-6)
    with pytest.raises(ScorefieldError, match=r"got data\.axes=yn for an array of 3 axes, expected a letter for each"):
        opened(file, axes="yn")


# --- the file's own division -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["{part}_{what}", "{what}_{part}", "{part}/{what}"])
def test_parts_of_a_benchmark_stay_as_they_are(tmp_path: Path, names: str) -> None:
    sizes = {"train": slice(0, 24), "val": slice(24, 32), "test": slice(32, 40)}
    arrays = {
        names.format(part=part, what=what): array[rows]
        for part, rows in sizes.items()
        for what, array in (("images", GREY), ("labels", LABELS[:, None]))
    }
    data = opened(archive(tmp_path, **arrays))
    train, val, test = (names.format(part=part, what="images") for part in sizes)
    assert (data.train[:, 0].numpy() == GREY[:24]).all() and (data.held_out[:, 0].numpy() == GREY[24:32]).all()
    assert data.labels is not None and data.held_out_labels is not None
    assert data.labels.tolist() == LABELS[:24].tolist() and data.held_out_labels.tolist() == LABELS[24:32].tolist()
    assert data.notes[0] == f"Read of 'data.npz': {train}, 24 rows, to learn from; {val}, 8 rows, held out."
    assert data.notes[1] == f"{test}, 8 rows, was left out: give it as a file of its own."
    assert len(opened(tmp_path / "data.npz", held_out=0.25).held_out) == 8  # of both parts together
    assert len(opened(tmp_path / "data.npz", held_out=0.5).held_out) == 16


def test_without_a_part_for_validation_that_of_the_test_is_held_out(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, x_train=GREY[:30], y_train=LABELS[:30], x_test=GREY[30:], y_test=LABELS[30:]))
    assert (data.held_out[:, 0].numpy() == GREY[30:]).all()
    assert data.classes == ("0", "1", "2")


def test_a_training_part_alone_has_its_labels_by_their_name_without_the_part(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, train_images=GREY, train_labels=LABELS, test_names=np.array(["a", "b"])))
    assert_same(data, GREY)
    assert data.classes == ("0", "1", "2")
    assert opened(archive(tmp_path, train=GREY, labels=LABELS)).classes == ("0", "1", "2")


def test_labels_that_only_one_part_has_are_left_out_with_a_word(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, x_train=GREY[:30], y_train=LABELS[:30], x_test=GREY[30:]))
    assert data.labels is None
    assert "The labels y_train were left out: x_test has none." in data.notes


def test_a_name_that_begins_with_train_is_no_part_where_it_holds_no_examples(tmp_path: Path) -> None:
    data = opened(archive(tmp_path, train_time=np.arange(N) / 7, test_time=np.arange(9.0), u=SPOTS))
    assert_same(data, SPOTS, 1e-6)


# --- folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_has_an_example_a_file_and_its_sub_folders_are_labels(tmp_path: Path) -> None:
    for i, spot in enumerate(SPOTS):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i:02d}.npy", spot)
    data = opened(tmp_path)
    assert_same(data, SPOTS, 1e-6)
    assert data.classes == ("a", "b") and set(data.names) >= {"a/00.npy", "b/39.npy"}
    assert any(note.startswith("Each of the 40 files is one example") for note in data.notes)


def test_a_folder_of_shards_has_the_rows_of_all_in_the_order_of_their_names(tmp_path: Path) -> None:
    for i, rows in enumerate((slice(0, 18), slice(18, 36), slice(36, 40))):
        np.save(tmp_path / f"{i}.npy", SPOTS[rows])
    data = opened(tmp_path)
    assert_same(data, SPOTS, 1e-6)
    assert data.names[0] == "0.npy[0]"
    assert any(note.startswith("40 examples lie along the first axis of 3 files") for note in data.notes)


def test_ten_files_of_one_shape_are_volumes_unless_their_axes_say_that_they_are_shards(tmp_path: Path) -> None:
    volumes = np.stack([SPOTS[i : i + 8] for i in range(10)])
    for i, volume in enumerate(volumes):
        np.save(tmp_path / f"{i}.npy", volume)
    assert_same(opened(tmp_path, axes="zyx"), volumes, 1e-6)
    assert_same(opened(tmp_path, axes="nyx"), volumes.reshape(-1, 16, 16), 1e-6)


def test_a_broken_file_of_a_folder_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    for i, spot in enumerate(SPOTS):
        np.save(tmp_path / f"{i:02d}.npy", spot)
    (tmp_path / "03.npy").write_bytes((tmp_path / "03.npy").read_bytes()[:200])
    (tmp_path / "04.npy").write_bytes(b"")
    np.save(tmp_path / "05.npy", SPOTS[5][:8])
    data = opened(tmp_path)
    assert len(data.train) + len(data.held_out) == 37
    assert [issue.where for issue in data.issues] == ["03.npy", "04.npy", "05.npy"]
    assert "mmap length is greater" in data.issues[0].cause
    assert data.issues[1].cause == "empty"
    assert data.issues[2].cause == "examples of shape (8, 16) float32, most are (16, 16) float32"


def test_a_folder_of_npy_is_claimed_before_it_is_taken_as_a_folder_of_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SPOTS)
    assert next(form for form in ordered("path") if form.claims(str(tmp_path))).suffixes == (".npy", ".npz")


# --- samples -----------------------------------------------------------------------------------------------------------


def test_samples_of_an_archive_go_back_by_the_name_of_its_array(tmp_path: Path) -> None:
    small = ("network=residual", "network.width=8", "network.blocks=1", "training.pictures=0", "data.key=u")
    file = archive(tmp_path, x=np.zeros((16, 16)), u=SPOTS)
    run = app.train(str(file), out=tmp_path / "run", steps=3, settings=small)
    app.sample(tmp_path / "run", n=2, out=tmp_path / "samples.npz", steps=3)
    with np.load(tmp_path / "samples.npz") as found:
        assert set(found.files) == {"u"} and found["u"].shape == (2, 16, 16) and found["u"].dtype == np.float32
    assert run is not None and examples(opened(file, key="u")).dtype == np.float32
    assert DataConfig().key is None


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4"])
def test_labels_of_a_part_are_labels_in_any_type(tmp_path: Path, dtype: str) -> None:
    """As MedMNIST has them: a column of bytes for each part."""
    parts = {"train": 30, "val": 10, "test": 12}
    arrays = {f"{part}_images": GREY[np.arange(n) % len(GREY)] for part, n in parts.items()}
    arrays |= {f"{part}_labels": (np.arange(n) % 3)[:, None].astype(dtype) for part, n in parts.items()}
    data = opened(archive(tmp_path, **arrays))
    assert (len(data.train), len(data.held_out), data.classes) == (30, 10, ("0", "1", "2"))
    assert data.labels.tolist() == [i % 3 for i in range(30)]


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_a_number_beside_the_array_of_each_file_is_its_label(tmp_path: Path, ending: str) -> None:
    for i in range(12):
        arrays = {"x": np.full((6, 5), i / 16, "f4") + np.arange(5, dtype="f4"), "y": np.int64(i % 3)}
        if ending == ".npz":
            np.savez(tmp_path / f"{i:02}.npz", **arrays)
        else:
            with pytest.importorskip("h5py").File(tmp_path / f"{i:02}.h5", "w") as file:
                for key, value in arrays.items():
                    file[key] = value
    data = open_source(str(tmp_path), DataConfig())
    assert data.labels is not None and data.classes == ("0", "1", "2")
    assert data.labels.tolist() == [round(float(row[0, 0, 0]) * 16) % 3 for row in data.train[:]]
