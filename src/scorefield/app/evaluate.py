"""Evaluate: how good, how varied and how fast a run's samples are, whether they are copies, and where its score is wrong.

Everything is measured against held-out examples and stands beside what real examples score in place of the samples
(`reference.py`); a figure alone says nothing. A part that fails, for whatever reason, is named among what was left out, and the
others are reported.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor, nn

from scorefield import files, pictures, registry
from scorefield.data.coordinates import decode
from scorefield.diagnosis import LEVELS, Diagnosis, diagnose
from scorefield.drawing import (
    Batch,
    Drawing,
    NotWritten,
    SampleSpec,
    conditions_of,
    pick_device,
    picture_of,
    sampling_id,
    trained,
)
from scorefield.errors import ScorefieldError
from scorefield.evaluation.baseline import Baseline, baseline_of
from scorefield.evaluation.likelihood import SMALL, bound_gap, measured
from scorefield.evaluation.reference import Reference, Sets, least, reason, reference_of, to_bytes
from scorefield.evaluation.report import BaselineResult, QualityReport, page, quality_table, to_dict
from scorefield.levels import geometric, thin
from scorefield.metrics.base import Estimate
from scorefield.metrics.features import Learned
from scorefield.metrics.marginals import Comparison, compare
from scorefield.metrics.memorisation import MODEL_SPACE, Memorisation, Pair, memorisation
from scorefield.progress import Progress, Stages, Viewer, portion, silent
from scorefield.runs import Run, open_run

T = TypeVar("T")
LIKELIHOODS = 32  # held-out examples whose likelihood is measured
GAPS = 128  # examples of either part whose bounds are compared
EXAMPLES = 512  # of either part, for the error of the score
COLUMNS = 30  # whose distributions are compared


def evaluate(
    run: str | Path,
    *,
    data: Any = None,
    n: int = 1000,
    features: str | Path | nn.Module | None = None,
    against: str | Path | None = None,
    html: str | Path | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch: int = 256,
    device: str = "auto",
    force: bool = False,
    progress: Progress = silent,
) -> QualityReport:
    """Measure samples of a run against its held-out data, beside what real data score, and write what was found.

    Args:
        run: the run's folder. One that cannot be written is measured all the same; the report is returned, and nothing is kept.
        data: what the run was trained on, or its place, as `train` takes it; None where it was.
        n: samples to draw.
        features: a registered extractor (data, lite0, identity), a file with weights, or a module; None for `data` of images,
            learned from the run's own training images once and kept in the run, and for `identity` of everything else.
        against: another run, or a folder or file of samples, to compare with.
        html: where the page goes; None for the run's own folder.
        sampler, steps, seed, batch, device: as in `sample`.
        force: overwrite `html`.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that are gone or have changed, too few samples or held-out examples, an extractor or contender
            that does not suit, a file in the way; nothing has been drawn then.
        NotWritten: the report could not be written in the end; it is in the error.
    """
    opened, where = trained(open_run(run, data)), pick_device(device)
    if n < (needed := least()):
        raise ScorefieldError(f"got {n} samples, expected at least {needed}, which the metrics need: raise -n")
    drawing = Drawing.of(opened, SampleSpec(sampler, steps, seed=seed), where)
    chosen, ladder = drawing.sampler, drawing.ladder
    stem = "quality" if sampler is None and steps is None else f"quality-{registry.name_of('sampler', chosen)}-{len(ladder)}"
    written = _written(opened, stem, html, force)
    other = None if against is None else baseline_of(against, opened, seed=seed, device=where)
    size = n / 1000
    stages = Stages(
        progress,
        **{"real": 12.0, "draw": 20.0 * size, "look": size, "measure": 2.0 * size, "floor": 8.0},
        **{"rival": 0.0 if other is None else 23.0 * size, "likelihood": 8.0, "score": 6.0, "copies": 3.0},
    )
    reference = reference_of(opened, features, progress=stages("real"))
    raw, evaluations, seconds = _drawn(stages("draw"), lambda view: drawing.draw(n, batch=batch, view=view))
    raw = reference.on_grid(opened.decode(raw))
    drawn = reference.sets(raw, stages("look"))
    figures = reference.figures(drawn, progress=stages("measure"))
    floor, independent = reference.floors(n, stages("floor"))
    better: dict[str, str] = {name: metric.better for name, metric in reference.metrics.items()}
    left_out = list[str]()

    def tried(what: str, of: Callable[[], T]) -> T | None:
        """Return what a measurement gives, or say why it could not be made."""
        try:
            return of()
        except Exception as error:  # a fault in one part must not lose the others, and is named
            left_out.append(f"{what}: {reason(error)}")
            return None

    baseline = None
    if other is not None:
        against_it = f"comparison with {other.name}"
        baseline = tried(against_it, lambda: _rival(other, reference, n, figures, better, stages("rival")))
    left_out += [f"{reference.label(name)}: {why}" for name, why in reference.failed.items()]
    accuracy, classes, real_classes = tried("classes", lambda: _classes(reference, raw)) or (None, {}, {})
    few = LIKELIHOODS if math.prod(opened.shape) > SMALL else 8 * LIKELIHOODS
    likelihood = tried(
        "likelihood",
        lambda: measured(opened, n=few, probes=2, batch=few, where=where, progress=stages("likelihood")),
    )
    gap = tried("gap of likelihood", lambda: bound_gap(opened, n=GAPS, where=where)) if likelihood else None
    stages("score")(0.0, "looking at the score, level by level")
    diagnosis = tried("error of the score", lambda: _diagnosis(opened, reference, where))
    stages("copies")(0.0, "looking for copies of training examples")
    found = tried("copying", lambda: _memorisation(opened, reference, drawn, _gaps(diagnosis, gap)))
    if len(reference.known_rows) < len(reference.data.train):
        looked_at = f"{len(reference.known_rows):,} of {len(reference.data.train):,} training examples"
        left_out.append(f"copies of the other training examples: {looked_at} were looked at")
    marginals, real_marginals = tried("columns", lambda: _marginals(reference, raw)) or (None, None)
    report = QualityReport(
        run=opened.path.name,
        samples=n,
        reference=len(reference.held_out_rows),
        floor_samples=min(n, len(reference.known_rows)),
        sampler=str(chosen),
        levels=len(ladder),
        evaluations=evaluations,
        seed=seed,
        seconds=seconds,
        extractor={
            "name": reference.extractor.name,
            "hash": reference.extractor.version_hash,
            "features": drawn["features"].shape[1],
            "learned": isinstance(reference.extractor, Learned),
            "training_examples": len(reference.known_rows),
        },
        accuracy=accuracy,
        figures=figures,
        floor=floor,
        independent=independent,
        better=better,
        labels={name: reference.label(name) for name in figures},
        classes=classes,
        real_classes=real_classes,
        memorisation=found,
        likelihood=likelihood,
        diagnosis=diagnosis,
        marginals=marginals,
        real_marginals=real_marginals,
        baseline=baseline,
        verdict=(),
        left_out=tuple(left_out),
        made_from={**opened.made_from, "sampling": sampling_id(chosen, ladder)},
        written=written,
    )
    report = replace(report, verdict=verdict(report))
    try:
        with files.together():
            for path in written:
                if path.suffix == ".json":
                    files.write_json(path, to_dict(report))
                elif path.suffix == ".md":
                    files.write(path, quality_table(report).encode())
                else:
                    shown = _pictures(opened, reference, raw, found, diagnosis)
                    files.write(path, page(report, shown, pixels=opened.kind == "image").encode())
    except OSError as error:
        raise NotWritten(replace(report, written=()), error) from error
    return report


def _written(run: Run, stem: str, html: str | Path | None, force: bool) -> tuple[Path, ...]:
    """Return where figures, table and page go, the page last; only what can be written, or a refusal of what was asked for."""
    own = files.can_write(run.path)
    kept = tuple(run.path / f"{stem}{ending}" for ending in (".json", ".md", ".html") if own)
    if html is None:
        return kept
    target = Path(html).expanduser()
    files.refuse_existing(target, force, option="--html")
    if not target.resolve().parent.is_dir():
        raise ScorefieldError(f"got --html {target} in a folder that does not exist, expected one that does: make it first")
    if target.is_dir() or not files.can_write(target.resolve().parent):
        raise ScorefieldError(f"got --html {target}, where no file can be written, expected one that can: choose another")
    return (*kept[:2], target)


def _drawn(progress: Progress, how: Callable[[Viewer], Tensor]) -> tuple[Tensor, int, float]:
    """Return samples, the evaluations of the network for each, and the seconds for all."""
    evaluations, start = 0, time.perf_counter()

    def look(fraction: float, text: str, batch: Batch) -> None:
        nonlocal evaluations
        evaluations = batch.snapshot.evaluations
        progress(fraction, f"drawing, {text}")

    x = how(look)
    return x, evaluations, time.perf_counter() - start


def _diagnosis(run: Run, reference: Reference, where: torch.device) -> Diagnosis:
    """Look at the run's score level by level, on all of the training examples that are known."""
    data = reference.data
    known, held_out = (some["data"].reshape(-1, *run.shape).to(where) for some in (reference.known, reference.held_out))
    both = ((data.labels, reference.known_rows), (data.held_out_labels, reference.held_out_rows))
    seen, unseen = (conditions_of(run, data, None if labels is None else labels[rows]) for labels, rows in both)
    told = None if seen is None or unseen is None else (seen.to(where), unseen.to(where))
    steps = run.config.parametrisation.noise_label  # a network that is told the number of a level knows no levels between them
    levels = geometric(run.config.process, steps) if isinstance(steps, int) else LEVELS
    return diagnose(run.field.to(where), known, held_out, labels=told, levels=levels, examples=EXAMPLES)


