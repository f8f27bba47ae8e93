"""Pictures: every pixel where it belongs, nothing smoothed, and the same bytes for the same values."""

import io
import itertools

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from scorefield import ScorefieldError, pictures


def _images(n: int, channels: int, height: int, width: int) -> Tensor:
    """Whole bytes as fractions, every pixel of every image another one where 256 values allow it."""
    values = numpy.random.default_rng(0).integers(0, 256, size=(n, channels, height, width))
    return torch.from_numpy(values).double() / 255


def test_to_pixels_rounds_to_the_nearest_byte_and_clips_what_lies_outside() -> None:
    values = [-3.0, -0.001, 0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 127.6 / 255, 254.6 / 255, 1.0, 1.2, float("inf")]
    got = pictures.to_pixels(torch.tensor(values).reshape(1, 1, 1, -1))
    assert got.dtype == numpy.uint8
    assert got[0, 0, :, 0].tolist() == [0, 0, 0, 0, 1, 127, 128, 255, 255, 255, 255]


def test_to_pixels_gives_back_every_byte_and_shows_grey_as_three_equal_channels() -> None:
    ramp = (torch.arange(256) / 255).reshape(1, 1, 16, 16)
    got = pictures.to_pixels(ramp)
    assert got.shape == (1, 16, 16, 3)
    assert all(got[0, :, :, c].reshape(-1).tolist() == list(range(256)) for c in range(3))


