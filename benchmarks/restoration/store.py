"""What was measured, kept cell by cell: a stopped run goes on where it was, and a report is made from what there is."""

from __future__ import annotations

import datetime
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

Values = dict[str, Any]


class Cells:
    """Results by key in a file of JSON lines; a line is written as soon as it is measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.cells: dict[str, Values] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            cell = json.loads(line)
            self.cells[self._name(cell["key"])] = cell

    @staticmethod
    def _name(key: Values) -> str:
        return json.dumps(key, sort_keys=True)

    def __call__(self, key: Values, measure: Callable[[], Values]) -> Values:
        """Return the values at a key: those in the file, or those that are measured now, with the seconds they took."""
        if self._name(key) not in self.cells:
            wall, cpu = time.perf_counter(), time.process_time()
            values = measure()
            took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            cell = {"key": key, "values": took | values}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cell) + "\n")
            self.cells[self._name(key)] = cell
            print(f"{self.path.stem} {' '.join(str(v) for v in key.values())}: {took['seconds']:.1f} s", flush=True)
        found: Values = self.cells[self._name(key)]["values"]
        return found

    def where(self, **wanted: Any) -> list[tuple[Values, Values]]:
        """Return (key, values) of every cell whose key has these values."""
        pairs = ((cell["key"], cell["values"]) for cell in self.cells.values())
        return [(key, values) for key, values in pairs if all(key.get(k) == v for k, v in wanted.items())]


def head(title: str, command: str, about: str) -> list[str]:
    """Return the first lines of a report: when, on what and how it was measured."""
    place = f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    return [f"# {title}", "", f"{datetime.date.today()}, {place}.", f"`{command}`", "", about.strip(), ""]


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return a Markdown table."""
    names = list(columns)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return [*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows), ""]


def median(values: Iterable[float]) -> float:
    """Return the median of the numbers that are finite; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def verdict(passed: bool) -> str:
    return "yes" if passed else "**NO**"
