"""Images from strangers: 200 files of every good and bad kind, exact pixels of every mode, zips that lie, and shards."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import each_case
from numpy.typing import NDArray
from PIL import Image

from scorefield.data import DataConfig, Dataset, open_source
from scorefield.data import spill as store
from scorefield.data.base import ArrayView, split
from scorefield.data.files import archives
from scorefield.data.image.decode import fitted
from scorefield.errors import ScorefieldError

Pixels = NDArray[np.uint8]
ROOT = os.geteuid() == 0  # who may read everything


def left_out(data: Dataset) -> dict[str, str]:
    return {issue.where: issue.cause for issue in data.issues if not issue.used}


def odd(data: Dataset) -> set[tuple[str, str]]:
    return {(issue.where, issue.cause) for issue in data.issues if issue.used}


def read_one(folder: Path, write: Callable[[Path], None], name: str, **options: object) -> Pixels:
    """Write one image eight times and return the pixels that are read of it, (channels, height, width)."""
    folder.mkdir(exist_ok=True)
    for i in range(8):
        write(folder / f"{i}{name}")
    data = open_source(str(folder), DataConfig(**options))  # type: ignore[arg-type]
    assert not left_out(data)
    return np.asarray(data.train[:][0])


# The torture folder: every good file shows a number from 0 to 255, by the greys of two quarters


def picture(number: int, height: int = 32, width: int = 48) -> Pixels:
    """White above; below, left and right of the centre, the two digits of a number in base 16, each 17 greys apart."""
    grey = np.full((height, width), 255, dtype=np.uint8)
    grey[height // 2 :, : width // 2] = number // 16 * 17
    grey[height // 2 :, width // 2 :] = number % 16 * 17
    return grey


def number_of(pixels: torch.Tensor) -> int:
    """Read the number off an example of 16 x 16: the middle of a quarter is further from its edges than Lanczos reaches."""
    digits = (pixels.double().mean(dim=0)[12, [4, 12]] / 17).round()
    return int(digits[0] * 16 + digits[1])


def png(width: int, height: int, rows: bytes = b"", *, kind: int = 0, bits: int = 8) -> bytes:
    """A PNG of any size, whatever its content."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">2I5B", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def good_files() -> dict[str | bytes, bytes]:
    """Good files of every kind; the number that the i-th shows is i, but those of one bit show 0, 15, 240 or 255."""
    turned = {2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: np.transpose}
    turned |= {6: np.rot90, 7: lambda x: np.rot90(x, 2).T, 8: lambda x: np.rot90(x, -1)}

    def lying(number: int, orientation: int, kind: str) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.ascontiguousarray(turned[orientation](picture(number)))
        return encoded(Image.fromarray(stored), kind, exif=exif, quality=95)

    def grey(number: int) -> Image.Image:
        return Image.fromarray(picture(number))

    def seen_through(number: int, mode: str) -> bytes:
        alpha = np.full((32, 48), 255, dtype=np.uint8)
        alpha[:16] = 0  # the white above is what shows through black
        black = np.where(alpha == 0, 0, picture(number)).astype(np.uint8)
        image = Image.fromarray(black).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        return encoded(image, "PNG")

    def see_through_palette(number: int) -> bytes:
        image = Image.fromarray(picture(number)).convert("P")
        image.putpalette([value for grey in range(255) for value in (grey, grey, grey)] + [9, 9, 9])
        image.putpixel((0, 0), 255)
        return encoded(image, "PNG", transparency=255)  # the white above, for those whose digits are not 15

    def ink(number: int) -> Image.Image:
        return Image.merge("CMYK", [Image.new("L", (48, 32))] * 3 + [Image.fromarray(255 - picture(number))])

    def frames(number: int, kind: str) -> bytes:
        more = [Image.new("L", (48, 32), shade) for shade in (30, 90)]
        return encoded(grey(number), kind, save_all=True, append_images=more, **({"lossless": True} if kind == "WEBP" else {}))

    kinds: list[tuple[str, Callable[[int], bytes]]] = [
        ("grey.png", lambda n: encoded(grey(n), "PNG")),
        ("colour.jpg", lambda n: encoded(grey(n).convert("RGB"), "JPEG", quality=95)),
        ("wide.bmp", lambda n: encoded(Image.fromarray(picture(n, 64, 200)), "BMP")),
        ("high.gif", lambda n: encoded(Image.fromarray(picture(n, 50, 34)), "GIF")),
        ("small.webp", lambda n: encoded(Image.fromarray(picture(n, 16, 16)).convert("RGB"), "WEBP", lossless=True)),
        ("page.tif", lambda n: encoded(grey(n), "TIFF", compression="tiff_lzw")),
        ("rgba.png", lambda n: seen_through(n, "RGBA")),
        ("la.png", lambda n: seen_through(n, "LA")),
        ("deep.png", lambda n: encoded(Image.fromarray(picture(n).astype(np.uint16) * 257), "PNG")),
        ("deep.tiff", lambda n: encoded(Image.fromarray(picture(n).astype(np.uint16) * 257), "TIFF")),
        ("ink.jpeg", lambda n: encoded(ink(n), "JPEG", quality=95)),
        ("ink.tif", lambda n: encoded(ink(n), "TIFF")),
        ("palette.png", lambda n: encoded(grey(n).convert("P"), "PNG")),
        ("holes.png", see_through_palette),
        ("really-a-png.jpg", lambda n: encoded(grey(n), "PNG")),
        ("really-a-jpg.PNG", lambda n: encoded(grey(n), "JPEG", quality=95)),
        ("moves.gif", lambda n: frames(n, "GIF")),
        ("moves.webp", lambda n: frames(n, "WEBP")),
        ("pages.tif", lambda n: frames(n, "TIFF")),
        *((f"lying{o}.jpg", lambda n, o=o: lying(n, o, "JPEG")) for o in turned),
        *((f"lying{o}.tif", lambda n, o=o: lying(n, o, "TIFF")) for o in (6, 7)),
        ("été 夏.png", lambda n: encoded(grey(n), "PNG")),
    ]
    files: dict[str | bytes, bytes] = {}
    for number in range(150):
        name, write = kinds[number % len(kinds)]
        files[f"{number:03}-{name}"] = write(number)
    files[b"150-\xff\xfe.png"] = encoded(grey(150), "PNG")
    for number in (0, 15, 240, 255):
        files[f"{number:03}-bits.png"] = encoded(grey(number).point(lambda v: 255 * (v > 127), "1"), "PNG")
    top = b"\0" + b"\xff\xff\xff\xff" * 7000
    low = b"\0" + bytes((9 * 17,) * 3 + (255,)) * 3500 + bytes((7 * 17,) * 3 + (255,)) * 3500
    rows = top * 3500 + low * 3500
    files["151-49-million-pixels.png"] = png(7000, 7000, rows, kind=6)  # 9·16 + 7
    return files


