"""Verify: every registered method against closed-form truth, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scorefield.errors import ScorefieldError
from scorefield.verification import checks
from scorefield.verification.bench import BUDGETS, Bench, Score
from scorefield.verification.checks import Check

Watch = Callable[[float, str], None]


@dataclass(frozen=True)
class BenchRow:
    """A sampler on a mixture at a budget of evaluations: what it scored, and whether that is what it promises."""

    mixture: str
    sampler: str
    budget: int
    score: Score
    passed: bool | None


@dataclass(frozen=True)
class VerifyReport:
    """Everything that was measured.

    Attributes:
        checks: of processes, parametrisations, samplers, objectives and likelihoods.
        bench: every sampler at every budget on both mixtures.
        floors: sliced Wasserstein-2 and root mean square MMD² of two exact sets, by mixture.
        samples, sets: of the bench.
        seconds: it took.
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


def _bench(bench: Bench, budgets: tuple[int, ...], watch: Watch) -> Iterator[BenchRow]:
    for name, sampler, budget, score in checks.bench_rows(bench, budgets, watch):
        yield BenchRow(bench.name, name, budget, score, checks.verdict(name, sampler, budget, score))


def verify(
    *, quick: bool = False, samples: int | None = None, sets: int = 4, watch: Watch = lambda fraction, text: None
) -> VerifyReport:
    """Measure every registered method against closed-form truth.

    Args:
        quick: fewer points, no bench beyond 100 evaluations: about half a minute.
        samples: in each set of the bench; None for 1,000, or 500 when quick. The documented tables use 20,000.
        sets: how many sets are averaged.
        watch: called with the fraction done and what is being measured.

    Returns:
        The report; `failures` is empty when everything is as declared.

    Raises:
        ScorefieldError: fewer than 100 samples or no set, on which nothing could be seen.
    """
    count = samples if samples is not None else 500 if quick else 1000
    if count < 100 or sets < 1:
        raise ScorefieldError(f"got {count} samples in {sets} sets, expected at least 100 in 1: ask for more")
    begin, found = time.monotonic(), list[Check]()
    parts: tuple[tuple[str, Iterator[Check]], ...] = (
        ("processes", checks.processes()),
        ("parametrisations", checks.parametrisations()),
        ("objectives", checks.objectives(4000 if quick else 20_000)),
        ("likelihoods", checks.likelihoods(8 if quick else 32)),
        ("bias of Langevin steps", checks.langevin(5000 if quick else 20_000)),
        ("orders of samplers", checks.orders()),
    )
    for place, (name, part) in enumerate(parts):
        for check in part:
            watch(0.2 * place / len(parts), name)
            found.append(check)
    budgets = BUDGETS[:-1] if quick else BUDGETS
    rows, floors = list[BenchRow](), dict[str, tuple[float, float]]()
    for place, bench in enumerate(checks.benches(count, sets)):
        watch(0.2 + 0.4 * place, f"{bench.name}: the floor")
        floors[bench.name] = bench.floor, bench.mmd_floor

        def within(fraction: float, text: str, place: int = place) -> None:
            watch(0.2 + 0.4 * (place + fraction), text)

        rows.extend(_bench(bench, budgets, within))
    return VerifyReport(tuple(found), tuple(rows), floors, count, sets, time.monotonic() - begin)
