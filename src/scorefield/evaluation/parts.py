"""The parts of an evaluation beside its figures: classes, likelihood, error of the score, copies of training examples, columns.

A part that fails, for whatever reason, is named in the report, and the others are reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from scorefield.data.planes import PICTURED
from scorefield.data.table.coordinates import decode
from scorefield.diagnosis import LEVELS, Diagnosis, diagnose
from scorefield.drawing import conditions_of
from scorefield.errors import ScorefieldError
from scorefield.evaluation.attempts import Attempts
from scorefield.evaluation.likelihood import SMALL, LikelihoodSpec, bound_gap, measure_likelihood
from scorefield.evaluation.likelihood_report import LikelihoodReport
from scorefield.evaluation.reference import Reference, Sets, bytes_of, holed
from scorefield.evaluation.table_quality import TableQuality, Tables, table_quality
from scorefield.levels import geometric
from scorefield.metrics.base import Estimate
from scorefield.metrics.features import Learned
from scorefield.metrics.marginals import Comparison, compare
from scorefield.metrics.memorisation import Memorisation, memorisation
from scorefield.progress import Stages
from scorefield.randomness import subsample
from scorefield.runs import Run

LIKELIHOODS = 32  # held-out examples whose likelihood is measured; 8 times as many of up to 16 coordinates
GAPS = 128  # examples of each part whose bounds are compared
EXAMPLES = 512  # of each part, for the error of the score
COLUMNS = 30  # whose distributions are compared


@dataclass(frozen=True)
class Classes:
    """Classes as the extractor's classifier sees them; empty without labels.

    Attributes:
        accuracy: of the classifier on held-out examples, in [0, 1].
        samples: class -> share of the samples.
        held_out: class -> share of the held-out examples.
    """

    accuracy: float | None = None
    samples: dict[str, Estimate] = field(default_factory=dict)
    held_out: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What was measured beside the figures; None where it could not be measured or does not apply.

    Attributes:
        classes: shares of the classes.
        likelihood: of held-out examples.
        diagnosis: error of the score by noise level.
        memorisation: copies of training examples.
        marginals, real_marginals: columns of the samples, and of as many training examples.
        table: measures of a table's rows.
    """

    classes: Classes
    likelihood: LikelihoodReport | None
    diagnosis: Diagnosis | None
    memorisation: Memorisation | None
    marginals: Comparison | None
    real_marginals: Comparison | None
    table: TableQuality | None


def parts_of(
    run: Run,
    reference: Reference,
    raw: Tensor,
    samples: Sets,
    device: torch.device,
    target: str | None,
    attempt: Attempts,
    stages: Stages,
) -> Parts:
    """Measure every part; one that fails is named in `attempt.failed`.

    Args:
        run: an opened run.
        reference: its real examples.
        raw: samples in the data's units, `(n, *shape)`.
        samples: the same in both spaces.
        device: where the run's network computes.
        target: the column of a table that is predicted; None for each in turn.
        attempt: measures, and keeps the reasons of failures.
        stages: of the progress: likelihood, score, copies, table.
    """
    classes = attempt("classes", lambda: classes_of(reference, raw)) or Classes()
    few = LIKELIHOODS if math.prod(run.shape) > SMALL else 8 * LIKELIHOODS
    spec, progress = LikelihoodSpec(n=few, probes=2, batch=few), stages("likelihood")
    likelihood = attempt("likelihood", lambda: measure_likelihood(run, spec, device, progress))
    gap = attempt("gap of likelihood", lambda: bound_gap(run, n=GAPS, device=device)) if likelihood else None
    stages("score")(0.0, "measuring the error of the score, level by level")
    diagnosis = attempt("error of the score", lambda: diagnosis_of(run, reference, device))
    stages("copies")(0.0, "looking for copies of training examples")
    copies = attempt("copying", lambda: memorisation_of(run, reference, samples, gaps_of(diagnosis, gap)))
    if len(reference.known_rows) < len(reference.data.train):
        compared = f"{len(reference.known_rows):,} of {len(reference.data.train):,} training examples"
        attempt.failed.append(f"copies of the other training examples: samples were compared with {compared}")
    columns = attempt("columns", lambda: marginals_of(reference, raw)) or (None, None)
    rows = None
    if run.kind == "table":
        rows = attempt("rows", lambda: table_quality(Tables.of(reference, raw, samples), target, attempt, stages("table")))
    return Parts(classes, likelihood, diagnosis, copies, *columns, rows)


