"""NIfTI: values, axes and place in space of volumes come in as they are stored, and go out again."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers import each_case
from instrument_files import R, as_a_user, examples, opened, refusal, sent_back

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
SHAPE = (5, 4, 3)


def image(values: Any, *, slope: float | None = None, intercept: float = 0.0, affine: Any = AFFINE) -> Any:
    """A NIfTI image that stores these values as they are."""
    made = nibabel.Nifti1Image(values, affine, dtype=values.dtype)
    made.header.set_xyzt_units("mm")
    made.set_qform(affine, 1)
    made.set_sform(affine, 4)
    if slope is not None:
        made.header.set_slope_inter(slope, intercept)
    return made


def folder(place: Path, values: Any, ending: str = ".nii.gz", **form: Any) -> Path:
    """A folder with a file for each of the values."""
    place.mkdir(exist_ok=True)
    for number, one in enumerate(values):
        nibabel.save(image(one, **form), place / f"s{number:02d}{ending}")
    return place


TYPES = {
    "int16": R.integers(-1000, 3000, (9, *SHAPE)).astype("i2"),
    "uint8": R.integers(0, 256, (9, *SHAPE)).astype("u1"),
    "uint16": R.integers(0, 65536, (9, *SHAPE)).astype("u2"),
    "int32": R.integers(-(2**30), 2**30, (9, *SHAPE)).astype("i4"),
    "float32": R.normal(size=(9, *SHAPE)).astype("f4"),
    "float64": R.normal(size=(9, *SHAPE)),
    "complex64": (R.normal(size=(9, *SHAPE)) + 1j * R.normal(size=(9, *SHAPE))).astype("c8"),
    "channels": R.normal(size=(9, *SHAPE, 2)).astype("f4"),
}


@each_case(ending=[".nii", ".nii.gz"])
@pytest.mark.parametrize("name", TYPES)
def test_a_volume_goes_out_with_the_values_type_axes_and_place_that_it_came_with(
    name: str, ending: str, tmp_path: Path
) -> None:
    source = folder(tmp_path / "in", TYPES[name], ending)
    data = opened(source)
    assert data.kind == "volume"
    paths = sent_back(data, tmp_path / "out", ending)
    assert len(paths) == 9
    for came, path in paths.items():
        old, new = nibabel.load(source / came), nibabel.load(path)
        assert new.get_data_dtype() == old.get_data_dtype()
        assert new.shape == old.shape
        spread = float(np.abs(old.dataobj).max())
        exact = TYPES[name].dtype.kind in "iu"
        bound = 0 if exact and TYPES[name].dtype.itemsize <= 2 else 4 * spread * np.finfo("f4").eps
        assert np.abs(np.asarray(new.dataobj) - np.asarray(old.dataobj)).max() <= bound
        assert np.array_equal(new.affine, AFFINE)
        assert np.allclose(new.get_qform(), AFFINE)
        assert [int(new.header[code]) for code in ("qform_code", "sform_code")] == [1, 4]
        assert new.header.get_xyzt_units()[0] == "mm"


def test_a_slope_and_an_intercept_are_applied_once(tmp_path: Path) -> None:
    stored = R.integers(0, 4096, (9, *SHAPE)).astype("i2")
    data = opened(folder(tmp_path / "in", stored, slope=0.25, intercept=-7.0))
    assert data.layout.dtype == "float32"
    numbers = {name: int(name[1:3]) for name in data.names}
    for name, value in zip(data.names, examples(data), strict=True):
        assert np.allclose(value, 0.25 * stored[numbers[name]] - 7.0, atol=1024 * np.finfo("f4").eps)
    new = nibabel.load(next(iter(sent_back(data, tmp_path / "out", ".nii.gz").values())))
    assert np.asarray(new.dataobj).max() <= 0.25 * 4095 - 7  # and not scaled a second time


def test_rows_are_the_second_axis_of_the_file_and_columns_the_first(tmp_path: Path) -> None:
    values = TYPES["int16"]
    data = opened(folder(tmp_path / "in", values))
    first = values[int(data.names[0][1:3])]
    assert data.shape == (1, 3, 4, 5)
    assert all(data.train[0, 0, k, j, i] == first[i, j, k] for i in range(5) for j in range(4) for k in range(3))


def test_slices_on_request_are_those_of_the_third_axis(tmp_path: Path) -> None:
    values = TYPES["int16"]
    data = opened(folder(tmp_path / "in", values), kind="image")
    assert (data.kind, data.shape, len(data.train) + len(data.held_out)) == ("image", (1, 4, 5), 27)
    assert any("slices of 'in' along their third axis" in note for note in data.notes)
    for name, one in zip(data.names, examples(data), strict=True):
        number, k = int(name[1:3]), int(name.partition("[")[2][:-1])
        assert np.array_equal(one, values[number, :, :, k])


def test_a_single_volume_is_asked_for_its_slices(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", R.integers(0, 99, (1, 5, 4, 11)).astype("i2")) / "s00.nii.gz"
    assert "one example of shape 5x4x11" in refusal(place)
    assert "set data.kind=image to read its 11 slices" in refusal(place)
    assert len(opened(place, kind="image").train) == 10


def test_times_of_a_single_scan_are_examples(tmp_path: Path) -> None:
    scan = R.integers(0, 900, (5, 4, 3, 12)).astype("i2")
    nibabel.save(image(scan), tmp_path / "bold.nii")
    data = opened(tmp_path / "bold.nii")
    assert data.layout.axes == "xyz"
    assert any("fourth axis" in note and "counts examples" in note for note in data.notes)
    found = dict(zip(data.names, examples(data), strict=True))
    assert all(np.array_equal(found[f"bold.nii[{t}]"], scan[..., t]) for t in range(12))


def test_a_long_fourth_axis_in_a_folder_is_asked_for_and_both_answers_work(tmp_path: Path) -> None:
    values = R.normal(size=(8, 3, 4, 5, 6)).astype("f4")
    place = folder(tmp_path / "in", values)
    assert "data.axes=xyzn if each time is an example, data.axes=xyzc if they are channels" in refusal(place)
    channels = opened(place, axes="xyzc")
    assert channels.shape == (6, 5, 4, 3)
    times = opened(place, axes="xyzn")
    assert (times.shape, len(times.train) + len(times.held_out)) == ((1, 5, 4, 3), 48)
    assert np.abs(examples(times) - np.stack([values[int(n[1:3]), ..., int(n[-2])] for n in times.names])).max() < 1e-6


def test_vectors_of_five_axes_keep_them(tmp_path: Path) -> None:
    fields = R.normal(size=(8, 4, 4, 4, 1, 3)).astype("f4")
    data = opened(folder(tmp_path / "in", fields))
    assert data.shape == (3, 4, 4, 4)
    path = next(iter(sent_back(data, tmp_path / "out", ".nii.gz").values()))
    assert nibabel.load(path).shape == (4, 4, 4, 1, 3)


def test_labels_stay_legal_whatever_type_they_are_stored_in(tmp_path: Path) -> None:
    labels = R.choice([0, 4, 11], (9, *SHAPE))
    whole = opened(folder(tmp_path / "whole", labels.astype("u1")))
    assert whole.layout.legal == (0, 4, 11)
    place = tmp_path / "floats"
    place.mkdir()
    for number, one in enumerate(labels.astype("f4")):
        made = image(one)
        made.header.set_intent("label")
        nibabel.save(made, place / f"s{number:02d}.nii.gz")
    assert opened(place).layout.legal == (0, 4, 11)


def test_an_affine_that_differs_is_not_written_but_sides_and_directions_are(tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for number, one in enumerate(TYPES["int16"]):
        moved = AFFINE.copy()
        moved[0, 3] += number
        nibabel.save(image(one, affine=moved), place / f"s{number:02d}.nii.gz")
    data = opened(place)
    assert any("differ in affine" in note for note in data.notes)
    new = nibabel.load(next(iter(sent_back(data, tmp_path / "out", ".nii.gz").values())))
    assert np.array_equal(new.affine[:3, :3], AFFINE[:3, :3])
    assert nibabel.aff2axcodes(new.affine) == ("L", "A", "S")


def test_a_volume_of_another_orientation_is_left_out_and_named(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", TYPES["int16"])
    nibabel.save(image(TYPES["int16"][0], affine=np.diag([2.0, 3, 4, 1])), place / "turned.nii.gz")
    issue = next(issue for issue in opened(place).issues if issue.where == "turned.nii.gz")
    assert "orientation RAS, most files have" in issue.cause
    assert "orientation LAS" in issue.cause


def broken(place: Path) -> dict[str, str]:
    """Write files that cannot be used into a folder; name -> cause."""
    whole = gzip.decompress((place / "s00.nii.gz").read_bytes())
    packed = (place / "s00.nii.gz").read_bytes()
    lying = bytearray(whole)
    lying[40:50] = struct.pack("<5h", 4, 30000, 30000, 30000, 30000)
    odd = bytearray(whole)
    odd[40:50] = struct.pack("<5h", 3, 5, -4, 3, 1)
    flipped = bytearray(packed)
    flipped[-6] ^= 1  # of the checksum
    (place / "cut.nii.gz").write_bytes(packed[:-40])
    (place / "cut.nii").write_bytes(whole[:380])
    (place / "header.nii").write_bytes(whole[:100])
    (place / "empty.nii.gz").write_bytes(b"")
    (place / "bomb.nii.gz").write_bytes(gzip.compress(bytes(lying)))
    (place / "lying.nii").write_bytes(lying)
    (place / "odd.nii").write_bytes(odd)
    (place / "flipped.nii.gz").write_bytes(flipped)
    (place / "text.nii").write_bytes(b"no volume at all")
    return {
        "cut.nii.gz": "truncated",
        "cut.nii": "truncated: its header states 472 bytes, there are 380",
        "header.nii": "truncated",
        "empty.nii.gz": "empty",
        "bomb.nii.gz": "GiB, more than the 8 that are read",
        "lying.nii": "GiB, more than the 8 that are read",
        "odd.nii": "states a shape of (5, -4, 3)",
        "flipped.nii.gz": "CRC",
        "text.nii": "no NIfTI file",
    }


def test_each_broken_file_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", TYPES["int16"])
    causes = broken(place)
    data = opened(place)
    found = {issue.where: issue.cause for issue in data.issues}
    assert found.keys() == causes.keys()
    assert all(part in found[name] for name, part in causes.items()), found
    assert len(data.train) + len(data.held_out) == 9


def test_packed_bytes_that_cannot_unpack_to_what_is_promised_are_not_unpacked(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", TYPES["int16"])
    header = bytearray(gzip.decompress((place / "s00.nii.gz").read_bytes()))
    header[40:50] = struct.pack("<5h", 3, 1000, 1000, 500, 1)  # a gigabyte of which nothing is there
    (place / "s99.nii.gz").write_bytes(gzip.compress(bytes(header)))
    (issue,) = opened(place).issues
    assert "packed ones cannot hold" in issue.cause


def test_a_volume_among_pictures_is_no_archive_to_repair(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(9):
        Image.fromarray(R.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    nibabel.save(image(TYPES["int16"][0]), tmp_path / "x.nii.gz")
    data = opened(tmp_path)
    assert not data.issues
    assert any(".nii.gz 1" in note for note in data.notes)


def test_a_person_gets_volumes_back_by_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "in", R.integers(0, 1200, (12, 8, 8, 8)).astype("i2"))
    paths = as_a_user(source, tmp_path, capsys, "volume")
    assert [path.name for path in paths] == ["00000.nii.gz", "00001.nii.gz"]
    new = nibabel.load(paths[0])
    assert (new.shape, new.get_data_dtype()) == ((8, 8, 8), np.dtype("i2"))
    assert np.array_equal(new.affine, AFFINE)


def test_the_second_version_of_the_format_is_read(tmp_path: Path) -> None:
    for number, one in enumerate(TYPES["int16"]):
        nibabel.save(nibabel.Nifti2Image(one, AFFINE, dtype=one.dtype), tmp_path / f"s{number:02d}.nii.gz")
    data = opened(tmp_path)
    assert (data.kind, data.layout.dtype) == ("volume", "int16")
    assert sorted(one.tolist() for one in examples(data)) == sorted(TYPES["int16"].tolist())


def test_voxels_of_colours_have_three_channels(tmp_path: Path) -> None:
    colours = R.integers(0, 256, (9, *SHAPE, 3)).astype("u1")
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    for number, one in enumerate(colours):
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(one).view(kind)[..., 0], AFFINE), tmp_path / f"s{number:02d}.nii")
    data = opened(tmp_path)
    assert data.shape == (3, *SHAPE[::-1])
    assert sorted(one.tolist() for one in examples(data)) == sorted(colours.tolist())
