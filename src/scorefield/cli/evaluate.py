"""`scorefield evaluate`: how good the samples of a run are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scorefield.cli.show import Bar, sampling


@dataclass
class Evaluate:
    """Measure samples against the held-out data, with a judge trained on the run's own labelled training data.

    examples:
      scorefield evaluate runs/digits
      scorefield evaluate runs/digits -n 2000 --sampler heun --steps 20
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """How many samples."""
    sampler: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Which sampler; default the run's own."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """About how many sampling steps; default the sampler's own number."""
    seed: int = 0
    """Of the samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self) -> None:
        """Measure, showing progress and the table."""
        from scorefield import app

        with Bar("sampling") as bar:
            report = app.evaluate(
                self.run_,
                n=self.n,
                sampler=self.sampler,
                steps=self.steps,
                seed=self.seed,
                device=self.device,
                watch=sampling(bar, self.n),
                tell=bar.say,
            )
        print(app.quality_table(report))
        for path in report.written:
            print(f"  {path}")
