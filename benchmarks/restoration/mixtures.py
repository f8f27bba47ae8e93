"""Part a: the public mixture benchmark (`problems`), ours and, where it is installed, azula's, in one run with one prior.

SW2     sliced Wasserstein-2, 1,000 projections, between 1,000 draws and 1,000 exact posterior draws, against 4 such sets
floor   the same between two sets of exact draws, 4 pairs; both are medians over all pairs of all seeds
TV      total variation between the shares of the nearest modes and the posterior's weights. Modes are at least 16
        standard deviations apart, so that responsibilities would count the same. 1,000 exact draws have some, too: the
        excess is over their mean
evaluations of the denoiser for each draw: levels times particles. What a method differentiates besides is not counted:
        every one of azula's but DiffPIR and JFPS takes one to dy + 1 gradients through the denoiser each time, and our
        default takes none
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from restoration import foreign
from restoration.store import Cells, Values, median, table, verdict
from scorefield import SampleRng, registry
from scorefield.errors import ScorefieldError
from scorefield.guidance import posterior_sample
from scorefield.moments import Moments
from scorefield.operators import Matrix
from scorefield.randomness import stream_of
from scorefield.verification.mixture_posterior import DIMENSIONS, MEASURED, Problem

DRAWS, PAIRS = 1000, 4  # pairs of sets
LIMIT, SECONDS, VARIATION = 1.3, {8: 5, 80: 10, 800: 30}, 0.05
REFERENCES = ("exact draws", "prior draws")
SPEED_LEVELS, SPEED_LIMIT = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 800, 1600), 1.5


def ours(problem: Problem, method: str, settings: dict[str, Any], n: int = DRAWS) -> tuple[Tensor, Values]:
    """Return draws of a registered method, and what it reports with them."""
    settings = dict(settings)
    if settings.pop("isotropic", False):
        field = problem.field()
        settings["moments"] = Moments.isotropic(field.data_mean, field.data_std)
    chosen = registry.find("posterior", method)(**settings)
    rng = SampleRng(range(n), stream=stream_of("restore", problem.seed))
    found = posterior_sample(problem.field(), Matrix(problem.matrix), problem.y, problem.noise_std, rng=rng, method=chosen)
    effective = found.effective.double()
    return found.x, {
        "evaluations": found.evaluations * found.particles,
        "particles": found.particles,
        "effective": float(effective.nanmedian()),
        "residual": float(found.residual.square().mean().sqrt()),
    }


def draws_of(problem: Problem, contender: str, settings: dict[str, Any]) -> tuple[Tensor, Values]:
    """Return draws of a contender: a reference, "azula NAME SCHEDULE", or the name of a registered method."""
    if contender == "exact draws":
        return problem.exact(DRAWS, 2 * PAIRS), {"evaluations": 0}
    if contender == "prior draws":
        return problem.field().sample(SampleRng(range(DRAWS), stream=stream_of("prior draws", problem.seed))), {
            "evaluations": 0
        }
    if contender.startswith("azula "):
        name, schedule = contender.removeprefix("azula ").rsplit(" ", 1)
        x, evaluations = foreign.draw(problem, name, schedule, DRAWS, **settings)
        return x, {"evaluations": evaluations}
    return ours(problem, contender, settings)


class Judge:
    """A problem with its exact sets, projected once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.references = [problem.slices(problem.exact(DRAWS, i)) for i in range(PAIRS)]

    def floor(self) -> Values:
        """Return the distances of pairs of exact sets."""
        others = [self.problem.slices(self.problem.exact(DRAWS, PAIRS + i)) for i in range(PAIRS)]
        return {
            "sw2": [self.problem.distance(a, b) for a, b in zip(others, self.references, strict=True)],
            "variation": self.problem.expected_variation(DRAWS),
        }

    def distances(self, x: Tensor) -> list[float]:
        """Return the distances of draws to the exact sets."""
        sliced = self.problem.slices(x)
        return [self.problem.distance(sliced, other) for other in self.references]

    def score(self, contender: str, settings: dict[str, Any]) -> Values:
        """Return what a contender's draws are worth, and the seconds of a core that they took."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            x, values = draws_of(self.problem, contender, settings)
        except ScorefieldError as error:
            return {"refused": str(error)}
        took = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - wall}
        if not bool(x.isfinite().all()):
            return took | values | {"sw2": [math.inf] * PAIRS, "variation": 1.0}
        return (
            took
            | values
            | {
                "sw2": self.distances(x),
                "variation": self.problem.variation(x),
            }
        )


def contenders(only: Iterable[str] = ()) -> list[str]:
    """Return the rows of the table: references, registered methods, and azula's where it is installed."""
    found = [*REFERENCES, *registry.names("posterior")]
    if foreign.installed():
        found += [f"azula {name} {schedule}" for name in foreign.NAMES for schedule in foreign.SCHEDULES]
    wanted = list(only)
    for w in wanted:
        if not any(name == w or name.startswith(f"azula {w} ") for name in found):
            raise SystemExit(f"got --only {w}, expected some of {', '.join(found)}: correct it")
    return [name for name in found if not wanted or any(name == w or name.startswith(f"azula {w} ") for w in wanted)]


