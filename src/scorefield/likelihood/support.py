"""What has a density? Each coordinate is judged by its values, not by the name of its type, and so are all of them together.

    constant      one value in every row: it holds no information and has no density, and is left out (`Section`)
    separate      few values that repeat, at distances above the noise level of the density: a probability, not a density
    continuous    all else: a density, in the coordinate's own unit
    neither       a value that repeats among others that vary continuously (zeros in a column of amounts): refused

Of an example with separate and continuous coordinates there is a mixed density, the probability of the ones times the density
of the others given them. A flow over R^d has it as the mass of a cell around the separate values, and any density r on that
cell bounds its logarithm from below (Jensen):

    log of the integral over the cell of p(k + u, rest) du >= E_u [log p(k + u, rest) - log r(u)],    u ~ r

Noised at the level lambda, an atom is N(k, lambda²), so with r = N(0, lambda²) cut off at the edges of the cell the bound is
exact for the true field of separate values; a learned field is smoother, and a wider r is better. For cells narrower than r's
standard deviation, r is the uniform density of dequantisation. The cell of a missing number, whose coordinate then
holds no information, is the whole line.

Continuous coordinates of which one follows exactly from the others lie on a plane, which has no density. Rows of which many are
repetitions have none either. Both are refused.

Reference: Theis, van den Oord, Bethge (2016), "A note on the evaluation of generative models", arXiv 1511.01844, for the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield.data.table.columns import Column, indicators, transforms_of, width
from scorefield.data.transforms import bent
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.prediction import Prediction
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.shapes import PerSample, Sample, flat, over

NUMBERS = 2**24  # that are examined
FEWEST = 64  # rows, of however many coordinates
LUMP = 0.01  # share of the rows from which repeated values count: below, the average moves by hundredths of a nat
ALIKE = 1e-9  # of a coordinate's standard deviation: values nearer than this are one
FLAT = 1e-3  # of the smoothing: the spread in some direction below which rows lie on a plane
FEW = 100  # coordinates that are examined for values that repeat only where whole rows do
WIDE = 1024  # coordinates, above which exact dependence is tested in pairs of them only


@dataclass(frozen=True, eq=False)
class Support:
    """What the coordinates of data are, flattened, `(d,)`.

    Attributes:
        names: of the coordinates.
        varies: which are not constant, bool.
        values: one row of the data, which has the constant ones' values, float64.
        half: half the width of the cell of a separate value in the noise's unit, 0 where a coordinate is continuous, float64.
        void: pairs (coordinate of a number, coordinate that is 1 where the number says nothing: it is missing, or an atom).
    """

    names: tuple[str, ...]
    varies: Tensor
    values: Tensor
    half: Tensor
    void: tuple[tuple[int, int], ...] = ()

    def cells(self, rows: Tensor) -> Tensor:
        """Return half the widths of the cells of rows `(n, d)`: 0 where there is a density, infinity without a value."""
        half = self.half.expand(rows.shape).clone()
        for number, silent_one in self.void:
            half[rows[:, silent_one] > 0.5, number] = torch.inf
        return half

    def outside(self, rows: Tensor) -> str | None:
        """Return the name of a constant coordinate of which a row has another value, and so probability 0; None without one."""
        off = ((rows.double() - self.values) != 0)[:, ~self.varies].any(dim=0).nonzero().flatten()
        return self.names[int((~self.varies).nonzero().flatten()[off[0]])] if len(off) else None

    @property
    def separate(self) -> tuple[str, ...]:
        """Names of the coordinates with separate values."""
        return tuple(name for name, half in zip(self.names, self.half.tolist(), strict=True) if half > 0)


def coordinates_of(columns: Sequence[Column]) -> tuple[list[str], list[bool], list[tuple[int, int]]]:
    """Return the names of a table's coordinates, which of them are 0 or 1 by construction, and the pairs (number, is it void).

    >>> coordinates_of([{"name": "a", "type": "number", "missing": True}])
    (['a', 'a'], [False, True], [(0, 1)])
    >>> coordinates_of([{"name": "a", "type": "number", "missing": False, "atoms": [0.0]}])
    (['a', 'a', 'a'], [False, True, True], [(0, 2)])
    """
    names, binary, void = list[str](), list[bool](), list[tuple[int, int]]()
    for column in columns:
        size, first = width(column), len(names)
        names += [column["name"]] * size
        alone = size > 0 and column["type"] != "category"
        binary += [column["type"] in ("category", "boolean")] * (1 if alone else size) + [True] * (size - 1 if alone else 0)
        void += [(first, first + i) for i in indicators(column)]
    return names, binary, void


def support_of(rows: Any, smoothing: Tensor, columns: Sequence[Column] | None = None) -> Support:
    """Examine training rows: what each coordinate is.

    Args:
        rows: in the data's own unit, `(n, *shape)`, a tensor or `ArrayView`; a few thousand are examined.
        smoothing: standard deviation of the noise of the density, in the data's unit, or after its transform, `(d,)`.
        columns: what the coordinates of a table mean.

    Returns:
        The `Support`.

    Raises:
        ScorefieldError: rows without a density of any kind, and why.

    >>> rows = torch.stack([torch.arange(40) % 3, torch.arange(40) ** 0.5, torch.full((40,), 7.0)], dim=1)
    >>> support_of(rows, torch.full((3,), 0.01)).half.tolist()
    [0.5, 0.0, 0.0]
    """
    d = rows.shape[1:].numel()
    count = min(len(rows), max(1000, NUMBERS // d), max(FEWEST, 4 * NUMBERS // d))
    seen = flat(rows[subsample(len(rows), count)]).double()
    noisy = seen if columns is None else bent(seen, transforms_of(columns))  # as noise is added to them
    size = (noisy - noisy[0]).abs().amax(dim=0)  # very large and very small values are scaled to 1 before anything is squared
    size = torch.where(size > 0, size, 1.0)
    z, level = (noisy - noisy[0]) / size, smoothing / size
    names, binary, void = ([f"{i}" for i in range(d)], [False] * d, []) if columns is None else coordinates_of(columns)
    what = "coordinate" if columns is None else "column"
    _refuse_repeats(z)
    half, varies = torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.bool)
    for i in range(d):
        if binary[i]:
            half[i] = 0.5
            continue
        gone = [silent_one for number, silent_one in void if number == i]
        here = (seen[:, gone] < 0.5).all(dim=1)
        if not gone and not bool((seen[:, i] != seen[0, i]).any()):
            varies[i] = False
        elif bool(here.any()):
            half[i] = size[i] * _half(z[here, i], float(level[i]), f"{what} {names[i]!r}", seen[here, i])
    support = Support(tuple(names), varies, seen[0], half, tuple(void))
    if bool((varies & (half == 0)).any()):
        _refuse_planes(z, support, level, what)
    if not bool(varies.any()):
        raise ScorefieldError("got examples that are all the same, expected examples that differ: there is nothing to measure")
    return support


def _half(values: Tensor, smoothing: float, where: str, raw: Tensor) -> float:
    """Return half the width of the cell of separate values, or 0 of continuous ones; `raw`: the same in the data's unit."""
    distinct, counts = values.unique(return_counts=True)  # type: ignore[no-untyped-call]
    near = ALIKE * float(values.std(correction=0))
    first = torch.cat([torch.ones(1, dtype=torch.bool), distinct.diff() > near])
    group = first.cumsum(0) - 1
    counts = torch.zeros(int(group[-1]) + 1, dtype=torch.int64).index_add_(0, group, counts)
    distinct, n = distinct[first], len(values)
    gaps = distinct.diff()
    step = float(gaps.min()) if len(gaps) else 1.0
    multiple = gaps / step
    even = bool(((multiple - multiple.round()).abs() < 1e-3).all())
    if step > 2 * smoothing and len(distinct) <= (0.5 if even else 0.05) * n:
        return step / 2
    # A value that more rows have than there are others within reach of the noise is an atom among continuous ones.
    total = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    low, high = (torch.searchsorted(distinct, distinct + side * 2 * smoothing, right=side > 0) for side in (-1, 1))
    atoms = (counts >= 3) & (2 * counts > total[high] - total[low])
    share = int(counts[atoms].sum()) / n
    if share > LUMP:
        worst = float(raw[(values - distinct[(counts * atoms).argmax()]).abs().argmin()])
        raise ScorefieldError(
            f"got {where}, of which {share:.0%} of the values repeat (such as {worst:g}) and the others vary continuously, so "
            "that it has neither a density nor probabilities, expected one or the other: leave it out of the training, or the "
            "rows that repeat"
        )
    return 0.0


