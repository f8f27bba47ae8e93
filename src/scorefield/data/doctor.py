"""The data doctor: what in a data set is repeated, leaked, odd or badly scaled, found in bounded time and memory.

    exact copies    equal digests of the raw bytes; where columns have so few values that rows are equal by chance, a count
    near copies     root mean square difference below a tenth of the data's standard deviation, in 16 coordinates and more
    leak            a copy of a training example in the held-out part, which makes the held-out loss look better than it is
    outliers        values far from their column's median; examples far from their nearest neighbour; blank images

Near copies are found without comparing all pairs: 32 signs of random projections agree for two close vectors far more often
than for two distant ones, P(one sign agrees) = 1 - angle/pi, so copies meet in one of eight sorted lists of such codes, and
only neighbours there are compared in full. At most 100,000 examples are looked at, spread evenly over the source.

References: Charikar (2002), "Similarity estimation techniques from rounding algorithms". Tukey (1977), the outer fence: three
interquartile ranges above the upper quartile (here of the logarithm of distances, which are skewed).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scorefield.data.base import PIECE, ArrayView, DataIssue, Dataset, shown
from scorefield.data.columns import decode, width
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng, stream_of

MOST = 100_000  # examples looked at
NUMBERS = 2**28  # numbers looked at
FEATURES = 256  # numbers kept of each example for the search
NEAR = 0.1  # of the data's standard deviation: the root mean square difference of near copies
LEAST_DIMENSION = 16  # below it neighbours are close by chance
TABLES, BITS = 8, 32
COMPARED = 4096  # examples whose nearest neighbours are found
FAR = 10.0  # robust standard deviations from a column's median
HEAVY = 20.0  # standard deviations from a column's mean
CHANCE = 0.01  # pairs of equal rows that independent columns would give, from which on equal rows are no surprise
NAMED = 5  # outliers of each sort that are named
LEAK = ", which is trained on: a leak"


@dataclass(frozen=True)
class Findings:
    """What the doctor found.

    Attributes:
        looked_at: examples looked at, of both parts.
        examples: examples there are, of both parts.
        low, high: smallest and largest raw value seen.
        constant: flat indices of coordinates that never change on the training examples looked at.
        copies: training examples that repeat an earlier one, exactly.
        near_copies: training examples that all but repeat an earlier one.
        leaks: held-out examples that repeat a training example, exactly or nearly.
        nearest_training: median distance of a training example to the nearest other, per coordinate (root mean square), in
            units of model space.
        nearest_held_out: likewise, of a held-out example to the nearest training example.
        counts: training examples of each class, by name; empty without labels.
        warnings: sentences about the data as a whole.
        problems: single files, rows or columns: the source's own, then the doctor's.
    """

    looked_at: int
    examples: int
    low: float
    high: float
    constant: tuple[int, ...]
    copies: int
    near_copies: int
    leaks: int
    nearest_training: float
    nearest_held_out: float
    counts: dict[str, int]
    warnings: tuple[str, ...]
    issues: tuple[DataIssue, ...]


def _even(n: int, most: int) -> Tensor:
    """Return at most `most` of 0..n-1 at even distances."""
    count = max(1, min(n, most))
    return torch.arange(count) * n // count


def _features(x: Tensor) -> Tensor:
    """Return at most about 256 numbers of each example `(n, *shape)`: averages over tiles of it."""
    channels = x.shape[1]
    if x.ndim == 4:
        side = max(1, math.isqrt(FEATURES // min(channels, FEATURES)))
        if max(x.shape[2:]) > side:
            x = F.adaptive_avg_pool2d(x, (min(side, x.shape[2]), min(side, x.shape[3])))
    elif x.flatten(1).shape[1] > FEATURES:
        x = F.adaptive_avg_pool1d(x.flatten(1).unsqueeze(1), FEATURES)
    return x.flatten(1)


def where(data: Dataset, index: int) -> str:
    """Return the name of an example, counted through the training part and then the held-out one."""
    if data.names:
        return data.names[index]
    seen = len(data.train)
    part, i = (data.train, index) if index < seen else (data.held_out, index - seen)
    if isinstance(part, ArrayView):
        return f"row {int(part.rows[i])}"
    return f"{'training' if index < seen else 'held-out'} example {i}"


@dataclass
class _Sight:
    """What one walk through the examples leaves: their numbers, and which of all examples they are."""

    rows: Tensor  # of both parts, counted through the training part and then the held-out one
    seen: int  # how many of them are of the training part
    digests: list[bytes]
    features: Tensor
    blank: list[int]
    low: Tensor
    high: Tensor
    raw: tuple[float, float]
    std: float
    grey: bool


def _walk(data: Dataset, progress: Progress) -> _Sight:
    """Look at every example once, a few thousand at a time."""
    total, size = len(data.train) + len(data.held_out), math.prod(data.shape)
    share = min(1.0, min(MOST, NUMBERS // size) / total)
    parts = [_even(len(part), math.ceil(len(part) * share)) for part in (data.train, data.held_out)]
    digests, features, blank = list[bytes](), list[Tensor](), list[int]()
    low, high = torch.full((size,), math.inf), torch.full((size,), -math.inf)
    least, most, sums, squares, grey = math.inf, -math.inf, 0.0, 0.0, data.kind == "image" and data.shape[0] == 3
    step, done = max(1, min(PIECE, 2**24 // size)), 0
    for part, rows, first in zip((data.train, data.held_out), parts, (0, len(data.train)), strict=True):
        for some in torch.split(rows, step):
            raw = part[some]
            numbers = raw.reshape(len(raw), -1).numpy()
            digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in numbers]
            least, most = min(least, float(raw.min())), max(most, float(raw.max()))
            x = data.normaliser.encode(raw)
            flat = x.flatten(1)
            if data.kind in ("image", "signal"):
                blank += (some + first)[flat.amin(1) == flat.amax(1)].tolist()
            if not first:
                low, high = torch.minimum(low, flat.amin(0)), torch.maximum(high, flat.amax(0))
                sums += float(flat.sum(dtype=torch.float64))
                squares += float(torch.linalg.vector_norm(flat, dtype=torch.float64)) ** 2
            grey = grey and bool((raw[:, :1] == raw).all())
            features.append(_features(x))
            done += len(some)
            progress(done / sum(map(len, parts)), f"looking at example {done:,}")
    numbers_seen = len(parts[0]) * size
    std = math.sqrt(max(squares / numbers_seen - (sums / numbers_seen) ** 2, 0.0))
    rows = torch.cat([parts[0], parts[1] + len(data.train)])
    return _Sight(rows, len(parts[0]), digests, torch.cat(features), blank, low, high, (least, most), std, grey)


def _raw(data: Dataset, rows: Tensor) -> Tensor:
    """Return examples of both parts in model space, flat, in the order asked for."""
    seen = len(data.train)
    out = torch.empty(len(rows), math.prod(data.shape))
    for part, mine, first in ((data.train, rows < seen, 0), (data.held_out, rows >= seen, seen)):
        if bool(mine.any()):
            out[mine] = data.normaliser.encode(part[rows[mine] - first]).flatten(1)
    return out


def _exact(sight: _Sight) -> dict[int, int]:
    """Return, for each example that repeats an earlier one, which (positions among those looked at)."""
    first: dict[bytes, int] = {}
    return {i: at for i, digest in enumerate(sight.digests) if (at := first.setdefault(digest, i)) != i}


def _by_chance(data: Dataset, sight: _Sight, exact: dict[int, int]) -> float:
    """Return how many pairs of equal rows independent columns would give, of a table or of vectors: n²/2·prod(sum of p²).

    The sums are those of the rows that differ, so that copies do not explain themselves, and no less than those of a uniform
    law on the column's grid.
    """
    if data.kind not in ("vector", "table") or math.prod(data.shape) > FEATURES:
        return 0.0
    columns = data.columns or [{"type": "number", "missing": False} for _ in range(sight.features.shape[1])]
    x = sight.features[[i for i in range(len(sight.rows)) if i not in exact]]
    pairs = len(sight.rows) * (len(sight.rows) - 1) / 2
    varying = [column for column in columns if width(column)]
    for column, part in zip(varying, torch.split(x, [width(column) for column in varying], dim=1), strict=True):
        counts = torch.unique(part, dim=0, return_counts=True)[1].double()
        equal = float((counts * (counts - 1)).sum()) / max(len(x) * (len(x) - 1), 1)
        points = (column["high"] - column["low"]) / column["step"] + 1 if "step" in column else math.inf
        pairs *= max(equal, 1 / points)
    return pairs


def _near(data: Dataset, sight: _Sight, exact: dict[int, int]) -> dict[int, int]:
    """Return, for each example that nearly repeats an earlier one, which."""
    if math.prod(data.shape) < LEAST_DIMENSION:
        return {}
    fresh = torch.tensor([i for i in range(len(sight.rows)) if i not in exact])
    x = sight.features[fresh]
    x = x - x.mean(dim=0)
    directions = SampleRng(range(x.shape[1]), stream=stream_of("doctor")).normal((TABLES * BITS,)).float()
    weights, limit = 2 ** torch.arange(BITS), (NEAR * sight.std) ** 2
    found: dict[int, int] = {}
    for table in torch.split(directions, BITS, dim=1):
        codes = torch.cat([((some @ table > 0) * weights).sum(dim=1) for some in torch.split(x, PIECE)])
        order = codes.argsort(stable=True)
        for step in (1, 2, 3):
            i, j = order[:-step], order[step:]
            same = codes[i] == codes[j]
            i, j = i[same], j[same]
            pairs = zip(torch.split(i, PIECE), torch.split(j, PIECE), strict=True)
            keep = torch.cat([(x[a] - x[b]).square().mean(dim=1) < limit for a, b in pairs])
            for a, b in zip(torch.split(fresh[i[keep]], 64), torch.split(fresh[j[keep]], 64), strict=True):
                close = (_raw(data, sight.rows[a]) - _raw(data, sight.rows[b])).square().mean(dim=1) < limit
                for one, other in zip(a[close].tolist(), b[close].tolist(), strict=True):
                    earlier, later = min(one, other), max(one, other)
                    found[later] = min(earlier, found.get(later, earlier))
    return found


def _nearest(data: Dataset, sight: _Sight) -> tuple[Tensor, Tensor, Tensor]:
    """Return root mean square distances to the nearest training example: of training examples, which those are, of held-out."""
    size = math.prod(data.shape)
    most = max(64, min(COMPARED, 2**23 // size))
    rows = sight.rows[: sight.seen][_even(sight.seen, most)]
    held = sight.rows[sight.seen :][_even(len(sight.rows) - sight.seen, most // 4)]
    x, y = _raw(data, rows).double(), _raw(data, held).double()
    x, y = x - x.mean(dim=0), y - x.mean(dim=0)
    among = torch.cat([_apart(part, x, start) for start, part in _pieces(x)])
    apart = torch.cat([_apart(part, x, None) for _, part in _pieces(y)])
    return among / math.sqrt(size), rows, apart / math.sqrt(size)


def _pieces(x: Tensor) -> list[tuple[int, Tensor]]:
    return [(first, x[first : first + 512]) for first in range(0, len(x), 512)]


def _apart(points: Tensor, others: Tensor, start: int | None) -> Tensor:
    """Return the distance of each point to the nearest other; point i is itself number start + i of the others."""
    distances = torch.cdist(points, others)
    if start is not None:
        mine = torch.arange(len(points))
        distances[mine, mine + start] = torch.inf
    return distances.amin(dim=1)


def _outliers(data: Dataset, sight: _Sight, among: Tensor, rows: Tensor) -> list[DataIssue]:
    """Return a few examples worth a look, the oddest first."""
    issues = []
    if not _named(data):
        issues = [DataIssue(where(data, i), "is blank: all its values are equal", used=True) for i in sight.blank]
    if data.kind in ("vector", "table") and math.prod(data.shape) <= FEATURES:
        x = sight.features
        median = x.median(dim=0).values
        spread = (x - median).abs().median(dim=0).values * 1.4826
        away = torch.where(spread > 0, (x - median).abs() / spread, 0.0)
        worst, column = away.max(dim=1)
        for i in worst.argsort(descending=True)[:NAMED].tolist():
            if float(worst[i]) > FAR:
                value = _value(data, int(sight.rows[i]), int(column[i]))
                away_by = f"{float(worst[i]):,.0f} spreads from its median"
                cause = f"{_column(data, int(column[i]))} is {value}, {away_by}: an outlier?"
                issues.append(DataIssue(where(data, int(sight.rows[i])), cause, used=True))
    positive = among[among > 0]
    if len(positive) >= 16:
        logs = positive.log()
        lower, upper = torch.quantile(logs, torch.tensor([0.25, 0.75], dtype=logs.dtype)).tolist()
        fence, middle = math.exp(upper + 3 * (upper - lower)), float(positive.median())
        named = {issue.where for issue in issues}
        for i in among.argsort(descending=True)[:NAMED].tolist():
            if float(among[i]) > fence and where(data, int(rows[i])) not in named:
                cause = f"is {float(among[i]) / middle:.1f} times as far from all others as is usual: an outlier?"
                issues.append(DataIssue(where(data, int(rows[i])), cause, used=True))
    return issues


def _column(data: Dataset, coordinate: int) -> str:
    """Return the name of the column that a coordinate belongs to."""
    names = [repr(column["name"]) for column in data.columns or () for _ in range(width(column))]
    return f"column {names[coordinate] if names else coordinate}"


def _value(data: Dataset, index: int, coordinate: int) -> str:
    """Return what a person would find in the source: of a table in its own type, such as a date."""
    seen = len(data.train)
    part, i = (data.train, index) if index < seen else (data.held_out, index - seen)
    row = part[torch.tensor([i])]
    if data.columns is None:
        return shown(float(row.flatten()[coordinate]))
    owners = [column["name"] for column in data.columns for _ in range(width(column))]
    value = decode(row, data.columns, exact=True)[owners[coordinate]][0]
    return shown(value) if isinstance(value, float) else str(value)


def _named(data: Dataset) -> bool:
    """Whether the source itself has looked for odd examples, and named them by file, which says more than a number."""
    return any(issue.used for issue in data.issues)


def _repeats(data: Dataset, sight: _Sight, copies: dict[int, int], word: str, named: bool = False) -> list[DataIssue]:
    """Name the examples that repeat another; a leak says so, and is said even of what has been named as a copy."""
    issues = []
    for later, earlier in sorted(copies.items()):
        leak = earlier < sight.seen <= later
        if named and not leak:
            continue
        one, other = (where(data, int(sight.rows[i])) for i in (later, earlier))
        issues.append(DataIssue(one, f"{word} {other}" + (LEAK if leak else ""), used=True))
    return issues


def _counts(data: Dataset) -> dict[str, int]:
    if data.labels is None:
        return {}
    return dict(zip(data.classes, torch.bincount(data.labels, minlength=len(data.classes)).tolist(), strict=True))


def _warnings(data: Dataset, sight: _Sight, counts: dict[str, int]) -> list[str]:
    """Return sentences about the data as a whole."""
    said, present = [], {name: n for name, n in counts.items() if n}
    if len(present) < len(counts):
        said.append(f"No training example of {', '.join(name for name in counts if not counts[name])}.")
    if present and max(present.values()) >= 5 * min(present.values()):
        big, small = max(present, key=lambda name: present[name]), min(present, key=lambda name: present[name])
        said.append(
            f"Unequal classes: {present[big]:,} of {big!r} but {present[small]:,} of {small!r}; rare ones are learned worse."
        )
    low, high = data.normaliser.low, data.normaliser.high
    if low is not None and high is not None and sight.raw[1] - sight.raw[0] < 0.3 * (high - low):
        found = f"Values lie in {shown(sight.raw[0])} to {shown(sight.raw[1])} of the legal {shown(low)} to {shown(high)}"
        said.append(f"{found}: mis-scaled? Stretch them, or the model learns almost nothing but the mean.")
    if data.kind == "vector":  # a table's reader says so of its columns
        reach = torch.maximum(sight.low.abs(), sight.high.abs())
        heavy = (reach > HEAVY).nonzero().flatten().tolist()
        if heavy:
            worst = int(reach.argmax())
            found = f"Heavy tails: column {worst} reaches {float(reach[worst]):.0f} standard deviations from its mean"
            said.append(f"{found} ({len(heavy)} such): take logarithms, or clip.")
    if data.kind == "vector" and math.prod(data.shape) <= FEATURES:
        some = sight.features[_even(sight.seen, COMPARED)]
        few = [c for c in range(some.shape[1]) if 1 < len(torch.unique(some[:, c])) <= min(20, len(some) // 10)]
        if few:
            found = f"Columns {_few(few)} hold" if len(few) > 1 else f"Column {few[0]} holds"
            said.append(f"{found} few distinct values: a density peaks without bound there; samples will fall between them.")
    if sight.grey:
        said.append(
            "All three channels are equal: grey images saved as colour; one channel would be three times as cheap to read."
        )
    return said


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def examine(data: Dataset, progress: Progress = silent) -> Findings:
    """Look at a data set and say what is worth knowing before training on it.

    Args:
        data: an opened data set.
        progress: called with the share done, 0 to 1, and a few words.

    Returns:
        What was found; the order and every number are a function of the data alone.

    >>> from scorefield.data import DataConfig, open_source
    >>> examine(open_source("two-moons", DataConfig(examples=200))).leaks
    0
    """
    sight = _walk(data, portion(progress, 0.0, 0.5))
    exact, warnings = _exact(sight), list[str]()
    progress(0.5, "looking for copies")
    if exact and (expected := _by_chance(data, sight, exact)) > CHANCE:
        held = len({later for later, earlier in exact.items() if earlier < sight.seen <= later})
        said = f"{len(exact):,} of {len(sight.rows):,} rows equal an earlier one, {held:,} of them held-out ones"
        warnings = [f"{said}: columns of few values repeat by chance (over {expected:.2g} times here), so these are no leaks."]
        exact = {}
    near = _near(data, sight, exact) if all(column.get("continuous", True) for column in data.columns or ()) else {}
    progress(0.8, "measuring distances")
    among, rows, apart = _nearest(data, sight)
    counts = _counts(data)
    leaks = [later for copies in (exact, near) for later, earlier in copies.items() if earlier < sight.seen <= later]
    within = [sum(later < sight.seen for later in copies) for copies in (exact, near)]
    constant = (sight.low == sight.high).nonzero().flatten().tolist()
    copies = [*_repeats(data, sight, exact, "repeats", _named(data)), *_repeats(data, sight, near, "all but repeats")]
    copies.sort(key=lambda issue: not issue.cause.endswith(LEAK))
    leaked = sum(issue.cause.endswith(LEAK) for issue in copies)
    issues = [*data.issues, *copies[:leaked], *_outliers(data, sight, among, rows), *copies[leaked:]]
    progress(1.0, "")
    return Findings(
        looked_at=len(sight.rows),
        examples=len(data.train) + len(data.held_out),
        low=sight.raw[0],
        high=sight.raw[1],
        constant=tuple(constant),
        copies=within[0],
        near_copies=within[1],
        leaks=len(set(leaks)),
        nearest_training=float(among.median()),
        nearest_held_out=float(apart.median()),
        counts=counts,
        warnings=(*_warnings(data, sight, counts), *warnings),
        issues=tuple(issues),
    )
