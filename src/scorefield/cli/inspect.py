"""`scorefield inspect`: what a run's folder holds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.durations import duration


@dataclass
class Inspect:
    """Say what a run was made from, how far it went, and why its numbers are what they are.

    examples:
      scorefield inspect runs/digits
      scorefield inspect runs/digits --json
    """

    run_: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    """The run's folder."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print everything as JSON."""

    def run(self) -> None:
        """Print the report."""
        from scorefield import app
        from scorefield.config import to_dict

        report = app.inspect(self.run_)
        run, facts = report.run, report.run.manifest
        if self.json:
            values = {
                "config": to_dict(run.config),
                "manifest": facts,
                "sampler": to_dict(report.sampler, "sampler"),
                "sigmas": report.sigmas,
                "quality": report.quality,
                "quality_stale": report.quality_stale,
                "stale": report.stale,
                "tuned": report.tuned and {**to_dict(report.tuned), "holds": report.tuned_holds},
            }
            print(json.dumps(values, indent=2))
            return
        from rich.console import Console
        from rich.table import Table

        data, done = facts["data"], facts["progress"]
        table = Table(title=str(run.path), show_header=False, title_justify="left")
        shape = " x ".join(str(n) for n in data["shape"])
        table.add_row("data", f"{data['name']}: {data['examples']} training, {data['held_out']} held-out examples of {shape}")
        if (place := data.get("path")) is not None:
            gone = "" if os.path.exists(place) else " (nothing there now: name their place with --data)"
            table.add_row("place of data", f"{place}{gone}")
        table.add_row("recipe", f"{run.config.recipe}, seed {run.config.seed}")
        table.add_row("process", str(run.config.process))
        table.add_row(
            "network", f"{run.config.network}, {facts['parameters']:,} parameters, told by {run.config.parametrisation}"
        )
        precision = facts.get("precision", "precision not measured yet")
        state = "finished" if done["finished"] else "unfinished (go on with --resume)"
        table.add_row(
            "training",
            f"{done['step']} steps, {done['images']:,} examples, {duration(done['seconds'])}, {precision}: {state}",
        )
        if report.held_out is not None:
            table.add_row("held-out loss", f"{report.held_out:.4f} a coordinate")
        table.add_row("sampler", f"{report.sampler}")
        if report.tuned is not None:
            stale = f"for weights that training has changed since, so the recipe's own is used: scorefield tune {run.path}"
            table.add_row("tuned", report.tuned.why if report.tuned_holds else stale)
        shown = (
            ", ".join(f"{s:.3g}" for s in (*report.sigmas[:3], *report.sigmas[-2:]))
            if len(report.sigmas) > 5
            else str(report.sigmas)
        )
        table.add_row("ladder", f"{len(report.sigmas)} levels: {shown}")
        table.add_row("why", "\n".join(facts["why"]))
        if report.quality_stale is not None:
            table.add_row("quality", f"not known: {report.quality_stale}; scorefield evaluate {run.path} measures it")
        elif report.quality:
            real = report.quality["floor"]
            lines = [
                f"{name} {found['value']:.3g} ± {found['standard_error']:.1g}"
                + (f", real data {real[name]['value']:.3g}" if name in real else "")
                for name, found in report.quality["figures"].items()
            ]
            table.add_row("quality", "\n".join(lines))
        if report.stale:
            table.add_row("stale", "\n".join(f"{name}: {reason}" for name, reason in report.stale.items()))
        table.add_row("made with", f"scorefield {facts['scorefield']}, torch {facts['versions']['torch']}")
        Console(highlight=False, markup=False, emoji=False).print(table)
