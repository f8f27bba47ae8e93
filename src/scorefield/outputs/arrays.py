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


def float_bytes(raw: Tensor) -> bytes:
    """Return numbers as the bytes of float32."""
    return raw.numpy().astype(np.float32).tobytes()


class _Npy(Writer):
    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """One array, float32 in the data's own units."""
        with files.together(), files.writing(output.path) as stream:
            np.lib.format.write_array_header_1_0(stream, _header((output.n, *output.run.shape), np.float32))

            def add(raw: Tensor, labels: Tensor | None) -> None:
                stream.write(float_bytes(raw))

            yield add


class _Npz(Writer):
    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """`images`, 8-bit, or `x`, float32 in the data's own units; and, of labelled data, `labels` and the names `classes`."""
        run, is_image, classes = output.run, output.run.kind == "image", list[Tensor]()
        name, shape = "x", run.shape
        if is_image:
            name, shape = "images", (*run.shape[1:], *(3,) * (run.shape[0] > 1))
        with files.together(), files.writing(output.path) as stream, zipfile.ZipFile(stream, "w") as archive:

            def put(name: str, array: Any) -> None:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array)

            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, _header((output.n, *shape), np.uint8 if is_image else np.float32))

                def add(raw: Tensor, labels: Tensor | None) -> None:
                    member.write(output.pixels(raw).tobytes() if is_image else float_bytes(raw))
                    classes.extend([] if labels is None else [labels])

                yield add
            if classes:
                put("labels", torch.cat(classes).numpy())
                put("classes", np.array(run.classes))


NPY, NPZ = _Npy(), _Npz()
