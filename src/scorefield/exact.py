"""Exact fields: densities whose every noisy version is known in closed form. Everything is measured against them.

If x0 ~ sum_k w_k·N(m_k, S_k) then x_t = alpha·x0 + sigma·noise ~ sum_k w_k·N(alpha·m_k, alpha²·S_k + sigma²·I): a Gaussian
mixture stays one. So log p_t, its score, the posterior mean and exact samples cost one line each. With S_k = 0 and one
component per training point the mixture is the *empirical* distribution smoothed by noise: its score is the optimum of the
denoising objective on a finite data set, that is, perfect memorisation.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import moments_of
from scorefield.moments import Moments
from scorefield.prediction import Prediction
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, flat, over, total

PAIRS = 2**20  # of a sample and a component at a time: eight megabytes, which a processor's cache holds


class Gaussian:
    """N(mean, covariance) under a process, exactly.

    >>> from scorefield import VE
    >>> field = Gaussian(mean=[1.0, 0.0], covariance=[[2.0, 0.0], [0.0, 1.0]], process=VE(0.1, 10.0))
    >>> field(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])).score
    tensor([[0., 0.]])
    """

    def __init__(self, mean: Any, covariance: Any, process: Process) -> None:
        """Take the mean and the covariance.

        Args:
            mean: any shape, the shape of one sample.
            covariance: symmetric positive semi-definite, `(d, d)` with d the number of coordinates.
            process: how the data are noised.

        Raises:
            ScorefieldError: shapes that disagree, or a matrix that is no covariance.
        """
        centre = torch.as_tensor(mean, dtype=torch.float64)
        matrix = torch.as_tensor(covariance, dtype=torch.float64)
        d = centre.numel()
        if matrix.shape != (d, d):
            raise ScorefieldError(f"got a covariance of shape {tuple(matrix.shape)}, expected ({d}, {d}): as many as the mean")
        values, vectors = torch.linalg.eigh(matrix)
        if not torch.allclose(matrix, matrix.mT) or float(values.min()) < -1e-9 * float(values.max().clamp(min=1)):
            raise ScorefieldError(
                "got a matrix that is not symmetric positive semi-definite, expected a covariance: correct it"
            )
        self.process, self.shape = process, tuple(centre.shape)
        self.mean, self.covariance = centre.reshape(-1), matrix
        self._values, self._vectors = values.clamp(min=0), vectors
        self.data_mean, self.data_std = centre, math.sqrt(float(matrix.diagonal().mean()))
        self.moments = Moments(self.mean, vectors.flip(1), self._values.flip(0), 0.0)

    def _rotated(self, x: Sample, t: PerSample) -> tuple[Tensor, Tensor]:
        """Return deviations from the mean in the eigenbasis, and their variances at t, both `(batch, d)`."""
        rows = flat(x).double()
        alpha, sigma = self.process.alpha(t.double()), self.process.sigma(t.double())
        deviation = (rows - over(alpha, rows) * self.mean.to(x.device)) @ self._vectors.to(x.device)
        return deviation, over(alpha**2, rows) * self._values.to(x.device) + over(sigma**2, rows)

    def log_prob(self, x: Sample, t: PerSample) -> PerSample:
        """Return log p_t(x) in nats, `(batch,)`, float64."""
        deviation, variance = self._rotated(x, t)
        return -0.5 * (deviation**2 / variance + variance.log() + math.log(2 * math.pi)).sum(dim=1)

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return -log p_t(x), `(batch,)`."""
        return -self.log_prob(x, t)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        deviation, variance = self._rotated(x, t)
        score = -(deviation / variance) @ self._vectors.mT.to(x.device)
        return Prediction.of_score(self.process, x, t.double(), score.reshape(x.shape).to(x.dtype))

    def sample(self, rng: SampleRng) -> Tensor:
        """Draw one clean x0 per seed, `(batch, *shape)`, float64."""
        white = rng.normal((len(self.mean),)) * self._values.sqrt()
        rows: Tensor = self.mean + white @ self._vectors.mT
        return rows.reshape(-1, *self.shape)


