"""Outputs: where samples go, a batch at a time, so that many take no more memory than few.

Each kind of file is a context that gives `add(raw, labels)`. The samples of a file are written beside its place as they come;
at the end it takes its place, as a whole, and if anything fails before, nothing is left of it. A folder of pictures holds
besides them a list, `samples.jsonl`: a line on the set, then one for each picture with its sha256 and its class. It is by this
list that the pictures of an earlier set are known: they alone may be replaced by --force, and only as they were written.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield import __version__, files, pictures
from scorefield.data.columns import width
from scorefield.data.coordinates import decode
from scorefield.data.tables import csv_of, parquet_of
from scorefield.errors import ScorefieldError
from scorefield.runs import Run

Add = Callable[[Tensor, Tensor | None], None]
SUFFIXES = (".png", ".npz")
OF_TABLES = (".csv", ".tsv", ".parquet", ".npy", *SUFFIXES)
LIST = "samples.jsonl"
WRITER = "scorefield sample"  # what a list, and the comment of an animation, say of who wrote them
PLOTTED = 100_000  # samples, of which a plot shows no more
PIXELS = 2**26  # of the largest grid: twice as many, and other programs take the picture for an attack
GROUP = 2**20  # cells of a table in memory, and in a group of rows of a Parquet file, whatever the batch


def output(run: Run, n: int, target: Path, *, folder: bool, force: bool, about: dict[str, Any]) -> AbstractContextManager[Add]:
    """Return where n samples of a run go: a context that gives `add(raw, labels)`.

    Args:
        run: whose samples they are.
        n: how many there will be.
        target: a file with one of the endings, or a folder.
        folder: it is a folder.
        force: a folder may hold an earlier set.
        about: the set, for the list of a folder.
    """
    if folder:
        return _folder(run, n, target, force, about)
    match target.suffix.lower():
        case ".npz":
            return _arrays(run, n, target)
        case ".npy":
            return _array(run, n, target)
        case ".parquet":
            return _parquet(run, target)
        case ".csv" | ".tsv":
            return _text(run, target)
    return _picture(run, n, target)


def check(run: Run, n: int, target: Path, *, folder: bool, force: bool) -> None:
    """Refuse, before anything is drawn, an output that could not be written at the end, or whose place is taken."""
    endings = OF_TABLES if run.kind == "table" else SUFFIXES
    known, suffix = f"{', '.join(endings[:-1])} or {endings[-1]}", target.suffix.lower()
    if target.name.lower() in OF_TABLES:
        raise ScorefieldError(f"got --out {target}, an ending alone, expected a name before it: write samples{target.name}")
    if not folder and suffix not in endings:
        raise ScorefieldError(f"got --out {target}, expected a name ending in {known}, or a folder: change the ending")
    if folder and run.kind != "image":
        raise ScorefieldError(f"got --out {target}, a folder, for samples that are no images, expected {known}: change it")
    if target.exists() and target.is_dir() != folder:
        found, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise ScorefieldError(f"got --out {target}, where there is a {found}, expected a {wanted}: choose another name")
    if folder:
        earlier(target, n, force)
    else:
        files.refuse_existing(target, force)
    if not (above := target.resolve().parent).is_dir():
        raise ScorefieldError(f"got --out {target} in a folder that does not exist, expected one that does: make it first")
    if not files.can_write(target if target.is_dir() else above):
        raise ScorefieldError(f"got --out {target} in a folder that cannot be written, expected one that can: choose another")
    if not folder and suffix == ".parquet":
        parquet_of({})  # without pyarrow, say so now
    if _is_plot(run, target, folder):
        pictures.require_plots()
    elif not folder and suffix == ".png" and math.prod(pictures.Grid(n, *run.shape[1:]).size) > PIXELS:
        raise ScorefieldError(
            f"got {n:,} images of {run.shape[1]}x{run.shape[2]} for one picture, expected at most {PIXELS // 10**6} million "
            "pixels in all: lower -n, or choose an .npz or a folder for --out"
        )


def _is_plot(run: Run, target: Path, folder: bool) -> bool:
    return not folder and target.suffix.lower() == ".png" and run.kind != "image"


def left_out(run: Run, n: int, target: Path, *, folder: bool) -> str | None:
    """Return what a picture does not show, in words; None mostly."""
    shown = pictures.SIGNALS if run.kind == "signal" else PLOTTED
    if not _is_plot(run, target, folder) or n <= shown:
        return None
    return f"the picture shows the first {shown:,} of {n:,} samples: choose an .npz for all of them"


def earlier(target: Path, n: int, force: bool) -> dict[str, list[str]]:
    """Return the pictures of an earlier set that a set of n may replace, name -> sha256; or refuse, naming what is in the way.

    Raises:
        ScorefieldError: the folder holds something and no list, a picture of the list has changed, a name is taken by something
            that is not on the list, or all is well and `force` is missing.
    """
    inside = {path.name for path in target.iterdir() if not _is_partial(path.name)} if target.exists() else set()
    if not inside:
        return {}
    got, listed = f"got --out {target}", _listed(target / LIST)
    if not listed:
        raise ScorefieldError(
            f"{got}, a folder with files ({min(inside)}) that no {LIST} of scorefield sample lists, expected a new or an empty "
            "one: choose another name"
        )
    if not force:
        raise ScorefieldError(f"{got}, where there are samples already, expected a new name: choose another, or add --force")
    there = {name: known for name, known in listed.items() if name in inside}
    changed = [name for name, known in there.items() if not _is_one_of(target / name, known)]
    taken = [name for name in (_name(index) for index in range(n)) if name in inside and name not in there]
    for odd, what in ((changed, "changed since scorefield sample wrote it"), (taken, "was not written by scorefield sample")):
        if odd:
            more = f" (and {len(odd) - 1:,} more)" if len(odd) > 1 else ""
            raise ScorefieldError(
                f"{got}, where {min(odd)}{more} {what}, expected nothing of yours in the way: move it, or choose another name"
            )
    return there


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _is_partial(name: str) -> bool:
    """Whether a name is that of a file which a killed process did not finish."""
    return name.startswith(".") and name.endswith(".partial")


def _is_one_of(path: Path, known: list[str]) -> bool:
    """Whether a path is a plain file with one of these sha256."""
    return path.is_file() and not path.is_symlink() and files.digest(path.read_bytes()) in known


def _listed(path: Path) -> dict[str, list[str]]:
    """Return the pictures on a folder's list, name -> every sha256 it gives; nothing where there is no list of ours."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # a stranger's file of that name
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(head)["written_by"] != WRITER:
            return {}
        for line in lines:
            entry = json.loads(line)
            if re.fullmatch(r"\d{5,}\.png", entry["file"]):  # a plain name: a list may come from anywhere
                found.setdefault(entry["file"], []).append(entry["sha256"])
    return found


