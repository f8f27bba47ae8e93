"""A denoising diffusion GAN: diffusion in four large steps, each undone by a draw of a conditional GAN.

    forward      q(x_t | x_{t-1}) = N(sqrt(1 - beta_t)·x_{t-1}, beta_t·I),    t = 1..4,    abar_t = prod (1 - beta_s)
    backward     x0' = G(x_t, z, t),    x_{t-1} ~ q(x_{t-1} | x_t, x0')       the Gaussian posterior of the forward chain

With a thousand small steps p(x_{t-1} | x_t) is nearly Gaussian and its mean is all there is to learn; with four it has many
modes, and a mean would be a blur. So G gets a latent z and a discriminator D(x_{t-1}, x_t, t) to fool, which judges whether
x_{t-1} is a likely predecessor of x_t. The losses are those of `gan.py`, averaged over t, with R1 on the real x_{t-1}. A sample
costs four evaluations; noise on what D sees and small conditional problems are what should make it stable and keep its variety.

The betas are those of the variance-preserving process with beta(t) from 0.1 to 20, cut at t = 0, 1/4, ..., 1, as in the paper.

Reference: Xiao, Kreis, Vahdat (2021), "Tackling the generative learning trilemma with denoising diffusion GANs", arXiv
2112.07804.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import Average, Budget, Trained, count, half, in_pieces, scheduled

STEPS = 4
LAZY = 4  # R1 on every fourth step, four times as strong


class Chain:
    """The four steps: abar_t for t = 0..4, the forward kernel and its posterior."""

    def __init__(self) -> None:
        t = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
        abar = torch.exp(-0.5 * t**2 * (20 - 0.1) - 0.1 * t)
        beta = 1 - abar[1:] / abar[:-1]
        self.abar, self.beta = abar.float(), torch.cat([torch.zeros(1), beta.float()])

    def pair(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_{t-1} and x_t of one chain, for t `(batch,)` in 1..4."""
        abar, beta = (values[:, None, None, None] for values in (self.abar[t - 1], self.beta[t]))
        before = abar.sqrt() * x0 + (1 - abar).sqrt() * torch.randn_like(x0)
        return before, (1 - beta).sqrt() * before + beta.sqrt() * torch.randn_like(x0)

    def before(self, x0: Tensor, after: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_{t-1} from q(x_{t-1} | x_t, x0); at t = 1 it is x0."""
        now, then, beta = (values[:, None, None, None] for values in (self.abar[t], self.abar[t - 1], self.beta[t]))
        mean = (beta * then.sqrt() * x0 + (1 - then) * (1 - beta).sqrt() * after) / (1 - now)
        return mean + (beta * (1 - then) / (1 - now)).sqrt() * noise


class Layer(nn.Module):
    """A convolution, batch norm, a scale and shift that say z and t, and SiLU."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, told: int) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm2d(convolution.out_channels)
        self.told = nn.Linear(told, 2 * convolution.out_channels)

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        """Return `(batch, channels, height, width)`."""
        scale, shift = self.told(about)[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm(self.convolution(x)) * (1 + scale) + shift)


class Generator(nn.Module):
    """x_t, z and t to x0': down to a quarter of the side, where z is added as a map, and back: DCGAN's layers, and no skips.

    Skips would hand the noise of x_t to the last layers, and here those are too few to take it out again.
    """

    def __init__(self, side: int, width: int, latent: int = 64) -> None:
        super().__init__()
        self.latent, self.shape, start, twice = latent, (1, side, side), side // 4, 2 * width
        self.mapping = nn.Sequential(nn.Linear(latent, 128), nn.SiLU(), nn.Linear(128, 128))
        self.time = nn.Embedding(STEPS + 1, 128)
        self.map = nn.Sequential(nn.Linear(latent, twice * start**2), nn.Unflatten(1, (twice, start, start)))
        self.down = nn.ModuleList(
            [
                Layer(nn.Conv2d(1, width // 2, 3, padding=1), 128),
                Layer(nn.Conv2d(width // 2, width, 4, 2, 1), 128),
                Layer(nn.Conv2d(width, twice, 4, 2, 1), 128),
            ]
        )
        self.between = nn.ModuleList(Layer(nn.Conv2d(twice, twice, 3, padding=1), 128) for _ in range(2))
        self.up = nn.ModuleList(
            [Layer(nn.ConvTranspose2d(twice, width, 4, 2, 1), 128), Layer(nn.ConvTranspose2d(width, width // 2, 4, 2, 1), 128)]
        )
        self.last = nn.Conv2d(width // 2, 1, 3, padding=1)

    def forward(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return images in (-1, 1) in the shape of x."""
        about, h = F.silu(self.mapping(z) + self.time(t)), x
        for layer in self.down:
            h = layer(h, about)
        h = h + self.map(z)
        for layer in self.between:
            h = h + layer(h, about)
        for layer in self.up:
            h = layer(h, about)
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    """x_{t-1}, x_t and t to a logit: positive for a real pair."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width // 2, 3, padding=1)
        self.second, self.third = nn.Conv2d(width // 2, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.time = nn.Embedding(STEPS + 1, 128)
        self.told = nn.ModuleList([nn.Linear(128, some) for some in (width // 2, width, 2 * width)])
        self.last = nn.Linear((2 * width + 1) * (side // 4) ** 2, 1)

    def forward(self, before: Tensor, after: Tensor, t: Tensor) -> Tensor:
        """Return logits `(batch,)`."""
        about, h = F.silu(self.time(t)), torch.cat([before, after], dim=1)
        for layer, told in zip((self.first, self.second, self.third), self.told, strict=True):
            h = F.leaky_relu(layer(h) + told(about)[:, :, None, None], 0.2)
        spread = (h.var(dim=0, unbiased=False) + 1e-8).sqrt().mean().expand(len(h), 1, *h.shape[2:])
        logit: Tensor = self.last(torch.cat([h, spread], dim=1).flatten(1))
        return logit[:, 0]


def draw(network: nn.Module, n: int, seed: int) -> Tensor:
    """Return n images: from noise, four steps back."""
    generator, chain = torch.Generator().manual_seed(seed), Chain()

    def some(number: int) -> Tensor:
        x = torch.randn(number, *network.shape, generator=generator)
        for step in range(STEPS, 0, -1):
            t = torch.full((number,), step)
            x0 = network(x, torch.randn(number, network.latent, generator=generator), t)
            x = chain.before(x0, x, t, torch.randn(x.shape, generator=generator))
        return x

    return in_pieces(some, n)


def train(
    x: Tensor,
    seconds: float,
    seed: int,
    *,
    width: int = 32,
    judge_width: int = 32,
    gamma: float = 0.05,
    batch: int = 64,
    lr: float = 2e-3,
) -> Trained:
    """Train the pair and return the average of the generator.

    Args:
        x: images in [-1, 1], `(n, 1, side, side)`, side a multiple of 4.
        seconds: of training.
        seed: of the weights, the noise and the order of the images.
        width: channels of the generator at its upper resolution.
        judge_width: channels of the discriminator at half of the side.
        gamma: of R1.
        batch: images a step.
        lr: of Adam, which falls to 0 over the second half.
    """
    torch.manual_seed(seed)
    side, chain = x.shape[-1], Chain()
    g, d = Generator(side, width), Discriminator(side, judge_width)
    g, d = (network.to(memory_format=torch.channels_last) for network in (g, d))
    average = Average(g, 0.998)
    optimisers = [torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.99)) for network in (g, d)]
    budget = Budget(seconds, batch, average.shown)
    for step, (fraction, x0) in enumerate(budget.batches(x, seed)):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = lr * scheduled(fraction, step)
        penalised = step % LAZY == 0
        t = torch.randint(1, STEPS + 1, (batch,))
        before, after = chain.pair(x0, t)
        before.requires_grad_(penalised)
        with half():
            clean = g(after, torch.randn(batch, g.latent), t).float()
        fake = chain.before(clean, after, t, torch.randn_like(x0))
        with half():
            true, false = d(before, after, t).float(), d(fake.detach(), after, t).float()
        loss = F.softplus(-true).mean() + F.softplus(false).mean()
        if penalised:
            (slope,) = torch.autograd.grad(true.sum(), before, create_graph=True)
            loss = loss + LAZY * gamma / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
        d.requires_grad_(False)
        with half():
            loss = F.softplus(-d(fake, after, t).float()).mean()
        optimisers[0].zero_grad()
        loss.backward()
        optimisers[0].step()
        d.requires_grad_(True)
        average.update()
    note = f"{STEPS} steps, DCGAN's layers, width {width}, R1 gamma {gamma:g}, Adam {lr:g}, batch {batch}, average 0.998"
    return Trained(draw, budget.snapshots, count(g), count(d), budget.images, budget.spent, STEPS, note)