class GaussianMixture:
    """sum_k weights_k·N(means_k, stds_k²·I) under a process, exactly; any sample shape.

    >>> from scorefield import VE
    >>> field = GaussianMixture(weights=[.8, .2], means=[[-5., 0.], [5., 0.]], stds=[1., 1.], process=VE(.01, 10.))
    >>> field.sample(SampleRng(range(1000))).shape
    torch.Size([1000, 2])
    """

    def __init__(self, weights: Any, means: Any, stds: Any, process: Process) -> None:
        """Take the components.

        Args:
            weights: positive, `(k,)`; they are normalised.
            means: `(k, *shape)`.
            stds: non-negative, `(k,)`.
            process: how the data are noised.

        Raises:
            ScorefieldError: numbers of components that disagree, or a negative weight or std.
        """
        w, m, s = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, stds))
        if not (w.ndim == s.ndim == 1 and m.ndim >= 2 and len(w) == len(m) == len(s)):
            raise ScorefieldError(
                f"got weights {tuple(w.shape)}, means {tuple(m.shape)}, stds {tuple(s.shape)}, expected (k,), (k, *shape), "
                "(k,): give each component one weight, one mean and one std"
            )
        if not bool((w > 0).all() and (s >= 0).all() and w.isfinite().all() and m.isfinite().all() and s.isfinite().all()):
            raise ScorefieldError(
                "got a weight <= 0, a std < 0 or a NaN, expected positive weights, finite means and stds >= 0: leave such out"
            )
        self.process, self.shape = process, tuple(m.shape[1:])
        self.weights, self.means, self.stds = w / w.sum(), m.flatten(1), s
        self._equally_wide = bool((s == s[0]).all())  # as the points of a data set are
        centre = self.weights @ self.means
        self.data_mean = centre.reshape(self.shape)
        spread = ((self.means - centre) ** 2).mean(dim=1) + s**2
        self.data_std = math.sqrt(float(self.weights @ spread))

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the data, exactly: that of the means, of a rank below their number, and the mean variance."""
        centre, within = self.weights @ self.means, float(self.weights @ self.stds**2)
        _, lengths, vectors = torch.linalg.svd(self.weights.sqrt()[:, None] * (self.means - centre), full_matrices=False)
        kept = lengths > 1e-12 * lengths[:1].clamp(min=1e-300)
        return Moments(centre, vectors[kept].mT.contiguous(), within + lengths[kept] ** 2, within)

    @classmethod
    def empirical(cls, data: Any, process: Process) -> GaussianMixture:
        """Return the field of a finite data set, `(n, *shape)`: the memorising optimum of denoising score matching."""
        points = torch.as_tensor(data, dtype=torch.float64)
        return cls(torch.ones(len(points)), points, torch.zeros(len(points)), process)

    def _components(self, x: Sample, t: PerSample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return rows `(batch, d)`, alpha `(batch, 1)`, variances `(batch, k or 1)`, log weighted densities `(batch, k)`."""
        rows, means, weights = flat(x).double(), self.means.to(x.device), self.weights.to(x.device)
        stds = self.stds[: 1 if self._equally_wide else None].to(x.device)
        alpha = over(self.process.alpha(t.double()), rows)
        variance = alpha**2 * stds**2 + over(self.process.sigma(t.double()) ** 2, rows)
        # |x - a·m|² expanded, so that memory is batch x k and not batch x k x d; float64 keeps 1e-9 of it at sigma = 0.01.
        squares, centres = (rows**2).sum(1, keepdim=True), (means**2).sum(1)
        constant = rows.shape[1] * (variance.log() + math.log(2 * math.pi))
        if self._equally_wide:  # all that depends on both, a sample and a component, is one product of matrices
            ours = torch.cat([alpha * rows / variance, -0.5 * alpha**2 / variance, torch.ones_like(alpha)], dim=1)
            theirs = torch.cat([means, centres[:, None], weights.log()[:, None]], dim=1)
            return rows, alpha, variance, ours @ theirs.mT - 0.5 * (squares / variance + constant)
        square = squares - 2 * alpha * (rows @ means.mT) + alpha**2 * centres
        return rows, alpha, variance, -0.5 * (square / variance + constant) + weights.log()

    def log_prob(self, x: Sample, t: PerSample) -> PerSample:
        """Return log p_t(x) in nats, `(batch,)`, float64."""
        return self._components(x, t)[-1].logsumexp(dim=1)

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return -log p_t(x), `(batch,)`."""
        return -self.log_prob(x, t)

    def responsibilities(self, x: Sample, t: PerSample) -> Tensor:
        """Return p(component | x_t), `(batch, k)`: at t_min, which mode a sample belongs to."""
        return self._components(x, t)[-1].softmax(dim=1)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        step = max(1, PAIRS // len(self.means))
        score = torch.cat([self._score(*part) for part in zip(torch.split(x, step), torch.split(t, step), strict=True)])
        return Prediction.of_score(self.process, x, t.double(), score.reshape(x.shape).to(x.dtype))

    def _score(self, x: Sample, t: PerSample) -> Tensor:
        """Return the score of a few samples, `(batch, d)`, float64."""
        rows, alpha, variance, joint = self._components(x, t)
        pull = joint.softmax(dim=1) / variance
        return alpha * (pull @ self.means.to(x.device)) - pull.sum(1, keepdim=True) * rows

    def sample(self, rng: SampleRng) -> Tensor:
        """Draw one clean x0 per seed, `(batch, *shape)`, float64."""
        which = rng.choose(self.weights).to(self.means.device)
        white = rng.normal((self.means.shape[1],)).to(self.means.device)
        return (self.means[which] + self.stds[which, None] * white).reshape(-1, *self.shape)


class Box:
    """Independent U(low, high) in every coordinate under a process, exactly; any sample shape.

    p_t is a product of (Phi((x - alpha·low)/sigma) - Phi((x - alpha·high)/sigma))/(alpha·(high - low)): bounded data, whose own
    score is zero inside and undefined at the edge, and dequantised noise of 8 bits (exactly 8 bits/dim on [0, 256)).

    >>> from scorefield import VE
    >>> Box((3,), 0.0, 1.0, VE(0.01, 10.0)).sample(SampleRng(range(4))).shape
    torch.Size([4, 3])
    """

    def __init__(self, shape: tuple[int, ...], low: float, high: float, process: Process) -> None:
        """Take the edges; raises `ScorefieldError` unless low < high."""
        if not low < high:
            raise ScorefieldError(f"got a box from {low:g} to {high:g}, expected low < high: swap them")
        self.process, self.shape, self.low, self.high = process, shape, low, high
        self.data_mean = torch.full(shape, (low + high) / 2, dtype=torch.float64)
        self.data_std = (high - low) / math.sqrt(12)

    def _edges(self, x: Sample, t: PerSample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return sigma, the near and the far edge in units of it, and log of the mass between, per coordinate."""
        rows = x.double()
        alpha, sigma = (over(v, rows) for v in (self.process.alpha(t.double()), self.process.sigma(t.double())))
        half, away = alpha * (self.high - self.low) / 2, (rows - alpha * (self.high + self.low) / 2).abs()
        near, far = (half - away) / sigma, (-half - away) / sigma  # by symmetry both lie in the left tail, where Phi has digits
        top = torch.special.log_ndtr(near)
        return sigma, near, far, top + torch.log1p(-torch.exp(torch.special.log_ndtr(far) - top))

    def log_prob(self, x: Sample, t: PerSample) -> PerSample:
        """Return log p_t(x) in nats, `(batch,)`, float64."""
        *_, mass = self._edges(x, t)
        return total(mass - over(self.process.alpha(t.double()), mass).log() - math.log(self.high - self.low))

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return -log p_t(x), `(batch,)`."""
        return -self.log_prob(x, t)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        sigma, near, far, mass = self._edges(x, t)
        middle = over(self.process.alpha(t.double()), mass) * (self.high + self.low) / 2
        slopes = [torch.exp(-0.5 * z**2 - mass) / math.sqrt(2 * math.pi) for z in (near, far)]
        score = (x.double() - middle).sign() * (slopes[1] - slopes[0]) / sigma
        return Prediction.of_score(self.process, x, t.double(), score.to(x.dtype))

    def sample(self, rng: SampleRng) -> Tensor:
        """Draw one clean x0 per seed, `(batch, *shape)`, float64."""
        return self.low + (self.high - self.low) * rng.uniform(self.shape)


class Labelled:
    """A labelled mixture: the field of each class given `cond`, and that of all of them without, under a process, exactly.

    p(x) = sum_k weights_k·p(x | k), so the score without a class is sum_k p_t(k | x)·s(x | k), and p_t(k | x) itself is the
    exact classifier of noisy data. What learns classes is measured against it.

    >>> from scorefield import VE
    >>> field = Labelled([0.5, 0.5], [Gaussian([c], [[1.0]], VE(0.01, 10.0)) for c in (-1.0, 1.0)])
    >>> x, t = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    >>> [round(float(field(x, t, cond).score), 2) for cond in (torch.tensor([0]), torch.tensor([1]), None)]
    [-2.0, 0.0, -0.24]
    """

    def __init__(self, weights: Any, fields: Any) -> None:
        """Take the classes.

        Args:
            weights: positive, `(k,)`; they are normalised.
            fields: one exact field for each class, of one process and shape, each with `log_prob`.

        Raises:
            ScorefieldError: another number of weights than fields, a weight that is not positive.
        """
        w, self.fields = torch.as_tensor(weights, dtype=torch.float64), tuple(fields)
        if w.shape != (len(self.fields),) or not bool((w > 0).all() and w.isfinite().all()):
            raise ScorefieldError(
                f"got weights {w.tolist()} for {len(self.fields)} fields, expected one positive number for each: correct them"
            )
        self.weights = w / w.sum()
        self.process, self.shape = self.fields[0].process, tuple(self.fields[0].shape)
        means = torch.stack([field.data_mean.double() for field in self.fields])
        self.data_mean = torch.einsum("k,k...->...", self.weights, means)
        spread = flat(means - self.data_mean).square().mean(dim=1)
        spread = spread + torch.tensor([field.data_std**2 for field in self.fields], dtype=torch.float64)
        self.data_std = math.sqrt(float(self.weights @ spread))

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the data of all classes."""
        own = [moments_of(field) for field in self.fields]
        centre, eye = flat(self.data_mean.unsqueeze(0))[0], torch.eye(own[0].size, dtype=torch.float64)
        covariance = torch.zeros_like(eye)
        for weight, one in zip(self.weights, own, strict=True):
            off = one.mean - centre
            covariance += weight * (one.map(lambda v: v, eye) + off[:, None] * off)
        return Moments.of_covariance(centre, covariance)

    def _joint(self, x: Sample, t: PerSample) -> Tensor:
        """Return log weights_k·p_t(x | k), `(batch, k)`."""
        each = torch.stack([field.log_prob(x, t) for field in self.fields], dim=1)
        return each + self.weights.log().to(each.device)

    def classify(self, x: Sample, t: PerSample) -> Tensor:
        """Return log p_t(k | x), `(batch, k)`: the exact classifier of noisy data."""
        return self._joint(x, t).log_softmax(dim=1)

    def log_prob(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return log p_t(x | cond), or log p_t(x) without one, in nats, `(batch,)`, float64."""
        joint = self._joint(x, t)
        if cond is None:
            return joint.logsumexp(dim=1)
        return joint.gather(1, cond[:, None])[:, 0] - self.weights.log().to(joint.device)[cond]

    def energy(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
        """Return -log_prob, `(batch,)`."""
        return -self.log_prob(x, t, cond)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        shares = self.classify(x, t).exp() if cond is None else torch.nn.functional.one_hot(cond, len(self.fields)).double()
        each = torch.stack([field(x, t).score.double() for field in self.fields], dim=1)
        score = torch.einsum("bk,bk...->b...", shares, each)
        return Prediction.of_score(self.process, x, t.double(), score.to(x.dtype))

    def sample(self, rng: SampleRng, cond: Tensor | None = None) -> Tensor:
        """Draw one clean x0 per seed, of the class `cond` if it is given, `(batch, *shape)`, float64."""
        which = rng.choose(self.weights) if cond is None else cond
        each = torch.stack([field.sample(rng) for field in self.fields], dim=1)
        return each[torch.arange(len(which)), which]
