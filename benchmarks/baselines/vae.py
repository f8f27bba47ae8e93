"""A variational autoencoder: an encoder names a Gaussian of codes for an image, a decoder makes the image again.

    -ELBO = E_q(z|x)[-log p(x|z)] + KL(q(z|x) | N(0, I)),      q(z|x) = N(m(x), diag v(x)),    p(x|z) = N(g(z), s²·I)

s² is not set but is the mean squared error of the batch, which is where the bound is best (a calibrated decoder): the
reconstruction then costs (D/2)·ln(mse). That may leave codes which are far from N(0, I) taken together; a weight `beta` above 1
on the KL trades sharpness for that. A sample is g(z), z ~ N(0, I): one evaluation, no adversary, and smooth, because the mean
of all images that a code could mean is a smooth image.

References: Kingma, Welling (2013), "Auto-encoding variational Bayes", arXiv 1312.6114. Rybkin, Daniilidis, Levine (2021),
"Simple and effective VAE training with calibrated decoders", arXiv 2006.13202.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from baselines import Average, Budget, Trained, count, half, in_pieces, scheduled


class Encoder(nn.Module):
    """An image to the mean and the log-variance of its code."""

    def __init__(self, side: int, width: int, latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, width // 2, 3, padding=1), nn.SiLU(), nn.Conv2d(width // 2, width, 4, 2, 1), nn.SiLU()),
            *(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(2 * width * (side // 4) ** 2, 256), nn.SiLU(), nn.Linear(256, 2 * latent)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return m and ln v, `(batch, latent)` each."""
        mean, log_variance = self.body(x).chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """A code to the mean of its image."""

    def __init__(self, side: int, width: int, latent: int) -> None:
        super().__init__()
        self.latent, self.shape = latent, (2 * width, side // 4, side // 4)
        self.first = nn.Sequential(
            *(nn.Linear(latent, 256), nn.SiLU(), nn.Linear(256, math.prod(self.shape)), nn.SiLU()),
        )
        self.body = nn.Sequential(
            *(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.SiLU()),
            *(nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.SiLU()),
            *(nn.Conv2d(width // 2, 1, 3, padding=1), nn.Tanh()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(batch, 1, side, side)` in (-1, 1)."""
        image: Tensor = self.body(self.first(z).unflatten(1, self.shape))
        return image


def draw(network: nn.Module, n: int, seed: int) -> Tensor:
    """Return n images of a decoder."""
    generator = torch.Generator().manual_seed(seed)
    return in_pieces(lambda some: network(torch.randn(some, network.latent, generator=generator)), n)


def train(
    x: Tensor,
    seconds: float,
    seed: int,
    *,
    width: int = 64,
    latent: int = 16,
    batch: int = 128,
    lr: float = 2e-3,
    beta: float = 1.0,
) -> Trained:
    """Train encoder and decoder on the bound and return the average of the decoder.

    Args:
        x: images in [-1, 1], `(n, 1, side, side)`, side a multiple of 4.
        seconds: of training.
        seed: of the weights, the codes and the order of the images.
        width: channels at half of the side.
        latent: numbers in a code.
        batch: images a step.
        lr: of Adam, which falls to 0 over the second half.
        beta: weight of the KL; 1 is the bound.
    """
    torch.manual_seed(seed)
    side = x.shape[-1]
    encoder, decoder = Encoder(side, width, latent), Decoder(side, width, latent)
    encoder, decoder = (part.to(memory_format=torch.channels_last) for part in (encoder, decoder))
    average = Average(decoder, 0.998)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(weights, lr)
    budget = Budget(seconds, batch, average.shown)
    for step, (fraction, real) in enumerate(budget.batches(x, seed)):
        optimiser.param_groups[0]["lr"] = lr * scheduled(fraction, step)
        with half():
            mean, log_variance = (some.float() for some in encoder(real))
            again = decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean)).float()
        error = (again - real).square().mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        loss = side**2 / 2 * (error + 1e-6).log() + beta * divergence
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 100.0)
        optimiser.step()
        average.update()
    note = (
        f"{latent} latents, KL times {beta:g}, calibrated Gaussian decoder, width {width}, Adam {lr:g}, batch {batch}, "
        "average 0.998"
    )
    return Trained(draw, budget.snapshots, count(decoder), count(encoder), budget.images, budget.spent, 1, note)
