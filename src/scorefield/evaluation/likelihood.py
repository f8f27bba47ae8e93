"""Likelihood: how probable a run finds data, by the probability flow and, beside it, by a bound; in the unit that applies.

Grey levels are integers: they are dequantised, the flow starts at the noise level whose standard deviation is that of the
uniform noise, bin/sqrt(12), or at the run's lowest if that is higher, and both figures bound a probability from below. 8-bit
data are reported in bits/dim, other integers in nats, real numbers in nats of their density in the data's own unit. Coordinates
with separate values, such as a category or whether a number is missing, count by their probability (`likelihood/support.py`).
If a run's network is conditioned on classes and the examples have them, the figure is of log p(x | class).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.evaluation.likelihood_report import LikelihoodReport
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
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import Run

PARTS = ("held-out", "train")
SMALL = 16  # coordinates up to which the exact trace and a finer tolerance are the default


@dataclass(frozen=True)
class LikelihoodSpec:
    """Which examples' likelihood is measured, and how.

    Attributes:
        n: number of examples, at least 2; all there are if they are fewer.
        part: held-out or train.
        divergence: of the flow: exact costs a backward pass per coordinate, hutchinson one per probe; None for exact up to 16
            coordinates.
        probes: for hutchinson.
        tolerance: of the solver; None for 1e-5 up to 16 coordinates and 1e-3 above. A tolerance is refused if one ten times
            smaller moves an answer by more than 0.5 nats, or 0.02 per coordinate.
        levels: evaluations of the bound, at least 2.
        seed: of everything random.
        batch: examples at a time; changes memory, not figures.
    """

    __flat__: ClassVar[bool] = True

    n: int = 100
    part: str = "held-out"
    divergence: str | None = None
    probes: int = 8
    tolerance: float | None = None
    levels: int = 100
    seed: int = 0
    batch: int = 64

    def check(self) -> None:
        """Raise `ScorefieldError` for a value out of range."""
        least = (("-n", self.n, 2), ("--probes", self.probes, 1), ("--levels", self.levels, 2), ("--batch", self.batch, 1))
        for name, value, smallest in least:
            if value < smallest:
                raise ScorefieldError(f"got {name} {value}, expected at least {smallest}: ask for more")
        if self.part not in PARTS:
            raise ScorefieldError(f"got part {self.part!r}, expected held-out or train: name one of them")
        if self.divergence not in (None, "exact", "hutchinson"):
            raise ScorefieldError(f"got divergence {self.divergence!r}, expected exact or hutchinson: name one of them")


@dataclass(frozen=True, eq=False)
class _Method:
    """How a spec measures the likelihood of a run's examples.

    Attributes:
        subject: the run's examples as likelihoods see them.
        spec: what was asked for.
        grey: number of grey levels of the data; None for real numbers.
        trace: how the flow's divergence is found.
        exact: whether that is the exact trace.
        tolerance: of the solver.
        time: where the flow starts.
        ladder: of the bound.
        width: of the noise that spreads separate values; 0 where there are none.
        device: where the network computes.
    """

    subject: Subject
    spec: LikelihoodSpec
    grey: int | None
    trace: Divergence
    exact: bool
    tolerance: float
    time: float
    ladder: Tensor
    width: float
    device: torch.device

    @classmethod
    def of(cls, subject: Subject, spec: LikelihoodSpec, raw: Tensor, device: torch.device) -> _Method:
        """Choose what the spec leaves open, from the data."""
        process, normaliser, d = subject.field.process, subject.run.normaliser, subject.size
        exact = spec.divergence == "exact" or (spec.divergence is None and d <= SMALL)
        trace: Divergence = Exact() if exact else Hutchinson(spec.probes)
        tolerance = (1e-5 if d <= SMALL else 1e-3) if spec.tolerance is None else spec.tolerance
        grey = grey_levels(raw, normaliser)
        bin_std = 0.0 if grey is None else 1 / math.sqrt(12) / normaliser.scale[0]
        time = float(process.time_of_sigma(torch.tensor(max(bin_std, 1e-300), dtype=torch.float64)))
        ladder = geometric(process, spec.levels).to(device)
        width = subject.width(trace, device, spec.seed) if subject.separate else 0.0
        return cls(subject, spec, grey, trace, exact, tolerance, time, ladder, width, device)

    def batch(self, raw: Tensor, labels: Tensor | None, rows: Tensor, progress: Progress) -> _Batch:
        """Measure examples: raw ones `(n, *shape)`, their classes, if the network is conditioned on them, and their numbers."""

        def rng(purpose: str) -> SampleRng:
            stream = stream_of("likelihood", purpose, self.spec.part, self.spec.seed)
            return SampleRng(rows, stream=stream, device=self.device)

        subject, normaliser = self.subject, self.subject.run.normaliser
        raw, cond = raw.to(self.device), None if labels is None else labels.to(self.device)
        x, cells = subject.encode(raw)
        smooth, log_r = x, torch.zeros(len(raw), dtype=torch.float64, device=self.device)
        if self.grey is not None:
            smooth = normaliser.encode(dequantise(raw, rng("dequantise"))).double()
        elif cells is not None:
            noise, log_r = spread(cells, self.width, rng("dequantise"))
            smooth = x + noise
        flow = data_log_prob(
            subject.field,
            smooth,
            self.time,
            cond,
            rng=rng("probes"),
            divergence=self.trace,
            tolerance=self.tolerance,
            within=max(0.5, 0.02 * subject.size),
            progress=progress,
        )
        grid = None if self.grey is None else normaliser
        bound = elbo(subject.field, x, self.ladder, cond, rng=rng("elbo"), grid=grid, cells=cells, continuous=True)
        return _Batch(
            flow=subject.raw_nats(flow.value - log_r, raw, cells).cpu(),
            bound=subject.raw_nats(bound.value, raw, cells).cpu(),
            error=flow.standard_error.cpu(),
            evaluations=flow.evaluations.double().cpu(),
            moved=float(flow.error.max()),
            smoothing=flow.smoothing,
        )


@dataclass(frozen=True, eq=False)
class _Batch:
    """Likelihoods of a batch of examples.

    Attributes:
        flow, bound: by the flow and by the bound, `(n,)`, in nats.
        error: standard error of `flow` from the random trace, `(n,)`.
        evaluations: of the network for the flow, `(n,)`.
        moved: largest change in nats under a tolerance ten times smaller.
        smoothing: noise level where the flow starts.
    """

    flow: Tensor
    bound: Tensor
    error: Tensor
    evaluations: Tensor
    moved: float
    smoothing: float


def measure_likelihood(run: Run, spec: LikelihoodSpec, device: torch.device, progress: Progress = silent) -> LikelihoodReport:
    """Measure the log-likelihood of a run's examples, and write nothing.

    Args:
        run: an opened run whose data are there.
        spec: which examples, and how.
        device: where the network computes.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: as `scorefield.app.likelihood`.
    """
    spec.check()
    subject = Subject.of(run, run.data, device)
    raw, labels, rows = subject.examples(spec.part, spec.n, spec.seed)
    method, batches, done = _Method.of(subject, spec, raw, device), list[_Batch](), 0
    for numbers in torch.split(torch.arange(len(raw)), spec.batch):

        def flowing(fraction: float, _text: str, start: int = done, count: int = len(numbers)) -> None:
            progress((start + 0.9 * fraction * count) / len(raw), f"flow of examples {start} to {start + count - 1}")

        batches.append(method.batch(raw[numbers], None if labels is None else labels[numbers], rows[numbers], flowing))
        done += len(numbers)
        progress(done / len(raw), f"{done} of {len(raw)} examples")
    return _report(method, raw, labels is not None, batches)


def _report(method: _Method, raw: Tensor, given_class: bool, batches: list[_Batch]) -> LikelihoodReport:
    """Average likelihoods over examples, in the unit that applies."""
    subject, spec, grey, run, d = method.subject, method.spec, method.grey, method.subject.run, method.subject.size
    flow, bound = torch.cat([one.flow for one in batches]), torch.cat([one.bound for one in batches])
    unit, per_nat = "nats", 1.0
    if grey == 256:
        unit, per_nat = "bits/dim", 1 / (d * math.log(2))
        flow, bound = bits_per_dim(flow, raw, run.normaliser), -bound * per_nat
    elif grey is not None:
        flow = raw_nats(flow, run.normaliser, run.shape)
    guessing = None if grey is None else (8.0 if grey == 256 else -d * math.log(grey))
    by_probes = float(torch.cat([one.error for one in batches]).square().sum().sqrt()) / len(raw) * per_nat
    return LikelihoodReport(
        data=spec.part,
        examples=len(raw),
        unit=unit,
        meaning=_meaning(grey, subject, given_class),
        flow=_average(flow),
        probes=None if math.isnan(by_probes) else by_probes,
        elbo=_average(bound),
        guessing=guessing,
        divergence="exact trace" if method.exact else f"Hutchinson's estimate, {spec.probes} Rademacher probes",
        smoothing=batches[-1].smoothing * math.exp(subject.log_scale(density=True)),
        evaluations=float(torch.cat([one.evaluations for one in batches]).mean()),
        elbo_evaluations=spec.levels,
        tolerance=method.tolerance,
        moved=max(0.0, *(one.moved for one in batches)),
        seed=spec.seed,
        made_from=run.made_from,
        written=(),
        given_class=given_class,
        separate=subject.separate,
        constant=subject.constant,
        spread=method.width,
    )


def bound_gap(run: Run, *, n: int, device: torch.device, levels: int = 50, seed: int = 0) -> Estimate:
    """Return by how many nats an example the evidence lower bound is higher on training examples than on held-out ones.

    Args:
        run: an opened run whose data are there.
        n: examples of each part, at most.
        device: where the network computes.
        levels: evaluations of the bound.
        seed: of examples and draws.

    Raises:
        ScorefieldError: data that have neither a density nor probabilities.
    """
    subject, bounds = Subject.of(run, run.data, device), list[Estimate]()
    ladder = geometric(subject.field.process, levels).to(device)
    for name in ("train", "held-out"):
        raw, labels, rows = subject.examples(name, n, seed)
        x, cells = subject.encode(raw.to(device))
        rng = SampleRng(rows, stream=stream_of("gap", name, seed), device=device)
        grid = None if grey_levels(raw, run.normaliser) is None else run.normaliser
        cond = None if labels is None else labels.to(device)
        found = elbo(subject.field, x, ladder, cond, rng=rng, grid=grid, cells=cells, continuous=True)
        bounds.append(_average(found.value.cpu()))
    seen, unseen = bounds
    return Estimate(seen.value - unseen.value, math.hypot(seen.standard_error, unseen.standard_error))


def _average(values: Tensor) -> Estimate:
    """Return the mean of values, `(n,)`, with its standard error."""
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def _meaning(grey: int | None, subject: Subject, given_class: bool) -> str:
    """Say what the figures are."""
    d, given = subject.size, ", given its class" if given_class else ""
    if grey == 256:
        return f"bits per 8-bit value{given}, of uniformly dequantised data"
    if grey is not None:
        return f"log-probability of an image of {d} values on {grey} grey levels{given}; nats, since bits/dim is for 8-bit data"
    named = ", ".join(subject.separate[:5]) + (f" and {len(subject.separate) - 5} more" if len(subject.separate) > 5 else "")
    out = f"; left out: {subject.constant} constant coordinate{'s' * (subject.constant > 1)}" if subject.constant else ""
    if not subject.separate:
        unit = "in the data's own unit"
        return f"log-density of a point of {d} coordinates {unit}{given}; nats, since the data are real numbers{out}"
    rest = " times the density of the rest in the data's own unit" if subject.continuous else ""
    return f"log of the probability of what takes separate values ({named}){rest}{given}; nats{out}"
