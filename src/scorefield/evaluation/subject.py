"""A run's examples for likelihoods: classes, the kind of each coordinate, and the map to model space and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.data import Dataset
from scorefield.drawing import conditions_of
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.likelihood import Divergence, Section, Support, data_log_prob, grey_levels, spread, support_of
from scorefield.process import Process
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import Run
from scorefield.shapes import PerSample, Sample, flat

TRIED = 48  # training examples that choose how widely separate values are spread


@dataclass(frozen=True, eq=False)
class Subject:
    """A run's examples for likelihoods.

    Attributes:
        run: the run.
        source: the data that examples are taken from.
        field: of the coordinates that vary.
        support: the kind of each coordinate; None for grey levels, which all have probabilities.
        scale: of every coordinate, in the data's unit, or after its transform, `(d,)`.
    """

    run: Run
    source: Dataset
    field: Field
    support: Support | None
    scale: Tensor

    @classmethod
    def of(cls, run: Run, source: Dataset, device: torch.device) -> Subject:
        """Classify coordinates by the training examples; raises `ScorefieldError` for neither densities nor probabilities."""
        field, normaliser = run.field.to(device), run.normaliser
        if normaliser.holes is not None:
            raise ScorefieldError(
                "got examples with unknown cells (NaN), which have densities of different cells, expected whole ones: take "
                "likelihood.data_log_prob in Python, which gives that of the known cells of each, or fill them"
            )
        scale = normaliser.scales(run.shape).flatten()
        if grey_levels(source.train[:1], normaliser) is not None:
            return cls(run, source, field, None, scale)
        support = support_of(source.train, _lowest(field.process) * scale, source.columns)
        if bool(support.varies.all()):
            return cls(run, source, field, support, scale)
        values = flat(normaliser.encode(support.values.reshape(1, *run.shape)))[0]
        return cls(run, source, Section(field, support.varies, values), support, scale)

    def examples(self, part: str, n: int, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return at most n raw examples of a part, their classes if the network is conditioned on them, and their numbers."""
        held_out = part == "held-out"
        examples, labels = (
            (self.source.held_out, self.source.held_out_labels) if held_out else (self.source.train, self.source.labels)
        )
        rows = subsample(len(examples), n, seed)
        raw, classes = examples[rows], conditions_of(self.run, self.source, None if labels is None else labels[rows])
        odd = None if self.support is None else self.support.outside(flat(raw))
        if odd is not None:
            raise ScorefieldError(
                f"got {part} examples with another {odd!r} than the one value that all training examples have, expected the "
                "same: such examples have probability 0; leave it out of the training, or split the data otherwise"
            )
        return raw, classes, rows

    def encode(self, raw: Tensor) -> tuple[Sample, Tensor | None]:
        """Return examples in model space, only coordinates that vary, float64, and half the widths of their cells there."""
        x = self.run.normaliser.encode(raw).double()
        if self.support is None:
            return x, None
        cells = (self.support.cells(flat(raw).cpu().double()) / self.scale).to(x.device)
        if not bool(self.support.varies.all()):
            varies = self.support.varies.to(x.device)
            x, cells = flat(x)[:, varies], cells[:, varies]
        return x, cells.reshape(x.shape) if self.support.separate else None

    def raw_nats(self, value: PerSample, raw: Tensor, cells: Tensor | None) -> PerSample:
        """Return log-densities in the data's unit from those in model space; probabilities, as of grey levels, have none."""
        if self.support is None:
            return value
        slopes = self.run.normaliser.log_slopes(raw) if self.run.normaliser.transforms else -self.scale.log().expand(1, -1)
        slopes = flat(slopes.to(value.device))[:, self.support.varies.to(value.device)]
        return value + (slopes if cells is None else slopes * (flat(cells) == 0)).sum(dim=1)

    def width(self, trace: Divergence, device: torch.device, seed: int) -> float:
        """Return the standard deviation of the noise that spreads separate values.

        Every width gives a bound, and training examples choose the best one. For the true field of separate values that is the
        lowest noise; a learned field is less sharp.
        """
        low, best = _lowest(self.field.process), (-math.inf, math.inf)
        raw, labels, rows = self.examples("train", TRIED, seed)
        x, cells = self.encode(raw.to(device))
        assert cells is not None
        for width in (low, 2 * low, 4 * low, 8 * low):
            noise, log_r = spread(cells, width, SampleRng(rows, stream=stream_of("likelihood", "width", seed), device=device))
            rng = SampleRng(rows, stream=stream_of("likelihood", "width probes", seed), device=device)
            cond = None if labels is None else labels.to(device)
            try:
                found = data_log_prob(self.field, x + noise, cond=cond, rng=rng, divergence=trace, tolerance=1e-3, within=None)
            except ScorefieldError:  # the field is too rough so near to the values
                continue
            best = max(best, (float((found.value - log_r).mean()), -width))
        return low if math.isinf(best[1]) else -best[1]

    @property
    def size(self) -> int:
        """Number of coordinates of the field."""
        return math.prod(self.field.shape)

    def log_scale(self, *, density: bool) -> float:
        """Return the mean logarithm of the unit; with `density`, over the coordinates that have one, if any do."""
        logs = self.run.normaliser.units(self.run.shape).flatten().log()
        if density and self.support is not None and bool((which := self.support.varies & (self.support.half == 0)).any()):
            logs = logs[which]
        return float(logs.mean())

    @property
    def separate(self) -> tuple[str, ...]:
        """Names of the columns with separate values."""
        return () if self.support is None else tuple(dict.fromkeys(self.support.separate))

    @property
    def constant(self) -> int:
        """Number of constant coordinates."""
        return 0 if self.support is None else int((~self.support.varies).sum())

    @property
    def continuous(self) -> int:
        """Number of coordinates that have a density."""
        return 0 if self.support is None else int((self.support.varies & (self.support.half == 0)).sum())


def _lowest(process: Process) -> float:
    """Return the lowest noise of a process, sigma/alpha."""
    low = torch.tensor(process.t_min, dtype=torch.float64)
    return float(process.sigma(low) / process.alpha(low))
