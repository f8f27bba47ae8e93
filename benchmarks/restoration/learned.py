"""The mixture benchmark from a learned field: two minutes of training on draws of the d = 8 mixture, then the same measurement.

Each seed has its own mixture (its weights), so each has a run of its own: `scorefield train` with the automatic recipe on
100,000 draws, as a person would. The field lives in model space, data = shift + scale·x, and the measurement goes there, too.
The exact field, given the same measurement, stands beside.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restoration.digits import with_moments
from restoration.mixtures import DRAWS, Judge, ours, pooled
from restoration.store import Cells, Values, table, verdict
from scorefield import SampleRng, registry
from scorefield.app import train
from scorefield.guidance import posterior_sample
from scorefield.operators import Matrix
from scorefield.operators.units import in_model_space
from scorefield.randomness import stream_of
from scorefield.runs import open_run
from scorefield.verification.mixture_posterior import Problem

ROWS, LIMIT = 100_000, 3.0


def trained(problem: Problem, seconds: float, folder: Path) -> Path:
    """Return the run of a problem's prior, which is trained if it is not there."""
    run = folder / f"mixture-{problem.d}-{problem.seed}-{seconds:g}s"
    if not (run / "model.safetensors").exists() or not open_run(run).manifest["progress"]["finished"]:
        data = run.with_suffix(".npy")
        rows = problem.field().sample(SampleRng(range(ROWS), stream=stream_of("training rows", problem.seed)))
        data.parent.mkdir(parents=True, exist_ok=True)
        np.save(data, rows.numpy())
        train(str(data), out=run, seconds=seconds)
    return run


def one(d: int, dy: int, seed: int, seconds: float, folder: Path, settings: dict[str, Any]) -> Values:
    """Return the distances of draws from the learned field and from the exact one."""
    problem = Problem.make(d, dy, seed)
    judge, run = Judge(problem), open_run(trained(problem, seconds, folder))
    scales, shifts = run.normaliser.scales(run.shape), run.normaliser.shifts(run.shape)
    operator, y = in_model_space(Matrix(problem.matrix), problem.y, scales, shifts)
    method = registry.find("posterior", "twisted")(**settings)
    rng = SampleRng(range(DRAWS), stream=stream_of("restore", seed))
    rows = torch.from_numpy(np.load(trained(problem, seconds, folder).with_suffix(".npy"), mmap_mode="r")[:20_000].copy())
    field = with_moments(run.field, run.normaliser.encode(rows))
    found = posterior_sample(field, operator, y, problem.noise_std, rng=rng, method=method)
    x = (found.x * scales + shifts).flatten(1)
    exact, _ = ours(problem, "twisted", settings)
    return {
        "learned": judge.distances(x),
        "exact": judge.distances(exact),
        "floor": judge.floor()["sw2"],
        "variation": problem.variation(x),
        "effective": float(found.effective.double().nanmedian()),
        "steps": run.manifest["progress"]["step"],
    }


def measure(cells: Cells, seeds: list[int], seconds: float, folder: Path, settings: dict[str, Any]) -> None:
    """Measure every number of measurements on every seed."""
    for seed in seeds:
        for dy in (1, 2, 4):
            key = {"d": 8, "dy": dy, "seed": seed, "training": seconds, "settings": json.dumps(settings)}
            cells(key, lambda dy=dy, n=seed: one(8, dy, n, seconds, folder, settings))  # type: ignore[misc]


def report(cells: Cells) -> list[str]:
    """Return the table."""
    rows = []
    for kind in dict.fromkeys((key["dy"], key["training"], key["settings"]) for key, _ in cells.where()):
        found = cells.where(dy=kind[0], training=kind[1], settings=kind[2])
        floor, learned, exact = (pooled(found, part) for part in ("floor", "learned", "exact"))
        if not math.isfinite(floor):
            continue
        rows.append(
            (
                *(f"(8, {kind[0]})", len(found), f"{kind[1]:g} s", f"{pooled(found, 'steps'):.0f}", kind[2], f"{floor:.3f}"),
                *(f"{exact:.3f}", f"{learned:.3f}", f"**{learned / floor:.2f}**", verdict(learned <= LIMIT * floor)),
                *(f"{pooled(found, 'variation'):.3f}", f"{pooled(found, 'effective'):.2f}"),
            )
        )
    columns = [
        *("", "seeds", "training", "steps", "settings", "floor", "exact field", "learned field", "over the floor"),
        *(f"<= {LIMIT:g}", "TV", "effective"),
    ]
    return table(columns, rows)
