"""Likelihood: how probable a run finds its data. `evaluation/likelihood.py` measures; this verb writes the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.devices import pick_device
from scorefield.drawing import NotWritten, trained
from scorefield.evaluation.likelihood import PARTS, LikelihoodSpec, measure_likelihood
from scorefield.evaluation.likelihood_report import LikelihoodReport, likelihood_table
from scorefield.progress import Progress, silent
from scorefield.runs import open_run

DEFAULT = LikelihoodSpec()


def likelihood(
    run: str | Path,
    spec: LikelihoodSpec = DEFAULT,
    *,
    data: Any = None,
    device: str = "auto",
    progress: Progress = silent,
) -> LikelihoodReport:
    """Measure the log-likelihood of held-out or training examples under a run.

    Args:
        run: the run's folder. A run that cannot be written is measured all the same; the report is returned and not stored.
        spec: which examples, and how; its fields may be given as keywords: `likelihood(run, n=50, part="train")`.
        data: what the run was trained on, or its place, as `train` takes it; None for the place where it was. The words
            held-out and train mean `part`, as they did before, unless there is such a path.
        device: auto, cpu or cuda.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that changed or that have no density, examples without the class that the network needs, numbers
            out of range, a tolerance that is not met.
        NotWritten: the report could not be written in the end; the error carries it.
    """
    if isinstance(data, str) and data in PARTS and not Path(data).exists():
        data, spec = None, replace(spec, part=data)
    opened = trained(open_run(run, data))
    can_write = files.can_write(opened.path)
    report = measure_likelihood(opened, spec, pick_device(device), progress)
    if not can_write:
        return report
    stem = "likelihood" if spec.part == "held-out" else "likelihood-train"
    values, table = opened.path / f"{stem}.json", opened.path / f"{stem}.md"
    try:
        with files.together():
            files.write_json(values, report.to_dict())
            files.write(table, likelihood_table(report).encode())
    except OSError as error:
        raise NotWritten(report, error) from error
    return replace(report, written=(values, table))
