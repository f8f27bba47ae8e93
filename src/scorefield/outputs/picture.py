"""A picture of samples, `.png`: a grid of images or of planes of volumes, or a plot of everything else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scorefield import files, pictures
from scorefield.data.planes import PICTURED, plane_size, planes, what_is_shown
from scorefield.data.table.columns import width
from scorefield.data.table.coordinates import decode
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import Add, Output, Writer
from scorefield.runs import Run

PLOTTED = 100_000  # samples, of which a plot shows no more
PIXELS = 2**26  # of the largest grid: twice as many, and other programs take the picture for an attack


class _Picture(Writer):
    def check(self, output: Output) -> None:
        run = output.run
        if run.kind not in PICTURED:
            pictures.require_plots()
        elif math.prod(pictures.Grid(output.n, *plane_size(run)).size) > PIXELS:
            raise ScorefieldError(
                f"got {output.n:,} {run.kind}s of {'x'.join(map(str, run.shape[1:]))} for one picture, expected at most "
                f"{PIXELS // 10**6} million pixels in all: lower -n, or choose an .npz or a folder for --out"
            )

    def left_out(self, output: Output) -> str | None:
        run, shown = output.run, pictures.SIGNALS if output.run.kind == "signal" else PLOTTED
        if run.kind in PICTURED:
            part = what_is_shown(run)
            return part and f"the picture shows {part}; an .npz holds everything"
        if output.n <= shown:
            return None
        return f"the picture shows the first {shown:,} of {output.n:,} samples: choose an .npz for all of them"

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        with files.together():
            shown = _Shown(output.run, output.n)
            yield shown.add
            files.write(output.path, pictures.png(shown.picture()))


WRITER = _Picture()


class _Shown:
    """What a picture shows of samples, and no more: images, planes of volumes, 16 signals, two columns, or nine of a table."""

    def __init__(self, run: Run, n: int) -> None:
        self.run, self.count = run, 0
        self.grid = pictures.Grid(n, *plane_size(run)) if run.kind in PICTURED else None
        columns = run.manifest["data"].get("columns") or []
        self.columns, self.table = columns[: pictures.HISTOGRAMS], dict[str, list[Any]]()
        self.parts = list[Tensor]()

    def add(self, raw: Tensor, labels: Tensor | None) -> None:
        first, self.count = self.count, self.count + len(raw)
        if self.grid:
            self.grid.place(first, planes(raw, self.run))
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
