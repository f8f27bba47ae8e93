"""Handwritten digits that no training saw, repaired by a run that a person trained for 8 minutes.

    halves       one half of each digit is hidden. A judge, a classifier trained on the training images, names the digit from
                 the intact image, from the visible half with the mean image of the training data in the rest, and from 8
                 repaired samples: each, and by their majority. Some halves are those of several digits: then the samples
                 should show more than one reading, the true one among them.
    blur         sigma 1.5 pixels, then noise of .1 of the range: the mean of 8 samples beside Wiener's filter (scikit-image),
                 whose one parameter is the best of 25 for each image by the intact image itself
    downsample   by 4, noise of .01: the mean of 8 samples beside bicubic interpolation

PSNR is that of the range [0, 1]. Spread is the standard deviation of the 8 samples, root mean square over the hidden numbers,
and over the seen ones. The method is that of `scorefield restore`, a filter for each sample. No setting changes between
measurements.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.store import Cells, Values, table
from scorefield import SampleRng
from scorefield.field import Field, ScoreModel
from scorefield.guidance import posterior_sample
from scorefield.metrics.judge import Judge, train_judge
from scorefield.moments import Moments
from scorefield.operators import parse
from scorefield.pictures import grid
from scorefield.randomness import stream_of, subsample
from scorefield.restoration import method_of
from scorefield.runs import open_run

SIDES = ("left", "right", "top", "bottom")
TASKS = {**{f"mask:{side}": 0.0 for side in SIDES}, "blur:1.5": 0.1, "downsample:4": 0.01}
SAMPLES, SHOWN, JUDGED, MEASURED = 8, 6, 30_000, 20_000


def images_of(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images `(n, 1, 28, 28)` in [-1, 1], float32, and labels."""
    with np.load(folder / f"mnist_{part}.npz") as file:
        return torch.from_numpy(file["images"]).float()[:, None] / 127.5 - 1, torch.from_numpy(file["labels"]).long()


def with_moments(field: ScoreModel, data: Tensor) -> ScoreModel:
    """Return a run's field with the moments of its training data: the run's own, or, of an older run, those measured here."""
    if field.moments is None:
        field.moments = Moments.of_data(data[:MEASURED])
    return field


class Workshop:
    """What all cells share: the field, the judge, the mean image, and held-out digits in a fixed random order."""

    def __init__(self, run: Path, data: Path, keep: Path) -> None:
        opened = open_run(run)
        images, labels = images_of(data, "train")
        self.field: Field = with_moments(opened.field, images)
        self.mean = images.mean(dim=0)
        path = keep / "judge.pt"
        if not path.exists():
            chosen = subsample(len(images), JUDGED)
            keep.mkdir(parents=True, exist_ok=True)
            torch.save(train_judge(images[chosen], labels[chosen], steps=600, strides=(1, 2)).state_dict(), path)
        self.judge = Judge(1, 10, (1, 2)).eval()
        self.judge.load_state_dict(torch.load(path))
        self.images, self.labels = images_of(data, "test")
        self.order = SampleRng(range(len(self.images)), stream=stream_of("held-out digits")).uniform().argsort()
        self.keep = keep

    @torch.no_grad()
    def named(self, images: Tensor) -> list[int]:
        return [int(v) for v in self.judge.classify(images.float().clamp(-1, 1))]


def psnr(x: Tensor, truth: Tensor) -> float:
    """Return that of images in [-1, 1], cut to it, with a range of 2."""
    return 10 * math.log10(4 / float((x.double().clamp(-1, 1) - truth.double()).square().mean()))


def wiener(y: Tensor, truth: Tensor) -> Tensor:
    """Return scikit-image's Wiener filter at its best balance for this very image."""
    from skimage.restoration import wiener as filtered

    place = torch.arange(-7, 8, dtype=torch.float64)
    kernel = torch.exp(-(place**2) / (2 * 1.5**2))
    psf = (kernel[:, None] * kernel / kernel.sum() ** 2).numpy()
    padded = np.pad((y[0].numpy() + 1) / 2, 8, mode="reflect")
    answers = [filtered(padded, psf, 10**balance, clip=False)[8:-8, 8:-8] * 2 - 1 for balance in np.linspace(-4, 2, 25)]
    return max((torch.from_numpy(answer)[None] for answer in answers), key=lambda answer: psnr(answer, truth))


