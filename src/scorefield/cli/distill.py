"""`scorefield distill`: a run that draws in 1, 2 or 4 evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.cli.train import signals
from scorefield.durations import duration, seconds_of
from scorefield.specs import DistillSpec

HOW = flags(DistillSpec, steps="N", seconds=(tyro.conf.Suppress,))  # it is a text below


@dataclass
class Distill:
    """Make a run that draws in 1, 2 or 4 evaluations of one that needs about 20. No data are needed.

    The new folder is a run like any other: sample and evaluate draw from its generator. What asks for a score has that of the
    run it was made of. Ctrl-C ends it early, with what is there then; in the first twelfth of the time that is nothing.

    examples:
      scorefield distill runs/digits
      scorefield distill runs/digits --time 10m --out runs/fast
      scorefield distill runs/digits --evaluations 2
      scorefield sample runs/digits-distilled-1 -n 1000 --out many.npz
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    spec: Annotated[DistillSpec, tyro.conf.arg(name="")] = HOW
    """How it is done."""
    time: Annotated[str | None, tyro.conf.arg(metavar="5m")] = None
    """How long to distil; with neither this nor --steps, 5m."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The new folder; default RUN-distilled-N beside the run, N being the evaluations."""

    def run(self) -> None:
        """Distil, showing progress and where it went."""
        spec, asked = replace(self.spec, seconds=None if self.time is None else seconds_of(self.time)), signals()
        from scorefield import app

        with Bar("distilling") as bar:
            report = app.distill(self.run_, spec, out=self.out, progress=bar.at, stop=lambda: bool(asked))
        print(f"{report.folder}: {report.steps} steps, {report.images:,} samples in {duration(report.seconds)}.")
        for reason in report.reasons:
            print(f"  {reason}")
        for path in report.written:
            print(f"  {path}")
        if report.stopped:
            print("  it was stopped early, and is what was learned by then")
        print(f"Now try: scorefield evaluate {report.folder}")
