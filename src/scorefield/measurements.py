"""Measurements: what a person's files are under an operator: how they are read, of which sample, with how much noise at least.

A file of a measurement has one of the shapes that the operator says (`Operator.shapes_of_file`): a small image after
downsampling, the whole image for a mask, and the picture itself for a JPEG file, whose coefficients are more numbers than its
pixels. The sample then is of the run's own size, or of a multiple of it, of which the file is the measurement as well.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError
from scorefield.inputs import Item, check_size, read_items
from scorefield.operators import Operator
from scorefield.runs import Run

STEP = 2 / 255  # of 8 bits, in model space
LARGER = 16  # times the side of what was measured, at most, is the side of a sample


def read_measured(run: Run, source: Any, operator: Operator) -> list[Item]:
    """Return the items of a measurement, of its own channels, or of a row of numbers."""
    try:
        shapes = operator.shapes_of_file(run.shape)
    except ScorefieldError:
        return read_items(run, source)  # of a larger size, perhaps: `shape_of` says what is wrong
    for shape in shapes[:-1]:
        try:
            return read_items(run, source, shape)
        except ScorefieldError:
            continue  # it may have the next one
    return read_items(run, source, shapes[-1])


def shape_of(run: Run, operator: Operator, item: Item) -> tuple[int, ...]:
    """Return the shape of the sample of which a file is the measurement: the run's, or a larger one."""
    size = tuple(item.raw.shape)
    larger = [(run.shape[0], *(f * side for side in size[1:])) for f in range(1, LARGER + 1)] if len(run.shape) > 1 else []
    for shape in (run.shape, *larger):
        if len(shape) != len(run.shape):
            continue
        try:
            if size in operator.shapes_of_file(shape):
                return shape
        except ScorefieldError:
            continue
    wanted = operator.shapes_of_file(run.shape)[-1]  # says what is wrong with the operator itself
    sample = "x".join(map(str, run.shape))
    check_size(item, wanted, "the size of the run's data" if wanted == run.shape else f"what {operator} makes of {sample}")
    raise AssertionError("one of the sizes differs")


def extent_of(run: Run, shape: tuple[int, ...], reference: Tensor | None) -> float:
    """Return the peak of PSNR and SSIM: the span of the range that the run maps to [-1, 1], 255 of 8-bit images.

    Data without a range, such as signals, are mapped to mean 0 and variance 1: the peak then is that of their reference, from
    its smallest number to its largest.
    """
    mapped = 2 * float(run.normaliser.scales(shape).max())
    if run.kind in ("image", "volume") or reference is None:
        return mapped
    known = reference[~reference.isnan()]
    return float(known.max() - known.min()) or mapped


def rounding_of(run: Run, item: Item) -> float:
    """Return the standard deviation of rounding, in the units of a file: to whole numbers, or of other files to 8 bits."""
    if item.layout.type.kind in "iu":
        return 1 / math.sqrt(12)
    return STEP * float(run.normaliser.scales(run.shape).mean() / item.unit.mean()) / math.sqrt(12)


def target_of(run: Run, item: Item, shape: tuple[int, ...]) -> Item:
    """Return what an answer is written as: the item, with the channels of a sample."""
    if len(item.raw) == shape[0] and item.raw.ndim == len(shape):
        return item
    ones = torch.ones(shape[0], *(1 for _ in shape[1:]), dtype=torch.float64)
    if item.raw.ndim != len(shape):
        layout = replace(run.layout, dtype=item.layout.dtype, format="", header={})
        return replace(item, layout=layout, unit=ones, offset=0 * ones, ending=".npy")
    plain = Layout.plain(run.kind, shape)
    kept = item.ending if item.ending != ".png" or item.layout.dtype == "uint8" else ".npy"
    layout = Layout(plain.axes, item.layout.dtype, plain.shape, format=item.layout.format, header=item.layout.header)
    return replace(item, layout=layout, unit=item.unit[:1] * ones, offset=item.offset[:1] * ones, ending=kept)
