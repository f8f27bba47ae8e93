"""Likelihood: how probable a run finds data, by the probability flow and, beside it, by a bound; in the unit that applies.

Grey levels are integers: they are dequantised, the flow starts at the noise level whose standard deviation is that of the
uniform noise, bin/sqrt(12), or at the run's lowest if that is higher, and both figures bound a probability from below. 8-bit
data are reported in bits/dim, other integers in nats, real numbers in nats of their density in the data's own unit, and what
takes separate values among them, such as a category or that a number is missing, by its probability (`likelihood/support.py`).
Where a run's network was told classes and the examples have them, it is told them here too: the figure is of log p(x | class).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.evaluation.subject import Subject
from scorefield.levels import geometric
from scorefield.likelihood import (
    Divergence,
    Exact,
    Hutchinson,
    bits_per_dim,
    data_log_prob,
    dequantise,
    elbo,
    grey_levels,
    raw_nats,
    spread,
)
from scorefield.metrics.base import Estimate
from scorefield.progress import Progress
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run

PARTS = ("held-out", "train")
SMALL = 16  # coordinates up to which the exact trace and a finer tolerance are the default


@dataclass(frozen=True)
class LikelihoodReport:
    """How probable a run finds data.

    Attributes:
        data: which part of them, "held-out" or "train".
        examples: how many.
        unit: "bits/dim" (lower is better) or "nats" (log-probability or log-density per example, higher is better).
        meaning: what the figures are, in words.
        flow: by the probability flow, averaged over examples, with the standard error of that average.
        probes: standard error of `flow` from the random trace alone: 0 for an exact one, None for a single probe.
        elbo: the evidence lower bound of the same examples (an upper bound in bits/dim), of the stochastic chain.
        guessing: what even guessing over the grey levels scores; None for real numbers.
        divergence: how the trace was found.
        smoothing: standard deviation, in the data's unit, of the Gaussian through which the flow sees the data's density.
        evaluations: of the network for the flow of one example, averaged; the check included.
        elbo_evaluations: of the network for the bound of one example.
        tolerance: of the solver.
        moved: largest change in nats of an example when the tolerance was made ten times smaller.
        seed: of dequantisation, probes and the bound's draws.
        made_from: weights, step, data and version that the figures are of.
        written: the files; none for a run that cannot be written.
        given_class: whether the network was told each example's class: then it is log p(x | class).
        separate: names of the columns (numbers of the coordinates) whose separate values count by their probability.
        constant: how many coordinates have the same value in all examples: they are left out.
        spread: standard deviation of the noise that spreads separate values, in model space; 0 where there are none.
    """

    data: str
    examples: int
    unit: str
    meaning: str
    flow: Estimate
    probes: float | None
    elbo: Estimate
    guessing: float | None
    divergence: str
    smoothing: float
    evaluations: float
    elbo_evaluations: int
    tolerance: float
    moved: float
    seed: int
    made_from: dict[str, Any]
    written: tuple[Path, ...]
    given_class: bool = False
    separate: tuple[str, ...] = ()
    constant: int = 0
    spread: float = 0.0


def measured(
    opened: Run,
    *,
    n: int,
    part: str = "held-out",
    divergence: str | None = None,
    probes: int = 8,
    tolerance: float | None = None,
    levels: int = 100,
    seed: int = 0,
    batch: int = 64,
    where: torch.device,
    progress: Progress,
) -> LikelihoodReport:
    """Do what `likelihood` does, of an opened run on a device, and write nothing."""
    for name, value, least in (("-n", n, 2), ("--probes", probes, 1), ("--levels", levels, 2), ("--batch", batch, 1)):
        if value < least:
            raise ScorefieldError(f"got {name} {value}, expected at least {least}: ask for more")
    if part not in PARTS:
        raise ScorefieldError(f"got part {part!r}, expected held-out or train: name one of them")
    if divergence not in (None, "exact", "hutchinson"):
        raise ScorefieldError(f"got divergence {divergence!r}, expected exact or hutchinson: name one of them")
    subject = Subject.of(opened, opened.data, where)
    raw, told, rows = subject.some(part, n, seed)
    field, normaliser, d = subject.field, opened.normaliser, math.prod(subject.field.shape)
    process, grey = field.process, grey_levels(raw, normaliser)
    exact = divergence == "exact" or (divergence is None and d <= SMALL)
    trace: Divergence = Exact() if exact else Hutchinson(probes)
    tolerance = (1e-5 if d <= SMALL else 1e-3) if tolerance is None else tolerance
    bin_std = 0.0 if grey is None else 1 / math.sqrt(12) / normaliser.scale[0]
    time = float(process.time_of_sigma(torch.tensor(max(bin_std, 1e-300), dtype=torch.float64)))
    ladder, done = geometric(process, levels).to(where), 0
    wide = subject.width(trace, where, seed) if subject.separate else 0.0
    flows, errors, bounds, moved, smoothing, evaluations = [], list[Tensor](), [], 0.0, 0.0, list[Tensor]()

    for some in torch.split(torch.arange(len(raw)), batch):

        def rng(purpose: str, of: Tensor = rows[some], on: torch.device = where) -> SampleRng:
            return SampleRng(of, stream=stream_of("likelihood", purpose, part, seed), device=on)

        def of_flow(fraction: float, _text: str, start: int = done, count: int = len(some)) -> None:
            progress((start + 0.9 * fraction * count) / len(raw), f"flow of examples {start} to {start + count - 1}")

        cond = None if told is None else told[some].to(where)
        clean, cells = subject.encode(raw[some].to(where))
        there, log_r = clean, torch.zeros(len(some), dtype=torch.float64, device=where)
        if grey is not None:
            there = normaliser.encode(dequantise(raw[some].to(where), rng("dequantise"))).double()
        elif cells is not None:
            apart, log_r = spread(cells, wide, rng("dequantise"))
            there = clean + apart
        found = data_log_prob(
            field,
            there,
            time,
            cond,
            rng=rng("probes"),
            divergence=trace,
            tolerance=tolerance,
            within=max(0.5, 0.02 * d),
            progress=of_flow,
        )
        flows.append(subject.raw_nats(found.value - log_r, cells).cpu())
        errors.append(found.standard_error.cpu())
        evaluations.append(found.evaluations.double().cpu())
        moved, smoothing = max(moved, float(found.error.max())), found.smoothing
        grid = None if grey is None else normaliser
        below = elbo(field, clean, ladder, cond, rng=rng("elbo"), grid=grid, cells=cells, continuous=True)
        bounds.append(subject.raw_nats(below.value, cells).cpu())
        done += len(some)
        progress(done / len(raw), f"{done} of {len(raw)} examples")

    flow, bound = torch.cat(flows), torch.cat(bounds)
    unit, per_nat = "nats", 1.0
    if grey == 256:
        unit, per_nat = "bits/dim", 1 / (d * math.log(2))
        flow, bound = bits_per_dim(flow, raw, normaliser), -bound * per_nat
    elif grey is not None:
        flow = raw_nats(flow, normaliser, opened.shape)
    guessing = None if grey is None else (8.0 if grey == 256 else -d * math.log(grey))
    by_probes = float(torch.cat(errors).square().sum().sqrt()) / len(raw) * per_nat
    return LikelihoodReport(
        data=part,
        examples=len(raw),
        unit=unit,
        meaning=_meaning(grey, d, subject, told is not None),
        flow=_average(flow),
        probes=None if math.isnan(by_probes) else by_probes,
        elbo=_average(bound),
        guessing=guessing,
        divergence="exact trace" if exact else f"Hutchinson's estimate, {probes} Rademacher probes",
        smoothing=smoothing * math.exp(subject.log_scale(density=True)),
        evaluations=float(torch.cat(evaluations).mean()),
        elbo_evaluations=levels,
        tolerance=tolerance,
        moved=moved,
        seed=seed,
        made_from=opened.made_from,
        written=(),
        given_class=told is not None,
        separate=subject.separate,
        constant=subject.constant,
        spread=wide,
    )


def bound_gap(opened: Run, *, n: int, where: torch.device, levels: int = 50, seed: int = 0) -> Estimate:
    """Return by how many nats an example the evidence lower bound is higher on training examples than on held-out ones.

    Args:
        opened: a run whose data are there.
        n: examples of each part, at most.
        where: the device.
        levels: evaluations of the bound.
        seed: of examples and draws.

    Raises:
        ScorefieldError: data that have neither a density nor probabilities.
    """
    subject, bounds = Subject.of(opened, opened.data, where), list[Estimate]()
    ladder = geometric(subject.field.process, levels).to(where)
    for name in ("train", "held-out"):
        raw, told, rows = subject.some(name, n, seed)
        x, cells = subject.encode(raw.to(where))
        rng = SampleRng(rows, stream=stream_of("gap", name, seed), device=where)
        grid = None if grey_levels(raw, opened.normaliser) is None else opened.normaliser
        cond = None if told is None else told.to(where)
        found = elbo(subject.field, x, ladder, cond, rng=rng, grid=grid, cells=cells, continuous=True)
        bounds.append(_average(found.value.cpu()))
    seen, unseen = bounds
    return Estimate(seen.value - unseen.value, math.hypot(seen.standard_error, unseen.standard_error))


def _average(values: Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def _meaning(levels: int | None, d: int, subject: Subject, told: bool) -> str:
    given = ", given its class" if told else ""
    if levels == 256:
        return f"bits per 8-bit value{given}, of uniformly dequantised data"
    if levels is not None:
        return (
            f"log-probability of an image of {d} values on {levels} grey levels{given}; nats, since bits/dim is for 8-bit data"
        )
    named = ", ".join(subject.separate[:5]) + (f" and {len(subject.separate) - 5} more" if len(subject.separate) > 5 else "")
    out = f"; left out: {subject.constant} constant coordinate{'s' * (subject.constant > 1)}" if subject.constant else ""
    if not subject.separate:
        unit = "in the data's own unit"
        return f"log-density of a point of {d} coordinates {unit}{given}; nats, since the data are real numbers{out}"
    rest = " times the density of the rest in the data's own unit" if subject.continuous else ""
    return f"log of the probability of what takes separate values ({named}){rest}{given}; nats{out}"


def likelihood_table(report: LikelihoodReport) -> str:
    """Return the report as Markdown."""
    higher = "higher" if report.unit == "nats" else "lower"
    side = "lower" if report.unit == "nats" else "upper"
    probes = "unknown from one probe" if report.probes is None else f"{report.probes:.2g}"
    bound = report.guessing is not None or report.separate
    kind = f"{side} bound, by dequantisation" if bound else "density of smoothed data"
    lines = [
        f"# Likelihood of {report.examples} {report.data} examples",
        "",
        f"{report.meaning[0].upper()}{report.meaning[1:]}. {higher.capitalize()} is better.",
        "",
        f"| figure | {report.unit} | what it is |",
        "|---|---|---|",
        f"| probability flow | {_digits(report.flow)} | {kind} |",
        f"| evidence lower bound | {_digits(report.elbo)} | {side} bound, of the stochastic chain |",
    ]
    if report.guessing is not None:
        lines.append(f"| even guessing | {report.guessing:.6g} | |")
    if report.separate:
        lines += [
            "",
            f"Separate values are spread by noise of {report.spread:.3g} in model space, chosen on training examples.",
        ]
    lines += [
        "",
        "The two are of two models with one network: the density that the deterministic flow makes, and the chain that adds",
        "noise on the way. After ± stands the standard error over examples.",
        "",
        f"- trace: {report.divergence}; standard error of the flow's average from it: {probes}",
        f"- the flow starts at noise of standard deviation {report.smoothing:.3g} in the data's unit: so sharply it sees them",
        f"- solver: tolerance {report.tolerance:g}, {report.evaluations:.0f} evaluations an example; no example moved by more "
        f"than {report.moved:.2g} nats from ten times that tolerance",
        f"- bound: {report.elbo_evaluations} evaluations an example",
        f"- weights: of step {report.made_from['step']}, sha256 {str(report.made_from['model_sha256'])[:12]}",
    ]
    return "\n".join(lines) + "\n"


def _digits(estimate: Estimate) -> str:
    """Write a value with the digits that its standard error leaves it."""
    places = max(0, 2 - math.floor(math.log10(estimate.standard_error)) - 1) if estimate.standard_error > 0 else 3
    return f"{estimate.value:.{places}f} ± {estimate.standard_error:.{places}f}"