def classes_of(reference: Reference, raw: Tensor) -> Classes:
    """Return the shares of the classes in samples, `(n, *shape)` in the data's units, and in held-out examples."""
    data, extractor = reference.data, reference.extractor
    if not isinstance(extractor, Learned) or not extractor.classes or data.held_out_labels is None:
        return Classes()
    found, real = (extractor.classify(bytes_of(data, x)) for x in (holed(data, raw), data.held_out[reference.held_out_rows]))
    shares = [classes.bincount(minlength=len(data.classes)).double() / len(classes) for classes in (found, real)]
    errors = (shares[0] * (1 - shares[0]) / len(found)).sqrt()
    samples = {name: Estimate(float(p), float(e)) for name, p, e in zip(data.classes, shares[0], errors, strict=True)}
    accuracy = float((real == data.held_out_labels[reference.held_out_rows]).double().mean())
    return Classes(accuracy, samples, dict(zip(data.classes, shares[1].tolist(), strict=True)))


def diagnosis_of(run: Run, reference: Reference, device: torch.device) -> Diagnosis:
    """Measure the run's score level by level, on the reference's training and held-out examples."""
    data = reference.data
    if data.normaliser.holes is not None:
        raise ScorefieldError("it is not measured on examples with unknown cells; levels.json has their error by noise level")
    train, held_out = (rows["data"].reshape(-1, *run.shape).to(device) for rows in (reference.known, reference.held_out))
    parts = ((data.labels, reference.known_rows), (data.held_out_labels, reference.held_out_rows))
    seen, unseen = (conditions_of(run, data, None if labels is None else labels[rows]) for labels, rows in parts)
    labels = None if seen is None or unseen is None else (seen.to(device), unseen.to(device))
    steps = run.config.parametrisation.noise_label  # a network of numbered levels has learned nothing between them
    levels = geometric(run.config.process, steps) if isinstance(steps, int) else LEVELS
    return diagnose(run.field.to(device), train, held_out, labels=labels, levels=levels, examples=EXAMPLES)


def gaps_of(diagnosis: Diagnosis | None, nats: Estimate | None) -> dict[str, Estimate]:
    """Return by how much held-out examples are worse than training examples.

    Args:
        diagnosis: for the loss, averaged over the levels; their standard errors are averaged, too, for the levels share the
            examples.
        nats: of the evidence lower bound.
    """
    known = {} if nats is None else {"nats an example": nats}
    if diagnosis is None:
        return known
    gaps = [unseen - seen for unseen, seen in zip(diagnosis.held_out, diagnosis.training, strict=True)]
    errors = [math.hypot(*pair) for pair in zip(diagnosis.held_out_error, diagnosis.training_error, strict=True)]
    return {"loss": Estimate(fmean(gaps), fmean(errors)), **known}


def memorisation_of(run: Run, reference: Reference, samples: Sets, gaps: dict[str, Estimate]) -> Memorisation:
    """Say whether samples are copies of training examples, in model space and, for images and volumes, in features."""
    sets = (samples, reference.known, reference.held_out)
    drawn, train, held_out = (rows["data"].reshape(-1, *run.shape) for rows in sets)
    features = (sets[0]["features"], sets[1]["features"], sets[2]["features"])
    spaces = {reference.extractor.name: features} if run.kind in PICTURED else None
    return memorisation(drawn, train, held_out, features=spaces, gaps=gaps)


def marginals_of(reference: Reference, raw: Tensor) -> tuple[Comparison | None, Comparison | None]:
    """Compare the columns of vectors and tables with held-out ones: of the samples, and of as many training examples."""
    data = reference.data
    if data.kind not in ("vector", "table"):
        return None, None

    def columns(rows: Tensor, drawn: bool = False) -> dict[str, list[Any]]:
        if data.columns is not None:
            return decode(rows, data.columns, exact=not drawn)
        return {f"x{i + 1}": column.tolist() for i, column in enumerate(rows.double().mT[:COLUMNS])}

    real = columns(data.held_out[reference.held_out_rows])
    train = data.train[subsample(len(data.train), len(raw))]
    return compare(columns(holed(data, raw), drawn=True), real), compare(columns(train), real)
