"""`scorefield verify`: every method against closed-form truth; `scorefield verify RUN`: is this model sound?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from scorefield.cli.show import Bar

if TYPE_CHECKING:
    from rich.console import Console

    from scorefield.app import Soundness, VerifyReport

_VERDICT = {True: "PASS", False: "FAIL", None: "-"}
_STYLE = {True: "green", False: "bold red", None: "dim"}


@dataclass
class Verify:
    """Measure every registered method (plugins too) against closed-form truth: about two minutes, exit code 1 if one fails.

    With a run: is its field the score of its data? A sign, a factor, a time that is off by one, another schedule or another
    range of the data is found and named, as an import from elsewhere may have it. The verdict is sound, not sound (exit code 1)
    or, without data, cannot say.

    examples:
      scorefield verify
      scorefield verify --quick
      scorefield verify --json > verify.json
      scorefield verify --full          the table of the documentation: most of an hour
      scorefield verify runs/digits
      scorefield verify runs/imported --data photos/
    """

    run_: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="[RUN]")] = None
    """The folder of a run; without one all methods are measured."""
    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Of a run: where data are, as those that it was trained on; default where they were."""
    examples: Annotated[int | None, tyro.conf.arg(aliases=["-n"], metavar="N")] = None
    """Of a run: how many examples; default as many as are needed, from 64 to 1,024."""
    seed: int = 0
    """Of a run: of the noise and of the choice of examples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Of a run: where to compute."""
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
            report = app.verify(
                run=self.run_,
                data=self.data,
                examples=self.examples,
                seed=self.seed,
                device=self.device,
                quick=self.quick,
                full=self.full,
                progress=bar.at,
            )
        console = Console(highlight=False, emoji=False)
        console = console if console.is_terminal else Console(highlight=False, emoji=False, width=120)
        if self.json:
            print(json.dumps(report.to_dict(), indent=2))
        elif isinstance(report, app.Soundness):
            _show_soundness(report, console)
        else:
            _show(report, console)
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


def _show_soundness(report: Soundness, console: Console) -> None:
    """Print a row for each noise level, the verdict and its reasons."""
    from rich.table import Table

    on = "examples" if report.on == "data" else "samples of its own"
    table = Table(title=f"{report.examples} {on}", title_justify="left")
    for column in ("t", "noise", "loss", "at most", "slope", "calibration", "recoverable", "deviation"):
        table.add_column(column, justify="right")
    for row in report.levels:
        table.add_row(
            f"{row.t:.4g}",
            f"{row.noise:.3g}",
            f"{row.loss:.4f}",
            f"{row.least:.4f}",
            f"{row.slope:.3f} ± {row.slope_error:.3f}",
            f"{row.calibration:.3f} ± {row.calibration_error:.3f}",
            f"{row.recoverable:.4f}",
            f"{max(row.deviations, key=abs):.1f}{' *' if row.certain else ''}",
            style="yellow" if row.certain else "",
        )
    console.print(table)
    console.print(
        "Of a true score slope and calibration are 1 and nothing is recoverable, at every level. The loss is of the noise; it "
        "should be at most that of a guess from mean and variance. * is no chance: the largest deviation of a test is beyond "
        f"{report.critical:.1f} standard errors. A trained model is not exact where the noise is small."
    )
    style = {"sound": "bold green", "not sound": "bold red"}.get(report.verdict, "bold yellow")
    console.print(report.verdict, style=style)
    for reason in report.reasons:
        console.print(f"- {reason}", markup=False)
