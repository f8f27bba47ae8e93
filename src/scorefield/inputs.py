"""Inputs: a person's own files for a run that is open, in the run's units, and back into files of the same type.

    raw = offset + unit·value       value: what the file holds;  raw: what `Run.decode` gives, channels first

A picture of 8 or 16 bits of another depth than the run's data is read as `scorefield sample` writes it: black is the low end of
the range that the run maps, white the high end. Everything else holds the run's own numbers. Nothing is resized. An unknown
number, NaN in an array or a pixel of opacity 0, is NaN.

    image     .png, .jpg, .tif and others, .npy, .npz; a grey one is given three equal channels, where the run has colours
    signal    .wav, .flac and others, .npy, .npz
    others    .npy, .npz; an array may hold one example or several, channels first or as the run's data had them
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from scorefield import pictures
from scorefield.data.extras import require
from scorefield.data.files import archives
from scorefield.data.files.archives import Entry, cause_of
from scorefield.data.files.audio import SUFFIXES as SOUNDS
from scorefield.data.image import deep
from scorefield.data.image.decode import Wanted, see
from scorefield.data.image.tiff import SUFFIXES as TIFFS
from scorefield.data.layout import RAW, Layout
from scorefield.errors import ScorefieldError
from scorefield.registry import find
from scorefield.runs import Run

Array = NDArray[Any]
ARRAYS = (".npy", ".npz")
PICTURES = {"uint8": 255, "uint16": 65535}  # type of the pixels of a picture -> white
COLOURS = (2, 3, 4)  # a last axis of so few is one of channels, not of a width
FAINT = 50  # values that span less than this part of the run's range are in other units
FAR = 20  # ranges beyond it; noise as large as the range reaches four, and 16 bits read as 8 reach 256


@dataclass(frozen=True, eq=False)
class Item:
    """One example from a person's file.

    Attributes:
        name: the file's name without its ending; of a file of several examples with the number of this one.
        raw: its numbers in the run's units, `(channels, *size)`, float64, of the size in the file; NaN where unknown.
        layout: what it was in its file.
        unit, offset: raw = offset + unit·value, for each channel, `(channels, 1, ...)`.
        ending: of the file that `save` writes: that of its own type, or of a lossless one.
    """

    name: str
    raw: Tensor
    layout: Layout
    unit: Tensor
    offset: Tensor
    ending: str

    @property
    def known(self) -> Tensor:
        """Where a number is known, bool `(channels, *size)`."""
        return ~self.raw.isnan()

    def values(self, raw: Tensor) -> Tensor:
        """Return numbers in the run's units, `(n, channels, *size)`, in those of the file."""
        return (raw.cpu().double() - self.offset) / self.unit

    def to_source(self, raw: Tensor) -> Array:
        """Return numbers in the run's units, `(n, channels, *size)`, as the file would hold them: axes, type and units."""
        values = self.values(raw).numpy()
        return replace(self.layout, shape=_lengths(self.layout.axes, values.shape[1:])).to_source(values)

    def save(self, path: Path, raw: Tensor) -> None:
        """Write one example, `(channels, *size)` in the run's units, to a new file that ends in `ending`."""
        sample = self.to_source(raw[None])[0]
        if self.ending == ".png":
            path.write_bytes(pictures.png(pictures.image(sample)))
        elif self.ending == ".npy":
            save_array(path, sample)
        else:
            form = find("format", self.layout.format)()
            form.write(str(path), sample if form.one_a_file else sample[None], replace(self.layout, shape=sample.shape))