def one(shop: Workshop, task: str, index: int, settings: dict[str, Any]) -> Values:
    """Repair one digit, and judge it."""
    which = int(shop.order[index])
    truth, label = shop.images[which].double(), int(shop.labels[which])
    operator, s = parse(task), 2 * TASKS[task]  # of a range of 2
    y = operator(truth[None])[0]
    y = y + s * SampleRng([which], stream=stream_of(task)).normal(tuple(y.shape))[0]
    method = dataclasses.replace(method_of("auto"), **settings)
    rng = SampleRng(range(SAMPLES), stream=stream_of("repair", which))
    found = posterior_sample(shop.field, operator, y, s, rng=rng, method=method)
    samples = found.x.clamp(-1, 1)
    mean = found.x.mean(dim=0)
    values: Values = {
        "label": label,
        "intact": shop.named(truth[None])[0],
        "samples": shop.named(samples),
        "of_mean": shop.named(mean[None])[0],
        "psnr": psnr(mean, truth),
        "residual": float(found.residual.square().mean().sqrt()),
        "effective": float(found.effective.double().nanmedian()),
    }
    if task.startswith("mask"):
        seen = operator.adjoint(torch.ones_like(y)[None], (1, 28, 28))[0] > 0
        start = torch.where(seen, truth, shop.mean.double())
        spread = found.x.std(dim=0)
        values["filled"] = shop.named(start[None])[0]
        values["spread_seen"], values["spread_hidden"] = (
            float(spread[part].square().mean().sqrt()) / 2 for part in (seen, ~seen)
        )
        values["off_seen"] = float((found.x - truth)[:, seen].square().mean().sqrt()) / 2
    elif task.startswith("blur"):
        start = y
        values["other"] = psnr(wiener(y, truth), truth)
    else:
        start = F.interpolate(y[None], (28, 28), mode="bicubic")[0]
        values["other"] = psnr(start, truth)
    if index < SHOWN:
        name = f"{task.replace(':', '-')}-{index}.pt"
        torch.save(torch.cat([truth[None], start[None], mean[None], samples]).float(), shop.keep / name)
    return values


def measure(cells: Cells, run: Path, data: Path, keep: Path, count: int, tasks: list[str], settings: dict[str, Any]) -> None:
    """Repair `count` digits by every task; the first ones of all tasks come first, so that a stopped run has some of each."""
    shop: list[Workshop] = []

    def opened() -> Workshop:
        if not shop:
            shop.append(Workshop(run, data, keep))
        return shop[0]

    for index in range(count):
        for task in tasks:
            key = {"task": task, "index": index, "settings": json.dumps(settings), "run": run.name}
            if cells._name(key) not in cells.cells:
                opened()
            cells(key, lambda task=task, index=index: one(opened(), task, index, settings))  # type: ignore[misc]


def report(cells: Cells) -> list[str]:
    """Return the tables."""
    lines: list[str] = []
    for run, settings in dict.fromkeys((key["run"], key["settings"]) for key, _ in cells.where()):
        lines += [f"## Run {run}, settings {settings}", "", *_halves(cells, run, settings), *_others(cells, run, settings)]
    return lines