def _memorisation(run: Run, reference: Reference, drawn: Sets, gaps: dict[str, Estimate]) -> Memorisation:
    """Say whether samples are copies of training examples, in model space and, of images, in features."""
    sets = (drawn, reference.known, reference.held_out)
    samples, known, held_out = (some["data"].reshape(-1, *run.shape) for some in sets)
    seen = (sets[0]["features"], sets[1]["features"], sets[2]["features"])
    features = {reference.extractor.name: seen} if run.kind == "image" else None
    return memorisation(samples, known, held_out, features=features, gaps=gaps)


def _gaps(found: Diagnosis | None, nats: Estimate | None) -> dict[str, Estimate]:
    """Return by how much held-out examples are worse off: in loss, averaged over the levels, which share them, and in nats."""
    known = {} if nats is None else {"nats an example": nats}
    if found is None:
        return known
    gaps = [unseen - seen for unseen, seen in zip(found.held_out, found.training, strict=True)]
    errors = [math.hypot(*pair) for pair in zip(found.held_out_error, found.training_error, strict=True)]
    return {"loss": Estimate(fmean(gaps), fmean(errors)), **known}


def _rival(
    other: Baseline, reference: Reference, n: int, own: dict[str, Estimate], better: Mapping[str, str], progress: Progress
) -> BaselineResult:
    """Measure a contender's samples as the run's own were."""
    raw, evaluations, seconds = _drawn(portion(progress, 0.0, 0.9), lambda view: other.draw(n, view))
    figures = reference.figures(reference.sets(reference.on_grid(raw)))
    apart = {}
    for name in own.keys() & figures.keys():
        mine = own[name]
        error = math.hypot(mine.standard_error, figures[name].standard_error)
        ahead = figures[name].value - mine.value if better[name] == "lower" else mine.value - figures[name].value
        apart[name] = ahead / error if error > 0 else 0.0
    return BaselineResult(other.name, other.how, len(raw), figures, apart, seconds if evaluations else None)


