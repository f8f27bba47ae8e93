"""Export: a run for other libraries, or to share. `interchange/` writes the files; this verb makes the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scorefield import files
from scorefield.errors import ScorefieldError, unknown
from scorefield.interchange.to_diffusers import to_diffusers
from scorefield.interchange.to_hub import to_hub
from scorefield.interchange.to_onnx import to_onnx
from scorefield.runs import open_run

TARGETS = ("diffusers", "hub", "onnx")


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        folder: where it is.
        target: diffusers, hub or onnx.
        files: their paths in the folder.
        difference: the largest between outputs of the exported model and of the run, in units of the largest number where
            that is above 1; None where nothing could run it, or the weights are the run's own.
        opset: of an ONNX file, else None.
    """

    folder: Path
    target: str
    files: tuple[str, ...]
    difference: float | None
    opset: int | None


def export(run: str | Path, to: str, *, out: str | Path | None = None, license: str | None = None) -> ExportReport:
    """Write a trained run for another library, or to share; the run stays as it is.

    What is written is compared with the run first, and refused if it gives other numbers. A distilled run is exported to ONNX
    as its generator.

    Args:
        run: the folder of a trained run.
        to: "onnx" for one file with the denoiser; "diffusers" for a pipeline folder that its schedulers draw from; "hub" for
            the run itself with a model card, without paths of this machine.
        out: the new folder; None for RUN-onnx, RUN-diffusers or RUN-hub beside the run.
        license: of the weights, for the card of "hub".

    Raises:
        ScorefieldError: an unknown target (with a did-you-mean), a run that has no weights or that the target cannot hold, a
            missing library, `out` in use, a licence for another target. Nothing is written then.
    """
    if to not in TARGETS:
        raise unknown("export target", to, TARGETS)
    if license is not None and to != "hub":
        raise ScorefieldError(
            f"got --license {license!r} for --to {to}, which has no model card, expected --to hub: leave it out"
        )
    opened = open_run(run)
    own = opened.path.absolute()
    folder = files.new_folder(out, own.with_name(f"{own.name}-{to}"))
    difference: float | None = None
    opset: int | None = None
    with files.placing(folder) as place:
        place.mkdir()
        if to == "onnx":
            difference, opset = to_onnx(opened, place)
        elif to == "diffusers":
            difference = to_diffusers(opened, place)
        else:
            to_hub(opened, place, license)
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return ExportReport(folder, to, tuple(written), difference, opset)
