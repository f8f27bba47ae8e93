"""Files of the formats that data come in: one for all samples, or for a single one, with what of its header still holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scorefield import files
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import Add, Output, Writer


class _OfFormat(Writer):
    def check(self, output: Output) -> None:
        form = output.form
        assert form, "the type of the output is that of a format"
        if form.one_a_file and output.n > 1:
            raise ScorefieldError(
                f"got {output.n} samples for {output.path}, a file that holds one, expected a folder: name one, such as "
                f"--out {output.path.with_suffix('').stem}, or ask for -n 1"
            )
        form.check(str(output.path), output.run.layout)

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        form, parts = output.form, list[Tensor]()
        assert form, "check refuses it"
        with files.placing(output.path) as path:
            yield lambda raw, labels: parts.append(raw)
            samples = output.run.to_source(torch.cat(parts))
            form.write(str(path), samples[0] if form.one_a_file else samples, output.run.layout)


WRITER = _OfFormat()
