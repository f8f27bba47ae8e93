"""Pictures: grids of images, animations and plots.

Grids and animations need only Pillow. Plots need matplotlib (the extra `plot`), which is imported when a plot is drawn. The
same values give the same bytes: no date is written into a file, and what it was made from only where that is given.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from scorefield.errors import ScorefieldError

Array = Any  # of numpy
NARROW = 1e-9  # spread/largest number, below which a histogram counts from its lower end
LARGE = 1e100  # larger numbers are drawn in units of a power of ten: products of two of them overflow float64


def to_pixels(images: Tensor) -> Array:
    """Return uint8 `(n, height, width, 3)` from images `(n, 1 or 3, height, width)` with values in [0, 1], NaN as grey."""
    shown = images.detach().cpu().double()
    bytes_ = (torch.where(shown.isnan(), 128 / 255, shown).clamp(0, 1) * 255).round().to(torch.uint8)
    return bytes_.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def image(pixels: Array) -> Image.Image:
    """Return one picture from uint8 `(height, width)` or `(height, width, 3)`."""
    return Image.fromarray(pixels)


def _zoom(height: int, width: int, columns: int, across: int) -> int:
    """Return the whole factor, at most 8, by which small images are enlarged to at most `across` pixels side by side."""
    return max(1, min(8, across // max(columns * width, height, 1)))


SIGNALS, HISTOGRAMS = 16, 9  # in one picture


class Grid:
    """A grid of images that is filled piece by piece: it takes the memory of the picture, not of all images.

    Args:
        count: how many images there will be, at least 1.
        height, width: of each.
        columns: how many side by side; None for about as many as rows.
        gap: pixels between neighbours.
        across: how wide the picture may grow by enlarging small images, without smoothing.

    >>> Grid(4, 8, 8).size
    (134, 134)
    """

    def __init__(
        self, count: int, height: int, width: int, columns: int | None = None, gap: int = 2, across: int = 900
    ) -> None:
        if count < 1:
            raise ScorefieldError("got no images, expected at least one: draw some")
        self.count, self.columns, self.gap = count, columns or math.ceil(math.sqrt(count)), gap
        self.zoom = _zoom(height, width, self.columns, across)
        self.tall, self.wide = height * self.zoom + gap, width * self.zoom + gap

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.columns * self.wide + self.gap, math.ceil(self.count / self.columns) * self.tall + self.gap

    @functools.cached_property
    def canvas(self) -> Array:  # a grid that is only asked for its size needs none
        return np.full((*self.size[::-1], 3), 128, dtype=np.uint8)

    def place(self, first: int, images: Tensor) -> None:
        """Put images `(n, 1 or 3, height, width)`, values in [0, 1], at the places from `first` on; the rest is left out."""
        pixels = to_pixels(images[: max(0, self.count - first)]).repeat(self.zoom, axis=1).repeat(self.zoom, axis=2)
        for index, one in enumerate(pixels, start=first):
            top, left = self.gap + index // self.columns * self.tall, self.gap + index % self.columns * self.wide
            self.canvas[top : top + one.shape[0], left : left + one.shape[1]] = one

    def image(self) -> Image.Image:
        """Return the picture; places without an image are grey."""
        return Image.fromarray(self.canvas)


def grid(images: Tensor, columns: int | None = None, gap: int = 2, across: int = 900) -> Image.Image:
    """Lay images `(n, 1 or 3, height, width)` in [0, 1] out as a grid; see `Grid`.

    >>> grid(torch.zeros(4, 1, 8, 8)).size
    (134, 134)
    """
    n, _, height, width = images.shape
    made = Grid(n, height, width, columns, gap, across)
    made.place(0, images)
    return made.image()


def beside(left: Image.Image, right: Image.Image, gap: int = 16) -> Image.Image:
    """Put two pictures of one height side by side on grey."""
    canvas = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), (128, 128, 128))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + gap, 0))
    return canvas


def png(picture: Image.Image, made_from: Mapping[str, Any] | None = None) -> bytes:
    """Return the picture as PNG bytes, with what it was made from as JSON in its text `made_from`."""
    buffer, text = io.BytesIO(), PngInfo()
    if made_from is not None:
        text.add_text("made_from", json.dumps(made_from))
    picture.save(buffer, format="PNG", optimize=False, pnginfo=text)
    return buffer.getvalue()


def _is_grey(frame: Image.Image) -> bool:
    pixels = np.asarray(frame)
    return pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())


def gif(frames: Sequence[Image.Image], milliseconds: int = 80, last: int = 2000, comment: str = "") -> bytes:
    """Return frames as an endless GIF; the last one stays for `last` milliseconds, and the comment is not shown."""
    if not frames:
        raise ScorefieldError("got no frames, expected at least one: simulate at least one step")
    buffer = io.BytesIO()
    if all(_is_grey(frame) for frame in frames):
        # 64 greys: noise hardly compresses, and with a quarter of the values it takes half of the bytes.
        still = [frame.convert("L").point([v & 0xFC | v >> 6 for v in range(256)]) for frame in frames]
    else:
        still = [frame.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * (len(still) - 1) + [last]
    options: dict[str, Any] = {"duration": durations, "loop": 0, "optimize": False} | ({"comment": comment} if comment else {})
    still[0].save(buffer, format="GIF", save_all=True, append_images=still[1:], **options)
    return buffer.getvalue()


def require_plots() -> None:
    """Raise `ScorefieldError` now, before the work, if plots cannot be drawn."""
    new_figure(1, 1)


def new_figure(width: float | int, height: float | int) -> Any:
    """Return a figure and its axes without pyplot, whose backend and open figures belong to the caller."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ScorefieldError(
            "got a request for a plot without matplotlib installed, expected the extra: run pip install 'scorefield[plot]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def render(figure: Any) -> Image.Image:
    figure.set_dpi(110)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks, equal limits: no person can act on them
        figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def literal(text: str) -> str:
    """Return a text that matplotlib shows as it is: it would read what stands between two dollars as a formula."""
    return text.replace("$", r"\$")


