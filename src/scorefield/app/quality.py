"""Evaluate: samples of a run against its held-out data, beside what real data score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from scorefield import files, registry
from scorefield.app.common import Watch, choose_sampler, draw, pick_device, unwatched
from scorefield.data import open_source
from scorefield.errors import ScorefieldError
from scorefield.levels import thin
from scorefield.metrics.base import Estimate
from scorefield.metrics.judge import train_judge
from scorefield.randomness import Noise, stream_of
from scorefield.runs import open_run
from scorefield.shapes import flat

LEAST = 20  # samples, and held-out examples
MOST = 5000  # held-out examples: the balls of precision and recall need all pairs of distances
FLOORS = 5  # subsets of the training part whose average is the floor


@dataclass(frozen=True)
class QualityReport:
    """How good the samples of a run are, beside what real data score.

    Attributes:
        samples, reference, floor_samples: how many samples, held-out examples, and training examples in the floor.
        sampler, levels, seed: how the samples were drawn.
        judge: name and hash of the features, with its accuracy on held-out data.
        accuracy: of the judge on held-out data, in [0, 1].
        figures: metric name -> estimate on samples.
        floor: the same on as many different real training examples, averaged over five subsets. Where they are most of the
            training set, they vary less than any sampler's output can.
        independent: the same on as many independent draws, with repetition, of real training examples: the Frechet distance
            of a perfect sampler. (Repetition costs precision's and recall's balls a little: for them `floor` is nearer.)
        better: metric name -> "lower" or "higher".
        classes: class -> share of the samples.
        nearest_training: median distance of a sample to its nearest training example.
        nearest_held_out: the same for held-out examples: a copying model is much closer than they are.
        written: the files.
    """

    samples: int
    reference: int
    floor_samples: int
    sampler: str
    levels: int
    seed: int
    judge: str
    accuracy: float
    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
    independent: dict[str, Estimate]
    better: dict[str, str]
    classes: dict[str, float]
    nearest_training: float
    nearest_held_out: float
    written: tuple[Path, ...]


def evaluate(
    run: str | Path,
    *,
    n: int = 1000,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch = unwatched,
    tell: Callable[[str], None] = lambda text: None,
) -> QualityReport:
    """Measure samples of a run against its held-out data with a judge trained on its labelled training data.

    Args:
        run: the run's folder; its data source must still be there, unchanged, and have class labels.
        n: samples to draw.
        sampler, steps, seed, device, watch: as in `sample`.
        tell: called with what is being done, in words.

    Raises:
        ScorefieldError: data that changed or have no labels; too few samples.
    """
    opened, where = open_run(run), pick_device(device)
    data = open_source(opened.config.source, opened.config.data)
    if data.fingerprint != opened.manifest["data"]["fingerprint"]:
        raise ScorefieldError(
            f"got data from {opened.config.source!r} that differ from the run's, expected the same: restore them"
        )
    if data.kind != "image" or data.labels is None:
        raise ScorefieldError(
            f"got a run on {data.name!r}, which has no labelled images, expected them for the judge: "
            "evaluate digits, or images in class folders"
        )
    if len(data.classes) < 2:
        raise ScorefieldError(f"got {len(data.classes)} class in {data.name!r}, expected 2 or more: add class folders")
    if min(n, len(data.held_out)) < LEAST:
        raise ScorefieldError(
            f"got {n} samples and {len(data.held_out)} held-out examples, expected at least {LEAST} of each: raise -n, or "
            "train with a larger data.held_out"
        )
    chosen, ladder = choose_sampler(opened, sampler, steps)
    tell(f"training the judge on {len(data.train)} labelled examples, then drawing {n} samples from {opened.path}")
    judge = train_judge(data.affine.encode(data.train[:]), data.labels)
    x = draw(opened, n, chosen, ladder, seed=seed, device=where, watch=watch).clamp(-1, 1).float()
    rows = thin(len(data.held_out), MOST)
    held_out, training = (
        data.affine.encode(data.held_out[rows]),
        data.affine.encode(data.train[thin(len(data.train), 10 * MOST)]),
    )
    real, drawn, known = judge.features(held_out), judge.features(x), judge.features(training)
    metrics = {name: cls() for name, cls in registry.every("metric").items()}
    figures = {name: metric(drawn, real) for name, metric in metrics.items()}
    tell("measuring what as many real training examples score")
    subsets = [Noise(range(len(known)), stream=stream_of("floor", i)).uniform(()).argsort()[:n] for i in range(FLOORS)]
    drawings = [Noise(range(n), stream=stream_of("draws", i)).choose(torch.ones(len(known))) for i in range(FLOORS)]
    floor, independent = (
        {name: _average([metric(known[some], real) for some in sets]) for name, metric in metrics.items()}
        for sets in (subsets, drawings)
    )
    found = torch.bincount(judge.classify(x), minlength=len(data.classes)).double() / n
    assert data.held_out_labels is not None
    stem = "quality" if sampler is None and steps is None else f"quality-{registry.name_of('sampler', chosen)}-{len(ladder)}"
    report = QualityReport(
        samples=n,
        reference=len(held_out),
        floor_samples=min(n, len(known)),
        sampler=str(chosen),
        levels=len(ladder),
        seed=seed,
        judge=judge.name,
        accuracy=float((judge.classify(held_out) == data.held_out_labels[rows]).double().mean()),
        figures=figures,
        floor=floor,
        independent=independent,
        better={name: metric.better for name, metric in metrics.items()},
        classes=dict(zip(data.classes, found.tolist(), strict=True)),
        nearest_training=_nearest(x, training),
        nearest_held_out=_nearest(held_out, training),
        written=(opened.path / f"{stem}.json", opened.path / f"{stem}.md"),
    )
    values = {key: value for key, value in asdict(report).items() if key != "written"}
    files.write_json(report.written[0], values)
    files.write(report.written[1], quality_table(report).encode())
    return report


def _average(estimates: list[Estimate]) -> Estimate:
    """Average estimates that share most of their data: the mean value, and the mean error, which does not shrink."""
    return Estimate(fmean(e.value for e in estimates), fmean(e.standard_error for e in estimates))


def _nearest(samples: Tensor, training: Tensor) -> float:
    known = flat(training).double()
    nearest = [torch.cdist(some, known).min(dim=1).values for some in torch.split(flat(samples).double(), 512)]
    return float(torch.cat(nearest).median())


def quality_table(report: QualityReport) -> str:
    """Return the report as a Markdown table."""
    lines = [
        f"# Quality of {report.samples} samples against {report.reference} held-out real examples",
        "",
        f"Drawn by {report.sampler} on {report.levels} levels, seed {report.seed}. Features: {report.judge}, trained on the",
        f"training part only, {report.accuracy:.1%} right on the held-out part. The floor is of examples that it has seen.",
        "",
        f"| figure | samples | {report.floor_samples} different real | {report.samples} real, drawn independently | better |",
        "|---|---|---|---|---|",
    ]
    for name, value in report.figures.items():
        lines.append(f"| {name} | {value} | {report.floor[name]} | {report.independent[name]} | {report.better[name]} |")
    lines += [
        "| median distance to the nearest training example "
        f"| {report.nearest_training:.3g} | {report.nearest_held_out:.3g} (held out) | | like held out |",
        "",
        "| class | " + " | ".join(report.classes) + " |",
        "|---" * (len(report.classes) + 1) + "|",
        "| share | " + " | ".join(f"{share:.1%}" for share in report.classes.values()) + " |",
    ]
    return "\n".join(lines) + "\n"
