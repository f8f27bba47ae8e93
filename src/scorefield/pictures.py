"""Pictures: grids, animations and plots, where people would rather look than read.

Grids and animations need only Pillow; plots need matplotlib (the extra `plot`), imported when a plot is drawn. The same
values give the same bytes: no dates or versions are written into a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.errors import ScorefieldError

Array = Any  # numpy's own generic arrays say less than their comments do here


def to_pixels(images: Tensor) -> Array:
    """Return uint8 `(n, height, width, 3)` from images `(n, 1 or 3, height, width)` with values in [0, 1]."""
    bytes_ = (images.detach().cpu().double().clamp(0, 1) * 255).round().to(torch.uint8)
    return bytes_.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def image(pixels: Array) -> Image.Image:
    """Return one picture from uint8 `(height, width)` or `(height, width, 3)`."""
    return Image.fromarray(pixels)


def _zoom(height: int, width: int, columns: int) -> int:
    """Whole factor that brings small images to a size people can read: about 900 pixels across, at most 8 times."""
    return max(1, min(8, 900 // max(columns * width, height, 1)))


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Lay images `(n, 1 or 3, height, width)` in [0, 1] out as a grid, enlarged without smoothing when they are small.

    Args:
        images: what to show.
        columns: how many side by side; None for about as many as rows.
        gap: pixels between neighbours.

    >>> grid(torch.zeros(4, 1, 8, 8)).size
    (134, 134)
    """
    n, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows, zoom = math.ceil(n / columns), _zoom(height, width, columns)
    pixels = to_pixels(images).repeat(zoom, axis=1).repeat(zoom, axis=2)
    tall, wide = height * zoom + gap, width * zoom + gap
    canvas = np.full((rows * tall + gap, columns * wide + gap, 3), 128, dtype=np.uint8)
    for index, image in enumerate(pixels):
        top, left = gap + index // columns * tall, gap + index % columns * wide
        canvas[top : top + height * zoom, left : left + width * zoom] = image
    return Image.fromarray(canvas)


def beside(left: Image.Image, right: Image.Image, gap: int = 16) -> Image.Image:
    """Put two pictures of one height side by side on grey."""
    canvas = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), (128, 128, 128))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + gap, 0))
    return canvas


def png(picture: Image.Image) -> bytes:
    """Return the picture as PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def gif(frames: Sequence[Image.Image], milliseconds: int = 80, last: int = 2000) -> bytes:
    """Return frames as an endless GIF; the last one stays for `last` milliseconds."""
    if not frames:
        raise ScorefieldError("got no frames, expected at least one: simulate at least one step")
    buffer = io.BytesIO()
    still = [frame.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * (len(still) - 1) + [last]
    still[0].save(buffer, format="GIF", save_all=True, append_images=still[1:], duration=durations, loop=0, optimize=False)
    return buffer.getvalue()


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ScorefieldError(
            "got a request for a plot without matplotlib installed, expected the extra: run pip install 'scorefield[plot]'"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _render(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    _pyplot().close(figure)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def scatter(
    points: Tensor, real: Tensor | None = None, title: str = "", limits: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Plot the first two columns of samples `(n, d)`, over real examples in grey when given."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    if real is not None:
        axes.scatter(real[:, 0], real[:, 1], s=4, color="0.8", label="data", rasterized=True)
    axes.scatter(points[:, 0], points[:, 1], s=4, color="tab:blue", label="samples", rasterized=True)
    axes.set(title=title, xlabel="column 1", ylabel="column 2", aspect="equal")
    if limits is not None:
        axes.set(xlim=limits[:2], ylim=limits[2:])
    if real is not None:
        axes.legend(loc="upper right", markerscale=3)
    return _render(figure)


def loss_by_level(sigmas: Sequence[float], curves: Mapping[str, Sequence[float]], title: str) -> Image.Image:
    """Plot ‖sigma·score + noise‖²/d against sigma, one line a curve; 1 is what knowing nothing gives."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for style, (name, values) in zip(("-o", "-s", "--", ":"), curves.items(), strict=False):
        axes.plot(sigmas, values, style, ms=3, label=name)
    axes.set(title=title, xscale="log", xlabel="noise level sigma", ylabel="squared error of the predicted noise, a coordinate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return _render(figure)
