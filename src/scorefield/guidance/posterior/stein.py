"""Kernel Stein discrepancy (KSD): how far draws are from a density of which only the score is known; no truth is needed.

For every smooth f that is bounded, the mean of s·f + div f over p is 0, where s is the score of p. The largest mean that draws
give to an f of a unit ball, of the functions of a kernel k, is the KSD. Its square is a mean over pairs:

    KSD² = mean over i ≠ j of h(x_i, x_j),    h(x, y) = s(x)·s(y)·k + s(x)·grad_y k + s(y)·grad_x k + tr grad_x grad_y k

With the inverse multiquadric k = (1 + |x - y|²/c²)^(-1/2), whose slow decay makes KSD -> 0 imply convergence in law, and
lengths in units of c, with u = x - y and q = 1 + |u|²,

    h = s(x)·s(y)/q^(1/2) + (s(x) - s(y))·u/q^(3/2) + d/q^(3/2) - 3·|u|²/q^(5/2)

which has no unit. c is the median distance of the draws. Leaving out i = j makes KSD² unbiased: its mean is 0 for draws of p,
so that it may be negative. Its standard error is the jackknife's, as in `metrics.kernel`: right where the draws are not of p,
and up to sqrt(2) too large where they are.

It does not see what the score does not say: the weights of modes far from each other. 2,000 draws in equal numbers around -5
and 5, of unit variance, have a KSD² of 0.003 ± 0.02 against weights of one half, and the same to 1 in 100,000 of the error
against 0.8 and 0.2. So a small KSD says that the draws are right within each mode, not that the modes have their shares.

References: Liu, Lee, Jordan (2016), "A kernelized Stein discrepancy for goodness-of-fit tests", arXiv 1602.03253.
Chwialkowski, Strathmann, Gretton (2016), "A kernel test of goodness of fit", arXiv 1602.02964. Gorham, Mackey (2017),
"Measuring sample quality with kernels", arXiv 1703.01717.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.mmps import MmpsField
from scorefield.metrics.base import Estimate
from scorefield.randomness import SampleRng, stream_of
from scorefield.shapes import Sample, flat, over

LEAST = 3  # draws: with one left out there must still be a pair
BLOCK = 512  # rows at a time
PILOTS = 1000  # draws that the median distance is taken of
STEPS = 50  # of conjugate gradients


def median_distance(rows: Tensor) -> float:
    """Return the median distance of the first draws, `(n, d)`; 1 where they are all one point."""
    return float(torch.pdist(rows[:PILOTS]).median()) or 1.0


def stein_discrepancy(x: Sample, score: Tensor, scale: float | None = None) -> Estimate:
    """Return the squared kernel Stein discrepancy of draws from the density that has the score, without bias.

    Args:
        x: draws, `(n, *shape)`, n at least 3.
        score: grad log p at each of them, likewise.
        scale: c > 0, the length of the kernel; None for the median distance of the draws.

    Returns:
        KSD², without a unit, and its standard error over draws.

    Raises:
        ScorefieldError: fewer than 3 draws, shapes that differ, a scale that is not a positive number.
        NotFinite: NaN or infinity in either.

    >>> x = SampleRng(range(1000)).normal((2,))
    >>> right, wrong = stein_discrepancy(x, -x), stein_discrepancy(x, -x / 2)  # against N(0, I) and N(0, 2·I)
    >>> abs(right.value) < 5 * right.standard_error, wrong.value > 5 * wrong.standard_error
    (True, True)
    """
    if x.shape != score.shape or len(x) < LEAST:
        raise ScorefieldError(
            f"got draws of shape {tuple(x.shape)} and scores of shape {tuple(score.shape)}, expected one score for each of at "
            f"least {LEAST} draws: draw more, and evaluate the score at each"
        )
    if not bool(x.isfinite().all() and score.isfinite().all()):
        raise NotFinite("got NaN or infinity in the draws or their scores, expected finite numbers: leave them out")
    if scale is not None and not 0 < scale < math.inf:
        raise ScorefieldError(f"got a scale of {scale:g}, expected a positive number: leave it out for the median distance")
    rows = flat(x).double()
    c = median_distance(rows) if scale is None else scale
    rows, scores = (rows - rows.mean(dim=0)) / c, flat(score).double() * c  # centred, so that |x - y|² keeps its digits
    n, sums = len(rows), torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for first in range(0, n, BLOCK):
        h = _pairs(rows[first : first + BLOCK], scores[first : first + BLOCK], rows[first:], scores[first:])
        h[:, : h.shape[0]].fill_diagonal_(0.0)
        sums[first : first + BLOCK] += h.sum(dim=1)
        sums[first + BLOCK :] += h[:, h.shape[0] :].sum(dim=0)
    each = sums / (n - 1)
    return Estimate(float(each.mean()), 2 * (n - 1) / (n - 2) * float(each.std()) / math.sqrt(n))


def _pairs(x: Tensor, s: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Return h of all pairs, `(n, m)`, of draws x `(n, d)` with scores s, and y `(m, d)` with scores r; c = 1."""
    square = (torch.addmm((y**2).sum(dim=1), x, y.mT, alpha=-2) + (x**2).sum(dim=1, keepdim=True)).clamp_(min=0)
    along = (s * x).sum(dim=1, keepdim=True) - s @ y.mT - x @ r.mT + (r * y).sum(dim=1)  # (s - r)·(x - y)
    q = 1 + square
    return s @ r.mT / q.sqrt() + (along + x.shape[1] - 3 * square / q) / q**1.5


def answer_discrepancy(field: Field, measured: Measured, x: Sample, cond: Tensor | None = None) -> Estimate:
    """Return KSD² of the draws of an answer from the posterior, whose score is the prior's and the likelihood's.

    Draws and posterior are compared with noise of the field's last level, where it knows the score: x is noised, and the
    likelihood is that of y given the noised x, which is Gaussian to the order of that noise (`mmps.py`). For a Gaussian prior
    it is so exactly.

    Args:
        field: the prior.
        measured: the measurement, by a linear operator.
        x: draws of x0, `(n, *shape)`; rows of `Posterior.x`.
        cond: conditioning of each draw, or None.

    Raises:
        ScorefieldError: a nonlinear operator; what `stein_discrepancy` raises.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> from scorefield.guidance.posterior import posterior_sample
    >>> from scorefield.operators import Matrix
    >>> field, y = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0)), torch.tensor([1.5], dtype=torch.float64)
    >>> draws = posterior_sample(field, Matrix([[1.0, 0.0]]), y, 0.5, rng=SampleRng(range(500)), method="mmps")
    >>> found = answer_discrepancy(field, Measured(Matrix([[1.0, 0.0]]), y, 0.5), draws.x)
    >>> abs(found.value) < 5 * found.standard_error
    True
    """
    if not measured.operator.linear:
        raise ScorefieldError(
            f"got {measured.operator}, which is not linear, for the discrepancy of an answer, expected a linear operator: "
            "use stein_discrepancy with the score of the posterior"
        )
    t = torch.full((len(x),), field.process.t_min, dtype=torch.float64, device=x.device)
    rng = SampleRng(range(len(x)), stream=stream_of("stein"), device=x.device)
    alpha, lam = field.process.alpha(t), field.process.sigma(t) / field.process.alpha(t)
    z = x.double() + over(lam, x) * rng.normal(x.shape[1:])
    guided = MmpsField(field, measured, min(measured.y.numel(), STEPS))  # few, where s is not far below that noise
    return stein_discrepancy(z, over(alpha, x) * guided(over(alpha, x) * z, t, cond).score)
