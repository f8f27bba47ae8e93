"""`scorefield inspect`: what a run's folder holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from scorefield.durations import duration

if TYPE_CHECKING:
    from scorefield.app import InspectReport


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

        report = app.inspect(self.run_)
        if self.json:
            print(json.dumps(report.to_dict(), indent=2))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(title=str(report.run.path), show_header=False, title_justify="left")
        for row in (*_origin(report), *_training(report), *_sampling(report), *_results(report)):
            table.add_row(*row)
        versions = report.run.manifest["scorefield"], report.run.manifest["versions"]["torch"]
        table.add_row("made with", f"scorefield {versions[0]}, torch {versions[1]}")
        Console(highlight=False, markup=False, emoji=False).print(table)


def _origin(report: InspectReport) -> Iterator[tuple[str, str]]:
    """Say what the run was made from."""
    config, facts = report.run.config, report.run.manifest
    data, shape = facts["data"], " x ".join(str(n) for n in facts["data"]["shape"])
    if report.run.is_imported:
        yield "imported", f"{data['name']}, {facts['imported']['from']}"
        yield "data", f"{data['kind']}s of {shape}, of which it has none: name their place with --data"
    else:
        yield "data", f"{data['name']}: {data['examples']} training, {data['held_out']} held-out examples of {shape}"
        if (place := data.get("path")) is not None:
            gone = "" if os.path.exists(place) else " (nothing there now: name their place with --data)"
            yield "place of data", f"{place}{gone}"
        yield "recipe", f"{config.recipe}, seed {config.seed}"
    yield "process", str(config.process)
    yield "network", f"{config.network}, {facts['parameters']:,} parameters, conditioned by {config.parametrisation}"


def _training(report: InspectReport) -> Iterator[tuple[str, str]]:
    """Say how far the training went, of a run that was trained here."""
    facts, done = report.run.manifest, report.run.manifest["progress"]
    if report.run.is_imported:
        return
    precision = facts.get("precision", "precision not measured yet")
    state = "finished" if done["finished"] else "unfinished (go on with --resume)"
    yield "training", f"{done['step']} steps, {done['images']:,} examples, {duration(done['seconds'])}, {precision}: {state}"
    if report.held_out is not None:
        yield "held-out loss", f"{report.held_out:.4f} a coordinate"


def _sampling(report: InspectReport) -> Iterator[tuple[str, str]]:
    """Say how the run is sampled, and why its numbers are what they are."""
    yield "sampler", f"{report.sampler}"
    if report.tuned is not None:
        stale = f"for weights that training has changed since, so the recipe's own is used: scorefield tune {report.run.path}"
        yield "tuned", report.tuned.why if report.tuned_holds else stale
    sigmas = report.sigmas
    few = ", ".join(f"{s:.3g}" for s in (*sigmas[:3], *sigmas[-2:])) if len(sigmas) > 5 else str(sigmas)
    yield "ladder", f"{len(sigmas)} levels: {few}"
    yield "why", "\n".join(report.run.manifest["why"])


def _results(report: InspectReport) -> Iterator[tuple[str, str]]:
    """Say how good the samples are, and which results are of an earlier state."""
    if report.quality_stale is not None:
        yield "quality", f"not known: {report.quality_stale}; scorefield evaluate {report.run.path} measures it"
    elif report.quality:
        real = report.quality["floor"]
        yield (
            "quality",
            "\n".join(
                f"{name} {found['value']:.3g} ± {found['standard_error']:.1g}"
                + (f", real data {real[name]['value']:.3g}" if name in real else "")
                for name, found in report.quality["figures"].items()
            ),
        )
    if report.stale:
        yield "stale", "\n".join(f"{name}: {reason}" for name, reason in report.stale.items())
