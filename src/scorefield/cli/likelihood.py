"""`scorefield likelihood`: how probable a run finds data that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scorefield.cli.show import Bar, places


@dataclass
class Likelihood:
    """Measure log-likelihood by the probability flow and, beside it, by the evidence lower bound.

    8-bit images are reported in bits/dim, other grey levels and real numbers in nats. Writes likelihood.md and likelihood.json
    into the run's folder.

    examples:
      scorefield likelihood runs/digits -n 100
      scorefield likelihood runs/moons --divergence exact --tolerance 1e-5
      scorefield likelihood runs/digits --part train          a gap to held-out shows memorisation
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100
    """How many examples."""
    part: Literal["held-out", "train"] = "held-out"
    """Which examples."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the data are that the run was trained on; default where they were."""
    divergence: Literal["exact", "hutchinson"] | None = None
    """How the trace is computed; default exact up to 16 coordinates."""
    probes: int = 8
    """Random vectors an example, for hutchinson."""
    tolerance: float | None = None
    """Of the solver; default 1e-5 up to 16 coordinates, else 1e-3."""
    levels: int = 100
    """Evaluations of the bound."""
    seed: int = 0
    """Of dequantisation, probes and the bound."""
    batch: int = 64
    """Examples at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self) -> None:
        """Measure, showing progress and the table."""
        from scorefield import app

        spec = app.LikelihoodSpec(
            n=self.n,
            part=self.part,
            divergence=self.divergence,
            probes=self.probes,
            tolerance=self.tolerance,
            levels=self.levels,
            seed=self.seed,
            batch=self.batch,
        )
        try:
            with Bar("likelihood") as bar:
                report = app.likelihood(self.run_, spec, data=self.data, device=self.device, progress=bar.at)
        except app.NotWritten as error:
            print(app.likelihood_table(error.report))
            raise
        print(app.likelihood_table(report))
        places(self.run_, report.written)
