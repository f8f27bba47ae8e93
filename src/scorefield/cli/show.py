"""What the verbs share: progress as a bar in a terminal and as plain lines elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scorefield import launch
from scorefield.cores import Cores

if TYPE_CHECKING:
    from rich.progress import Progress

    from scorefield.data.base import DataIssue


def issue_lines(issues: Sequence[DataIssue], most: int) -> list[str]:
    """Return at most `most` lines on what is wrong with the data, and one more on how many others there are.

    Neighbours with the same cause share a line.
    """
    lines, shown = list[str](), 0
    for cause, alike in itertools.groupby(issues, key=lambda issue: issue.cause):
        if len(lines) == most:
            break
        names = [issue.where for issue in alike]
        more = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
        lines.append(f"{', '.join(names[:4])}{more}: {cause}")
        shown += len(names)
    return lines + [f"and {len(issues) - shown:,} more"] * (shown < len(issues))


def places(run: Path, written: Sequence[Path]) -> None:
    """Print the files of a report, and a note when none of them could be written into the run."""
    for path in written:
        print(f"  {path}")
    if not any(path.parent == run.expanduser() for path in written):
        print(f"note: {run} cannot be written, so nothing was written there", file=sys.stderr)


class Bar:
    """A progress bar in a terminal; elsewhere one plain line every few seconds."""

    def __init__(self, title: str, every: float = 5.0, keep: bool = True) -> None:
        """Start a bar from 0 to 1 called `title`; plain lines come at most every `every` seconds.

        With `keep` the bar stays when it is done.
        """
        self.title, self.every, self.spoke = title, every, time.monotonic()
        self.cores = Cores()
        self.bar: Progress | None = None
        if sys.stderr.isatty() and launch.is_first():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}% {task.fields[text]}"),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=not keep)
            self.task = self.bar.add_task(title, total=1.0, text="")

    def __enter__(self) -> Bar:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def at(self, fraction: float, text: str, now: bool = False) -> None:
        """Show the share that is done; `now` prints a plain line even if the last one is recent."""
        self.adapt()
        if self.bar:
            self.bar.update(self.task, completed=fraction, text=text)
        elif now or time.monotonic() - self.spoke >= self.every:
            self.spoke = time.monotonic()
            tell(f"{self.title} {fraction:4.0%} {text}")

    def adapt(self) -> None:
        """Give the work as many threads as there are free cores; say so when their number changes."""
        if changed := self.cores.adapt():
            self.say(changed)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.bar:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            tell(text)

    def view(self, fraction: float, text: str, _event: Any) -> None:
        """Show the share that is done; the event is not shown."""
        self.at(fraction, text)


def tell(text: str) -> None:
    """Print a line to standard error; a terminal that was closed, or a pipe without a reader, does not end the work.

    Of several processes the first one prints.
    """
    if launch.is_first():
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
