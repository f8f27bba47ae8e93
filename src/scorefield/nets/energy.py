"""Scalar networks: a potential phi(u, label) made of any network f whose output has the shape of its input.

A score is the gradient of a function; the output of a network need not be. The gradient of a scalar is, for one more backward
pass per evaluation. There are three forms of the scalar:

    inner       phi = <u, f(u)>             grad phi = f + J'u: a score network plus what makes it a gradient
    residual    phi = ½‖u - f(u)‖² - ½‖u‖²  the error of an autoencoder, minus its value for f = 0
    plain       phi = sum of f(u)           the usual scalar head: an MLP, or a U-Net whose last convolution is summed

At f = 0, where the networks here start, all three are zero with a gradient by the weights that is not (½‖f‖² alone would stay
there). f must be smooth: a ReLU network's Hessian is zero almost everywhere.

References: Salimans, Ho (2021), "Should EBMs model the energy or the score?", EBM workshop at ICLR. Du, Durkan, Strudel et al.
(2023), "Reduce, reuse, recycle: compositional generation with energy-based diffusion models and MCMC", arXiv 2302.11552.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefield.shapes import total

Form = Literal["inner", "residual", "plain"]


class Potential(nn.Module):
    """A scalar per sample, made of a network whose output has the shape of its input.

    >>> import torch
    >>> from scorefield.nets.mlp import MLP
    >>> Potential(MLP((2,), width=16))(torch.ones(3, 2), torch.zeros(3)).shape
    torch.Size([3])
    """

    def __init__(self, network: nn.Module, form: Form = "inner") -> None:
        """Hold the parts.

        Args:
            network: `network(u, label, cond) -> f`, with u and f `(batch, *shape)` and label `(batch,)`; smooth.
            form: "inner", "residual" or "plain", as above.
        """
        super().__init__()
        self.network, self.form = network, form

    def forward(self, u: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return phi, `(batch,)`, from u, `(batch, *shape)`, and labels `(batch,)`."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            f = self.network(u, label, cond).to(u.dtype)
        if self.form == "plain":
            return total(f)
        return total(u * f) if self.form == "inner" else total(f * f) / 2 - total(u * f)
