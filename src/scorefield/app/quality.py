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
from scorefield.config import plain
from scorefield.data import open_source
from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.judge import train_judge
from scorefield.randomness import Noise, stream_of
from scorefield.runs import open_run
from scorefield.shapes import flat

FLOORS = 5  # subsets of the training part whose average is the floor


@dataclass(frozen=True)
class QualityReport:
    """How good the samples of a run are, beside what real data score.

    Attributes:
        samples, reference: how many of each.
        judge: name and hash of the features, with its accuracy on held-out data.
        accuracy: of the judge on held-out data, in [0, 1].
        figures: metric name -> estimate on samples.
        floor: the same on as many real training examples, averaged over five subsets: what perfect samples would score.
        better: metric name -> "lower" or "higher".
        classes: class -> share of the samples.
        nearest_training: median distance of a sample to its nearest training example.
        nearest_held_out: the same for held-out examples: a copying model is much closer than they are.
        written: the files.
    """

    samples: int
    reference: int
    judge: str
    accuracy: float
    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
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
    chosen, ladder = choose_sampler(opened, sampler, steps)
    tell(f"training the judge on {len(data.train)} labelled examples, then drawing {n} samples from {opened.path}")
    judge = train_judge(data.affine.encode(data.train), data.labels)
    x = draw(opened, n, chosen, ladder, seed=seed, device=where, watch=watch).clamp(-1, 1).float()
    held_out, training = data.affine.encode(data.held_out), data.affine.encode(data.train)
    real, drawn, known = judge.features(held_out), judge.features(x), judge.features(training)
    metrics = {name: cls() for name, cls in registry.every("metric").items()}
    figures = {name: metric(drawn, real) for name, metric in metrics.items()}
    tell("measuring what as many real training examples score")
    shuffles = [Noise(range(len(known)), stream=stream_of("floor", i)).uniform(()).argsort()[:n] for i in range(FLOORS)]
    best = {name: _average([metric(known[rows], real) for rows in shuffles]) for name, metric in metrics.items()}
    found = torch.bincount(judge.classify(x), minlength=len(data.classes)).double() / n
    assert data.held_out_labels is not None
    report = QualityReport(
        samples=n,
        reference=len(held_out),
        judge=judge.name,
        accuracy=float((judge.classify(held_out) == data.held_out_labels).double().mean()),
        figures=figures,
        floor=best,
        better={name: metric.better for name, metric in metrics.items()},
        classes=dict(zip(data.classes, found.tolist(), strict=True)),
        nearest_training=_nearest(x, training),
        nearest_held_out=_nearest(held_out, training),
        written=(opened.path / "quality.json", opened.path / "quality.md"),
    )
    values = {key: value for key, value in asdict(report).items() if key != "written"}
    values |= {"sampler": plain(chosen, "sampler"), "levels": len(ladder), "seed": seed}
    files.write_json(opened.path / "quality.json", values)
    files.write(opened.path / "quality.md", quality_table(report).encode())
    return report


def _average(estimates: list[Estimate]) -> Estimate:
    """Average estimates that share most of their data: the mean value, and the mean error, which does not shrink."""
    return Estimate(fmean(e.value for e in estimates), fmean(e.standard_error for e in estimates))


def _nearest(samples: Tensor, training: Tensor) -> float:
    return float(torch.cdist(flat(samples).double(), flat(training).double()).min(dim=1).values.median())


def quality_table(report: QualityReport) -> str:
    """Return the report as a Markdown table."""
    lines = [
        f"# Quality of {report.samples} samples against {report.reference} held-out real examples",
        "",
        f"Features: {report.judge}, trained on the training part only, {report.accuracy:.1%} right on the held-out part.",
        "",
        "| figure | samples | real against real | better |",
        "|---|---|---|---|",
    ]
    for name, value in report.figures.items():
        lines.append(f"| {name} | {value} | {report.floor[name]} | {report.better[name]} |")
    lines += [
        "| median distance to the nearest training example "
        f"| {report.nearest_training:.3g} | {report.nearest_held_out:.3g} | like real |",
        "",
        "| class | " + " | ".join(report.classes) + " |",
        "|---" * (len(report.classes) + 1) + "|",
        "| share | " + " | ".join(f"{share:.1%}" for share in report.classes.values()) + " |",
    ]
    return "\n".join(lines) + "\n"
