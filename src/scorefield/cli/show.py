"""What the verbs share: progress as a bar in a terminal and as plain lines elsewhere, and durations as people write them."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from scorefield.errors import ScorefieldError

if TYPE_CHECKING:
    from rich.progress import Progress

    from scorefield.data.base import DataIssue

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Read a duration: 90, 90s, 3m, 1.5h or 1h30m.

    >>> seconds_of("3m"), seconds_of("1h30m"), seconds_of("45")
    (180.0, 5400.0, 45.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", text.strip().lower())
    whole = "".join(number + unit for number, unit in parts) == text.strip().lower()
    if not parts or not whole or (len(parts) > 1 and not all(unit for _, unit in parts)):
        raise ScorefieldError(
            f"got --time {text!r}, expected a duration such as 90s, 3m or 1h30m: write a number and s, m or h"
        )
    total = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    if total <= 0:
        raise ScorefieldError(f"got --time {text!r}, expected more than 0 seconds: give it more")
    return total


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


def size_of(text: str) -> int | tuple[int, int]:
    """Read the size of images: a side, or height x width.

    >>> size_of("64"), size_of("48x64")
    (64, (48, 64))
    """
    sides = re.fullmatch(r"([1-9]\d*)(?:\s*[x,]\s*([1-9]\d*))?", text.strip().lower())
    if sides is None:
        raise ScorefieldError(f"got --size {text!r}, expected a side or height x width: write 64 or 48x64")
    height, width = sides.groups()
    return (int(height), int(width)) if width else int(height)


def interval_of(text: str) -> tuple[float, float]:
    """Read an interval of noise levels, LOW,HIGH.

    >>> interval_of("0.2,5"), interval_of("1, inf")
    ((0.2, 5.0), (1.0, inf))
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ScorefieldError(
            f"got --guidance-interval {text!r}, expected two noise levels LOW,HIGH: write them with a comma, as 0.2,5"
        ) from None
    return low, high


class Bar:
    """A progress bar in a terminal; elsewhere one plain line every few seconds."""

    def __init__(self, title: str, every: float = 5.0, keep: bool = True) -> None:
        """Start a bar from 0 to 1 called `title`; plain lines come at most every `every` seconds.

        With `keep` the bar stays when it is done.
        """
        self.title, self.every, self.spoke = title, every, time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
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
        if self.bar:
            self.bar.update(self.task, completed=fraction, text=text)
        elif now or time.monotonic() - self.spoke >= self.every:
            self.spoke = time.monotonic()
            tell(f"{self.title} {fraction:4.0%} {text}")

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
    """Print a line to standard error; a terminal that was closed, or a pipe without a reader, does not end the work."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
