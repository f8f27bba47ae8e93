"""Image files as they were: 16 bits, floats, bands and stacks of TIFF come in and go out with their values, type and axes."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case
from numpy.typing import NDArray
from PIL import Image
from test_outputs import made

from scorefield.data import DataConfig, Dataset, of_sequence, open_source
from scorefield.data.files import archives
from scorefield.data.image import cache, deep, images, tiff, workers
from scorefield.data.layout import Layout
from scorefield.data.normaliser import Normaliser
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import Output
from scorefield.runs import open_run

Array = NDArray[Any]
tifffile = pytest.importorskip("tifffile")
codecs = pytest.importorskip("imagecodecs")
N = 10


def spots(count: int = N, height: int = 6, width: int = 8) -> Array:
    """Smooth spots between 0 and 1, no two alike, as multiples of 1/4096: exact in every type of float."""
    y, x = np.mgrid[:height, :width]
    places = np.random.default_rng(0).uniform(1, 5, (count, 2, 1, 1))
    return np.round(4096 * np.exp(-((y - places[:, 0]) ** 2 + (x - places[:, 1]) ** 2) / 6)) / 4096


def whole(data: Dataset) -> Array:
    """All examples in the order of the source, in its own axes and type."""
    rows = torch.cat([data.train[:], data.held_out[:]])
    order = np.argsort(data.names) if data.names else np.arange(len(rows))
    return data.layout.to_source(rows.numpy())[order]


def written(folder: Path, write: Callable[[Path, Array], object], pictures: Array, ending: str) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        write(folder / f"{i:03}{ending}", picture)
    return folder


def png(path: Path, picture: Array) -> None:
    path.write_bytes(codecs.png_encode(picture))


def plain_tiff(path: Path, picture: Array) -> None:
    tifffile.imwrite(path, picture)


def netpbm(path: Path, picture: Array) -> None:
    height, width = picture.shape[:2]
    magic = b"P6" if picture.ndim == 3 else b"P5"
    path.write_bytes(magic + b"\n# by hand\n%d %d 4095\n" % (width, height) + picture.astype(">u2").tobytes())


def contig(path: Path, picture: Array) -> None:
    tifffile.imwrite(
        path, picture, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"] * (picture.shape[-1] - 1)
    )


def planar(path: Path, picture: Array) -> None:
    tifffile.imwrite(path, picture, photometric="minisblack", planarconfig="separate")


def ome_channels(path: Path, picture: Array) -> None:
    tifffile.imwrite(path, picture, ome=True, metadata={"axes": "CYX"})


def colours(values: Array) -> Array:
    return np.stack([values, values * 3, values * 15], axis=-1)


DEEP: dict[str, tuple[Callable[[Path, Array], object], Array, str, str]] = {
    "16-bit grey PNG of few values": (png, (100 + 200 * spots()).astype(np.uint16), ".png", "yx"),
    "16-bit grey TIFF of 12 bits": (plain_tiff, (4095 * spots()).astype(np.uint16), ".tif", "yx"),
    "big-endian 16-bit grey TIFF": (
        lambda p, x: tifffile.imwrite(p, x, byteorder=">"),
        (4095 * spots()).astype(np.uint16),
        ".tif",
        "yx",
    ),
    "16-bit colour PNG": (png, colours((4095 * spots()).astype(np.uint16)), ".png", "yxc"),
    "16-bit colour TIFF": (
        lambda p, x: tifffile.imwrite(p, x, photometric="rgb"),
        colours((4095 * spots()).astype(np.uint16)),
        ".tif",
        "yxc",
    ),
    "12-bit PGM": (netpbm, (4095 * spots()).astype(np.uint16), ".pgm", "yx"),
    "12-bit PPM": (netpbm, (4095 * np.stack([spots(), spots() ** 2, spots() / 2], -1)).astype(np.uint16), ".ppm", "yxc"),
    "signed 16-bit TIFF": (plain_tiff, (600 * spots() - 300).astype(np.int16), ".tif", "yx"),
    "signed 8-bit TIFF": (plain_tiff, (200 * spots() - 100).astype(np.int8), ".tif", "yx"),
    "unsigned 32-bit TIFF": (plain_tiff, (4_294_963_200 * spots()).astype(np.uint32) // 4096 * 4096, ".tif", "yx"),
    "float TIFF in kelvin": (plain_tiff, (273 + 20 * spots()).astype(np.float32), ".tif", "yx"),
    "packed float TIFF": (
        lambda p, x: tifffile.imwrite(p, x, compression="zlib", predictor=3),
        (spots() - 7).astype(np.float32),
        ".tif",
        "yx",
    ),
    "double TIFF": (plain_tiff, 1000 * spots(), ".tif", "yx"),
    "half TIFF": (plain_tiff, (spots() * 64).round().astype(np.float16), ".tif", "yx"),
    "two 16-bit channels in planes": (
        planar,
        np.stack([4095 * spots(), 300 * spots() ** 2], 1).astype(np.uint16),
        ".tif",
        "cyx",
    ),
    "two 8-bit channels in pixels": (contig, np.stack([255 * spots(), 90 * spots() ** 2], -1).astype(np.uint8), ".tif", "yxc"),
    "five 8-bit channels in pixels": (
        contig,
        np.stack([255 * spots() ** i for i in range(1, 6)], -1).astype(np.uint8),
        ".tif",
        "yxc",
    ),
    "four 8-bit channels, none of them opacity": (
        lambda p, x: tifffile.imwrite(p, x, photometric="rgb", extrasamples=["unspecified"]),
        np.stack([255 * spots() ** i for i in range(1, 5)], -1).astype(np.uint8),
        ".tif",
        "yxc",
    ),
    "two channels of OME": (
        ome_channels,
        np.stack([4095 * spots(), 300 * spots() ** 2], 1).astype(np.uint16),
        ".ome.tif",
        "cyx",
    ),
}


@each_case(case=list(DEEP))
def test_what_a_folder_of_deep_images_holds_is_read_bit_by_bit_and_comes_back_as_files_of_its_type(
    case: str, tmp_path: Path
) -> None:
    write, pictures, ending, axes = DEEP[case]
    folder = written(tmp_path / "in", write, pictures, ending)
    data = open_source(str(folder), DataConfig())
    assert data.kind == "image" and data.layout.axes == axes and data.layout.dtype == pictures.dtype.name
    found = whole(data)
    assert found.dtype == pictures.dtype and np.array_equal(found, pictures)
    # through model space and the files of `sample --out folder`
    run = open_run(made(tmp_path / "run", folder))
    raw = run.decode(data.normaliser.encode(data.train[:]))
    with Output.of(run, len(raw), tmp_path / "out").writing() as add:
        add(raw, None)
    files = sorted(path for path in (tmp_path / "out").iterdir() if path.suffix != ".jsonl")
    as_png = pictures.dtype == np.uint16 and axes == "yx" and "tif" not in ending
    assert {path.suffix for path in files} == {".png" if as_png else ".tif"}
    back = np.stack([np.asarray(Image.open(path)) if as_png else tifffile.imread(path) for path in files])
    expected = pictures[[int(name[:3]) for name in data.names[: len(raw)]]]
    assert back.dtype == expected.dtype and back.shape == expected.shape
    if pictures.dtype.kind == "f":
        span = float(pictures.max() - pictures.min())
        assert (
            np.abs(back.astype(np.float64) - expected).max() <= span * 2**-10 * (pictures.dtype == np.float16) + span * 2**-22
        )
    elif pictures.dtype == np.uint32:  # a float32 holds 24 of the 32 bits
        assert np.abs(back.astype(np.float64) - expected).max() <= 2.0**32 * 2**-23
    else:
        assert np.array_equal(back, expected)


@pytest.mark.parametrize("source", ["folder", ".zip", ".tar"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_packed_big_endian_tiffs_of_one_band_hold_what_was_written_and_not_its_swapped_bytes(
    dtype: str, source: str, tmp_path: Path
) -> None:
    pictures = (1000 * spots() - 300).astype(dtype)
    folder = written(tmp_path / "in", lambda p, x: tifffile.imwrite(p, x, byteorder=">", compression="zlib"), pictures, ".tif")
    given = folder if source == "folder" else shutil.make_archive(str(tmp_path / "in"), source[1:], folder)
    data = open_source(str(given), DataConfig())
    assert data.layout.dtype == dtype
    assert np.array_equal(whole(data), pictures)


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("what", ["label map", "mask"])
def test_label_maps_and_masks_of_a_folder_come_back_with_the_values_of_the_files_only(
    what: str, ending: str, tmp_path: Path
) -> None:
    pictures = np.digitize(spots(), [0.1, 0.3, 0.6, 0.8]).astype(np.uint8) if what == "label map" else spots() > 0.5
    folder = written(tmp_path / "in", lambda p, x: Image.fromarray(x).save(p), pictures, ending)
    data = open_source(str(folder), DataConfig())
    assert data.layout.dtype == pictures.dtype and np.array_equal(whole(data), pictures)
    assert data.layout.legal == ((0, 1, 2, 3, 4) if what == "label map" else (0, 255))
    ends = data.normaliser.encode(data.train[:])
    assert (ends.min(), ends.max()) == (-1, 1), "the values fill the range of the model"
    run = open_run(made(tmp_path / "run", folder, step=0))
    raw = torch.cat([data.train[:], data.held_out[:]]).double()
    raw += torch.linspace(-0.4, 0.4, raw.numel()).reshape(raw.shape)  # a model is never exact
    with Output.of(run, N, tmp_path / "out").writing({"seed": 0}) as add:
        add(raw, None)
    files = sorted(path for path in (tmp_path / "out").iterdir() if path.suffix != ".jsonl")
    back = np.stack([np.asarray(Image.open(path)) for path in files])
    assert back.dtype == pictures.dtype
    assert np.array_equal(back[np.argsort(data.names)], pictures)


@each_case(form=["files", "stack", "stack of packed pages"])
@each_case(dtype=["uint8", "int16", "int32", "float32", "float64"])
def test_what_a_geotiff_declares_as_no_data_is_not_learned_and_stands_there_again(
    dtype: str, form: str, tmp_path: Path
) -> None:
    mark = 255 if dtype == "uint8" else -9999
    pictures = (1000 * spots() - 300).astype(dtype) if dtype != "uint8" else (200 * spots()).astype(dtype)
    pictures[:, 2, 3], pictures[::2, 0, 0] = mark, mark
    tags: dict[str, Any] = {"extratags": [(42113, "s", 0, str(mark), True)]}
    if form == "files":
        source = written(tmp_path / "in", lambda p, x: tifffile.imwrite(p, x, **tags), pictures, ".tif")
    else:
        source = tmp_path / "in.tif"
        tifffile.imwrite(source, pictures, compression="zlib" if "packed" in form else None, **tags)
    data = open_source(str(source), DataConfig())
    raw = torch.cat([data.train[:], data.held_out[:]])
    assert int(raw.isnan().sum()) == (pictures == mark).sum()
    assert float(raw.nan_to_num(nan=0).min()) >= -300 and float(raw.nan_to_num(nan=0).max()) <= 700
    assert data.layout.dtype == dtype
    tiff.save(str(tmp_path / "out.tif"), data.layout.to_source(raw.numpy()), "yx", dtype, data.layout.header)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        back = file.asarray()
        assert float(file.pages[0].tags[42113].value) == mark
    assert back.dtype == dtype
    assert sorted(one.tobytes() for one in back) == sorted(one.tobytes() for one in pictures)


@pytest.mark.parametrize("form", ["files", "stack"])
def test_a_tiff_whose_smallest_value_is_white_keeps_its_values_and_says_so_again(form: str, tmp_path: Path) -> None:
    pictures = (4095 * spots()).astype(np.uint16)
    if form == "files":
        source = written(tmp_path / "in", lambda p, x: tifffile.imwrite(p, x, photometric="miniswhite"), pictures, ".tif")
    else:
        tifffile.imwrite(source := tmp_path / "in.tif", pictures, photometric="miniswhite")
    data = open_source(str(source), DataConfig())
    values = data.layout.to_source(torch.cat([data.train[:], data.held_out[:]]).numpy())
    assert sorted(one.tobytes() for one in values) == sorted(one.tobytes() for one in pictures)
    tiff.save(str(tmp_path / "out.tif"), values, "yx", "uint16", data.layout.header)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        assert np.array_equal(file.asarray(), values)


def test_black_and_white_8_bit_images_stay_greys_and_label_maps_of_several_sizes_are_told_of(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "bw", lambda p, x: Image.fromarray(x).save(p), np.where(spots() > 0.5, 255, 0).astype("u1"), ".png"
    )
    data = open_source(str(folder), DataConfig())
    assert data.layout == Layout.plain("image", (1, 6, 8)) and data.notes == ()
    maps = np.digitize(spots(), [0.3, 0.6]).astype(np.uint8)
    folder = written(tmp_path / "maps", lambda p, x: Image.fromarray(x).save(p), maps, ".png")
    (note,) = [one for one in open_source(str(folder), DataConfig(size=4)).notes if "classes" in one]
    assert note.startswith("Values from 0 to 2: if these are numbers of classes, resizing has mixed them")


def test_grey_levels_100_to_300_are_201_levels_and_not_two(tmp_path: Path) -> None:
    ramp = np.stack([np.arange(100, 301, dtype=np.uint16).reshape(3, 67) for _ in range(N)])
    ramp[:, 0, 0] += np.arange(N, dtype=np.uint16)
    for ending in (".png", ".tif"):
        data = open_source(str(written(tmp_path / ending, lambda p, x: Image.fromarray(x).save(p), ramp, ending)), DataConfig())
        assert len(np.unique(data.train[:].numpy())) == 201
        assert (data.normaliser.shift, data.normaliser.scale) == ((200.0,), (100.0,))


def test_16_bit_colours_with_opacity_lie_on_white_in_16_bits(tmp_path: Path) -> None:
    pixel = np.zeros((4, 3, 4), dtype=np.uint16)
    pixel[:] = [[1000, 2000, 3000, 65535], [1000, 2000, 3000, 0], [1000, 2000, 3000, 13107]]
    pictures = np.stack([pixel] * N)
    pictures[:, 0, 0, 0] = np.arange(N)
    data = open_source(str(written(tmp_path / "in", png, pictures, ".png")), DataConfig())
    # 13107/65535 is 0.2: 65535·0.8 + 0.2·(1000, 2000, 3000)
    assert whole(data)[0, 1].tolist() == [[1000, 2000, 3000], [65535] * 3, [52628, 52828, 53028]]


def test_images_of_8_and_of_16_bits_become_16_and_a_note_says_so(tmp_path: Path) -> None:
    deep16 = (60000 * spots()).astype(np.uint16)
    folder = written(tmp_path / "in", png, deep16, ".png")
    eight = (255 * spots()).astype(np.uint8)
    written(folder / "8", png, eight, ".png")
    data = open_source(str(folder), DataConfig())
    found = dict(zip(sorted(data.names), whole(data), strict=True))
    assert all(np.array_equal(found[f"{i:03}.png"], deep16[i]) for i in range(N))
    assert all(np.array_equal(found[f"8/{i:03}.png"], eight[i].astype(int) * 257) for i in range(N))
    assert any(note.startswith("10 images of 8 bits and 10 of 16: ") for note in data.notes)


def test_a_few_floats_among_8_bit_images_are_left_out_with_the_cause_and_the_other_way_round(tmp_path: Path) -> None:
    for many, few, word in ((np.uint8, np.float32, "floats"), (np.float32, np.uint8, "8 bits")):
        folder = written(tmp_path / word, plain_tiff, (200 * spots()).astype(many), ".tif")
        written(folder / "few", plain_tiff, (200 * spots(2)).astype(few), ".tif")
        data = open_source(str(folder), DataConfig())
        causes = {issue.where: issue.cause for issue in data.issues}
        expected = f"its pixels have {word} ({np.dtype(few)}), most have {np.dtype(many)}"
        assert causes == {"few/000.tif": expected, "few/001.tif": expected}


def test_deep_images_of_many_sizes_are_resized_in_their_own_range(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", png, (100 + 200 * spots()).astype(np.uint16), ".png")
    written(folder / "more", png, (100 + 200 * spots(N, 12, 16)).astype(np.uint16), ".png")
    data = open_source(str(folder), DataConfig(size=(3, 4)))
    found = whole(data)
    assert found.shape == (2 * N, 3, 4) and found.dtype == np.uint16 and 100 <= found.min() < 110 and 250 < found.max() <= 300


# Without the libraries


@pytest.mark.parametrize(
    ("case", "library"),
    [("16-bit colour PNG", "imagecodecs"), ("16-bit colour TIFF", "tifffile"), ("five 8-bit channels in pixels", "tifffile")],
)
def test_without_the_library_nothing_is_cut_but_the_line_that_installs_it_is_named(
    case: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pictures, ending, _ = DEEP[case]
    folder = written(tmp_path / "in", write, pictures, ending)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ScorefieldError, match=rf'without the library {library}, .*pip install "scorefield\[tiff\]"'):
        open_source(str(folder), DataConfig())


@pytest.mark.parametrize(
    "case", ["16-bit grey PNG of few values", "16-bit grey TIFF of 12 bits", "float TIFF in kelvin", "12-bit PPM"]
)
def test_grey_16_bits_and_floats_need_no_library_besides_pillow(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pictures, ending, _ = DEEP[case]
    folder = written(tmp_path / "in", write, pictures, ending)
    for library in ("imagecodecs", "tifffile"):
        monkeypatch.setitem(sys.modules, library, None)
    assert np.array_equal(whole(open_source(str(folder), DataConfig())), pictures)


# Stacks

STACK = (4095 * spots(12)).astype(np.uint16)  # (12, 6, 8)
FOUR = STACK.reshape(3, 4, 6, 8)


BOTH = np.stack([STACK, STACK // 2], 1)  # (12, 2, 6, 8)
GREY: dict[str, Any] = {"photometric": "minisblack"}


def imagej(axes: str) -> dict[str, Any]:
    return {"imagej": True, "metadata": {"axes": axes}}


def ome(axes: str) -> dict[str, Any]:
    return {"ome": True, "metadata": {"axes": axes}, **GREY}


@each_case(
    options__stored__kind__letters__counted__expected=[
        (imagej("TYX"), STACK, "auto", "yx", "12 times is an image", STACK),
        (ome("TYX"), STACK, "auto", "yx", "12 times is an image", STACK),
        (GREY, STACK, "auto", "yx", "does not say what its pages are", STACK),
        (GREY | {"compression": "zlib"}, STACK, "auto", "yx", "does not say what its pages are", STACK),
        (imagej("ZYX"), STACK, "image", "yx", "12 planes is an image", STACK),
        (ome("TCYX"), BOTH, "auto", "cyx", "12 times is an image", BOTH),
        (imagej("TZYX"), BOTH, "auto", "zyx", "12 times is a volume", BOTH),
        (imagej("TZYX"), FOUR, "image", "yx", "3 times and 4 planes is an image", STACK),
        (ome("CTYX"), BOTH.swapaxes(0, 1), "auto", "cyx", "12 times is an image", BOTH),
        ({"photometric": "rgb"}, colours(STACK), "auto", "yxc", "12 of axis Q is an image", colours(STACK)),
    ]
)
def test_the_axes_of_a_stack_are_those_that_the_file_names_and_a_note_says_which_count(
    options: dict[str, Any], stored: Array, kind: Any, letters: str, counted: str, expected: Array, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    data = open_source(str(tmp_path / "a.tif"), DataConfig(kind=kind))
    assert data.kind == ("volume" if "z" in letters else "image")
    assert (data.layout.axes, data.layout.dtype, data.layout.shape) == (letters, "uint16", expected.shape[1:])
    found = {example.tobytes() for example in data.layout.to_source(torch.cat([data.train[:], data.held_out[:]]).numpy())}
    assert found == {example.tobytes() for example in expected}
    assert any(counted in note for note in data.notes), data.notes


def test_pages_that_were_written_one_by_one_are_a_stack_and_not_as_many_series(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in STACK:
            file.write(page, contiguous=False)
    Image.fromarray(STACK[0]).save(
        tmp_path / "b.tif", save_all=True, append_images=[Image.fromarray(page) for page in STACK[1:]]
    )
    for name in ("a.tif", "b.tif"):
        data = open_source(str(tmp_path / name), DataConfig())
        assert {one.tobytes() for one in data.layout.to_source(data.train[:].numpy())} <= {page.tobytes() for page in STACK}


def test_of_several_series_one_is_asked_for_by_its_number(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(STACK, photometric="minisblack", metadata={"axes": "TYX"})
        file.write(STACK[:, :3], photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(
        ScorefieldError, match=r"which has 2 series \(0: TYX 12x6x8 uint16; 1: TYX 12x3x8 uint16\), expected one: choose it"
    ):
        open_source(str(tmp_path / "a.tif"), DataConfig())
    assert open_source(str(tmp_path / "a.tif"), DataConfig(key="1")).layout.shape == (3, 8)
    with pytest.raises(ScorefieldError, match=r"expected data\.key='2' to be the number of one"):
        open_source(str(tmp_path / "a.tif"), DataConfig(key="2"))


def test_one_volume_or_one_picture_is_no_data_set_and_the_way_on_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(
        ScorefieldError, match=r"one volume .*12 planes.*--set data\.kind=image to learn its 12 planes as images"
    ):
        open_source(str(tmp_path / "z.tif"), DataConfig())
    tifffile.imwrite(tmp_path / "p.tif", STACK[0])
    with pytest.raises(ScorefieldError, match=r"'p\.tif', one image .*give the folder"):
        open_source(str(tmp_path / "p.tif"), DataConfig())


def test_a_folder_of_stacks_is_a_volume_in_each_and_comes_back_with_its_planes_apart_as_they_were(tmp_path: Path) -> None:
    volumes = np.stack([FOUR[0] // (i + 1) for i in range(N)])

    def stored(path: Path, volume: Array) -> None:
        metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "um"}
        tifffile.imwrite(path, volume, imagej=True, metadata=metadata, resolution=(4.0, 5.0))

    folder = written(tmp_path / "in", stored, volumes, ".tif")
    data = open_source(str(folder), DataConfig())
    assert data.kind == "volume" and data.layout.axes == "zyx" and np.array_equal(whole(data), volumes)
    header = data.layout.header
    layout = data.layout
    assert header["spacing"] == 2.5
    tiff.save(str(tmp_path / "one.tif"), volumes[:1], layout.axes, layout.dtype, header)
    with tifffile.TiffFile(tmp_path / "one.tif") as file:
        assert file.series[0].axes == "ZYX" and np.array_equal(file.asarray(), volumes[0])
        assert file.imagej_metadata["spacing"] == 2.5 and file.imagej_metadata["unit"] == "um"
        assert file.pages[0].tags["XResolution"].value == (4, 1) and file.pages[0].tags["YResolution"].value == (5, 1)
    planes = open_source(str(folder), DataConfig(kind="image"))
    assert planes.kind == "image" and len(planes.train) + len(planes.held_out) == 4 * N


def test_a_stack_goes_out_with_the_axes_and_the_sizes_of_a_pixel_that_it_came_with(tmp_path: Path) -> None:
    stored = np.stack([STACK, STACK // 2], 1)
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, ome=True, metadata=metadata)
    run = open_run(made(tmp_path / "run", tmp_path / "a.ome.tif"))
    data = open_source(str(tmp_path / "a.ome.tif"), DataConfig())
    raw = run.decode(data.normaliser.encode(data.train[:]))
    with Output.of(run, len(raw), tmp_path / "out.tif").writing() as add:
        add(raw, None)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.series[0].axes == "TCYX" and file.series[0].dtype == np.uint16
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"], pixels["PhysicalSizeY"]) == (0.325, "µm", 0.5)
        assert {one.tobytes() for one in file.asarray()} <= {one.tobytes() for one in stored}


# TIFFs that are broken or lie


def cut(path: Path, share: float = 0.7) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def with_tag(path: Path, number: int, value: int) -> None:
    """Overwrite a tag of the first page with a 32-bit or 16-bit number."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[number]
        place, kind, order = tag.valueoffset, int(tag.dtype), file.byteorder
    content = bytearray(path.read_bytes())
    struct.pack_into(order + ("H" if kind == 3 else "I"), content, place, value)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True, "metadata": {"axes": "TYX"}}])
