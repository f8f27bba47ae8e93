"""Optimisers: what an orthogonal update is, and that everything else is AdamW."""

import copy

import pytest
import torch
from torch import nn

from scorefield.config import Optimiser
from scorefield.training.optimisers import Muon, make, matrices_of, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_an_orthogonal_update_keeps_singular_vectors_and_levels_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    rank = min(shape)
    left, _ = torch.linalg.qr(torch.randn(shape[0], rank))
    right, _ = torch.linalg.qr(torch.randn(shape[1], rank))
    values = torch.logspace(0, -2, rank)  # a hundred times apart
    found = left.T @ orthogonal((left * values @ right.T)[None])[0] @ right  # diagonal in the same vectors
    across = found - torch.diag(found.diagonal())
    assert float(across.abs().max()) < 8 * 2**-8  # bfloat16 has 8 bits; five rounds leave a few units
    assert 0.6 < float(found.diagonal().min()) and float(found.diagonal().max()) < 1.25
    other = orthogonal(5 * (left * values @ right.T)[None])[0]
    assert float((left.T @ other @ right - found).abs().max()) < 8 * 2**-8  # whatever the size of the gradient


class Few(nn.Module):
    """A matrix, a bias and a table of two rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(6, 4), nn.Embedding(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) * self.table.weight.sum(0)).square().sum()


def test_what_is_no_matrix_follows_adamw_and_the_matrix_does_not() -> None:
    torch.manual_seed(1)
    mine = Few()
    theirs = copy.deepcopy(mine)
    assert [tuple(p.shape) for p in matrices_of(mine)] == [(4, 6)]
    one = Muon(mine, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    rest = [theirs.layer.bias, theirs.table.weight]
    other = torch.optim.AdamW(rest, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(20):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(step))
        for network, optimiser in ((mine, one), (theirs, other)):
            optimiser.zero_grad()
            network(x).backward()
            optimiser.step()
        with torch.no_grad():
            theirs.layer.weight.copy_(mine.layer.weight)
    for a, b in ((mine.layer.bias, rest[0]), (mine.table.weight, rest[1])):
        assert float((a - b).detach().abs().max()) < 20 * 2**-22


def test_a_first_update_has_the_size_of_adams_whatever_the_gradient() -> None:
    torch.manual_seed(2)
    for scale in (1e-3, 1e3):
        layer = nn.Linear(32, 32, bias=False)
        optimiser, before = Muon(layer, lr=0.01), layer.weight.detach().clone()
        layer.weight.grad = scale * torch.randn(32, 32)
        optimiser.step()
        size = float((layer.weight - before).detach().square().mean().sqrt())
        # An orthogonal n x n matrix has entries of root mean square 1/sqrt(n), times 0.2·sqrt(n)
        assert 0.6 * 0.2 * 0.01 < size < 1.25 * 0.2 * 0.01


def test_a_state_that_was_saved_goes_on_bit_for_bit() -> None:
    torch.manual_seed(3)
    network = Few()
    optimiser = make(Optimiser(method="muon"), network)
    x = torch.randn(3, 6)

    def step(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        network(x).backward()
        optimiser.step()

    step(network, optimiser)
    twin = copy.deepcopy(network)
    again = make(Optimiser(method="muon"), twin)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for _ in range(3):
        step(network, optimiser)
        step(twin, again)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


def test_muon_solves_a_badly_conditioned_problem_in_fewer_steps_than_its_gradient_allows() -> None:
    """Least squares with curvatures 10^4 apart: in 400 steps steepest descent leaves nine tenths of the flattest column."""
    torch.manual_seed(4)
    scales, target = torch.logspace(0, -2, 16), torch.randn(16, 16)
    layer = nn.Linear(16, 16, bias=False)
    nn.init.zeros_(layer.weight)
    optimiser = Muon(layer, lr=0.05, momentum=0.9)

    def loss() -> torch.Tensor:
        return (((layer.weight - target) * scales) ** 2).sum()

    for done in range(400):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - done / 400)
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    far = float(((layer.weight.detach() - target)[:, -1] ** 2).sum() / (target[:, -1] ** 2).sum())
    flattest = (1 - 1 / float(scales[0] / scales[-1]) ** 2) ** (2 * 400)  # what steepest descent leaves of that column
    assert far < 0.5 < flattest
