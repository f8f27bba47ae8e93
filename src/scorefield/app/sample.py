"""Sample: from a run to a picture, an array file, a folder of images, and an animation."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from scorefield.distribution import join
from scorefield.drawing import Drawing, class_of, trained
from scorefield.imputation.given import Given
from scorefield.outputs import animation
from scorefield.outputs.base import Output
from scorefield.progress import Viewer, silent
from scorefield.runs import open_run
from scorefield.sampling import SampleReport, draw_into
from scorefield.specs import ComputeSpec, SampleSpec

__all__ = ["SampleReport", "sample"]


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

    Under `torchrun` all processes draw together, and all but the first end inside this call, with the exit code of the work.

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
    with join(compute.device) as world:
        opened = world.agreed(lambda: trained(open_run(run)))
        given = world.agreed(lambda: Given.asked(opened, spec, gif=gif) if spec.given else None)
        shown = given.shown if given else opened

        def place() -> Output:
            """Refuse, before anything is drawn, what could not be written."""
            output = Output.of(shown, n, out, seed=spec.seed, force=force)
            if n >= 1:  # less is refused when it is drawn
                output.check()
            if gif:
                animation.check(output)
            if spec.label is not None:
                class_of(opened, spec.label)
            return output

        output = world.agreed(lambda: place() if world.first else None)
        if given is not None:
            note = given.write(n, spec.seed, world, batch=compute.batch, output=output, progress=progress)
            if output is not None:
                return SampleReport((output.path,), n, None, 0, 0, note=note, given=given.said, processes=world.size)
        else:
            drawing = Drawing.divided(opened, spec, world)
            if output is not None:
                return draw_into(output, drawing, compute.batch, gif, progress)
            deque(drawing.batches(n, batch=compute.batch), maxlen=0)
        raise SystemExit(0)  # the first process has what this one drew, and writes it