def measure(
    cells: Cells,
    seeds: Iterable[int],
    only: Iterable[str],
    sizes: Callable[[int, int], bool],
    settings: dict[str, Any] | None = None,
) -> None:
    """Measure every contender on every problem that is asked for; the settings are those of the default method."""
    rows = [(name, settings or {} if name == "twisted" else {}) for name in contenders(only)]
    for seed in seeds:
        for d in DIMENSIONS:
            for dy in MEASURED:
                if sizes(d, dy):
                    _one(cells, d, dy, seed, rows)


def _one(cells: Cells, d: int, dy: int, seed: int, rows: list[tuple[str, dict[str, Any]]]) -> None:
    problem = Problem.make(d, dy, seed)
    judge: list[Judge] = []  # made when something has to be measured

    def judged() -> Judge:
        if not judge:
            judge.append(Judge(problem))
        return judge[0]

    cells({"d": d, "dy": dy, "seed": seed, "contender": "floor", "settings": {}}, lambda: judged().floor())
    for name, settings in rows:
        key = {"d": d, "dy": dy, "seed": seed, "contender": name, "settings": settings}
        if cells._name(key) not in cells.cells:
            judged()  # so that its projections are not counted as the contender's time
        cells(key, lambda name=name, settings=settings: judged().score(name, settings))  # type: ignore[misc]


def pooled(found: list[tuple[Values, Values]], part: str = "sw2") -> float:
    """Return the median over seeds and pairs; NaN of none."""
    values = (values[part] for _, values in found if part in values)
    return median(v for value in values for v in (value if isinstance(value, list) else [value]))


def same_seeds(found: list[tuple[Values, Values]], mine: list[tuple[Values, Values]]) -> list[tuple[Values, Values]]:
    """Return those of the seeds that a contender has."""
    seeds = {key["seed"] for key, _ in mine}
    return [(key, values) for key, values in found if key["seed"] in seeds]


def report(cells: Cells, seeds: list[int]) -> list[str]:
    """Return the tables of these seeds."""
    chosen = [(key, values) for key, values in cells.where() if key["seed"] in seeds]
    sizes = sorted({(key["d"], key["dy"]) for key, _ in chosen})

    def at(d: int, dy: int, contender: str, settings: Values | None = None) -> list[tuple[Values, Values]]:
        wanted = {"d": d, "dy": dy, "contender": contender, "settings": settings or {}}
        return [(key, values) for key, values in chosen if all(key[k] == v for k, v in wanted.items())]

    lines: list[str] = []
    texts = dict.fromkeys(json.dumps(key["settings"]) for key, _ in chosen if key["contender"] == "twisted")
    for settings in map(json.loads, texts):
        lines += [f"### The default{f' with {json.dumps(settings)}' if settings else ''}", "", *_default(sizes, at, settings)]
    return [*lines, *_everybody(chosen, sizes, at)]


At = Callable[..., list[tuple[Values, Values]]]


def _default(sizes: list[tuple[int, int]], at: At, settings: Values) -> list[str]:
    rows = []
    for d, dy in sizes:
        mine = at(d, dy, "twisted", settings)
        if not mine:
            continue
        floors, exact = (same_seeds(at(d, dy, name), mine) for name in ("floor", "exact draws"))
        floor = pooled(floors)
        sw2, tv, expected = pooled(mine), pooled(mine, "variation"), pooled(floors, "variation")
        seconds = pooled(mine, "cpu_seconds")
        rows.append(
            (
                *(d, dy, len(mine), f"{floor:.3f}", f"{pooled(exact):.3f}", f"{sw2:.3f}", f"**{sw2 / floor:.2f}**"),
                *(verdict(sw2 <= LIMIT * floor), f"{tv:.3f}", f"{pooled(exact, 'variation'):.3f}", f"{tv - expected:+.3f}"),
                *(verdict(tv <= VARIATION), f"{pooled(mine, 'effective'):.2f}", f"{pooled(mine, 'evaluations'):.0f}"),
                *(f"{seconds:.1f}", verdict(seconds <= SECONDS[d])),
            )
        )
    columns = [
        *("d", "dy", "seeds", "floor", "exact draws", "SW2", "SW2/floor", f"<= {LIMIT}", "TV", "of exact draws", "excess"),
        *(f"<= {VARIATION}", "effective", "evaluations", "seconds", "in time"),
    ]
    return table(columns, rows)