def _classes(reference: Reference, raw: Tensor) -> tuple[float | None, dict[str, Estimate], dict[str, float]]:
    """Return the accuracy of the extractor's classifier, and the shares of the classes that it sees in samples and data."""
    data, extractor = reference.data, reference.extractor
    if not isinstance(extractor, Learned) or not extractor.classes or data.held_out_labels is None:
        return None, {}, {}
    found, real = (
        extractor.classify(to_bytes(data.normaliser.visible(x))) for x in (raw, data.held_out[reference.held_out_rows])
    )
    shares = [classes.bincount(minlength=len(data.classes)).double() / len(classes) for classes in (found, real)]
    errors = (shares[0] * (1 - shares[0]) / len(found)).sqrt()
    own = {name: Estimate(float(p), float(e)) for name, p, e in zip(data.classes, shares[0], errors, strict=True)}
    right = float((real == data.held_out_labels[reference.held_out_rows]).double().mean())
    return right, own, dict(zip(data.classes, shares[1].tolist(), strict=True))


def _pictures(
    run: Run, reference: Reference, raw: Tensor, found: Memorisation | None, diagnosis: Diagnosis | None
) -> dict[str, Image]:
    """Return what the page shows; a picture that cannot be made, as without matplotlib, is not shown."""
    shown = dict[str, Image]()
    data, count = reference.data, 100 if run.kind == "image" else 2000

    def picture(name: str, of: Callable[[], Image]) -> None:
        with contextlib.suppress(Exception):  # a page without a picture is worth more than none
            shown[name] = of()

    def pairs(closest: Sequence[Pair]) -> Image:
        copied = data.train[reference.known_rows[[pair.training for pair in closest]]]
        both = torch.cat([raw[[pair.sample for pair in closest]].double(), copied.double()])
        return pictures.grid(data.normaliser.visible(both), columns=len(closest))

    def seen(examples: Tensor) -> Image:
        return picture_of(run.kind, examples.double(), data.normaliser, data.columns)

    picture("samples", lambda: seen(raw[:count]))
    picture("real", lambda: seen(data.held_out[thin(len(data.held_out), count)]))
    if run.kind == "image" and found is not None:
        picture("pairs", lambda: pairs(found.spaces[MODEL_SPACE].closest))
    if diagnosis is not None:
        picture("levels", lambda: _levels(diagnosis))
    return shown


