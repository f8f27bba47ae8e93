"""A Gaussian mixture of rows with unknown cells: its fit by expectation and maximisation, and what it says of them.

    known cells    R = M·S·M + N    M: 1 in cells that are known, 0 elsewhere;  N: the variance of the noise there, 1 elsewhere
                   w = R⁻¹·M·(z - m)        log p = -1/2·(w·M·(z - m) + log det R) + a constant
    all cells      E[x] = m + S·M·w         Cov[x] = S - S·M·R⁻¹·M·S

for each component; what is known gives each a share. A fit repeats: shares and moments of the cells of each row, then weights,
means and covariances of these. A covariance is the mean of its posterior under an inverse Wishart prior around a diagonal one,
as if a few rows more had said so: no component falls onto a point, and few rows do not make one too narrow. The number of
components is that of the least BIC.

References: Dempster, Laird, Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39(1).
Ghahramani, Jordan (1994), "Supervised learning from incomplete data via an EM approach", NIPS 6. Schwarz (1978), "Estimating
the dimension of a model", Annals of Statistics 6(2). Fraley, Raftery (2007), "Bayesian regularization for normal mixture
estimation and model-based clustering", Journal of Classification 24(2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.randomness import SampleRng, stream_of, subsample

MOST, STEPS, SETTLED = 6, 100, 2e-5  # components, steps of a fit, and nats a row below which it has ended
ROWS, WORK = 5000, 2e9  # at most so many rows, and numbers in their matrices over a fit
CUBE = 4e5  # numbers that all components of a row cost to explain, at most, but for the first
BEGINNINGS = 5  # choices of centres
PRIOR = 0.1  # of the variance of all rows: the mean of the prior, which counts as d + 2 rows
CONSTANT = 1e-6  # least variance of a column


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights, means and covariances.

    Attributes:
        log_weights: `(k,)`.
        means: `(k, d)`.
        covariances: `(k, d, d)`.
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor


def explained(covariance: Tensor, off: Tensor, known: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return w, log p of the known cells but for a constant, and the factor of R, of one component.

    Args:
        covariance: S, `(d, d)`.
        off: z - m, `(n·k, d)`, anything in unknown cells: k rows after each other have the same known cells and noise, and
            share a factor.
        known: whether a cell is known, `(n, d)`.
        noise: its variance, `(n, d)`.
    """
    m = known.to(off.dtype)
    matrix = m.unsqueeze(2) * covariance * m.unsqueeze(1) + torch.diag_embed(torch.where(known, noise, 1.0))
    factor, off = torch.linalg.cholesky(matrix), off.reshape(len(known), -1, off.shape[1])
    off = torch.where(known.unsqueeze(1), off, 0.0)
    w = torch.cholesky_solve(off.mT, factor).mT
    log_p = -0.5 * (w * off).sum(dim=2) - factor.diagonal(dim1=1, dim2=2).log().sum(dim=1, keepdim=True)
    return w.flatten(0, 1), log_p.flatten(), factor


def fitted(rows: Tensor, most: int = MOST) -> Mixture:
    """Return the mixture that fits rows, `(n, d)`, NaN in unknown cells, with the least BIC.

    >>> rows = SampleRng(range(400)).normal((1,)) * 0.1 + torch.tensor([[-1.0], [1.0]], dtype=torch.float64).repeat(200, 1)
    >>> found = fitted(rows)
    >>> found.log_weights.exp(), sorted(round(float(mean), 1) for mean in found.means.flatten())
    (tensor([0.5000, 0.5000], dtype=torch.float64), [-1.0, 1.0])
    """
    n, d = rows.shape
    x = rows[subsample(n, max(100, min(n, ROWS, int(WORK / (STEPS * (d * d + d))))))].double()
    known = ~x.isnan()
    count = known.sum(dim=0).clamp(min=1)
    mean = x.nansum(dim=0) / count
    variance = ((x - mean).square().nansum(dim=0) / count).clamp(min=CONSTANT)
    best, least, worse, most = None, math.inf, 0, max(1, min(most, int(CUBE / d**3)))
    for k in range(1, most + 1):
        found, log_p = _fit(x, known, mean, variance, k)
        bic = -2 * log_p + (k - 1 + k * (d + d * (d + 1) / 2)) * math.log(len(x))
        if bic < least:
            best, least, worse = found, bic, 0
        else:
            worse += 1
        if worse == 2 or k * (d + 1) > len(x) / 2:
            break
    assert best is not None
    return best


