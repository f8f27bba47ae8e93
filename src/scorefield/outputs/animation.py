"""An animation of the sampling, beside what was drawn: about 60 frames of the first samples, from noise to data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import files, pictures
from scorefield.data.planes import PICTURED, plane_size, planes
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.outputs.base import TOOL, Output
from scorefield.samplers import Snapshot

FRAMES = 60
PIXELS = 2**20  # of the images in one frame
COMMENT = f"made by {TOOL}"  # in the file: it says that a file may be replaced


class Animation:
    """Collects the frames: the state at a noise level, scaled back to the size of the data.

    Args:
        output: what it lies beside.
        field: that is drawn from.
    """

    def __init__(self, output: Output, field: Field) -> None:
        self.run, self.field, self.path = output.run, field, path_of(output)
        self.shown = min(output.n, {"image": 64, "volume": 64, "signal": pictures.SIGNALS}.get(self.run.kind, 2000))
        if self.run.kind in PICTURED:  # of large ones fewer: all frames are in memory at once
            self.shown = max(1, min(self.shown, PIXELS // math.prod(plane_size(self.run))))
        self.grids, self.parts = dict[int, pictures.Grid](), dict[int, list[Tensor]]()  # by step, from every batch

    def add(self, first: int, snapshot: Snapshot) -> None:
        """Take a step of a batch, whose first sample has this number, if it is one of the steps to be shown."""
        every = math.ceil(snapshot.steps / FRAMES)
        if first >= self.shown or (snapshot.step % every and snapshot.step != snapshot.steps):
            return
        field = self.field
        x = snapshot.x[: self.shown - first].cpu()
        if snapshot.t > 0 or snapshot.step < snapshot.steps:
            # alpha·mean + std·(x - alpha·mean)/sqrt(alpha²·std² + sigma²): noise looks like noise, not like saturation.
            alpha, spread = field.process.prior(snapshot.t, field.data_std)
            mean = alpha * field.data_mean.cpu()
            x = mean + field.data_std * (x - mean) / spread
        raw = self.run.decode(x)
        if self.run.kind in PICTURED:
            grid = pictures.Grid(self.shown, *plane_size(self.run), across=360)  # noise does not compress: small frames
            self.grids.setdefault(snapshot.step, grid).place(first, planes(raw, self.run))
        else:
            part = raw if self.run.kind == "signal" else raw.flatten(1)[:, :2].clone()
            self.parts.setdefault(snapshot.step, []).append(part)

    def view(self, fraction: float, text: str, seen: Any) -> None:
        """Take a step as the `Viewer` of a drawing does."""
        self.add(seen.first, seen.snapshot)

    def write(self) -> None:
        """Write the file."""
        files.write(self.path, self._gif())

    def _gif(self) -> bytes:
        if self.run.kind in PICTURED:
            return pictures.gif([grid.image() for grid in self.grids.values()], comment=COMMENT)
        frames = [torch.cat(parts) for parts in self.parts.values()]
        ends = frames[-1].reshape(-1, 1) if self.run.kind == "signal" else frames[-1]
        low, high = ends.nan_to_num(nan=torch.inf).amin(dim=0), ends.nan_to_num(nan=-torch.inf).amax(dim=0)
        low, high = (torch.where(low <= high, end, 0.0) for end in (low, high))  # of a column without a number
        pad = (0.15 * (high - low)).clamp(min=1e-3)
        first, last = (low - pad).tolist(), (high + pad).tolist()
        if self.run.kind == "signal":
            shown = [pictures.lines(frame, limits=(first[0], last[0])) for frame in frames]
        else:
            limits = (first[0], last[0], first[-1], last[-1])
            shown = [pictures.scatter(frame, limits=limits) for frame in frames]
        return pictures.gif(shown, comment=COMMENT)


def path_of(output: Output) -> Path:
    """Return where the animation beside an output goes."""
    return output.beside(".gif")


def check(output: Output) -> None:
    """Refuse, before anything is drawn, an animation that could not be written, or would replace a file that is none of ours.

    Even with `force`: the person named what it lies beside, not this file.
    """
    path = path_of(output)
    files.refuse_existing(path, output.force, option="--gif, which goes to")
    if path.exists() and COMMENT.encode() not in path.read_bytes():
        raise ScorefieldError(
            f"got --gif, which goes to {path}, a file that {TOOL} did not write, expected a free name or one of its own "
            "animations: move it away, or choose another --out"
        )
    if output.run.kind not in PICTURED:
        pictures.require_plots()
