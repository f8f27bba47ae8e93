"""A process: log-SNR linear in time, the schedule that variational diffusion models begin with.

    log-SNR(t) = high + t·(low - high),    alpha² = sigmoid(log-SNR),    sigma² = sigmoid(-log-SNR) = 1 - alpha²

Drift, diffusion, transitions and prior follow from alpha and sigma; the inverse is optional, and makes ladders exact and fast.

Reference: Kingma, Salimans, Poole, Ho (2021), "Variational diffusion models", arXiv 2107.00630.

python examples/process_linear_log_snr.py
"""

from __future__ import annotations

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import Gaussian, SampleRng
from scorefield.process import Process
from scorefield.registry import COMPONENT, register
from scorefield.samplers import sample


@register("process", "linear-log-snr")
@dataclass(frozen=True, config=COMPONENT)
class LinearLogSNR(Process):
    """log-SNR falls linearly from `high` at t = 0 to `low` at t = 1; alpha² + sigma² = 1.

    Attributes:
        high: log-SNR of the cleanest level.
        low: log-SNR of the noisiest one.
    """

    high: float = 13.3
    low: float = -5.0
    t_min, t_max = 0.0, 1.0

    @model_validator(mode="after")
    def _check(self) -> LinearLogSNR:
        if not self.low < self.high:
            raise ValueError(f"got low = {self.low:g} and high = {self.high:g}, expected low < high")
        return self

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.high + t * (self.low - self.high)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.high - t * (self.low - self.high)).sqrt()  # not 1 - alpha², which would lose digits

    def _time_at(self, ratio: Tensor) -> Tensor:
        return (self.high + 2 * ratio.log()) / (self.high - self.low)  # log-SNR = -2·log(sigma/alpha)


if __name__ == "__main__":
    field = Gaussian([1.0, 0.0], [[2.0, 1.2], [1.2, 1.0]], LinearLogSNR())
    x = sample(field, rng=SampleRng(range(4000)))
    print("the covariance of 4,000 samples:", x.mT.cov().round(decimals=1).tolist())