def _units(values: Array) -> tuple[Array, float, str]:
    """Return float64 values in a unit that can be drawn, NaN for those that are not finite; the unit; a note on both.

    >>> values, unit, note = _units([1e308, -5e307, float("inf")])
    >>> [round(float(value), 3) for value in values], unit, note
    ([1.0, -0.5, nan], 1e+308, ' in 1e+308, 1 not finite')
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    largest = float(np.abs(numbers[finite]).max(initial=0.0))
    power = math.floor(math.log10(largest)) if largest > LARGE else 0
    note = f" in 1e{power:+d}" * (power > 0) + f", {(~finite).sum():,} not finite" * (not finite.all())
    unit = 10.0**power
    return np.where(finite, numbers / unit, np.nan), unit, note


def _histogram(axes: Any, values: Sequence[Any] | Array, bins: int, **style: Any) -> tuple[float, float, str]:
    """Draw the histogram of (number - origin)/unit; return origin, unit and a note on them."""
    numbers, unit, note = _units(values)
    finite, origin = numbers[~np.isnan(numbers)], 0.0
    if len(finite):
        low, largest = float(finite.min()), float(np.abs(finite).max())
        if float(finite.max()) - low + (low == finite.max()) < NARROW * largest:  # axes cannot show closer numbers
            origin, note = low, f"{note}, counted from {low * unit!r}"
        axes.hist(finite - origin, bins=bins, color="tab:blue", **style)
    return origin, unit, note


def scatter(
    points: Tensor, real: Tensor | None = None, title: str = "", limits: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Plot the first two columns of samples `(n, d)`, over real examples in grey when given; one column as a histogram."""
    figure, axes = new_figure(6, 6)
    if points.shape[1] == 1:
        origin, unit, note = _histogram(axes, points[:, 0].double().numpy(), 50, density=True)
        axes.set(title=title, xlabel=f"column 1{note}", ylabel="density")
        axes.set(xlim=[limit / unit - origin for limit in limits[:2]] if limits else None)
        return render(figure)
    both = [] if real is None else [real[:, :2]]
    shown, unit, note = _units(
        torch.cat([*both, points[:, :2]]).double().numpy()
    )  # one unit for all, for one scale for both axes
    if real is not None:
        axes.scatter(*shown[: len(real)].T, s=4, color="0.8", label="data", rasterized=True)
    axes.scatter(*shown[-len(points) :].T, s=4, color="tab:blue", label="samples", rasterized=True)
    axes.set(title=title, xlabel=f"column 1{note}", ylabel="column 2", aspect="equal")
    if limits is not None:
        axes.set(xlim=[limit / unit for limit in limits[:2]], ylim=[limit / unit for limit in limits[2:]])
    if real is not None:
        axes.legend(loc="upper right", markerscale=3)
    return render(figure)


