"""Tables as delimited text: `.csv` and `.tsv`, in their own columns and types."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scorefield import files
from scorefield.data.coordinates import decode
from scorefield.data.tables import csv_of
from scorefield.outputs.base import Add, Output, Writer


@dataclass(frozen=True)
class _Text(Writer):
    delimiter: str

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        columns = output.run.manifest["data"]["columns"]
        with files.together(), files.writing(output.path) as stream:

            def add(raw: Tensor, labels: Tensor | None) -> None:
                stream.write(csv_of(decode(raw, columns), self.delimiter, header=stream.tell() == 0))

            yield add


CSV, TSV = _Text(","), _Text("\t")
