"""DICOM: images in the units of their modality, volumes of their series, and nothing of a person."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from instrument_files import R, as_a_user, examples, opened, refusal, sent_back
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, SecondaryCaptureImageStorage, generate_uid

from scorefield import ScorefieldError
from scorefield.data.formats import writers

SHAPE = (6, 8)
STORED = R.integers(0, 4096, (9, *SHAPE)).astype("u2")


def dicom(stored: Any, *, bits: int = 12, signed: bool = False, photometric: str = "MONOCHROME2", **tags: Any) -> Dataset:
    """A data set that stores these integers, of a person with a name."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made.PatientName, made.PatientID, made.InstitutionName = "Doe^Jane", "4711", "St. Elsewhere"
    frames = stored.ndim - (photometric == "RGB") > 2
    if frames:
        made.NumberOfFrames = stored.shape[0]
    made.Rows, made.Columns = stored.shape[frames : frames + 2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 3 if photometric == "RGB" else 1, photometric
    if photometric == "RGB":
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * stored.dtype.itemsize, bits, bits - 1
    made.PixelRepresentation = int(signed)
    for tag, value in tags.items():
        setattr(made, tag, value)
    made.PixelData = stored.tobytes()
    return made


def folder(place: Path, stored: Any, ending: str = ".dcm", **form: Any) -> Path:
    """A folder with a file for each of the arrays."""
    place.mkdir(exist_ok=True, parents=True)
    for number, one in enumerate(stored):
        dicom(one, **form).save_as(place / f"s{number:02d}{ending}", enforce_file_format=True)
    return place


def number_of(name: str) -> int:
    return int(name[1:3])


HOUNSFIELD = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
FORMS = {
    "hounsfield": (STORED, {**HOUNSFIELD, "Modality": "CT"}, "int16", lambda x: x.astype("i4") - 1024),
    "plain": (STORED, {}, "uint16", lambda x: x),
    "eight bits": ((STORED >> 4).astype("u1"), {"bits": 8}, "uint8", lambda x: x),
    "signed": ((STORED.astype("i4") - 2048).astype("i2"), {"bits": 16, "signed": True}, "int16", lambda x: x),
    "fractions": (STORED, {"RescaleSlope": "0.37", "RescaleIntercept": "-2.5"}, "float32", lambda x: 0.37 * x - 2.5),
    "sixteen bits": (STORED * 16, {"bits": 16, **HOUNSFIELD}, "int32", lambda x: x.astype("i4") - 1024),
    "colour": (R.integers(0, 256, (9, *SHAPE, 3)).astype("u1"), {"bits": 8, "photometric": "RGB"}, "uint8", lambda x: x),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_image_goes_out_with_the_stored_integers_that_it_came_with_and_in_its_units(name: str, tmp_path: Path) -> None:
    stored, form, dtype, units = FORMS[name]
    source = folder(tmp_path / "in", stored, PixelSpacing=["0.5", "0.75"], **form)
    data = opened(source)
    assert (data.kind, data.layout.dtype) == ("image", dtype)
    wanted = np.stack([units(stored[number_of(came)]) for came in data.names])
    assert np.abs(examples(data) - wanted).max() <= (1e-3 if dtype == "float32" else 0)
    for came, path in sent_back(data, tmp_path / "out", ".dcm").items():
        old, new = pydicom.dcmread(source / came), pydicom.dcmread(path)
        assert np.array_equal(new.pixel_array, old.pixel_array)
        assert float(new.get("RescaleSlope", 1)) == float(old.get("RescaleSlope", 1))
        assert float(new.get("RescaleIntercept", 0)) == float(old.get("RescaleIntercept", 0))
        assert [float(length) for length in new.PixelSpacing] == [0.5, 0.75]
        assert new.get("Modality") == old.get("Modality", "OT")
        assert new.BitsStored == old.BitsStored


def test_nothing_of_a_person_is_kept(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "in", STORED, **HOUNSFIELD))
    assert set(data.layout.header) == {"colour", "modality", "bits", "signed", "slope", "intercept"}
    for path in sent_back(data, tmp_path / "out", ".dcm").values():
        new = pydicom.dcmread(path)
        assert (str(new.PatientName), new.PatientID, new.ConversionType) == ("", "", "SYN")
        assert b"Doe" not in path.read_bytes()
        assert b"Elsewhere" not in path.read_bytes()


def test_monochrome1_is_mirrored_and_a_note_says_so(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "in", STORED, photometric="MONOCHROME1"))
    wanted = np.stack([4095 - STORED[number_of(name)] for name in data.names])
    assert np.array_equal(examples(data), wanted)
    assert any(note.startswith("MONOCHROME1") for note in data.notes)
    path = next(iter(sent_back(data, tmp_path / "out", ".dcm").values()))
    assert pydicom.dcmread(path).PhotometricInterpretation == "MONOCHROME2"


