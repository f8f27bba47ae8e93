"""An evaluation as one HTML page with its pictures inside; the page fetches nothing."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as resources

import torch
from PIL.Image import Image
from torch import Tensor

import scorefield
from scorefield import pictures
from scorefield.data.planes import PICTURED, planes
from scorefield.data.table.coordinates import decode
from scorefield.diagnosis import Diagnosis
from scorefield.drawing import picture_of
from scorefield.evaluation.reference import Reference
from scorefield.evaluation.report import QualityReport, columns, copying, source
from scorefield.evaluation.table_pictures import heat_map, histograms
from scorefield.evaluation.table_report import predicted, together
from scorefield.metrics.memorisation import MODEL_SPACE, Pair
from scorefield.randomness import subsample

IMAGES, POINTS = 100, 2000  # samples that are shown


def page(report: QualityReport, shown: Mapping[str, Image], pixels: bool, planes: str | None = None) -> str:
    """Return the report as one HTML page.

    Args:
        report: an evaluation.
        shown: pictures by place: samples, real, columns, dependence, pairs, levels.
        pixels: whether the examples are small images, which are shown pixel by pixel.
        planes: what of each example is shown; None where it is all.
    """
    from jinja2 import Environment

    template = resources("scorefield.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    inside = {name: base64.b64encode(pictures.png(picture)).decode() for name, picture in shown.items()}
    shares = [share.value for share in report.classes.values()] + list(report.real_classes.values())
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            report=report,
            pictures=inside,
            pixels=pixels,
            planes=planes,
            widest=max(shares, default=1.0) or 1.0,
            source=source(report),
            copying=copying(report),
            margins=columns(report),
            together=together(report.table),
            predicted=predicted(report.table),
            version=scorefield.__version__,
        )
    )


def pictures_of(report: QualityReport, reference: Reference, raw: Tensor) -> dict[str, Image]:
    """Return the page's pictures; one that cannot be made, as without matplotlib, is left out.

    Args:
        report: an evaluation.
        reference: the real examples.
        raw: the samples in the data's units, `(n, *shape)`.
    """
    shown, data = dict[str, Image](), reference.data
    count, found, diagnosis = IMAGES if data.kind in PICTURED else POINTS, report.memorisation, report.diagnosis

    def add(name: str, make: Callable[[], Image]) -> None:
        with contextlib.suppress(Exception):  # a page without a picture is better than no page
            shown[name] = make()

    def examples(rows: Tensor) -> Image:
        return picture_of(data, rows.double())

    if data.columns is None:
        add("samples", lambda: examples(raw[:count]))
        add("real", lambda: examples(data.held_out[subsample(len(data.held_out), count)]))
    else:
        columns, real = data.columns, data.held_out[reference.held_out_rows]
        add("columns", lambda: histograms(decode(raw, columns), decode(real, columns, exact=True)))
    pairs = None if report.table is None else report.table.dependence
    if pairs is not None:
        add("dependence", lambda: heat_map(pairs))
    if data.kind in PICTURED and found is not None:
        add("pairs", lambda: _pairs(reference, raw, found.spaces[MODEL_SPACE].closest))
    if diagnosis is not None:
        add("levels", lambda: _levels(diagnosis))
    return shown


def _pairs(reference: Reference, raw: Tensor, closest: Sequence[Pair]) -> Image:
    """Return samples above the training examples that are nearest to them."""
    data = reference.data
    train = data.train[reference.known_rows[[pair.training for pair in closest]]]
    both = torch.cat([raw[[pair.sample for pair in closest]].double(), train.double()])
    return pictures.grid(planes(both, data), columns=len(closest))


def _levels(found: Diagnosis) -> Image:
    """Return the plot of a diagnosis."""
    losses = {"training examples": found.training, "held-out examples": found.held_out}
    if found.optimum is not None:
        losses["memorising optimum, on training examples"] = found.optimum
    measures = {
        "calibration - 1": ([value - 1 for value in found.calibration], found.calibration_error),
        "curl": (found.curl, found.curl_error),
    }
    return pictures.diagnosis(found.noise, losses, measures, "error of the score by noise level")
