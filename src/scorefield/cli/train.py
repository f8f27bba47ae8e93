"""`scorefield train`: learn the score of a data source."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated, Any, Literal

import tyro

from scorefield.cli.show import Bar, clock, issue_lines, seconds_of
from scorefield.errors import ScorefieldError


@dataclass
class Train:
    """Learn the score of your data and leave a self-describing run folder.

    examples:
      scorefield train digits --time 3m
      scorefield train two-moons --steps 3000 --seed 1
      scorefield train photos/ --out runs/photos --size 32 --flip --set training.batch=64
      scorefield train photos.zip --size 48x64 --fit pad --time 1h
      scorefield train digits --recipe ncsn --out runs/ncsn
      scorefield train digits --time 5m --resume
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A built-in name (see `scorefield list source`: digits, two-moons, ...), a folder or .zip of images, tar shards, or a
    .npy/.npz file."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the run; default runs/SOURCE."""
    time: Annotated[str | None, tyro.conf.arg(metavar="3m")] = None
    """Train at most this long: 90s, 3m, 1h30m. Default 3m when there is no --steps either."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train at most this many steps."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """What chooses everything else: auto (the default), ncsnv2, ncsn (see `scorefield list recipe`)."""
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
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --out."""

    def run(self) -> None:
        """Train, showing reasons, progress and where things went."""
        seconds = seconds_of(self.time) if self.time is not None else None
        asked: list[int] = []

        def ask(number: int, frame: FrameType | None) -> None:
            """Stop after this step, where the state is whole; a second signal stops at once."""
            if asked:
                raise KeyboardInterrupt
            asked.append(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask)
        from scorefield import app
        from scorefield.training.reports import TrainingState

        with Bar("training") as bar:

            def show(_fraction: float, _text: str, event: Any) -> None:
                if isinstance(event, app.Plan):
                    _announce(event, bar)
                elif isinstance(event, TrainingState):
                    for message in event.messages:
                        bar.say(f"  {message}")
                    if event.event == "log":
                        text = (
                            f"step {event.step}, loss {event.loss:.4f} (held out {event.extra['held_out']:.4f}), "
                            f"{event.images_per_second:,.0f} examples/s, {clock(event.seconds)} done, "
                            f"{clock(event.seconds_left)} left"
                        )
                        bar.at(event.fraction, text, now=event.fraction >= 1)
                    elif event.event == "looking":
                        bar.at(event.fraction, "trained; measuring the error by noise level")

            report = app.train(
                self.source,
                out=self.out,
                seconds=seconds,
                steps=self.steps,
                recipe=self.recipe,
                settings=(*self._of_images(), *self.set),
                seed=self.seed,
                device=self.device,
                resume=self.resume,
                progress=show,
                stop=lambda: bool(asked),
            )
        if report.ended == "stopped":
            print(
                f"{report.folder}: stopped at step {report.step} and saved; the same command with --resume goes on.",
                file=sys.stderr,
            )
            raise SystemExit(128 + (asked or [signal.SIGTERM])[0])  # under torchrun another process may have been asked
        if report.ended == "before":
            print(
                f"{report.folder} is finished ({report.step} steps, {clock(report.seconds)}): "
                "give it more with --time or --steps."
            )
        else:
            print(f"{report.folder}: {report.step} steps, {report.images:,} examples in {clock(report.seconds)}.")
            for path in report.written:
                print(f"  {path}")
        if report.hardly_begun:
            print(f"Now try: scorefield train {self.source} --out {report.folder} --resume --time 10m")
        else:
            print(f"Now try: scorefield sample {report.folder} -n 64")

    def _of_images(self) -> Iterator[str]:
        """Yield the flags on images as settings; --set, which comes after them, wins."""
        if self.size is not None:
            parts = self.size.lower().split("x")
            if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
                raise ScorefieldError(f"got --size {self.size!r}, expected pixels: write 32, or height x width as 48x64")
            yield f"data.size={','.join(parts)}"
        if self.fit is not None:
            yield f"data.fit={self.fit}"
        if self.flip:
            yield "data.flip=true"


def _announce(plan: Any, bar: Bar) -> None:
    """Say what the data are and what was chosen, with reasons."""
    data = plan.data
    shape = " x ".join(str(n) for n in data.shape)
    bar.say(f"{data.name}: {len(data.train)} training and {len(data.held_out)} held-out examples of shape {shape}")
    for note in data.notes:
        bar.say(f"  {note}")
    for warning in plan.warnings:
        bar.say(f"  warning: {warning}")
    for line in issue_lines(plan.issues, 10):
        bar.say(f"  {line}")
    bar.say(f"recipe {plan.config.recipe}, {plan.parameters:,} parameters, into {plan.folder}")
    for reason in plan.why:
        bar.say(f"  {reason}")
