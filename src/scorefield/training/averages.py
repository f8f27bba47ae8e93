"""Moving averages of the weights: several lengths at once, of which the held-out loss chooses at the end.

    average <- average + (1 - beta_n)·(weights - average)          after step n = 1, 2, ...

Steps of gradient descent oscillate around a minimum; their average lies nearer to it. How many steps to average over is not
known in advance: too few leave the noise, too many include weights that were worse. An average is cheap, so several are kept.

    decay beta in [0.5, 1)     beta_n = min(beta, (1 + n)/(10 + n)): an exponential of 1/(1 - beta) steps, warmed up
    width w in (0, 0.28]       beta_n = (1 - 1/n)^(gamma + 1): the weight of step i is proportional to i^gamma, a power and not
                               an exponential, whose standard deviation is the share w of the training so far

A width means the same for a run of a minute and one of a week, at any time of it, and needs no warm-up (beta_1 = 0 forgets
the random start); gamma solves w = sqrt(gamma + 1)/((gamma + 2)·sqrt(gamma + 3)). Buffers are copied.

One copy of the average that is shown is kept from when the share EARLY of the training was done: a worse version of the same
field, with the same kind of errors but larger ones, which autoguidance leads away from (`guidance/autoguidance.py`).

References: Polyak, Juditsky (1992). Karras, Aittala, Lehtinen, Hellsten, Aila, Laine (2023), "Analyzing and improving the
training dynamics of diffusion models", arXiv 2312.02696.
"""

from __future__ import annotations

import copy
import math
from functools import cache

import torch
from torch import Tensor

from scorefield.field import ScoreModel
from scorefield.training import checkpoint

EARLY = 0.125  # share of the training after which the average is kept as a worse version
TOO_LATE = 0.5  # share from which on it would be no worse version


@cache
def power_of(width: float) -> float:
    """Return gamma of the power i^gamma whose relative standard deviation is `width`, in (0, 12^(-1/2)].

    >>> round(power_of(0.1), 2), round(power_of(0.05), 2)
    (6.94, 16.97)
    """
    low, high = 0.0, 1 / width  # the width falls with gamma and is below 1/gamma
    for _ in range(100):
        middle = (low + high) / 2
        wide = math.sqrt(middle + 1) / ((middle + 2) * math.sqrt(middle + 3)) > width
        low, high = (middle, high) if wide else (low, middle)
    return (low + high) / 2


def beta(length: float, step: int) -> float:
    """Return how much of an average stays at a step.

    Args:
        length: a decay in [0.5, 1) or a relative width in (0, 0.28].
        step: steps done, this one included; 1 for the first.

    >>> beta(0.999, 1), beta(0.999, 10**6), beta(0.1, 1)
    (0.18181818181818182, 0.999, 0.0)
    """
    if length >= 0.5:
        return min(length, (1 + step) / (10 + step))
    return float((1 - 1 / step) ** (power_of(length) + 1))


class Averages:
    """The averages of a model's weights. `shown` is the one in use: the first one while it trains, then the chosen one.

    Attributes:
        early: the weights that were shown when the share EARLY of the training was done, by name, on the CPU; None before.
    """

    early: dict[str, Tensor] | None = None

    def __init__(self, model: ScoreModel, lengths: tuple[float, ...]) -> None:
        """Begin at the model's weights, with one average for each length (a decay or a relative width)."""
        self.kept = {length: copy.deepcopy(model).eval().requires_grad_(False) for length in lengths}
        self.shown: float | None = next(iter(lengths), None)
        self._model = model
        self._weights = list(model.parameters())
        self._buffers = list(model.buffers())
        # Listed once: to walk a network costs as much as to average a small one.
        self._means = {length: list(average.parameters()) for length, average in self.kept.items()}
        self._copies = {length: list(average.buffers()) for length, average in self.kept.items()}

    @torch.no_grad()
    def update(self, step: int, fraction: float) -> None:
        """Take the weights after step `step`, with a share of the training done, into every average: one fused call each."""
        for length, means in self._means.items():
            torch._foreach_lerp_(means, self._weights, 1 - beta(length, step))  # type: ignore[arg-type]
            for kept, new in zip(self._copies[length], self._buffers, strict=True):
                kept.copy_(new)
        self._keep_early(fraction)

    def _keep_early(self, fraction: float) -> None:
        """Keep the weights that are shown, once, if the share `fraction` of the training is late enough for it.

        A training that goes on for so long that it is young again keeps later ones instead.
        """
        if fraction < EARLY:
            self.early = None
        elif self.early is None and fraction <= TOO_LATE:
            shown = self._model if self.shown is None else self.kept[self.shown]
            self.early = {name: value.detach().cpu().clone() for name, value in shown.state_dict().items()}

    def show_best(self, losses: dict[float, float]) -> list[str]:
        """Show the average with the smallest of these losses from now on; return a sentence where there was a choice."""
        if losses:
            self.shown = min(losses, key=lambda length: losses[length])
        if len(losses) < 2:
            return []
        table = ", ".join(f"{length:g} {loss:.5g}" for length, loss in losses.items())
        return [f"moving average = {self.shown:g}: of those kept its held-out loss is smallest ({table})"]

    def state(self) -> dict[str, Tensor]:
        """Return every average as a flat dict `length/name`, and the early one as `early/name`."""
        states = {str(length): average.state_dict() for length, average in self.kept.items()}
        states |= {} if self.early is None else {"early": self.early}
        return {f"{which}/{name}": value for which, state in states.items() for name, value in state.items()}

    def put_back(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned; raises `ScorefieldError` where it does not fit."""

        def of(which: str) -> dict[str, Tensor]:
            return {name.split("/", 1)[1]: value for name, value in tensors.items() if name.split("/", 1)[0] == which}

        for length, average in self.kept.items():
            checkpoint.put_back(of(str(length)), average)
        self.early = of("early") or None
