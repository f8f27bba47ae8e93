"""`scorefield verify`: every method against closed-form truth, on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scorefield.cli.show import Bar

if TYPE_CHECKING:
    from rich.console import Console

    from scorefield.app import VerifyReport

_VERDICT = {True: "PASS", False: "FAIL", None: "-"}
_STYLE = {True: "green", False: "bold red", None: "dim"}


@dataclass
class Verify:
    """Measure every registered method (plugins too) against closed-form truth: about two minutes, exit code 1 if one fails.

    examples:
      scorefield verify
      scorefield verify --quick
      scorefield verify --json > verify.json
      scorefield verify --full          the table of the documentation: most of an hour
    """

    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Fewer points, and no run of 1,000 evaluations: about half a minute."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print everything as JSON."""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """20,000 samples in each set and every number of evaluations on both mixtures: most of an hour."""

    def run(self) -> None:
        """Measure, and print a table per kind."""
        from rich.console import Console

        from scorefield import app

        with Bar("verifying") as bar:
            report = app.verify(quick=self.quick, full=self.full, progress=bar.at)
        if self.json:
            print(json.dumps(report.to_dict(), indent=2))
        else:
            console = Console(highlight=False, emoji=False)
            _show(report, console if console.is_terminal else Console(highlight=False, emoji=False, width=120))
        if report.failures:
            raise SystemExit(1)


def _show(report: VerifyReport, console: Console) -> None:
    """Print a table per kind of check, a table per mixture, and the result."""
    from rich.table import Table
    from rich.text import Text

    kinds = list(dict.fromkeys(check.kind for check in report.checks))
    for kind in kinds:
        table = Table(title=kind, title_justify="left")
        for column in ("name", "declared", "measured", ""):
            table.add_column(column)
        for check in report.checks:
            if check.kind == kind:
                verdict = Text(_VERDICT[check.passed], style=_STYLE[check.passed])
                table.add_row(check.name, check.declared, check.measured, verdict)
        console.print(table)
    for mixture, (floor, mmd) in report.floors.items():
        console.print(_bench(report, mixture, floor, mmd))
    console.print(
        "Each cell: sliced Wasserstein-2 over that of two exact sets; the largest error of a mode's weight in standard errors; "
        "MMD² in thousandths. Green cells are as declared and red ones "
        "are not; plain cells only inform. Plain Langevin must fail the weights."
    )
    failures = report.failures
    ending = "everything is as declared" if not failures else f"{len(failures)} FAILED: {', '.join(failures)}"
    console.print(f"{ending} ({report.seconds:.0f} s)", style="bold red" if failures else "bold green")


def _bench(report: VerifyReport, mixture: str, floor: float, mmd: float) -> Any:
    """Return the table of a mixture, a sampler a row and a budget a column."""
    from rich.table import Table
    from rich.text import Text

    rows = [row for row in report.bench if row.mixture == mixture]
    budgets = list(dict.fromkeys(row.budget for row in rows))
    title = f"{mixture}: {report.sets} x {report.samples:,} samples, floor {floor:.3f}, MMD² floor {1e3 * mmd:.2f}"
    table = Table(title=title, title_justify="left")
    table.add_column("evaluations")
    for budget in budgets:
        table.add_column(f"{budget:,}", justify="right")
    cells = {(row.sampler, row.budget): row for row in rows}
    for name in dict.fromkeys(row.sampler for row in rows):
        line = []
        for budget in budgets:
            row = cells.get((name, budget))
            if row is None:
                line.append(Text(""))
                continue
            score = row.score
            shown = f"{score.ratio:.2f}x {score.weights:.1f} {1e3 * score.mmd:.1f}"
            if abs(score.evaluations - budget) > 0.2 * budget:
                shown += f" ({score.evaluations})"
            mark = " FAIL" if row.passed is False else ""
            line.append(Text(shown + mark, style="" if row.passed is None else _STYLE[row.passed]))
        table.add_row(name, *line)
    return table
