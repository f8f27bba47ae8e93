"""`scorefield impute`: the holes of a table filled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.specs import ImputeSpec, TrainSpec

HOW = flags(ImputeSpec, draws="N")


@dataclass
class Impute:
    """Fill the holes of a table, several times, with an interval for each cell that holds the true value in 9 of 10.

    TABLE has the columns of the run's table and empty cells, in any rows and columns. What is in it stays byte for byte. The
    intervals go into a second file, NAME-intervals.csv. With a table alone, a run is trained on it first, holes and all.

    examples:
      scorefield impute survey.csv                                   learn from a table with holes, and fill it
      scorefield impute runs/iris measured.csv                       20 completed tables, below each other
      scorefield impute runs/iris measured.csv --draws 1             one, with the median of each cell
      scorefield impute runs/iris measured.csv --out filled.csv --json filled.json
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The folder of a run that learned from a table, or the table itself."""
    source: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="TABLE")] = None
    """A table with holes; default the first argument."""
    spec: Annotated[ImputeSpec, tyro.conf.arg(name="")] = HOW
    """How it is filled."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """With a table alone: train so many steps; default 300 to 3,000 by the number of rows, and 40 s at most."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The filled table; default TABLE-filled beside it."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """What stands in each hole, with its interval, as JSON, too."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace files that are there."""

    def run(self) -> None:
        """Fill, showing progress, a summary for each column, and where the files went."""
        from scorefield import app, files

        if self.json is not None:
            files.refuse_existing(self.json, self.force, "--json")
        with Bar("filling") as bar:
            how = None if self.steps is None else TrainSpec(steps=self.steps, seed=self.spec.seed)
            report = app.impute(
                self.run_, self.source, self.spec, out=self.out, force=self.force, progress=bar.at, training=how
            )
        values = report.to_dict()
        if self.json is not None:
            files.write_json(self.json, values)
        for column in values["columns"]:
            if column["holes"]:
                print(f"{column['name']}: {column['holes']:,} filled")
        if values["calibration"] is not None:
            cells, unseen, share = (values["calibration"][key] for key in ("cells", "rows", "widened"))
            made = f"widened by {share:.0%} of their half" if share else "as the draws have them"
            print(f"intervals are {made}, measured on {cells:,} cells of {unseen:,} rows that training did not see")
        if values["way"]:
            print(f"drawn by the {values['way']}")
        for path in (*report.written, *([self.json] if self.json is not None else [])):
            print(f"  {path}")
        for note in report.notes:
            print(f"  note: {note}")
