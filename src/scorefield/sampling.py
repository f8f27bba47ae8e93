"""Sampling: what is drawn from a run goes to an output, with an animation beside it, and is reported.

Of several processes that draw together the first has the output; the others only draw.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import config, fragments, registry
from scorefield.distribution import World
from scorefield.drawing import Batch, Drawing, field_of, stale_tuning
from scorefield.field import Field
from scorefield.outputs import animation
from scorefield.outputs.base import Output
from scorefield.progress import Viewer
from scorefield.randomness import SampleRng, stream_of
from scorefield.samplers import Sampler, curl

SHOWN = 64  # samples, over which the curl of the score is averaged
ROWS = 6  # of a table, its header included, that a notebook shows


@dataclass(frozen=True)
class SampleReport:
    """What was drawn and where it went.

    Attributes:
        written: the files.
        samples: how many.
        sampler: what drew them; None of rows with given columns, which are drawn as holes are filled.
        levels: of noise.
        evaluations: of the field, for one sample; of a guided one, each asks the network more than once (`note`).
        acceptance: of a sampler with Metropolis' test, (noise-to-signal ratio, mean acceptance, curl of the score) at up to
            ten of its levels; a curl well above 0 says that no density has this score, and what is sampled has no name.
        note: what a person should know about how it was drawn; None mostly.
        given: the columns that are the same in all rows, in words; None without any.
        processes: that drew together.
    """

    written: tuple[Path, ...]
    samples: int
    sampler: Sampler | None
    levels: int
    evaluations: int
    acceptance: tuple[tuple[float, float, float], ...] = ()
    note: str | None = None
    given: str | None = None
    processes: int = 1

    def _repr_html_(self) -> str:
        """Return the pictures that were written, and the first rows of a table, as a notebook shows them."""
        name = self.sampler and registry.name_of("sampler", self.sampler)
        how = f"given {self.given}" if self.given else f"by {name}, {self.evaluations} evaluations each"
        parts = [fragments.heading(f"{self.samples:,} samples {how}")]
        for path in self.written:
            parts.append(fragments.heading(str(path)))
            with contextlib.suppress(OSError):  # it was moved, or deleted
                if (kind := path.suffix[1:].lower()) in ("png", "gif"):
                    parts.append(fragments.image(path.read_bytes(), kind, f"{self.samples:,} samples"))
                elif kind in ("csv", "tsv", "txt", "dat"):
                    with path.open(encoding="utf-8", errors="replace") as file:
                        parts.append(fragments.text([line.rstrip("\n") for line in itertools.islice(file, ROWS)]))
        return "".join([*parts, fragments.sentences([self.note] if self.note else [])])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        sampler = self.sampler and config.to_dict(self.sampler, "sampler")
        values |= {"written": [str(path) for path in self.written], "sampler": sampler}
        return values | {"acceptance": [list(level) for level in self.acceptance]}


def draw_into(output: Output, drawing: Drawing, batch: int, gif: bool, progress: Viewer) -> SampleReport:
    """Draw as many samples as an output takes into it, and an animation beside it.

    Args:
        output: was checked.
        drawing: how they are drawn; of several processes this is the first.
        batch: how many at a time in a process.
        gif: also write an animation.
        progress: called after every step with the share done, words, and a `Batch`.
    """
    opened, spec, world, n = drawing.run, drawing.spec, drawing.world, output.n
    film = animation.Animation(output, drawing.field) if gif else None
    evaluations, rates, few, first = 0, tuple[float, ...](), list[Tensor](), 0

    def view(fraction: float, text: str, seen: Batch) -> None:
        nonlocal evaluations, rates
        evaluations, rates = seen.snapshot.evaluations, seen.snapshot.info.acceptance
        if film and world.size == 1:
            film.add(seen.first, seen.snapshot)
        progress(fraction, text, seen)

    batches = drawing.batches(n, batch=batch, view=view)
    with output.writing(drawing.about) as add:
        for x in batches:
            add(opened.decode(x), drawing.labels(range(first, first + len(x))))
            few += [x] if rates and first < SHOWN else []
            first += len(x)
        if film:
            if world.size > 1:  # other processes have seen some of the first samples: draw these here once more
                again = replace(drawing, world=World()).batches(film.shown, batch=batch, view=film.view)
                deque(again, maxlen=0)
            film.write()
    acceptance: tuple[tuple[float, float, float], ...] = ()
    if rates:
        x, labels = torch.cat(few)[:SHOWN], drawing.labels(range(min(n, SHOWN)))
        acceptance = acceptance_by_level(field_of(opened, spec=drawing.spec), x, labels, rates, drawing.ladder.cpu())
    return SampleReport(
        written=(output.path, film.path) if film else (output.path,),
        samples=n,
        sampler=drawing.sampler,
        levels=len(drawing.ladder),
        evaluations=evaluations,
        acceptance=acceptance,
        note="; ".join(filter(None, [output.left_out(), stale_tuning(opened, spec), drawing.spec.asks])) or None,
        processes=world.size,
    )


def acceptance_by_level(
    field: Field, x: Tensor, labels: Tensor | None, rates: tuple[float, ...], times: Tensor
) -> tuple[tuple[float, float, float], ...]:
    """Return (sigma/alpha, acceptance, curl of the score) at about ten levels of a sampler with Metropolis' test.

    Args:
        field: that was drawn from.
        x: samples, in model space; each is noised to the level, and the curl is averaged over them.
        labels: their classes; None without classes.
        rates, times: mean acceptance at every level, and its time.
    """
    process, x, levels = field.process, x.to(times.device), []
    for j in sorted({round(k * (len(rates) - 1) / 9) for k in range(10)}):
        rng, t = SampleRng(range(len(x)), stream=stream_of("curl", j)), times[j].expand(len(x))
        curls = curl(field, process.perturb(x, t, rng.normal(x.shape[1:])), t, rng, cond=labels)
        ratio = float(process.sigma(times[j]) / process.alpha(times[j]))
        levels.append((ratio, rates[j], float(curls.mean())))
    return tuple(levels)
