"""Blend: three denoisers of the same data as one, as good at every noise level as the best mixture of them.

    learned     D(z, lambda) of the field
    normal      mean + S·(S + lambda²)⁻¹·(z - mean)                   the data as a Gaussian, S their covariance (`moments.py`)
    points      sum_i w_i·x_i,   w_i ~ exp(-|z - x_i|²/(2·lambda²))    the training rows themselves: the empirical field

A network that is trained for a minute on a hundred rows is the worst of them at high levels, and with many rows it is the best
at all. The blend D = sum_a w_a·D_a has the weights w >= 0, sum 1, of each level that minimise the denoising loss

    E|x - D|²/lambda² = w·G·w,    G_ab = E<r_a, r_b>,    r_a = (x - D_a(z))/lambda,    z = x + lambda·noise

over rows that no denoiser has seen. So the matrices G of a row are all that must be kept of it: they give |r|² of any blend.
Where the field is exact its weight is 1. All is in z = x/alpha: data plus noise.

References: Vincent (2011), "A connection between score matching and denoising autoencoders". Wolpert (1992), "Stacked
generalization".
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from scorefield.field import Field
from scorefield.moments import Moments
from scorefield.randomness import SampleRng, stream_of, subsample

KINDS = ("learned", "normal", "points")
BANK, NUMBERS = 2000, 2**24  # points at most, and numbers of them
DRAWS, AVERAGED = (2, 4), 32  # of the noise: about so many numbers over the draws; each draw has its mirror image, too
FLOOR = 0.01  # of the data's variance: no direction has less in the Gaussian
FOLDS = 5  # of the points: the Gaussian by which one of them is denoised is that of the other four fifths
LEAST = 0.02  # weights below are 0, and what they weigh need not be computed


class Blend:
    """The denoisers of one field and its training rows.

    >>> from scorefield import VE, Gaussian
    >>> rows = SampleRng(range(200)).normal((2,))
    >>> blend = Blend(Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], VE(0.01, 20.0)), rows)
    >>> blend.grams(rows[:5], [0.5, 1.0]).shape
    torch.Size([5, 2, 2, 3, 3])
    """

    def __init__(self, field: Field, train: Tensor) -> None:
        """Hold the field and rows that it was trained on, `(n, *shape)`, of which 2000 are used."""
        self.field, self.device = field, field.data_mean.device
        most = min(BANK, NUMBERS // math.prod(field.shape))
        self.points = train[subsample(len(train), max(most, 2))].flatten(1).double().to(self.device)
        self.heights = self.points.square().sum(dim=1) / 2
        self.moments = self._moments(self.points)
        self.without = [self._moments(self.points[torch.arange(len(self.points)) % FOLDS != fold]) for fold in range(FOLDS)]
        d = self.points.shape[1]
        half = SampleRng(range(min(max(AVERAGED // d, DRAWS[0]), DRAWS[1])), stream=stream_of("odd", "draws")).normal((d,))
        # none, then the draws: the same for all rows, so that two rows differ by themselves alone
        self.noise = torch.cat([0 * half[:1], half, -half]).to(self.device)

    def grams(self, rows: Tensor, levels: list[float], weights: Tensor | None = None, own: Tensor | None = None) -> Tensor:
        """Return G of rows as they are, and with noise, averaged over draws, `(n, levels, 2, 3, 3)`, on the CPU.

        Args:
            rows: `(n, d)`, float64.
            levels: standard deviations of the noise.
            weights: `(levels, 3)`: what weighs 0 is left out, with zeros in its place; None for all.
            own: which of the points each row is, `(n,)`, and so may not be denoised by, nor by a Gaussian of it; None where
                rows are no points.
        """
        found = []
        for index, level in enumerate(levels):
            noisy = (rows + level * self.noise[:, None]).flatten(0, 1)
            wanted = (weights[index] > 0).tolist() if weights is not None else [True] * len(KINDS)
            again = None if own is None else own.repeat(len(self.noise))
            r = (rows.repeat(len(self.noise), 1) - self.each(noisy, level, wanted, again)) / level
            r[[not one for one in wanted]] = 0
            gram = torch.einsum("and,bnd->nab", r, r).reshape(len(self.noise), len(rows), len(KINDS), len(KINDS))
            found.append(torch.stack([gram[0], gram[1:].mean(dim=0)], dim=1).cpu())
        return torch.stack(found, dim=1)

    def residuals(self, rows: Tensor, level: float, weights: Tensor) -> Tensor:
        """Return (z - D(z))/lambda of a blend with weights `(3,)`, which is -lambda times the score, `(n, d)`."""
        each = self.each(rows, level, (weights > 0).tolist(), None)
        residuals: Tensor = (rows - torch.einsum("a,and->nd", weights.to(each), each)) / level
        return residuals

    @torch.no_grad()
    def each(self, noisy: Tensor, level: float, wanted: list[bool], own: Tensor | None) -> Tensor:
        """Return the denoised rows by each denoiser, `(3, n, d)`; zeros for those that are not wanted."""
        found = torch.zeros(len(KINDS), *noisy.shape, dtype=torch.float64, device=self.device)
        if wanted[0]:
            process = self.field.process
            t = process.time_of_sigma(torch.tensor([level], dtype=torch.float64)).to(self.device)
            state = (process.alpha(t) * noisy).reshape(-1, *self.field.shape)
            found[0] = self.field(state, t.expand(len(noisy))).denoised.double().flatten(1)
        if wanted[1]:
            found[1] = _wiener(self.moments, noisy, level)
            if own is not None:
                for fold, moments in enumerate(self.without):
                    mine = own % FOLDS == fold
                    found[1, mine] = _wiener(moments, noisy[mine], level)
        if wanted[2]:
            near = torch.addmm(self.heights / -(level**2), noisy / level**2, self.points.mT)  # but for a constant of each row
            if own is not None and len(self.points) > 1:
                near[torch.arange(len(noisy), device=self.device), own.to(self.device)] = -math.inf
            found[2] = near.softmax(dim=1) @ self.points
        return found

    def _moments(self, rows: Tensor) -> Moments:
        known = Moments.of_data(rows) if len(rows) > 1 else Moments.isotropic(self.field.data_mean, self.field.data_std)
        return known.floored(FLOOR * self.field.data_std**2).to(self.device)


def _wiener(moments: Moments, noisy: Tensor, level: float) -> Tensor:
    """Return the denoised rows of a Gaussian, `(n, d)`."""
    return moments.mean + moments.map(lambda v: v / (v + level**2), noisy - moments.mean)


def best_weights(grams: Tensor) -> Tensor:
    """Return the weights of each level that minimise the mean denoising loss of rows with the grams `(n, levels, 2, k, k)`.

    >>> best_weights(torch.diag(torch.tensor([1.0, 3.0])).double().expand(1, 1, 2, 2, 2))
    tensor([[0.7500, 0.2500]], dtype=torch.float64)
    """
    found = torch.stack([_simplex(one) for one in grams[:, :, 1].mean(dim=0)])
    found = torch.where(found < LEAST, 0.0, found)
    return found / found.sum(dim=1, keepdim=True)


def squares(grams: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return |r|² of the blend with weights `(levels, k)`, of rows as they are and with noise, each `(n, levels)`."""
    found = torch.einsum("nlcab,la,lb->nlc", grams, weights, weights).clamp(min=1e-300)
    return found[:, :, 0], found[:, :, 1]


def _simplex(gram: Tensor) -> Tensor:
    """Return w >= 0 of sum 1 that minimises w·G·w: of each set of weights that are not 0 the minimum is in closed form."""
    count, best, least = len(gram), torch.zeros(len(gram), dtype=torch.float64), math.inf
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(count), size) for size in range(1, count + 1)):
        part = gram[list(chosen)][:, list(chosen)].double()
        ridge = 1e-9 * float(part.diagonal().mean()) + 1e-300
        w = torch.linalg.solve(part + ridge * torch.eye(len(part)), torch.ones(len(part), dtype=torch.float64))
        w = w / w.sum()
        value = float(w @ part @ w)
        if bool((w >= 0).all()) and value < least * (1 - 1e-9):
            least, best = value, torch.zeros(count, dtype=torch.float64)
            best[list(chosen)] = w
    return best