def _refuse_repeats(z: Tensor) -> None:
    """Refuse rows of which many are the same although their coordinates take so many values that none should repeat."""
    along = SampleRng([0], stream=stream_of("support", "rows")).normal(z.shape[1:])[0]
    counts = (z @ along).unique(return_counts=True)[1]  # type: ignore[no-untyped-call]
    many = max(len(column.unique()) for column in z.mT[:FEW])
    share = int(counts[counts >= 3].sum()) / len(z)
    if share > LUMP and many > 0.5 * len(counts) and many > 0.05 * len(z):
        raise ScorefieldError(
            f"got training examples of which {share:.0%} are there three times or more, expected examples that differ, since "
            "points that repeat have no density: remove the repetitions"
        )


def _refuse_planes(rows: Tensor, support: Support, smoothing: Tensor, what: str) -> None:
    """Refuse continuous coordinates that follow exactly from others."""
    which = support.varies.nonzero().flatten()
    z = rows[:, which] - rows[:, which].mean(dim=0)
    std = z.square().mean(dim=0).sqrt()
    z, continuous = z / std.clamp(min=1e-300), (support.half == 0)[which]
    flatness = FLAT * float((smoothing[which] / std.clamp(min=1e-300))[continuous].min())
    if len(which) <= WIDE and len(z) >= 2 * len(which):
        spread, directions = torch.linalg.eigh(z.mT @ z / len(z))
        lost = directions[:, spread.clamp(min=0).sqrt() < max(flatness, 1e-7)]
        part = lost.square().sum(dim=1) * continuous
        tied = part > 1e-3
        if not bool(tied.any()):
            return
        pair = part.argsort(descending=True)[:2].sort().values
    else:  # more coordinates than a covariance has rows for: pairs that are the same up to a sign
        shadow = (z.mT @ SampleRng(range(len(z)), stream=stream_of("support", "pairs")).normal()).abs()
        order = shadow.argsort()
        both = continuous[order][1:] & continuous[order][:-1]
        same = both & (shadow[order].diff() < 1e-9 * shadow[order][1:])
        if not bool(same.any()):
            return
        place = int(same.nonzero()[0])
        pair = order[place : place + 2].sort().values
    first, second = (support.names[int(which[i])] for i in (pair if len(pair) > 1 else pair.expand(2)))
    raise ScorefieldError(
        f"got {what}s that follow exactly from each other, {first!r} and {second!r} among them, so that the examples lie on a "
        "plane, where there is no density, expected none that the others determine: leave one of them out of the training"
    )


