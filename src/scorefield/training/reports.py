"""What a training reports: its plan, its state, its end, and the running loss by noise level.

The loss of a batch is noisy, because each example was drawn at its own level and levels differ more than models do. The mean
over all examples since the last report is less so; by level it says where the model is weak.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.data.base import DataIssue
from scorefield.process import Process

Event = Literal["ready", "log", "picture", "checkpoint", "warning", "choosing", "done", "stopped", "measuring"]
BINS = 8
QUIET = 1e-3  # a process may begin without noise; all levels below this one share a bin


@dataclass(frozen=True)
class TrainingState:
    """What the loop reports.

    Attributes:
        event: "ready" once before the first step, "log", "picture" (time to draw samples), "checkpoint", "warning" (see
            `messages`), and at the end "choosing" (the last step is done, the moving averages are compared) and "done", or
            "stopped" if it was asked to. A run's folder adds "measuring": the training is done, its last picture is drawn or
            its error by noise level is measured, and `fraction` is of that.
        step, seconds, images: how far the run is.
        fraction: of the budget, 0 to 1.
        loss: per coordinate, averaged since the last report.
        images_per_second: since the last report.
        seconds_left: by the budget, or by the speed so far.
        extra: held-out loss, learning rate, loss by noise level, ...
        messages: sentences for a person, since the last report.
    """

    event: Event
    step: int
    seconds: float
    images: int
    fraction: float
    loss: float
    images_per_second: float
    seconds_left: float
    extra: dict[str, Any] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a training is about to do: data, reasons, size, and what is odd about the data."""

    data: Dataset
    config: RunConfig
    why: tuple[str, ...]
    parameters: int
    folder: Path
    issues: tuple[DataIssue, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes:
        folder: the run.
        step, seconds, images: how far it went.
        held_out: loss per coordinate on held-out examples, or NaN for a run that was already finished.
        ended: "done", "stopped" when it was asked to, or "before" when there was nothing left to do.
        written: pictures and tables it made.
        messages: sentences that a person was shown: precision, warnings, the moving average that was chosen.
        hardly_begun: whether the time was over before the first steps were done, so that its samples are noise.
    """

    folder: Path
    step: int
    seconds: float
    images: int
    held_out: float
    ended: str
    written: tuple[Path, ...]
    messages: tuple[str, ...] = ()
    hardly_begun: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values: dict[str, Any] = json_values(asdict(self))
        return values


def json_values(value: Any) -> Any:
    """Return a value in what JSON can hold: paths as texts, None for what is no finite number.

    >>> json_values({"written": (Path("a.png"),), "loss": math.nan})
    {'written': ['a.png'], 'loss': None}
    """
    if isinstance(value, dict):
        return {key: json_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Tally:
    """Sums and counts of losses since the last report by noise level: `(BINS + 1, 2)`, the last row for those without one."""

    def __init__(self, process: Process, device: torch.device) -> None:
        """Divide the process's levels into bins of equal width in log sigma."""
        ends = process.sigma(torch.tensor([process.t_min, process.t_max], dtype=torch.float64)).clamp(min=QUIET)
        low, high = ends.log().tolist()
        self.process = process
        self._edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64, device=device)[1:-1]
        self._levels = [math.exp(low + (high - low) * (i + 0.5) / BINS) for i in range(BINS)]
        self.sums = self.empty()

    def empty(self) -> Tensor:
        """Return sums and counts of no losses: zeros `(BINS + 1, 2)`, float64."""
        return torch.zeros(BINS + 1, 2, dtype=torch.float64, device=self._edges.device)

    def of(self, losses: Tensor, t: Tensor | None) -> Tensor:
        """Return the sums and counts of losses `(batch,)` at times `(batch,)`, or None for no single time each."""
        if t is None:
            where = torch.full_like(losses, BINS, dtype=torch.int64)
        else:
            where = torch.bucketize(self.process.sigma(t.double()).log(), self._edges)
        one = torch.stack([losses.double(), torch.ones_like(losses, dtype=torch.float64)], dim=1)
        return self.empty().index_add_(0, where, one)

    def mean(self) -> float:
        """Return the mean loss, NaN for none."""
        total, count = self.sums.sum(dim=0).tolist()
        return total / count if count else math.nan

    def by_level(self) -> list[tuple[float, float]]:
        """Return (sigma, mean loss) of every bin in which there were losses, from the least noisy up."""
        rows = zip(self._levels, self.sums[:BINS].tolist(), strict=True)
        return [(sigma, total / count) for sigma, (total, count) in rows if count]
