"""Tables as `.dta` of Stata and `.sav` of SPSS: labels, titles and formats of the source come back; it needs pyreadstat."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
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
    ".dta": re.compile(
        r"(?!(byte|int|long|float|double|str\d+|strL|if|in|using|with|_all|_b|_coef|_cons|_n|_N|_pi|_pred|_rc|_skip)$)"
        r"[A-Za-z_]\w{0,31}",
        re.ASCII,
    ),
    ".sav": re.compile(r"[A-Za-z@][\w@#$.]{0,63}", re.ASCII),
}
EPOCH = date(1960, 1, 1)  # of Stata
LONGEST = 2045  # bytes of a text that is no long one
MOST_HEAD, NAME, FORMAT = (
    2**13,
    140,
    57,
)  # bytes of a file of version 118: before its columns; of each before the formats; of one
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
        if self.ending == ".dta":
            _put_dta(pandas, path, table, columns, labels)
            return
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


def _put_dta(pandas: Any, path: str, table: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], labels: Any) -> None:
    """Write a file of Stata by pandas, which keeps byte, int, long and float; pyreadstat makes long and double of them."""
    stored = {one["name"]: one.get("stored", {}) for one in columns}
    labels = {name: said for name, said in labels.items() if all(number == int(number) for number in said)}
    frame = pandas.DataFrame({one["name"]: _stata(pandas, _values(pandas, table[one["name"]], one), one) for one in columns})
    moments = {one["name"]: "td" if one["type"] == "date" else "tc" for one in columns if frame[one["name"]].dtype.kind == "M"}
    frame.to_stata(
        path,
        write_index=False,
        version=118,
        compression=None,
        convert_dates=moments,
        convert_strl=[name for name in frame if frame[name].dtype == object and max(map(_bytes, frame[name])) > LONGEST],
        variable_labels={name: said["title"][:80] for name, said in stored.items() if "title" in said},
        value_labels={name: {int(number): text for number, text in said.items()} for name, said in labels.items()},
    )
    formats = [said["format"] if OWN["write_dta"].fullmatch(said.get("format", "")) else "" for said in stored.values()]
    with open(path, "r+b") as stream:  # pandas has no argument for the formats: 57 bytes a column, behind their mark
        first = stream.read(MOST_HEAD + NAME * len(formats)).index(b"<formats>") + len(b"<formats>")
        for i, text in enumerate(formats):
            if text:
                stream.seek(first + FORMAT * i)
                stream.write(text.encode()[: FORMAT - 1].ljust(FORMAT, b"\0"))


def _bytes(text: str) -> int:
    return len(text.encode())


def _stata(pandas: Any, values: Any, column: Mapping[str, Any]) -> Any:
    """Return a column as pandas writes it for Stata: whole numbers with gaps in their own type, days and times as moments."""
    stored = column.get("stored", {})
    if stored.get("as") == "time":
        return pandas.to_datetime([None if value is None else datetime.combine(EPOCH, value) for value in values])
    if column["type"] == "date" and stored.get("as") != "yyyymmdd":
        return pandas.to_datetime(values)
    kind = "int8" if column["type"] == "boolean" else stored.get("type", "")
    if values.dtype == "float64" and re.fullmatch(r"u?int\d+", kind):
        return values.astype(kind.replace("int", "Int").replace("uI", "UI"))
    return values


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