def _halves(cells: Cells, run: str, settings: str) -> list[str]:
    rows, everything = [], list[Values]()
    for side in (*SIDES, "all"):
        found = everything if side == "all" else [v for _, v in cells.where(task=f"mask:{side}", run=run, settings=settings)]
        everything = everything if side == "all" else everything + found
        if not found:
            continue

        def share(test: Any, found: list[Values] = found) -> str:
            return f"{100 * sum(bool(test(v)) for v in found) / len(found):.1f} %"

        def mean(part: str, found: list[Values] = found) -> float:
            return sum(v[part] for v in found) / len(found)

        def majority(v: Values) -> int:
            return max(range(10), key=v["samples"].count)

        each = 100 * sum(v["samples"].count(v["label"]) for v in found) / (SAMPLES * len(found))
        intact = sum(v["intact"] == v["label"] for v in found)
        repaired = sum(majority(v) == v["label"] for v in found)
        rows.append(
            (
                *(side, len(found), share(lambda v: v["intact"] == v["label"]), share(lambda v: v["filled"] == v["label"])),
                *(f"{each:.1f} %", share(lambda v: majority(v) == v["label"]), f"**{repaired / max(intact, 1):.2f}**"),
                *(
                    share(lambda v: len(set(v["samples"])) > 1),
                    share(lambda v: len(set(v["samples"])) > 1 and v["label"] in v["samples"]),
                ),
                *(share(lambda v: v["label"] in v["samples"]), f"{mean('off_seen'):.4f}", f"{mean('spread_seen'):.4f}"),
                *(
                    f"{mean('spread_hidden'):.3f}",
                    f"{mean('psnr'):.1f}",
                    f"{mean('effective'):.2f}",
                    f"{mean('cpu_seconds'):.1f}",
                ),
            )
        )
    columns = [
        *("hidden", "digits", "intact", "mean fill", "each sample", "majority of 8", "over intact", "several readings"),
        *("and the true one", "true one among 8", "error where seen", "spread where seen", "spread where hidden"),
        *("PSNR of the mean", "effective", "seconds"),
    ]
    note = "Shares are of digits that the judge names rightly. Errors and spreads are in units of the range [0, 1]."
    return ["### Hidden halves", "", note, "", *table(columns, rows)] if rows else []


def _others(cells: Cells, run: str, settings: str) -> list[str]:
    rows = []
    for task, other in (("blur:1.5", "Wiener, best balance"), ("downsample:4", "bicubic")):
        found = [v for _, v in cells.where(task=task, run=run, settings=settings)]
        if not found:
            continue
        margins = torch.tensor([v["psnr"] - v["other"] for v in found], dtype=torch.float64)
        error = float(margins.std()) / math.sqrt(len(margins)) if len(margins) > 1 else math.nan
        named = 100 * sum(v["of_mean"] == v["label"] for v in found) / len(found)
        rows.append(
            (
                *(f"`{task}`", f"{TASKS[task]:g}", len(found), f"{sum(v['psnr'] for v in found) / len(found):.2f}"),
                *(
                    f"{sum(v['other'] for v in found) / len(found):.2f} ({other})",
                    f"**{float(margins.mean()):+.2f}** ± {error:.2f}",
                ),
                *(f"{100 * float((margins > 0).double().mean()):.0f} %", f"{named:.0f} %"),
                *(
                    f"{sum(v['residual'] for v in found) / len(found):.2f}",
                    f"{sum(v['cpu_seconds'] for v in found) / len(found):.1f}",
                ),
            )
        )
    columns = [
        *(
            "measurement",
            "noise",
            "digits",
            "PSNR of our mean, dB",
            "of the other",
            "margin",
            "better on",
            "mean named rightly",
        ),
        *("residual", "seconds"),
    ]
    return ["### Blur and downsampling", "", *table(columns, rows)] if rows else []


def picture(keep: Path, out: Path) -> Path | None:
    """Draw the first digits of every task, a row each: intact, what was measured (filled, enlarged), the mean, 8 samples."""
    rows = [
        torch.load(path)
        for task in TASKS
        for index in range(SHOWN)
        if (path := keep / f"{task.replace(':', '-')}-{index}.pt").exists()
    ]
    if not rows:
        return None
    grid((torch.cat(rows).clamp(-1, 1) + 1) / 2, columns=len(rows[0]), across=1400).save(out)
    return out
