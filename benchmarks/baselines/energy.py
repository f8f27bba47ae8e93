"""An energy-based model by persistent contrastive divergence: E is low at the data and high where the model's own chains are.

    p(x | sigma) = exp(-E(x, sigma))/Z(sigma),    gradient of -log p:  E_data[dE/dw] - E_chains[dE/dw]

No adversary is trained, but the chains, Langevin dynamics on E itself, play the part of a generator. On pixels without noise
a chain never leaves its mode in a training of minutes, so E is learned on ten noise levels at once (x = x0 + sigma·noise), each
with its own chains, and sampled as NCSN is: Langevin dynamics from the highest level down. Objective, chains, model and sampler
are scorefield's (`objectives/contrastive.py`, `field.EnergyModel`, `samplers.Annealed`); the network is a small convolutional
one with a scalar head, whose answer is cheaper than a U-Net's and, by a SiLU, smooth.

References: Tieleman (2008), "Training restricted Boltzmann machines using approximations to the likelihood gradient". Du,
Mordatch (2019), "Implicit generation and modeling with energy-based models", arXiv 1903.08689. Song, Ermon (2019), arXiv
1907.05600 (the levels).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import Average, Budget, Trained, count, half, in_pieces, scheduled
from scorefield import VE, EnergyModel, SampleRng
from scorefield.levels import Levels, ladder_of
from scorefield.objectives.contrastive import Persistent
from scorefield.prediction import Energy
from scorefield.randomness import stream_of
from scorefield.samplers import Annealed, simulate

LEVELS = 10


class Scalar(nn.Module):
    """An image and ln(sigma) to a number phi."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(1, width // 2, 3, padding=1),
                nn.Conv2d(width // 2, width, 4, 2, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            ]
        )
        self.told = nn.ModuleList([nn.Linear(64, 2 * layer.out_channels) for layer in self.layers])
        self.last = nn.Linear(2 * width * (side // 4) ** 2, 1)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return phi, `(batch,)`."""
        about, h = self.embed(label[:, None]), x
        for layer, told in zip(self.layers, self.told, strict=True):
            scale, shift = told(about)[:, :, None, None].chunk(2, dim=1)
            h = F.silu(layer(h) * (1 + scale) + shift)
        phi: Tensor = self.last(h.flatten(1))
        return phi[:, 0]


def drawer(steps: int) -> Callable[[nn.Module, int, int], Tensor]:
    """Return the function that draws by annealed Langevin dynamics, `steps` a level."""

    def draw(network: nn.Module, n: int, seed: int) -> Tensor:
        first = 0

        def some(number: int) -> Tensor:
            nonlocal first
            rng = SampleRng(range(first, first + number), stream=stream_of("sample", seed))
            first += number
            *_, last = simulate(network, Annealed(steps_per_level=steps), ladder_of(network, "geometric", LEVELS), rng=rng)
            return last.x.clamp(-1, 1).float()

        return in_pieces(some, n)

    return draw


def train(
    x: Tensor,
    seconds: float,
    seed: int,
    *,
    width: int = 32,
    low: float = 0.1,
    high: float = 5.0,
    steps: int = 10,
    drawn: int = 20,
    batch: int = 64,
    lr: float = 5e-4,
) -> Trained:
    """Train by persistent contrastive divergence and return the average.

    Args:
        x: images in [-1, 1], `(n, 1, side, side)`, side a multiple of 4.
        seconds: of training.
        seed: of the weights, the chains and the order of the images.
        width: channels at half of the side.
        low, high: the lowest and highest noise level.
        steps: Langevin steps of a chain at a visit.
        drawn: Langevin steps a level when samples are drawn.
        batch: images a step.
        lr: of Adam, which falls to 0 over the second half.
    """
    torch.manual_seed(seed)
    std = float((x - x.mean(dim=0)).std())
    network = Scalar(x.shape[-1], width).to(memory_format=torch.channels_last)
    model = EnergyModel(network, Energy(data_std=std), VE(low, high), tuple(x.shape[1:]), x.mean(dim=0), std)
    objective = Persistent(noise_distribution=Levels(LEVELS), steps=steps, chains=16 * batch, restart=0.0)
    model.add_learned(objective.prepare(model))
    average = Average(model, 0.998)
    optimiser = torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.99))
    budget = Budget(seconds, batch, average.shown)
    issue = ""
    for step, (fraction, x0) in enumerate(budget.batches(x, seed)):
        optimiser.param_groups[0]["lr"] = lr * scheduled(fraction, step)
        with half():
            rng = SampleRng(range(step * batch, (step + 1) * batch), stream=stream_of("train", seed))
            loss = objective(model, x0, rng=rng, learned=model.learned).mean()
        optimiser.zero_grad()
        loss.backward()
        if not all(bool(p.grad.isfinite().all()) for p in network.parameters()):
            issue = f"a NaN at step {step}"
            break
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update()
    note = (
        f"convolutional energy of width {width}, {LEVELS} levels from {high:g} to {low:g}, {steps} Langevin steps a visit, "
        f"{16 * batch} chains, Adam {lr:g}, batch {batch}, average 0.998; sampled with {drawn} steps a level"
    )
    evaluations = LEVELS * drawn
    return Trained(drawer(drawn), budget.snapshots, count(network), 0, budget.images, budget.spent, evaluations, note, issue)
