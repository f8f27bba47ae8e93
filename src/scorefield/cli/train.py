"""`scorefield train`: learn the score of a data source."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scorefield.cli.asked import Asked
from scorefield.cli.show import Bar, issue_lines
from scorefield.durations import duration

if TYPE_CHECKING:
    from scorefield.app import Plan, TrainReport
    from scorefield.training.reports import TrainingState


@dataclass
class Train(Asked):
    """Learn the score of your data and leave a self-describing run folder.

    examples:
      scorefield train digits --time 3m
      scorefield train two-moons --steps 3000 --seed 1
      scorefield train photos/ --out runs/photos --size 32 --flip --set training.batch=64
      scorefield train photos.zip --size 48x64 --fit pad --time 1h
      scorefield train digits --recipe ncsn --out runs/ncsn
      scorefield train digits --time 5m --resume
    """

    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the run; default runs/SOURCE."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --out."""

    def run(self) -> None:
        """Train, showing reasons, progress and where things went."""
        spec, asked = self.asked(), signals()
        with Bar("training") as bar:
            bar.at(0.0, "starting")
            from scorefield import app

            def show(fraction: float, text: str, event: Any) -> None:
                if event is None:
                    bar.at(fraction, text)
                elif isinstance(event, app.Plan):
                    _announce(event, bar)
                else:
                    _follow(event, text, bar)

            def stop() -> bool:
                bar.adapt()  # between two steps
                return bool(asked)

            report = app.train(
                self.source,
                spec,
                out=self.out,
                device=self.device,
                resume=self.resume,
                progress=show,
                stop=stop,
            )
        if report.ended == "stopped":
            print(
                f"{report.folder}: stopped at step {report.step} and saved; the same command with --resume goes on.",
                file=sys.stderr,
            )
            raise SystemExit(128 + (asked or [signal.SIGTERM])[0])  # under torchrun another process may have been asked
        _conclude(report, self.source)


def signals() -> list[int]:
    """Return a list that grows with each signal that asks for a stop; the training stops after its step."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        """Ask for a stop; a second signal stops at once."""
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return asked


def _announce(plan: Plan, bar: Bar) -> None:
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


def _follow(state: TrainingState, text: str, bar: Bar) -> None:
    """Say what the loop reports, and move the bar."""
    for message in state.messages:
        bar.say(f"  {message}")
    if state.event == "log":
        text = (
            f"step {state.step}, loss {state.loss:.4f} (held out {state.extra['held_out']:.4f}), "
            f"{state.images_per_second:,.0f} examples/s, {duration(state.seconds)} done, {duration(state.seconds_left)} left"
        )
        bar.at(state.fraction, text, now=state.fraction >= 1)
    elif state.event in ("choosing", "measuring"):
        bar.at(state.fraction, f"trained; {text}")


def _conclude(report: TrainReport, source: str) -> None:
    """Print how far it went, where things are, and what to do next."""
    if report.ended == "before":
        print(
            f"{report.folder} is finished ({report.step} steps, {duration(report.seconds)}): "
            "give it more with --time or --steps."
        )
    else:
        print(f"{report.folder}: {report.step} steps, {report.images:,} examples in {duration(report.seconds)}.")
        for path in report.written:
            print(f"  {path}")
    if report.hardly_begun:
        print(f"Now try: scorefield train {source} --out {report.folder} --resume --time 10m")
    else:
        print(f"Now try: scorefield sample {report.folder} -n 64")