@contextlib.contextmanager
def _folder(run: Run, n: int, target: Path, force: bool, about: dict[str, Any]) -> Iterator[Add]:
    """One PNG each, and the list.

    The list takes its place before the pictures, and says both what was there and what comes: a kill between two of them leaves
    nothing that is not on it.
    """
    made = not target.exists()
    target.mkdir(exist_ok=True)
    lines = list[str]()

    def add(raw: Tensor, labels: Tensor | None) -> None:
        for index, pixels in enumerate(_pixels(run, raw)):
            name, content = _name(len(lines)), pictures.png(pictures.image(pixels))
            files.write(target / name, content)
            told = {} if labels is None else {"class": run.classes[int(labels[index])]}
            lines.append(json.dumps({"file": name, "sha256": files.digest(content), **told}, ensure_ascii=False))

    def listing(*more: str) -> bytes:
        head = {"written_by": WRITER, "version": __version__, "run": run.path.resolve().name, **about, "samples": n}
        return "\n".join([json.dumps(head, ensure_ascii=False), *lines, *more, ""]).encode("utf-8", "backslashreplace")

    try:
        with files.together():
            yield add
            old = earlier(target, n, force)  # again: it may have changed while the samples were drawn
            before = (json.dumps({"file": name, "sha256": one}) for name, known in old.items() for one in known)
            files.write(target / LIST, listing(*before), first=True)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                target.rmdir()
        raise
    if old:
        for name in old.keys() - {_name(index) for index in range(n)}:
            (target / name).unlink(missing_ok=True)  # a smaller set keeps no pictures of a larger one
        files.write(target / LIST, listing())


def _pixels(run: Run, raw: Tensor) -> Any:
    """Return images as uint8 `(n, height, width, 3)`, or `(n, height, width)` where they are grey."""
    pixels = pictures.to_pixels(run.normaliser.visible(raw))
    return pixels if run.shape[0] > 1 else pixels[..., 0]


def _head(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}


def _floats(raw: Tensor) -> bytes:
    return raw.numpy().astype(np.float32).tobytes()


@contextlib.contextmanager
def _array(run: Run, n: int, target: Path) -> Iterator[Add]:
    """An .npy, float32 in the data's own units."""
    with files.together(), files.writing(target) as stream:
        np.lib.format.write_array_header_1_0(stream, _head((n, *run.shape), np.float32))

        def add(raw: Tensor, labels: Tensor | None) -> None:
            stream.write(_floats(raw))

        yield add


