"""What `train` and `plan` are asked for on the command line: the flags of a `TrainSpec`, as people write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from scorefield import registry
from scorefield.cli.show import seconds_of, size_of
from scorefield.specs import TrainSpec


class _Sources(str):
    """What can be learned from, found when the help is shown: the formats are not imported before."""

    def __call__(self) -> str:
        from scorefield.data import known_sources

        found: str = known_sources()
        return found


def _recipes(_default: str) -> str:
    """Return the names of the recipes, without importing them."""
    return f"({', '.join(registry.written('recipe'))}; default auto, or the run's own when it goes on)"


@dataclass
class Asked:
    """The flags that `train` and `plan` share."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE", help=_Sources("What to learn from."))]
    time: Annotated[str | None, tyro.conf.arg(metavar="3m")] = None
    """Train at most this long: 90s, 3m, 1h30m. Default 3m when there is no --steps either."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train at most this many steps."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint=_recipes)] = None
    """What chooses everything else."""
    size: Annotated[str | None, tyro.conf.arg(metavar="32|48x64")] = None
    """Images: side, or height x width, in pixels; default: theirs if all have one, else chosen from the data."""
    fit: Literal["crop", "pad", "stretch"] | None = None
    """Images of another shape: keep the centre (crop, the default), keep everything (pad), or give up the aspect ratio."""
    flip: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Images: show training each one mirrored left to right half of the time."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = field(default=())
    """Change one setting of the run, as dotted.key=value; may be repeated. Keys are those of the run's config.json."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Of weights, data order and noise; default 0."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def spec(self) -> TrainSpec:
        """Return what is asked for."""
        return TrainSpec(
            seconds=seconds_of(self.time) if self.time is not None else None,
            steps=self.steps,
            recipe=self.recipe,
            settings=tuple(self.set),
            seed=self.seed,
            size=size_of(self.size) if self.size is not None else None,
            fit=self.fit,
            flip=self.flip,
        )