def small_axes(count: int) -> tuple[Any, Sequence[Any]]:
    """Return a figure and `count` small axes on it, side by side as in a grid."""
    if count < 1:
        raise ScorefieldError("got nothing to plot, expected at least one signal or column: draw some")
    figure, axes = new_figure(9, 9)
    axes.remove()
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    figure.set_size_inches(9, min(9, 2.4 * down))
    figure.set_layout_engine("tight")  # it measures every text once, "constrained" twice: a third of the time of a picture
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def lines(signals: Tensor, limits: tuple[float, float] | None = None) -> Image.Image:
    """Plot the first 16 signals `(n, channels, length)`, each on axes of its own, one line a channel."""
    figure, axes = small_axes(min(len(signals), SIGNALS))
    shown, unit, note = _units(signals[:SIGNALS].double().numpy())
    for one, signal in zip(axes, shown, strict=False):
        one.plot(signal.T, lw=0.8)
        one.set_title(note.strip(", "), fontsize=8)
        one.tick_params(labelsize=6)
        one.set(ylim=[limit / unit for limit in limits] if limits else None)
    return render(figure)


def bands(
    samples: Tensor, mean: Tensor, std: Tensor | None, measured: tuple[str, Tensor | None], reference: Tensor | None = None
) -> Image.Image:
    """Plot the answer for one signal or vector: its mean with 2 standard deviations on either side, and the samples.

    Args:
        samples: `(n, *shape)`; each channel gets axes of its own.
        mean, std: `shape`.
        measured: its name, and its numbers, drawn as dots where they have the length of a sample.
        reference: `shape`, drawn in black.
    """
    rows = [one.reshape(-1, one.shape[-1]) for one in samples.double().cpu()]
    figure, axes = small_axes(min(len(rows[0]), HISTOGRAMS))
    figure.set_size_inches(9, max(3.0, 2.4 * math.ceil(math.sqrt(len(axes)))))
    middle, spread, dots, true = (
        None if v is None else v.double().cpu().reshape(-1, v.shape[-1]) for v in (mean, std, measured[1], reference)
    )
    assert middle is not None
    for channel, one in enumerate(axes):
        for index, row in enumerate(rows):
            one.plot(row[channel], color="0.7", lw=0.5, label=None if index else "samples")
        if spread is not None:
            ends = [middle[channel] + sign * 2 * spread[channel] for sign in (-1, 1)]
            one.fill_between(range(len(ends[0])), *ends, color="tab:blue", alpha=0.2, lw=0)
        one.plot(middle[channel], color="tab:blue", lw=1, label="mean" if spread is None else "mean, 2 std")
        if dots is not None and dots.shape == middle.shape:
            one.plot(dots[channel], ".", color="tab:red", ms=3, label=measured[0])
        if true is not None:
            one.plot(true[channel], color="black", lw=0.8, ls="--", label="reference")
        one.legend(fontsize=7)
        one.set_xlabel("place", fontsize=7)
        one.set_ylabel("value" if len(axes) == 1 else f"value of channel {channel + 1}", fontsize=7)
        one.tick_params(labelsize=6)
    return render(figure)


def _seconds(value: time | timedelta) -> float:
    """Return a time of day, or a span of time, in seconds."""
    span = value if isinstance(value, timedelta) else datetime.combine(datetime.min, value) - datetime.min
    return span.total_seconds()


def histograms(table: Mapping[str, Sequence[Any]], most: int = HISTOGRAMS) -> Image.Image:
    """Plot the distributions of a table's first columns: numbers in bins, everything else counted."""
    figure, axes = small_axes(min(len(table), most))
    for one, (name, column) in zip(axes, table.items(), strict=False):
        present, note = [value for value in column if value is not None], ""
        in_seconds = bool(present) and isinstance(present[0], time | timedelta)
        present = [_seconds(value) for value in present] if in_seconds else present
        if present and isinstance(present[0], int | float) and not isinstance(present[0], bool):
            note = _histogram(one, present, 30)[-1] + " in seconds" * in_seconds
        elif present and not isinstance(present[0], str | bool):
            one.hist(present, bins=30, color="tab:blue")
            one.margins(x=0)  # there is no year 0, nor 10000
            one.tick_params("x", labelrotation=30)  # dates are long
        else:
            texts, counts = np.unique([str(value) for value in present], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:12]
            one.barh([literal(text[:16]) for text in texts[order]][::-1], counts[order][::-1], color="tab:blue")
        missing = f", {len(column) - len(present)} missing" if len(present) < len(column) else ""
        one.set_title(literal(f"{name[:24]}{note}{missing}"), fontsize=8)
        one.tick_params(labelsize=6)
    return render(figure)