def test_twelve_signed_bits_have_their_sign_and_bits_beyond_those_stored_are_none_of_the_image(tmp_path: Path) -> None:
    pattern = np.tile(np.array([0xAFFF, 0x1800, 0xF7FF, 0x0001], "u2"), (9, 6, 2))
    data = opened(folder(tmp_path / "in", pattern, signed=True))
    assert np.array_equal(np.unique(examples(data)), [-2048, -1, 1, 2047])


def test_frames_of_a_file_are_examples_and_on_request_a_volume(tmp_path: Path) -> None:
    films = R.integers(0, 4096, (8, 5, *SHAPE)).astype("u2")
    place = folder(tmp_path / "in", films)
    frames = opened(place)
    assert (frames.kind, len(frames.train) + len(frames.held_out)) == ("image", 40)
    wanted = np.stack([films[number_of(name), int(name[-2])] for name in frames.names])
    assert np.array_equal(examples(frames), wanted)
    volumes = opened(place, kind="volume")
    assert np.array_equal(examples(volumes), np.stack([films[number_of(name)] for name in volumes.names]))
    assert len(opened(folder(tmp_path / "one", R.integers(0, 4096, (1, 12, *SHAPE)).astype("u2")) / "s00.dcm").train) == 11


def series(place: Path, volumes: Any, *, leave: dict[int, int] | None = None, suffix: str = "") -> Path:
    """A folder for each volume, its slices in files whose names are not in their order, across a tilted direction."""
    for number, volume in enumerate(volumes):
        uid, here = generate_uid(), place / f"scan{number:02d}"
        here.mkdir(parents=True)
        for k, plane in enumerate(volume):
            if (leave or {}).get(number) == k:
                continue
            tags = {"SeriesInstanceUID": uid, "ImagePositionPatient": ["3", str(-2.5 * k), "7"], "InstanceNumber": 99 - k,
                    "ImageOrientationPatient": ["1", "0", "0", "0", "0", "1"], "PixelSpacing": ["0.5", "0.5"]}  # fmt: skip
            dicom(plane, **HOUNSFIELD, **tags).save_as(here / f"{(k * 7 + 3) % 11:02d}{suffix}", enforce_file_format=True)
    return place


def test_slices_of_a_series_are_a_volume_in_the_order_of_their_places_whatever_the_names(tmp_path: Path) -> None:
    volumes = R.integers(0, 4096, (8, 5, *SHAPE)).astype("u2")
    data = opened(series(tmp_path / "in", volumes), kind="volume")  # and without a suffix
    assert (data.kind, data.shape, data.layout.dtype) == ("volume", (1, 5, *SHAPE), "int16")
    assert data.layout.header["between"] == 2.5
    for name, one in zip(data.names, examples(data), strict=True):
        assert np.array_equal(one, volumes[int(name[4:6])].astype("i4") - 1024)
    path = next(iter(sent_back(data, tmp_path / "out", ".dcm").values()))
    new = pydicom.dcmread(path)
    assert (new.NumberOfFrames, float(new.SpacingBetweenSlices)) == (5, 2.5)


def test_a_series_without_a_slice_in_its_middle_is_left_out_and_named(tmp_path: Path) -> None:
    volumes = R.integers(0, 4096, (10, 5, *SHAPE)).astype("u2")
    data = opened(series(tmp_path / "in", volumes, leave={3: 2, 4: 0}, suffix=".dcm"), kind="volume")
    found = {issue.where: issue.cause for issue in data.issues}
    assert found.keys() == {"scan03", "scan04"}
    assert "a slice missing after" in found["scan03"]
    assert found["scan04"].startswith("4x6x8 int16")


