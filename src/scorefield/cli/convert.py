"""`scorefield convert`: one noise level, and one prediction, in the conventions of every paper."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scorefield.cli.flags import flags
from scorefield.specs import NoiseLevelSpec, PointSpec

if TYPE_CHECKING:
    from scorefield.app import ConvertReport

LEVEL = flags(NoiseLevelSpec, **{field.name: "X" for field in dataclasses.fields(NoiseLevelSpec)})
POINT = flags(PointSpec, **{field.name: "X" for field in dataclasses.fields(PointSpec)})


@dataclass
class Convert:
    """Say one noise level in the conventions of every paper; with --x and a view of a prediction there, say all other views.

    Give exactly one number of the noise level. The process is x_t = alpha·x0 + sigma·noise, noise a draw of N(0, I).

    examples:
      scorefield convert ve --sigma 0.5
      scorefield convert ddpm-chain --timestep 500
      scorefield convert vp --set beta_max=12 --log-snr 0
      scorefield convert runs/digits --t 0.3
      scorefield convert rectified-flow --t 0.25 --x 1.2 --velocity -0.4
      scorefield convert ve --sigma 0.5 --json
    """

    process: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROCESS|RUN")]
    """A process, such as ve, vp, ddpm-chain (see `scorefield list process`), or a run's folder, whose own is taken."""
    level: Annotated[NoiseLevelSpec, tyro.conf.arg(name="")] = LEVEL
    """The noise level."""
    point: Annotated[PointSpec, tyro.conf.arg(name="")] = POINT
    """A prediction."""
    settings: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")] = ()
    """Change a setting of the process, such as sigma_max=80; may be repeated."""
    data_std: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Standard deviation of the data, for EDM's coefficients and weight; default the run's own, or EDM's 0.5."""
    tau: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Length of a Langevin step, x + tau·score + sqrt(2·tau)·z; default NCSN's, 0.2·sigma²."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print everything as JSON, with all digits."""

    def run(self) -> None:
        """Print a table for each kind of convention."""
        from scorefield import app

        report = app.convert(self.process, self.level, self.point, settings=self.settings, data_std=self.data_std, tau=self.tau)
        if self.json:
            print(json.dumps(report.to_dict(), indent=2))
        else:
            _show(report)


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.6g}"


def _rows(value: Any) -> list[tuple[str, str, str]]:
    """Return name, number and text of every field."""
    return [(field.name, _number(getattr(value, field.name)), field.metadata["text"]) for field in dataclasses.fields(value)]


def _show(report: ConvertReport) -> None:
    """Print names, numbers and where else they are so called, one a line."""
    parts = [("noise level", report.level), ("EDM", report.preconditioning), ("Langevin step", report.langevin)]
    parts += [("prediction", report.views)] if report.views is not None else []
    print(report.process)
    for title, value in parts:
        print(f"\n{title}")
        for name, number, text in _rows(value):
            print(f"  {name:<16}{number:>13}  {text}")
    print(f"\nweights on the squared error of  {'the score':>13}{'the noise':>13}{'denoised':>13}")
    for name, weight in report.weights.items():
        print(f"  {name:<31}{''.join(f'{_number(value):>13}' for value in dataclasses.astuple(weight))}")
