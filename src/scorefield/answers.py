"""Answers: what restoring, denoising and interpolating write: a folder that appears as a whole or not at all, and its picture.

The folder holds files of a person's own types and `VERB.json`, which says what was done and lists the files with their sha256.
By this list --force knows what it may replace: an earlier answer in which nothing was changed or added.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from scorefield import __version__, files, pictures
from scorefield.data.planes import PICTURED, planes
from scorefield.durations import short
from scorefield.errors import ScorefieldError
from scorefield.inputs import Item, save_array
from scorefield.runs import Run

GAP, LINE = 6, 14  # pixels between the pictures of a panel, and of a line of text
HATCH, STRIPES = ((70, 90, 170), (150, 170, 225)), 6  # colours of what is unknown, and pixels from stripe to stripe
ACROSS = 1600  # pixels, within which small images are enlarged


@dataclass
class Answer:
    """A folder in which an answer is being written.

    Attributes:
        folder: where files go now.
        values: of `VERB.json`, as JSON values.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)


def place_of(source: Any, ending: str, out: str | Path | None) -> Path | None:
    """Return where an answer goes: `out`, or NAME-ending beside the source; None for data of Python without an `out`."""
    if out is not None:
        if not os.fspath(out):
            raise ScorefieldError("got an empty --out, expected a path: name a folder, or leave it out")
        return Path(out).expanduser()
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(os.path.abspath(Path(source).expanduser()))
    return path.parent / f"{path.name if path.is_dir() else path.stem}-{ending}"


def check_place(path: Path, verb: str, force: bool) -> None:
    """Refuse a folder that could not be written, or whose place is taken, before any work.

    Raises:
        ScorefieldError: a file at the place, a folder with anything in it that is not an unchanged answer of this verb, such an
            answer without `force`, or a folder above that is missing or cannot be written.
    """
    got = f"got --out {path}"
    if path.exists() and not path.is_dir():
        raise ScorefieldError(f"{got}, where there is a file, expected a folder: choose another name")
    above = path.resolve().parent
    if not above.is_dir():
        raise ScorefieldError(f"{got} in a folder that does not exist, expected one that does: make it first")
    if not files.can_write(above):
        raise ScorefieldError(f"{got} in a folder that cannot be written, expected one that can: choose another with --out")
    inside = sorted(str(one.relative_to(path)) for one in path.rglob("*")) if path.is_dir() else []
    if not inside:
        return
    listed = _listed(path, verb)
    if listed is None:
        raise ScorefieldError(
            f"{got}, a folder with files ({inside[0]}) that no {verb}.json lists, expected a new folder, or an earlier answer "
            f"of scorefield {verb}: choose another --out"
        )
    changed = [name for name in inside if name != f"{verb}.json" and _changed(path / name, listed.get(name))]
    if changed:
        raise ScorefieldError(
            f"{got}, where {changed[0]} is not as scorefield {verb} wrote it, expected only files that it wrote: move it, "
            "or choose another name"
        )
    if not force:
        raise ScorefieldError(f"{got}, where there is an answer already, expected a new name: choose another, or add --force")


def _listed(path: Path, verb: str) -> dict[str, str] | None:
    try:
        values = files.read_json(path / f"{verb}.json")
        return dict(values["files"]) if values["written_by"] == f"scorefield {verb}" else None
    except (ScorefieldError, KeyError, TypeError, ValueError):
        return None


def _changed(path: Path, sha256: str | None) -> bool:
    return not path.is_file() or path.is_symlink() or sha256 is None or files.digest(path.read_bytes()) != sha256


@contextlib.contextmanager
def answering(path: Path, verb: str, force: bool) -> Iterator[Answer]:
    """Give a folder to write an answer into; at the end it takes its place with `VERB.json`, or nothing of it is left.

    Args:
        path: where it goes; see `check_place`, which is asked again at the end.
        verb: what wrote it.
        force: an earlier answer may be replaced.
    """
    place = Path(os.path.abspath(path))
    folder, old = (place.parent / f".{os.urandom(8).hex()}.partial" for _ in range(2))
    folder.mkdir()
    try:
        answer = Answer(folder)
        yield answer
        written = sorted(one for one in folder.iterdir())
        head = {"written_by": f"scorefield {verb}", "version": __version__}
        listed = {one.name: files.digest(one.read_bytes()) for one in written}
        files.write_json(folder / f"{verb}.json", head | answer.values | {"files": listed})
        for one in written:
            with open(one, "rb") as stream:
                os.fsync(stream.fileno())
        check_place(path, verb, force)  # again: it may have changed meanwhile
        if place.exists():
            os.rename(place, old)
        try:
            os.rename(folder, place)
        except BaseException:
            if old.exists():
                os.rename(old, place)
            raise
        files.flush_folder(place.parent)
    finally:
        for one in (folder, old):
            shutil.rmtree(one, ignore_errors=True)


# --- pictures -------------------------------------------------------------------------------------------------------


