"""What is settled on cells that training did not see: hidden in held-out rows, or kept aside from it, and found again.

    bottom    the lowest level of noise at which the learned field is asked; below, a row is what a Gaussian with the data's
              covariance makes of it. A field that has learned its rows by heart knows too much at low levels, and one with a
              low level too little at high ones
    together  whether all draws of a row are from one filter of particles (`guidance/conditional.py`)
    learned   whether the field is asked for p(missing | known) itself (`guidance/learned.py`), which is much faster
              of these, those with the smallest CRPS on the hidden cells are taken (`guidance/ways.py`)
    scores    of the cells, by which intervals are widened (`conformal.py`)

A run that has numbers kept aside (`data/table/aside.py`) is there to fill the rows that it has learned from, and these decide;
else all numbers of its held-out rows are hidden at random.

All of it belongs to the run, so they are kept in its folder, and a row is filled in the same way in every table.

Reference: Gneiting, Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorefield import files
from scorefield.conformal import scores_of, widening
from scorefield.data.table.aside import Aside
from scorefield.data.table.columns import width
from scorefield.data.table.coordinates import snapped
from scorefield.data.table.groups import Groups
from scorefield.data.table.partial import filled_in, opened, within_reach
from scorefield.errors import ScorefieldError
from scorefield.guidance.conditional import Way, crps
from scorefield.guidance.ways import HIDDEN, best_of, by_row, draws_by, ways_of
from scorefield.imputation.numbers import SHARE, ends_of, numbers_of, range_of, units_of
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run

NAME = "imputing.json"  # of a run's folder
PAIRS, DRAWS = 80, 20  # rows with hidden cells, and draws
LEAST_HIDDEN = 0.1  # of the cells that are there
MOST_ASIDE = 160  # rows
FEW = 30  # cells, below which those of other columns count, too


@dataclass(frozen=True)
class Settled:
    """What was found on rows that training did not see.

    Attributes:
        way: how rows are drawn.
        scores: of each column with numbers, pairs (score of a cell, number of its row).
        said: why nothing could be found, or "".
    """

    way: Way
    scores: dict[str, list[tuple[float, int]]]
    said: str = ""

    def widening(self, columns: Collection[str]) -> tuple[float, int, int]:
        """Return by how much intervals of these columns must be widened, and how many cells and rows say so."""
        own = [pair for name in columns for pair in self.scores.get(name, [])]
        own = own if len(own) >= FEW else [pair for pairs in self.scores.values() for pair in pairs]
        if not own:
            return 0.0, 0, 0
        scores, rows = (torch.tensor(part) for part in zip(*own, strict=True))
        by = widening(scores, rows, SHARE)
        return (by, len(own), len(set(rows.tolist()))) if math.isfinite(by) else (0.0, 0, 0)


def settled(run: Run, device: torch.device, progress: Progress = silent) -> Settled:
    """Return what a run's folder holds, or find it and keep it there."""
    path = run.path / NAME
    with contextlib.suppress(ScorefieldError, KeyError, TypeError, ValueError):
        kept = files.read_json(path) if path.is_file() else None
        if kept is not None and run.stale(kept) is None:
            scores = {name: [(float(score), int(row)) for score, row in pairs] for name, pairs in kept["scores"].items()}
            return Settled(Way(float(kept["bottom"]), bool(kept["together"]), kept.get("learned") is True), scores)
    first = ways_of(run.field)[0]
    unmeasured = first if first.learned else Way(together=False)
    try:
        hidden = _aside(run, run.data.aside) if run.data.aside is not None else _hidden(run)
    except ScorefieldError:
        return Settled(unmeasured, {}, "the run's data are not where they were: the intervals are the draws' own, not measured")
    if hidden is None:
        return Settled(unmeasured, {}, "the run has no held-out rows: the intervals are the draws' own, not measured")
    found = _found(run, hidden, device, progress)
    if files.can_write(run.path):
        values = {"made_from": run.made_from, **asdict(found.way), "scores": found.scores}
        files.write_json(path, values)
    return found


class Hidden(NamedTuple):
    """Rows `(n, d)`, which of their cells to find again and which are not known otherwise, `(n, columns)`, and whose rows."""

    truth: Tensor
    hidden: Tensor
    missing: Tensor
    row: Tensor


