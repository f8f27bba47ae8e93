"""The figure by which candidates are compared: lower is better.

Images and volumes are compared by the Frechet distance on the features that `evaluate` uses, everything else by the energy
distance of its coordinates. The Frechet distance of few samples is mostly its own bias. So images and volumes are compared by
the kernel distance, which has no bias, until all samples are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.data.planes import PICTURED
from scorefield.evaluation.reference import Reference, reference_of
from scorefield.metrics.base import Estimate, Metric
from scorefield.progress import Progress
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import Run

GROUPS = 20  # of the jackknife
REAL = 2000  # real examples of vectors, signals and tables, whose figure compares all pairs
FLOORS = 5  # sets of real examples, whose figures are averaged


@dataclass(frozen=True)
class Criterion:
    """What is measured, of samples in model space.

    Attributes:
        run: the opened run.
        reference: its real examples.
        metric, label: the figure of all samples, and its name.
        early, early_label: the figure of fewer samples, and its name.
        real: the held-out examples, as both metrics take them, `(m, d)`.
    """

    run: Run
    reference: Reference
    metric: Metric
    label: str
    early: Metric
    early_label: str
    real: Tensor

    @staticmethod
    def of(run: Run, progress: Progress) -> Criterion:
        """Return the figure that suits the run's data; raises `ScorefieldError` if these are gone or have changed."""
        reference = reference_of(run, progress=progress)
        name, early = ("frechet", "kernel") if run.kind in PICTURED else ("energy", "energy")
        metric, first = reference.metrics[name], reference.metrics[early]
        real = reference.held_out[metric.space]
        rows = torch.arange(len(real)) if run.kind in PICTURED else subsample(len(real), REAL)
        return Criterion(run, reference, metric, reference.label(name), first, reference.label(early), real[rows])

    def rows(self, x: Tensor) -> Tensor:
        """Return samples in model space as the metrics take them, `(n, d)`."""
        return self.reference.sets(self.reference.on_grid(self.run.decode(x)))[self.metric.space]

    def __call__(self, rows: Tensor) -> Estimate:
        """Return the figure of samples, `(n, d)`."""
        return self.metric(rows, self.real)

    def of_few(self, rows: Tensor) -> Estimate:
        """Return the figure of a part of the samples, `(n, d)`."""
        return self.early(rows, self.real)

    def without(self, rows: Tensor) -> Tensor:
        """Return the figure without each group of a jackknife over the seeds, `(GROUPS,)`, float64."""
        group = torch.arange(len(rows)) % GROUPS
        return torch.tensor([self(rows[group != g]).value for g in range(GROUPS)], dtype=torch.float64)

    def floor(self, n: int) -> float:
        """Return the figure of n independent draws of training examples, averaged over five sets."""
        known = self.reference.known[self.metric.space]
        draws = [
            SampleRng(range(n), stream=stream_of("tune", "floor", i)).choose(torch.ones(len(known))) for i in range(FLOORS)
        ]
        return sum(self(known[rows]).value for rows in draws) / len(draws)