def test_to_pixels_keeps_red_green_and_blue_apart() -> None:
    red, green, blue = 0.2, 0.4, 0.8
    got = pictures.to_pixels(torch.tensor([red, green, blue]).reshape(1, 3, 1, 1).expand(1, 3, 2, 3))
    assert got.shape == (1, 2, 3, 3)
    assert got.reshape(-1, 3).tolist() == [[51, 102, 204]] * 6


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("n", "height", "width", "columns", "gap"), [(7, 4, 5, 3, 2), (4, 3, 3, None, 1), (1, 60, 30, None, 2), (5, 70, 90, 5, 0)]
)
def test_the_grid_puts_every_pixel_of_image_k_in_row_k_over_columns_enlarged_by_one_whole_factor(
    channels: int, n: int, height: int, width: int, columns: int | None, gap: int
) -> None:
    images = _images(n, channels, height, width)
    canvas = numpy.asarray(pictures.grid(images, columns, gap))
    across = columns or next(c for c in range(1, 100) if c * c >= n)
    down = -(-n // across)
    zoom = (canvas.shape[1] - gap * (across + 1)) // (across * width)
    assert zoom >= 1
    assert canvas.shape == (down * (height * zoom + gap) + gap, across * (width * zoom + gap) + gap, 3)
    claimed = numpy.zeros(canvas.shape[:2], dtype=bool)
    bytes_ = (images * 255).round().to(torch.uint8).numpy()
    for k in range(n):
        row, column = divmod(k, across)
        top, left = gap + row * (height * zoom + gap), gap + column * (width * zoom + gap)
        for i, j in itertools.product(range(height), range(width)):
            square = canvas[top + i * zoom : top + (i + 1) * zoom, left + j * zoom : left + (j + 1) * zoom]
            pixel = bytes_[k, :, i, j]
            assert (square == pixel).all(), (k, i, j)
        claimed[top : top + height * zoom, left : left + width * zoom] = True
    assert (canvas[~claimed] == 128).all()  # gaps and empty places are grey


@pytest.mark.parametrize(("side", "columns"), [(2, 1), (8, 4), (8, 40), (28, 8), (64, 8), (500, 3)])
def test_small_images_are_enlarged_until_the_grid_is_about_900_pixels_wide_and_at_most_8_times(side: int, columns: int) -> None:
    width = pictures.grid(torch.zeros(columns, 1, side, side), columns, gap=0).width
    zoom = width // (columns * side)
    assert width == zoom * columns * side
    assert zoom == 1 or width <= 900
    assert zoom == 8 or (zoom + 1) * columns * side > 900


def test_a_grid_of_no_images_is_refused_with_a_sentence() -> None:
    with pytest.raises(ScorefieldError, match="got no images"):
        pictures.grid(torch.zeros(0, 1, 8, 8))


def test_beside_puts_two_pictures_on_grey_and_changes_neither() -> None:
    left, right = (pictures.image(pictures.to_pixels(_images(1, 3, *size))[0]) for size in ((6, 4), (3, 5)))
    canvas = numpy.asarray(pictures.beside(left, right, gap=2))
    assert canvas.shape == (6, 4 + 2 + 5, 3)
    assert (canvas[:, :4] == numpy.asarray(left)).all()
    assert (canvas[:3, 6:] == numpy.asarray(right)).all()
    assert (canvas[:, 4:6] == 128).all() and (canvas[3:, 6:] == 128).all()


def test_png_keeps_every_pixel_and_gives_the_same_bytes_twice() -> None:
    picture = pictures.grid(_images(6, 3, 9, 7))
    content = pictures.png(picture)
    assert content == pictures.png(pictures.grid(_images(6, 3, 9, 7)))
    assert (numpy.asarray(Image.open(io.BytesIO(content))) == numpy.asarray(picture)).all()


# Animations


def _frames(values: list[int]) -> list[Image.Image]:
    """A grey square in a picture that holds every one of eight colours, so that no palette can be too small."""
    rows = numpy.zeros((8, 8, 3), dtype=numpy.uint8)
    rows[:] = numpy.array([(a, b, c) for a in (0, 255) for b in (0, 255) for c in (0, 255)], dtype=numpy.uint8)[:, None]
    frames = []
    for value in values:
        pixels = rows.copy()
        pixels[2:4, 2:4] = value
        frames.append(Image.fromarray(pixels))
    return frames


def _read(content: bytes) -> tuple[list[numpy.ndarray], list[int], int]:
    """Return the frames as pixels, their durations in milliseconds, and the loop count (0 = for ever)."""
    with Image.open(io.BytesIO(content)) as film:
        shown, durations = [], []
        for index in range(film.n_frames):
            film.seek(index)
            shown.append(numpy.asarray(film.convert("RGB")))
            durations.append(film.info["duration"])
        return shown, durations, film.info["loop"]


def test_a_gif_shows_every_frame_in_order_for_its_time_and_loops_for_ever() -> None:
    frames = _frames([10, 60, 110, 160, 210])
    shown, durations, loop = _read(pictures.gif(frames, milliseconds=80, last=2000))
    assert durations == [80, 80, 80, 80, 2000]
    assert loop == 0
    for got, frame in zip(shown, frames, strict=True):
        assert (got == numpy.asarray(frame)).all()  # fewer than 64 colours: nothing is lost


def test_a_gif_of_frames_with_many_colours_stays_close_to_them() -> None:
    """64 colours a frame: a grid of grey images keeps each pixel to half of a 64th of the range, give or take one step."""
    frames = [pictures.grid(_images(4, 1, 12, 12).roll(move, 3)) for move in range(3)]
    shown, _, _ = _read(pictures.gif(frames))
    for got, frame in zip(shown, frames, strict=True):
        difference = numpy.abs(got.astype(int) - numpy.asarray(frame).astype(int))
        assert difference.max() <= 2 * 256 / 64
        assert difference.mean() <= 256 / 64


@pytest.mark.parametrize("values", [[10, 10, 60], [10, 60, 60], [10, 60, 60, 60, 110], [10, 10, 10], [10]])
def test_identical_neighbours_become_one_frame_of_a_gif_that_is_shown_as_long_as_both(values: list[int]) -> None:
    """Pillow merges them: frames are counted by what changes, and no time is lost."""
    shown, durations, loop = _read(pictures.gif(_frames(values), milliseconds=50, last=700))
    runs = [(value, len(list(group))) for value, group in itertools.groupby(values)]
    assert [int(frame[2, 2, 0]) for frame in shown] == [value for value, _ in runs]
    expected = [50 * length for _, length in runs]
    expected[-1] += 700 - 50
    assert durations == expected
    assert loop == 0


def test_the_same_frames_give_the_same_gif_bytes() -> None:
    frames = [pictures.grid(_images(4, 3, 8, 8).roll(move, 3)) for move in range(3)]
    assert pictures.gif(frames) == pictures.gif([frame.copy() for frame in frames])


def test_a_gif_of_no_frames_is_refused_with_a_sentence() -> None:
    with pytest.raises(ScorefieldError, match="got no frames"):
        pictures.gif([])


# Plots


def test_the_same_points_give_the_same_scatter_bytes_and_others_other_ones() -> None:
    points = torch.from_numpy(numpy.random.default_rng(0).normal(size=(50, 2)))
    first = pictures.png(pictures.scatter(points, points + 1, title="moons"))
    assert first == pictures.png(pictures.scatter(points.clone(), points + 1, title="moons"))
    assert first != pictures.png(pictures.scatter(points + torch.tensor([0.0, 3.0]), points + 1, title="moons"))


def _blue(picture: Image.Image) -> numpy.ndarray:
    """Return rows and columns of matplotlib's first blue, #1f77b4, `(n, 2)`."""
    return numpy.argwhere((numpy.asarray(picture) == (0x1F, 0x77, 0xB4)).all(axis=-1))


def test_scatter_draws_samples_where_they_are_to_one_scale_within_the_limits_it_is_given() -> None:
    """Three lone points: their distances on paper are in the ratio of their distances, upwards is up."""
    centres = []
    for point in ([-1.0, -1.0], [1.0, -1.0], [-1.0, 3.0]):
        picture = pictures.scatter(torch.tensor([point]), limits=(-4.0, 4.0, -4.0, 4.0))
        centres.append(_blue(picture).mean(axis=0))
    (y0, x0), (y1, x1), (y2, x2) = centres
    assert abs(y0 - y1) <= 1 and abs(x0 - x2) <= 1
    assert y2 < y0 and x1 > x0
    assert abs((y0 - y2) / (x1 - x0) - 2.0) < 4 / (x1 - x0)  # two pixels of rounding in each length


def test_data_of_one_column_can_be_plotted() -> None:
    rows = torch.linspace(-1, 1, 20)[:, None]
    assert pictures.png(pictures.scatter(rows)) == pictures.png(pictures.scatter(rows.clone()))
    assert pictures.png(pictures.scatter(rows)) != pictures.png(pictures.scatter(rows**3))


SIGMAS = [0.01, 0.1, 1.0, 10.0]


def test_the_same_losses_give_the_same_plot_bytes_and_others_other_ones() -> None:
    curves = {"training": [0.9, 0.7, 0.2, 0.0], "held out": [1.0, 0.8, 0.3, 0.1]}
    first = pictures.png(pictures.loss_by_level(SIGMAS, curves, "run"))
    assert first == pictures.png(pictures.loss_by_level(list(SIGMAS), dict(curves), "run"))
    assert first != pictures.png(pictures.loss_by_level(SIGMAS, curves | {"training": [0.9, 0.7, 0.4, 0.0]}, "run"))


def test_every_curve_of_a_loss_plot_is_drawn_however_many_there_are() -> None:
    curves = {f"curve {k}": [0.1 * k, 0.2 * k, 0.1 * k, 0.3 * k] for k in range(1, 6)}
    without_the_last = {name: curves[name] for name in list(curves)[:4]}
    assert pictures.png(pictures.loss_by_level(SIGMAS, curves, "")) != pictures.png(
        pictures.loss_by_level(SIGMAS, without_the_last, "")
    )


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    """A notebook's own plots must not vanish into our files: its backend and its open figures stay."""
    matplotlib = pytest.importorskip("matplotlib")
    import matplotlib.pyplot as plt

    before = matplotlib.get_backend()
    plt.switch_backend("svg")
    try:
        open_before = plt.get_fignums()
        pictures.scatter(torch.zeros(3, 2))
        assert matplotlib.get_backend() == "svg"
        assert plt.get_fignums() == open_before
    finally:
        plt.switch_backend(before)
