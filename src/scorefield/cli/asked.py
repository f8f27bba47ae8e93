"""What `train` and `plan` are asked for on the command line: the flags of a `TrainSpec`, as people write them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from scorefield import registry
from scorefield.cli.flags import flags
from scorefield.durations import seconds_of
from scorefield.specs import TrainSpec, size_of


class _Sources(str):
    """What can be learned from, found when the help is shown: the formats are not imported before."""

    def __call__(self) -> str:
        from scorefield.data import known_sources

        found: str = known_sources()
        return found


def _recipes(_default: str) -> str:
    """Return the names of the recipes, without importing them."""
    return f"({', '.join(registry.written('recipe'))}; default auto, or the run's own when it goes on)"


SPEC = flags(
    TrainSpec,
    seconds=(tyro.conf.Suppress,),  # it is --time
    size=(tyro.conf.Suppress,),  # it is a text below
    steps="N",
    recipe=(tyro.conf.arg(metavar="NAME", help_behavior_hint=_recipes),),
    settings=(tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")),
    seed="N",
    flip=(tyro.conf.FlagCreatePairsOff,),
)


@dataclass
class Asked:
    """The flags that `train` and `plan` share."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE", help=_Sources("What to learn from."))]
    time: Annotated[str | None, tyro.conf.arg(metavar="3m")] = None
    """Train at most this long: 90s, 3m, 1h30m. Default 3m when there is no --steps either."""
    size: Annotated[str | None, tyro.conf.arg(metavar="32|48x64")] = None
    """Images: side, or height x width, in pixels; default: theirs if all have one, else chosen from the data."""
    spec: Annotated[TrainSpec, tyro.conf.arg(name="")] = SPEC
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def asked(self) -> TrainSpec:
        """Return what is asked for, with time and size as numbers."""
        return replace(
            self.spec,
            seconds=seconds_of(self.time) if self.time is not None else None,
            size=size_of(self.size) if self.size is not None else None,
        )