def check_pictures(run: Run) -> None:
    """Refuse, before the work, a run whose answers cannot be drawn because matplotlib is missing."""
    if run.kind not in PICTURED:
        pictures.require_plots()


def shown(run: Run, raw: Tensor) -> Tensor:
    """Return one image or volume in the run's units, `(channels, *size)`, as it is shown, `(1 or 3, height, width)`.

    What is unknown stays NaN.
    """
    if len(raw) == run.shape[0]:
        return planes(raw[None], run, unknown=math.nan)[0]
    return run.normaliser.visible(raw[None].expand(1, run.shape[0], *raw.shape[1:]))[0, :1]  # grey, of a run of colours


def shown_spread(std: Tensor) -> tuple[Tensor, float]:
    """Return a map of standard deviations, `(channels, *size)`, as an image from black, 0, to white, and what white is."""
    flat = std.square().mean(dim=0).sqrt()
    plane = flat if flat.ndim == 2 else flat[len(flat) // 2]
    most = float(plane.max())
    return (plane / (most or 1.0))[None], most


def panel(cells: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """Lay images of any sizes out side by side, each with a line of text above it.

    Args:
        cells: text and image `(1 or 3, height, width)` with values in [0, 1], NaN hatched: a grey would be a brightness, and
            that of the canvas the end of the image. Small ones are enlarged without smoothing, by whole factors, to about the
            height of the tallest.

    >>> import torch
    >>> panel([("a", torch.zeros(1, 8, 8)), ("b", torch.zeros(1, 4, 4))]).size
    (146, 90)
    """
    tallest, widest = max(one.shape[-2] for _, one in cells), max(one.shape[-1] for _, one in cells)
    zoom = max(1, min(8, ACROSS // (len(cells) * (widest + GAP))))
    font = ImageFont.load_default()
    pixels = []
    for _, one in cells:
        factor = max(1, tallest * zoom // one.shape[-2])
        shown_, unknown = pictures.to_pixels(one[None])[0], one.isnan().any(dim=0).cpu().numpy()
        pixels.append(_hatched(*(each.repeat(factor, axis=0).repeat(factor, axis=1) for each in (shown_, unknown))))
    widths = [max(one.shape[1], int(font.getlength(text)) + 2) for one, (text, _) in zip(pixels, cells, strict=True)]
    height = max(one.shape[0] for one in pixels) + LINE + 2 * GAP
    canvas = Image.fromarray(np.full((height, sum(widths) + GAP * (len(cells) + 1), 3), 128, dtype=np.uint8))
    draw, left = ImageDraw.Draw(canvas), GAP
    for one, width, (text, _) in zip(pixels, widths, cells, strict=True):
        draw.text((left, 2), text, fill=(255, 255, 255), font=font)
        canvas.paste(Image.fromarray(one), (left, LINE + GAP))
        left += width + GAP
    return canvas


def _hatched(pixels: Any, unknown: Any) -> Any:
    """Return pixels `(height, width, 3)` with slanted stripes, of colours that no grey image has, where they are unknown."""
    down, across = np.indices(unknown.shape)
    stripe = (down + across) % STRIPES < STRIPES // 2
    return np.where(unknown[..., None], np.where(stripe[..., None], *np.array(HATCH, dtype=np.uint8)), pixels)


def answer_picture(
    run: Run,
    measured: tuple[str, Tensor | None],
    samples: Tensor,
    mean: Tensor,
    std: Tensor | None,
    reference: Tensor | None = None,
) -> Image.Image:
    """Return one picture of an answer: what was measured, the samples, their mean and standard deviation, the reference.

    Args:
        run: gives the range that is shown.
        measured: its name, and its numbers in the run's units, or None for numbers that are no picture.
        samples: `(n, *shape)`; at most eight are shown.
        mean: `shape`.
        std: `shape`, or None.
        reference: `shape`, or None.
    """
    if run.kind not in PICTURED:
        return pictures.bands(samples, mean, std, measured, reference)
    cells = [] if measured[1] is None else [(measured[0], shown(run, measured[1]))]
    cells += [(f"sample {index + 1}", shown(run, one)) for index, one in enumerate(samples[:8])]
    cells += [("mean", shown(run, mean))]
    if std is not None:
        spread, most = shown_spread(std)
        cells += [(f"std, white {short(most)}", spread)]
    return panel([*cells, *([] if reference is None else [("reference", shown(run, reference))])])


def save_spread(path: Path, run: Run, item: Item, std: Tensor) -> None:
    """Write a map of standard deviations: numbers to `path`, a .npy file, and beside it a picture, unless they are a signal's.

    Numbers are float32 in the units and axes of the person's file: 8 bits would round them to whole grey levels.
    """
    as_floats = replace(item, layout=replace(item.layout, dtype="float32", legal=(), missing=None))
    save_array(path, as_floats.to_source(std[None] + item.offset)[0])
    if run.kind in PICTURED:
        spread, most = shown_spread(std)
        path.with_suffix(".png").write_bytes(pictures.png(panel([(f"std, white {short(most)}", spread)]), run.made_from))