@contextlib.contextmanager
def _arrays(run: Run, n: int, target: Path) -> Iterator[Add]:
    """An .npz as `numpy.savez` writes it: 8-bit pixels of images, else float32 in the data's own units; and the classes."""
    name, shape, told = "x", run.shape, list[Tensor]()
    if run.kind == "image":
        name, shape = "images", (*run.shape[1:], *(3,) * (run.shape[0] > 1))
    with files.together(), files.writing(target) as stream, zipfile.ZipFile(stream, "w") as archive:

        def put(name: str, array: Any) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)

        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, _head((n, *shape), np.uint8 if run.kind == "image" else np.float32))

            def add(raw: Tensor, labels: Tensor | None) -> None:
                member.write(_pixels(run, raw).tobytes() if run.kind == "image" else _floats(raw))
                told.extend([] if labels is None else [labels])

            yield add
        if told:
            put("labels", torch.cat(told).numpy())
            put("classes", np.array(run.classes))


@contextlib.contextmanager
def _text(run: Run, target: Path) -> Iterator[Add]:
    """A table as delimited text."""
    columns, delimiter = run.manifest["data"]["columns"], "\t" if target.suffix.lower() == ".tsv" else ","
    with files.together(), files.writing(target) as stream:

        def add(raw: Tensor, labels: Tensor | None) -> None:
            stream.write(csv_of(decode(raw, columns), delimiter, header=stream.tell() == 0))

        yield add


@contextlib.contextmanager
def _parquet(run: Run, target: Path) -> Iterator[Add]:
    """A table as Parquet, in groups of rows that do not depend on the batch."""
    import pyarrow
    from pyarrow import parquet

    columns: list[dict[str, Any]] = run.manifest["data"]["columns"]
    types = {
        **{"number": pyarrow.float64(), "integer": pyarrow.int64(), "boolean": pyarrow.bool_(), "date": pyarrow.date32()},
        **{"category": pyarrow.string()},
    }
    schema = pyarrow.schema(
        [(one["name"], types.get(one["type"]) or pyarrow.timestamp("us", "UTC" if one["utc"] else None)) for one in columns]
    )
    size, held = max(1, GROUP // len(columns)), torch.empty(0, *run.shape, dtype=torch.float64)
    with files.together(), files.writing(target) as stream, parquet.ParquetWriter(stream, schema) as writer:

        def add(raw: Tensor, labels: Tensor | None) -> None:
            nonlocal held
            held = torch.cat([held, raw])
            while len(held) >= size:
                write(held[:size])
                held = held[size:]

        def write(rows: Tensor) -> None:
            writer.write_table(pyarrow.table(decode(rows, columns), schema=schema))

        yield add
        if len(held):
            write(held)


@contextlib.contextmanager
def _picture(run: Run, n: int, target: Path) -> Iterator[Add]:
    """A PNG: a grid of images, or a plot of everything else."""
    with files.together():
        shown = _Shown(run, n)
        yield shown.add
        files.write(target, pictures.png(shown.picture()))


class _Shown:
    """What a picture of samples shows of them, and no more: all images, 16 signals, two columns, or a table's first nine."""

    def __init__(self, run: Run, n: int) -> None:
        self.run, self.count = run, 0
        self.grid = pictures.Grid(n, *run.shape[1:]) if run.kind == "image" else None
        columns = run.manifest["data"].get("columns") or []
        self.columns, self.table = columns[: pictures.HISTOGRAMS], dict[str, list[Any]]()
        self.parts = list[Tensor]()

    def add(self, raw: Tensor, labels: Tensor | None) -> None:
        first, self.count = self.count, self.count + len(raw)
        if self.grid:
            self.grid.place(first, self.run.normaliser.visible(raw))
        elif self.run.kind == "signal":
            self.parts.append(raw[: max(0, pictures.SIGNALS - first)])
        elif self.columns:
            coordinates = raw[: max(0, PLOTTED - first), : sum(map(width, self.columns))]
            for name, values in decode(coordinates, self.columns).items():
                self.table.setdefault(name, []).extend(values)
        else:
            self.parts.append(raw[: max(0, PLOTTED - first)].flatten(1)[:, :2].clone())

    def picture(self) -> Image.Image:
        if self.grid:
            return self.grid.image()
        if self.table:
            return pictures.histograms(self.table)
        shown = torch.cat(self.parts)
        return pictures.lines(shown) if self.run.kind == "signal" else pictures.scatter(shown)
