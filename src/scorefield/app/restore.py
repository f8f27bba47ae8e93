"""Restore: from a damaged file to what it may have been. `restoration.py` draws the answers; this verb writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import pictures
from scorefield.advice import advice
from scorefield.answers import (
    Answer,
    answer_picture,
    answering,
    check_pictures,
    check_place,
    place_of,
    save_spread,
)
from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.progress import Progress, portion, silent
from scorefield.restoration import Restored, restore_one, tasks_of
from scorefield.runs import Run, open_run
from scorefield.specs import RestoreSpec


@dataclass(frozen=True, eq=False)
class RestoreReport:
    """What was restored, and where it went.

    Attributes:
        answers: one for each file, in the order of their paths: samples, mean and standard deviation in the run's units.
        folder: where the files are; None where nothing was written.
        operator: as it was asked for.
        spec: how it was done.
        made_from: the run's weights and data.
        notes: what a person should know.
    """

    answers: tuple[Restored, ...]
    folder: Path | None
    operator: str
    spec: RestoreSpec
    made_from: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as values of JSON."""
        how = {"operator": self.operator, "seed": self.spec.seed, "simulated": self.spec.simulate}
        answers = [one.to_dict() for one in self.answers]
        return {"made_from": self.made_from, **how, "answers": answers, "notes": list(self.notes)}


def restore(
    run: str | Path,
    source: Any,
    operator: Any,
    spec: RestoreSpec = RestoreSpec(),  # noqa: B008  # it is frozen
    *,
    out: str | Path | None = None,
    reference: Any = None,
    force: bool = False,
    progress: Progress = silent,
) -> RestoreReport:
    """Restore what was measured of images, signals or volumes: y = H(x0) + noise.

    Args:
        run: the run's folder.
        source: what was measured: a file, a folder of files, or an array in the run's units. Its size is that of what the
            operator gives, for a mask that of the whole sample, whatever is in the hole. Larger ones than the run's are tiled.
        operator: H as a text, such as "blur:1,downsample:2", or an `Operator` of numbers in the run's units.
        spec: how. Its fields are keywords, too: noise, samples, method, simulate, label, seed and device.
        out: a new folder; None for NAME-restored beside the source, or for nothing of an array.
        reference: what the answers should be: a file, a folder of files with the names of the source's, or an array.
        force: an earlier answer of this verb in `out`, in which nothing was changed, may be replaced.
        progress: called after every level with the share done and words.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is drawn or written.

    >>> app.restore("runs/photos", "scratched.png", "mask:scratches.png").answers[0].mean.shape  # doctest: +SKIP
    torch.Size([3, 64, 64])
    """
    opened = trained(open_run(run))
    tasks = tasks_of(opened, source, operator, spec, reference)
    folder = place_of(source, "restored", out)
    if folder is not None:
        check_place(folder, "restore", force)
        check_pictures(opened)
    device, share = pick_device(spec.device), 1 / len(tasks)
    answers = tuple(
        restore_one(opened, task, spec, device, _named(progress, task.item.name, index * share, share))
        for index, task in enumerate(tasks)
    )
    report = RestoreReport(answers, folder, str(operator), spec, opened.made_from, advice(answers, spec))
    if folder is not None:
        with answering(folder, "restore", force) as answer:
            answer.values |= report.to_dict()
            for one in answers:
                _write(opened, answer, one)
    return report


def _named(progress: Progress, name: str, start: float, share: float) -> Progress:
    return portion(lambda fraction, text: progress(fraction, f"{name}: {text}"), start, share)


def _write(run: Run, answer: Answer, one: Restored) -> None:
    """Write the files of one answer."""
    target, stem = one.task.target, answer.folder / one.name
    for index, sample in enumerate(one.samples):
        target.save(stem.with_name(f"{one.name}-sample-{index + 1}{target.ending}"), sample)
    target.save(stem.with_name(f"{one.name}-mean{target.ending}"), one.mean)
    if one.std is not None:
        save_spread(stem.with_name(f"{one.name}-std.npy"), run, target, one.std)
    picture = answer_picture(run, ("measured", one.measured), one.samples, one.mean, one.std, one.task.reference)
    stem.with_name(f"{one.name}-answer.png").write_bytes(pictures.png(picture, run.made_from))
