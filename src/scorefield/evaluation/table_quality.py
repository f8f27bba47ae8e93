"""Quality of generated tables: what people ask of rows, each measure beside what real rows have.

    detection     AUROC of trees that tell samples from held-out rows                        detection.py
    dependence    errors of the dependence of pairs of columns                               dependence.py
    utility       what trees predict that learned from samples instead of training rows      tstr.py
    closest       share of samples nearer to training rows than to as many held-out rows     closest_record.py

The floor of the first two takes as many training rows as there are samples, or all, in place of the samples. That of the third
is part of it. That of the last asks the same of every real row and the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scorefield.data.table.coordinates import Table, decode
from scorefield.errors import ScorefieldError, unknown
from scorefield.evaluation.attempts import Attempts
from scorefield.evaluation.reference import Reference, Sets, holed
from scorefield.metrics.base import Estimate
from scorefield.metrics.closest_record import closest_record, closest_record_of_real
from scorefield.metrics.dependence import Dependence, dependence
from scorefield.metrics.detection import detection
from scorefield.metrics.tstr import Utility, tstr
from scorefield.progress import Progress, portion
from scorefield.randomness import subsample
from scorefield.runs import Run


@dataclass(frozen=True)
class TableQuality:
    """Measures of a generated table, each beside that of real rows; None where one could not be measured.

    Attributes:
        detection, real_detection: AUROC of trees that tell samples from held-out rows, and training rows from them.
        dependence, real_dependence: pairs of columns of samples, and of training rows, against held-out rows.
        utility: prediction by trees that learned from samples, and from training rows.
        closest, real_closest: share nearer to training rows than to as many held-out rows, of samples and of held-out rows.
    """

    detection: Estimate | None
    real_detection: Estimate | None
    dependence: Dependence | None
    real_dependence: Dependence | None
    utility: Utility | None
    closest: Estimate | None
    real_closest: Estimate | None


@dataclass(frozen=True)
class Tables:
    """Rows of a table, read and in model space.

    Attributes:
        samples, train, held_out: columns of values; of as many different training rows as samples, or all.
        drawn, known, unseen: the same in model space, `(rows, d)`; of all training rows.
    """

    samples: Table
    train: Table
    held_out: Table
    drawn: Tensor
    known: Tensor
    unseen: Tensor

    @classmethod
    def of(cls, reference: Reference, raw: Tensor, sets: Sets) -> Tables:
        """Read samples in the data's units, `(n, d)`, and real rows of a table."""
        data = reference.data
        assert data.columns is not None
        return cls(
            decode(holed(data, raw), data.columns),
            decode(data.train[subsample(len(data.train), len(raw))], data.columns, exact=True),
            decode(data.held_out[reference.held_out_rows], data.columns, exact=True),
            sets["data"],
            reference.known["data"],
            reference.held_out["data"],
        )


def refuse_target(run: Run, target: str | None) -> None:
    """Refuse a column that is not there or has one value in every row, and a target of a run on anything but a table."""
    if target is None:
        return
    columns = run.data.columns
    if columns is None:
        raise ScorefieldError(
            f"got --target {target} for a run on {run.kind}s, expected one on a table: leave it out, or choose another run"
        )
    names = {column["name"]: column for column in columns}
    if target not in names:
        raise unknown("column", target, names)
    if "constant" in names[target]:
        raise ScorefieldError(
            f"got --target {target}, which is {names[target]['constant']!r} in every row, expected a column that varies: "
            "choose another"
        )


def table_quality(tables: Tables, target: str | None, attempt: Attempts, progress: Progress) -> TableQuality:
    """Measure samples of a table beside real rows; what fails is named in `attempt.failed`.

    Args:
        tables: samples, training and held-out rows.
        target: the column that trees predict; None for each in turn.
        attempt: measures, and keeps the reasons of failures.
        progress: called with the fraction done and words.
    """
    drawn, train, held_out = tables.samples, tables.train, tables.held_out
    progress(0.0, "telling samples from real rows")
    told = attempt("detection", lambda: (detection(drawn, held_out), detection(train, held_out)))
    progress(0.3, "comparing pairs of columns")
    pairs = attempt("dependence", lambda: _pairs(tables))
    learning = portion(progress, 0.4, 0.6)
    utility = attempt("prediction", lambda: _worth(tables, target, learning))
    near = attempt("closest record", lambda: _closest(tables))
    return TableQuality(
        detection=told and told[0],
        real_detection=told and told[1],
        dependence=pairs and pairs[0],
        real_dependence=pairs and pairs[1],
        utility=utility,
        closest=near and near[0],
        real_closest=near and near[1],
    )


def _pairs(tables: Tables) -> tuple[Dependence, Dependence]:
    """Return the dependence of columns of samples, and of training rows; raises `ScorefieldError` where there is no pair."""
    found, real = (dependence(one, tables.held_out) for one in (tables.samples, tables.train))
    if found is None or real is None:
        raise ScorefieldError("fewer than two columns vary in the held-out rows")
    return found, real


def _worth(tables: Tables, target: str | None, progress: Progress) -> Utility:
    """Return what trees predict; raises `ScorefieldError` where there is nothing to predict."""
    found = tstr(tables.samples, tables.train, tables.held_out, target=target, progress=progress)
    if found is None:
        which = "no column can be predicted" if target is None else f"column {target!r} cannot be predicted"
        raise ScorefieldError(f"{which}: two values in training and in held-out rows are needed, and another column")
    return found


def _closest(tables: Tables) -> tuple[Estimate, Estimate]:
    """Return the share of samples that are nearer to training rows, and that of real rows."""
    known, unseen = tables.known, tables.unseen
    return closest_record(tables.drawn, known, unseen), closest_record_of_real(known, unseen)
