"""What is random in a training step: its examples, whether images are mirrored, what is named, and the masks of dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data import Dataset
from scorefield.randomness import SampleRng
from scorefield.runs import classes_of


def draw(config: RunConfig, data: Dataset, rng: SampleRng, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return one example for each seed, drawn with replacement, and the class that the network is given for each.

    Args:
        config: of the run.
        data: what it learns from.
        rng: a seed for each example.
        device: where to compute.

    Returns:
        Examples in model space `(batch, *shape)`, and labels `(batch,)`, where the number above the last class stands for any;
        None where the network knows no classes.
    """
    rows = (rng.uniform() * len(data.train)).long().cpu()  # below n: the largest of the numbers is 1 - 2^-53
    x0 = data.normaliser.encode(data.train[rows].to(device))
    if config.data.flip and data.kind == "image":
        mirrored = (rng.uniform() < 0.5).nonzero().flatten()
        x0[mirrored] = x0[mirrored].flip(-1)
    if not (classes := classes_of(config, data.classes)) or data.labels is None:
        return x0, None
    named = rng.uniform() < config.training.labels
    return x0, torch.where(named, data.labels[rows].to(device), classes)


def seed_generators(number: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of a GPU.

    `torch.manual_seed` formats the whole call stack for every kind of device that is not there: 7 % of a training of small
    steps.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
