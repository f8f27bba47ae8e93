"""The report of a likelihood: as values, and as a Markdown table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scorefield.metrics.base import Estimate


@dataclass(frozen=True)
class LikelihoodReport:
    """How probable a run finds data.

    Attributes:
        data: the part of them, "held-out" or "train".
        examples: number of examples.
        unit: "bits/dim" (lower is better) or "nats" (log-probability or log-density per example, higher is better).
        meaning: what the figures are, in words.
        flow: by the probability flow, averaged over examples, with the standard error of that average.
        probes: standard error of `flow` from the random trace alone: 0 for an exact one, None for a single probe.
        elbo: the evidence lower bound of the same examples (an upper bound in bits/dim), of the stochastic chain.
        guessing: the figure of equal probabilities for all grey levels; None for real numbers.
        divergence: how the trace was computed.
        smoothing: standard deviation, in the data's unit, of the Gaussian with which the flow's density is smoothed.
        evaluations: of the network for the flow of one example, averaged; the check included.
        elbo_evaluations: of the network for the bound of one example.
        tolerance: of the solver.
        moved: largest change in nats of an example when the tolerance was made ten times smaller.
        seed: of dequantisation, probes and the bound's draws.
        made_from: weights, step, data and version of the figures.
        written: the files; none for a run that cannot be written.
        given_class: whether the figure is log p(x | class): the network is conditioned on each example's class.
        separate: names of the columns (numbers of the coordinates) whose separate values count by their probability.
        constant: number of coordinates with the same value in all examples; they are left out.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, without the places of its files."""
        return {name: value for name, value in asdict(self).items() if name != "written"}


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
        "The two figures are of two models with one network: the density of the deterministic flow, and the chain that adds",
        "noise at every step. After ± stands the standard error over examples.",
        "",
        f"- trace: {report.divergence}; its part in the standard error of the flow's average: {probes}",
        f"- the flow starts at noise of standard deviation {report.smoothing:.3g} in the data's unit, which smooths it",
        f"- solver: tolerance {report.tolerance:g}, {report.evaluations:.0f} evaluations an example; no example moved by more "
        f"than {report.moved:.2g} nats from ten times that tolerance",
        f"- bound: {report.elbo_evaluations} evaluations an example",
        f"- weights: of step {report.made_from['step']}, sha256 {str(report.made_from['model_sha256'])[:12]}",
    ]
    return "\n".join(lines) + "\n"


def _digits(estimate: Estimate) -> str:
    """Write a value with the digits that are significant under its standard error."""
    places = max(0, 2 - math.floor(math.log10(estimate.standard_error)) - 1) if estimate.standard_error > 0 else 3
    return f"{estimate.value:.{places}f} ± {estimate.standard_error:.{places}f}"