def _levels(found: Diagnosis) -> Image:
    """Return the plot of a diagnosis."""
    losses = {"training examples": found.training, "held-out examples": found.held_out}
    if found.optimum is not None:
        losses["memorising optimum, on training examples"] = found.optimum
    measures = {
        "calibration - 1": ([value - 1 for value in found.calibration], found.calibration_error),
        "curl": (found.curl, found.curl_error),
    }
    return pictures.diagnosis(found.noise, losses, measures, "error of the score by noise level")


def _marginals(reference: Reference, raw: Tensor) -> tuple[Comparison | None, Comparison | None]:
    """Compare the columns of vectors and tables: of the samples, and of as many training examples."""
    data = reference.data
    if data.kind not in ("vector", "table"):
        return None, None

    def columns(rows: Tensor, drawn: bool = False) -> dict[str, list[Any]]:
        if data.columns is not None:
            return decode(rows, data.columns, exact=not drawn)
        return {f"x{i + 1}": column.tolist() for i, column in enumerate(rows.double().mT[:COLUMNS])}

    real = columns(data.held_out[reference.held_out_rows])
    known = data.train[thin(len(data.train), len(raw))]
    return compare(columns(raw, drawn=True), real), compare(columns(known), real)


def verdict(report: QualityReport) -> tuple[str, ...]:
    """Return what the figures say, in sentences; nothing of what was not measured."""
    speed = (
        f"Speed: {1000 * report.seconds / report.samples:.3g} s per 1,000 samples, {report.evaluations} evaluations of the "
        "network each; scorefield tune finds the cheapest sampler that is as good."
    )
    copying = [] if report.memorisation is None else [f"Copying: {report.memorisation.sentence}."]
    score = [] if report.diagnosis is None else [f"Score: {report.diagnosis.sentence}."]
    return *_quality(report), *_variety(report), *copying, *score, speed


def _quality(report: QualityReport) -> list[str]:
    """Say how the Frechet distance of the samples stands to that of real data."""
    if not {"frechet"} <= report.figures.keys() & report.independent.keys():
        return []
    name, good, floor = report.labels["frechet"], report.figures["frechet"], report.independent["frechet"]
    error = math.hypot(good.standard_error, floor.standard_error)
    beside = f"{name} is {good}, where real data drawn independently score {floor.value:.3g}"
    if good.value <= floor.value + 2 * error:
        sets = f"{report.samples:,} samples and {report.reference:,} held-out examples"
        return [f"Quality: {beside}: no difference that {sets} could show."]
    return [f"Quality: {beside}: {good.value / floor.value:.3g} times as much." if floor.value > 0 else f"Quality: {beside}."]


def _variety(report: QualityReport) -> list[str]:
    """Say how much of each set lies in the other."""
    figures, real = report.figures, report.floor
    if not {"recall", "precision"} <= figures.keys() & real.keys():
        return []
    return [
        f"Variety: {figures['recall'].value:.1%} of the real examples lie among the samples (real data: "
        f"{real['recall'].value:.1%}), {figures['precision'].value:.1%} of the samples among the real examples (real data: "
        f"{real['precision'].value:.1%})."
    ]
