"""The report of an evaluation: as values, and as a Markdown table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

from scorefield import fragments, renamed
from scorefield.diagnosis import Diagnosis
from scorefield.evaluation.baseline import BaselineResult
from scorefield.evaluation.likelihood_report import LikelihoodReport
from scorefield.evaluation.table_quality import TableQuality
from scorefield.evaluation.table_report import predicted, together
from scorefield.metrics.base import Estimate
from scorefield.metrics.marginals import Comparison
from scorefield.metrics.memorisation import Memorisation


@renamed.report
@dataclass(frozen=True)
class QualityReport:
    """How good the samples of a run are, beside what real data score.

    Attributes:
        run, samples, reference: name of its folder; number of samples, and of held-out examples to compare with.
        floor_samples: number of different training examples in place of samples: as many as samples, or all there are.
        sampler, levels, evaluations, seed, seconds: how the samples were drawn, and how long that took.
        extractor: name, hash and number of the features, whether they were learned from this run's data, and with how many of
            its training examples samples and floors were compared.
        accuracy: of the extractor's classifier on held-out data, in [0, 1]; None without labels.
        figures: metric name -> estimate on samples. Here and below, what could not be measured is absent.
        floor: the same on as many different real training examples, averaged over several subsets. Where these are most of the
            training set, they vary less than any sampler's output can.
        independent: the same on as many independent draws, with repetition, of real training examples: the Frechet distance
            of a perfect sampler. (Repetition lowers precision and recall a little: for them `floor` is nearer.)
        better, labels: metric name -> "lower" or "higher", and the name in tables.
        classes, real_classes: class -> share of the samples, with its standard error, and of the held-out examples; both as the
            classifier sees them. Empty without labels.
        memorisation: whether samples are copies of training examples; None where that could not be measured.
        likelihood: of held-out examples; None where it does not apply.
        diagnosis: at which noise levels the score is wrong.
        marginals, real_marginals: columns and correlations of vectors and tables: of the samples, and of as many different
            training examples.
        table: of a table's rows: detection, dependence of columns, prediction, closest record; None for other data.
        baseline: what the samples were compared with, if anything.
        verdict: what all figures say, in sentences.
        left_out: what was not measured, and why.
        made_from: weights, step, data and version of the figures, and a hash of the sampler and its levels.
        written: the files.
        processes: that drew the samples together; the first one measured them.
        picture: of the samples, a PNG; empty where none could be made.
    """

    run: str
    samples: int
    reference: int
    floor_samples: int
    sampler: str
    levels: int
    evaluations: int
    seed: int
    seconds: float
    extractor: dict[str, Any]
    accuracy: float | None
    figures: dict[str, Estimate]
    floor: dict[str, Estimate]
    independent: dict[str, Estimate]
    better: dict[str, str]
    labels: dict[str, str]
    classes: dict[str, Estimate]
    real_classes: dict[str, float]
    memorisation: Memorisation | None
    likelihood: LikelihoodReport | None
    diagnosis: Diagnosis | None
    marginals: Comparison | None
    real_marginals: Comparison | None
    table: TableQuality | None
    baseline: BaselineResult | None
    verdict: tuple[str, ...]
    left_out: tuple[str, ...]
    made_from: dict[str, Any]
    written: tuple[Path, ...]
    processes: int = 1
    picture: bytes = default(default=b"", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, without the places of its files and the picture."""
        return {name: value for name, value in asdict(self).items() if name not in ("written", "picture")}

    def _repr_html_(self) -> str:
        """Return verdict, samples and figures as a notebook shows them; the page among `written` has everything."""
        title = f"{self.run}: {self.samples:,} samples against {self.reference:,} held-out examples"
        shown = fragments.image(self.picture, "png", f"samples of {self.run}") if self.picture else ""
        pages = [f"everything: {path}" for path in self.written if path.suffix == ".html"]
        return "".join(
            [fragments.heading(title), fragments.sentences([*self.verdict, *pages]), shown, fragments.table(beside(self))]
        )


def copying(report: QualityReport) -> list[list[str]]:
    """Return the search for copies as rows of a table, its header first; empty where it was not made."""
    if report.memorisation is None:
        return []
    rows = [["space", "drawn to training", "copies", "nearest training example", "of held-out ones", "duplicates"]]
    for name, one in report.memorisation.spaces.items():
        near, usual = f"{one.to_training:.3g}", f"{one.held_out_to_training:.3g}"
        rows.append([name, _percent(one.drawn), _percent(one.copied), near, usual, _percent(one.duplicates)])
    disguised = report.memorisation.disguised
    seen = {name: share for name, share in disguised.items() if share.value > 0}
    if disguised and not seen:
        seen = {"mirrored or moved by a pixel": max(disguised.values(), key=lambda share: share.standard_error)}
    return rows + [[f"pixels, {name}", "", _percent(share), "", "", ""] for name, share in seen.items()]


