"""Import: a model that was trained elsewhere becomes a run's folder. `interchange/` reads it; this verb names the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scorefield.interchange.foreign import read_foreign, run_folder, write_run
from scorefield.runs import Run, open_run


@dataclass(frozen=True)
class ImportReport:
    """What was imported.

    Attributes:
        run: the new run, opened.
        found: what its files were, as a phrase.
        notes: what was assumed, in sentences.
    """

    run: Run
    found: str
    notes: tuple[str, ...]


def import_(source: str | Path, name: str | Path, *, settings: Sequence[str] = ()) -> ImportReport:
    """Make a run of a model that was trained elsewhere, which can then do what every run can; nothing of it is executed.

    Args:
        source: its files: a diffusers pipeline's folder, or another layout of `scorefield list checkpoint`.
        name: of the run, which goes to runs/NAME; a path goes where it says. Nothing may be there yet.
        settings: what the files do not say, or say wrongly, as "name=value", such as "prediction_type=v_prediction".

    Raises:
        ScorefieldError: files of no known layout, a model of a kind that this package does not have, tensors that are missing
            or do not fit, a name in use. Nothing is written then.
    """
    run_folder(name)  # a name in use is refused before a large file is read
    foreign = read_foreign(source, settings)
    return ImportReport(open_run(write_run(foreign, name)), foreign.found, foreign.notes)
