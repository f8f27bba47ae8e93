"""Sample: from a run to a picture, an array file, a folder of images, and an animation."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from scorefield import files, pictures
from scorefield.app.common import (
    Watch,
    choose_sampler,
    class_of,
    draw,
    field_of,
    labels_of,
    pick_device,
    picture_of,
    tuned_of,
    unwatched,
)
from scorefield.data.tables import csv_of, decode, parquet_of
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.randomness import Noise, stream_of
from scorefield.runs import Run, open_run
from scorefield.samplers import Moment, Sampler, curl

TABLES = (".csv", ".tsv", ".parquet", ".npy", ".png", ".npz")


@dataclass(frozen=True)
class SampleReport:
    """What was drawn and where it went.

    Attributes:
        written: the files.
        samples: how many.
        sampler: what drew them.
        levels: of noise.
        evaluations: of the network, for one sample.
        acceptance: of a sampler with Metropolis' test, (noise-to-signal ratio, mean acceptance, curl of the score) at up to
            ten of its levels; a curl well above 0 says that no density has this score, and what is sampled has no name.
        note: what a person should know about how it was drawn; None mostly.
    """

    written: tuple[Path, ...]
    samples: int
    sampler: Sampler
    levels: int
    evaluations: int
    acceptance: tuple[tuple[float, float, float], ...] = ()
    note: str | None = None


def _acceptance(
    field: Field, x: Tensor, told: Tensor | None, rates: tuple[float, ...], times: Tensor
) -> tuple[tuple[float, float, float], ...]:
    """Return (sigma/alpha, acceptance, curl) at about ten levels, the curl averaged over 64 samples noised to the level.

    `told`: the class of each sample, with which it was drawn and its score is looked at.
    """
    process, some, found = field.process, x[:64].to(times.device), []
    for j in sorted({round(k * (len(rates) - 1) / 9) for k in range(10)}):
        noise, t = Noise(range(len(some)), stream=stream_of("curl", j)), times[j].expand(len(some))
        turned = curl(field, process.perturb(some, t, noise.normal(some.shape[1:])), t, noise, cond=told).mean()
        ratio = float(process.sigma(times[j]) / process.alpha(times[j]))
        found.append((ratio, rates[j], float(turned)))
    return tuple(found)


class _Film:
    """Collects about 60 frames of the first samples: the state at a noise level, scaled back to the size of the data."""

    def __init__(self, run: Run, field: Field, shown: int) -> None:
        self.run, self.field, self.shown, self.frames = run, field, shown, list[Tensor]()

    def look(self, moment: Moment) -> None:
        every = math.ceil(moment.steps / 60)
        if moment.step % every and moment.step != moment.steps:
            return
        field = self.field
        x = moment.x[: self.shown].cpu()
        if moment.t > 0 or moment.step < moment.steps:
            # alpha·mean + std·(x - alpha·mean)/sqrt(alpha²·std² + sigma²): noise looks like noise, not like saturation.
            alpha, spread = field.process.prior(moment.t, field.data_std)
            mean = alpha * field.data_mean.cpu()
            x = mean + field.data_std * (x - mean) / spread
        self.frames.append(x)

    def picture(self, frame: Tensor, limits: tuple[float, float, float, float] | None) -> Image:
        raw = self.run.decode(frame)
        if self.run.kind == "image":
            return pictures.grid(self.run.affine.visible(raw), across=360)  # noise does not compress: small frames
        if self.run.kind == "signal":
            return pictures.lines(raw, limits=limits[2:] if limits else None)
        return pictures.scatter(raw.flatten(1), limits=limits)

    def gif(self) -> bytes:
        limits = None
        if self.run.kind != "image":
            ends = self.run.decode(self.frames[-1]).flatten(1)
            ends = ends.reshape(-1, 1) if self.run.kind == "signal" else ends[:, :2]
            low, high = ends.min(dim=0).values, ends.max(dim=0).values
            pad = (0.15 * (high - low)).clamp(min=1e-3)
            first, last = (low - pad).tolist(), (high + pad).tolist()
            limits = (first[0], last[0], first[-1], last[-1])
        return pictures.gif([self.picture(frame, limits) for frame in self.frames])


def _check_target(target: Path, as_folder: bool, kind: str, force: bool) -> None:
    """Refuse an `out` that cannot be written before anything is drawn."""
    endings = TABLES if kind == "table" else (".png", ".npz")
    known = f"{', '.join(endings[:-1])} or {endings[-1]}"
    if not as_folder and target.suffix not in endings:
        raise ScorefieldError(f"got --out {target}, expected a name ending in {known}, or a folder: change the ending")
    if as_folder and kind != "image":
        raise ScorefieldError(f"got --out {target}, a folder, for samples that are no images, expected {known}: change it")
    if target.exists() and target.is_dir() != as_folder:
        found, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise ScorefieldError(f"got --out {target}, where there is a {found}, expected a {wanted}: choose another name")
    files.refuse_existing(target, force, "something" if as_folder else "a file")
    if not target.resolve().parent.is_dir():
        raise ScorefieldError(f"got --out {target} in a folder that does not exist, expected one that does: make it first")


def sample(
    run: str | Path,
    *,
    n: int = 64,
    sampler: str | None = None,
    steps: int | None = None,
    ladder: str | None = None,
    temperature: float = 1.0,
    label: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    gif: bool = False,
    batch: int = 256,
    device: str = "auto",
    force: bool = False,
    watch: Watch = unwatched,
) -> SampleReport:
    """Draw samples from a trained run into a picture, an array file or a folder.

    Args:
        run: the run's folder.
        n: how many.
        sampler: its registered name; None for the run's own.
        steps: about how many sampling steps; None for the sampler's own number.
        ladder: name of the noise levels (geometric, karras, uniform, cauchy), or "optimised" for the sampler `adams` and its
            like: levels chosen for this run, at the cost of 64 evaluations of a batch; None for those that suit the sampler.
        temperature: below 1 for likelier samples, above 1 for more varied ones; see `guidance.Tempered` for what it does to
            modes, and for why it wants a sampler with Langevin steps.
        label: name of the class that all samples should have, of a run that was told classes; None for classes as often as in
            the training data.
        seed: the same seed gives the same samples and the same bytes.
        out: `.png` (a grid or a plot), `.npz` (an array: 8-bit pixels of images, vectors and signals in the data's own
            units), or a folder (one PNG each). Of a table `.csv`, `.tsv` or `.parquet` (its own columns and types), `.npy` or
            `.npz` (its coordinates, a category as one for each text). None for a picture, or a .csv, in the run.
        gif: also write an animation of the sampling, beside `out`.
        batch: how many at a time; changes memory, not samples.
        device: auto, cpu or cuda.
        force: overwrite what is there.
        watch: called after every step with the first index of the batch, its size, and the moment.

    Raises:
        ScorefieldError: no such run, sampler or ladder, a temperature that is not positive, a file in the way, an `out` that
            does not suit the data.
    """
    opened, where = open_run(run), pick_device(device)
    target = (
        Path(out).expanduser()
        if out is not None
        else opened.path / f"samples-seed{seed}{'.csv' if opened.kind == 'table' else '.png'}"
    )
    as_folder = target.suffix == "" or str(out).endswith(os.sep)
    _check_target(target, as_folder, opened.kind, force)
    film_path = target.resolve().with_suffix(".gif")
    if gif:
        files.refuse_existing(film_path, force)
    if opened.kind != "image" and (gif or target.suffix == ".png"):
        pictures.require_plots()
    if target.suffix == ".parquet":
        parquet_of({})  # without pyarrow, say so now
    if label is not None:
        class_of(opened, label)  # refused before anything is drawn
    chosen, times = choose_sampler(opened, sampler, steps, ladder, device=where, temperature=temperature, label=label)
    film = (
        _Film(opened, field_of(opened, where, temperature), min(n, {"image": 64, "signal": 16}.get(opened.kind, 2000)))
        if gif
        else None
    )
    evaluations, rates = 0, tuple[float, ...]()

    def look(first: int, count: int, moment: Moment) -> None:
        nonlocal evaluations, rates
        evaluations, rates = moment.evaluations, moment.info.acceptance
        if film and first == 0:
            film.look(moment)
        watch(first, count, moment)

    how: dict[str, Any] = {"seed": seed, "batch": batch, "device": where, "temperature": temperature, "label": label}
    x = draw(opened, n, chosen, times, **how, watch=look)
    raw, columns = opened.decode(x), opened.manifest["data"].get("columns")
    written = [target]
    if as_folder:
        target.mkdir(exist_ok=True)
        for old in target.glob("[0-9][0-9][0-9][0-9][0-9].png"):
            old.unlink()  # only with force: a smaller set must not keep pictures of a larger one
        for index, pixels in enumerate(pictures.to_pixels(opened.affine.visible(raw))):
            content = pictures.png(pictures.image(pixels if opened.shape[0] > 1 else pixels[..., 0]))
            files.write(target / f"{index:05d}.png", content)
    elif target.suffix == ".npz":
        buffer = io.BytesIO()
        if opened.kind == "image":
            pixels = pictures.to_pixels(opened.affine.visible(raw))
            told = labels_of(opened, range(n), seed=seed, label=label)
            arrays: dict[str, Any] = {"images": pixels if opened.shape[0] > 1 else pixels[..., 0]}
            arrays |= {} if told is None else {"labels": told.numpy(), "classes": np.array(opened.classes)}
            np.savez(buffer, **arrays)
        else:
            np.savez(buffer, x=raw.numpy().astype(np.float32))
        files.write(target, buffer.getvalue())
    elif target.suffix == ".npy":
        np.save(buffer := io.BytesIO(), raw.numpy().astype(np.float32))
        files.write(target, buffer.getvalue())
    elif target.suffix == ".parquet":
        files.write(target, parquet_of(decode(raw, columns)))
    elif target.suffix in (".csv", ".tsv"):
        files.write(target, csv_of(decode(raw, columns), "," if target.suffix == ".csv" else "\t"))
    else:
        files.write(target, pictures.png(picture_of(opened.kind, raw, opened.affine, columns)))
    if film:
        files.write(film_path, film.gif())
        written.append(film_path)
    told = labels_of(opened, range(min(n, 64)), seed=seed, label=label)
    accepted = _acceptance(field_of(opened, None, temperature), x, told, rates, times.cpu()) if rates else ()
    tuned, holds = tuned_of(opened) if (sampler, steps, ladder) == (None, None, None) else (None, True)
    stale = "it was tuned for other weights than it has now, so its recipe's own sampler drew: scorefield tune again"
    note = None if tuned is None or holds else stale
    return SampleReport(tuple(written), n, chosen, len(times), evaluations, accepted, note)
