"""`scorefield plan`: what the data are, and what training would do with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from scorefield.cli.asked import Asked
from scorefield.cli.show import Bar, issue_lines
from scorefield.durations import duration

if TYPE_CHECKING:
    from scorefield.app import DataPlan

SHOWN = 20  # lines of problems on the screen; --json has all


@dataclass
class Plan(Asked):
    """Look at your data, and say what training would do with them on this machine. Nothing is written.

    examples:
      scorefield plan digits
      scorefield plan photos/ --time 2h --size 64
      scorefield plan table.npy --set training.batch=256
      scorefield plan photos/ --json plan.json
    """

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write everything there, as JSON."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Overwrite that file."""

    def run(self) -> None:
        """Plan, showing progress and the report."""
        spec = self.asked()
        with Bar("planning", keep=False) as bar:
            bar.at(0.0, "starting")
            from scorefield import app

            plan = app.plan(self.source, spec, device=self.device, out=self.json, force=self.force, progress=bar.at)
        show(plan)
        if self.json is not None:
            print(f"\n  {self.json}")


def show(plan: DataPlan) -> None:
    """Print the report."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for title, rows in (
        (plan.data.name, _data(plan)),
        (f"what training would do, by the recipe {plan.config.recipe}", _run(plan)),
        ("on this machine", _machine(plan)),
        ("what to expect", (("-", sentence) for sentence in plan.expectations)),
    ):
        console.print(Text(title, style="bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True, min_width=0 if title == "what to expect" else 10)
        grid.add_column(overflow="fold")
        for name, text in rows:
            grid.add_row(f"  {name}", Text(text, style="yellow" if name in ("warning", "problem", "leak") else ""))
        console.print(grid)


def _data(plan: DataPlan) -> Iterator[tuple[str, str]]:
    """Yield what the data are and what is wrong with them."""
    from scorefield.data.base import format_number  # torch, which is loaded by now

    data, found = plan.data, plan.findings
    n, m = len(data.train), len(data.held_out)
    yield "examples", f"{n + m:,} {_kind(data)}: {n:,} for training, {m:,} held out (never trained on)"
    if found.looked_at < found.examples:
        yield "", f"looked at {found.looked_at:,} of them, evenly spread"
    if found.counts:
        least, most = min(found.counts.values()), max(found.counts.values())
        counts = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        named = ", ".join(f"{name} {count:,}" for name, count in list(found.counts.items())[:10])
        more = f", and {len(found.counts) - 10} more" if len(found.counts) > 10 else ""
        yield "labels", f"{len(found.counts)} classes of {counts} training examples: {named}{more}"
    values = f"{format_number(found.low)} to {format_number(found.high)}"
    yield "values", f"{values}; {_mapped(data)}, where their standard deviation (sigma_data) is {plan.std:.4g}"
    if found.constant:
        what = {"image": "pixel values", "volume": "voxel values", "vector": "columns"}.get(data.kind, "coordinates")
        which = (
            f" (number {', '.join(map(str, found.constant[:8]))})" if len(found.constant) <= 8 and data.kind == "vector" else ""
        )
        yield "constant", f"{len(found.constant):,} of {_size(data.shape):,} {what} never change{which}"
    copies = ((found.copies, "exact copies"), (found.near_copies, "near copies"), (found.leaks, "leaks into the held-out part"))
    yield "copies", ", ".join(f"{count:,} {name}" for count, name in copies) if any(c for c, _ in copies) else "none found"
    for note in data.notes:
        if not any(issue.where in note for issue in data.issues):  # those come by name below
            yield "note", note
    for sentence in found.warnings:
        yield "warning", sentence
    if found.issues:
        left_out = sum(not issue.used for issue in found.issues)
        rest = len(found.issues) - left_out
        parts = [f"{left_out:,} left out"] * bool(left_out) + [f"{rest:,} used, but worth a look"] * bool(rest)
        yield "problems", ", ".join(parts) + "; --json FILE lists all" * (len(found.issues) > SHOWN)
    for line in issue_lines(found.issues, SHOWN):
        yield "problem", line


def _mapped(data: Any) -> str:
    """Return how raw values become those of model space."""
    from scorefield.data.base import format_number
    from scorefield.data.planes import PICTURED

    if data.kind not in PICTURED:
        return f"each {'channel' if data.kind == 'signal' else 'column'} gets mean 0, variance 1"
    (shift, *more), (scale, *_) = data.normaliser.shift, data.normaliser.scale
    if more:
        return "the range of each channel becomes [-1, 1]"
    return f"[{format_number(shift - scale)}, {format_number(shift + scale)}] becomes [-1, 1]"


def _kind(data: Any) -> str:
    shape = data.shape
    if data.kind == "image":
        return f"images of {shape[1]} x {shape[2]} pixels, {shape[0]} channel{'s' if shape[0] > 1 else ''}"
    if data.kind == "volume":
        size = " x ".join(map(str, shape[1:]))
        return f"volumes of {size} voxels, {shape[0]} channel{'s' if shape[0] > 1 else ''}"
    if data.kind == "signal":
        return f"signals of {shape[1]} samples, {shape[0]} channel{'s' if shape[0] > 1 else ''}"
    return f"rows of {_size(shape)} numbers"


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _words(value: Any) -> str:
    """Return a component's plain values as a name and its settings."""
    if isinstance(value, dict):
        settings = ", ".join(
            f"{key} {_words(inner)}" for key, inner in value.items() if key != "name" and inner not in (None, False)
        )
        return f"{value['name']} ({settings})" if settings else str(value["name"])
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _run(plan: DataPlan) -> Iterator[tuple[str, str]]:
    """Yield what the recipe has chosen, with its reasons."""
    from scorefield.config import to_dict

    config = plan.config
    for part in ("process", "network", "objective", "sampler"):
        text = _words(to_dict(getattr(config, part), part))
        if part == "network":
            text += f": {plan.parameters:,} parameters"
            if plan.reach:
                whole = plan.reach == tuple(plan.data.shape[1:])
                text += f"; each output sees {'the whole example' if whole else ' x '.join(map(str, plan.reach))}"
        yield part, text
    sigmas = plan.sigmas
    few = ", ".join(f"{sigma:.3g}" for sigma in sigmas[:3]) + (f" ... {sigmas[-1]:.3g}" if len(sigmas) > 3 else "")
    yield "noise", f"{len(sigmas)} level{'s' if len(sigmas) > 1 else ''}: {few}"
    for index, reason in enumerate(plan.why):
        yield "" if index else "why", reason