def bad_files() -> dict[str | bytes, tuple[bytes, str]]:
    """Bad files of every kind, with a word of the cause that must be given."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    files: dict[str | bytes, tuple[bytes, str]] = {}
    for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("BMP", "bmp"), ("GIF", "gif"), ("TIFF", "tif"), ("WEBP", "webp")):
        whole = encoded(image, kind)
        for share in (0.5, 0.9):
            files[f"cut-{share}.{suffix}"] = (whole[: int(share * len(whole))], "")
        files[f"header.{suffix}"] = (whole[:10], "")
    for i, suffix in enumerate(("png", "jpg", "gif", "webp", "tif", "bmp")):
        files[f"empty.{suffix}"] = (b"", "empty")
        files[f"text.{suffix}"] = (b"<html>404 not found</html>", "not an image")
        files[f"noise{i}.{suffix}"] = (np.random.default_rng(i).bytes(500), "not an image")
    spoilt = bytearray(encoded(image, "PNG"))
    spoilt[1000] ^= 255
    files["spoilt.png"] = (bytes(spoilt), "")
    files["bomb.png"] = (png(10_000, 6_000), "50 million")
    files["bomb2.png"] = (png(60_000, 60_000, kind=6, bits=16), "50 million")
    for name, canvas in (("bomb.gif", 60_000), ("bomb2.gif", 10)):  # the second has a frame larger than its canvas
        sides = struct.pack("<2H", canvas, canvas), struct.pack("<4H", 0, 0, 60_000, 60_000)
        files[name] = (b"GIF89a" + sides[0] + b"\0\0\0," + sides[1] + b"\0\x02\0;", "50 million")
    files["bomb.bmp"] = (
        encoded(image, "BMP")[:18] + struct.pack("<2i", 9_000, 9_000) + encoded(image, "BMP")[26:],
        "50 million",
    )
    files["floats.tif"] = (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "floats")
    files["deep.tif"] = (encoded(Image.new("I", (9, 9), 70_000), "TIFF"), "32 bits")
    files["program.png"] = (b"\x7fELF" + bytes(200), "not an image")
    files["more.zip"] = (b"PK\x05\x06" + bytes(18), "archive")
    files[b"caf\xe9.png"] = (b"", "empty")
    return files


def torture(folder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Write the folder; return the numbers of the good files and the causes of the bad ones, by printed path."""
    good, bad = good_files(), bad_files()
    for name, content in [*good.items(), *((name, content) for name, (content, _) in bad.items())]:
        with open(os.path.join(os.fsencode(folder), os.fsencode(name)), "wb") as file:
            file.write(content)
    causes = {archives.printable(os.fsdecode(name)): cause for name, (_, cause) in bad.items()}
    for name, target in (("gone.png", "nowhere"), ("itself.png", "itself.png"), ("device.png", "/dev/zero")):
        (folder / name).symlink_to(target)
    causes |= {"gone.png": "No such file", "itself.png": "symbolic links", "device.png": "not a file", "pipe.png": "not a file"}
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    with open(folder / "huge.png", "wb") as file:
        file.truncate(archives.MOST_BYTES + 1)
    causes["huge.png"] = "more than the 256 MiB"
    (folder / "secret.png").write_bytes(encoded(Image.fromarray(picture(152)), "PNG"))
    (folder / "secrets").mkdir()
    if not ROOT:
        os.chmod(folder / "secret.png", 0)
        os.chmod(folder / "secrets", 0)
        causes |= {"secret.png": "Permission denied", "secrets": "cannot be read: Permission denied"}
    numbers = {archives.printable(os.fsdecode(name)): int(os.fsdecode(name)[:3]) for name in good}
    return numbers | ({"secret.png": 152} if ROOT else {}), causes


