"""Baselines: other ways to learn to sample, each in one file, on one protocol, so that a benchmark can compare them with ours.

    train(x, seconds, seed) -> Trained        x: images in [-1, 1], `(n, 1, height, width)`

A baseline has `seconds` of processor time to train, on one thread; everything else (network, optimiser, schedule) is its own
choice, made for a budget of minutes. On the way it leaves copies of itself, from which samples can be drawn afterwards: to look
while it trains would cost it time.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = 10  # copies that a training leaves, evenly in time; the last is the result


@dataclass
class Trained:
    """What a training left.

    Attributes:
        draw: `(network, n, seed) -> samples (n, 1, height, width)` in [-1, 1].
        snapshots: copies of the network at tenths of the training; the last one is the result.
        parameters: of the network that draws.
        others: parameters that only the training needs: a discriminator, an encoder.
        images: training examples seen, with repetition.
        seconds: of training.
        evaluations: of the network for one sample.
        note: what was chosen, in a line.
        issue: what ended the training early, or nothing.
    """

    draw: Callable[[nn.Module, int, int], Tensor]
    snapshots: list[nn.Module]
    parameters: int
    others: int
    images: int
    seconds: float
    evaluations: int
    note: str = ""
    issue: str = ""


@dataclass
class Budget:
    """A training's clock, of processor time: yields the fraction spent and a batch, and copies the network on the way."""

    seconds: float
    batch: int
    shown: nn.Module
    snapshots: list[nn.Module] = field(default_factory=list)
    images: int = 0
    spent: float = 0.0

    def batches(self, x: Tensor, seed: int) -> Iterator[tuple[float, Tensor]]:
        """Yield the share of the time that is spent and a batch, in a new order every epoch."""
        generator = torch.Generator().manual_seed(seed)
        order, start = torch.randperm(len(x), generator=generator), time.process_time()
        place = 0
        while (spent := time.process_time() - start) < self.seconds:
            if place + self.batch > len(x):
                order, place = torch.randperm(len(x), generator=generator), 0
            yield spent / self.seconds, x[order[place : place + self.batch]]
            place, self.images = place + self.batch, self.images + self.batch
            while len(self.snapshots) < MOMENTS - 1 and spent >= self.seconds * (len(self.snapshots) + 1) / MOMENTS:
                self.snapshots.append(copy.deepcopy(self.shown))
        self.spent = time.process_time() - start
        self.snapshots += [copy.deepcopy(self.shown) for _ in range(MOMENTS - len(self.snapshots))]


class Average:
    """An exponential moving average of a network's weights, warmed up; buffers are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.step = network, decay, 0
        self.shown = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights in."""
        self.step += 1
        beta = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.shown.parameters()), list(self.network.parameters()), 1 - beta)
        for kept, new in zip(self.shown.buffers(), self.network.buffers(), strict=True):
            kept.copy_(new)


def scheduled(fraction: float, step: int, warmup: int = 100, cold: float = 0.5) -> float:
    """Return the factor on a learning rate: up over some steps, constant, and down to 0 as a cosine over the last part."""
    late = max(0.0, (fraction - (1 - cold)) / cold) if cold else 0.0
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * late))


def half() -> AbstractContextManager[Any]:
    """Return the context in which networks train: bfloat16 for products, as scorefield does where that measures faster."""
    return torch.autocast("cpu", torch.bfloat16)


def count(network: nn.Module) -> int:
    """Return how many parameters a network has."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def in_pieces(draw: Callable[[int], Tensor], n: int, piece: int = 100) -> Tensor:
    """Draw n samples, some at a time."""
    return torch.cat([draw(min(piece, n - first)) for first in range(0, n, piece)])[:n]