def _machine(plan: DataPlan) -> Iterator[tuple[str, str]]:
    """Yield what the pilot has measured."""
    pilot, chosen, memory = plan.pilot, plan.pilot.chosen, plan.pilot.memory
    scaled = "" if chosen.timed == chosen.batch else f" (timed with {chosen.timed} and scaled up)"
    yield "device", pilot.device
    yield (
        "step",
        f"{_ms(chosen.seconds)} in {chosen.precision}, batch {chosen.batch}{scaled}: {_rate(chosen.images_per_second)}",
    )
    others = [pace for pace in pilot.paces if pace is not chosen]
    if others:
        yield "also tried", ", ".join(f"{o.precision} at {o.batch}: {_rate(o.images_per_second)}" for o in others)
    yield "loading", f"{pilot.loading:.1%} of a step"
    total = plan.seconds if plan.seconds is not None else plan.steps * chosen.seconds
    seen = f"{plan.steps:,} steps, {plan.images:,} examples, {plan.epochs:,.1f} passes over the data"
    yield "in " + duration(total), seen
    mib = {name: getattr(memory, name) / 2**20 for name in ("total", "parameters", "optimiser", "activations", "available")}
    yield (
        "memory",
        f"{mib['total']:,.0f} MiB (weights {mib['parameters']:,.1f}, optimiser {mib['optimiser']:,.1f}, activations "
        f"{mib['activations']:,.0f}); {mib['available']:,.0f} MiB are free: {'fits' if memory.fits else 'does not fit'}",
    )
    yield "sampling", f"about {duration(plan.sampling_seconds)} for 64 samples, {plan.evaluations:,} evaluations"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _rate(images: float) -> str:
    return f"{images:,.0f} examples/s" if images >= 10 else f"{images:.2g} examples/s"
