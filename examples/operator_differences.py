"""An operator: differences of neighbours along the last axis, as a sensor of changes measures them.

    (A·x)_i = x_(i+1) - x_i,    (Aᵀ·y)_i = y_(i-1) - y_i  with 0 beyond both ends

The adjoint may be left out: it is then found by differentiation. What no difference shows, the mean, the prior has to say.

python examples/operator_differences.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield import VE, Gaussian, SampleRng, ScorefieldError
from scorefield.guidance import posterior_sample
from scorefield.operators.base import Operator
from scorefield.registry import register


@register("operator", "differences")
class Differences(Operator):
    """y_i = x_(i+1) - x_i along the last axis, which becomes shorter by one."""

    def shape_out(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1] < 2:
            raise ScorefieldError(f"got samples of shape {shape}, expected two numbers or more in the last axis: take others")
        return (*shape[:-1], shape[-1] - 1)

    def __call__(self, x: Tensor) -> Tensor:
        return x.diff(dim=-1)

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return torch.nn.functional.pad(y, (1, 0)) - torch.nn.functional.pad(y, (0, 1))


if __name__ == "__main__":
    prior = Gaussian([0.0, 0.0, 0.0], torch.eye(3), VE(0.01, 20.0))
    draws = posterior_sample(prior, Differences(), torch.tensor([1.0, 1.0]), 0.1, rng=SampleRng(range(1000)))
    print("the mean of x given that it rises by 1 and by 1:", draws.x.mean(dim=0).round(decimals=1).tolist())
