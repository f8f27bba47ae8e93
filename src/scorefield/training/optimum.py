"""The memorising optimum's error at many noise levels, by products of matrices that all levels share.

The exact field of points m_k, in equal proportions, denoises x_t = alpha·x0 + sigma·noise to D = sum_k w_k·m_k. Where x0 is one
of the points, what the weights depend on holds no level,

    log w_k = -(alpha²·G_k + 2·alpha·sigma·E_k)/(2·sigma²) + constant,      G_k = ‖x0 - m_k‖²,  E_k = noise·(x0 - m_k),

so one pass over the points gives G and E, in float64, for all levels, if these share their noise. A second one sums up D: the
product of the weights with the points, in float32. The error is that of the denoising objective, per coordinate,

    e = ‖sigma·score + noise‖²/d = (alpha/sigma)²·‖D - x0‖²/d.

What is left out. Let R be the diameter of the points, and let D be computed from a part of the components, which holds the
share 1 - r of the posterior weight, and D_out from the others. Then D_all = (1 - r)·D + r·D_out, hence, exactly,

    ‖D_all - D‖ = r·‖D_out - D‖ <= r·R,     |sqrt(e_all) - sqrt(e)| <= (alpha/sigma)·r·R/sqrt(d),
    log p_all(x_t) = log p(x_t) + log(number in the part/number of all) - log(1 - r).

- Of components with w_k below 1e-20 of the largest weight, which are not multiplied, r <= 1e-20·(number of points).
- Of a part of the training set that holds x0: r <= sum over the others of exp(-(u² + 2·u·z)/2), with u = alpha·‖x0 - m‖/sigma
  and z the noise along x0 - m, N(0, 1). So nothing changes at levels where u of all others is large. Where sigma is so large
  that all weights are equal, D is the mean of the part: per coordinate it differs from the mean of all by their standard
  deviation times sqrt(1/(number in the part) - 1/(number of all)).
- The float32 product of n points at a time rounds D - x0 by at most n·2^-24·max‖m_k‖ times its share of the weights that x0
  does not have, and by 2^-24·sqrt(n) of it in the mean: nothing where x0 has all of the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from scorefield.process import Process
from scorefield.progress import Progress, silent
from scorefield.shapes import flat

FAINT = 46.0  # below the largest log weight: 1e-20 of it


def memorising_errors(
    points: Callable[[], Iterable[Tensor]],
    x0: Tensor,
    noise: Tensor,
    process: Process,
    times: Tensor,
    progress: Progress = silent,
) -> Tensor:
    """Return the error of the exact field of some points on a few of them: (alpha/sigma)²·‖E[x0 | x_t] - x0‖²/d.

    Args:
        points: called twice; gives all points in pieces `(m, *shape)`, float32, in the same order.
        x0: examples, each one of the points, `(n, *shape)`.
        noise: of each example, `(n, *shape)`: the same at every level.
        process: how the data are noised.
        times: one for each level, `(levels,)`, float64, with sigma > 0.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        `(levels, n)`, float64.

    >>> from scorefield import VE
    >>> from scorefield.levels import geometric
    >>> process, x = VE(0.01, 10.0), torch.tensor([[0.0], [1.0]])
    >>> errors = memorising_errors(lambda: [x], x, torch.zeros(2, 1), process, geometric(process, 2))
    >>> [round(error, 5) for error in errors[:, 0].tolist()]  # half of the distance 1 at sigma = 10
    [0.00249, 0.0]
    """
    own, eps = flat(x0).double(), flat(noise).double()
    square, along = _differences(points, own, eps)
    alpha, sigma = process.alpha(times), process.sigma(times)
    by_square, by_along = (-(alpha**2) / (2 * sigma**2)).tolist(), (-alpha / sigma).tolist()

    def logs(level: int, first: int, last: int) -> Tensor:
        """Return log weights of some of the points, `(n, last - first)`, but for a constant."""
        part: Tensor = square[:, first:last] * by_square[level]
        return part.add_(along[:, first:last], alpha=by_along[level])

    count = square.shape[1]
    largest = [logs(level, 0, count).amax(dim=1) for level in range(len(times))]
    pulls = torch.zeros(len(times), *own.shape, dtype=torch.float64)  # sums of w_k·(m_k - x0)
    weights, first = torch.zeros(len(times), len(own), dtype=torch.float64), 0
    for piece in points():
        progress(first / count, "measuring the memorising optimum")
        rows, last = flat(piece).float(), first + len(piece)
        same = square[:, first:last] == 0
        for level in range(len(times)):
            part = logs(level, first, last).sub_(largest[level][:, None])
            seen = (part.amax(dim=1) > -FAINT).nonzero()[:, 0]
            if not len(seen):
                continue
            part = part[seen].exp_()
            weights[level, seen] += part.sum(dim=1)
            part.masked_fill_(same[seen], 0.0)  # x0 itself pulls nowhere: what is left keeps its digits however small it is
            pulls[level, seen] += (part.float() @ rows).double() - part.sum(dim=1, keepdim=True) * own[seen]
        first = last
    scale: Tensor = (alpha / sigma)[:, None]
    errors: Tensor = (scale[..., None] * pulls / weights[..., None]).square().mean(dim=2)
    return errors


def _differences(points: Callable[[], Iterable[Tensor]], own: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Return ‖x0 - m_k‖² and noise·(x0 - m_k), both `(n, points)`, float64; 0 where m_k is x0."""
    squares, alongs, both = list[Tensor](), list[Tensor](), torch.cat([own, eps])
    length, shift = own.square().sum(dim=1, keepdim=True), (own * eps).sum(dim=1, keepdim=True)
    for piece in points():
        rows = flat(piece).double()
        products = both @ rows.mT
        square = length + rows.square().sum(dim=1) - 2 * products[: len(own)]
        along = shift - products[len(own) :]
        close = square < 1e-9 * length.clamp(min=1e-300)  # which the expansion has no digits of
        for i in close.any(dim=1).nonzero()[:, 0].tolist():
            exact = own[i] - rows[close[i]]
            square[i, close[i]], along[i, close[i]] = exact.square().sum(dim=1), exact @ eps[i]
        squares.append(square)
        alongs.append(along)
    return torch.cat(squares, dim=1), torch.cat(alongs, dim=1)
