"""`scorefield tune`: which sampler, in how many evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scorefield.cli.show import Bar, places
from scorefield.durations import seconds_of
from scorefield.errors import ScorefieldError


@dataclass
class Tune:
    """Try samplers at rising numbers of evaluations; the cheapest that is as good as the best becomes the run's default.

    sample, evaluate and inspect use it, until training goes on. Writes sampling.json (the default) and tuning.md, .json and
    .png (what was measured) into the run's folder; for a run that cannot be written it prints the flags of the choice.

    examples:
      scorefield tune runs/digits
      scorefield tune runs/digits --samplers abm,heun,stochastic-abm --evaluations 10,20,40,80
      scorefield tune runs/digits --within 2% -n 2000
      scorefield tune runs/digits --forget            back to the recipe's own
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the data are that the run was trained on; default where they were."""
    samplers: Annotated[str | None, tyro.conf.arg(metavar="A,B,C")] = None
    """Which (see `scorefield list sampler`); default all that jump from level to level. Name Langevin ones: they are slow."""
    evaluations: Annotated[str | None, tyro.conf.arg(metavar="N,N,N")] = None
    """Of the network for one sample, at most; default 5,8,12,18,27,40, on the sampler's own ladder and an optimised one."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"], metavar="N")] = None
    """Samples from each candidate that is not dropped; default 512 images or volumes, 2048 of others, or fewer to stay within
    --time."""
    within: Annotated[str, tyro.conf.arg(metavar="5%")] = "5%"
    """How much of the best figure may be lost; a loss that chance explains is always allowed."""
    time: Annotated[str, tyro.conf.arg(metavar="3m")] = "3m"
    """About how long the drawing may take, where -n does not give a number."""
    seed: int = 0
    """Of the samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    forget: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go back to the recipe's own sampler, and measure nothing."""

    def run(self) -> None:
        """Tune, showing progress and the table; or forget."""
        evaluations, within, seconds = _numbers(self.evaluations), _share(self.within), seconds_of(self.time)
        from scorefield import app

        if self.forget:
            gone = app.forget_tuning(self.run_)
            print(f"{gone} is gone: {self.run_} is sampled as its recipe says." if gone else f"{self.run_} was not tuned.")
            return
        spec = app.TuneSpec(
            samplers=None if self.samplers is None else [name.strip() for name in self.samplers.split(",")],
            n=self.n,
            within=within,
            seconds=seconds,
            seed=self.seed,
            **({} if evaluations is None else {"evaluations": evaluations}),
        )
        try:
            with Bar("tuning") as bar:
                report = app.tune(self.run_, spec, data=self.data, device=self.device, progress=bar.at)
        except app.NotWritten as error:
            print(app.tuning_table(error.report))
            raise
        print(app.tuning_table(report))
        places(self.run_, report.written)


def _numbers(text: str | None) -> list[int] | None:
    """Read whole numbers between commas.

    >>> _numbers("5, 10,20")
    [5, 10, 20]
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ScorefieldError(f"got --evaluations {text!r}, expected whole numbers between commas: write 5,10,20")
    return [int(part) for part in parts]


def _share(text: str) -> float:
    """Read a share.

    >>> _share("5%"), _share("0.1")
    (0.05, 0.1)
    """
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ScorefieldError(f"got --within {text!r}, expected a share of the best figure: write 5% or 0.05") from None