def test_of_200_files_of_every_kind_the_bad_are_named_and_the_good_are_used_in_bounded_memory(tmp_path: Path) -> None:
    numbers, causes = torture(tmp_path)
    assert len(numbers) + len(causes) >= 200
    program = """
import json, sys, torch
from scorefield.data import DataConfig, open_source
data = open_source(sys.argv[1], DataConfig(size=16))
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.save({"train": data.train, "held_out": data.held_out}, sys.argv[2])
print(json.dumps({"issues": [[p.where, p.cause, p.used] for p in data.issues], "notes": data.notes, "peak": peak}))
"""
    saved = tmp_path.parent / "torture.pt"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(tmp_path), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    report = json.loads(done.stdout)
    found = {where: cause for where, cause, used in report["issues"] if not used}
    assert found.keys() == causes.keys()
    assert {where: cause for where, cause in found.items() if causes[where] not in cause} == {}
    parts = torch.load(saved)
    n = len(numbers)
    whole = torch.cat([parts["train"], parts["held_out"]])[torch.cat(split(n, 0.1, None)).argsort()]
    # some have 16 bits: 8-bit ones were multiplied by 257
    assert [number_of(example / 257) for example in whole] == [numbers[path] for path in sorted(numbers)]
    assert any(
        note.endswith("8 bits were multiplied by 257, which keeps black, white and what lies between.")
        for note in report["notes"]
    )
    assert report["peak"] < 600 * 1024, report["peak"]


# Pixels, mode by mode


def test_sixteen_bits_stay_sixteen_bits_whatever_the_file(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257], [32768, 65406, 65407, 65535]], dtype=np.uint16)
    for suffix in (".png", ".tif"):
        read = read_one(tmp_path / suffix, lambda path: Image.fromarray(deep).save(path), suffix)
        assert read.tolist() == [deep.tolist()] and read.dtype == np.float32


