"""Optimisers: AdamW, and Muon for the matrices of a network with AdamW for the rest.

Muon is momentum whose update is made orthogonal: with gradient g of a weight matrix W (rows x columns)

    m <- mu·m + g,    u = g + mu·m,    W <- (1 - lr·decay)·W - lr·0.2·sqrt(max(rows, columns))·orthogonal(u)

`orthogonal(u)` keeps the singular vectors of u and moves its singular values to about 1, so that every direction of a matrix
learns at one speed, whichever the gradient favours. It is five steps of a quintic polynomial in u, matrix products only. The
factor gives an update the root mean square of one of Adam's, so one learning rate serves both. A convolution is the matrix
(outputs, inputs x places). Matrices of one shape are stacked and iterated together: a network has dozens, and one by one they
would cost more in calls than in arithmetic.

References: Loshchilov, Hutter (2019), "Decoupled weight decay regularization", arXiv 1711.05101. Jordan et al. (2024),
"Muon: an optimizer for hidden layers in neural networks". Liu et al. (2025), "Muon is scalable for LLM training", arXiv
2502.16982.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from scorefield.config import Optimiser
from scorefield.nets.base import CONVOLUTIONS

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan et al.: the steepest slope at 0 whose image of [0, 1] stays near 1
ROUNDS = 5


def orthogonal(stack: Tensor) -> Tensor:
    """Return matrices `(n, rows, columns)` with their singular vectors, and singular values of about 1 (0.7 to 1.2).

    In bfloat16: an update needs its direction, not its digits. Values below about 1/1000 of the norm grow only in part.

    >>> values = torch.linalg.svdvals(orthogonal(torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])))
    >>> bool(((values > 0.6) & (values < 1.3)).all())
    True
    """
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(ROUNDS):  # x <- A·x + (B·s + C·s·s)·x with s = x·xᵀ, sums and products in one call each
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    flat: Tensor = (x.mT if tall else x).to(stack.dtype)
    return flat


def matrices_of(network: nn.Module) -> list[nn.Parameter]:
    """Return the weights that Muon should have: of linear maps and convolutions, but neither tables nor single rows."""
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, *CONVOLUTIONS.values()))]
    weights = [weight for layer in layers if isinstance(weight := layer.weight, nn.Parameter) and weight.requires_grad]
    return [weight for weight in weights if min(weight.flatten(1).shape) > 1]


class Muon(Optimizer):
    """Muon for matrices and AdamW for the other parameters, under one learning rate.

    >>> network = nn.Linear(3, 2)
    >>> optimiser = Muon(network, lr=0.1)
    >>> network(torch.ones(1, 3)).sum().backward()
    >>> optimiser.step()
    >>> [len(group["params"]) for group in optimiser.param_groups]
    [1, 1]
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        lr: float = 2e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        """Hold the parameters of a network.

        Args:
            network: whose `matrices_of` Muon has.
            lr: learning rate of both, > 0.
            momentum: mu, in [0, 1).
            betas: decay of AdamW's two moments.
            weight_decay: decoupled, of both.
            eps: AdamW's.
        """
        matrices = {id(p): p for p in matrices_of(network)}
        rest = [p for p in network.parameters() if id(p) not in matrices]
        groups = [{"params": list(matrices.values()), "matrices": True}, {"params": rest, "matrices": False}]
        shared = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__([group for group in groups if group["params"]], shared)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step from the gradients that are there."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["matrices"] else self._adam)(weights, [p.grad for p in weights], group)

    def _moments(self, name: str, weights: list[Tensor]) -> list[Tensor]:
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]

    def _muon(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        moments = self._moments("momentum", weights)
        torch._foreach_mul_(moments, group["momentum"])
        torch._foreach_add_(moments, gradients)
        updates = torch._foreach_add(gradients, moments, alpha=group["momentum"])
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, weight in enumerate(weights):
            by_shape.setdefault((weight.shape[0], weight[0].numel()), []).append(index)
        for (rows, columns), members in by_shape.items():
            stack = orthogonal(torch.stack([updates[i].reshape(rows, columns) for i in members]))
            for i, update in zip(members, stack, strict=True):
                weights[i].add_(update.reshape(weights[i].shape), alpha=-group["lr"] * 0.2 * math.sqrt(max(rows, columns)))

    def _adam(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        first, second = self._moments("first", weights), self._moments("second", weights)
        beta1, beta2 = group["betas"]
        for weight in weights:  # a tensor, for it goes into the checkpoint like the rest; one each, for a group may grow
            self.state[weight]["step"] = self.state[weight].get("step", torch.zeros(())) + 1
        steps = [float(self.state[weight]["step"]) for weight in weights]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [math.sqrt(1 - beta2**n) for n in steps])
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(weights, first, roots, [-float(group["lr"]) / (1 - beta1**n) for n in steps])


def make(how: Optimiser, network: nn.Module) -> Optimizer:
    """Return the optimiser that a configuration names, over the parameters of a network."""
    if how.method == "muon":
        return Muon(network, lr=how.lr, momentum=how.momentum, betas=how.betas, weight_decay=how.weight_decay)
    return AdamW(network.parameters(), lr=how.lr, betas=how.betas, weight_decay=how.weight_decay, fused=True)


def learning_rate(how: Optimiser, step: int, fraction: float) -> float:
    """Return the learning rate of the step after `step`: a linear warm-up, the peak, a linear decay to 1/100 of it.

    Args:
        how: the configuration.
        step: steps done.
        fraction: of the budget that is spent, 0 to 1.

    >>> how = Optimiser(lr=1.0, warmup=10, decay=0.5)
    >>> [learning_rate(how, step, fraction) for step, fraction in ((0, 0.0), (9, 0.25), (50, 0.75), (99, 1.0))]
    [0.1, 1.0, 0.5, 0.01]
    """
    warm = min(1.0, (step + 1) / max(how.warmup, 1))
    cold = min(1.0, (1 - fraction) / how.decay) if how.decay else 1.0
    return how.lr * warm * max(cold, 0.01)
