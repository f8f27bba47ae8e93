"""Given: rows of a table that are drawn with some of their columns known: p(the others | age = 40, smoker = yes).

A value is read as its column is written in the run's table: numbers in its style, days in its form or as 2023-01-31, true and
false also as yes and no, texts as they are. Beyond the rows that trained the run by more than a tenth of their range, taken
after the column's transform if it has one, the network has learned nothing, and the value is refused.

Row i is drawn with seed i, in the way in which holes are filled (`settled.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.data.base import format_number
from scorefield.data.table.columns import Column, typed, width
from scorefield.data.table.coordinates import encode
from scorefield.data.table.evidence import interpreted
from scorefield.data.table.frames import of_mapping
from scorefield.data.table.partial import DATES, reach_of
from scorefield.data.table.series import Series
from scorefield.data.text import cells
from scorefield.data.text.written import spelling
from scorefield.distribution import World
from scorefield.errors import NotFinite, ScorefieldError, unknown
from scorefield.guidance.conditional import FEWEST
from scorefield.imputation.settled import PAIRS, drawn_of, settled
from scorefield.outputs.base import Output
from scorefield.progress import Progress, Stages, Viewer, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run
from scorefield.specs import SampleSpec

FEW = 2.0  # particles that count, below which a row is unlike all that the run has seen
BEYOND = 0.1  # of the range of a column's training rows: what is further out is refused
WORDS = {"true": True, "yes": True, "y": True, "1": True, "false": False, "no": False, "n": False, "0": False}  # of booleans
KINDS = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "date": "a day", "datetime": "a moment"}


def values_of(given: Mapping[str, Any] | Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Return column -> value, of such a mapping or of texts COLUMN=VALUE.

    Args:
        given: what a person gave.
        known: names of columns, which may have = in them.

    Raises:
        ScorefieldError: a text without =, a column that is not known (with a did-you-mean), or given twice.

    >>> values_of(("age=40", "a=b=c"), ("age", "a=b"))
    {'age': '40', 'a=b': 'c'}
    """
    found = dict[str, Any]()
    pairs = list(given.items()) if isinstance(given, Mapping) else [_pair(text, known) for text in given]
    for name, value in pairs:
        if name not in known:
            raise unknown("column of --given", str(name), known)
        if name in found:
            raise ScorefieldError(
                f"got --given for {name!r} twice, {found[name]} and {value}, expected one value: leave one out"
            )
        found[name] = value
    return found


def _pair(text: str, known: Sequence[str]) -> tuple[str, str]:
    """Return the column and the value of a text COLUMN=VALUE; the longest known name counts."""
    if "=" not in text:
        raise ScorefieldError(f"got --given {text}, expected COLUMN=VALUE: write --given {text if text in known else 'age'}=40")
    named = [name for name in known if text.startswith(f"{name}=")]
    name = max(named, key=len, default=text.partition("=")[0].strip())
    return name, text[len(name) + 1 :] if named else text.partition("=")[2]


