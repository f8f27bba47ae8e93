"""Verify: every registered method against closed-form truth, on this machine; or whether the field of a run is sound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.errors import ScorefieldError
from scorefield.evaluation.soundness import soundness_of
from scorefield.progress import Progress, silent
from scorefield.runs import open_run
from scorefield.training.reports import json_values
from scorefield.verification import checks, restoration
from scorefield.verification.bench import BUDGETS, Bench, Score
from scorefield.verification.checks import Check
from scorefield.verification.soundness import Soundness


@dataclass(frozen=True)
class BenchRow:
    """A sampler on a mixture at a budget of evaluations: its score, and whether that is as declared."""

    mixture: str
    sampler: str
    budget: int
    score: Score
    passed: bool | None


@dataclass(frozen=True)
class VerifyReport:
    """Everything that was measured.

    Attributes:
        checks: of processes, parametrisations, samplers, objectives, likelihoods, operators and methods of posterior sampling.
        bench: every sampler at every budget on both mixtures.
        floors: sliced Wasserstein-2 and root mean square MMD² of two exact sets, by mixture.
        samples, sets: of the bench.
        seconds: for all of it.
    """

    checks: tuple[Check, ...]
    bench: tuple[BenchRow, ...]
    floors: dict[str, tuple[float, float]]
    samples: int
    sets: int
    seconds: float

    @property
    def failures(self) -> list[str]:
        """The names of what failed."""
        failed = [f"{check.kind} {check.name}" for check in self.checks if check.passed is False]
        return failed + [f"{row.mixture} {row.sampler} at {row.budget}" for row in self.bench if row.passed is False]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values of JSON, which has no infinity: None for it."""
        values: dict[str, Any] = json_values(asdict(self) | {"failures": self.failures})
        return values


def _bench(bench: Bench, budgets: tuple[int, ...], progress: Progress) -> Iterator[BenchRow]:
    for name, sampler, budget, score in checks.bench_rows(bench, budgets, progress):
        yield BenchRow(bench.name, name, budget, score, checks.verdict(name, sampler, budget, score))


def verify(
    run: str | Path | None = None,
    *,
    data: Any = None,
    examples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    quick: bool = False,
    full: bool = False,
    progress: Progress = silent,
) -> VerifyReport | Soundness:
    """Measure every registered method against closed-form truth; or whether the field of a run is sound.

    Args:
        run: the folder of a run, whose field is measured: is it the score of its data? None for all methods.
        data: of a run: what it was trained on, or its place, as `train` takes it; of an imported one, data as those that it
            was trained on elsewhere. None for the place where they were; without any the run's own samples are measured.
        examples: of a run: how many are measured; None for as many as are needed.
        seed: of a run: of the noise and of the choice of examples.
        device: of a run: auto, cpu or cuda.
        quick: fewer points, 8 sets of 250 samples on the bench and no run beyond 100 evaluations: about half a minute.
        full: 6 sets of 20,000 samples, as in the documented table: most of an hour. Without quick and full: 8 sets of 500, and
            1,000 evaluations on the 2-D mixture only, about two minutes.
        progress: called with the fraction done and what is being measured.

    Returns:
        The report; its `failures` are empty when everything is as declared, or when no mistake was found in the run.

    Raises:
        ScorefieldError: both quick and full, or one of them with a run; data without a run, data that are not of the run's
            shape; fewer than two examples.
    """
    if run is not None:
        if quick or full:
            raise ScorefieldError(f"got {'quick' if quick else 'full'} with the run {run}, expected neither: set examples")
        opened = trained(open_run(run, data))
        return soundness_of(opened, data=data, examples=examples, seed=seed, device=pick_device(device), progress=progress)
    if data is not None or examples is not None:
        raise ScorefieldError("got data or examples without a run, expected the folder of a run: name it")
    if quick and full:
        raise ScorefieldError("got both quick and full, expected at most one: choose")
    count, sets = (20_000, 6) if full else (250 if quick else 500, 8)
    begin, found = time.monotonic(), list[Check]()
    parts: tuple[tuple[str, Iterator[Check]], ...] = (
        ("processes", checks.processes()),
        ("parametrisations", checks.parametrisations()),
        ("objectives", checks.objectives(4000 if quick else 20_000)),
        ("likelihoods", checks.likelihoods(8 if quick else 32)),
        ("bias of Langevin steps", checks.langevin(5000 if quick else 20_000)),
        ("facts of samplers", checks.facts()),
        ("orders of samplers", checks.orders()),
        ("adjoints of operators", restoration.adjoints()),
        ("posteriors of a Gaussian", restoration.gaussian_posteriors(1000 if quick else 4000)),
        ("posteriors of a mixture", restoration.mixture_posteriors(200 if quick else 500)),
    )
    for place, (name, part) in enumerate(parts):
        for check in part:
            progress(0.2 * place / len(parts), name)
            found.append(check)
    rows, floors = list[BenchRow](), dict[str, tuple[float, float]]()
    for place, bench in enumerate(checks.benches(count, sets)):
        progress(0.2 + 0.4 * place, f"{bench.name}: the floor")
        floors[bench.name] = bench.floor, bench.mmd_floor

        def within(fraction: float, text: str, place: int = place) -> None:
            progress(0.2 + 0.4 * (place + fraction), text)

        long = full or not (quick or place)  # a thousand evaluations in 32 dimensions are half of a full run
        rows.extend(_bench(bench, BUDGETS if long else BUDGETS[:-1], within))
    return VerifyReport(tuple(found), tuple(rows), floors, count, sets, time.monotonic() - begin)
