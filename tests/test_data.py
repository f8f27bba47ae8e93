"""Data: what is read is what was there, the split never moves, and whatever cannot be used is refused with a sentence."""

from __future__ import annotations

import math
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import each_case
from PIL import Image
from torch import Tensor

from scorefield.data import DataConfig, Dataset, Normaliser, open_again, open_data, open_source
from scorefield.data.base import DataIssue, split
from scorefield.errors import NotFinite, ScorefieldError
from scorefield.registry import every

CONFIG = DataConfig(examples=4000)
TOYS = ("two-moons", "eight-gaussians", "checkerboard", "swiss-roll", "mixture")
LONGEST = math.sqrt(-2 * math.log(0.5 / 2**32))  # no pair of Box-Muller normals is longer than this


def together(data: Dataset) -> Tensor:
    return torch.cat([data.train, data.held_out])


def fill(folder: Path, count: int = 8, size: tuple[int, int] = (6, 6), mode: str = "L", prefix: str = "") -> None:
    """Write images whose first pixel is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = Image.new(mode, size)
        image.putpixel((0, 0), i if mode == "L" else (i, 2 * i, 3 * i))
        image.save(folder / f"{prefix}{i}.png")


def one(folder: Path, file: str, **options: int) -> Tensor:
    """Read a folder that holds one file of interest among copies of it, and return its pixels."""
    data = open_source(str(folder), DataConfig(**options))
    row = sorted(os.listdir(folder)).index(file)
    train, held = split(len(together(data)), 0.1, data.labels)
    whole = torch.empty_like(together(data))
    whole[train], whole[held] = data.train, data.held_out
    return whole[row]


def eight(folder: Path, write: Callable[[Path], None], suffix: str = ".png") -> Tensor:
    """Write one image eight times and return the pixels that are read."""
    for i in range(8):
        write(folder / f"{i}{suffix}")
    return one(folder, f"0{suffix}")


# The affine map


@pytest.mark.parametrize("high", [16, 255])
def test_every_grey_value_survives_the_round_trip(high: int) -> None:
    grey = torch.arange(high + 1, dtype=torch.uint8)
    pixels = Normaliser.between(0.0, float(high))
    back = pixels.decode(pixels.encode(grey))
    assert back.round().to(torch.uint8).equal(grey)
    assert float((back - grey).abs().max()) <= high / 2 * 2**-24  # half a unit in the last place of a float32 below 1


def test_images_map_their_legal_range_to_minus_one_and_one() -> None:
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        assert Normaliser.between(low, high).encode(torch.tensor([low, high])).tolist() == [-1, 1]


def test_decoded_images_stay_in_the_legal_range_and_vectors_are_free() -> None:
    assert Normaliser.between(0.0, 255.0).decode(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]
    assert Normaliser(shift=(1.0,), scale=(2.0,)).decode(torch.tensor([-9.0, 9.0])).tolist() == [-17, 19]


def test_standard_columns_have_mean_zero_and_variance_one() -> None:
    rows = torch.tensor([[1.0, 100.0, 7.0], [2.0, 300.0, 7.0], [4.0, -50.0, 7.0]])
    x = Normaliser.standard(rows).encode(rows).double()
    assert x.mean(dim=0).abs().max() < 3 * 2**-23
    assert (x.var(dim=0, correction=0) - torch.tensor([1, 1, 0])).abs().max() < 6 * 2**-23


def test_a_common_scale_keeps_shapes() -> None:
    rows = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]])
    normaliser = Normaliser.standard(rows, common=True)
    x = normaliser.encode(rows)
    assert len(normaliser.scale) == 1
    assert float((x[1] - x[0]).norm() / (x[2] - x[0]).norm()) == pytest.approx(10, rel=3 * 2**-23)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1)])
def test_a_range_has_two_ends_in_order(low: float | None, high: float | None) -> None:
    with pytest.raises(ValueError, match="expected low < high"):
        Normaliser(shift=(0.0,), scale=(1.0,), low=low, high=high)


# The split


@pytest.mark.parametrize(("n", "fraction"), [(2, 0.5), (10, 0.001), (10, 0.999), (1797, 1 / 3), (1000, 0.1)])
def test_train_and_held_out_are_disjoint_sorted_and_together_everything(n: int, fraction: float) -> None:
    train, held = split(n, fraction, None)
    assert torch.cat([train, held]).sort().values.equal(torch.arange(n))
    assert train.equal(train.sort().values)
    assert held.equal(held.sort().values)
    assert len(held) == min(max(round(n * fraction), 1), n - 1)


def test_every_label_is_held_out_in_proportion_to_within_one_row() -> None:
    labels = torch.tensor([0] * 700 + [1] * 50 + [2] * 7 + [3] * 243)[torch.randperm(1000)]
    held = labels[split(1000, 0.2, labels)[1]].bincount(minlength=4)
    assert ((held - 0.2 * labels.bincount()).abs() <= 1).all()


def test_rows_of_a_label_are_held_out_with_equal_chance() -> None:
    times, fraction, n = 400, 0.25, 40
    labels = torch.arange(n) % 3
    count = torch.zeros(n)
    for seed in range(times):
        count[split(n, fraction, labels, seed)[1]] += 1
    assert (count / times - fraction).abs().max() < 5 * math.sqrt(fraction * (1 - fraction) / times)


@each_case(fraction=[0.1, 1 / 3, 0.5, 0.9], seed=range(5))
def test_every_label_keeps_an_example_to_train_on(fraction: float, seed: int) -> None:
    labels = torch.tensor([0] * 30 + [1] * 11 + [2, 3, 3, 4, 5, 6, 7])
    train, held = split(len(labels), fraction, labels, seed)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert labels[train].unique().tolist() == list(range(8))
    for label, count in enumerate(labels.bincount().tolist()):
        assert abs(int((labels[held] == label).sum()) - fraction * count) <= 1 + 1e-9


def test_labels_of_one_example_each_still_leave_one_held_out() -> None:
    train, held = split(20, 0.1, torch.arange(20))
    assert (len(train), len(held)) == (19, 1)
    train, held = split(20, 0.1, torch.tensor([*range(18), 18, 18]))
    assert held.tolist() in ([18], [19])


def test_a_split_ignores_the_global_generator_and_obeys_its_seed() -> None:
    first = split(100, 0.3, None, seed=1)[1]
    torch.manual_seed(99)
    assert first.equal(split(100, 0.3, None, seed=1)[1])
    assert not first.equal(split(100, 0.3, None, seed=2)[1])


@pytest.mark.parametrize(
    ("n", "fraction", "labels"), [(1, 0.5, None), (9, 0.0, None), (9, 1.0, None), (9, 0.5, torch.zeros(8))]
)
def test_an_impossible_split_is_refused(n: int, fraction: float, labels: Tensor | None) -> None:
    with pytest.raises(ScorefieldError, match="expected at least 2 rows"):
        split(n, fraction, labels)


# Every built-in source


@pytest.mark.parametrize("name", every("source"))
def test_a_source_keeps_its_promises(name: str) -> None:
    data = open_source(name, CONFIG)
    assert every("source")[name].__doc__
    assert data.name == name
    assert data.shape == tuple(data.train.shape[1:]) == tuple(data.held_out.shape[1:])
    assert data.train.dtype == (torch.uint8 if data.kind == "image" else torch.float32)
    assert data.x0(slice(0, 5)).dtype == torch.float32
    assert data.x0(torch.tensor([3])).equal(data.x0(slice(3, 4)))
    assert (data.normaliser.decode(data.x0(slice(None))) - data.train).abs().max() < 1e-5
    if data.labels is not None and data.held_out_labels is not None:
        assert data.labels.dtype == data.held_out_labels.dtype == torch.int64
        assert len(data.labels) == len(data.train)
        assert len(data.held_out_labels) == len(data.held_out)
        assert int(data.labels.max()) + 1 == len(data.classes)


@pytest.mark.parametrize("name", every("source"))
def test_the_same_seed_is_the_same_data_and_another_seed_is_another(name: str) -> None:
    prints = [open_source(name, DataConfig(examples=100, seed=seed)).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_digits_are_1797_images_in_ten_classes_a_third_held_out() -> None:
    data = open_source("digits", DataConfig())
    assert data.train.shape == (1198, 1, 8, 8)
    assert data.held_out.shape == (599, 1, 8, 8)
    assert (int(data.train.min()), int(data.train.max())) == (0, 16)
    assert (float(data.x0(slice(None)).min()), float(data.x0(slice(None)).max())) == (-1, 1)
    assert data.classes == tuple("0123456789")


def test_resized_digits_stay_in_their_range() -> None:
    data = open_source("digits", DataConfig(size=16))
    assert data.shape == (1, 16, 16)
    assert int(together(data).max()) == 16


def test_the_held_out_fraction_can_be_chosen() -> None:
    data = open_source("mixture", DataConfig(examples=100, held_out=0.25))
    assert (len(data.train), len(data.held_out)) == (75, 25)


# Toys: points lie where the definition says, with the moments that it implies


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_has_common_scale_one(name: str) -> None:
    x = open_source(name, CONFIG).x0(slice(None)).double()
    assert x.mean(dim=0).abs().max() < 1e-6
    assert float(x.var(dim=0, correction=0).mean()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", TOYS)
def test_a_smaller_toy_is_the_start_of_a_larger_one(name: str) -> None:
    def rows(examples: int) -> set[tuple[float, ...]]:
        return {tuple(point) for point in together(open_source(name, DataConfig(examples=examples))).tolist()}

    assert rows(50) < rows(200)


@pytest.mark.parametrize(
    ("name", "mean", "square"),
    [
        ("two-moons", (0.5, 0.25), (1 + 2.25 - 2 / math.pi) / 2 + 2 * 0.01),
        ("eight-gaussians", (0, 0), 4 + 2 * 0.01),
        ("checkerboard", (0, 0), 2 * 16 / 3),
        # mean of t·(cos t, sin t) from the integrals t·sin t + cos t and sin t - t·cos t between 1.5·pi and 4.5·pi
        ("swiss-roll", (6 * math.pi / (3 * math.pi), 2 / (3 * math.pi)), math.pi**2 * (4.5**3 - 1.5**3) / 9 + 2 * 0.25),
        ("mixture", (-3, 0), 25 + 2),
    ],
)
def test_a_toy_has_the_moments_of_its_formula(name: str, mean: tuple[float, float], square: float) -> None:
    points = together(open_source(name, DataConfig())).double()
    for found, wanted in ((points[:, 0], mean[0]), (points[:, 1], mean[1]), (points.square().sum(dim=1), square)):
        assert abs(float(found.mean()) - wanted) < 5 * float(found.std()) / math.sqrt(len(points))


def distance_to(curve: Tensor, points: Tensor) -> Tensor:
    return torch.cdist(points.double(), curve.double()).amin(dim=1)


def test_two_moons_lie_on_two_half_circles() -> None:
    angle = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = together(open_source("two-moons", CONFIG))
    near = torch.stack([distance_to(upper, points), distance_to(lower, points)])
    assert float(near.amin(dim=0).max()) < 0.1 * LONGEST + math.pi / 4000
    share = float((near[0] < near[1]).double().mean())
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / len(points))


def test_eight_gaussians_surround_eight_centres_equally() -> None:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    points = together(open_source("eight-gaussians", CONFIG)).double()
    distance, nearest = torch.cdist(points, 2 * torch.stack([angle.cos(), angle.sin()], dim=1)).min(dim=1)
    assert float(distance.max()) < 0.1 * LONGEST + 1e-6  # half the way between centres is 0.765: the nearest is the own one
    n = len(points)
    assert (nearest.bincount(minlength=8) - n / 8).abs().max() < 5 * math.sqrt(n * 7 / 64)
    assert abs(float(distance.square().mean()) - 0.02) < 5 * 0.02 / math.sqrt(n)


def test_checkerboard_fills_its_eight_dark_squares_equally() -> None:
    points = together(open_source("checkerboard", CONFIG))
    square = ((points + 4) / 2).floor().long()
    assert square.min() >= 0
    assert square.max() <= 3
    assert (square.sum(dim=1) % 2 == 0).all()
    n, counts = len(points), (square[:, 0] * 4 + square[:, 1]).bincount()
    assert int((counts > 0).sum()) == 8
    assert (counts[counts > 0] - n / 8).abs().max() < 5 * math.sqrt(n * 7 / 64)


def test_swiss_roll_lies_on_its_spiral() -> None:
    t = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 4001, dtype=torch.float64)
    points = together(open_source("swiss-roll", CONFIG))
    assert float(distance_to(torch.stack([t * t.cos(), t * t.sin()], dim=1), points).max()) < 0.5 * LONGEST + 0.02


def test_mixture_has_weight_four_fifths_on_the_left() -> None:
    points = together(open_source("mixture", DataConfig())).double()
    left = points[:, 0] < 0  # five standard deviations from either centre: 0.8 is right to 3e-7
    assert abs(float(left.double().mean()) - 0.8) < 5 * math.sqrt(0.16 / len(points))
    for side, centre in ((left, -5.0), (~left, 5.0)):
        residual = points[side] - torch.tensor([centre, 0.0])
        assert residual.mean(dim=0).abs().max() < 5 / math.sqrt(len(residual))
        assert (residual.var(dim=0) - 1).abs().max() < 5 * math.sqrt(2 / len(residual))


# Folders of images


def test_grey_files_give_one_channel_and_pixels_unchanged(tmp_path: Path) -> None:
    fill(tmp_path, count=10)
    data = open_source(str(tmp_path), DataConfig())
    assert (data.kind, data.name, data.shape) == ("image", tmp_path.name, (1, 6, 6))
    assert together(data)[:, 0, 0, 0].sort().values.tolist() == list(range(10))
    assert data.labels is None


def test_one_colour_file_makes_all_of_them_rgb(tmp_path: Path) -> None:
    fill(tmp_path, count=8)
    fill(tmp_path, count=1, mode="RGB", prefix="colour")
    data = open_source(str(tmp_path), DataConfig())
    assert data.shape == (3, 6, 6)
    assert "8 grey and 1 colour" in data.notes[0]


@each_case(suffix=[".png", ".jpg", ".tif", ".webp"])
@each_case(orientation=range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((32, 48), dtype=np.uint8)
    upright[:16, :16] = 255  # the bright corner belongs at the top left of a picture that is wider than high
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = eight(tmp_path, lambda path: Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif), suffix)
    assert pixels.shape[1:] == (32, 48)
    assert (pixels.float().mean(dim=0) - torch.from_numpy(upright).float()).abs().max() < 16  # lossy formats ring a little


def test_a_lying_photo_among_upright_ones_is_of_the_same_size(tmp_path: Path) -> None:
    fill(tmp_path, size=(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (6, 4)).save(tmp_path / "lying.png", exif=exif)
    assert open_source(str(tmp_path), DataConfig()).shape == (1, 6, 4)


def test_sixteen_bits_are_their_own_numbers(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257], [32768, 65406, 65407, 65535]], dtype=np.uint16)
    pixels = eight(tmp_path, lambda path: Image.fromarray(wide).save(path))
    assert pixels[0].tolist() == wide.tolist()


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    assert eight(tmp_path, lambda path: Image.fromarray(bits).save(path))[0].tolist() == [[255, 0], [0, 255]]


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 51, 255)):
        image.putpixel((x, 0), (200, 0, 100, alpha))
    pixels = eight(tmp_path, lambda path: image.save(path))[:, 0]
    assert pixels.T.tolist() == [[255, 255, 255], [244, 204, 224], [200, 0, 100]]


def test_a_transparent_palette_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    pixels = eight(tmp_path, lambda path: image.save(path, transparency=0))[:, 0]
    assert pixels.T.tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("LA", ".png"), ("CMYK", ".jpg"), ("CMYK", ".tif"), ("YCbCr", ".jpg"), ("P", ".gif")]
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    white = {"LA": (255, 255), "CMYK": (0, 0, 0, 0), "YCbCr": (255, 128, 128), "P": 255}[mode]
    image = Image.new(mode, (8, 8), white)
    if mode == "P":
        image.putpalette([255] * 768)
    assert eight(tmp_path, lambda path: image.save(path), suffix).unique().tolist() == [255]


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pixels = eight(tmp_path, lambda path: frames[0].save(path, save_all=True, append_images=frames[1:]), ".gif")
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", [".PNG", ".Jpg", ".JPEG", ".bmp", ".GIF", ".webp", ".TIF", ".tiff"])
def test_suffixes_are_read_in_any_case(tmp_path: Path, suffix: str) -> None:
    assert eight(tmp_path, lambda path: Image.new("RGB", (5, 5), "white").save(path), suffix).shape[1:] == (5, 5)


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path / ".thumbnails", size=(3, 3))
    (tmp_path / "._0.png").write_text("resource fork")
    (tmp_path / "readme.txt").write_text("hello")
    data = open_source(str(tmp_path), DataConfig())
    assert len(together(data)) == 8
    assert data.notes[0] == "Files that are not images were left out: .txt 1."
    assert all(issue.used for issue in data.issues)


def test_the_short_side_is_resized_and_the_centre_square_kept(tmp_path: Path) -> None:
    picture = np.zeros((40, 80), dtype=np.uint8)
    picture[:, 30:50] = 200  # a band in the middle: half the width of the centre square
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(np.ascontiguousarray(picture.T)).save(tmp_path / "b.png")
    fill(tmp_path, size=(10, 20), prefix="c")
    band = one(tmp_path, "a.png", size=8)[0].float()
    assert band.shape == (8, 8)
    assert (band - band[0]).abs().max() == 0
    assert abs(float(band.mean()) - 100) < 1
    assert one(tmp_path, "b.png", size=8)[0].float().equal(band.T)


def test_an_image_of_the_wanted_size_is_not_touched(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for i in range(8):
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    assert one(tmp_path, "0.png", size=9).equal(torch.from_numpy(noise).permute(2, 0, 1))


def test_enlarged_images_are_noted(tmp_path: Path) -> None:
    fill(tmp_path)
    data = open_source(str(tmp_path), DataConfig(size=12))
    assert data.shape == (1, 12, 12)
    assert "8 of 8 images are smaller than 12" in data.notes[0]


def test_first_level_folders_become_labels(tmp_path: Path) -> None:
    fill(tmp_path / "dog" / "deep", count=5)
    fill(tmp_path / "cat", count=20)
    data = open_source(str(tmp_path), DataConfig(held_out=0.2))
    assert data.classes == ("cat", "dog")
    assert data.labels is not None
    assert data.held_out_labels is not None
    assert data.labels.bincount().tolist() == [16, 4]
    assert data.held_out_labels.bincount().tolist() == [4, 1]


def test_one_folder_or_a_stray_image_gives_no_labels(tmp_path: Path) -> None:
    fill(tmp_path / "cat")
    assert open_source(str(tmp_path), DataConfig()).labels is None
    fill(tmp_path / "dog")
    fill(tmp_path, count=1)
    assert open_source(str(tmp_path), DataConfig()).classes == ()


def test_unicode_names_are_read(tmp_path: Path) -> None:
    fill(tmp_path / "été 夏", prefix="ça va - ")
    fill(tmp_path / "зима", prefix="снег")
    assert open_source(str(tmp_path), DataConfig()).classes == ("été 夏", "зима")


def test_a_symlink_loop_ends_and_a_linked_folder_is_read_once(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "a")
    fill(tmp_path / "elsewhere", count=3)
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    data = open_source(str(tmp_path / "data"), DataConfig())
    assert len(together(data)) == 11
    assert data.classes == ("a", "b")


def test_every_broken_image_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    fill(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("I am not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    data = open_source(str(tmp_path), DataConfig())
    assert len(together(data)) == 8
    left_out = {issue.where: issue.cause for issue in data.issues if not issue.used}
    assert left_out.keys() == {"cut.png", "text.png", "empty.jpg", "gone.png"}
    assert "truncated" in left_out["cut.png"]
    assert (left_out["text.png"], left_out["empty.jpg"]) == ("not an image", "empty")
    assert left_out["gone.png"] == "No such file or directory"
    assert data.notes[0].startswith("4 files were left out: 'cut.png' (")


def test_seven_images_among_broken_ones_are_too_few_and_the_causes_are_named(tmp_path: Path) -> None:
    fill(tmp_path, count=7)
    (tmp_path / "text.png").write_text("I am not an image")
    with pytest.raises(ScorefieldError) as refusal:
        open_source(str(tmp_path), DataConfig())
    message = str(refusal.value)
    assert "got 7 images that can be read" in message and "'text.png' (not an image)" in message
    assert "expected at least 8: repair them, or add more" in message
    assert "\n" not in message


def test_a_pipe_named_like_an_image_does_not_hang(tmp_path: Path) -> None:
    fill(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert open_source(str(tmp_path), DataConfig()).issues[0] == DataIssue("pipe.png", "not a file")


@pytest.mark.parametrize("width", [10_000, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path, width: int) -> None:
    fill(tmp_path)
    header = struct.pack(">4s2I5B", b"IHDR", width, 6_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = struct.pack(">I4sI", 0, b"IDAT", 0x35AF061E)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)
    bomb = DataIssue("bomb.png", "more than 50 million pixels")
    assert bomb in open_source(str(tmp_path), DataConfig(size=8)).issues


def test_of_mixed_sizes_one_is_chosen_and_the_reason_given(tmp_path: Path) -> None:
    fill(tmp_path, count=8, size=(50, 40), prefix="wide")
    fill(tmp_path, count=3, size=(40, 60), prefix="high")
    fill(tmp_path, count=1, size=(9, 9), prefix="small")
    data = open_source(str(tmp_path), DataConfig())
    assert data.shape == (1, 32, 32)  # the median short side is 40
    why = "Size 32x32 (height x width) was chosen: there are 3 sizes, 9x9 to 60x40, most often 40x50 (8 of 12)"
    assert any(note.startswith(why) and note.endswith("Choose with --size.") for note in data.notes)
    assert open_source(str(tmp_path), DataConfig(size=16)).shape == (1, 16, 16)


def test_the_shape_that_nearly_all_images_have_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, count=9, size=(128, 96), prefix="a")
    fill(tmp_path, count=9, size=(160, 120), prefix="b")
    assert open_source(str(tmp_path), DataConfig()).shape == (1, 64, 88)  # 4:3 of 64 is 85.3, in steps of 8


def test_images_of_one_size_keep_it_unless_it_is_too_large_to_train_soon(tmp_path: Path) -> None:
    fill(tmp_path / "some", size=(256, 200))
    assert open_source(str(tmp_path / "some"), DataConfig()).shape == (1, 200, 256)
    fill(tmp_path / "large", size=(257, 257))
    data = open_source(str(tmp_path / "large"), DataConfig())
    assert data.shape == (1, 64, 64)
    assert any("all images are 257x257" in note for note in data.notes)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ScorefieldError, match=r"got no images in .* expected at least 8 image files"):
        open_source(str(tmp_path), DataConfig())


def test_float_tiffs_are_their_own_numbers(tmp_path: Path) -> None:
    kelvin = np.array([[271.5, 280.25], [299.75, 273.0]], dtype=np.float32)
    pixels = eight(tmp_path, lambda path: Image.fromarray(kelvin).save(path), ".tif")
    assert pixels[0].tolist() == kelvin.tolist()


# Arrays


def save(path: Path, **arrays: np.ndarray) -> str:
    file = path / "data.npz"
    np.savez(file, **arrays)
    return str(file)


def saved(path: Path, array: np.ndarray) -> str:
    file = path / "data.npy"
    np.save(file, array)
    return str(file)


GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (20, 6, 5), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.uint8, ">f8"])
def test_rows_become_standardised_vectors(tmp_path: Path, dtype: str) -> None:
    array = GENERATOR.uniform(0, 200, (30, 3)).astype(dtype)
    data = open_source(saved(tmp_path, array), DataConfig())
    assert (data.kind, data.name, data.shape, data.train.dtype) == ("vector", "data.npy", (3,), torch.float32)
    assert sorted(together(data).tolist()) == sorted(array.astype(np.float32).tolist())
    assert len(data.normaliser.shift) == len(data.normaliser.scale) == 3
    assert data.x0(slice(None)).double().mean(dim=0).abs().max() < 1e-6
    assert (data.x0(slice(None)).double().var(dim=0, correction=0) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("value", [1e9 / 7, 3e-9])
def test_a_constant_column_comes_back_exactly_whatever_is_drawn_and_is_noted(tmp_path: Path, value: float) -> None:
    array = np.stack([np.arange(1000.0), np.full(1000, value)], axis=1)
    data = open_source(saved(tmp_path, array), DataConfig())
    assert (data.normaliser.scale[1], data.normaliser.fixed) == (1, (1,))
    assert data.notes == ("Constant columns, which come back as they are: [1].",)
    assert data.x0(slice(None))[:, 1].abs().max() < 1e-8
    drawn = data.normaliser.decode(torch.full((5, 2), 0.013, dtype=torch.float64))
    assert drawn[:, 1].tolist() == [value] * 5
    assert len(set(drawn[:, 0].tolist()) - {499.5}) == 1  # the other column is not


@pytest.mark.parametrize("column", [1e9 + np.arange(10), 1e-200 * np.arange(10), 2**40 + np.arange(10)])
def test_columns_that_float32_cannot_hold_are_kept_as_float64(tmp_path: Path, column: np.ndarray) -> None:
    array = np.stack([np.arange(10.0), column], axis=1)
    data = open_source(saved(tmp_path, array), DataConfig())
    assert data.notes == ("Kept as float64: float32 would round these columns by over 1% of their spread: [1].",)
    assert sorted(together(data).tolist()) == sorted(array.tolist())
    x = data.x0(slice(None))
    rounded = 4 * 2**-53 * np.abs(column).max() / np.ptp(column)  # of the mean, in model space
    assert (x[:, 0] - x[:, 1]).abs().max() < rounded + 1e-6  # both are 0 to 9, moved and scaled


@each_case(power=[-1000, -530, 530, 1000])
@each_case(kind=["columns", "common", "channels"])
def test_any_unit_gives_the_same_numbers_in_model_space(power: int, kind: str) -> None:
    """A power of two changes no digit of a float64: shift and scale are times it, and model space is equal bit by bit."""
    rows = torch.from_numpy(GENERATOR.normal(size=(50, 3, 7) if kind == "channels" else (50, 3)))
    unit = 2.0**power
    plain, scaled = (
        Normaliser.standard(some, common=kind == "common", per_channel=kind == "channels") for some in (rows, rows * unit)
    )
    assert scaled.shift == tuple(unit * value for value in plain.shift)
    assert scaled.scale == tuple(unit * value for value in plain.scale)
    assert scaled.encode(rows * unit).equal(plain.encode(rows))
    assert (scaled.decode(plain.encode(rows).double()) / unit - rows).abs().max() < 1e-6


def test_the_whole_range_of_float64_has_a_mean_and_a_scale() -> None:
    rows = torch.tensor([[1.7e308, 5e-324], [-1.7e308, 0.0]], dtype=torch.float64)
    normaliser = Normaliser.standard(rows)
    assert normaliser.shift[0] == 0
    assert normaliser.scale[0] == pytest.approx(1.7e308, rel=1e-15)
    assert normaliser.encode(rows)[:, 0].tolist() == [1.0, -1.0]
    assert Normaliser.standard(torch.full((9, 1), 1e200, dtype=torch.float64)).scale == (1.0,)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (BYTES, (1, 6, 5)),
        (BYTES[..., None], (1, 6, 5)),
        (np.stack([BYTES] * 3, axis=3), (3, 6, 5)),
        (np.stack([BYTES] * 3, axis=1), (3, 6, 5)),
        (BYTES.astype(np.int64), (1, 6, 5)),
    ],
)
def test_bytes_become_images_with_channels_first(tmp_path: Path, array: np.ndarray, shape: tuple[int, ...]) -> None:
    data = open_source(saved(tmp_path, array), DataConfig())
    assert (data.kind, data.shape, data.train.dtype) == ("image", shape, torch.uint8)
    rows = torch.cat(split(20, 0.1, None))
    assert all(together(data)[:, c].equal(torch.from_numpy(BYTES)[rows]) for c in range(shape[0]))


def test_the_fourth_channel_of_an_array_is_a_channel_and_no_opacity(tmp_path: Path) -> None:
    array = np.zeros((8, 1, 2, 4), dtype=np.uint8)
    array[:, 0, 1, 3] = 255
    data = open_source(saved(tmp_path, array), DataConfig(held_out=0.5))
    assert data.shape == (4, 1, 2)
    assert together(data)[:, :, 0].unique(dim=0).tolist() == [[[0, 0], [0, 0], [0, 0], [0, 255]]]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
def test_float_images_keep_their_values_and_map_their_range(tmp_path: Path, low: float, high: float) -> None:
    array = GENERATOR.uniform(low, high, (20, 6, 5))
    array[0, 0, :2] = low, high
    data = open_source(saved(tmp_path, array), DataConfig())
    assert (data.normaliser.low, data.normaliser.high, data.train.dtype) == (low, high, torch.float32)
    assert data.notes[-1] == f"Values fill the range {low} to {high}: samples are clipped to it; data.range says otherwise."
    rows = torch.cat(split(20, 0.1, None))
    assert together(data)[:, 0].equal(torch.from_numpy(array).float()[rows])
    everything = data.normaliser.encode(together(data))
    assert (float(everything.min()), float(everything.max())) == (-1, 1)
    small = open_source(saved(tmp_path, array), DataConfig(size=4))
    assert small.shape == (1, 4, 4)
    assert low <= float(small.train.min()) <= float(small.train.max()) <= high


@pytest.mark.parametrize("array", [np.full((9, 6, 6), 300.0), np.full((9, 6, 6), -3.0), np.full((9, 6, 6), 256)])
def test_images_of_one_value_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ScorefieldError, match=r"got the same value .* in every cell of 'data.npy', expected some that vary"):
        open_source(saved(tmp_path, array), DataConfig())


@pytest.mark.parametrize("mark", [-3.4028234663852886e38, -1.7976931348623157e308])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mark_of_no_data_in_an_array_is_refused_by_place(tmp_path: Path, mark: float, dtype: type) -> None:
    array = np.zeros((20, 3), dtype)
    with np.errstate(over="ignore"):
        array[4, 1] = mark
    with pytest.raises(NotFinite, match=r"got 1 infinite or too large values in 'data.npy', the first at \[4, 1\]"):
        open_source(saved(tmp_path, array), DataConfig())


def test_infinite_values_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    array = np.zeros((20, 3))
    array[4, 1], array[7, 0], array[9, 2] = -np.inf, np.inf, 1e300
    with pytest.raises(NotFinite, match=r"got 3 infinite or too large values in 'data.npy', the first at \[4, 1\]"):
        open_source(saved(tmp_path, array), DataConfig())


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_python_objects_are_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    array = np.array([[Trap()] * 2] * 9, dtype=object)
    file = str(tmp_path / f"data{suffix}")
    np.save(file, array) if suffix == ".npy" else np.savez(file, x=array)
    with pytest.raises(ScorefieldError, match=r"expected a whole \.npy or \.npz file of plain numbers, without Python objects"):
        open_source(file, DataConfig())
    assert not (tmp_path / "sprung").exists()


@each_case(suffix=[".npy", ".npz"])
@each_case(keep=[0, 5, 40, 200, 0.9])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    file = tmp_path / f"data{suffix}"
    np.save(file, BYTES) if suffix == ".npy" else np.savez(file, x=BYTES)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ScorefieldError, match=r"expected a whole \.npy or \.npz file"):
        open_source(str(file), DataConfig())


@each_case(zipped=[False, True])
@each_case(shape=["(10000000000000, 8)", "(-9, 8)", "(9, 'x')", "(1000000000, 8)"])
def test_a_lying_header_is_refused(tmp_path: Path, shape: str, zipped: bool) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(72)
    file = tmp_path / ("data.npz" if zipped else "data.npy")
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        file.write_bytes(content)
    with pytest.raises(ScorefieldError, match="which cannot be read"):
        open_source(str(file), DataConfig())


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = save(tmp_path, x=np.zeros((9, 2)))
    content = bytearray(Path(file).read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFF0)  # unpacked size of the directory entry: 4 GiB
    record, tail = bytes(content[entry : content.rindex(b"PK\x05\x06")]), bytearray(content[content.rindex(b"PK\x05\x06") :])
    tail[8:12], tail[12:16] = struct.pack("<2H", 3, 3), struct.pack("<I", 3 * len(record))
    Path(file).write_bytes(bytes(content[:entry]) + record * 3 + tail)
    with pytest.raises(ScorefieldError, match=r"got 12 GiB .* at most 8 GiB"):
        open_source(file, DataConfig())


@pytest.mark.parametrize("array", [np.zeros(9), np.zeros((9, 0)), np.full((9, 2), "a"), np.zeros((9, 2), "M8[s]")])
def test_what_is_neither_vectors_nor_images_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ScorefieldError, match=r"expected numbers of shape \(n, d\)"):
        open_source(saved(tmp_path, array), DataConfig())


@pytest.mark.parametrize("shape", [(9, 5, 6, 7), (9, 5, 6, 7, 8), (9, 12, 40), (9, 12, 100), (9, 64, 200)])
def test_what_could_be_two_things_is_refused_with_the_settings_that_say_which(tmp_path: Path, shape: tuple) -> None:
    file = saved(tmp_path, GENERATOR.normal(size=shape))
    with pytest.raises(ScorefieldError, match=r"expected to know what .* say --set data\.") as said:
        open_source(file, DataConfig())
    for axes in re.findall(r"\b[ctzyx]{2,4}\b", str(said.value).split("say ")[1]):
        kind = {"t": "signal", "z": "volume"}.get((set(axes) & set("tz") or {"y"}).pop(), "image")
        assert open_source(file, DataConfig(axes=axes)).kind == kind, axes


def test_seven_examples_are_too_few_and_eight_are_enough(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"got 7 examples in 'data.npy', expected at least 8"):
        open_source(saved(tmp_path, np.zeros((7, 2))), DataConfig())
    assert len(open_source(saved(tmp_path, np.zeros((8, 2))), DataConfig()).train) == 7


@pytest.mark.parametrize("key", ["images", "x", "X", "data", "train", "anything"])
def test_the_data_of_an_archive_is_found_by_its_key_or_because_it_is_alone(tmp_path: Path, key: str) -> None:
    data = open_source(save(tmp_path, **{key: BYTES, "other": np.zeros(3), "index": np.zeros((20, 2), int)}), DataConfig())
    assert data.shape == (1, 6, 5)


def test_an_unclear_archive_is_refused_with_its_keys(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"with a \(9, 2\) float64, b \(9, 3\) float64, expected one array"):
        open_source(save(tmp_path, a=np.zeros((9, 2)), b=np.zeros((9, 3))), DataConfig())


def test_labels_follow_their_rows_and_carry_their_names(tmp_path: Path) -> None:
    y = np.arange(20) % 3
    x = np.stack([y, np.arange(20)], axis=1).astype(float)
    data = open_source(save(tmp_path, x=x, y=y, classes=np.array(["a", "b", "c"])), DataConfig(held_out=0.3))
    assert data.labels is not None
    assert data.held_out_labels is not None
    assert data.labels.equal(data.train[:, 0].long())
    assert data.held_out_labels.equal(data.held_out[:, 0].long())
    assert data.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.arange(20) % 2 * 2 - 1, ("-1", "1")),
        (np.arange(20)[:, None] % 2 + 5.0, ("5", "6")),
        (np.array(["cat", "dog"] * 10), ("cat", "dog")),
        (np.arange(20) % 2 == 1, ("0", "1")),
    ],
)
def test_labels_are_counted_from_zero(tmp_path: Path, y: np.ndarray, classes: tuple[str, ...]) -> None:
    data = open_source(save(tmp_path, x=np.zeros((20, 2)), labels=y), DataConfig())
    assert data.classes == classes
    assert data.labels is not None
    assert data.labels.unique().tolist() == [0, 1]


def test_whole_numbers_of_many_kinds_are_no_classes(tmp_path: Path) -> None:
    """Forty rows whose y counts something: thirty classes of one or two examples would be a mistake."""
    y, x = np.concatenate([np.arange(30), np.arange(10)]) * 7, GENERATOR.normal(size=(40, 3))
    data = open_source(save(tmp_path, x=x, y=y), DataConfig())
    assert (data.labels, data.classes) == (None, ())
    assert any("30 different whole numbers of 40 examples are quantities" in note for note in data.notes)
    assert len(open_source(save(tmp_path, x=x, y=y % 10), DataConfig()).classes) == 10


@pytest.mark.parametrize("y", [np.arange(19), np.linspace(0, 1, 20), np.full(20, np.nan), np.full(20, np.inf)])
def test_labels_that_do_not_fit_are_left_out_with_a_note(tmp_path: Path, y: np.ndarray) -> None:
    data = open_source(save(tmp_path, x=BYTES, y=y), DataConfig())
    assert data.labels is None
    assert "were left out" in data.notes[0]


def test_class_names_that_do_not_fit_are_left_out_with_a_note(tmp_path: Path) -> None:
    data = open_source(save(tmp_path, x=BYTES, y=np.arange(20) % 5, classes=np.array(["a"])), DataConfig())
    assert data.classes[:2] == ("0", "1")
    assert "class names were left out" in data.notes[0]


# Signals, and what an example is


def test_signals_have_one_mean_and_scale_per_channel(tmp_path: Path) -> None:
    array = GENERATOR.normal(size=(40, 2, 30)) * np.array([[3.0], [0.01]]) + np.array([[5.0], [-7.0]])
    data = open_source(saved(tmp_path, array), DataConfig(kind="signal"))
    assert (data.kind, data.shape, len(data.normaliser.shift)) == ("signal", (2, 30), 2)
    x = data.x0(slice(None)).double()
    assert x.mean(dim=(0, 2)).abs().max() < 1e-5  # -7 ± 0.01 in float32: 2^-22 of 0.01
    assert (x.var(dim=(0, 2), correction=0) - 1).abs().max() < 1e-5
    assert (data.normaliser.decode(data.x0(slice(None))) - data.train[:]).abs().max() < 1e-5


@each_case(
    shape__kind__wanted=[
        ((9, 6, 5), "auto", ("image", (1, 6, 5))),
        ((9, 4, 7), "auto", ("signal", (4, 7))),
        ((9, 3, 21), "auto", ("signal", (3, 21))),
        ((9, 21, 3), "auto", ("signal", (3, 21))),
        ((9, 10, 3), "auto", ("signal", (3, 10))),
        ((9, 20, 3), "auto", ("signal", (3, 20))),
        ((9, 12, 24), "auto", ("image", (1, 12, 24))),
        ((9, 12, 40), "image", ("image", (1, 12, 40))),
        ((9, 12, 40), "signal", ("signal", (12, 40))),
        ((9, 21, 5), "signal", ("signal", (21, 5))),
        ((9, 21), "signal", ("signal", (1, 21))),
        ((9, 5, 21), "image", ("image", (1, 5, 21))),
        ((9, 21), "auto", ("vector", (21,))),
        ((9, 3, 4, 5), "vector", ("vector", (60,))),
    ]
)
def test_an_example_is_what_its_shape_or_its_owner_says(tmp_path: Path, shape: tuple, kind: str, wanted: tuple) -> None:
    array = GENERATOR.uniform(size=shape)
    data = open_source(saved(tmp_path, array), DataConfig(kind=kind))
    assert (data.kind, data.shape) == wanted
    assert any("by the lengths of the axes" in note for note in data.notes) == (kind == "auto" and len(shape) == 3)
    turned = array.transpose(0, 2, 1) if shape[-1] == 3 and kind == "auto" else array
    rows = torch.cat(split(9, 0.1, None))
    assert together(data).equal(torch.from_numpy(turned.reshape(9, *data.shape)).float()[rows])


@pytest.mark.parametrize(("shape", "kind"), [((9, 5), "image"), ((9, 3, 5, 5), "signal")])
def test_a_kind_that_the_shape_cannot_have_is_refused(tmp_path: Path, shape: tuple, kind: str) -> None:
    with pytest.raises(ScorefieldError, match=rf"expected {kind}s, \(n"):
        open_source(saved(tmp_path, np.zeros(shape)), DataConfig(kind=kind))


def test_a_large_array_stays_in_its_file(tmp_path: Path) -> None:
    """293 MiB are opened, checked, hashed and read; memory grows by less than half of that."""
    file = tmp_path / "large.npy"
    array = np.lib.format.open_memmap(file, "w+", np.uint8, (100_000, 32, 32, 3))  # zeros that take no disk
    array[::1000] = 255
    script = (
        "import resource, torch; from scorefield.data import DataConfig, open_source; peak = lambda: "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); "
        f"data = open_source({str(file)!r}, DataConfig()); [data.x0(torch.arange(i, 90_000, 500)) for i in range(20)]; "
        "print(type(data.train).__name__, data.shape, (peak() - before) // 1024)"
    )
    kind, *shape, grown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (kind, " ".join(shape)) == ("ArrayView", "(3, 32, 32)")
    assert int(grown) < 146


# The one entry


def test_an_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(
        ScorefieldError, match=r"got 'digts', expected a built-in source \(checkerboard, .*did you mean 'digits'"
    ):
        open_source("digts", CONFIG)


@pytest.mark.parametrize("source", ["/no/such/folder", "", "x" * 9999, "nul\0byte"])
def test_a_path_that_does_not_exist_is_refused(source: str) -> None:
    with pytest.raises(ScorefieldError, match="no such file or folder exists"):
        open_source(source, CONFIG)


def test_a_file_of_another_kind_is_refused_with_advice(tmp_path: Path) -> None:
    for ending, advice in (("xlsx", "save the sheet as .csv"), ("rds", "arrow::write_parquet")):
        (tmp_path / f"table.{ending}").write_text("a,b")
        with pytest.raises(ScorefieldError, match=rf"table\.{ending}', expected .*: .*{advice}"):
            open_source(str(tmp_path / f"table.{ending}"), CONFIG)
    (tmp_path / "table.xyz").write_text("a,b")
    with pytest.raises(ScorefieldError, match=r"table\.xyz', expected .*: save numbers with numpy\.save"):
        open_source(str(tmp_path / "table.xyz"), CONFIG)


def test_a_built_in_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    found = open_source("digits", DataConfig())
    assert found.shape == (1, 8, 8)
    note = "The built-in digits was read, not the file or folder of that name here: write ./digits for that one."
    assert found.notes == (note,)
    assert open_source("./digits", DataConfig()).shape == (1, 6, 6)
    monkeypatch.chdir(tmp_path / "digits")
    assert open_source("digits", DataConfig()).notes == ()


# Settings without a use


PICTURES = {"data.size": {"size": 8}, "data.fit": {"fit": "pad"}, "data.flip": {"flip": True}}


@each_case(setting=[*PICTURES, "data.kind"])
@pytest.mark.parametrize("source", ["two-moons", "table.csv", "vectors.npy", "signals.npy", "frame", "list"])
def test_a_setting_of_images_is_refused_for_all_else(tmp_path: Path, source: str, setting: str) -> None:
    rows = GENERATOR.normal(size=(20, 3))
    np.savetxt(tmp_path / "table.csv", rows, delimiter=",", header="a,b,c", comments="")
    np.save(tmp_path / "vectors.npy", rows)
    np.save(tmp_path / "signals.npy", GENERATOR.normal(size=(20, 2, 30)))
    given = {"frame": {"a": rows[:, 0], "b": rows[:, 1]}, "list": rows.tolist()}
    data = given[source] if source in given else str(tmp_path / source) if "." in source else source
    if (source, setting) == ("signals.npy", "data.kind"):
        return  # an array of pictures may have any shape
    config = DataConfig(**PICTURES.get(setting, {"kind": "image"}))
    with pytest.raises(ScorefieldError, match=r"^got .*, expected ") as refusal:
        open_data(data, config)
    if setting != "data.kind":
        assert str(refusal.value).startswith(f"got {setting} for the ")
        described = {"fingerprint": "of other data", "kind": "vector"}
        assert open_again(data, config, described).fingerprint == open_data(data, DataConfig()).fingerprint


def test_a_kind_that_a_source_cannot_have_is_refused_and_its_own_is_not(tmp_path: Path) -> None:
    fill(tmp_path / "pictures")
    assert open_source(str(tmp_path / "pictures"), DataConfig(kind="image")).kind == "image"
    assert open_source("two-moons", DataConfig(kind="vector", examples=100)).kind == "vector"
    for source, kind in ((str(tmp_path / "pictures"), "vector"), ("digits", "signal"), ("two-moons", "signal")):
        with pytest.raises(ScorefieldError, match=rf"got data\.kind={kind} for the (image|vector)s "):
            open_source(source, DataConfig(kind=kind, examples=100))


def test_a_number_of_examples_that_is_passed_over_is_said() -> None:
    assert open_source("digits", DataConfig(examples=500)).notes == (
        "data.examples = 500 was passed over: only toys draw as many points as that.",
    )
    assert len(open_source("two-moons", DataConfig(examples=500)).train) == 450