def loss_by_level(sigmas: Sequence[float], curves: Mapping[str, Sequence[float]], title: str) -> Image.Image:
    """Plot ‖sigma·score + noise‖²/d against sigma, one line a curve; a score of 0 gives 1."""
    figure, axes = new_figure(7, 4.5)
    for style, (name, values) in zip(
        itertools.cycle(("-o", "-s", "--", ":")), curves.items(), strict=False
    ):  # the styles never end
        axes.plot(sigmas, values, style, ms=3, label=name)
    axes.set(title=literal(title), xscale="log", xlabel="noise level sigma")
    axes.set(ylabel="squared error of the predicted noise, a coordinate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return render(figure)


def pareto(
    points: Sequence[tuple[str, float, float, float, bool, bool]], floor: float, quality: str, title: str
) -> Image.Image:
    """Plot quality against seconds, lower being better in both, with the front as a line of steps.

    Args:
        points: (label, seconds for 1,000 samples, quality, standard error of its difference to the best, on the front, chosen).
        floor: what real data score.
        quality: its name.
        title: of the plot.
    """
    figure, axes = new_figure(9, 5.5)
    front = sorted((seconds, value) for _, seconds, value, _, on, _ in points if on)
    axes.step(*zip(*front, strict=True), where="post", color="tab:blue", lw=1)
    for label, seconds, value, error, on, chosen in points:
        colour = "tab:red" if chosen else "tab:blue" if on else "0.6"
        number = f"{front.index((seconds, value)) + 1}" if on else ""  # names beside the points would cover each other
        style: dict[str, Any] = {"fmt": "*" if chosen else "o", "ms": 13 if chosen else 5, "color": colour, "elinewidth": 0.6}
        axes.errorbar(seconds, value, error, label=f"{number}  {label}" if on else None, **style)
        axes.annotate(number, (seconds, value), (7, 5), textcoords="offset points", fontsize=9, color=colour)
    handles, names = axes.get_legend_handles_labels()
    shown = sorted(zip(names, handles, strict=True), key=lambda one: int(one[0].split()[0]))
    axes.legend([handle for _, handle in shown], [name for name, _ in shown], loc="upper right", fontsize=8)
    axes.axhline(floor, color="0.5", ls=":", lw=1)
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "fontsize": 8, "color": "0.4"}
    axes.annotate("real data", (1, floor), (-3, 3), **where)
    axes.set(title=title, xscale="log", xlabel="seconds for 1,000 samples", ylabel=f"{quality}, lower is better")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params("x", which="both", labelsize=7)
    axes.grid(alpha=0.3, which="both")
    return render(figure)


def diagnosis(
    noise: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    measures: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
) -> Image.Image:
    """Plot measurements of a field by noise level: its losses, and below them, on axes of their own, the others.

    Args:
        noise: sigma/alpha of every level.
        losses: name -> loss a coordinate at every level; a score of 0 gives 1.
        measures: name -> values and standard errors; the bars are five of them.
        title: over everything.
    """
    figure, first = new_figure(7, 4 + 1.8 * len(measures))
    first.remove()
    rows = figure.subplots(1 + len(measures), 1, sharex=True, height_ratios=[2.2] + [1] * len(measures), squeeze=False)[:, 0]
    for style, (name, values) in zip(itertools.cycle(("-o", "-s", "--", ":")), losses.items(), strict=False):
        rows[0].plot(noise, values, style, ms=3, label=name)
    rows[0].set(title=title, xscale="log", ylabel="squared error of the predicted\nnoise, a coordinate")
    rows[0].set_ylim(bottom=0)
    rows[0].legend()
    for axes, (name, (values, errors)) in zip(rows[1:], measures.items(), strict=True):
        axes.errorbar(noise, values, [5 * error for error in errors], fmt="-o", ms=3, color="0.3", capsize=2)
        axes.set(ylabel=name)
    for axes in rows:
        axes.grid(alpha=0.3)
    rows[-1].set(xlabel="noise level sigma/alpha")
    return render(figure)