def test_a_stack_that_is_cut_off_or_promises_more_than_it_holds_is_refused_in_one_sentence(
    options: dict[str, Any], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 65535, (12, 16, 16), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", noise, **({"photometric": "minisblack"} | options))
    shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif")
    cut(tmp_path / "a.tif")
    with_tag(tmp_path / "b.tif", 256, 60_000)
    with_tag(tmp_path / "b.tif", 257, 60_000)
    for name in ("a.tif", "b.tif"):
        with pytest.raises(ScorefieldError, match=rf"got '{name}', "):
            open_source(str(tmp_path / name), DataConfig())
    (tmp_path / "c.tif").write_bytes(b"II*\0" + bytes(4))
    (tmp_path / "d.tif").write_bytes(b"")
    for name in ("c.tif", "d.tif"):
        with pytest.raises(ScorefieldError, match=rf"got '{name}', "):
            open_source(str(tmp_path / name), DataConfig())


def test_in_a_folder_the_broken_tiffs_are_named_and_the_others_used(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 65535, (12, 16, 16, 2), dtype=np.uint16)
    folder = written(tmp_path / "in", contig, noise, ".tif")
    cut(folder / "003.tif")
    with_tag(folder / "005.tif", 257, 60_000)
    data = open_source(str(folder), DataConfig())
    causes = {issue.where: issue.cause for issue in data.issues if not issue.used}
    assert causes.keys() == {"003.tif", "005.tif"} and "cut off" in causes["003.tif"], causes
    assert np.array_equal(whole(data), np.delete(noise, [3, 5], axis=0))


def test_metadata_that_name_another_file_open_no_other_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "other.ome.tif", STACK + 1, ome=True, metadata={"axes": "TYX"})
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="6" SizeZ="1" SizeC="1" SizeT="24">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        + "".join(
            f'<TiffData IFD="{i % 12}" FirstT="{i}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
            for i, name in enumerate(["a.ome.tif"] * 12 + ["other.ome.tif"] * 12)
        )
        + "</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as file:
        for number, page in enumerate(STACK):
            file.write(page, description=xml if number == 0 else None, metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:  # the library alone goes there
        assert (file.asarray() == np.concatenate([STACK, STACK + 1])).all()
    opened_files = list[str]()
    listening = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening[0] and event == "open" and str(arguments[0]).endswith(".tif"):
            opened_files.append(os.path.basename(str(arguments[0])))

    sys.addaudithook(hook)
    with contextlib.suppress(ScorefieldError):
        open_source(str(tmp_path / "a.ome.tif"), DataConfig())
    listening[0] = False
    assert set(opened_files) == {"a.ome.tif"}


# What a folder holds instead


def test_a_folder_without_images_says_what_is_there_and_who_reads_it(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.xyz"):
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / "d.nii.gz").write_bytes(b"1234")
    with pytest.raises(ScorefieldError) as error:
        images.read(archives.folder(str(tmp_path)), DataConfig())
    sentence = str(error.value)
    assert "which holds 2 .wav" in sentence and "1 .xyz" in sentence and "1 .nii.gz" in sentence
    assert "the format audio reads .wav" in sentence and "archive" not in sentence


# Shards


def sharded(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def grey(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.array([[value, 0], [0, 9]], dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_names_with_dots_are_an_example_each_and_a_note_says_what_webdataset_makes_of_them(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    members = {}
    for i in range(12):
        members |= {f"scan.{i:03}.png": grey(10 * i), f"scan.{i:03}.cls": str(i % 2).encode()}
    sharded(tmp_path / "a.tar", members)
    data = open_source(str(tmp_path / "a.tar"), DataConfig())
    values = torch.cat([data.train[:], data.held_out[:]])[:, 0, 0, 0].tolist()
    assert sorted(values) == [10 * i for i in range(12)] and data.labels is not None and data.held_out_labels is not None
    assert torch.cat([data.labels, data.held_out_labels]).tolist() == [value // 10 % 2 for value in values]
    assert any("to webdataset a sample is what stands before the first dot, 'scan'" in note for note in data.notes)


def test_beside_a_plain_image_a_longer_suffix_is_something_else(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    members = {}
    for i in range(12):
        members |= {f"{i:03}.mask.png": grey(255), f"{i:03}.png": grey(10 * i), f"{i:03}.cls": str(i % 2).encode()}
    sharded(tmp_path / "a.tar", members)
    data = open_source(str(tmp_path / "a.tar"), DataConfig())
    assert sorted(torch.cat([data.train[:], data.held_out[:]])[:, 0, 0, 0].tolist()) == [10 * i for i in range(12)]
    assert data.classes == ("0", "1") and any(".mask.png 12" in note for note in data.notes)


# Sequences


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_images_of_pillow_with_16_or_32_bits_or_floats_keep_them(dtype: type[np.generic]) -> None:
    pictures = (100 + 60000 * spots()).astype(dtype)
    data = of_sequence([Image.fromarray(picture) for picture in pictures], DataConfig())
    assert data.kind == "image" and data.layout.dtype == np.dtype(dtype).name
    found = {one.tobytes() for one in data.layout.to_source(torch.cat([data.train[:], data.held_out[:]]).numpy())}
    assert found == {picture.tobytes() for picture in pictures}
    small = of_sequence([Image.fromarray(picture) for picture in pictures], DataConfig(size=(3, 4)))
    assert small.layout.shape == (3, 4) and float(small.train[:].max()) > 30000


def test_grey_images_of_two_types_in_a_list_are_refused_with_the_advice_that_helps() -> None:
    pictures: list[Any] = [Image.fromarray((255 * one).astype(np.uint8)) for one in spots()]
    pictures[3] = Image.fromarray((60000 * spots()[3]).astype(np.uint16))
    with pytest.raises(
        ScorefieldError, match=r"example 3 .* type uint16 after .* type uint8, expected them alike: convert them to one type"
    ):
        of_sequence(pictures, DataConfig())


# Workers


def everything(data: Dataset) -> tuple[Any, ...]:
    return data.coordinates_print, data.notes, data.issues, data.names, data.classes


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few files there are, workers read them, on two cores at least."""
    monkeypatch.setattr(workers, "WORTH", 0.0)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1})


def motley(folder: Path) -> Path:
    """Grey and colour images of two sizes in two classes, some of them broken or odd."""
    for label, (height, width) in itertools.product("ab", ((6, 8), (12, 16))):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i, one in enumerate(spots(20, height, width)):
            picture = (255 * one).astype(np.uint8)
            Image.fromarray(picture if i % 3 else colours(picture)).save(folder / label / f"{height}-{i}.png")
    (folder / "a" / "broken.png").write_bytes((folder / "a" / "6-1.png").read_bytes()[:60])
    (folder / "a" / "text.png").write_bytes(b"nothing")
    return folder


def test_workers_read_what_threads_read_from_a_folder_and_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = motley(tmp_path / "in")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    sources = [str(folder), str(tmp_path / "packed.zip")]
    alone = [everything(open_source(source, DataConfig())) for source in sources]
    monkeypatch.setattr(workers, "WORTH", 0.0)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1})
    started = list[Any]()
    start = workers.Worker.__init__
    monkeypatch.setattr(workers.Worker, "__init__", lambda self: (start(self), started.append(self.process))[0])
    assert [everything(open_source(source, DataConfig())) for source in sources] == alone
    assert len(started) >= 2 and all(process.poll() is not None for process in started)  # and each has ended


def test_the_files_of_a_worker_that_dies_are_read_all_the_same(
    tmp_path: Path, busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = motley(tmp_path / "in")
    monkeypatch.setattr(workers, "WORTH", 1e9)
    alone = everything(open_source(str(folder), DataConfig()))
    monkeypatch.setattr(workers, "WORTH", 0.0)
    for program in ("import sys; sys.exit(3)", "import sys; sys.stdin.readline(); print('[]', flush=True)"):
        monkeypatch.setattr(workers, "START", program)
        assert everything(open_source(str(folder), DataConfig())) == alone


def test_a_worker_leaves_large_images_and_missing_libraries_to_its_owner(
    tmp_path: Path, busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = np.zeros((2001, 2000, 3), dtype=np.uint8)
    big[:, ::2] = 200
    Image.fromarray(big).save(tmp_path / "big.png")
    entry = workers.Entry("big.png", 100, (tmp_path / "big.png").open, None, str(tmp_path / "big.png"))
    worker = workers.Worker()
    try:
        assert worker.see([entry], workers.Wanted((4, 4), 3, "uint8"), "") == [None]
        (header, pixels, cause) = worker.see([entry], None, "")[0] or (None, None, "")
        assert header == workers.Header((2001, 2000), False, 3) and pixels is None and cause == ""
    finally:
        worker.close()


# The cache


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, for few files that have just been written."""
    monkeypatch.setenv(cache.SWITCH, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH", 8)
    monkeypatch.setattr(cache, "SETTLED", 0.0)
    return tmp_path / "cache"


def opened(folder: Path, config: DataConfig | None = None) -> Dataset:
    data = open_source(str(folder), config or DataConfig())
    cache.wait()
    return data


def test_the_second_opening_decodes_nothing_and_gives_the_same_data(
    tmp_path: Path, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = motley(tmp_path / "in")
    deep16 = written(tmp_path / "deep", png, (60000 * spots()).astype(np.uint16), ".png")
    first = [everything(opened(folder)) for folder in (eight, deep16)]
    assert len(list(remembering.iterdir())) == 2
    for module in (workers, images):
        monkeypatch.setattr(module, "see", lambda *_: pytest.fail("a file was opened"))
    assert [everything(opened(folder)) for folder in (eight, deep16)] == first
    assert opened(deep16).layout.dtype == "uint16"


def test_a_file_that_changes_is_read_again_even_with_its_old_length_and_time(tmp_path: Path, remembering: Path) -> None:
    def bmp(path: Path, picture: Array) -> None:
        Image.fromarray(picture).save(path)

    pictures = (255 * spots()).astype(np.uint8)
    folder = written(tmp_path / "in", bmp, pictures, ".bmp")
    before = whole(opened(folder))
    path = folder / "004.bmp"
    status = path.stat()
    bmp(path, 255 - pictures[4])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size and path.stat().st_mtime_ns == status.st_mtime_ns
    after = whole(opened(folder))
    assert np.array_equal(after[4], 255 - before[4]) and np.array_equal(np.delete(after, 4, 0), np.delete(before, 4, 0))


def test_what_changed_just_now_is_not_remembered_nor_what_is_switched_off(
    tmp_path: Path, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "in", png, (255 * spots()).astype(np.uint8), ".png")
    monkeypatch.setattr(cache, "SETTLED", 1e6)
    opened(folder)
    monkeypatch.setattr(cache, "SETTLED", 0.0)
    monkeypatch.setenv(cache.SWITCH, "off")
    opened(folder)
    assert not remembering.exists()


def test_another_size_is_remembered_apart(tmp_path: Path, remembering: Path) -> None:
    folder = written(tmp_path / "in", png, (255 * spots()).astype(np.uint8), ".png")
    sizes = [opened(folder, DataConfig(size=side)).shape for side in (4, 3, 4)]
    assert sizes == [(1, 4, 4), (1, 3, 3), (1, 4, 4)] and len(list(remembering.iterdir())) == 2


def test_what_is_damaged_in_the_cache_or_may_be_written_by_others_is_not_used(
    tmp_path: Path, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "in", png, (255 * spots()).astype(np.uint8), ".png")
    first = everything(opened(folder))
    (held,) = remembering.iterdir()
    content = bytearray(held.read_bytes())
    content[len(content) // 3] ^= 255  # a pixel
    held.write_bytes(bytes(content))
    assert everything(opened(folder)) == first
    for spoil in (b"", b"PK\x03\x04 not an archive", bytes(content[:500])):
        held.write_bytes(spoil)
        assert everything(opened(folder)) == first
    remembering.chmod(0o777)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("the cache was read"))
    assert everything(opened(folder)) == first


def test_what_was_not_used_for_the_longest_time_makes_room(
    tmp_path: Path, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "in", png, (255 * spots()).astype(np.uint8), ".png")
    names = list[set[str]]()
    for side in (3, 4, 5):
        opened(folder, DataConfig(size=side))
        names.append({path.name for path in remembering.iterdir()})
        for age, path in enumerate(sorted(remembering.iterdir(), key=lambda one: one.stat().st_mtime)):
            os.utime(path, (10**9 + age, 10**9 + age))
        monkeypatch.setattr(cache, "MOST", 2 * max(path.stat().st_size for path in remembering.iterdir()) + 100)
    assert len(names[1]) == 2 and len(names[2]) == 2 and names[0] - names[2] == names[0]


# The map of 8-bit images


def test_the_fast_way_of_8_bit_images_into_model_space_is_the_exact_one() -> None:
    raw = torch.arange(256, dtype=torch.uint8).repeat(300).reshape(-1, 1, 16, 16)
    for low, high in ((0.0, 255.0), (0.0, 1.0), (3.0, 250.0), (0.1, 0.7)):
        map_ = Normaliser.between(low, high)
        exact = ((raw.double() - map_.shift[0]) / map_.scale[0]).float()
        assert map_.encode(raw).equal(exact)


def test_an_image_of_deep_reads_no_more_than_it_needs_of_a_head() -> None:
    assert deep._netpbm(b"P5 3 2 255\n") is None and deep._netpbm(b"P5 3") is None
    assert deep._netpbm(b"P5\n#a\n3 2\n 4095 ") == (b"P5", 3, 2, 4095, 16)


def test_a_zip_of_files_of_another_format_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(spots()):
        np.save(tmp_path / "in" / f"{i}.npy", picture)
    archive = shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    with pytest.raises(ScorefieldError, match=r"10 \.npy.* reads \.npy from a folder: unpack it and give the folder$"):
        open_source(archive, DataConfig())


def test_a_stack_of_imagej_that_was_cut_is_said_to_be(tmp_path: Path) -> None:
    stored = (999 * spots(40, 16, 16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata={"axes": "TYX"})
    assert len(open_source(str(tmp_path / "a.tif"), DataConfig()).train) > 0
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ScorefieldError, match=r"got 'b\.tif', expected a whole TIFF \(truncated: its header states 40 planes"):
        open_source(str(tmp_path / "b.tif"), DataConfig())
