"""Memorisation: are the samples new, or training examples in disguise? A copy of the training set wins every other metric.

Every sample x is compared with its nearest neighbours among the n training examples and among the m held-out ones. A sample
that lies near a training example proves nothing: blurred and averaged samples lie near everything, and so do the simple
examples of any data set. Three questions can be answered all the same.

  drawn     Does the set depend on which examples it was trained on? In the pool of all n + m examples each sample's nearest one
            is a training example or a held-out one. A generator that does not depend on it, however bad, gives the same samples
            if the two labels are shuffled. `drawn` is 0 for it and 1 for one of copies; `closest_record.py` has the theory.

  copied    Which samples are copies? With d_1 <= d_2 <= ... the distances to the training set, the ratio r = d_1/d_10 says how
            much nearer the nearest one is than is usual in so crowded a place. It has no unit. Blurred samples and ones far
            from the data have r close to 1, copies have r close to 0. Held-out examples show the r of new ones: of n' new
            samples, c have an r below the (k + 1)-th smallest of the m held-out ones with the probability of drawing c marbles
            of one colour before k + 1 of another, a negative hypergeometric, exact for every data set. k = 0, 1, 3, 10, ... are
            tried, and tried again with training examples, each left out of its set, beside the held-out ones, which may be few.
            The level is divided by the number of all these tests (Bonferroni). New samples that are not like the data have
            their own control: their ratios to the *held-out* set, of which they cannot be copies, must not be as small as
            often (a sign test).

  duplicates  Samples nearer to another sample than the closest pair of held-out examples, in sets of equal size.

The statistic of Meehan, Chaudhuri and Dasgupta (2020), "A non-parametric test to detect data-copying in generative models",
arXiv 2004.05675, z of the Mann-Whitney test that samples are as far from the training set as held-out examples are, is reported
beside them. No verdict rests on it, because it takes every blurred set for a copy and overlooks copies among worse samples.

Limits: a distance depends on its space. In pixels a copy that is mirrored or moved is far from its original, so images and
volumes are compared in these disguises too. Features are the same under everything that they ignore. Features that were learned
from the training examples depend on them, so `drawn` counts in model space only. Blurred copies are not found, nor are fewer
than about 15 copies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.closest_record import drawn
from scorefield.metrics.neighbours import neighbours
from scorefield.shapes import flat

CROWD = 10  # the neighbour whose distance says how crowded a place is
LEAST = 2 * CROWD  # rows of each set
ALPHA = 1e-3  # chance that new examples are called copies, over all spaces and disguises together
CLEAR = 4.0  # standard errors that are no accident: once in 30,000 times
CONTROLS = 5000  # training examples that serve as new ones, beside the held-out ones
DISGUISED = 2000  # samples that are compared in disguise, which costs as much again for each disguise
MODEL_SPACE = "model space"
BATCH = 8192  # rows that are checked at a time
Sets = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pair:
    """A sample and the training example nearest to it: rows of both, their distance, and r, which is near 0 for a copy."""

    sample: int
    training: int
    distance: float
    ratio: float


@dataclass(frozen=True)
class Closeness:
    """How samples lie among training and held-out examples in one space.

    Attributes:
        drawn: share of the samples drawn to training examples rather than to held-out ones; 0 for new samples, 1 for copies.
        copied: share of the samples that are copies, beyond what held-out examples show.
        chance: probability that a generator of new samples shows as many, corrected for the number of tests.
        to_training: median distance of the samples to the nearest training example.
        held_out_to_training: the same of held-out examples.
        mann_whitney: z of Meehan et al.: far below 0 where samples are nearer than held-out examples.
        duplicates: share of samples nearer to another than the closest held-out pair, in sets of equal size.
        duplicates_held_out: the share of held-out examples in such pairs, the closest itself and its equals.
        closest: pairs (sample, training example) by ratio, the most suspicious first.
    """

    drawn: Estimate
    copied: Estimate
    chance: float
    to_training: float
    held_out_to_training: float
    mann_whitney: float
    duplicates: Estimate
    duplicates_held_out: float
    closest: tuple[Pair, ...]


@dataclass(frozen=True)
class Memorisation:
    """The verdict on a set of samples.

    Attributes:
        copies: some samples are copies of training examples.
        overfits: the samples or the losses depend on which examples the model was trained on.
        sentence: why, in words.
        samples, training, held_out: number of each.
        spaces: name of the space -> how the samples lie there.
        disguised: "mirrored", "moved one pixel left", ... -> share of the samples that are copies in disguise; of images and
            volumes.
        gaps: name -> by how much held-out examples are worse than training examples.
    """

    copies: bool
    overfits: bool
    sentence: str
    samples: int
    training: int
    held_out: int
    spaces: dict[str, Closeness]
    disguised: dict[str, Estimate]
    gaps: dict[str, Estimate]


def memorisation(
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    *,
    features: Mapping[str, Sets] | None = None,
    gaps: Mapping[str, Estimate] | None = None,
    pairs: int = 10,
) -> Memorisation:
    """Say whether samples copy the training examples.

    Args:
        samples: `(n, *shape)` in model space, as drawn and not chosen.
        train: all training examples, `(n', *shape)`; a copy of one that is missing here is not found.
        held_out: examples of the same origin that were not trained on, `(m, *shape)`.
        features: name of an extractor -> features `(rows, d)` of the three sets in this order.
        gaps: name ("loss", "nats") -> by how much held-out examples are worse than training examples, larger = worse.
        pairs: how many of the closest pairs to name.

    Raises:
        ScorefieldError: fewer than 20 of a set, or shapes that disagree.
        NotFinite: NaN or infinity.

    >>> from scorefield import SampleRng
    >>> train, new, more = (SampleRng(range(500), stream=i).normal((4,)) for i in range(3))
    >>> memorisation(train, train, new).copies, memorisation(more, train, new).copies
    (True, False)
    """
    spaces = {MODEL_SPACE: (samples, train, held_out), **(features or {})}
    rows = {name: _checked(name, *sets) for name, sets in spaces.items()}
    sizes = {name: (len(a), len(b), len(c)) for name, (a, b, c) in rows.items()}
    if len(set(sizes.values())) > 1:
        raise ScorefieldError(
            f"got sets of sizes {sizes}, expected the same rows in every space: extract features of all of them"
        )
    views = _disguises(samples[:: math.ceil(len(samples) / DISGUISED)]) if samples.ndim in (4, 5) else {}
    level = ALPHA / (len(rows) + len(views))
    usual = {name: neighbours(held, known, CROWD)[0] for name, (_, known, held) in rows.items()}
    others = {name: _left_out(known) for name, (_, known, _) in rows.items()}
    found = {name: _closeness(*sets, usual[name], others[name], level=level, pairs=pairs) for name, sets in rows.items()}
    disguised = {}
    for name, view in views.items():
        near, control = (_ratio(neighbours(flat(view), flat(real), CROWD)[0]) for real in (train, held_out))
        disguised[name] = _copied(near, control, _ratio(usual[MODEL_SPACE]), others[MODEL_SPACE], level)[0]
    return _verdict(found, disguised, dict(gaps or {}), sizes[MODEL_SPACE])


def _checked(name: str, *sets: Tensor) -> Sets:
    """Return three sets as rows, refused when they are too few or do not fit together."""
    for kind, one in zip(("samples", "training examples", "held-out examples"), sets, strict=True):
        if len(one) < LEAST:
            raise ScorefieldError(
                f"got {len(one)} {kind} for the memorisation test, expected at least {LEAST}: "
                + ("draw more" if kind == "samples" else "use more data")
            )
        if one.shape[1:] != sets[1].shape[1:]:
            raise ScorefieldError(
                f"got {kind} of shape {tuple(one.shape[1:])} and training examples of {tuple(sets[1].shape[1:])} in {name}, "
                "expected one shape: use one extractor"
            )
        if not all(bool(batch.isfinite().all()) for batch in torch.split(one, BATCH)):
            raise NotFinite(f"got NaN or infinity in the {kind} in {name}, expected finite numbers: leave them out")
    return flat(sets[0]), flat(sets[1]), flat(sets[2])


# --- one space --------------------------------------------------------------------------------------------------------


def _ratio(distance: Tensor) -> Tensor:
    """Return d_1/d_10 of ascending distances `(n, 10)`, `(n,)`; 1 where ten examples lie in one place."""
    return torch.where(distance[:, -1] > 0, distance[:, 0] / distance[:, -1], 1.0)


def _left_out(train: Tensor) -> Tensor:
    """Return the ratios of at most 5,000 training examples, each to the training set without it."""
    rows = torch.arange(0, len(train), math.ceil(len(train) / CONTROLS))
    return _ratio(neighbours(train[rows], train, CROWD, themselves=rows)[0])


def _closeness(
    samples: Tensor, train: Tensor, held_out: Tensor, usual: Tensor, others: Tensor, *, level: float, pairs: int
) -> Closeness:
    """Measure one space, given the distances of held-out examples to training ones, and the ratios of training examples."""
    near, where = neighbours(samples, train, CROWD)
    other, _ = neighbours(samples, held_out, CROWD)
    ratio = _ratio(near)
    copied, chance = _copied(ratio, _ratio(other), _ratio(usual), others, level)
    order = ratio.argsort(stable=True)[:pairs].tolist()
    duplicates, own = _duplicates(samples, held_out)
    return Closeness(
        drawn=drawn(samples, train, held_out),
        copied=copied,
        chance=chance,
        to_training=float(near[:, 0].median()),
        held_out_to_training=float(usual[:, 0].median()),
        mann_whitney=_mann_whitney(near[:, 0], usual[:, 0]),
        duplicates=duplicates,
        duplicates_held_out=own,
        closest=tuple(Pair(i, int(where[i, 0]), float(near[i, 0]), float(ratio[i])) for i in order),
    )


def _copied(near: Tensor, control: Tensor, usual: Tensor, others: Tensor, level: float) -> tuple[Estimate, float]:
    """Return the share of copies and the chance of as many among new samples.

    Args:
        near: ratios of the samples to the training set, `(n,)`.
        control: of the samples to the held-out set, `(n,)`.
        usual: of the held-out examples to the training set, `(m,)`.
        others: of training examples, each to the others.
        level: below which chance is no explanation.
    """
    n = len(near)
    tried = [
        (k, real) for real in (usual, torch.cat([usual, others])) for k in (0, 1, 3, 10, 30, 100, 300) if k <= len(real) // 20
    ]
    found = []
    for k, real in tried:
        m, edge = len(real), real.kthvalue(k + 1).values
        hits, alike = int((near < edge).sum()), int((control < edge).sum())
        chance = min(1.0, len(tried) * max(_before(hits, n, k, m), _heads(hits, hits + alike)))
        share, expected = (hits + 1) / (n + 2), (k + 1) / (m + 2)  # a count of none does not prove that there are none
        error = math.sqrt(share * (1 - share) / n + expected * (1 - expected) / m)
        found.append((chance, max(0.0, hits / n - k / m), error))
    chance, share, error = min(found)
    return Estimate(share if chance < level else 0.0, error), chance


def _choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose k out of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _before(hits: int, n: int, k: int, m: int) -> float:
    """Return the chance that of n white and m black marbles, drawn at random, at least `hits` white come before black k + 1.

    That is: of the first hits + k marbles at most k are black.
    """
    first = hits + k
    logs = [_choose(m, j) + _choose(n, first - j) - _choose(n + m, first) for j in range(max(0, first - n), k + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _heads(heads: int, tosses: int) -> float:
    """Return the chance of at least so many heads among the tosses of a fair coin."""
    logs = [_choose(tosses, i) - tosses * math.log(2) for i in range(heads, tosses + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def _mann_whitney(x: Tensor, y: Tensor) -> float:
    """Return z of the Mann-Whitney test that x and y have one distribution; below 0 where x is smaller."""
    n, m, ordered = len(x), len(y), y.sort().values
    x = x.contiguous()
    wins = torch.searchsorted(ordered, x).double() + torch.searchsorted(ordered, x, right=True).double()  # ties by half
    return float((wins.sum() / 2 - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))


def _duplicates(samples: Tensor, held_out: Tensor) -> tuple[Estimate, float]:
    """Return the share of samples at most as far from another as the closest held-out pair, in sets of equal size."""
    size = min(len(samples), len(held_out))
    rows = torch.arange(size)
    own = neighbours(held_out[:size], held_out[:size], 1, themselves=rows)[0][:, 0]
    sets = [samples[first : first + size] for first in range(0, len(samples) - size + 1, size)]
    close = torch.cat([neighbours(one, one, 1, themselves=rows)[0][:, 0] for one in sets]) <= own.min()
    share = float(close.double().mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(close))), float((own <= own.min()).double().mean())


# --- disguises and the verdict ----------------------------------------------------------------------------------------


def _disguises(images: Tensor) -> dict[str, Tensor]:
    """Return images or volumes `(n, channels, ..., height, width)` as they look mirrored and moved, undone."""
    axes = images.ndim - 2
    padded = F.pad(images.float(), (1, 1) * axes, mode="replicate")
    views = {"mirrored": images.flip(-1)}
    for axis, ways in zip((-1, -2, -3)[:axes], (("left", "right"), ("up", "down"), ("forward", "back")), strict=False):
        for way, first in zip(ways, (0, 2), strict=True):
            view = padded
            for other in range(-axes, 0):
                view = view.narrow(other, first if other == axis else 1, images.shape[other])
            views[f"moved one pixel {way}"] = view
    return views


def _verdict(
    spaces: dict[str, Closeness], disguised: dict[str, Estimate], gaps: dict[str, Estimate], sizes: tuple[int, int, int]
) -> Memorisation:
    """Say in one sentence whether there are copies, else whether the samples depend on the training set, else neither."""
    plain = spaces[MODEL_SPACE]
    seen = {name: one.copied for name, one in spaces.items()} | disguised
    where, worst = max(seen.items(), key=lambda item: item[1].value)
    depends = plain.drawn.value > CLEAR * plain.drawn.standard_error
    wide = {name: gap for name, gap in gaps.items() if gap.value > CLEAR * gap.standard_error}
    if worst.value > 0:
        how = "" if where == MODEL_SPACE else f"once {where}, " if where in disguised else f"in the features of {where} "
        sentence = (
            f"{_percent(worst)} of the samples are copies of training examples: {how}they lie far nearer to one than held-out "
            "examples ever do"
        )
    elif depends:
        sentence = (
            "no sample stands out as a copy, but the set depends on what it was trained on: "
            f"{_percent(plain.drawn)} of the samples are drawn to training examples rather than to held-out ones"
        )
    else:
        sentence = _no_sign(plain)
    if wide:
        gained = ", ".join(f"{name} {gap}" for name, gap in wide.items())
        sentence += f"; the model fits training examples better than held-out ones ({gained})"
    extra = plain.duplicates.value - plain.duplicates_held_out
    if extra > max(0.01, CLEAR * plain.duplicates.standard_error):
        sentence += f"; {_percent(plain.duplicates)} of the samples are nearer to each other than any two held-out examples are"
    overfits = depends or bool(wide)
    return Memorisation(worst.value > 0, overfits, sentence, sizes[0], sizes[1], sizes[2], spaces, disguised, gaps)


def _no_sign(plain: Closeness) -> str:
    """Say how far the samples are from the training examples, where nothing suggests copying."""
    far = "as far from the training examples as held-out ones do"
    if plain.mann_whitney < -CLEAR:
        far = "nearer to the training examples than held-out ones do, but as near to the held-out ones"
    elif plain.mann_whitney > CLEAR:
        far = "farther from the training examples than held-out ones do"
    return f"no sign of copying: samples lie {far} (median {plain.to_training:.3g} against {plain.held_out_to_training:.3g})"


def _percent(share: Estimate) -> str:
    """Return a share as "23 % ± 2 %"."""
    return f"{100 * share.value:.0f} % ± {100 * share.standard_error:.0f} %"