def save_array(path: Path, array: Array) -> None:
    """Write an array to a new .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def read_items(run: Run, source: Any, shape: tuple[int, ...] | None = None) -> list[Item]:
    """Read a file, or all files of a folder and its sub-folders, for a run.

    Args:
        run: an opened run of images, signals, volumes or vectors.
        source: path of a file or of a folder; or an array or a tensor, of one example or of several.
        shape: of what is expected, if it is no sample of the run but a measurement of one: its channels, and where it has
            other axes than a sample, all of it. None for samples of the run, of any size.

    Returns:
        The examples, in the order of their paths, with names that differ.

    Raises:
        ScorefieldError: a run of tables, nothing there, a folder without such files, a file that cannot be read (with the
            cause), other channels, or values that are plainly in other units.
    """
    if run.kind == "table":
        raise ScorefieldError(
            f"got {run.path}, a run of tables, expected one of images or signals: fill the gaps of tables with "
            "scorefield.ScoreDensity(...).impute"
        )
    reader = _Reader(run, tuple(run.shape if shape is None else shape))
    if not isinstance(source, str | os.PathLike):
        return list(reader.arrays("array", _numbers(source)))
    path = Path(source).expanduser()
    if not os.fspath(source) or not path.exists():
        raise ScorefieldError(f"got {str(source)!r}, where nothing is, expected a file or a folder: check its spelling")
    items = [item for entry in reader.entries(path) for item in reader.read(entry)]
    return _named(items)


def check_size(item: Item, shape: Sequence[int], what: str) -> None:
    """Refuse an item of another shape than `shape`, in the words of `what`: "what the operator gives"."""
    if tuple(item.raw.shape) != tuple(shape):
        got, wanted = ("x".join(map(str, size)) for size in (item.raw.shape, shape))
        raise ScorefieldError(
            f"got {item.name!r} of {got} (channels x size), expected {wanted}, {what}: crop it, or give another"
        )


class _Reader:
    """Reads files for a run."""

    def __init__(self, run: Run, shape: tuple[int, ...]) -> None:
        self.run, self.shape, self.like = run, shape, len(shape) == len(run.shape)
        self.pictured = run.kind == "image" and self.like
        own = archives.SUFFIXES if self.pictured else SOUNDS if run.kind == "signal" and self.like else ()
        self.suffixes = (*own, *ARRAYS)

    def entries(self, path: Path) -> Sequence[Entry]:
        """Return the files at a path."""
        wanted = f"expected {self.run.kind}s in files ending in {', '.join(self.suffixes)}"
        if not path.is_dir():
            if not path.name.lower().endswith(self.suffixes):
                raise ScorefieldError(f"got {str(path)!r}, {wanted}: save it as one of these")
            return [_entry(path)]
        listing = archives.folder(str(path), self.suffixes)
        for issue in listing.issues:
            raise _unreadable(issue.where, issue.cause)
        if not listing.entries:
            raise ScorefieldError(f"got the folder {str(path)!r} without such files, {wanted}: name another")
        return list(listing.entries)

    def read(self, entry: Entry) -> Iterator[Item]:
        """Yield the examples of a file."""
        ending = os.path.splitext(entry.path)[1].lower()
        name = entry.path[: len(entry.path) - len(ending)].replace("/", "-")
        if ending in ARRAYS:
            keys = dict.fromkeys([str(self.run.layout.header.get("key", "images")), "images", "x"])  # the likely ones first
            yield from self.arrays(name, _loaded(entry, list(keys)))
        elif self.pictured:
            yield self._picture(name, entry, ending)
        else:
            yield self._sound(name, entry, ending)

    def arrays(self, name: str, array: Array) -> Iterator[Item]:
        """Yield the examples of an array."""
        rows, layout = self._rows(name, array)
        missing = self.run.layout.missing
        for index, row in enumerate(rows):
            raw = torch.from_numpy(row.astype(np.float64))
            if missing is not None and array.dtype.kind in "iu":
                raw = torch.where(raw == missing, torch.nan, raw)
            item = self._item(name if len(rows) == 1 else f"{name}-{index}", raw, layout, ".npy")
            if self.like:
                self._check_units(item)
            yield item

    def _rows(self, name: str, array: Array) -> tuple[Array, Layout]:
        """Return the examples of an array, channels first, and their layout in it."""
        run, shape = self.run, self.shape
        if not self.like or run.kind == "vector":
            found = next(
                (array[None] if array.ndim == len(shape) else array for _ in "1" if array.shape[-len(shape) :] == shape), None
            )
            if found is None or found.ndim != len(shape) + 1:
                raise ScorefieldError(
                    f"got {name!r}, an array of shape {array.shape}, expected {shape}, or several of these: reshape it"
                )
            return found, Layout("", array.dtype.name, shape)
        orders = list(dict.fromkeys((run.layout.axes, *_orders(RAW[run.kind], shape[0]))))
        for examples, axes in ((examples, axes) for examples in (array[None], array) for axes in orders):
            colours = axes == "yx" and examples is array and examples.shape[-1] in COLOURS and shape[-1] not in COLOURS
            if examples.ndim != len(axes) + 1 or colours:
                continue
            layout = Layout(axes, array.dtype.name, examples.shape[1:], legal=run.layout.legal, missing=run.layout.missing)
            rows = layout.to_raw(examples)
            if rows.shape[1] == shape[0]:
                return rows, layout
        raise ScorefieldError(
            f"got {name!r}, an array of shape {array.shape}, expected {run.kind}s of {_channels(shape[0])} such as "
            f"{shape} or {run.layout.shape}, or several of these: reshape it"
        )

    def _item(self, name: str, raw: Tensor, layout: Layout, ending: str, white: int | None = None) -> Item:
        """Return values as an item in the run's units; `white` is the largest of a picture that is read as brightness."""
        ones = torch.ones(len(raw), *(1 for _ in raw.shape[1:]), dtype=torch.float64)
        offset, unit = 0 * ones, ones
        if white is not None:
            # brightness is affine in the raw numbers, b + a·raw: two of them give it
            zero = torch.zeros(self.run.shape[0], *ones.shape[1:], dtype=torch.float64)
            black, more = self.run.normaliser.visible(torch.stack([zero, zero + 1]))[:, : len(raw)]
            unit = 1 / (white * (more - black))
            offset = -black * white * unit
        return Item(name, offset + unit * raw, layout, unit, offset, ending)

    def _picture(self, name: str, entry: Entry, ending: str) -> Item:
        own = self.run.layout
        pixels, hidden = _pixels(entry, own.dtype)
        wanted = self.shape[0]
        if len(pixels) == 3 and wanted == 1 and (pixels == pixels[:1]).all():
            pixels = pixels[:1]
        if len(pixels) == 1 and wanted == 3:
            pixels = np.repeat(pixels, 3, axis=0)
        if len(pixels) != wanted:
            raise ScorefieldError(
                f"got {entry.path!r} of {_channels(len(pixels))}, expected {_channels(wanted)}, as {self.run.path.name} has: "
                "convert it, or use a run of such images"
            )
        dtype, axes = pixels.dtype.name, "yx" if wanted == 1 else "yxc"
        white = None if (own.legal and own.dtype != "bool") or dtype == own.dtype == "uint16" else PICTURES.get(dtype)
        shape = _lengths(axes, pixels.shape)
        format_, saved = ("tiff", ".tif") if ending in TIFFS and dtype not in ("uint8", "bool") else ("", ".npy")
        if (dtype == "uint8" and wanted in (1, 3)) or (dtype == "uint16" and wanted == 1 and not format_):
            saved = ".png"
        layout = Layout(axes, dtype, shape, legal=own.legal if dtype == own.dtype else (), format=format_)
        raw = torch.from_numpy(pixels.astype(np.float64))
        raw = torch.where(torch.from_numpy(hidden), torch.nan, raw)
        item = self._item(name, raw, layout, saved, white)
        if white is None:
            self._check_units(item)
        return item

    def _sound(self, name: str, entry: Entry, ending: str) -> Item:
        soundfile = require("soundfile", "audio", entry.path)
        try:
            values, rate = soundfile.read(entry.place, dtype="float64", always_2d=True)
            depth = soundfile.info(entry.place).subtype
        except Exception as error:  # soundfile raises anything on broken files
            raise _unreadable(entry.path, cause_of(error)) from None
        own = self.run.layout.header.get("rate", rate) if self.run.layout.format == "audio" else rate
        if rate != own:
            raise ScorefieldError(f"got {entry.path!r} at {rate:,} Hz, expected {own:,}, as the run's data have: resample it")
        if values.shape[1] != self.shape[0] or not len(values):
            raise ScorefieldError(
                f"got {entry.path!r} of {_channels(values.shape[1])}, expected {_channels(self.shape[0])}: convert it"
            )
        axes = "t" if values.shape[1] == 1 else "tc"
        header = {"rate": int(rate), "depth": str(depth)}
        layout = Layout(axes, "float64", _lengths(axes, values.shape[::-1]), format="audio", header=header)
        return self._item(name, torch.from_numpy(values.T.copy()), layout, ending if ending in (".wav", ".flac") else ".wav")

    def _check_units(self, item: Item) -> None:
        """Refuse an image whose values span next to nothing of the range of the run's data, or leave it far behind."""
        low, high = self.run.normaliser.low, self.run.normaliser.high
        known = item.raw[item.known]
        if self.run.kind not in ("image", "volume") or low is None or high is None or not known.numel():
            return
        least, most = float(known.min()), float(known.max())
        whole = bool((known == known.round()).all())
        faint = not whole and most - least < (high - low) / FAINT
        if faint or least < low - FAR * (high - low) or most > high + FAR * (high - low):
            raise ScorefieldError(
                f"got {item.name!r} with values from {least:.4g} to {most:.4g}, expected the units of the run's data, "
                f"{low:g} to {high:g}: multiply them"
            )


