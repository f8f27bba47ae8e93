"""Tables as `.dta` of Stata and `.sav` of SPSS: labels, titles and formats of the source come back; it needs pyreadstat."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield import files
from scorefield.data.extras import require
from scorefield.data.table.coordinates import decode
from scorefield.data.table.labelled import EXTRA
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import Add, Output, Writer

NAMES = {  # of columns
    ".dta": re.compile(r"[A-Za-z_]\w{0,31}", re.ASCII),
    ".sav": re.compile(r"[A-Za-z@][\w@#$.]{0,63}", re.ASCII),
}
OWN = {"write_dta": re.compile(r"%.*"), "write_sav": re.compile(r"[A-Z]+\d+(\.\d+)?")}  # formats of the program


@dataclass(frozen=True)
class _Labelled(Writer):
    ending: str
    write: str

    def check(self, output: Output) -> None:
        for module in ("pyreadstat", "pandas"):
            require(module, EXTRA, output.path.name)
        for column in output.run.manifest["data"]["columns"]:
            if not NAMES[self.ending].fullmatch(column["name"]):
                raise ScorefieldError(
                    f"got a column {column['name']!r} for {output.path}, expected a name of letters, digits and _ as a "
                    f"{self.ending} file has them: rename it and train again, or write a .csv"
                )

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        columns, parts = output.run.manifest["data"]["columns"], list[Tensor]()
        with files.placing(output.path) as path:
            yield lambda raw, labels: parts.append(raw)
            self.put(str(path), decode(torch.cat(parts), columns), columns)

    def put(self, path: str, table: Mapping[str, list[Any]], columns: Sequence[Mapping[str, Any]]) -> None:
        """Write columns with what the source said of them."""
        pandas, pyreadstat = (require(module, EXTRA, path) for module in ("pandas", "pyreadstat"))
        stored = {one["name"]: one.get("stored", {}) for one in columns}
        labels = {
            name: {number: text for text, number in said["labels"].items()} for name, said in stored.items() if "labels" in said
        }
        frame = pandas.DataFrame({one["name"]: _values(pandas, table[one["name"]], one) for one in columns})
        getattr(pyreadstat, self.write)(
            frame,
            path,
            column_labels={name: said.get("title") for name, said in stored.items()},
            variable_value_labels=labels,
            variable_format={
                name: said["format"] for name, said in stored.items() if OWN[self.write].fullmatch(said.get("format", ""))
            },
        )


def _values(pandas: Any, values: Sequence[Any], column: Mapping[str, Any]) -> Any:
    """Return the values of a column as pyreadstat writes them."""
    stored = column.get("stored", {})
    values = [stored["mark"] if value is None and "mark" in stored else value for value in values]
    gaps = any(value is None for value in values)
    if column["type"] == "category":
        if "labels" not in stored:
            return pandas.Series(["" if value is None else str(value) for value in values], dtype=object)
        values = [None if value is None else stored["labels"][value] for value in values]
    elif column["type"] == "datetime":
        return pandas.to_datetime([None if value is None else value.replace(tzinfo=None) for value in values])
    elif (column["type"] == "date" and stored.get("as") != "yyyymmdd") or stored.get("as") == "time":
        return pandas.Series(list(values), dtype=object)
    elif stored.get("as") == "duration":
        values = [None if value is None else value.total_seconds() for value in values]
    whole = all(value is None or isinstance(value, int) for value in values)
    kind = stored.get("type", "int64" if whole and column["type"] != "boolean" else "float64")
    if column["type"] == "boolean":
        kind = "int8"
    return pandas.Series(list(values), dtype="float64" if gaps and kind != "float32" else kind)


DTA, SAV = _Labelled(".dta", "write_dta"), _Labelled(".sav", "write_sav")
