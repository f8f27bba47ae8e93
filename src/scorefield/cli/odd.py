"""`scorefield odd`: the rows of a table, or the images or other files, that do not belong."""

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
    """Find the rows of a table that do not belong, and which columns make them odd; or images, and which pixels.

    Of rows like those that the run learned from, at most a share of --rate is called odd. Images, signals and others must have
    the run's size; a folder as --out gets odd.csv and pictures: the oddest, and where each odd one is odd.

    examples:
      scorefield odd runs/iris measured.csv
      scorefield odd runs/iris measured.csv --rate 5% --out odd.csv       a line for each row
      scorefield odd runs/iris measured.csv --json odd.json               with the share of every column
      scorefield odd runs/photos new/ --out odd                           images, with pictures of what is odd
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The folder of a run."""
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TABLE|FILE|FOLDER")]
    """The table whose rows are looked at; of other runs a file or a folder of them."""
    spec: Annotated[OddSpec, tyro.conf.arg(name="")] = HOW
    """How they are found."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the data are that the run was trained on; default where they were."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv|FOLDER")] = None
    """A line for each row, as a table; of images and others also a new folder, with pictures."""
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
        what = "files" if any("name" in row for row in values["rows"]) else "rows"
        print(f"{len(found):,} of {len(values['rows']):,} {what} are odd at a rate of {values['rate']:.2%}")
        for row in found[:SHOWN]:
            where = row.get("name") or (f"row {row['row']}" if row["line"] is None else f"line {row['line']}")
            named = ", ".join(f"{one['name']} {one['share']:.0%}" for one in row["columns"][:3])
            named = named or f"most at {', '.join(map(str, row['place']))}"
            print(f"  {where}: surprise {row['surprise']:.1f}, p {row['p_value']:.2g}, by the {row['spoke']}: {named}")
        if len(found) > SHOWN:
            print(f"  and {len(found) - SHOWN:,} more: --out FILE.csv has them all")
        for path in (self.out, self.json):
            if path is not None:
                print(f"  {path}")
        for note in report.notes:
            print(f"  note: {note}")
