"""`scorefield sample`: draw from a trained run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from scorefield import outputs
from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.specs import ComputeSpec, SampleSpec, interval_of

OUT = f"Where they go: {outputs.help_text()}; default RUN/samples-seedN.png, or .csv of a table."
HOW = flags(
    SampleSpec,
    **dict.fromkeys(("sampler", "ladder"), "NAME"),
    **{"steps": "N", "temperature": "T", "label": "CLASS", "guidance": "G", "autoguidance": "G"},
    guidance_interval=(tyro.conf.Suppress,),  # it is a text below
    given=(tyro.conf.Suppress,),  # they are texts below
)
WHERE = ComputeSpec()


@dataclass
class Sample:
    """Draw new samples from a trained run; the same seed gives the same bytes.

    examples:
      scorefield sample runs/digits -n 64
      scorefield sample runs/digits -n 64 --gif --out digits.png
      scorefield sample runs/digits -n 1000 --out samples.npz --seed 7
      scorefield sample runs/digits -n 64 --label 3 --out threes.png
      scorefield sample runs/digits -n 64 --label 3 --guidance 2 --out typical.png
      scorefield sample runs/digits --guidance 2 --guidance-interval 0.2,5 --out middle.png
      scorefield sample runs/table -n 1000 --out more.csv
      scorefield sample runs/table -n 1000 --given age=40 --given smoker=yes --out forties.csv
      scorefield sample runs/digits --sampler heun --steps 20 --out heun.png
      scorefield sample runs/digits --sampler abm --steps 10 --ladder optimised --out ten.png
      scorefield sample runs/digits --sampler annealed --temperature 0.8 --out likely.png
      torchrun --nproc-per-node 4 -m scorefield sample runs/digits -n 50000 --out many.npz
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many samples."""
    spec: Annotated[SampleSpec, tyro.conf.arg(name="")] = HOW
    """How they are drawn."""
    guidance_interval: Annotated[str | None, tyro.conf.arg(metavar="LOW,HIGH")] = None
    """Guide between these noise levels only, sigma/alpha from LOW to HIGH, at one evaluation outside; default everywhere."""
    given: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="COLUMN=VALUE")] = ()
    """Only rows with this value in a column, of a run that learned from a table; may be repeated."""
    out: Annotated[str | None, tyro.conf.arg(metavar="PATH", help=OUT)] = None
    gif: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write an animation of the sampling beside --out."""
    compute: Annotated[ComputeSpec, tyro.conf.arg(name="")] = WHERE
    """Where, and how many at a time."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Overwrite the file that is there, or in a folder the pictures of an earlier set that have not changed."""

    def run(self) -> None:
        """Draw, showing progress and where things went."""
        interval = interval_of(self.guidance_interval) if self.guidance_interval is not None else None
        spec = replace(self.spec, guidance_interval=interval, given=self.given)
        from scorefield import app

        with Bar("sampling") as bar:
            report = app.sample(
                self.run_, spec, self.compute, n=self.n, out=self.out, gif=self.gif, force=self.force, progress=bar.view
            )
        levels, evaluations = (
            f"{count} {what}{'' if count == 1 else 's'}"
            for count, what in ((report.levels, "level"), (report.evaluations, "evaluation"))
        )
        how = f"by {report.sampler} on {levels}, {evaluations} each"
        together = f", by {report.processes} processes" if report.processes > 1 else ""
        print(f"{report.samples} samples {f'given {report.given}' if report.given else how}{together}:")
        for path in report.written:
            print(f"  {path}")
        if report.note:
            print(f"  note: {report.note}")
        for ratio, accepted, curl in report.acceptance:
            print(f"  noise {ratio:8.3g}: {accepted:4.0%} of the proposals accepted, curl of the score {curl:.2f}")
