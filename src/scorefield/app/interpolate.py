"""Interpolate: from one image or signal to another through samples of a run. `interpolation.py` computes; this verb writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield import pictures
from scorefield.answers import answering, check_pictures, check_place, panel, place_of, shown
from scorefield.data.planes import PICTURED
from scorefield.devices import pick_device
from scorefield.drawing import trained
from scorefield.inputs import Item, save_array
from scorefield.interpolation import Frames, between, check_ends, end_of
from scorefield.progress import Progress, silent
from scorefield.runs import Run, open_run
from scorefield.specs import InterpolateSpec


@dataclass(frozen=True, eq=False)
class InterpolateReport:
    """Frames between two samples, and where they went.

    Attributes:
        frames: in the run's units, and how exactly the ends came back.
        ends: their names.
        folder: where the files are; None where nothing was written.
        made_from: the run's weights and data.
    """

    frames: Frames
    ends: tuple[str, str]
    folder: Path | None
    made_from: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return all but the frames, as values of JSON."""
        found = self.frames
        about = {"ends": list(self.ends), "frames": len(found.raw), "round_trip_error": found.error}
        return {"made_from": self.made_from, **about, "evaluations": found.evaluations}


def interpolate(
    run: str | Path,
    a: Any,
    b: Any,
    spec: InterpolateSpec = InterpolateSpec(),  # noqa: B008  # it is frozen
    *,
    gif: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> InterpolateReport:
    """Go from one sample to another through samples of the run.

    Both ends are encoded by the probability flow; between their latents lies a great circle, on which latents keep their
    distribution; what is on it is decoded. The ends come back as they were.

    Args:
        run: the run's folder.
        a, b: each a file or an array of one example, or a whole number, the seed of a new sample.
        spec: how; its fields are keywords, too: frames, label and device.
        gif: also write an animation, there and back.
        out: a new folder; None for A-to-B beside A, or for nothing where A is no file.
        force: an earlier answer of this verb in `out`, in which nothing was changed, may be replaced.
        progress: called with the share done and words.

    Raises:
        ScorefieldError: whatever does not fit, in one sentence, before anything is computed or written.
    """
    opened = trained(open_run(run))
    ends = end_of(opened, a), end_of(opened, b)
    check_ends(opened, ends, spec)
    folder = place_of(a if ends[0].item is not None else None, f"to-{ends[1].name}", out)
    if folder is not None:
        check_place(folder, "interpolate", force)
        check_pictures(opened)
    frames = between(opened, ends, spec, pick_device(spec.device), progress)
    report = InterpolateReport(frames, (ends[0].name, ends[1].name), folder, opened.made_from)
    if folder is not None:
        item = next((end.item for end in ends if end.item is not None), None)
        with answering(folder, "interpolate", force) as answer:
            answer.values |= report.to_dict()
            _write(opened, answer.folder, frames, item, gif)
    return report


def _write(run: Run, folder: Path, frames: Frames, item: Item | None, gif: bool) -> None:
    """Write the frames as files of the type of an end, or as one array of new samples; a strip of all, and an animation."""
    count = len(frames.raw)
    if item is None:
        save_array(folder / "frames.npy", run.to_source(frames.raw))
    else:
        for index, frame in enumerate(frames.raw):
            item.save(folder / f"frame-{index + 1:0{len(str(count))}d}{item.ending}", frame)
    if run.kind in PICTURED:
        images = [shown(run, frame) for frame in frames.raw]
        strip = panel([(f"{index / (count - 1):.0%}", image) for index, image in enumerate(images)])
    else:
        strip = pictures.lines(frames.raw)
    (folder / "strip.png").write_bytes(pictures.png(strip, run.made_from))
    if gif:
        pages = (
            [panel([("", image)]) for image in images]
            if run.kind in PICTURED
            else [pictures.lines(one[None]) for one in frames.raw]
        )
        (folder / "frames.gif").write_bytes(pictures.gif([*pages, *pages[-2:0:-1]], milliseconds=120, last=120))
