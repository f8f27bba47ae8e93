"""Tables as delimited text, packed by gzip or not, in their own columns and types, in the style of the file they came from."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

from torch import Tensor

from scorefield import files
from scorefield.data.table.coordinates import decode
from scorefield.data.text.written import text_of
from scorefield.outputs.base import Add, Output, Writer


class _Text(Writer):
    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        data = output.run.manifest["data"]
        columns, name = data["columns"], output.path.name.lower()
        ending = f".{name.removesuffix('.gz').rpartition('.')[2]}"
        head, rows = text_of(columns, data.get("style"), ending)
        with files.together(), files.writing(output.path) as file, contextlib.ExitStack() as stack:
            stream = file
            if name.endswith(".gz"):  # without a name and a time, so that the same samples are the same bytes
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
                stream = cast(BinaryIO, stack.enter_context(packed))
            stream.write(head)

            def add(raw: Tensor, labels: Tensor | None) -> None:
                stream.write(rows(decode(raw, columns)))

            yield add


WRITER = _Text()