def columns(report: QualityReport) -> list[list[str]]:
    """Return the distances of columns and correlations from the real ones as rows of a table; empty for images."""
    found, real = report.marginals, report.real_marginals
    if found is None or real is None:
        return []
    rows = [["column", "measure", "samples", "real"]]
    for name, one in found.columns.items():
        measure = "Kolmogorov-Smirnov" if one.kind == "number" else "total variation"
        rows.append([name, measure, str(one.distance), f"{real.columns[name].distance.value:.3g}"])
        if one.kind == "number" and max(one.missing.value, real.columns[name].missing.value) > 0:
            rows.append([name, "share missing, difference", str(one.missing), f"{real.columns[name].missing.value:.3g}"])
    if found.largest is not None and found.mean is not None and real.largest is not None and real.mean is not None:
        pair = " and ".join(found.pair or ())
        rows.append(["all pairs", "correlation, mean difference", str(found.mean), f"{real.mean.value:.3g}"])
        rows.append([pair, "correlation, largest difference", str(found.largest), f"{real.largest.value:.3g}"])
    return rows


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} ± {100 * share.standard_error:.1f} %"


def beside(report: QualityReport) -> list[list[str]]:
    """Return the figures beside those of real data as rows of a table; "-" where a figure was not measured."""
    baseline = report.baseline
    head = ["figure", "samples", f"{report.floor_samples:,} different real", f"{report.samples:,} real, drawn independently"]
    rows = [[*head, *([baseline.name, "better by"] if baseline else []), "better"]]
    for name, value in report.figures.items():
        cells = [report.labels[name], str(value), *(str(found.get(name, "-")) for found in (report.floor, report.independent))]
        if baseline:
            gain = f"{baseline.better_by[name]:+.1f} s.e." if name in baseline.better_by else "-"
            cells += [str(baseline.figures.get(name, "-")), gain]
        rows.append([*cells, report.better[name]])
    return rows


def by_processes(report: QualityReport) -> str:
    """Say how many processes drew the samples, if several did."""
    return f" by {report.processes} processes" if report.processes > 1 else ""


def source(report: QualityReport) -> str:
    """Say of which weights and data the figures are."""
    made = report.made_from
    weights = f"step {made['step']}, sha256 {str(made['model_sha256'])[:12]}"
    return f"Of the weights of {weights}, on the data of fingerprint {made['data'][:12]}, by scorefield {made['scorefield']}."


def _markdown(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|", *(f"| {' | '.join(row)} |" for row in rows[1:])]


def quality_table(report: QualityReport) -> str:
    """Return the report as Markdown."""
    extractor = report.extractor
    accuracy = "" if report.accuracy is None else f", {report.accuracy:.1%} right on the held-out part"
    lines = [
        f"# Quality of {report.samples:,} samples against {report.reference:,} held-out real examples",
        "",
        *(f"- {sentence}" for sentence in report.verdict),
        "",
        f"Drawn by {report.sampler} on {report.levels} levels ({report.evaluations} evaluations), seed {report.seed}, in "
        f"{report.seconds:.1f} s{by_processes(report)}. Features: {extractor['name']}, {extractor['features']} numbers, "
        f"hash {extractor['hash']}{accuracy}. After ± stands one standard error over draws of the samples.",
        "",
        *_markdown(beside(report)),
    ]
    if report.classes:
        lines += [
            "",
            "| class | " + " | ".join(report.classes) + " |",
            "|---" * (len(report.classes) + 1) + "|",
            "| samples | " + " | ".join(f"{share.value:.1%}" for share in report.classes.values()) + " |",
            "| held out | " + " | ".join(f"{share:.1%}" for share in report.real_classes.values()) + " |",
        ]
    for rows in (together(report.table), predicted(report.table), copying(report), columns(report)):
        if rows:
            lines += ["", *_markdown(rows)]
    if report.memorisation and (gaps := report.memorisation.gaps):
        lines += ["", "Held-out examples are worse off by: " + ", ".join(f"{name} {gap}" for name, gap in gaps.items()) + "."]
    if report.likelihood:
        found = report.likelihood
        lines += ["", f"Likelihood of {found.examples} held-out examples, {found.unit}: {found.flow} by the probability flow, "]
        lines[-1] += f"{found.elbo} by the evidence lower bound ({found.meaning})."
    lines += ["", *(f"Not measured: {sentence}" for sentence in report.left_out)] if report.left_out else []
    lines += ["", source(report)]
    return "\n".join(lines) + "\n"
