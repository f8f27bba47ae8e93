"""Arrays: `.npy` and `.npz`, as numpy itself would write them."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield import files
from scorefield.outputs.base import Add, Output, Writer


def _header(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}


class _Npy(Writer):
    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """One array, as the source of the data would hold it: its axes, its type, its units."""
        run = output.run
        with files.together(), files.writing(output.path) as stream:
            np.lib.format.write_array_header_1_0(stream, _header((output.n, *run.layout.shape), run.layout.dtype))

            def add(raw: Tensor, labels: Tensor | None) -> None:
                stream.write(run.to_source(raw).tobytes())

            yield add


class _Npz(Writer):
    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """The array as the source would hold it, by its name there, else `images`, or `x` of other kinds; labels, `classes`."""
        run, classes = output.run, list[Tensor]()
        own = run.layout.header.get("key") if run.layout.format == "arrays" else None  # of a .npz
        name = own or ("images" if run.kind == "image" else "x")
        with files.together(), files.writing(output.path) as stream, zipfile.ZipFile(stream, "w") as archive:

            def put(name: str, array: Any) -> None:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array)

            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, _header((output.n, *run.layout.shape), run.layout.dtype))

                def add(raw: Tensor, labels: Tensor | None) -> None:
                    member.write(run.to_source(raw).tobytes())
                    classes.extend([] if labels is None else [labels])

                yield add
            if classes:
                put("labels", torch.cat(classes).numpy())
                put("classes", np.array(run.classes))


NPY, NPZ = _Npy(), _Npz()