def test_each_broken_file_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", STORED, Modality="CT")
    whole = (place / "s00.dcm").read_bytes()
    (place / "cut.dcm").write_bytes(whole[:-10])
    (place / "short.dcm").write_bytes(whole[:200])
    (place / "empty.dcm").write_bytes(b"")
    (place / "text.dcm").write_bytes(b"no image at all" * 30)
    lying = dicom(STORED[0], Modality="CT")
    lying.Rows = lying.Columns = 65535
    lying.save_as(place / "lying.dcm", enforce_file_format=True)
    packed = dicom(STORED[0].astype("u1"), bits=8, Modality="CT")
    packed.file_meta.TransferSyntaxUID = JPEGLSLossless
    packed.PixelData = encapsulate([b"\xff\xd8" + bytes(20)])
    packed["PixelData"].is_undefined_length = True
    packed.save_as(place / "packed.dcm", enforce_file_format=True)
    deflated = dicom(STORED[0], Modality="CT")
    deflated.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    deflated.save_as(place / "deflated.dcm", enforce_file_format=True)
    dicom(STORED[0], Modality="MR").save_as(place / "other.dcm", enforce_file_format=True)
    no_image = dicom(STORED[0])
    del no_image.PixelData, no_image.Rows
    no_image.save_as(place / "report.dcm", enforce_file_format=True)
    found = {issue.where: issue.cause for issue in opened(place).issues}
    causes = {
        "cut.dcm": "truncated: its header states 96 bytes, there are 86",
        "short.dcm": "truncated",
        "empty.dcm": "empty",
        "text.dcm": "no mark DICM",
        "lying.dcm": "GiB, more than the 8 that are read" if 65535**2 * 2 > 2**33 else "truncated",
        "packed.dcm": "compressed as JPEG-LS Lossless Image Compression, which needs a plugin: pip install pylibjpeg",
        "deflated.dcm": "a deflated data set",
        "other.dcm": "modality MR, most files have",
        "report.dcm": "without an image",
    }
    assert found.keys() == causes.keys()
    assert all(part in found[name] for name, part in causes.items()), found


def test_a_single_image_is_no_data_set(tmp_path: Path) -> None:
    assert "got one image in 's00.dcm', expected at least 8" in refusal(folder(tmp_path / "in", STORED[:1]) / "s00.dcm")


def test_a_person_gets_slices_back_by_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "in", R.integers(0, 4096, (12, 8, 8)).astype("u2"), **HOUNSFIELD)
    paths = as_a_user(source, tmp_path, capsys, "image")
    assert [path.name for path in paths] == ["00000.dcm", "00001.dcm"]
    new = pydicom.dcmread(paths[0])
    assert (new.pixel_array.shape, new.BitsStored, float(new.RescaleIntercept)) == ((8, 8), 12, -1024.0)


def transformed(slope: str, intercept: str) -> Dataset:
    """A functional group that makes values of stored integers."""
    values, group = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, intercept, "HU"
    group.PixelValueTransformationSequence = [values]
    return group


def test_an_enhanced_file_has_the_units_of_its_shared_group(tmp_path: Path) -> None:
    made = dicom(STORED, SharedFunctionalGroupsSequence=[transformed("2", "-1024")])
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    data = opened(tmp_path / "a.dcm")
    assert data.layout.dtype == "int16"
    assert sorted(one.tobytes() for one in examples(data)) == sorted((2 * one.astype("i2") - 1024).tobytes() for one in STORED)


def test_each_frame_of_an_enhanced_file_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    pairs = [(0.25 * (i + 1), -8.0 * i) for i in range(9)]
    groups = [transformed(str(slope), str(intercept)) for slope, intercept in pairs]
    made = dicom(STORED, PerFrameFunctionalGroupsSequence=groups)
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    data = opened(tmp_path / "a.dcm")
    wanted = np.stack([slope * one + intercept for one, (slope, intercept) in zip(STORED, pairs, strict=True)]).astype("f4")
    assert data.layout.dtype == "float32"
    raw = np.concatenate([data.train[:].numpy(), data.held_out[:].numpy()])
    assert sorted(one.tobytes() for one in raw) == sorted(one.tobytes() for one in wanted)
    assert "slope" not in data.layout.header


def test_data_of_32_stored_bits_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "in", STORED.astype("u4") << 16, bits=32))
    assert data.layout.dtype == "uint32"
    said = r"got data of 32 stored bits for '00000.dcm', expected at most 16, as images of DICOM have: write \.npz"
    with pytest.raises(ScorefieldError, match=said):
        writers("image")[".dcm"].check("00000.dcm", data.layout)
