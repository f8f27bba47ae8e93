"""`scorefield denoise`: what a noisy image or signal was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.durations import short
from scorefield.specs import DenoiseSpec

HOW = flags(DenoiseSpec, sigma="auto|X|X%", samples="N", label="CLASS")
SHOWN = 20


@dataclass
class Denoise:
    """Remove noise from images or signals: the mean of what they may have been, a map of doubt, and samples.

    The noise is Gaussian, equal in all pixels; how much of it there is, is estimated or stated. NAME-low and NAME-high are the
    ends of the interval that holds each number in 90 % of all cases. Pixels that were clipped to the legal range or masked are
    allowed for. Larger images than those of the run are covered by tiles.

    examples:
      scorefield denoise runs/photos dark.png
      scorefield denoise runs/photos dark.png --sigma 20               grey levels of 255, as the file has them
      scorefield denoise runs/photos dark.png --sigma 8%               of the legal range
      scorefield denoise runs/photos scans/ --samples 8 --out clean
      scorefield denoise runs/photos noisy.png --reference clean.png   and how near the answer is
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE|FOLDER")]
    """What is noisy: an image, a sound, a .npy, or a folder of them."""
    spec: Annotated[DenoiseSpec, tyro.conf.arg(name="")] = HOW
    """How it is denoised."""
    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER")] = None
    """What it should be: PSNR and SSIM are reported."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A new folder; default FILE-denoised beside it."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace an earlier answer in that folder, if nothing in it has changed."""

    def run(self) -> None:
        """Denoise, showing progress, how much noise there was, and where the answers went."""
        from scorefield import app

        with Bar("denoising") as bar:
            report = app.denoise(
                self.run_,
                self.source,
                self.spec,
                out=self.out,
                reference=self.reference,
                force=self.force,
                progress=bar.at,
            )
        for one in report.answers[:SHOWN]:
            values = one.to_dict()
            error = values["sigma_standard_error"]
            estimated = (
                ""
                if not values["sigma_estimated"]
                else " (estimated)"
                if error is None
                else f" ± {short(error, 2)} (estimated)"
            )
            near = "".join(
                f", {key.upper()} {values[f'{key}_noisy']:.4g} -> {values[key]:.4g}"
                for key in ("psnr", "ssim")
                if values.get(key) is not None and values.get(f"{key}_noisy") is not None
            )
            held = "" if one.within is None else f", {one.within:.0%} inside the 90 % intervals"
            noise = f"sigma {short(one.sigma)}{estimated}, {values['sigma_unit']}"
            print(f"{one.name}: {noise}; std {short(values['std_mean'])}{near}{held}")
        if len(report.answers) > SHOWN:
            print(f"and {len(report.answers) - SHOWN:,} more, all of them in denoise.json")
        print(f"  {report.folder}")
        for note in report.notes[:SHOWN]:
            print(f"  note: {note}")
