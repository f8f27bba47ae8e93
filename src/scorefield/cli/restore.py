"""`scorefield restore`: what a damaged image or signal may have been."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield import registry
from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.durations import short
from scorefield.specs import RestoreSpec

HOW = flags(RestoreSpec, samples="N", noise="X|auto", method="NAME", label="CLASS", simulate=(tyro.conf.FlagCreatePairsOff,))


class _Forms(str):
    """What an operator is, and all their forms, found when the help is shown: no operator is imported for it."""

    def __call__(self) -> str:
        return "\n".join(
            [f"{self} `scorefield list operator` says more. One or several of", *registry.forms("operator").values()]
        )


@dataclass
class Restore:
    """Restore images or signals that a known operator damaged: samples, their mean, a map of doubt.

    FILE is what was measured: after a blur the blurred image, after downsampling the small one, with a mask the whole image,
    whatever is in the hole. Larger images than those of the run are covered by tiles.

    examples:
      scorefield restore runs/photos scratched.png --operator mask:scratches.png     white is the hole
      scorefield restore runs/photos erased.png --operator mask                      what is transparent is the hole
      scorefield restore runs/photos blurred.png --operator blur:2 --noise 5
      scorefield restore runs/photos small/ --operator downsample:4 --samples 4 --out large
      scorefield restore runs/photos scan.png --operator blur:1,downsample:2 --noise 3
      scorefield restore runs/photos whole.png --operator gray --simulate            damage it first, then compare
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE|FOLDER")]
    """What was measured: an image, a sound, a .npy, or a folder of them."""
    operator: Annotated[str, tyro.conf.arg(metavar="NAME:ARG,...", help=_Forms("What was done to it, in order."))]
    spec: Annotated[RestoreSpec, tyro.conf.arg(name="")] = HOW
    """How it is restored."""
    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER")] = None
    """What it should be: its PSNR and SSIM are reported."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A new folder; default FILE-restored beside it."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an earlier answer in that folder, if nothing in it has changed."""

    def run(self) -> None:
        """Restore, showing progress, what is known of the answers, and where they went."""
        from scorefield import app

        with Bar("restoring") as bar:
            report = app.restore(
                self.run_,
                self.source,
                self.operator,
                self.spec,
                out=self.out,
                reference=self.reference,
                force=self.force,
                progress=bar.at,
            )
        for one in report.answers[:20]:
            values = one.to_dict()
            known = "".join(f", {key.upper()} {values[key]:.4g}" for key in ("psnr", "ssim") if key in values)
            estimated = " (estimated)" if values["noise_estimated"] else ""
            print(
                f"{one.name}: noise {short(one.noise)}{estimated}, residual {values['residual']:.2f} (expected "
                f"{values['residual_expected']:.3g}){known}"
            )
        if len(report.answers) > 20:
            print(f"and {len(report.answers) - 20:,} more, all of them in restore.json")
        values = report.answers[0].to_dict()
        print(
            f"{values['samples']} samples each by {values['method']}, {values['evaluations']} evaluations:\n  {report.folder}"
        )
        for note in report.notes:
            print(f"  note: {note}")
