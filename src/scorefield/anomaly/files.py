"""Files that do not belong: images, signals, volumes and vectors, by a run of such; and where in each of them it is odd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.anomaly.blend import BANK
from scorefield.anomaly.detector import UNSEEN, Detector, Oddness
from scorefield.anomaly.verdicts import csv_lines, is_odd, notes_on, verdicts
from scorefield.errors import ScorefieldError
from scorefield.inputs import Item, check_size
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import subsample
from scorefield.runs import Run


@dataclass(frozen=True, eq=False)
class OddFiles:
    """How odd files are.

    Attributes:
        items: the files, or the examples of an array.
        found: of them; its shares are of every number, `(n, channels, *size)`.
        rate: of false alarms.
        held_out: examples by which p-values were found: the smallest is 1/(held_out + 1).
        source: name of what was looked at.
        notes: what a person should know.
    """

    items: list[Item]
    found: Oddness
    rate: float
    held_out: int
    source: str
    notes: tuple[str, ...]

    @property
    def odd(self) -> list[bool]:
        """Whether each file is called odd."""
        return is_odd(self.found, self.rate)

    @property
    def order(self) -> list[int]:
        """The files' numbers, the oddest first."""
        order: list[int] = self.found.surprise.argsort(descending=True, stable=True).tolist()
        return order

    @property
    def maps(self) -> Tensor:
        """Of every place its share in what makes the file odd, all channels together, `(n, *size)`, sum 1."""
        return self.found.shares.sum(dim=1) if self.found.shares.ndim > 2 else self.found.shares

    def to_dict(self) -> dict[str, Any]:
        """Return every file as values of JSON, in the order of their names; rows count from 0. `place` is the oddest one."""
        maps, rows = self.maps.numpy(), []
        for row, verdict in enumerate(verdicts(self.found, self.rate)):
            place = [int(index) for index in np.unravel_index(int(maps[row].argmax()), maps[row].shape)]
            rows.append({"row": row, "line": None, "name": self.items[row].name, **verdict, "columns": [], "place": place})
        head = {"rate": self.rate, "held_out": self.held_out, "count": sum(self.odd), "columns": []}
        return {**head, "rows": rows, "notes": list(self.notes)}

    def csv(self) -> bytes:
        """Return a line for each file."""
        keys = ("name", "surprise", "p_value", "odd", "spoke")
        return csv_lines([{key: row[key] for key in keys} for row in self.to_dict()["rows"]])


def odd_files(
    run: Run, items: list[Item], source: str, rate: float, device: torch.device, progress: Progress = silent
) -> OddFiles:
    """Measure how odd files are.

    Args:
        run: an opened run of images, signals, volumes or vectors, whose data are there.
        items: the files, of the run's size.
        source: name of what they are from.
        rate: share of files like the run's that may be called odd.
        device: where to compute.
        progress: called with the share of the work that is done.

    Raises:
        ScorefieldError: a file of another size, or with missing numbers; a run of data with unknown cells, without held-out
            data, or whose data are gone.
    """
    if run.normaliser.holes is not None:
        raise ScorefieldError(
            f"got {run.path}, a run of data with unknown cells, expected one of whole {run.kind}s: choose one"
        )
    for item in items:
        check_size(item, run.shape, "as the run's data are")
        if not bool(item.known.all()):
            raise ScorefieldError(
                f"got {item.name!r}, of which {float((~item.known).double().mean()):.0%} is missing, expected all of it: fill "
                "it with scorefield restore first, or leave it out"
            )
    data, encode = run.data, run.normaliser.encode
    stages = Stages(progress, usual=min(len(data.held_out), UNSEEN) + 500, files=len(items))
    seen, unseen = (
        encode(torch.as_tensor(part[subsample(len(part), most)])).double()
        for part, most in ((data.train, BANK), (data.held_out, UNSEEN))
    )
    detector = Detector(run.field.to(device), seen, unseen, stages("usual"))
    found = detector(encode(torch.stack([item.raw for item in items])).double(), stages("files"))
    count = len(detector.unseen)
    return OddFiles(items, found, rate, count, source, notes_on(count, rate))
