"""Runge-Kutta: y' = slope(u, y) by the method of Dormand and Prince, every example with steps of its own.

One step of length h makes seven slopes k_1..k_7 and two answers, of order 5 and of order 4, out of the same slopes:

    k_i = slope(u + c_i·h, y + h·sum_j a_ij·k_j)        y+ = y + h·sum_i b_i·k_i        error = h·sum_i e_i·k_i

The last slope is the next step's first, so an accepted step costs six evaluations. A step is accepted where |error| is at most
atol + rtol·max(|y|, |y+|), and the next length is h·0.9·(that ratio)^(-1/5): the local error estimate, of order h^5, is held at
the tolerance, so the global error of the fifth-order answer is proportional to it too.

An example never waits for another and never shares a step with it: its path does not depend on the rest of the batch. Those
that have arrived are not evaluated again.

References: Dormand, Prince (1980), "A family of embedded Runge-Kutta formulae", J. Comput. Appl. Math. 6, 19-26. Hairer,
Norsett, Wanner (1993), "Solving ordinary differential equations I", table II.5.2 and section II.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.progress import Progress, silent
from scorefield.shapes import PerSample, Sample, flat, over

Slope = Callable[[Tensor, Tensor, Tensor], Tensor]  # (u `(k,)`, y `(k, *shape)`, which rows of the batch `(k,)`) -> y'
Norm = Callable[[Tensor], Tensor]  # error over tolerance `(k, *shape)` -> one number each `(k,)`, accepted up to 1

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # the fifth-order answer, where the last slope is taken
)
ATTEMPTS = 10_000  # steps of an example, accepted or not, before the solver gives up
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # fifth order minus fourth


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the solver arrived, and at what cost.

    Attributes:
        y: the state at the end, `(batch, *shape)`.
        evaluations: of the slope, `(batch,)`, int64: each example has its own number.
        steps: accepted, `(batch,)`, int64.
    """

    y: Sample
    evaluations: Tensor
    steps: Tensor


def root_mean_square(ratio: Sample) -> PerSample:
    """Return the root mean square over the coordinates of each example, `(batch,)`: the usual norm of an error."""
    return flat(ratio).square().mean(dim=1).sqrt()


def step(slope: Slope, u: PerSample, y: Sample, h: PerSample, first: Sample, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of length h.

    Args:
        slope: the right-hand side, `slope(u, y, rows)`.
        u: where each example is, `(batch,)`.
        y: its state, `(batch, *shape)`.
        h: its step, `(batch,)`, of either sign.
        first: its slope at (u, y), `(batch, *shape)`.
        rows: passed on to `slope`.

    Returns:
        The state of order 5, the estimated error of its fourth-order companion, and the slope at the new state.
    """
    slopes, length = [first], over(h, y)
    there = y
    for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
        there = y + length * sum(w * k for w, k in zip(weights, slopes, strict=True) if w)
        slopes.append(slope(u + node * h, there, rows))
    error = length * sum(w * k for w, k in zip(ERROR, slopes, strict=True) if w)
    return there, error, slopes[-1]


def _first_lengths(span: PerSample, moving: PerSample, standing: PerSample) -> PerSample:
    """Return first steps that move the state by a hundredth of its size, and at most a tenth of the way, `(batch,)`."""
    tenth = torch.full_like(span, 0.1)
    return span * torch.minimum(0.01 * standing.clamp(min=1.0) / (moving * span.abs() + 1e-300), tenth).double()


def _refuse_stuck(stuck: Tensor, u: PerSample) -> None:
    if len(stuck):
        raise NotFinite(
            f"got no finite or smooth slope near u = {float(u[stuck[0]]):g} for example {int(stuck[0])}, expected one that "
            "short steps can follow: check the field there, or raise rtol and atol"
        )


@torch.no_grad()
def solve(
    slope: Slope,
    y: Sample,
    start: PerSample | float,
    end: PerSample | float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    norm: Norm = root_mean_square,
    progress: Progress = silent,
) -> Solution:
    """Integrate y' = slope(u, y) from u = start to u = end, in either direction.

    Args:
        slope: `slope(u, y, rows)` with u `(k,)`, y `(k, *shape)` and rows `(k,)` int64, the places in the batch of the k
            examples that are still on their way: what else belongs to an example is looked up by them.
        y: the state at the start, `(batch, *shape)`, a floating type; float64 keeps small tolerances meaningful.
        start: one number, or one per example `(batch,)`.
        end: likewise.
        rtol: error allowed relative to the size of the state, >= 0.
        atol: error allowed besides, > 0.
        norm: makes one number of error/(atol + rtol·size); a step is accepted where it is at most 1.
        progress: called after every round with the fraction of the way done, averaged over examples.

    Returns:
        The `Solution`.

    Raises:
        ScorefieldError: tolerances that are not positive; more than `ATTEMPTS` steps.
        NotFinite: a slope that is NaN or infinite however short the step.

    >>> round(float(solve(lambda u, y, rows: y, torch.ones(1, 1, dtype=torch.float64), 0.0, 1.0, rtol=1e-9, atol=1e-9).y), 7)
    2.7182818
    """
    if not (rtol >= 0 and atol > 0):
        raise ScorefieldError(f"got rtol = {rtol:g} and atol = {atol:g}, expected rtol >= 0 and atol > 0: choose 1e-5 for both")
    u, goal = (torch.as_tensor(v, dtype=torch.float64, device=y.device).expand(len(y)).clone() for v in (start, end))
    span, y = goal - u, y.clone()
    rows = torch.nonzero(span).flatten()
    evaluations = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    steps = torch.zeros_like(evaluations)
    if not len(rows):
        return Solution(y, evaluations, steps)
    first = torch.zeros_like(y)
    first[rows] = slope(u[rows], y[rows], rows)
    evaluations[rows] += 1
    size = atol + rtol * y.abs()
    h = _first_lengths(span, norm(first / size), norm(y / size))
    tried = 0
    while len(rows):
        if tried == ATTEMPTS:
            raise ScorefieldError(
                f"got {len(rows)} of {len(y)} examples unfinished after {ATTEMPTS} steps, expected all to reach the end: "
                "raise rtol and atol, which a rough or float32 network cannot meet below about 1e-5"
            )
        tried += 1
        here, old, length = u[rows], y[rows], h[rows]
        last = (here + length - goal[rows]) * span[rows] >= -1e-12 * span[rows] ** 2
        length = torch.where(last, goal[rows] - here, length)
        new, error, slope_there = step(slope, here, old, length, first[rows], rows)
        evaluations[rows] += len(NODES) - 1
        ratio = norm(error / (atol + rtol * torch.maximum(old.abs(), new.abs()))).double().nan_to_num(nan=torch.inf)
        good = ratio <= 1
        won = rows[good]
        u[won] = torch.where(last, goal[rows], here + length)[good]
        y[won], first[won] = new[good], slope_there[good]
        steps[won] += 1
        factor = (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0)
        h[rows] = length * torch.where(good, factor, factor.clamp(max=0.9))
        rows = rows[u[rows] != goal[rows]]
        _refuse_stuck(rows[~(h[rows].abs() > 1e-13 * span[rows].abs())], u)  # NaN is stuck, too
        progress(float((1 - (goal - u) / torch.where(span == 0, 1.0, span)).mean()), "solving")
    return Solution(y, evaluations, steps)
