"""Implicit score matching: the Fisher divergence without the truth, by integration by parts.

    1/2·E‖s - grad log p‖² = E[tr grad s + 1/2·‖s‖²] + 1/2·E‖grad log p‖²        if p(x)·s(x) -> 0 as |x| -> infinity
    loss = lambda(t)·(tr grad s(x_t, t) + 1/2·‖s(x_t, t)‖²)

because E[s·grad log p] = integral of s·grad p = -E[tr grad s]. So loss(s) - loss(grad log p_t) is the weighted Fisher
divergence, although the loss itself may be negative. Three things break it, and `check` refuses them:

    bounded data    without noise p·s does not vanish at a hard bound or at an atom, such as the values of 8-bit pixels; the
                    loss is unbounded below: ever steeper scores at the data points pay ever more
    kinks           where s jumps (the energy of a ReLU network) tr grad s lacks the part of the jumps; where s only bends (a
                    ReLU score network) the loss is right, but autograd's derivative by the weights misses that the bends move,
                    and descends something else
    dropout         s at two evaluations is then not one function

The exact trace takes d backward passes, e_i·grad(e_i·s) for every coordinate i. They run `together` at a time, as one batched
pass; the intermediate results of a group are computed again for the weights' gradient, so memory does not grow with d.

Reference: Hyvarinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6, theorem 1.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field
from scorefield.levels import NoiseDistribution, Uniform
from scorefield.objectives.fisher import Matching
from scorefield.objectives.weightings import Unweighted, Weighting
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.shapes import PerSample, Sample, flat, total

KINKED = {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink"}
KINKED |= {"threshold", "selu"}


class _Calls(TorchFunctionMode):
    """Record the names of all torch functions that are called, by modules or in plain code."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", "").rstrip("_"))
        return func(*args, **(kwargs or {}))


def kinks(field: Field) -> list[str]:
    """Return the names of the activations with a kink that a field calls in one evaluation, sorted.

    >>> from scorefield import VE, Gaussian
    >>> kinks(Gaussian([0.0], [[1.0]], VE()))
    []
    """
    device = next(field.parameters()).device if isinstance(field, nn.Module) else None
    t = torch.full((1,), field.process.t_max, dtype=torch.float64, device=device)
    with torch.no_grad(), _Calls() as calls:
        field(torch.zeros(1, *field.shape, device=device), t)
    return sorted(calls.names & KINKED)


class ByParts(Matching):
    """Score matching by integration by parts: it refuses what that cannot learn from, for every estimate of the trace."""

    bends: ClassVar[bool] = False  # whether a score with bends, but no jumps, is learned correctly

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:
        ends = torch.tensor([field.process.t_min, field.process.t_max], dtype=torch.float64)
        if bounded and float(field.process.sigma(ends)[0]) == 0:
            raise ScorefieldError(
                "got bounded or 8-bit data and a process without noise at its smallest time, for which integration by parts "
                "fails and the loss is unbounded below, expected a smooth density: add noise (process ve)"
            )
        if not bool((self.weighting(field.process, ends) > 0).any()):
            raise ScorefieldError(
                "got a weighting that is zero at both ends of the process, expected a positive one: "
                "without noise choose the weighting uniform"
            )
        if type(self.weighting).minimised is not Weighting.minimised:
            raise ScorefieldError(
                "got a weighting that learns the size of the loss, expected a fixed one: an implicit loss may be negative, "
                "so choose sigma2 or uniform"
            )
        if not isinstance(field, nn.Module):
            return
        if any(isinstance(part, _DropoutNd) and part.p > 0 and part.training for part in field.modules()):
            raise ScorefieldError(
                "got a network with dropout in training mode, whose random masks enter the estimate of the trace, "
                "expected none: set network.dropout=0"
            )
        kinked = kinks(field) if isinstance(field, EnergyField) or not self.bends else []
        if kinked:
            raise ScorefieldError(
                f"got a network with {', '.join(kinked)}, whose second derivative is zero almost everywhere, so that autograd "
                "misses changes of the trace, expected a smooth network: use SiLU or softplus, or denoising matching"
            )


def pull(vector: Tensor, score: Sample, x: Sample, *, keep: bool) -> Sample:
    """Return vᵀ·grad s, `(batch, *shape)`, for v in the shape of the score; `keep` makes it differentiable once more."""
    (product,) = torch.autograd.grad(score, x, vector, create_graph=keep, retain_graph=True)
    return product


@register("objective", "implicit")
@dataclass(frozen=True, config=COMPONENT)
class Implicit(ByParts):
    """Implicit score matching with the exact trace, by d backward passes; for few dimensions.

    Attributes:
        noise_distribution: where t is drawn.
        weighting: lambda, on the score.
        together: coordinates in a batched backward pass; memory grows with it and not with d.

    Raises:
        ScorefieldError: by `check`, data or a network for which integration by parts fails.

    >>> from scorefield import Gaussian, SampleRng, Noiseless
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], Noiseless())
    >>> Implicit()(field, torch.tensor([[1.0, 1.0]]), rng=SampleRng([0])).tolist()  # tr grad s = -2, 1/2·‖s‖² = 1
    [-1.0]
    """

    noise_distribution: NoiseDistribution = default(default_factory=Uniform)
    weighting: Weighting = default(default_factory=Unweighted)
    together: Annotated[int, Bound(ge=1)] = 16

    def at(self, field: Field, x: Sample, t: PerSample, cond: Tensor | None = None, *, rng: SampleRng) -> PerSample:
        keep, size = torch.is_grad_enabled(), flat(x).shape[1]
        parts = field.modules() if keep and isinstance(field, nn.Module) else ()
        batched = not any(isinstance(part, nn.GroupNorm) for part in parts)  # torch cannot batch its second derivative
        x = x.detach().requires_grad_(True)

        def diagonal(first: int) -> PerSample:
            """The sum of `together` entries of the diagonal of grad s, from the first on."""
            score = flat(field(x, t, cond).score)
            units = torch.eye(size, dtype=x.dtype, device=x.device)[first : first + self.together]
            rows = units.unsqueeze(1).expand(-1, len(x), -1)
            if batched:
                (product,) = torch.autograd.grad(score, x, rows, is_grads_batched=True, create_graph=keep)
            else:
                product = torch.stack([torch.autograd.grad(score, x, row, create_graph=keep)[0] for row in rows])
            return product.flatten(2)[..., first : first + self.together].diagonal(dim1=0, dim2=2).sum(dim=1)

        with torch.enable_grad():
            trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for first in range(0, size, self.together):
                again = keep and size > self.together
                part = checkpoint(diagonal, first, use_reentrant=False) if again else diagonal(first)
                trace = trace + (part if keep else part.detach())
        return trace + 0.5 * total(field(x, t, cond).score ** 2)
