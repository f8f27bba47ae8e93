"""Denoise: from a noisy file to what it may have been. `noise_removal.py` finds the answers; this verb writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import pictures
from scorefield.answers import (
    Answer,
    answer_picture,
    answering,
    check_pictures,
    check_place,
    place_of,
    save_spread,
)
from scorefield.data.planes import PICTURED
from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.noise_removal import Denoised, denoise_one, noisy_files
from scorefield.progress import Progress, portion, silent
from scorefield.runs import Run, open_run
from scorefield.specs import DenoiseSpec


@dataclass(frozen=True, eq=False)
class DenoiseReport:
    """What was denoised, and where it went.

    Attributes:
        answers: one for each file, in the order of their paths: mean, standard deviation, 90 % interval, samples and
            sigma.
        folder: where the files are; None where nothing was written.
        spec: how it was done.
        made_from: the run's weights and data.
        notes: what a person should know.
    """

    answers: tuple[Denoised, ...]
    folder: Path | None
    spec: DenoiseSpec
    made_from: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as values of JSON."""
        how = {"seed": self.spec.seed, "label": self.spec.label}
        answers = [one.to_dict() for one in self.answers]
        return {"made_from": self.made_from, **how, "answers": answers, "notes": list(self.notes)}


def denoise(
    run: str | Path,
    source: Any,
    spec: DenoiseSpec = DenoiseSpec(),  # noqa: B008  # it is frozen
    *,
    out: str | Path | None = None,
    reference: Any = None,
    force: bool = False,
    progress: Progress = silent,
) -> DenoiseReport:
    """Remove noise from images, signals or volumes: y = x0 + sigma·noise, sigma stated or estimated.

    Args:
        run: the run's folder.
        source: the noisy file, a folder of files, or an array in the run's units; of the run's size, or larger, which is tiled.
        spec: how. Its fields are keywords, too: sigma, samples, label, seed and device.
        out: a new folder; None for NAME-denoised beside the source, or for nothing of an array.
        reference: the clean image: a file, a folder of files with the names of the source's, or an array.
        force: an earlier answer of this verb in `out`, in which nothing was changed, may be replaced.
        progress: called with the share done and words.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is computed or written.

    >>> app.denoise("runs/photos", "dark.png", sigma=20).answers[0].mean.shape  # doctest: +SKIP
    torch.Size([3, 64, 64])
    """
    opened = trained(open_run(run))
    tasks = noisy_files(opened, source, spec, reference)
    folder = place_of(source, "denoised", out)
    if folder is not None:
        check_place(folder, "denoise", force)
        check_pictures(opened)
    device, share = pick_device(spec.device), 1 / len(tasks)
    answers = tuple(
        denoise_one(opened, task, spec, device, _named(progress, task.item.name, index * share, share))
        for index, task in enumerate(tasks)
    )
    report = DenoiseReport(answers, folder, spec, opened.made_from, _notes(answers))
    if folder is not None:
        with answering(folder, "denoise", force) as answer:
            answer.values |= report.to_dict()
            for one in answers:
                _write(opened, answer, one)
    return report


def _named(progress: Progress, name: str, start: float, share: float) -> Progress:
    return portion(lambda fraction, text: progress(fraction, f"{name}: {text}"), start, share)


def _write(run: Run, answer: Answer, one: Denoised) -> None:
    """Write the files of one answer."""
    item, stem = one.task.item, answer.folder / one.name
    item.save(stem.with_name(f"{one.name}-denoised{item.ending}"), one.mean)
    for index, sample in enumerate(one.samples):
        item.save(stem.with_name(f"{one.name}-sample-{index + 1}{item.ending}"), sample)
    for end, raw in (("low", one.low), ("high", one.high)):
        item.save(stem.with_name(f"{one.name}-{end}{item.ending}"), raw)
    save_spread(stem.with_name(f"{one.name}-std.npy"), run, item, one.std)
    samples = one.samples if len(one.samples) or run.kind in PICTURED else one.mean[None]
    picture = answer_picture(run, ("noisy", one.noisy), samples, one.mean, one.std, one.task.reference)
    stem.with_name(f"{one.name}-answer.png").write_bytes(pictures.png(picture, run.made_from))


def _notes(answers: tuple[Denoised, ...]) -> tuple[str, ...]:
    notes = []
    for one in answers:
        known = one.to_dict()["seen"]
        if one.sigma == 0:
            why = "nothing of it is inside the legal range" if known == 0 else "the run finds it clean"
            notes.append(f"{one.name}: no noise was found ({why}), so it is returned as it is: state --sigma if there is some")
        elif known < 1:
            notes.append(f"{one.name}: {1 - known:.0%} of the numbers were clipped, masked or missing, which was allowed for")
    return tuple(notes)
