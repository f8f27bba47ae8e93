"""What every export is of: a run's denoiser in variance-exploding form, and the numbers that are needed beside it.

Processes differ in alpha and sigma, and those who deploy a model should not have to know which one it has. In z = x_t/alpha and
lambda = sigma/alpha they are all the same,

    z = x0 + lambda·noise        D(z, lambda) = E[x0 | z]        dz/dlambda = (z - D(z, lambda))/lambda

so that what is exported is D, z is called `x` and lambda `sigma`. All are in model space; `raw = x·scale + shift`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import scorefield
from scorefield.data import Normaliser
from scorefield.drawing import choose_sampler, trained
from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.registry import name_of
from scorefield.runs import Run
from scorefield.shapes import PerSample, Sample, over
from scorefield.specs import SampleSpec


class Denoiser(nn.Module):
    """A model as the function of (x, sigma, label) that is exported.

    >>> from scorefield import EDM, VP
    >>> from scorefield.nets.mlp import MLP
    >>> Denoiser(ScoreModel(MLP((2,)), EDM(), VP(), (2,)))(torch.zeros(3, 2), torch.ones(3)).shape
    torch.Size([3, 2])
    """

    def __init__(self, model: ScoreModel, classes: int = 0) -> None:
        """Hold a model, and the number of classes that its network is conditioned on."""
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x: Sample, sigma: PerSample, label: Tensor | None = None) -> Tensor:
        """Return E[x0 | x] of x = x0 + sigma·noise, in the type of x.

        Args:
            x: noisy samples, `(batch, *shape)`.
            sigma: standard deviation of the noise in each; beyond the range of the run's process its ends hold.
            label: number of the class of each, -1 for none; None for all without.
        """
        process = self.model.process
        t = process.time_of_sigma(sigma)
        cond = None if label is None else torch.where(label < 0, self.classes, label)
        seen: Tensor = self.model(over(process.alpha(t), x) * x, t, cond).denoised
        return seen


def exportable(run: Run, target: str) -> ScoreModel:
    """Return what a run draws from, its field or its generator, as a model that others can run.

    Raises:
        ScorefieldError: a run without weights or without a step of training; one of a single noise level; a table, or data with
            unknown cells.
    """
    trained(run)
    what, other = None, "choose --to hub"
    if run.kind == "table" or run.normaliser.transforms:
        what = "a table, whose columns scorefield alone turns into a row and back"
    elif run.normaliser.holes is not None or run.config.training.given > 0:
        what = "data with unknown cells (NaN), which no other library takes"
    elif run.config.process.t_max == run.config.process.t_min:
        what, other = "one noise level, from which nothing else can draw", "train with a process of many"
    if what is not None:
        raise ScorefieldError(
            f"got --to {target} for {run.path}, a run of {what}, expected images, signals or vectors: {other}"
        )
    return run.field if run.evaluations is None else run.generator


def sigma_range(run: Run) -> tuple[float, float]:
    """Return the smallest and the largest sigma/alpha of a run's process."""
    ends = torch.tensor([run.config.process.t_min, run.config.process.t_max], dtype=torch.float64)
    low, high = (run.config.process.sigma(ends) / run.config.process.alpha(ends)).tolist()
    return float(low), float(high)


def facts(run: Run, model: ScoreModel) -> dict[str, Any]:
    """Return what one must know to draw from an exported model, as JSON values that arrays broadcast with samples."""
    sampler, ladder = choose_sampler(run, SampleSpec())
    sigmas = run.config.process.sigma(ladder) / run.config.process.alpha(ladder)
    counts = run.manifest["data"]["class_counts"]
    return {
        "scorefield": scorefield.__version__,
        "kind": run.kind,
        "shape": list(run.shape),
        "output": "E[x0 | x]" if run.evaluations is None else "a draw of x0 given x",
        "sigma": list(sigma_range(run)),
        "sampler": name_of("sampler", sampler),
        "sigmas": sigmas.tolist(),
        "mean": model.data_mean.tolist(),
        "std": model.data_std,
        "classes": list(run.classes),
        "class_counts": counts if run.classes else [],
        "unconditional": model.unconditional,
        **affine(run.normaliser),
    }


def affine(normaliser: Normaliser) -> dict[str, Any]:
    """Return a normaliser as raw = clip(x·scale + shift, low, high), with shift and scale that broadcast with one sample.

    >>> affine(Normaliser(shift=(1.0, 5.0), scale=(2.0, 1.0), per_channel=True, fixed=(1,)))["scale"]
    [[2.0], [0.0]]
    """
    axes = (-1, *(1,) * normaliser.axes) if normaliser.per_channel else (-1,)
    scale = [0.0 if i in normaliser.fixed else one for i, one in enumerate(normaliser.scale)]  # decoded as the constant
    shifted = {"shift": normaliser.shift, "scale": scale}
    named = {name: torch.tensor(values, dtype=torch.float64).reshape(axes).tolist() for name, values in shifted.items()}
    return {**named, "low": normaliser.low, "high": normaliser.high}


def probes(run: Run, model: ScoreModel, sigma: Tensor) -> tuple[Tensor, ...]:
    """Return inputs at which an exported model is compared with its run: noisy samples of these levels.

    Returns:
        x, `(count, *shape)`, sigma, `(count,)`, and, of a run with classes, labels: every class, and none where that may be.
    """
    noise = torch.randn((len(sigma), *run.shape), generator=torch.Generator().manual_seed(0))
    x = model.data_mean + over((model.data_std**2 + sigma**2).sqrt(), noise) * noise
    if not run.classes:
        return x, sigma
    first = -1 if model.unconditional else 0
    return x, sigma, first + torch.arange(len(sigma)) % (len(run.classes) - first)


def difference(got: Tensor, wanted: Tensor) -> float:
    """Return the largest difference between two outputs, in units of the largest number where that is above 1.

    It is infinite where one of them is no number.
    """
    largest = float((got - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return largest if math.isfinite(largest) else math.inf
