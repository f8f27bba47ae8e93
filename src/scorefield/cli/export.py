"""`scorefield export`: a run for other libraries, or to share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Export:
    """Write a trained run for another library, or to share. The run stays as it is.

    onnx is one file that needs only onnxruntime; diffusers a pipeline folder that its schedulers draw from; hub the run itself
    with a model card, without paths of this machine. Outputs are compared with the run's own before anything is put in place.

    examples:
      scorefield export runs/digits --to onnx
      scorefield export runs/digits --to diffusers --out pipelines/digits
      scorefield export runs/digits --to hub --license apache-2.0
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    to: Annotated[str, tyro.conf.arg(metavar="onnx|diffusers|hub")]
    """What for."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The new folder; default RUN-onnx, RUN-diffusers or RUN-hub beside the run."""
    license: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of the weights, for the model card of hub, as apache-2.0; default none, and the card says so."""

    def run(self) -> None:
        """Export, and say what was written and how far it is from the run."""
        from scorefield import app

        report = app.export(self.run_, self.to, out=self.out, license=self.license)
        print(f"{report.folder}:")
        for name in report.files:
            print(f"  {name}")
        if report.opset is not None:
            print(f"opset {report.opset}, float32, any batch size; inputs x, sigma, label and what else to know: model.json")
        if report.target == "onnx" and report.difference is None:
            print('Not compared with the run, because there is no onnxruntime: pip install "scorefield[interchange]"')
        elif report.difference is not None:
            print(f"Its outputs differ by at most {report.difference:.1g} from the run's.")
        print(
            {"hub": f"Now try: scorefield sample {report.folder} -n 16"}.get(
                report.target, "How to draw: docs/guides/interchange.md"
            )
        )
