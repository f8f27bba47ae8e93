"""The blind noise level: against the most probable one of a Gaussian, whole and cut, and what its standard error promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefield import VE, Gaussian, SampleRng
from scorefield.denoising import Seen, cuts_of, estimate_sigma

D = 200
AT = torch.arange(D, dtype=torch.float64)
SMOOTH = Gaussian(torch.zeros(D), 0.95 ** (AT[:, None] - AT).abs(), VE(0.01, 10.0))


def noisy(n: int, sigma: float) -> Tensor:
    return SMOOTH.sample(SampleRng(range(n))) + sigma * SampleRng(range(n), stream=1).normal((D,))


def most_likely(z: Tensor, seen: Tensor) -> float:
    """Return the sigma of the largest likelihood of what is seen of one sample, on a fine grid."""
    variances, axes = torch.linalg.eigh(SMOOTH.covariance[seen][:, seen])
    total = variances[:, None] + torch.logspace(-2, 1, 3001, dtype=torch.float64) ** 2
    log_p = -(total.log() + (axes.T @ z[seen])[:, None] ** 2 / total).sum(dim=0) / 2
    return float(10 ** (-2 + 3 * log_p.argmax() / 3000))


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_the_seed_of_the_probes_moves_sigma_by_a_tenth_of_its_standard_error(sigma: float) -> None:
    z = noisy(1, sigma)
    found = estimate_sigma(SMOOTH, Seen.all_of(z.expand(24, D)), rng=SampleRng(range(24)))
    error = float(found.standard_error.mean())
    assert float(found.sigma.std()) < 0.1 * error
    assert abs(float(found.sigma.mean()) - most_likely(z[0], AT >= 0)) < 0.1 * error
    assert found.evaluations < 300


@pytest.mark.theorem("noise-level-error")
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_the_standard_error_is_the_spread_over_samples(sigma: float) -> None:
    found = estimate_sigma(SMOOTH, Seen.all_of(noisy(100, sigma)), rng=SampleRng(range(100)))
    kept = found.sigma > 0
    off = (found.sigma - sigma)[kept] / found.standard_error[kept]
    assert int(kept.sum()) > 85
    assert 0.75 < float(off.std()) < 1.25
    assert float((off.abs() < 2).double().mean()) > 0.88


def test_missing_numbers_leave_the_most_probable_sigma_of_the_others() -> None:
    z, gone = noisy(20, 0.3), SampleRng(range(20), stream=2).uniform((D,)) < 0.5
    seen = Seen(torch.where(gone, -math.inf, z), torch.where(gone, math.inf, z), torch.zeros_like(z))
    found = estimate_sigma(SMOOTH, seen, rng=SampleRng(range(20)))
    off = found.sigma - torch.tensor([most_likely(row, ~hole) for row, hole in zip(z, gone, strict=True)])
    assert float(off.square().mean().sqrt()) < 0.3 * float(found.standard_error.mean())


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_clipped_numbers_give_the_noise_that_was_there_before_they_were_clipped(sigma: float) -> None:
    found = estimate_sigma(SMOOTH, cuts_of(noisy(40, sigma).clamp(-0.7, 0.7), -0.7, 0.7), rng=SampleRng(range(40)))
    assert 0.2 < float(found.known.mean()) < 0.6
    off = found.sigma - sigma
    assert abs(float(off.mean())) < 3 * float(off.std()) / math.sqrt(40) + 0.02 * sigma
    assert float(off.std()) < 1.3 * float(found.standard_error.mean())


def test_what_a_cut_pixel_adds_is_the_derivative_of_its_probability() -> None:
    x0 = torch.linspace(-3, 3, 13, dtype=torch.float64)
    low, high = torch.full_like(x0, -math.inf), torch.full_like(x0, -1.0)
    for seen in (Seen(low, high, torch.full_like(x0, 0.01)), Seen(-high, -low, torch.full_like(x0, 0.5))):
        std, step = torch.tensor(0.4, dtype=torch.float64), 1e-5
        logs = [(seen.masked + (1 - seen.masked) * seen.mass(x0, std * math.exp(e))).log() for e in (step, -step)]
        torch.testing.assert_close(seen.widening(x0, std), (logs[0] - logs[1]) / (2 * step), rtol=1e-6, atol=1e-8)