@dataclass(frozen=True, eq=False)
class Given:
    """What all rows have in common.

    Attributes:
        run: an opened run of a table.
        row: coordinates in the data's own units, `(d,)`, float64, NaN where nothing is given.
        columns: of the run, which hold just the given values where there are some.
        said: the values in words, "age = 40, smoker = yes".
    """

    run: Run
    row: Tensor
    columns: list[Column]
    said: str

    @classmethod
    def asked(cls, run: Run, spec: SampleSpec, *, gif: bool) -> Given:
        """Return what a spec gives; raises `ScorefieldError` for a run of no table, and for what cannot be had with it."""
        if run.kind != "table":
            raise ScorefieldError(
                f"got --given for {run.path}, a run of {run.kind}s, expected one that learned from a table: leave it out"
            )
        plain = SampleSpec()
        others = [one.name for one in fields(spec) if one.name not in ("given", "seed")]
        if found := [*(name for name in others if getattr(spec, name) != getattr(plain, name)), *["gif"] * gif]:
            flag = f"--{found[0].replace('_', '-')}"
            raise ScorefieldError(
                f"got {flag} with --given, whose rows are drawn as holes are filled, expected one of the two: leave {flag} out"
            )
        return cls.of(run, spec.given)

    @classmethod
    def of(cls, run: Run, given: Mapping[str, Any] | Sequence[str]) -> Given:
        """Read the values; raises `ScorefieldError` for a column that the run does not have, and a value that none can have."""
        columns: list[Column] = run.manifest["data"]["columns"]
        values = values_of(given, [column["name"] for column in columns])
        parts, own, said = list[Tensor](), list[Column](), list[str]()
        for column in columns:
            if column["name"] in values:
                one = _read(values[column["name"]], column)
                parts.append(torch.from_numpy(encode(one, column))[0])
                own.append(_fixed(one, column))
                said.append(f"{column['name']} = {_spelled(one.values[0], own[-1])}")
            else:
                parts.append(torch.full((width(column),), math.nan, dtype=torch.float64))
                own.append(column)
        return cls(run, torch.cat(parts), own, ", ".join(said))

    @property
    def shown(self) -> Run:
        """The run with these columns: written by it, given values are exactly what was given."""
        return replace(self.run, manifest={**self.run.manifest, "data": {**self.run.manifest["data"], "columns": self.columns}})

    def write(self, n: int, seed: int, world: World, *, batch: int, output: Output | None, progress: Viewer) -> str | None:
        """Draw n rows into an output of `shown`; return what a person should know of them.

        Of the processes that draw together the first has the output.
        """
        for name, value in (("samples to draw", n), ("rows at a time", batch)):
            if value < 1:
                raise ScorefieldError(f"got {value} {name}, expected at least 1: ask for more")
        about = {"seed": seed, "given": self.said, "model_sha256": self.run.manifest.get("model_sha256")}
        drawn = self.batches(n, seed, world, batch=batch, progress=lambda done, text: progress(done, text, None))
        shares = list[Tensor]()
        if output is None:
            deque(drawn, maxlen=0)
            return None
        with output.writing(about) as add:
            for rows, share in drawn:
                add(rows, None)
                shares.append(share)
        weak = float((torch.cat(shares) * FEWEST).median()) < FEW
        unlike = f"hardly any draw fits {self.said}: together they are unlike all the run has seen"
        return "; ".join(filter(None, [output.left_out(), unlike if weak else None])) or None

    def batches(
        self, n: int, seed: int, world: World, *, batch: int, progress: Progress = silent
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows, `(batch, d)` in the data's own units, and the share of the particles that count, `(batch,)`; n in all.

        Of the processes that draw together the first yields them all, in order.
        """
        stages = Stages(progress if world.first else silent, measuring=4.0 * PAIRS, drawing=float(n))
        way = world.from_first(lambda: settled(self.run, world.device, stages("measuring")).way)
        drawing, known = stages("drawing"), self.row.isfinite()

        def drawn(numbers: range) -> tuple[Tensor, Tensor]:
            rng = SampleRng(numbers, stream=stream_of("given", seed), device=world.device)
            together = min(world.size * len(numbers), n - numbers.start)  # with what the others draw meanwhile

            def view(fraction: float, text: str) -> None:
                done = (numbers.start + fraction * together) / n
                drawing(done, f"rows {numbers.start} to {numbers.start + together - 1}, {text}")

            rows = self.row.expand(len(numbers), -1)
            one, effective = drawn_of(self.run, rows, 1, rng, way=way, whole=False, progress=view)
            return torch.where(known, self.row, one[0]), effective

        for _, (rows, share) in world.in_order(n, batch, drawn):
            yield rows, share


def _read(value: Any, column: Column) -> Series:
    """Return a value as a series of one row, of the column's type, that the run can be asked about."""
    name, here = column["name"], f"--given {column['name']}={value}"
    if column["type"] == "category":
        texts = [text for text in column.get("values", [column.get("constant")]) if text is not None]
        if str(value) not in texts:
            raise unknown(f"text of --given {name}", str(value), texts)
        return Series(name, "category", np.array([str(value)], dtype=object))
    expected = f"expected {KINDS[column['type']]}: write --given {name}={_spelled(_example(column), column)}"
    number = _number(value, column)
    whole = column["type"] in ("integer", "boolean")
    if not math.isfinite(number) or (whole and number != round(number)):
        raise ScorefieldError(f"got {here}, {expected}")
    if "constant" in column:
        if typed(number, column) != typed(_example(column), column):
            raise ScorefieldError(f"got {here}, expected the one value that it has in the run's table: leave it out")
    elif column["type"] == "boolean":
        if number not in (0, 1):
            raise ScorefieldError(f"got {here}, {expected}")
    elif number not in column.get("atoms", []):
        low, high = reach_of(column, BEYOND)
        if not low <= number <= high:
            ends = " to ".join(_spelled(column[end], column) for end in ("low", "high"))
            seen = " or ".join([*(_spelled(atom, column) for atom in column.get("atoms", [])), ends])
            raise ScorefieldError(
                f"got {here}, expected a value like those of the run's table ({seen}), or at most {BEYOND:.0%} of their range "
                "outside it: what lies further out was never seen, so choose another"
            )
    return Series(name, column["type"], np.array([number]))


def _number(value: Any, column: Column) -> float:
    """Return the number that a value stands for in a column; NaN for none."""
    try:
        series = _series_of(value, column)
        found = [] if series is None else interpreted([series], [column], None)[0]
    except NotFinite:
        return math.inf
    for one in found:
        if one.type == "date" and column["type"] == "datetime":
            return float(one.values[0]) * 86_400
        if one.type == column["type"] or not {one.type, column["type"]} & {*DATES, "category"}:
            return float(one.values[0])
    return math.nan


def _series_of(value: Any, column: Column) -> Series | None:
    """Return a value as it reads in the style of the column, or by itself; None where it means nothing."""
    name = column["name"]
    if not isinstance(value, str):
        return next(iter(of_mapping({name: [value]}, "--given")[0]), None)
    text = value.strip()
    if column["type"] == "boolean":
        return Series(name, "boolean", np.array([float(WORDS.get(text.lower(), math.nan))]))
    plain = {key: said for key, said in column.items() if key != "text"}
    read = (cells.series_of(cells.Column(name, [text], [1], known=known), []) for known in (column, plain))
    return next((one for one in read if one.type != "category"), None)


def _fixed(one: Series, column: Column) -> Column:
    """Return a column that holds one value and nothing else."""
    number = one.values[0]
    if "constant" in column or column["type"] in ("category", "boolean") or number in column.get("atoms", []):
        return column
    text = {key: said for key, said in column.get("text", {}).items() if key not in ("places", "trim")}
    on_grid = column["type"] != "number" or float(_spelled(number, {**column, "text": {}})) == number
    kept = {key: said for key, said in column.items() if key not in ("step", "levels", "digits", "transform")}
    return {**kept, "low": float(number), "high": float(number), "text": column.get("text", {}) if on_grid else text}


def _example(column: Column) -> Any:
    """Return a number that a column has."""
    if "constant" in column:
        value = column["constant"]
        return value if isinstance(value, int | float) else float(bool(value))
    return column["low"]


def _spelled(number: Any, column: Column) -> str:
    """Return a value as a person writes it."""
    if column["type"] == "category":
        return str(number)
    value = typed(float(number), column)
    return format_number(value) if isinstance(value, float) else spelling(column)(value)
