"""Anomaly: which rows do not belong, by the density and by the score, at a rate of false alarms that is kept.

Both statistics of a row x are of its residuals r = (x - D(x + lambda·noise))/lambda over noise levels lambda, D the blend of
the learned denoiser with two that need no training (`blend.py`). They are high where it is odd:

    density    -log p(x) of data seen through a little noise, lambda_0 from 0.1 of their standard deviation; but for a constant

                   E_noise[-log p_0(x + lambda_0·noise)] = ∫_lambda_0^∞ E_noise|r|² dlambda/lambda

               which is exact where D is, since d KL(N(x, lambda²) || p_lambda)/d ln(lambda) = -E|r|²
    norms      how unusual the vector of log |r|² over levels is, with noise and without, where r is -lambda times the score:
               by a Gaussian of this vector

The first is fooled by what is likelier than any real row, such as the mean of several; the second sees where the density has
its slopes, and what is too near to the middle. Each becomes a surprisal, -log of its rank among training rows and more beyond
all of them, and the surprise is

    surprise = ln((e^density + e^norms)/2)

for a row that one voice finds odd is odd, however usual it is for the other: the mean of several rows is among the likeliest,
and in a sum of both that would count for it. The mean of two inverse p-values is one for "either of the two is false" (Wilson).
No training row is among the points by which it is denoised itself.

The weights of the blend come of held-out rows, those of a held-out row of the others. All else is fixed by the training rows.
So the rank of a row's surprise among those of held-out rows is a p-value (`conformal.py`): of rows like these, at most a share
r has p <= r, whatever was learned.

Which coordinates make a row odd: of a Gaussian with the precision P the score is s = -P·(x - mean), and x_i deviates from its
mean given the other coordinates by s_i/P_ii, with variance 1/P_ii. As P_ii = E[s_i²], its conditional surprisal is, but for a
constant, half of

    s_i²/E[s_i²],    E over training rows with noise of the level

What it is of all coordinates' together is averaged over levels from 0.3 to 3. Low ones see the shape of the density, and only
high ones a row that is far from all others, where a network at a low level has learned nothing.

References: Mahmood, Oliva, Styner (2021), "Multiscale score matching for out-of-distribution detection", arXiv 2010.13132.
Nalisnick et al. (2019), "Do deep generative models know what they don't know?", arXiv 1810.09136. Kong, Brekelmans, Ver Steeg
(2023), "Information-theoretic diffusion", arXiv 2302.03792. Wilson (2019), "The harmonic mean p-value for combining dependent
tests", PNAS 116(4). Bates et al. (2023), arXiv 2104.08279.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.anomaly.blend import KINDS, Blend, best_weights, squares
from scorefield.conformal import p_values
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng, stream_of, subsample

SEEN = 0.1  # of the data's standard deviation: the noise through which the density is seen
LEVELS = 12  # of noise
LOWEST, HIGHEST = 0.03, 5.0  # of them, likewise
NEAR = (0.3, 3.0)  # levels at which coordinates are compared
SHRINK = 0.1  # of the covariance of the norms towards its diagonal
REFERENCE, UNSEEN = 500, 2000  # training rows and held-out rows at most
NUMBERS, FEWEST = 2**19, 128  # of them all, where rows are large; but of each so many at least
PIECE, PAIRS = 2**18, 2**21  # numbers of noisy rows at a time, and of pairs of such a row and a point
FOLDS = 5  # of held-out rows, each with the weights that the others give


@dataclass(frozen=True, eq=False)
class Oddness:
    """How odd rows are.

    Attributes:
        surprise: `(n,)`, nats; higher is odder.
        density, norms: the surprisals of the two voices, `(n,)`.
        p_value: `(n,)`, in (0, 1].
        shares: of each coordinate in what makes the row odd, `(n, *shape)`, sum 1.
    """

    surprise: Tensor
    density: Tensor
    norms: Tensor
    p_value: Tensor
    shares: Tensor


class Detector:
    """Finds odd rows by a field, training rows and rows that it was not trained on.

    Attributes:
        levels: of noise, in model space.
        weights: of the learned, the normal and the points' denoiser at each level, `(levels, 3)`.
        unseen: surprises of the held-out rows, `(m,)`.

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
            field: in model space, any.
            train: examples that it was trained on, `(n, *shape)`, of which 500 are measured and 2000 denoise.
            unseen: examples that it was not trained on, `(m, *shape)`, of which 2000 are used; of large examples fewer.
            progress: called with the share of the work that is done.

        Raises:
            ScorefieldError: no unseen rows.
        """
        if not len(unseen):
            raise ScorefieldError(
                "got a run without held-out rows, expected some, to know what is usual: train again with data.held_out=0.1"
            )
        self.field, self.std, self.levels = field, field.data_std, levels_of(field)
        scaled = [level / self.std for level in self.levels]
        self.near = [i for i, one in enumerate(scaled) if NEAR[0] <= one <= NEAR[1]] or [0]
        self.seen = [i for i, one in enumerate(scaled) if one >= SEEN] or [len(scaled) - 1]
        self.blend = Blend(field, train)
        most = max(FEWEST, NUMBERS // math.prod(field.shape))
        own = subsample(len(self.blend.points), min(REFERENCE, most))
        known, unseen = self.blend.points[own], unseen[subsample(len(unseen), min(UNSEEN, most))].flatten(1)
        share = len(known) / (len(known) + len(unseen))
        grams = self._grams(known, None, own, portion(progress, 0, share))
        held = self._grams(unseen, None, None, portion(progress, share, 1 - share))
        self.weights = best_weights(held)
        self._learn_usual(grams, known)
        self.unseen = self._of_unseen(held)

    def __call__(self, rows: Tensor, progress: Progress = silent) -> Oddness:
        """Return how odd rows are, `(n, *shape)`; a row's answer does not depend on the others."""
        flat = rows.flatten(1)
        density, norms = self._surprisals(self._grams(flat, self.weights, None, progress), self.weights)
        surprise = loud(density, norms)
        shares = self._shares(flat).reshape(rows.shape)
        return Oddness(surprise, density, norms, p_values(surprise, self.unseen), shares)

    def _at_once(self, d: int) -> int:
        """Return how many rows are looked at together: changes the memory used, not the results."""
        return max(1, min(PIECE // d, PAIRS // len(self.blend.points)) // len(self.blend.noise))

    # --- statistics of rows ---------------------------------------------------------------------------------------------------

    def _grams(self, rows: Tensor, weights: Tensor | None, own: Tensor | None, progress: Progress) -> Tensor:
        """Return the matrices of which a row's statistics are made, a piece of the rows at a time."""
        found, size = [], self._at_once(rows.shape[1])
        for first in range(0, len(rows), size):
            piece = rows[first : first + size].double().to(self.blend.device)
            which = None if own is None else torch.as_tensor(own)[first : first + size]
            found.append(self.blend.grams(piece, self.levels, weights, which))
            progress(min(1.0, (first + size) / len(rows)), f"rows {first} to {first + len(piece) - 1}")
        return torch.cat(found) if found else torch.zeros(0, len(self.levels), 2, len(KINDS), len(KINDS), dtype=torch.float64)

    def _statistics(self, grams: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return -log p but for a constant, `(n,)`, and the logs of the norms, `(n, 2·levels)`."""
        clean, noisy = squares(grams, weights)
        seen = noisy[:, self.seen]
        # by the trapezoidal rule in ln lambda, and beyond the highest level, where |r|² falls as 1/lambda²
        integral = (
            torch.trapezoid(seen, torch.tensor(self.levels, dtype=torch.float64)[self.seen].log(), dim=1) + seen[:, -1] / 2
        )
        return integral, torch.cat([clean.log(), noisy.log()], dim=1)

    def _surprisals(self, grams: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        density, norms = self._statistics(grams, weights)
        return surprisal(density, self.density), surprisal(self._distance(norms), self.norms)

    def _distance(self, norms: Tensor) -> Tensor:
        off = norms - self.mean
        distance: Tensor = 0.5 * ((off @ self.precision) * off).sum(dim=1)
        return distance

    # --- what is usual --------------------------------------------------------------------------------------------------------

    def _learn_usual(self, grams: Tensor, known: Tensor) -> None:
        """Fix by training rows what the surprisals and the shares are measured against."""
        self.density, norms = self._statistics(grams, self.weights)
        self.mean = norms.mean(dim=0)
        covariance = norms.mT.cov() if len(norms) > 1 else torch.eye(norms.shape[1], dtype=torch.float64)
        covariance = (1 - SHRINK) * covariance + SHRINK * torch.diag(covariance.diagonal())
        self.precision = torch.linalg.inv(covariance + 1e-9 * torch.eye(len(covariance), dtype=torch.float64))
        self.norms = self._distance(norms)
        rng = SampleRng(range(len(known)), stream=stream_of("odd", "noise"))
        noise = rng.normal(known.shape[1:]).to(known.device)
        self.usual = torch.stack([self._scores(known, noise, i).square().mean(dim=0) for i in self.near]).clamp(min=1e-300)

    def _of_unseen(self, held: Tensor) -> Tensor:
        """Return the surprises of held-out rows, each by weights that it has no part in."""
        fold, found = torch.arange(len(held)) % FOLDS, torch.zeros(len(held), dtype=torch.float64)
        for number in range(min(FOLDS, len(held))):
            mine = fold == number
            weights = best_weights(held[~mine]) if bool((~mine).any()) else self.weights
            found[mine] = loud(*self._surprisals(held[mine], weights))
        return found

    # --- which coordinates ----------------------------------------------------------------------------------------------------

    def _scores(self, rows: Tensor, noise: Tensor | float, index: int) -> Tensor:
        """Return -lambda times the score of the blend at rows with noise of a level, `(n, d)`."""
        level = self.levels[index]
        return self.blend.residuals(rows + level * noise, level, self.weights[index])

    def _shares(self, rows: Tensor) -> Tensor:
        found, size = [], self._at_once(rows.shape[1])
        for first in range(0, len(rows), size):
            piece = rows[first : first + size].double().to(self.blend.device)
            parts = torch.stack([self._scores(piece, 0.0, i).square() for i in self.near], dim=1) / self.usual
            found.append((parts / parts.sum(dim=2, keepdim=True).clamp(min=1e-300)).mean(dim=1).cpu())
        return torch.cat(found) if found else rows.double().cpu()


def levels_of(field: Field) -> list[float]:
    """Return noise levels from 0.03 to 5 of the data's standard deviation, as far as the field has them, evenly in the log."""
    process, std = field.process, field.data_std
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    least, most = (process.sigma(ends) / process.alpha(ends) / std).tolist()
    low, high = max(LOWEST, least * (1 + 1e-6)), min(HIGHEST, most * (1 - 1e-6))
    found: list[float] = (std * torch.logspace(math.log10(low), math.log10(high), LEVELS, dtype=torch.float64)).tolist()
    return found


def loud(density: Tensor, norms: Tensor) -> Tensor:
    """Return ln((e^density + e^norms)/2), which the larger of two surprisals decides.

    >>> [round(float(one), 3) for one in loud(torch.tensor([2.0, 9.0]), torch.tensor([2.0, 0.0]))]
    [2.0, 8.307]
    """
    return torch.logaddexp(density, norms) - math.log(2)


def surprisal(values: Tensor, reference: Tensor) -> Tensor:
    """Return -log of the share of reference values that are as high, and beyond all of them their deviations more.

    >>> [round(float(one), 2) for one in surprisal(torch.tensor([0.5, 2.5, 9.0]), torch.tensor([1.0, 2.0, 3.0]))]
    [0.0, 0.69, 7.39]
    """
    beyond = (values - reference.max()).clamp(min=0) / reference.std().clamp(min=1e-300)
    return -p_values(values, reference).log() + beyond