def _fit(x: Tensor, known: Tensor, mean: Tensor, variance: Tensor, k: int) -> tuple[Mixture, float]:
    """Return the fit with k components and the log-likelihood of the rows."""
    filled = torch.where(known, x, mean)
    shares, prior = _begun(filled / variance.sqrt(), k), PRIOR * torch.diag(variance)
    spread, extra = (~known).double() * variance, torch.zeros(k, len(variance), len(variance), dtype=torch.float64)
    means, values, before = mean.expand(k, -1), filled.expand(k, -1, -1), -math.inf
    extra = torch.diag_embed(shares.mT @ spread)
    for _ in range(STEPS):
        total = shares.sum(dim=0).clamp(min=1e-9)
        means = torch.einsum("nk,knd->kd", shares, values) / total.unsqueeze(1)
        away = values - means.unsqueeze(1)
        scatter = torch.einsum("nk,kni,knj->kij", shares, away, away) + extra
        few = len(variance) + 2
        covariances = (scatter + few * prior) / (total + 1).unsqueeze(1).unsqueeze(1)
        mixture = Mixture((total / total.sum()).log(), means, covariances)
        shares, log_p, values, extra = _expected(mixture, x, known)
        if log_p - before < SETTLED * len(x):
            break
        before = log_p
    return mixture, log_p


def _expected(mixture: Mixture, x: Tensor, known: Tensor) -> tuple[Tensor, float, Tensor, Tensor]:
    """Return the share of each component in each row, log p, E[x] and the summed Cov[x] of each component."""
    logs, values, extra = list[Tensor](), list[Tensor](), list[Tensor]()
    whole, zero = bool(known.all()), torch.zeros_like(mixture.means[0])
    parts = list(zip(mixture.means, mixture.covariances, strict=True))
    factors = list[Tensor]()
    for mean, covariance in parts:
        if whole:
            factor = torch.linalg.cholesky(covariance)
            white = torch.linalg.solve_triangular(factor, (x - mean).mT, upper=False)
            logs.append(-0.5 * white.square().sum(dim=0) - factor.diagonal().log().sum())
            values.append(x)
            continue
        w, log_p, each = explained(covariance, x - mean, known, zero.expand(x.shape))
        logs.append(log_p)
        values.append(torch.where(known, x, mean + (w * known) @ covariance))
        factors.append(each)
    joint = torch.stack(logs, dim=1) + mixture.log_weights
    log_p = joint.logsumexp(dim=1)
    shares = (joint - log_p.unsqueeze(1)).exp()
    for i, (_, covariance) in enumerate(parts):
        if whole:
            extra.append(torch.zeros_like(covariance))
            continue
        half = torch.linalg.solve_triangular(factors[i], known.double().unsqueeze(2) * covariance, upper=False)
        left = covariance - half.mT @ half
        extra.append(torch.einsum("n,nij->ij", shares[:, i], left))
    constant = 0.5 * math.log(2 * math.pi) * float(known.sum())
    return shares, float(log_p.sum()) - constant, torch.stack(values), torch.stack(extra)


def _begun(x: Tensor, k: int) -> Tensor:
    """Return shares to begin with, `(n, k)`: those of the nearest of k centres, the best of several choices of them."""
    tried = [_nearest(x, SampleRng(range(k), stream=stream_of("mixture", turn)).uniform()) for turn in range(BEGINNINGS)]
    return min(tried, key=lambda one: one[1])[0]


def _nearest(x: Tensor, at: Tensor) -> tuple[Tensor, float]:
    """Return which of the centres that numbers in (0, 1) choose is nearest, after some turns, and the squared distances."""
    k = len(at)
    centres = x[int(at[0] * len(x))].unsqueeze(0)
    for i in range(1, k):  # k-means++: Arthur, Vassilvitskii (2007)
        square = torch.cdist(x, centres).square().amin(dim=1).cumsum(dim=0)
        centres = torch.cat([centres, x[int((square < at[i] * square[-1]).sum())].unsqueeze(0)])
    for _ in range(20):
        nearest = torch.nn.functional.one_hot(torch.cdist(x, centres).argmin(dim=1), k).double()
        centres = (nearest.mT @ x) / nearest.sum(dim=0).clamp(min=1).unsqueeze(1)
    return nearest, float((x - nearest @ centres).square().sum())
