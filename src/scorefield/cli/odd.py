"""`scorefield odd`: the rows of a table that do not belong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.flags import flags
from scorefield.cli.show import Bar
from scorefield.specs import OddSpec

HOW = flags(OddSpec, rate="X|X%")
SHOWN = 20


@dataclass
class Odd:
    """Find the rows of a table that do not belong, and which columns make them odd.

    Of rows like those that the run learned from, at most a share of --rate is called odd.

    examples:
      scorefield odd runs/iris measured.csv
      scorefield odd runs/iris measured.csv --rate 5% --out odd.csv       a line for each row
      scorefield odd runs/iris measured.csv --json odd.json               with the share of every column
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The folder of a run that learned from a table."""
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TABLE")]
    """The table whose rows are looked at."""
    spec: Annotated[OddSpec, tyro.conf.arg(name="")] = HOW
    """How they are found."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the data are that the run was trained on; default where they were."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """A line for each row, as a table."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Every row with the share of every column, as JSON."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace files that are there."""

    def run(self) -> None:
        """Find them, showing progress, the oddest first, and where the files went."""
        from scorefield import app, files

        if self.json is not None:
            files.refuse_existing(self.json, self.force, "--json")
        with Bar("looking") as bar:
            report = app.odd(self.run_, self.source, self.spec, data=self.data, out=self.out, force=self.force, progress=bar.at)
        values = report.to_dict()
        if self.json is not None:
            files.write_json(self.json, values)
        found = sorted((row for row in values["rows"] if row["odd"]), key=lambda row: -row["surprise"])
        print(f"{len(found):,} of {len(values['rows']):,} rows are odd at a rate of {values['rate']:.2%}")
        for row in found[:SHOWN]:
            where = f"row {row['row']}" if row["line"] is None else f"line {row['line']}"
            named = ", ".join(f"{one['name']} {one['share']:.0%}" for one in row["columns"][:3])
            print(f"  {where}: surprise {row['surprise']:.1f}, p {row['p_value']:.2g}, by the {row['spoke']}: {named}")
        if len(found) > SHOWN:
            print(f"  and {len(found) - SHOWN:,} more: --out FILE.csv has them all")
        for path in (self.out, self.json):
            if path is not None:
                print(f"  {path}")
        for note in report.notes:
            print(f"  note: {note}")
