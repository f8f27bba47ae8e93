"""FITS: unsigned integers, unknown cells, units and coordinates of images come in as they are stored, and go out again."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from helpers import each_case
from instrument_files import R, as_a_user, examples, opened, refusal, sent_back

from scorefield import ScorefieldError
from scorefield.data.formats import writers

SHAPE = (6, 8)


def folder(place: Path, make: Callable[[int], Any], count: int = 9, ending: str = ".fits") -> Path:
    """A folder with what `make` gives for each number."""
    place.mkdir(exist_ok=True)
    for number in range(count):
        make(number).writeto(place / f"s{number:02d}{ending}")
    return place


def image(values: Any, **cards: Any) -> Any:
    """A primary image."""
    made = fits.PrimaryHDU(values)
    made.header.update({card.replace("_", "-"): value for card, value in cards.items()})
    return made


def number_of(name: str) -> int:
    return int(name[1:3])


TYPES = {
    "uint8": R.integers(0, 256, (9, *SHAPE)).astype("u1"),
    "int8": R.integers(-128, 128, (9, *SHAPE)).astype("i1"),
    "int16": R.integers(-30000, 30000, (9, *SHAPE)).astype("i2"),
    "uint16": R.integers(0, 65536, (9, *SHAPE)).astype("u2"),
    "int32": R.integers(-(2**30), 2**30, (9, *SHAPE)).astype("i4"),
    "uint32": R.integers(0, 2**32, (9, *SHAPE)).astype("u4"),
    "float32": R.normal(size=(9, *SHAPE)).astype("f4"),
    "float64": 1e-19 * R.normal(size=(9, *SHAPE)),
}


@each_case(ending=[".fits", ".fits.gz"])
@pytest.mark.parametrize("name", TYPES)
def test_an_image_goes_out_with_the_values_type_units_and_coordinates_that_it_came_with(
    name: str, ending: str, tmp_path: Path
) -> None:
    values = TYPES[name]
    kept = {"BUNIT": "adu", "CTYPE1": "RA---TAN", "CDELT1": 0.25, "CRPIX2": 3.5}
    source = folder(tmp_path / "in", lambda i: image(values[i], **kept, DATE_OBS="2020-01-01", OBJECT="M31"), ending=ending)
    data = opened(source)
    assert (data.kind, data.layout.dtype) == ("image", name)
    for came, path in sent_back(data, tmp_path / "out", ending).items():
        with fits.open(path) as new, fits.open(source / came) as old:
            assert new[0].data.dtype == old[0].data.dtype
            spread = float(np.abs(old[0].data.astype("f8")).max())
            bound = 4 * spread * np.finfo("f4").eps if values.dtype.itemsize > 2 else 0
            assert np.abs(new[0].data.astype("f8") - old[0].data.astype("f8")).max() <= bound
            assert {card: new[0].header[card] for card in kept} == kept
            assert not {"DATE-OBS", "OBJECT", "CHECKSUM"} & set(new[0].header)


def test_cards_that_differ_between_files_are_not_written_and_a_note_says_so(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "in", lambda i: image(TYPES["uint16"][i], CRVAL1=10.0 + i, CDELT1=0.5)))
    assert "The headers of the files differ in CRVAL1: samples are written without." in data.notes
    assert data.layout.header == {"CDELT1": 0.5}


def test_a_scale_and_a_zero_that_are_no_sign_make_floats(tmp_path: Path) -> None:
    stored = R.integers(-3000, 3000, (9, *SHAPE)).astype("i2")

    def make(number: int) -> Any:
        made = image(stored[number])
        made.header["BSCALE"], made.header["BZERO"] = 0.5, 100.0
        return made

    place = folder(tmp_path / "in", make)
    for path in place.iterdir():  # astropy scales what it writes: put the numbers as they are
        with fits.open(path, mode="update", do_not_scale_image_data=True) as file:
            file[0].data[:] = stored[number_of(path.name)]
    data = opened(place)
    assert data.layout.dtype == "float32"
    wanted = 0.5 * np.stack([stored[number_of(name)] for name in data.names]) + 100
    assert np.abs(examples(data) - wanted).max() < 1e-3


@pytest.mark.parametrize("unsigned", [False, True])
def test_blank_cells_are_unknown_in_signed_and_in_unsigned_images(unsigned: bool, tmp_path: Path) -> None:
    """astropy by itself returns the BLANK cells of unsigned images as numbers."""
    from scorefield.data.files.archives import file_entry
    from scorefield.data.files.fits import _example

    values = R.integers(0, 30000, SHAPE).astype("u2" if unsigned else "i2")
    values[0, 3] = 12345
    values[1:, 3][values[1:, 3] == 12345] = 0
    folder(tmp_path / "in", lambda i: image(values, BLANK=12345 - (32768 if unsigned else 0)), count=1)
    entry = file_entry(str(tmp_path / "in" / "s00.fits"), "s00.fits")
    read, header = _example(entry, None, 2, False, True)
    assert header["stored"] == ("uint16" if unsigned else "int16")
    assert np.argwhere(np.isnan(read)).tolist() == np.argwhere(values == 12345).tolist()
    assert np.array_equal(read[~np.isnan(read)], values[values != 12345])


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_folder_with_blank_cells_goes_out_with_them(unsigned: bool, tmp_path: Path) -> None:
    values = R.integers(0, 30000, (9, *SHAPE)).astype("u2" if unsigned else "i2")
    holes = R.random(values.shape) < 0.2
    values[holes] = 30001
    source = folder(tmp_path / "in", lambda i: image(values[i], BLANK=30001 - (32768 if unsigned else 0)))
    data = opened(source)
    assert (data.layout.dtype, data.layout.missing) == ("uint16" if unsigned else "int16", 30001)
    for came, path in sent_back(data, tmp_path / "out", ".fits").items():
        with fits.open(path, uint=False) as new:
            assert np.array_equal(np.isnan(new[0].data), holes[number_of(came)])
        assert np.array_equal(fits.getdata(path, do_not_scale_image_data=True),
                              fits.getdata(source / came, do_not_scale_image_data=True))  # fmt: skip


def test_unknown_cells_of_integers_are_written_as_blank_again(tmp_path: Path) -> None:
    from scorefield.data.layout import Layout

    layout = Layout("yx", "uint16", (2, 3), missing=65535.0, format="fits")
    sample = layout.to_source(np.array([[[[1.0, np.nan, 3.0], [4.0, 5.0, 40000.0]]]]))[0]
    writers("image")[".fits"].write(str(tmp_path / "x.fits"), sample, layout)
    with fits.open(tmp_path / "x.fits", uint=False) as file:
        assert np.isnan(file[0].data).tolist() == [[False, True, False], [False, False, False]]
        assert np.nan_to_num(file[0].data).tolist() == [[1, 0, 3], [4, 5, 40000]]


def test_planes_of_a_cube_alone_are_examples(tmp_path: Path) -> None:
    cube = R.normal(size=(20, *SHAPE)).astype("f4")
    image(cube, CTYPE3="FREQ", CRVAL3=1.4e9, CDELT1=0.1).writeto(tmp_path / "cube.fits")
    data = opened(tmp_path / "cube.fits")
    assert "The 20 planes of 'cube.fits' along its first axis (FREQ) were read as examples." in data.notes
    wanted = np.stack([cube[int(name.partition("[")[2][:-1])] for name in data.names])
    assert np.abs(examples(data) - wanted).max() < 1e-5
    assert data.layout.header == {"CDELT1": 0.1}  # and none of the axis that is no longer there


def test_a_cube_in_a_folder_is_asked_for_and_each_answer_works(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", lambda i: image(R.normal(size=(7, *SHAPE)).astype("f4"), CTYPE3="WAVE"))
    asked = refusal(place)
    assert "(WAVE)" in asked
    answers = {"cyx": (7, 6, 8), "zyx": (1, 7, 6, 8), "nyx": (1, 6, 8)}
    assert all(f"data.axes={axes}" in asked for axes in answers)
    for axes, shape in answers.items():
        assert opened(place, axes=axes).shape == shape


def test_axes_of_length_one_before_an_image_go_out_again(tmp_path: Path) -> None:
    values = R.normal(size=(9, 1, 1, *SHAPE)).astype("f4")
    data = opened(folder(tmp_path / "in", lambda i: image(values[i])))
    assert data.layout.axes == "yx"
    path = next(iter(sent_back(data, tmp_path / "out", ".fits").values()))
    assert fits.getdata(path).shape == (1, 1, *SHAPE)


def parts(number: int, *names: str) -> Any:
    """An empty primary part, and an image of its own value for each name."""
    images = [fits.ImageHDU((100.0 * k + number + R.normal(size=SHAPE)).astype("f4"), name=one) for k, one in enumerate(names)]
    return fits.HDUList([fits.PrimaryHDU(), *images])


def test_of_several_images_a_key_chooses_and_science_is_plain(tmp_path: Path) -> None:
    place = folder(tmp_path / "two", lambda i: parts(i, "FLUX", "ERR"))
    assert "with FLUX (6x8), ERR (6x8), expected to know which is meant: set data.key=FLUX" in refusal(place)
    assert float(opened(place, key="err").train.min()) > 50
    assert float(opened(place, key="1").train.max()) < 50
    assert "got data.key=DQ" in refusal(place, key="DQ")
    assert float(opened(folder(tmp_path / "sci", lambda i: parts(i, "ERR", "SCI"))).train.min()) > 50
    assert opened(folder(tmp_path / "one", lambda i: parts(i, "A"))).shape == (1, *SHAPE)


def test_a_compressed_image_is_read_as_the_plain_one(tmp_path: Path) -> None:
    values = TYPES["uint16"]
    place = folder(
        tmp_path / "in", lambda i: fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values[i])]), ending=".fits.fz"
    )
    data = opened(place)
    assert data.layout.dtype == "uint16"
    assert np.array_equal(examples(data), np.stack([values[number_of(name)] for name in data.names]))


def test_a_binary_table_is_a_table_and_its_null_is_missing(tmp_path: Path) -> None:
    whole = np.array([5, -99, 7, 9, 2, 4] * 4, dtype="i4")
    columns = [
        fits.Column("hits", "J", null=-99, array=whole),
        fits.Column("mag", "E", array=R.normal(size=24).astype("f4")),
        fits.Column("band", "4A", array=np.array(["g", "r", "i"] * 8)),
        fits.Column("spectrum", "3E", array=np.zeros((24, 3))),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "stars.fits")
    data = opened(tmp_path / "stars.fits")
    assert data.kind == "table"
    assert [(column["name"], column["type"]) for column in data.columns] == [
        ("hits", "integer"), ("mag", "number"), ("band", "category"),
    ]  # fmt: skip
    assert any("4 missing values" in note for note in data.notes)
    assert [issue.where for issue in data.issues] == ["column 'spectrum'"]


def test_each_broken_file_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", lambda i: image(TYPES["uint16"][i]))
    whole = (place / "s00.fits").read_bytes()
    long = whole.replace(b"NAXIS1  =                    8", b"NAXIS1  =          80000000000")
    (place / "cut.fits").write_bytes(whole[:2900])
    (place / "header.fits").write_bytes(whole[:1000])
    (place / "empty.fits").write_bytes(b"")
    (place / "lying.fits").write_bytes(long)
    (place / "packed.fits.gz").write_bytes(gzip.compress(whole)[:-50])
    (place / "text.fits").write_bytes(b"no image at all" * 400)
    fits.HDUList([fits.PrimaryHDU()]).writeto(place / "nothing.fits")
    image(TYPES["float32"][0]).writeto(place / "other.fits")
    found = {issue.where: issue.cause for issue in opened(place).issues}
    causes = {
        "cut.fits": "truncated: its header states 2,976 bytes, there are 2,900",
        "header.fits": "",
        "empty.fits": "empty",
        "lying.fits": "GiB, more than the 8 that are read",
        "packed.fits.gz": "truncated or damaged",
        "text.fits": "",
        "nothing.fits": "without an image or a table",
        "other.fits": "float32",
    }
    assert found.keys() == causes.keys()
    assert all(part in found[name] for name, part in causes.items()), found


def test_a_single_image_is_no_data_set(tmp_path: Path) -> None:
    image(TYPES["uint16"][0]).writeto(tmp_path / "x.fits")
    assert "got one image of 6x8 in 'x.fits', expected at least 8 examples" in refusal(tmp_path / "x.fits")


def test_without_the_library_the_line_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("scorefield.data.extras.importlib", type("_", (), {"import_module": staticmethod(missing)}))
    image(TYPES["uint16"][0]).writeto(tmp_path / "x.fits")
    assert 'pip install "scorefield[fits]"' in refusal(tmp_path / "x.fits")
    with pytest.raises(ScorefieldError, match="fits"):
        writers("image")[".fits"].check(str(tmp_path / "y.fits"))


def test_a_person_gets_images_back_by_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = R.integers(1000, 60000, (12, 8, 8)).astype("u2")
    source = folder(tmp_path / "in", lambda i: image(values[i], BUNIT="adu"), count=12)
    paths = as_a_user(source, tmp_path, capsys, "image")
    assert [path.name for path in paths] == ["00000.fits", "00001.fits"]
    with fits.open(paths[0]) as new:
        assert (new[0].data.dtype, new[0].data.shape, new[0].header["BUNIT"]) == (np.dtype("u2"), (8, 8), "adu")
