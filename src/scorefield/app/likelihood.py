"""Likelihood: how probable a run finds its data. `evaluation/likelihood.py` measures it; this keeps the report with the run."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scorefield import files
from scorefield.drawing import NotWritten, pick_device, trained
from scorefield.evaluation.likelihood import PARTS, LikelihoodReport, likelihood_table, measured
from scorefield.progress import Progress, silent
from scorefield.runs import open_run


def likelihood(
    run: str | Path,
    *,
    data: Any = None,
    n: int = 100,
    part: str = "held-out",
    divergence: str | None = None,
    probes: int = 8,
    tolerance: float | None = None,
    levels: int = 100,
    seed: int = 0,
    batch: int = 64,
    device: str = "auto",
    progress: Progress = silent,
) -> LikelihoodReport:
    """Measure the log-likelihood of held-out or training examples under a run.

    Args:
        run: the run's folder. One that cannot be written is measured all the same; the report is returned, and nothing is kept.
        data: what the run was trained on, or its place, as `train` takes it; None where it was. The words held-out and train
            are taken as `part`, as they were called before, unless there is such a path.
        n: examples; all there are if they are fewer.
        part: which of them, held-out or train.
        divergence: of the flow: exact costs a backward pass per coordinate, hutchinson one per probe; None for exact up to 16
            coordinates.
        probes: for hutchinson.
        tolerance: of the solver; None for 1e-5 up to 16 coordinates and 1e-3 above. Answers that move by more than 0.5 nats, or
            0.02 per coordinate, when it is made ten times smaller are refused.
        levels: evaluations of the bound.
        seed: of everything random.
        batch: how many at a time; changes memory, not figures.
        device: auto, cpu or cuda.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that changed or that have no density, examples without the class that the network must be told,
            numbers out of range, a tolerance that is not met.
        NotWritten: the report could not be written in the end; it is in the error.
    """
    if isinstance(data, str) and data in PARTS and not Path(data).exists():
        data, part = None, data
    opened = trained(open_run(run, data))
    how: dict[str, Any] = {"divergence": divergence, "probes": probes, "tolerance": tolerance, "levels": levels}
    keep = files.can_write(opened.path)
    report = measured(opened, n=n, part=part, **how, seed=seed, batch=batch, where=pick_device(device), progress=progress)
    if not keep:
        return report
    stem = "likelihood" if part == "held-out" else "likelihood-train"
    try:
        with files.together():
            files.write_json(
                opened.path / f"{stem}.json", {key: value for key, value in asdict(report).items() if key != "written"}
            )
            files.write(opened.path / f"{stem}.md", likelihood_table(report).encode())
    except OSError as error:
        raise NotWritten(report, error) from error
    return replace(report, written=(opened.path / f"{stem}.json", opened.path / f"{stem}.md"))
