"""A generative adversarial network: a generator G learns to fool a discriminator D, which learns to tell real from made.

    D's loss   softplus(-D(x)) + softplus(D(G(z)))  +  gamma/2·|grad_x D(x)|²          on real x, z ~ N(0, I)
    G's loss   softplus(-D(G(z)))                                                      non-saturating

The first two terms are the cross-entropy of a classifier; the third, R1, keeps D flat around the data, without which the two
circle each other. It is computed on every `LAZY`-th step and weighs that much more then. Samples come from the moving average
of G: one evaluation each.

The pair is DCGAN's, small: transposed convolutions with batch norm and ReLU against strided convolutions with leaky ReLU; D
also sees the standard deviation over its batch, which makes dropping modes visible.

References: Goodfellow et al. (2014), "Generative adversarial networks", arXiv 1406.2661. Radford, Metz, Chintala (2015),
"Unsupervised representation learning with deep convolutional GANs", arXiv 1511.06434. Mescheder, Geiger, Nowozin (2018), "Which
training methods for GANs do actually converge?", arXiv 1801.04406. Karras et al. (2018), "Progressive growing of GANs",
arXiv 1710.10196 (the standard deviation over the batch).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import Average, Budget, Trained, count, half, in_pieces, scheduled

LAZY = 4  # R1 on every fourth step, four times as strong


class Generator(nn.Module):
    """z `(batch, 64)` to an image in (-1, 1), through two doublings of a map of a quarter of its side."""

    def __init__(self, side: int, width: int, latent: int = 64) -> None:
        super().__init__()
        self.latent, self.start, self.width = latent, side // 4, width
        self.first = nn.Linear(latent, 2 * width * self.start**2, bias=False)
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()),
            *(nn.Conv2d(width // 2, 1, 3, padding=1), nn.Tanh()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(batch, 1, side, side)`."""
        image: Tensor = self.body(self.first(z).unflatten(1, (2 * self.width, self.start, self.start)))
        return image


class Discriminator(nn.Module):
    """An image to a logit: positive for real."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, width // 2, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width // 2, width, 4, 2, 1)),
            *(nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2)),
        )
        self.last = nn.Linear((2 * width + 1) * (side // 4) ** 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch,)`."""
        h = self.body(x)
        spread = (h.var(dim=0, unbiased=False) + 1e-8).sqrt().mean().expand(len(h), 1, *h.shape[2:])
        logit: Tensor = self.last(torch.cat([h, spread], dim=1).flatten(1))
        return logit[:, 0]


def draw(network: nn.Module, n: int, seed: int) -> Tensor:
    """Return n images of a generator."""
    generator = torch.Generator().manual_seed(seed)
    return in_pieces(lambda some: network(torch.randn(some, network.latent, generator=generator)), n)


def train(
    x: Tensor, seconds: float, seed: int, *, width: int = 64, gamma: float = 1.0, batch: int = 64, lr: float = 1e-3
) -> Trained:
    """Train the pair and return the average of the generator.

    Args:
        x: images in [-1, 1], `(n, 1, side, side)`, side a multiple of 4.
        seconds: of training.
        seed: of the weights, the latents and the order of the images.
        width: channels at half of the side.
        gamma: of R1.
        batch: images a step.
        lr: of Adam, which falls to 0 over the second half.
    """
    torch.manual_seed(seed)
    side = x.shape[-1]
    g, d = (part(side, width).to(memory_format=torch.channels_last) for part in (Generator, Discriminator))
    average = Average(g, 0.998)
    optimisers = [torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.99)) for network in (g, d)]
    budget = Budget(seconds, batch, average.shown)
    for step, (fraction, real) in enumerate(budget.batches(x, seed)):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = lr * scheduled(fraction, step)
        penalised = step % LAZY == 0
        real = real.requires_grad_(penalised)
        with half():
            fake = g(torch.randn(batch, g.latent)).float()
            true, false = d(real).float(), d(fake.detach()).float()
        loss = F.softplus(-true).mean() + F.softplus(false).mean()
        if penalised:
            (slope,) = torch.autograd.grad(true.sum(), real, create_graph=True)
            loss = loss + LAZY * gamma / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
        d.requires_grad_(False)
        with half():
            loss = F.softplus(-d(fake).float()).mean()
        optimisers[0].zero_grad()
        loss.backward()
        optimisers[0].step()
        d.requires_grad_(True)
        average.update()
    note = f"DCGAN's pair, width {width}, non-saturating, R1 gamma {gamma:g}, Adam {lr:g}, batch {batch}, average 0.998"
    return Trained(draw, budget.snapshots, count(g), count(d), budget.images, budget.spent, 1, note)
