"""Verdict: what the figures of an evaluation say, in sentences. Nothing is said of what was not measured."""

from __future__ import annotations

import math

from scorefield.evaluation.report import QualityReport, by_processes
from scorefield.evaluation.table_report import sentence

CLEAR = 2.0  # standard errors by which the samples must be worse than real data
FEW = 4  # evaluations, as of a distilled run, than which no sampler needs fewer


def verdict(report: QualityReport) -> tuple[str, ...]:
    """Return sentences on quality, variety, rows of a table, copying, the score and speed, in this order."""
    said = sentence(report.table)
    rows = [] if said is None else [f"Rows: {said}."]
    copying = [] if report.memorisation is None else [f"Copying: {report.memorisation.sentence}."]
    score = [] if report.diagnosis is None else [f"Score: {report.diagnosis.sentence}."]
    return *_quality(report), *_variety(report), *rows, *copying, *score, _speed(report)


def _quality(report: QualityReport) -> list[str]:
    """Compare the Frechet distance of the samples with that of real data drawn independently."""
    if not {"frechet"} <= report.figures.keys() & report.independent.keys():
        return []
    name, ours, real = report.labels["frechet"], report.figures["frechet"], report.independent["frechet"]
    error = math.hypot(ours.standard_error, real.standard_error)
    beside = f"{name} is {ours}, where real data drawn independently score {real.value:.3g}"
    if ours.value <= real.value + CLEAR * error:
        sets = f"{report.samples:,} samples and {report.reference:,} held-out examples"
        return [f"Quality: {beside}: no difference that {sets} could show."]
    return [f"Quality: {beside}: {ours.value / real.value:.3g} times as much." if real.value > 0 else f"Quality: {beside}."]


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


def _speed(report: QualityReport) -> str:
    """Say how long sampling takes."""
    speed = f"Speed: {1000 * report.seconds / report.samples:.3g} s per 1,000 samples{by_processes(report)}"
    if report.evaluations == 1:
        return f"{speed}, one evaluation of the network each."
    advice = "; scorefield tune finds the cheapest sampler that is as good" if report.evaluations > FEW else ""
    return f"{speed}, {report.evaluations} evaluations of the network each{advice}."