def _entry(path: Path) -> Entry:
    """Return a file as an entry; raises `ScorefieldError` for one that cannot be read."""
    try:
        return archives.file_entry(str(path), path.name, 2**33)
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), cause_of(error)) from None


def _unreadable(name: str, cause: str) -> ScorefieldError:
    return ScorefieldError(
        f"got {name!r}, which cannot be read ({cause}), expected a whole file: save it again, or move it away"
    )


def _pixels(entry: Entry, dtype: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return the upright pixels of an image file, `(channels, height, width)`, and where its opacity is 0.

    Args:
        entry: the file.
        dtype: of the run's data: 8 bits become 16 where it has 16.
    """
    header, _, cause = see(entry, None)
    pixels = None
    if header is not None and not cause:
        wider = header.dtype == "uint8" and dtype == "uint16" and header.missing is None
        wanted = Wanted(header.size, header.channels, "uint16" if wider else header.dtype)
        header, pixels, cause = see(entry, wanted)
    if header is None or pixels is None:
        raise _unreadable(entry.path, cause)
    hidden = _hidden(entry, pixels.shape[1:])
    if header.missing is not None:
        hidden = hidden | (pixels == header.missing).any(axis=0)
    return pixels, hidden


def _hidden(entry: Entry, size: Sequence[int]) -> NDArray[np.bool_]:
    """Return where the opacity of an image is 0, `size`."""
    nowhere = np.zeros(tuple(size), dtype=np.bool_)
    with entry.open() as stream:
        head = stream.read(deep.HEAD)
        stream.seek(0)
        if head.startswith(deep.PNG) and head[24] == 16 and head[25] in (4, 6):
            return np.asarray(require("imagecodecs", "tiff", entry.path).png_decode(stream.read())[..., -1] == 0)
        try:
            with Image.open(stream) as image:
                if not image.has_transparency_data:
                    return nowhere
                upright = ImageOps.exif_transpose(image).convert("RGBA")
        except Exception:  # its pixels were read by another library, which knows no opacity
            return nowhere
    found = np.asarray(upright)[..., 3] == 0
    return found if found.shape == nowhere.shape else nowhere


def _loaded(entry: Entry, keys: Sequence[str]) -> Array:
    """Return the array of a .npy file, or the one of a .npz that has one of the names, or is alone."""
    try:
        loaded = np.load(str(entry.place), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _numbers(loaded)
        with loaded:
            key = next((key for key in keys if key in loaded.files), loaded.files[0] if len(loaded.files) == 1 else None)
            if key is None:
                raise ScorefieldError(
                    f"got {entry.path!r} with the arrays {', '.join(loaded.files) or 'none'}, expected one alone, or one "
                    f"called {' or '.join(keys)}: save it as .npy"
                )
            return _numbers(loaded[key])
    except ScorefieldError:
        raise
    except Exception as error:  # numpy and zipfile raise anything on broken files
        raise _unreadable(entry.path, cause_of(error)) from None


def _numbers(source: Any) -> Array:
    """Return an array of numbers; raises `ScorefieldError` for anything else."""
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if array.dtype.kind not in "fiubc" or not array.size:
        raise ScorefieldError(f"got an array of {array.size} values of type {array.dtype}, expected numbers: convert it")
    return array


def _orders(raw: str, channels: int) -> list[str]:
    """Return the orders that the axes of an array may have, where it has not those of the run's data."""
    space = raw.replace("c", "")
    return [raw, space + "c", *([space] if channels == 1 else [])]


def _lengths(axes: str, raw: Sequence[int]) -> tuple[int, ...]:
    """Return the shape with these axes of an example, `(channels, *size)`."""
    if not axes:
        return tuple(raw)
    space = "".join(sorted(set(axes) - set("c"), key="tzyx".index))
    lengths = dict(zip("c" + space, raw, strict=True))
    return tuple(lengths[axis] for axis in axes)


def _channels(count: int) -> str:
    return {1: "one channel (grey)", 3: "three channels (colours)"}.get(count, f"{count} channels")


def _named(items: list[Item]) -> list[Item]:
    """Return items with names that differ: those of files that differ in their endings alone are numbered."""
    seen, named = dict[str, int](), list[Item]()
    for item in items:
        count = seen[item.name] = seen.get(item.name, 0) + 1
        named.append(item if count == 1 else replace(item, name=f"{item.name}-{count}"))
    return named