def _everybody(chosen: list[tuple[Values, Values]], sizes: list[tuple[int, int]], at: At) -> list[str]:
    lines: list[str] = []
    names = list(dict.fromkeys(key["contender"] for key, _ in chosen if not key["settings"]))
    body = []
    for name in names:
        if name == "floor":
            body.append((name, *(f"{pooled(at(d, dy, name)):.3f}" for d, dy in sizes)))
            continue
        refused = [values["refused"] for key, values in chosen if key["contender"] == name and "refused" in values]
        if refused:
            lines += [f"`{name}` is not in the table: {refused[0]}", ""]
            continue
        cellsof = [at(d, dy, name) for d, dy in sizes]
        floors = [same_seeds(at(d, dy, "floor"), cell) for cell, (d, dy) in zip(cellsof, sizes, strict=True)]
        ratios = [pooled(cell) / pooled(floor) for cell, floor in zip(cellsof, floors, strict=True)]
        body.append((name, *(f"{ratio:.2f}" if math.isfinite(ratio) else "-" for ratio in ratios)))
    if body:
        lines += ["### Every method: SW2 over the floor", "", *table(["", *(f"({d}, {dy})" for d, dy in sizes)], body)]
    return lines


# --- evaluations to a quality -----------------------------------------------------------------------------------------


def speed_rows(levels: Iterable[int]) -> list[tuple[str, dict[str, Any]]]:
    """Return contenders at several numbers of evaluations: ours, ours with the isotropic twist, azula's."""
    rows = []
    for count in levels:
        rows += [("twisted", {"levels": count}), ("twisted", {"levels": count, "isotropic": True})]
        if foreign.installed():
            rows += [(f"azula {name} VP", {"steps": count}) for name in foreign.NAMES]
        for name in registry.names("posterior"):
            fields = {f.name for f in dataclasses.fields(registry.find("posterior", name))}
            if name != "twisted" and "levels" in fields:
                rows.append((name, {"levels": count}))
    return rows


def measure_speed(
    cells: Cells, seeds: Iterable[int], sizes: Iterable[tuple[int, int]], levels: Iterable[int], only: Iterable[str] = ()
) -> None:
    """Measure every contender at every number of levels."""
    rows, wanted = speed_rows(levels), list(only)
    if wanted:
        rows = [row for row in rows if any(row[0] == w or row[0].startswith(f"azula {w} ") for w in wanted)]
    for seed in seeds:
        for d, dy in sizes:
            _one(cells, d, dy, seed, rows)


def report_speed(cells: Cells, seeds: list[int]) -> list[str]:
    """Return how many evaluations each contender needs to 1.5 times the floor, and every number behind it."""
    chosen = [(key, values) for key, values in cells.where() if key["seed"] in seeds and key["settings"]]
    sizes = sorted({(key["d"], key["dy"]) for key, _ in chosen})
    lines: list[str] = []
    for d, dy in sizes:
        here = [(key, values) for key, values in chosen if (key["d"], key["dy"]) == (d, dy)]
        floors = [(k, v) for k, v in cells.where(d=d, dy=dy, contender="floor") if k["seed"] in seeds]
        floor, curves = pooled(floors), dict[str, dict[int, float]]()
        for settings in dict.fromkeys(json.dumps(key["settings"], sort_keys=True) for key, _ in here):
            of = [(key, values) for key, values in here if json.dumps(key["settings"], sort_keys=True) == settings]
            for name in dict.fromkeys(key["contender"] for key, _ in of):
                mine = [(key, values) for key, values in of if key["contender"] == name and "sw2" in values]
                label = f"{name}, isotropic twist" if "isotropic" in settings else name
                if mine:
                    own = pooled(same_seeds(floors, mine))
                    curves.setdefault(f"{label} ({len(mine)} seeds)", {})[round(pooled(mine, "evaluations"))] = (
                        pooled(mine) / own
                    )
        counts = sorted({count for curve in curves.values() for count in curve})
        rows = []
        for name, curve in curves.items():
            reached = [count for count in sorted(curve) if all(curve[c] <= SPEED_LIMIT for c in curve if c >= count)]
            shown = f"**{reached[0]}**" if reached else f"never (best {min(curve.values()):.2f})"
            rows.append((name, shown, *(f"{curve[c]:.2f}" if c in curve else "" for c in counts)))
        columns = ["", f"evaluations to {SPEED_LIMIT} floors", *map(str, counts)]
        lines += [f"### ({d}, {dy}), floor {floor:.3f}", "", *table(columns, rows)]
    return lines


__all__ = ["SPEED_LEVELS", "Judge", "contenders", "draws_of", "measure", "measure_speed", "report", "report_speed", "torch"]
