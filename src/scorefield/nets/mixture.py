"""The part of a field of rows that a Gaussian mixture knows: what it makes of noisy cells given what is known.

    z = x_t/alpha    of each component w and E[x0] (`mixtures.py`), where a noisy cell has noise of variance lambda² and a given
                     one a little; both are averaged by the components' shares given z
    score            -w/alpha in noisy cells

A network that learns only what is left of the score after this knows at its first step what a mixture says, which is most of
what there is to know of many tables, and more than a few hundred rows teach a network.

Reference: Karras et al. (2022), arXiv 2206.00364, whose preconditioning is the same of one Gaussian with one variance.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scorefield.mixtures import Mixture, explained

SURE = 0.03  # standard deviation of the noise that a given cell counts as having


class MixturePart(nn.Module):
    """A mixture, and what it says of noisy cells.

    >>> part = MixturePart(2)
    >>> part.put(Mixture(torch.zeros(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.9], [0.9, 1.0]]])))
    >>> z, given = torch.tensor([[0.0, torch.nan]]), torch.tensor([[torch.nan, 2.0]])
    >>> part(z, torch.full((1,), 100.0), given)[0][0, 0]
    tensor(1.7983)
    """

    def __init__(self, size: int) -> None:
        """Begin with one Gaussian of unit variance."""
        super().__init__()
        self.log_weights: Tensor
        self.means: Tensor
        self.vectors: Tensor
        self.variances: Tensor
        for name, value in self._tensors(Mixture(torch.zeros(1), torch.zeros(1, size), torch.eye(size).unsqueeze(0))).items():
            self.register_buffer(name, value)
        self.register_load_state_dict_pre_hook(_as_many)  # type: ignore[no-untyped-call]

    @staticmethod
    def _tensors(mixture: Mixture) -> dict[str, Tensor]:
        variances, vectors = torch.linalg.eigh(mixture.covariances.double())
        found = {"log_weights": mixture.log_weights, "means": mixture.means}
        return {  # of one layout: what is loaded again then adds in the same order
            name: one.float().contiguous()
            for name, one in (found | {"vectors": vectors, "variances": variances.clamp(min=0)}).items()
        }

    def put(self, mixture: Mixture) -> None:
        """Take a mixture of the data in model space."""
        for name, value in self._tensors(mixture).items():
            setattr(self, name, value.to(self.means))

    def forward(self, z: Tensor, lam: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what `explain` does, in full precision: a covariance of three digits is another one."""
        with torch.autocast(z.device.type, enabled=False):
            return self.explain(z, lam, given)

    def explain(self, z: Tensor, lam: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return E[x0 | what is known] of all cells, and w.

        Args:
            z: x_t/alpha, `(batch, d)`, NaN in cells that are not noisy.
            lam: sigma/alpha, `(batch,)`.
            given: x0 in given cells and NaN elsewhere, or None for none.
        """
        noisy, square = ~z.isnan(), lam.to(z.dtype).square().unsqueeze(1)
        whole = given is None and bool(noisy.all())
        clean = torch.zeros_like(noisy) if given is None else ~given.isnan()
        value = torch.where(noisy, z, 0.0) if given is None else torch.where(clean, given.to(z.dtype), z)
        known, noise = noisy | clean, torch.where(noisy, square, torch.where(clean, SURE**2, 1.0))
        alike = slice(None, None, _repeats(noise if given is None else torch.cat([noise, given.nan_to_num(torch.inf)], dim=1)))
        guesses, pulls, logs = list[Tensor](), list[Tensor](), list[Tensor]()
        for i in range(len(self.means)):
            mean, vectors, v = (part[i].to(z.dtype) for part in (self.means, self.vectors, self.variances))
            if whole:
                along, total = (z - mean) @ vectors, v + square
                pulls.append(along / total @ vectors.mT)
                guesses.append(mean + along * (v / total) @ vectors.mT)
                logs.append(-0.5 * (along.square() / total + total.log()).sum(dim=1))
                continue
            covariance = (vectors * v) @ vectors.mT
            w, log_p, _ = explained(covariance, value - mean, known[alike], noise[alike])
            pulls.append(w)
            guesses.append(mean + (w * known) @ covariance)
            logs.append(log_p)
        if len(guesses) == 1:
            return guesses[0], pulls[0]
        shares = (torch.stack(logs, dim=1) + self.log_weights.to(z.dtype)).softmax(dim=1)
        guess, w = (torch.einsum("nk,nkd->nd", shares, torch.stack(part, dim=1)) for part in (guesses, pulls))
        return guess, w


def _repeats(rows: Tensor) -> int:
    """Return how often each row of a matrix follows itself, where all do so equally often, else 1: draws of the same cells."""
    counts = torch.unique_consecutive(rows, dim=0, return_counts=True)[1]
    return int(counts[0]) if len(counts) and bool((counts == counts[0]).all()) else 1


def _as_many(part: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give a part as many components as the tensors have that are loaded into it."""
    for name in ("log_weights", "means", "vectors", "variances"):
        if (found := state.get(prefix + name)) is not None:
            setattr(part, name, torch.zeros_like(found).to(getattr(part, name)))
