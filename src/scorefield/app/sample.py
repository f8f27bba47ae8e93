"""Sample: from a run to a picture, an array file, a folder of images, and an animation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import config
from scorefield.devices import pick_device
from scorefield.drawing import Batch, Drawing, acceptance_by_level, class_of, field_of, stale_tuning, trained
from scorefield.imputation.given import Given
from scorefield.outputs import animation
from scorefield.outputs.base import Output
from scorefield.progress import Viewer, silent
from scorefield.runs import open_run
from scorefield.samplers import Sampler
from scorefield.specs import ComputeSpec, SampleSpec

SHOWN = 64  # samples, over which the curl of the score is averaged


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
    """

    written: tuple[Path, ...]
    samples: int
    sampler: Sampler | None
    levels: int
    evaluations: int
    acceptance: tuple[tuple[float, float, float], ...] = ()
    note: str | None = None
    given: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        sampler = self.sampler and config.to_dict(self.sampler, "sampler")
        values |= {"written": [str(path) for path in self.written], "sampler": sampler}
        return values | {"acceptance": [list(level) for level in self.acceptance]}


def sample(
    run: str | Path,
    spec: SampleSpec = SampleSpec(),  # noqa: B008  # it is frozen
    compute: ComputeSpec = ComputeSpec(),  # noqa: B008
    *,
    n: int = 64,
    out: str | Path | None = None,
    gif: bool = False,
    force: bool = False,
    progress: Viewer = silent,
) -> SampleReport:
    """Draw samples from a trained run into a picture, an array file or a folder.

    Args:
        run: the run's folder.
        spec: how they are drawn. Its fields are keywords, too: sampler, steps, ladder, temperature, label,
            guidance, autoguidance, guidance_interval, given (a dictionary, too) and seed.
        compute: where, and how many at a time; batch and device are keywords, too.
        n: how many.
        out: `.png` (a grid or a plot), `.npz` or `.npy` (an array in the type, axes and units of the data), the
            kind of file that the data came in, or a folder (a file each, and `samples.jsonl`, a list of them with their
            classes). Of a table `.csv`, `.tsv`, `.txt` or `.dat`, packed by `.gz` or not, in the style of its file, or
            `.parquet` (its own columns and types), `.npy` or `.npz` (its coordinates, a category as one for each text). None
            for a picture, or a .csv, in the run.
        gif: also write an animation of the sampling, beside `out`.
        force: overwrite the file that is there; in a folder the pictures on its list, if none of them has changed.
        progress: called after every step with the share done, words, and a `Batch`.

    Raises:
        ScorefieldError: no such run, sampler or ladder, a run of no steps, a class that training never saw, a temperature that
            is not positive, guidance that the run has no field for, a file in the way, an `out` that does not suit the data or
            cannot be written.
    """
    opened, device = trained(open_run(run)), pick_device(compute.device)
    given = Given.asked(opened, spec, gif=gif) if spec.given else None
    output = Output.of(given.shown if given else opened, n, out, seed=spec.seed, force=force)
    if n >= 1:  # less is refused below
        output.check()
    if gif:
        animation.check(output)
    if spec.label is not None:
        class_of(opened, spec.label)  # refused before anything is drawn
    if given is not None:
        note = given.write(n, spec.seed, device, batch=compute.batch, output=output, progress=progress)
        return SampleReport((output.path,), n, None, 0, 0, note=note, given=given.said)
    drawing = Drawing.of(opened, spec, device)
    film = animation.Animation(output, drawing.field) if gif else None
    evaluations, rates, few, first = 0, tuple[float, ...](), list[Tensor](), 0

    def view(fraction: float, text: str, seen: Batch) -> None:
        nonlocal evaluations, rates
        evaluations, rates = seen.snapshot.evaluations, seen.snapshot.info.acceptance
        if film:
            film.add(seen.first, seen.snapshot)
        progress(fraction, text, seen)

    batches = drawing.batches(n, batch=compute.batch, view=view)
    with output.writing(drawing.about) as add:
        for x in batches:
            add(opened.decode(x), drawing.labels(range(first, first + len(x))))
            few += [x] if rates and first < SHOWN else []
            first += len(x)
        if film:
            film.write()
    acceptance: tuple[tuple[float, float, float], ...] = ()
    if rates:
        x, labels = torch.cat(few)[:SHOWN], drawing.labels(range(min(n, SHOWN)))
        acceptance = acceptance_by_level(field_of(opened, spec=spec), x, labels, rates, drawing.ladder.cpu())
    return SampleReport(
        written=(output.path, film.path) if film else (output.path,),
        samples=n,
        sampler=drawing.sampler,
        levels=len(drawing.ladder),
        evaluations=evaluations,
        acceptance=acceptance,
        note="; ".join(filter(None, [output.left_out(), stale_tuning(opened, spec), spec.asks])) or None,
    )
