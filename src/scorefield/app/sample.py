"""Sample: from a run to a picture, an array file, a folder of images, and an animation."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorefield import files, outputs, pictures
from scorefield.drawing import Batch, Drawing, class_of, field_of, pick_device, trained, tuned_of
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.progress import Viewer, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run, open_run
from scorefield.samplers import Sampler, Snapshot, curl
from scorefield.specs import ComputeSpec, SampleSpec

LOOKED_AT = 64  # samples, for the curl of the score
FRAME = 2**20  # pixels of the images in one frame of an animation
COMMENT = "made by scorefield sample"  # in an animation, which is how it is known to be no other's


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
    """Return (sigma/alpha, acceptance, curl) at about ten levels, the curl averaged over some samples, noised to the level.

    `told`: the class of each sample, with which it was drawn and its score is looked at.
    """
    process, some, found = field.process, x[:LOOKED_AT].to(times.device), []
    for j in sorted({round(k * (len(rates) - 1) / 9) for k in range(10)}):
        rng, t = SampleRng(range(len(some)), stream=stream_of("curl", j)), times[j].expand(len(some))
        turned = curl(field, process.perturb(some, t, rng.normal(some.shape[1:])), t, rng, cond=told).mean()
        ratio = float(process.sigma(times[j]) / process.alpha(times[j]))
        found.append((ratio, rates[j], float(turned)))
    return tuple(found)


class _Film:
    """Collects about 60 frames of the first samples: the state at a noise level, scaled back to the size of the data."""

    def __init__(self, run: Run, field: Field, n: int) -> None:
        self.run, self.field = run, field
        self.shown = min(n, {"image": 64, "signal": pictures.SIGNALS}.get(run.kind, 2000))
        if run.kind == "image":  # of large ones fewer: sixty frames are in memory at once
            self.shown = max(1, min(self.shown, FRAME // math.prod(run.shape[1:])))
        self.grids, self.parts = dict[int, pictures.Grid](), dict[int, list[Tensor]]()  # by step, from every batch

    def look(self, first: int, snapshot: Snapshot) -> None:
        every = math.ceil(snapshot.steps / 60)
        if first >= self.shown or (snapshot.step % every and snapshot.step != snapshot.steps):
            return
        field = self.field
        x = snapshot.x[: self.shown - first].cpu()
        if snapshot.t > 0 or snapshot.step < snapshot.steps:
            # alpha·mean + std·(x - alpha·mean)/sqrt(alpha²·std² + sigma²): noise looks like noise, not like saturation.
            alpha, spread = field.process.prior(snapshot.t, field.data_std)
            mean = alpha * field.data_mean.cpu()
            x = mean + field.data_std * (x - mean) / spread
        raw = self.run.decode(x)
        if self.run.kind == "image":
            _, height, width = self.run.shape
            grid = pictures.Grid(self.shown, height, width, across=360)  # noise does not compress: small frames
            self.grids.setdefault(snapshot.step, grid).place(first, self.run.normaliser.visible(raw))
        else:
            seen = raw if self.run.kind == "signal" else raw.flatten(1)[:, :2].clone()
            self.parts.setdefault(snapshot.step, []).append(seen)

    def gif(self) -> bytes:
        if self.run.kind == "image":
            return pictures.gif([grid.image() for grid in self.grids.values()], comment=COMMENT)
        frames = [torch.cat(parts) for parts in self.parts.values()]
        ends = frames[-1].reshape(-1, 1) if self.run.kind == "signal" else frames[-1]
        low, high = ends.min(dim=0).values, ends.max(dim=0).values
        pad = (0.15 * (high - low)).clamp(min=1e-3)
        first, last = (low - pad).tolist(), (high + pad).tolist()
        if self.run.kind == "signal":
            shown = [pictures.lines(frame, limits=(first[0], last[0])) for frame in frames]
        else:
            limits = (first[0], last[0], first[-1], last[-1])
            shown = [pictures.scatter(frame, limits=limits) for frame in frames]
        return pictures.gif(shown, comment=COMMENT)


def _check_film(path: Path, force: bool) -> None:
    """Refuse to write an animation over a file that is none of ours: nobody named it, it lies beside what was named."""
    files.refuse_existing(path, force, option="--gif, which goes to")
    if path.exists() and COMMENT.encode() not in path.read_bytes():
        raise ScorefieldError(
            f"got --gif, which goes to {path}, a file that scorefield sample did not write, expected a free name or one of its "
            "own animations: move it away, or choose another --out"
        )


def sample(
    run: str | Path,
    spec: SampleSpec = SampleSpec(),  # noqa: B008  # it is frozen
    compute: ComputeSpec = ComputeSpec(),  # noqa: B008
    *,
    n: int = 64,
    out: str | Path | None = None,
    gif: bool = False,
    force: bool = False,
    progress: Viewer = silent,
) -> SampleReport:
    """Draw samples from a trained run into a picture, an array file or a folder.

    Args:
        run: the run's folder.
        n: how many.
        sampler: its registered name; None for the run's own.
        steps: about how many sampling steps; None for the sampler's own number.
        ladder: name of the noise levels (geometric, karras, uniform, cauchy), or "optimised" for the sampler `abm` and its
            like: levels chosen for this run, at the cost of 64 evaluations of a batch; None for those that suit the sampler.
        temperature: below 1 for likelier samples, above 1 for more varied ones; see `guidance.Tempered` for what it does to
            modes, and for why it wants a sampler with Langevin steps.
        label: name of the class that all samples should have, of a run that was told classes, of which training saw examples;
            None for classes as often as in the training data.
        seed: the same seed gives the same samples and the same bytes.
        out: `.png` (a grid or a plot), `.npz` (an array: 8-bit pixels of images, vectors and signals in the data's own
            units; and the classes), or a folder (one PNG each, and `samples.jsonl`, a list of them with their classes). Of a
            table `.csv`, `.tsv` or `.parquet` (its own columns and types), `.npy` or
            `.npz` (its coordinates, a category as one for each text). None for a picture, or a .csv, in the run.
        gif: also write an animation of the sampling, beside `out`.
        batch: how many at a time; changes memory, not samples.
        device: auto, cpu or cuda.
        force: overwrite the file that is there; in a folder the pictures on its list, if none of them has changed.
        progress: called after every step with the share done, words, and a `Batch`.

    Raises:
        ScorefieldError: no such run, sampler or ladder, a run of no steps, a class that training never saw, a temperature that
            is not positive, a file in the way, an `out` that does not suit the data or cannot be written.
    """
    opened, where = trained(open_run(run)), pick_device(compute.device)
    if out is not None and not os.fspath(out):
        raise ScorefieldError("got an empty --out, expected a path: name a file or a folder, or leave it out")
    default = f"samples-seed{spec.seed}{'.csv' if opened.kind == 'table' else '.png'}"
    if out is None and not files.can_write(opened.path):
        raise ScorefieldError(f"got no --out for {opened.path}, which cannot be written, expected one: add --out {default}")
    target = opened.path / default if out is None else Path(out).expanduser()
    folder = target.suffix == "" or str(out).endswith(os.sep)
    if n >= 1:  # less is refused below
        outputs.check(opened, n, target, folder=folder, force=force)
    film_path = _beside(target, folder)
    if gif:
        _check_film(film_path, force)
        if opened.kind != "image":
            pictures.require_plots()
    if spec.label is not None:
        class_of(opened, spec.label)  # refused before anything is drawn
    drawing = Drawing.of(opened, spec, where)
    chosen, times = drawing.sampler, drawing.ladder
    film = _Film(opened, drawing.field, n) if gif else None
    evaluations, rates, few = 0, tuple[float, ...](), list[Tensor]()

    def look(fraction: float, text: str, seen: Batch) -> None:
        nonlocal evaluations, rates
        evaluations, rates = seen.snapshot.evaluations, seen.snapshot.info.acceptance
        if film:
            film.look(seen.first, seen.snapshot)
        progress(fraction, text, seen)

    drawn, first = drawing.batches(n, batch=compute.batch, view=look), 0
    about = {"seed": spec.seed, "sampler": str(chosen), "levels": len(times)}
    about |= {"temperature": spec.temperature, "label": spec.label}
    about |= {"model_sha256": opened.manifest.get("model_sha256")}
    with outputs.output(opened, n, target, folder=folder, force=force, about=about) as add:
        for x in drawn:
            add(opened.decode(x), drawing.labels(range(first, first + len(x))))
            few += [x] if rates and first < LOOKED_AT else []
            first += len(x)
        if film:
            files.write(film_path, film.gif())
    told = drawing.labels(range(min(n, LOOKED_AT)))
    accepted = _acceptance(field_of(opened, None, spec.temperature), torch.cat(few), told, rates, times.cpu()) if rates else ()
    notes, (tuned, holds) = [outputs.left_out(opened, n, target, folder=folder)], tuned_of(opened)
    if (spec.sampler, spec.steps, spec.ladder) == (None, None, None) and tuned is not None and not holds:
        notes.append("it was tuned for other weights than it has now, so its recipe's own sampler drew: scorefield tune again")
    written = (target, film_path) if film else (target,)
    return SampleReport(written, n, chosen, len(times), evaluations, accepted, "; ".join(filter(None, notes)) or None)


def _beside(target: Path, folder: bool) -> Path:
    """Return where the animation of an output goes: to the same name with another ending, beside it."""
    named = target if target.name not in ("", "..") else Path(os.path.abspath(target))
    return named.parent / f"{named.name if folder else named.stem}.gif"
