"""`scorefield sample`: draw from a trained run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scorefield.cli.show import Bar


@dataclass
class Sample:
    """Draw new samples from a trained run; the same seed gives the same bytes.

    examples:
      scorefield sample runs/digits -n 64
      scorefield sample runs/digits -n 64 --gif --out digits.png
      scorefield sample runs/digits -n 1000 --out samples.npz --seed 7
      scorefield sample runs/digits -n 64 --label 3 --out threes.png
      scorefield sample runs/table -n 1000 --out more.csv
      scorefield sample runs/digits --sampler heun --steps 20 --out heun.png
      scorefield sample runs/digits --sampler abm --steps 10 --ladder optimised --out ten.png
      scorefield sample runs/digits --sampler annealed --temperature 0.8 --out likely.png
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many samples."""
    sampler: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """abm, heun, annealed, ... (see `scorefield list sampler`); default what scorefield tune chose, else the run's own."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """About how many sampling steps; default the sampler's own number."""
    ladder: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """geometric, karras, uniform, cauchy, lowest, or optimised (made for this run); default what suits the sampler."""
    temperature: Annotated[float, tyro.conf.arg(metavar="T")] = 1.0
    """Below 1 for likelier samples, above 1 for more varied ones; wants Langevin steps (annealed, predictor-corrector)."""
    label: Annotated[str | None, tyro.conf.arg(metavar="CLASS")] = None
    """Only this class, of a run that learned from labelled data; default classes as often as in the data."""
    seed: int = 0
    """Of the whole set."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """grid.png, samples.npz or folder/ (a picture each, and a list of them with their classes); of tables also .csv, .tsv,
    .parquet, .npy; default RUN/samples-seedN.png or .csv."""
    gif: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write an animation of the sampling beside --out."""
    batch: int = 256
    """How many at a time; changes memory, not samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Overwrite the file that is there, or in a folder the pictures that scorefield sample wrote and nobody changed."""

    def run(self) -> None:
        """Draw, showing progress and where things went."""
        from scorefield import app

        with Bar("sampling") as bar:
            report = app.sample(
                self.run_,
                app.SampleSpec(self.sampler, self.steps, self.ladder, self.temperature, self.label, self.seed),
                app.ComputeSpec(self.batch, self.device),
                n=self.n,
                out=self.out,
                gif=self.gif,
                force=self.force,
                progress=bar.view,
            )
        print(f"{report.samples} samples by {report.sampler} on {report.levels} levels, {report.evaluations} evaluations each:")
        for path in report.written:
            print(f"  {path}")
        if report.note:
            print(f"  note: {report.note}")
        for ratio, accepted, turned in report.acceptance:
            print(f"  noise {ratio:8.3g}: {accepted:4.0%} of the proposals accepted, curl of the score {turned:.2f}")