def test_grey_with_opacity_stays_one_channel_and_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("LA", (4, 1))
    for x, (grey, alpha) in enumerate([(0, 255), (0, 0), (0, 51), (100, 102)]):
        image.putpixel((x, 0), (grey, alpha))
    # 255 + (grey - 255)·alpha/255: 0, 255, 255 - 51, 255 - 155·0.4
    assert read_one(tmp_path, lambda path: image.save(path), ".png").tolist() == [[[0, 255, 204, 193]]]


def test_ink_takes_its_share_of_light_away(tmp_path: Path) -> None:
    image = Image.new("CMYK", (4, 1))
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 51, 255, 0), (0, 0, 102, 51)]
    for x, ink in enumerate(inks):
        image.putpixel((x, 0), ink)
    light = [[(255 - k) * (255 - ink) // 255 for *colours, k in inks for ink in [colours[c]]] for c in range(3)]
    assert light == [[255, 0, 255, 204], [255, 255, 204, 204], [255, 255, 0, 122]]  # 204·153/255 = 122.4
    assert read_one(tmp_path, lambda path: image.save(path), ".tif")[:, 0].tolist() == light


def test_a_palette_with_a_hole_shows_white_there(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for x in range(3):
        image.putpixel((x, 0), x)
    read = read_one(tmp_path, lambda path: image.save(path, transparency=1), ".png")
    assert read[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


@each_case(suffix=[".png", ".tif"])
@each_case(orientation=range(1, 9))
def test_every_way_to_hold_a_camera_gives_the_same_upright_pixels(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {  # by the definition: which side of the scene row 0 and column 0 of the file show
        1: [[0, 40, 80], [120, 160, 200]],  # top, left
        2: [[80, 40, 0], [200, 160, 120]],  # top, right
        3: [[200, 160, 120], [80, 40, 0]],  # bottom, right
        4: [[120, 160, 200], [0, 40, 80]],  # bottom, left
        5: [[0, 120], [40, 160], [80, 200]],  # left, top
        6: [[80, 200], [40, 160], [0, 120]],  # right, top
        7: [[200, 80], [160, 40], [120, 0]],  # right, bottom
        8: [[120, 0], [160, 40], [200, 80]],  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.array(stored, dtype=np.uint8))
    assert read_one(tmp_path, lambda path: image.save(path, exif=exif), suffix)[0].tolist() == upright.tolist()


def test_a_large_picture_goes_another_way_to_the_same_pixels(tmp_path: Path) -> None:
    """Over 4 million pixels: strips and means of 30 x 30 first, here of blocks of 720 x 720, so that nothing is lost."""
    blocks = np.random.default_rng(0).integers(0, 256, (3, 3), dtype=np.uint8)
    large, small = (Image.fromarray(blocks.repeat(side, axis=0).repeat(side, axis=1)) for side in (720, 24))
    read = [
        read_one(tmp_path / name, lambda path, image=image: image.save(path, compress_level=1), ".png", size=24)
        for name, image in (("large", large), ("small", small))
    ]
    assert (read[0] == read[1]).all()
    assert (read[0][0, 4::8, 4::8] == blocks).all()


def test_a_large_photo_is_decoded_small_and_keeps_its_colours(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (3, 3), dtype=np.uint8)
    photo = Image.fromarray(blocks.repeat(160, axis=0).repeat(160, axis=1))
    read = read_one(tmp_path, lambda path: photo.save(path, quality=100), ".jpg", size=24)
    assert np.abs(read[0, 4::8, 4::8].astype(int) - blocks).max() <= 1


# Geometry


def bands(*values: int, each: int, height: int) -> Pixels:
    """Upright bands of grey, `each` pixels wide."""
    return np.array(values, dtype=np.uint8).repeat(each)[None, None].repeat(height, axis=1)


def test_crop_keeps_the_middle_pad_keeps_everything_and_stretch_gives_up_the_shape() -> None:
    wide = bands(10, 20, 30, 40, each=2, height=4)  # 4 x 8
    assert fitted(wide, 4, "crop").tolist() == bands(20, 30, each=2, height=4).tolist()
    assert fitted(wide, (8, 8), "pad").shape == (1, 8, 8)
    flat = np.full((3, 4, 8), 7, dtype=np.uint8)
    assert (fitted(flat, (5, 9), "stretch") == 7).all() and (fitted(flat, (5, 9), "crop") == 7).all()


def test_a_padded_image_lies_in_the_middle_of_the_median_colour_of_its_border() -> None:
    image = np.full((1, 2, 6), 50, dtype=np.uint8)
    image[0, 0, :2] = 200  # a minority of the border
    padded = fitted(image, 6, "pad")[0]
    assert padded[2:4].tolist() == image[0].tolist()  # scale 1: two rows above, two below
    assert (np.delete(padded, [2, 3], axis=0) == 50).all()
    assert fitted(image.transpose(0, 2, 1), 6, "pad")[0].T.tolist() == padded.tolist()


def test_padding_halves_a_picture_of_twice_the_size_and_crop_cuts_a_third_of_one_of_another_shape() -> None:
    constant = np.full((1, 20, 40), 90, dtype=np.uint8)
    constant[:, :, :20] = 30
    padded = fitted(constant, (20, 20), "pad")[0]
    assert (padded[5:15, :6] == 30).all() and (padded[5:15, 14:] == 90).all()  # 10 x 20, its seam in the middle
    assert np.unique(padded[:5]).tolist() == np.unique(padded[15:]).tolist() == [30]
    cropped = fitted(constant, (10, 10), "crop")[0]
    assert (cropped[:, 0] == 30).all() and (cropped[:, -1] == 90).all()
    assert fitted(np.zeros((3, 30, 20), dtype=np.uint8), (48, 64)).shape == (3, 48, 64)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_each_channel_is_brought_to_size_as_if_it_were_alone(fit: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 31), dtype=np.uint8)
    alone = np.concatenate([fitted(channel[None], (9, 8), fit) for channel in image])
    assert (fitted(image, (9, 8), fit) == alone).all()


def test_the_smallest_side_of_a_padded_sliver_is_one_pixel() -> None:
    assert fitted(np.zeros((1, 1, 1000), dtype=np.uint8), 8, "pad").shape == (1, 8, 8)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_image_of_the_wanted_size_is_the_same_image(fit: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    assert fitted(image, (5, 7), fit) is image


# Odd images are used, and named


def numbered(count: int, first: int = 0) -> dict[str, bytes]:
    """Small images that differ, by name."""
    return {f"{i:03}.png": encoded(Image.fromarray(picture(i, 8, 8)), "PNG") for i in range(first, first + count)}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_copies_one_colour_and_several_frames_are_named_and_used(tmp_path: Path) -> None:
    files = numbered(8)
    files["copy.bmp"] = encoded(Image.fromarray(picture(3, 8, 8)), "BMP")
    files["plain.png"] = encoded(Image.new("L", (8, 8), 9), "PNG")
    moves = Image.fromarray(picture(99, 8, 8))
    files["moves.gif"] = encoded(moves, "GIF", save_all=True, append_images=[Image.new("L", (8, 8))])
    data = open_source(str(fill(tmp_path, files)), DataConfig())
    assert len(data.train) + len(data.held_out) == 11
    assert odd(data) == {
        ("copy.bmp", "the same pixels as '003.png'"),
        ("plain.png", "one colour all over"),
        ("moves.gif", "several frames, of which the first is used"),
    }


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, numbered(60) | {"bad.png": b"", "worse.png": b"no"})
    prints = []
    for cores in ({0}, set(range(8))):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: cores)
        data = open_source(str(tmp_path), DataConfig())
        prints.append((data.fingerprint, data.issues, data.notes))
    assert prints[0] == prints[1]


# Archives


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return str(path)


def test_a_zip_is_read_as_its_folder_would_be(tmp_path: Path) -> None:
    files = {
        f"{animal}/{name}": content for animal, n in (("cat", 0), ("dog", 50)) for name, content in numbered(12, n).items()
    }
    files |= {"cat/readme.txt": b"hello", "dog/broken.png": b"no image"}
    unpacked = open_source(str(fill(tmp_path / "pets", files)), DataConfig())
    around = {f"pets/{name}": content for name, content in files.items()} | {"__MACOSX/pets/cat/._000.png": b"fork"}
    for source in (packed(tmp_path / "a.zip", files), packed(tmp_path / "b.zip", around)):
        data = open_source(source, DataConfig())
        assert data.fingerprint == unpacked.fingerprint
        assert data.classes == unpacked.classes == ("cat", "dog")
        assert list(left_out(data).values()) == ["not an image"]
        assert data.notes[1] == unpacked.notes[1] == "Files that are not images were left out: .txt 1."


def lie(path: Path, name: bytes, *, size: int | None = None, flags: int | None = None) -> None:
    """Change what both headers of a member say of it."""
    content = bytearray(path.read_bytes())
    for signature, flag_at, size_at, name_at in ((b"PK\x03\x04", 6, 22, 30), (b"PK\x01\x02", 8, 24, 46)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            if content[at + name_at : at + name_at + len(name)] == name:
                if size is not None:
                    content[at + size_at : at + size_at + 4] = struct.pack("<I", size)
                if flags is not None:
                    content[at + flag_at : at + flag_at + 2] = struct.pack("<H", flags)
    path.write_bytes(bytes(content))


def test_members_that_lie_hide_or_explode_are_named_and_the_others_used(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    image = encoded(Image.fromarray(picture(200, 8, 8)), "PNG")
    strange = zipfile.ZipInfo("link.png")
    strange.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in numbered(8).items():
            archive.writestr(name, content)
        for name in ("../out.png", "/root.png", "C:/windows.png", "locked.png", "short.png", "long.png"):
            archive.writestr(name, image)
        archive.writestr(strange, b"/etc/passwd")
        archive.writestr("bomb.png", bytes(2**24))
        archive.writestr("inner.zip", b"PK")
        archive.writestr("lzma.png", image, compress_type=zipfile.ZIP_LZMA)
        archive.writestr("empty.png", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("000.png", image)
    lie(path, b"locked.png", flags=1)
    lie(path, b"short.png", size=len(image) - 5)
    lie(path, b"long.png", size=len(image) + 5)
    data = open_source(str(path), DataConfig())
    assert len(data.train) + len(data.held_out) == 8
    found = left_out(data)
    out = "its name leads out of the archive"
    assert found == {
        "../out.png": out,
        "/root.png": out,
        "C:/windows.png": out,
        "locked.png": "encrypted",
        "short.png": found["short.png"],
        "long.png": f"unpacks to {len(image)} bytes, its header states {len(image) + 5}",
        "link.png": "a link",
        "bomb.png": "unpacks to more than 100 times its size, as a zip bomb does",
        "inner.zip": "an archive within the source, which is not opened",
        "lzma.png": "packed by another method than deflate",
        "empty.png": "empty",
        "000.png": "a second member of this name",
    }
    assert "Bad CRC-32" in found["short.png"]


def test_an_archive_of_too_many_bytes_in_all_is_refused_from_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = packed(tmp_path / "a.zip", numbered(9))
    for limit in ("MOST_MEMBERS", "MOST_UNPACKED"):
        with monkeypatch.context() as patch, pytest.raises(ScorefieldError, match=r"got 9 members of .* unpack what you trust"):
            patch.setattr(archives, limit, 8)
            open_source(source, DataConfig())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x00" * 100])
def test_a_broken_zip_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ScorefieldError, match=r"got 'a\.zip', expected a whole \.zip file"):
        open_source(str(tmp_path / "a.zip"), DataConfig())


# Tar shards


def sharded(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            archive.addfile(info, io.BytesIO(content))


def samples(first: int, count: int) -> dict[str, bytes]:
    found = {}
    for name, content in numbered(count, first).items():
        found |= {name: content, name[:3] + ".cls": str(int(name[:3]) % 3).encode(), name[:3] + ".json": b"{}"}
    return found


def test_shards_are_read_in_order_with_their_labels_by_folder_pattern_or_file(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    for shard in range(3):
        sharded(tmp_path / f"shards-{shard:03}.tar", samples(20 * shard, 20))
    loose = open_source(str(fill(tmp_path / "loose", numbered(60))), DataConfig())
    for source in (str(tmp_path / "shards-{000..002}.tar"), str(tmp_path / "shards-*.tar")):
        data = open_source(source, DataConfig())
        assert data.classes == ("0", "1", "2") and data.labels is not None
        assert data.train.shape[1:] == loose.train.shape[1:] and len(data.train) + len(data.held_out) == 60
        for part, labels in ((data.train, data.labels), (data.held_out, data.held_out_labels)):
            numbers = [int((example[0, 6, 1] // 17) * 16 + example[0, 6, 6] // 17) for example in part[:]]
            assert numbers == sorted(numbers)
            assert labels is not None and labels.tolist() == [number % 3 for number in numbers]
    single = open_source(str(tmp_path / "shards-001.tar"), DataConfig())
    assert len(single.train) + len(single.held_out) == 20
    folder = tmp_path / "only"
    folder.mkdir()
    sharded(folder / "a.tar", samples(0, 20))
    assert open_source(str(folder), DataConfig()).classes == ("0", "1", "2")


def test_shards_of_one_name_in_two_folders_are_both_read(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    for folder, first in (("a", 0), ("b", 1)):
        (tmp_path / folder).mkdir()
        sharded(
            tmp_path / folder / "x.tar",
            {"k" + name[3:]: content for name, content in numbered(1, first).items()} | samples(9 * first + 3, 9),
        )
    data = open_source(str(tmp_path / "*" / "x.tar"), DataConfig())
    assert len(data.train) + len(data.held_out) == 20


def test_pickles_huge_members_and_cut_shards_are_never_opened_and_named(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    image = numbered(1, 77)["077.png"]
    members = samples(0, 12) | {"trap.pyd": b"cos\nsystem\n", "trap.pkl": b"cos\nsystem\n", "bad.png": b"not an image"}
    members |= {"two.png": image, "two.jpg": image, "empty.png": b"", "long.png": image, "long.cls": b"9" * 2000}
    sharded(tmp_path / "a.tar", members)
    sharded(tmp_path / "b.tar", {"link.png": b""}, tarfile.SYMTYPE)
    whole = tmp_path / "c.tar"
    sharded(whole, {"x.png": image, "cut.png": image + bytes(5000)})
    whole.write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "d.tar").write_bytes(b"not a tar" * 100)
    data = open_source(str(tmp_path), DataConfig())
    assert len(data.train) + len(data.held_out) == 12 + 3  # two, long and x
    found = left_out(data)
    assert {name for name in found if name.startswith("a.tar")} == {
        f"a.tar/{name}" for name in ("bad.png", "two.jpg", "empty.png", "long.cls")
    }
    assert {name for name in found if not name.startswith("a.tar")} == {"b.tar/link.png", "c.tar", "c.tar/cut.png", "d.tar"}
    assert found["a.tar/two.jpg"] == "a second image of its sample"
    assert found["c.tar/cut.png"] == "cut off with its shard"
    assert "cannot be read" in found["d.tar"]
    assert any(".pkl 1" in note and ".pyd 1" in note for note in data.notes)
    assert data.labels is None and any("Labels were left out" in note for note in data.notes)


def test_without_the_library_shards_are_refused_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(tmp_path / "a.tar", samples(0, 9))
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(ScorefieldError, match=r'pip install "scorefield\[shards\]"'):
        open_source(str(tmp_path), DataConfig())


# Room


def test_what_exceeds_the_memory_limit_goes_to_a_file_without_a_name_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "images", numbered(30))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    kept = open_source(str(tmp_path / "images"), DataConfig())
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    data = open_source(str(tmp_path / "images"), DataConfig())
    assert isinstance(data.train, ArrayView) and isinstance(data.train.array, np.memmap)
    assert data.fingerprint == kept.fingerprint
    assert data.train[torch.tensor([3, 1])].equal(kept.train[torch.tensor([3, 1])])
    assert list((tmp_path / "scratch").iterdir()) == []


def test_without_room_on_the_disk_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, numbered(9))
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    monkeypatch.setattr(store, "SPARE", 2**60)
    with pytest.raises(ScorefieldError, match=r"GiB free in .*, expected .* GiB for the decoded examples: set TMPDIR"):
        open_source(str(tmp_path), DataConfig())
