"""`scorefield interpolate`: frames between two images or signals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.specs import InterpolateSpec

HOW = flags(InterpolateSpec, frames="N", label="CLASS")


@dataclass
class Interpolate:
    """Go from one image or signal to another through samples of a run; both ends come back as they were.

    examples:
      scorefield interpolate runs/faces anna.png bert.png
      scorefield interpolate runs/faces anna.png bert.png --frames 25 --gif --out morph
      scorefield interpolate runs/faces anna.png 7                    to a new sample, of seed 7
      scorefield interpolate runs/faces 1 2 --out between             from one new sample to another
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """Where to start: a file, or a whole number, the seed of a new sample."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """Where to end, likewise."""
    spec: Annotated[InterpolateSpec, tyro.conf.arg(name="")] = HOW
    """How."""
    gif: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write an animation, there and back."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A new folder; default A-to-B beside A."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an earlier answer in that folder, if nothing in it has changed."""

    def run(self) -> None:
        """Interpolate, showing progress, and where the frames went."""
        from scorefield import app
        from scorefield.errors import ScorefieldError

        if self.out is None and not Path(self.a).expanduser().exists() and self.a.isdecimal():
            raise ScorefieldError(f"got no --out for a new sample, {self.a}, expected a folder: add --out seed{self.a}")
        with Bar("interpolating") as bar:
            report = app.interpolate(
                self.run_, self.a, self.b, self.spec, gif=self.gif, out=self.out, force=self.force, progress=bar.at
            )
        values = report.to_dict()
        back = "" if report.frames.error is None else f"; the ends came back within {report.frames.error:.2g}, root mean square"
        print(f"{values['frames']} frames, {values['evaluations']} evaluations each{back}:\n  {report.folder}")
