"""`scorefield import`: a run of a model that was trained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Import:
    """Make a run of a model that was trained elsewhere: sample, restore, evaluate and all else then work on it.

    SOURCE is a file or folder on this machine; `scorefield list checkpoint` shows the layouts that are read. Of a diffusers
    pipeline the network of pixels (UNet2DModel) and the betas of its scheduler are taken; of NCSN, NCSNv2, score_sde and
    smalldiffusion a file of weights. Samples are drawn by abm in 20 evaluations. Nothing in the files is executed, diffusers
    itself is not needed, and no data are: what compares with data, such as evaluate, asks for them by --data.

    examples:
      scorefield import ./ddpm-church --as church
      scorefield import ./unet --as runs/mine --set prediction_type=v_prediction --set beta_schedule=squaredcos_cap_v2
      scorefield import ./pets --as pets --set classes=cat,dog
      scorefield import checkpoint_14.pth --as celeba --set sde=ve
      scorefield sample runs/church -n 16
      scorefield evaluate runs/church --data photos/
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Where the model's files are."""
    as_: Annotated[str, tyro.conf.arg(name="as", metavar="NAME")]
    """Name of the run: a bare word goes to runs/NAME, a path where it says. Nothing may be there yet."""
    settings: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")] = ()
    """What the files do not say, or say wrongly; may be repeated. Of diffusers: prediction_type, beta_schedule, beta_start,
    beta_end, num_train_timesteps, sample_size, classes, range. Of published weights: size, sde, continuous, sigma_min,
    sigma_max, beta_min, beta_max, scaled, classes, average."""

    def run(self) -> None:
        """Import, and say what was found."""
        from scorefield import app

        report = app.import_(self.source, self.as_, settings=self.settings)
        run = report.run
        shape, process = " x ".join(map(str, run.shape)), str(run.config.process)
        classes = f", {len(run.classes)} classes" if run.classes else ""
        print(f"{run.path}: {report.found}, {run.manifest['parameters']:,} parameters, {run.kind}s of {shape}{classes}.")
        print(f"  process: {process if len(process) < 200 else f'{process[:200]}...'}")
        print(f"  output: {run.config.parametrisation}")
        for note in report.notes:
            print(f"  {note}")
        print(f"Now try: scorefield sample {run.path} -n 16")