def spread(cells: Tensor, level: float, rng: SampleRng) -> tuple[Tensor, PerSample]:
    """Draw u of r, N(0, level²) cut off at the edges of the cells, 0 in cells of no width.

    Args:
        cells: half their widths, `(batch, *shape)`, float64: 0 draws nothing, infinity cuts nothing.
        level: standard deviation of r before the cut, > 0.
        rng: one seed per example.

    Returns:
        u, `(batch, *shape)`, and log r(u), `(batch,)`.

    >>> u, log_r = spread(torch.tensor([[1e-6, 0.0]], dtype=torch.float64), 1.0, SampleRng([0]))
    >>> bool(u.abs().max() <= 1e-6), round(float(log_r - math.log(1 / 2e-6)), 6)
    (True, 0.0)
    """
    open_ = cells > 0
    edge = torch.where(open_, cells, 1.0) / level
    below = torch.special.ndtr(-edge)
    inside = torch.special.erf(edge / math.sqrt(2))
    z = torch.special.ndtri(below + inside * rng.uniform(cells.shape[1:]).to(cells)).clamp(-edge, edge)
    log_r = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - math.log(level) - inside.log()
    return torch.where(open_, level * z, 0.0), flat(torch.where(open_, log_r, 0.0)).sum(dim=1)


class Section:
    """A field of the coordinates that vary, as a vector, `(k,)`; the others have the value that all data have there.

    A constant's noise is independent of everything, so this is the exact score of the coordinates that vary.

    >>> from scorefield import VE, Gaussian
    >>> whole = Gaussian([0.0, 5.0], [[1.0, 0.0], [0.0, 0.0]], VE(0.1, 10.0))
    >>> part = Section(whole, torch.tensor([True, False]), torch.tensor([0.0, 5.0]))
    >>> part(torch.tensor([[1.0]]), torch.tensor([0.0])).denoised.round(decimals=4)
    tensor([[0.9901]])
    """

    def __init__(self, field: Field, varies: Tensor, values: Tensor) -> None:
        """Wrap a field.

        Args:
            field: of all coordinates.
            varies: which vary, `(d,)`, bool, over flattened coordinates.
            values: clean values of all, in model space, `(d,)`; those that vary are not used.
        """
        self.field, self.process, self.whole = field, field.process, field.shape
        self.places, self.values = varies.nonzero().flatten(), values.double()
        self.shape: tuple[int, ...] = (len(self.places),)
        self.data_mean = field.data_mean.flatten()[self.places.to(field.data_mean.device)]
        self.data_std = field.data_std * math.sqrt(len(varies) / len(self.places))  # the constant ones have no variance

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        places, values = self.places.to(x.device), self.values.to(x)
        still = over(self.process.alpha(t).to(x.dtype), values.expand(len(x), -1)) * values
        whole = still.index_copy(1, places, x).reshape(-1, *self.whole)
        score = flat(self.field(whole, t, cond).score)[:, places]
        return Prediction.of_score(self.process, x, t.double(), score)
