"""A normalising flow: an invertible map from the data to N(0, I), whose density is known exactly.

    log p(y) = log N(f(y); 0, I) + log|det df/dy|

trained by maximum likelihood and nothing else. f is a stack of masked autoregressive maps of zuko: coordinate i is moved by a
function (affine, or a monotone spline) that the coordinates before it choose, so the Jacobian is triangular. The density of all
coordinates is one pass; a sample is one pass a coordinate, since each needs those before it (with `passes` = 2 the coordinates
come in two halves and a sample is two passes a map, at the cost of a weaker f).

8-bit images are atoms, on which a density is unbounded, so pixel k of L levels becomes y = logit(eps + (1 - 2·eps)·(k + u)/L)
with u uniform in [0, 1), and is standardised.

References: Dinh, Sohl-Dickstein, Bengio (2016), "Density estimation using Real NVP", arXiv 1605.08803. Papamakarios, Pavlakou,
Murray (2017), "Masked autoregressive flow for density estimation", arXiv 1705.07057. Durkan, Bekasov, Murray, Papamakarios
(2019), "Neural spline flows", arXiv 1906.04032. Rozet et al. (2022), zuko.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from baselines import Average, Budget, Trained, count, in_pieces, scheduled

EPS = 0.01


class Pixels(nn.Module):
    """A zuko flow, and the way from images to its coordinates and back."""

    def __init__(self, flow: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.flow, self.shape, self.levels = flow, x.shape[1:], len(x.unique())
        y = torch.logit(EPS + (1 - 2 * EPS) * self._filled(x[:10_000]))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", y.mean(dim=0))
        self.register_buffer("std", y.std(dim=0))

    def _filled(self, x: Tensor) -> Tensor:
        """Return (k + u)/L, `(batch, d)`."""
        k = ((x.flatten(1) + 1) / 2 * (self.levels - 1)).round()
        return (k + torch.rand_like(k)) / self.levels

    def coordinates(self, x: Tensor) -> Tensor:
        """Return standardised logits `(batch, d)` of images."""
        return (torch.logit(EPS + (1 - 2 * EPS) * self._filled(x)) - self.mean) / self.std

    def images(self, y: Tensor) -> Tensor:
        """Return the images of coordinates, on the data's own grey levels."""
        share = (torch.sigmoid(y * self.std + self.mean) - EPS) / (1 - 2 * EPS)
        k = (share * self.levels).floor().clamp(0, self.levels - 1)
        return (2 * k / (self.levels - 1) - 1).unflatten(1, self.shape)


def draw(network: nn.Module, n: int, seed: int) -> Tensor:
    """Return n images of a flow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the distributions of torch know only the global generator

        @torch.no_grad()
        def some(number: int) -> Tensor:
            images: Tensor = network.images(network.flow().sample((number,)))
            return images

        return in_pieces(some, n)


def train(
    x: Tensor,
    seconds: float,
    seed: int,
    *,
    hidden: int = 512,
    transforms: int = 5,
    spline: int = 0,
    passes: int | None = None,
    batch: int = 128,
    lr: float = 1e-3,
) -> Trained:
    """Train by maximum likelihood and return the average.

    Args:
        x: images in [-1, 1], `(n, 1, side, side)`, on as many grey levels as they take values.
        seconds: of training.
        seed: of the weights, the dequantisation and the order of the images.
        hidden: units in each of two hidden layers of a map.
        transforms: maps.
        spline: bins of a rational-quadratic spline; 0 for affine maps.
        passes: of a map to draw a sample; None for one a coordinate.
        batch: images a step.
        lr: of Adam, which falls to 0 over the second half.
    """
    import zuko

    torch.manual_seed(seed)
    d = math.prod(x.shape[1:])
    kind, own = (zuko.flows.NSF, {"bins": spline}) if spline else (zuko.flows.MAF, {})
    flow = kind(d, transforms=transforms, hidden_features=(hidden, hidden), passes=passes, randperm=True, **own)
    network = Pixels(flow, x)
    average = Average(network, 0.998)
    optimiser = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-4)
    budget = Budget(seconds, batch, average.shown)
    for step, (fraction, real) in enumerate(budget.batches(x, seed)):
        optimiser.param_groups[0]["lr"] = lr * scheduled(fraction, step)
        y = network.coordinates(real)
        loss = -flow().log_prob(y).mean() / d
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update()
    name = f"spline of {spline} bins" if spline else "normaliser"
    note = f"zuko {kind.__name__}, {transforms} maps ({name}), hidden {hidden} x 2, AdamW {lr:g}, batch {batch}, average 0.998"
    evaluations = transforms * (passes or d)
    return Trained(draw, budget.snapshots, count(network), 0, budget.images, budget.spent, evaluations, note)