def _hidden(run: Run) -> Hidden | None:
    """Return held-out rows, some of them several times, with cells hidden at random; None without any."""
    columns, held_out = run.manifest["data"]["columns"], torch.as_tensor(run.data.held_out[:]).double()
    if not len(held_out):
        return None
    number = torch.arange(PAIRS)
    row, rng = number % len(held_out), SampleRng(number, stream=stream_of("impute", "hide"))
    missing = ~Groups.of(columns).known(run.normaliser.exactly(held_out[row]))
    there = max(1 - float(missing.double().mean()), 1e-9)
    hidden = rng.uniform((len(columns),)) < max(LEAST_HIDDEN, 1 - (1 - HIDDEN) / there)  # with what is missing, HIDDEN in all
    return Hidden(held_out[row], hidden, missing, row)


def _aside(run: Run, aside: Aside) -> Hidden | None:
    """Return training rows with the cells that were kept aside; without any, what `_hidden` does."""
    some = aside.some(MOST_ASIDE)
    if not len(some.rows):
        return _hidden(run)
    missing = ~Groups.of(run.manifest["data"]["columns"]).known(run.normaliser.exactly(some.rows))
    return Hidden(some.rows, some.hidden, missing, torch.arange(len(some.rows)))


def _found(run: Run, of: Hidden, device: torch.device, progress: Progress) -> Settled:
    columns: list[dict[str, Any]] = run.manifest["data"]["columns"]
    number, empty = torch.arange(len(of.truth)), of.hidden | of.missing
    known = opened(of.truth, {column["name"]: empty[:, i].numpy() for i, column in enumerate(columns)}, columns)
    errors, scores, ways = list[Tensor](), list[dict[str, list[tuple[float, int]]]](), ways_of(run.field)
    ways = ways[:1] if run.data.aside is not None and ways[0].learned else ways  # a person waits for the training, too
    for j, way in enumerate(ways):
        rng = SampleRng(number, stream=stream_of("impute", "measure"), device=device)
        part = portion(progress, j / len(ways), 1 / len(ways))
        drawn, _ = drawn_of(run, known, DRAWS, rng, way=way, progress=part)
        own = _compared(run, of.truth, drawn, of.hidden, of.row)
        errors.append(own[0])
        scores.append(own[1])
    best = best_of(errors, ways)
    return Settled(ways[best], scores[best])


def drawn_of(
    run: Run, raw: Tensor, draws: int, rng: SampleRng, *, way: Way, whole: bool = True, progress: Progress = silent
) -> tuple[Tensor, Tensor]:
    """Return draws `(draws, n, d)` of rows `(n, d)` with NaN, at values that are legal, and their effective shares `(n,)`.

    In a `whole` draw no value is missing; else some are, as in the run's table.
    """
    columns = run.manifest["data"]["columns"]
    if way.learned and not whole and any(column["missing"] for column in columns):
        way = Way(together=False)  # the learned conditional is that of values which are there
    known, field = run.normaliser.exactly(within_reach(raw, columns)).to(rng.seeds.device), run.field.to(rng.seeds.device)
    found = draws_by(way, field, known, draws, rng=rng, groups=Groups.of(columns), progress=progress)
    drawn = [run.normaliser.decode(one.cpu()) for one in found.x]
    drawn = [snapped(filled_in(one, columns) if whole else one, columns) for one in drawn]
    return torch.stack(drawn), found.effective.cpu()


def _compared(
    run: Run, truth: Tensor, drawn: Tensor, hidden: Tensor, row: Tensor
) -> tuple[Tensor, dict[str, list[tuple[float, int]]]]:
    """Return the CRPS of each row over hidden numbers in units of their columns, and the scores of these by column."""
    columns, first = run.manifest["data"]["columns"], 0
    errors, rows, scores = list[Tensor](), list[Tensor](), dict[str, list[tuple[float, int]]]()
    for i, (column, numbers, unit) in enumerate(zip(columns, numbers_of(drawn, columns), units_of(run), strict=True)):
        size, first = width(column), first + width(column)
        if numbers is None:
            continue
        (true,) = numbers_of(truth[None, :, first - size : first], [column])
        assert true is not None
        there = hidden[:, i] & true[0].isfinite()
        if column["missing"] and "atoms" not in column:
            there &= truth[:, first - 1] < 0.5
        if not bool(there.any()):
            continue
        errors.append(crps(numbers, true[0])[there] / unit)
        rows.append(row[there])
        smallest, largest = range_of(column)
        beyond = (true[0] < smallest) | (true[0] > largest)  # where no interval reaches
        own = scores_of(true[0], *ends_of(numbers, column), unit)
        own = torch.where(beyond, 1e9, own)[there]
        scores[column["name"]] = list(zip(own.tolist(), row[there].tolist(), strict=True))
    return (by_row(torch.cat(errors), torch.cat(rows)) if errors else torch.zeros(1)), scores
