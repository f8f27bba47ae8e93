"""Anomaly: which rows do not belong, by the density and by the score, at a rate of false alarms that is kept.

Two statistics of a row x, high where it is odd, both of the learned field alone:

    density    -log p(x) of data seen through a little noise, lambda = 0.1 of their standard deviation
    norms      how unusual the vector of log |lambda·score|² over noise levels lambda is, by a Gaussian of it

The first is fooled by what is likelier than any real row, such as the mean of several; the second sees where the density has
its slopes. Each becomes a surprisal, -log of its rank among training rows and more beyond all of them; their sum is the
surprise. All this is fixed by the training rows. So the rank of a row's surprise among those of held-out rows is a p-value
(`conformal.py`): of rows like these, at most a share r has p <= r, whatever was learned.

Which coordinates make a row odd: of a Gaussian with the precision P the score is s = -P·(x - mean), and x_i deviates from its
mean given the other coordinates by s_i/P_ii, with variance 1/P_ii. As P_ii = E[s_i²], its conditional surprisal is, but for a
constant, half of

    s_i²/E[s_i²],    E over training rows with noise of the level

What it is of all coordinates' together is averaged over levels from 0.3 to 3. Low ones see the shape of the density, and only
high ones a row that is far from all others, where a network at a low level has learned nothing.

References: Mahmood, Oliva, Styner (2021), "Multiscale score matching for out-of-distribution detection", arXiv 2010.13132.
Nalisnick et al. (2019), "Do deep generative models know what they don't know?", arXiv 1810.09136. Bates et al. (2023), arXiv
2104.08279.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.conformal import p_values
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.likelihood import Exact, Hutchinson, data_log_prob
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng, stream_of, subsample

SEEN = 0.1  # of the data's standard deviation: the noise through which the density is seen
LEVELS = 10  # of noise, for the norms
LOWEST, HIGHEST = 0.03, 3.0  # of them, likewise
NEAR = (0.3, 3.0)  # levels at which coordinates are compared
SHRINK = 0.1  # of the covariance of the norms towards its diagonal
SMALL, PROBES, TOLERANCE = 16, 4, 1e-2  # coordinates with an exact trace; probes of the others; of the flow
REFERENCE, UNSEEN, PIECE = 500, 2000, 512  # training rows and held-out rows at most; rows at a time
NEVER = 1e6  # nats: where the flow cannot be integrated there is no density


@dataclass(frozen=True, eq=False)
class Oddness:
    """How odd rows are.

    Attributes:
        surprise: `(n,)`, nats; higher is odder.
        density, norms: the surprisals whose sum it is, `(n,)`.
        p_value: `(n,)`, in (0, 1].
        shares: of each coordinate in what makes the row odd, `(n, d)`, sum 1.
    """

    surprise: Tensor
    density: Tensor
    norms: Tensor
    p_value: Tensor
    shares: Tensor


class Detector:
    """Finds odd rows by a field, training rows and rows that it was not trained on.

    >>> from scorefield import VE, Gaussian
    >>> field, rows = Gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]], VE(0.01, 20.0)), SampleRng(range(600)).normal((2,))
    >>> rows = rows @ torch.tensor([[1.0, 0.9], [0.0, 0.19**0.5]], dtype=torch.float64)
    >>> found = Detector(field, rows[:300], rows[300:])(torch.tensor([[1.0, 1.0], [2.0, -2.0]], dtype=torch.float64))
    >>> [bool(p < 0.01) for p in found.p_value]
    [False, True]
    """

    def __init__(self, field: Field, train: Tensor, unseen: Tensor, progress: Progress = silent) -> None:
        """Measure the reference rows.

        Args:
            field: of vectors in model space, any.
            train: rows that it was trained on, `(n, d)`, of which 500 are used.
            unseen: rows that it was not trained on, `(m, d)`, of which 2000 are used.
            progress: called with the share of the work that is done.

        Raises:
            ScorefieldError: no unseen rows.
        """
        if not len(unseen):
            raise ScorefieldError(
                "got a run without held-out rows, expected some, to know what is usual: train again with data.held_out=0.1"
            )
        self.field, self.std = field, field.data_std
        ends = torch.tensor([field.process.t_min, field.process.t_max], dtype=torch.float64)
        least, most = (field.process.sigma(ends) / field.process.alpha(ends) / self.std).tolist()
        self.seen = max(SEEN, least) * self.std
        low, high = max(LOWEST, least), min(HIGHEST, most)
        self.levels = (self.std * torch.logspace(math.log10(low), math.log10(high), LEVELS, dtype=torch.float64)).tolist()
        self.near = [
            i for i, one in enumerate(self.levels) if NEAR[0] <= one / self.std * (1 + 1e-9) <= NEAR[1] * (1 + 2e-9)
        ] or [0]
        train, unseen = train[subsample(len(train), REFERENCE)], unseen[subsample(len(unseen), UNSEEN)]
        share = len(train) / (len(train) + len(unseen))
        density, norms, _ = self._measured(train, portion(progress, 0, share))
        self.mean = norms.mean(dim=0)
        covariance = norms.mT.cov()
        covariance = (1 - SHRINK) * covariance + SHRINK * torch.diag(covariance.diagonal())
        self.precision = torch.linalg.inv(covariance + 1e-9 * torch.eye(LEVELS, dtype=torch.float64))
        self.usual = self._usual(train)
        self.density, self.norms = density, self._distance(norms)
        own = self._surprisals(unseen, portion(progress, share, 1 - share))
        self.unseen = own[0] + own[1]

    def __call__(self, rows: Tensor, progress: Progress = silent) -> Oddness:
        """Return how odd rows are, `(n, d)`; a row's answer does not depend on the others."""
        density, norms, squares = self._surprisals(rows, progress)
        parts = squares / self.usual
        shares = (parts / parts.sum(dim=2, keepdim=True).clamp(min=1e-300)).mean(dim=1)
        surprise = density + norms
        return Oddness(surprise, density, norms, p_values(surprise, self.unseen), shares)

    def _surprisals(self, rows: Tensor, progress: Progress) -> tuple[Tensor, Tensor, Tensor]:
        density, norms, squares = self._measured(rows, progress)
        return surprisal(density, self.density), surprisal(self._distance(norms), self.norms), squares

    def _distance(self, norms: Tensor) -> Tensor:
        off = norms - self.mean
        distance: Tensor = 0.5 * ((off @ self.precision) * off).sum(dim=1)
        return distance

    def _measured(self, rows: Tensor, progress: Progress) -> tuple[Tensor, Tensor, Tensor]:
        """Return -log p, the log norms `(n, levels)` and the squares of the scores at near levels `(n, near levels, d)`."""
        density, norms, squares = list[Tensor](), list[Tensor](), list[Tensor]()
        for first in range(0, len(rows), PIECE):
            piece = rows[first : first + PIECE].double().to(self.field.data_mean.device)
            scores = torch.stack([level * self._score(piece, level) for level in self.levels], dim=1)
            norms.append(scores.square().sum(dim=2).clamp(min=1e-300).log().cpu())
            squares.append(scores[:, self.near].square().cpu())
            density.append(self._surprise(piece).cpu())
            progress(min(1.0, (first + PIECE) / len(rows)), f"rows {first} to {first + len(piece) - 1}")
        return torch.cat(density), torch.cat(norms), torch.cat(squares)

    def _usual(self, rows: Tensor) -> Tensor:
        """Return E[(lambda·s_i)²] over rows with noise of each near level, `(near levels, d)`."""
        rng = SampleRng(range(len(rows)), stream=stream_of("odd", "noise"))
        found = list[Tensor]()
        for level in (self.levels[i] for i in self.near):
            noisy = (rows.double() + level * rng.normal(rows.shape[1:])).to(self.field.data_mean.device)
            found.append((level * self._score(noisy, level)).square().mean(dim=0).cpu())
        return torch.stack(found).clamp(min=1e-300)

    @torch.no_grad()
    def _score(self, rows: Tensor, level: float) -> Tensor:
        """Return the score of the data with noise of this level, in z = x/alpha, `(n, d)`."""
        process = self.field.process
        t = process.time_of_sigma(torch.tensor([level], dtype=torch.float64)).to(rows.device)
        alpha = process.alpha(t)
        return alpha * self.field(alpha * rows, t.expand(len(rows))).score.double()

    def _surprise(self, rows: Tensor) -> Tensor:
        """Return -log p of rows, `(n,)`."""
        t = float(self.field.process.time_of_sigma(torch.tensor([self.seen], dtype=torch.float64)))
        trace = Exact() if rows.shape[1] <= SMALL else Hutchinson(PROBES)
        one = SampleRng([0], stream=stream_of("odd"), device=rows.device)  # one seed: a row's probes do not depend on its place
        rng = one[torch.zeros(len(rows), dtype=torch.long)]
        try:
            return -data_log_prob(self.field, rows, t, rng=rng, divergence=trace, tolerance=TOLERANCE, within=None).value
        except ScorefieldError:
            if len(rows) == 1:
                return torch.full((1,), NEVER, dtype=torch.float64)
            half = len(rows) // 2
            return torch.cat([self._surprise(rows[:half]), self._surprise(rows[half:])])


def surprisal(values: Tensor, reference: Tensor) -> Tensor:
    """Return -log of the share of reference values that are as high, and beyond all of them their deviations more.

    >>> [round(float(one), 2) for one in surprisal(torch.tensor([0.5, 2.5, 9.0]), torch.tensor([1.0, 2.0, 3.0]))]
    [0.0, 0.69, 7.39]
    """
    beyond = (values - reference.max()).clamp(min=0) / reference.std().clamp(min=1e-300)
    return -p_values(values, reference).log() + beyond
