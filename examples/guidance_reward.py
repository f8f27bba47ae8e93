"""Guidance: a field whose samples are tilted by a reward, p(x0)·exp(r(x0)); guidance that changes the score wraps the field.

    grad log E[exp(r(x0)) | x_t] is taken as grad r(D(x_t)),    D = E[x0 | x_t]

For Gaussian data and a linear reward r(x0) = b·x0 that is exact: the samples are N(m + S·b, S). For others it is the first term
of an expansion, and `guidance.feynman_kac` draws the tilted density itself.

python examples/guidance_reward.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefield import VP, Gaussian, SampleRng
from scorefield.field import Field
from scorefield.prediction import Prediction
from scorefield.samplers import sample


class Rewarded:
    """A field with the gradient of a reward of the denoised sample added to its score; every sampler draws from it."""

    def __init__(self, field: Field, reward: Callable[[Tensor], Tensor]) -> None:
        """Wrap a field; `reward` gives one number per sample, `(batch, *shape)` -> `(batch,)`, and has a gradient."""
        self.field, self.reward = field, reward
        self.process, self.shape, self.data_mean, self.data_std = field.process, field.shape, field.data_mean, field.data_std

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        with torch.enable_grad():
            inner = x.detach().requires_grad_(True)
            prediction = self.field(inner, t, cond)
            (rise,) = torch.autograd.grad(self.reward(prediction.denoised).sum(), inner)
        return Prediction.of_score(self.process, x, t, prediction.score.detach() + rise)


if __name__ == "__main__":
    prior = Gaussian([1.0, 0.0], [[2.0, 1.2], [1.2, 1.0]], VP())
    guided = Rewarded(prior, lambda x0: x0[:, 0])  # b = (1, 0): the mean moves by S·b = (2, 1.2)
    x = sample(guided, rng=SampleRng(range(4000)))
    print("the mean of 4,000 samples, (3, 1.2) being right:", x.mean(dim=0).round(decimals=1).tolist())
