"""Latents of the probability flow: the flow is a map with an inverse, and the great circle keeps the distribution."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import between, double, each_case
from scipy import linalg

from scorefield import VE, VP, Gaussian, GaussianMixture, Process, RectifiedFlow, SampleRng, ScorefieldError, registry
from scorefield.likelihood.latents import decode, encode, great_circle
from scorefield.randomness import stream_of
from scorefield.samplers import Adaptive, simulate
from scorefield.verification.affine import affine_map, snapshots

PROCESSES = {"ve": VE(0.05, 8.0), "vp": VP(), "rectified-flow": RectifiedFlow()}

COVARIANCE = [[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]
MEAN = [1.0, -2.0, 0.5]


def normal(n: int, d: int, name: str) -> torch.Tensor:
    return SampleRng(range(n), stream=stream_of("latents", name)).normal((d,))


@pytest.mark.theorem("flow-map-composition")
@pytest.mark.parametrize("name", [name for name in registry.names("process") if name != "noiseless"])
def test_decoding_what_was_encoded_comes_back_on_every_process(name: str) -> None:
    process = registry.find("process", name).example()
    field = GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.8], process)
    x = double([[-2.0, 0.3], [2.2, 0.4], [0.1, 0.2]])
    errors = []
    for tolerance in (1e-4, 1e-6):
        back = decode(field, encode(field, x, tolerance=tolerance).x, tolerance=tolerance)
        errors.append(float((back.x - x).abs().max()))
    # The error of either way is about the tolerance for each step, of which there are some dozens.
    assert errors[0] < 1e-2 and errors[1] < 1e-4, errors
    assert errors[1] < errors[0] / 10


@pytest.mark.theorem("gaussian-flow-map")
def test_the_latent_of_a_gaussian_point_is_its_whitened_self() -> None:
    """Of N(mean, S) the flow scales each principal direction by the ratio of its standard deviations at both ends."""
    process = VE(0.01, 50.0)
    field = Gaussian(MEAN, COVARIANCE, process)
    values, vectors = torch.linalg.eigh(double(COVARIANCE))
    x = double([[0.0, 0.0, 0.0], [3.0, -1.0, 1.0]])
    found = encode(field, x, tolerance=1e-9).x
    top = ((values + 50.0**2) / (values + 0.01**2)).sqrt()
    s = field.data_std
    expected = ((x - double(MEAN)) @ vectors * top) @ vectors.mT / math.sqrt(s**2 + 50.0**2)
    assert float((found - expected).abs().max()) < 1e-6


@pytest.mark.theorem("gaussian-flow-map")
@each_case(process=PROCESSES)
def test_the_flow_map_of_a_gaussian_is_affine_with_the_roots_of_both_covariances(process: Process) -> None:
    """x_s = alpha_s·m + S_s^(1/2)·S_t^(-1/2)·(x_t - alpha_t·m) with S = alpha²·C + sigma²; roots by scipy."""
    field = Gaussian(MEAN, COVARIANCE, process)
    ladder = double([between(process, share) for share in (0.8, 0.3)])
    a, _, c = affine_map(field, Adaptive(1e-10), ladder)
    (mean_t, cov_t), (mean_s, cov_s) = (snapshots(field, float(t)) for t in ladder)
    expected = double((linalg.sqrtm(cov_s.numpy()) @ linalg.inv(linalg.sqrtm(cov_t.numpy()))).tolist())
    assert float((a - expected).abs().max()) < 1e-8 * float(expected.abs().max())
    assert float((a @ mean_t + c - mean_s).abs().max()) < 1e-8


@pytest.mark.theorem("flow-map-composition")
@each_case(process=PROCESSES)
def test_the_flow_to_a_time_and_on_from_there_is_the_flow_to_the_end(process: Process) -> None:
    field = GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.8], process)
    high, middle, low = (between(process, share) for share in (0.9, 0.5, 0.1))
    x = SampleRng(range(5)).normal((2,)) * process.prior(high, field.data_std)[1]

    def carried(x: torch.Tensor, *times: float) -> torch.Tensor:
        *_, last = simulate(field, Adaptive(1e-9), double(times), x, rng=SampleRng(range(5)), denoise=False)
        return last.x

    assert float((carried(carried(x, high, middle), middle, low) - carried(x, high, low)).abs().max()) < 1e-5
    assert float((carried(x, high, middle) - x).abs().max()) > 0.1  # it does move


@pytest.mark.theorem("great-circle")
def test_frames_between_samples_of_gaussian_data_have_its_mean_and_covariance() -> None:
    """The flow of Gaussian data is linear, so that frames of latents with covariance I have the data's, at t_min."""
    d, n = 16, 1500
    root = torch.eye(d, dtype=torch.float64) + 0.3 * torch.diag(torch.ones(d - 1, dtype=torch.float64), 1)
    process = VE(1e-3, 1e4)
    field = Gaussian(torch.linspace(-1, 1, d).tolist(), (root @ root.mT).tolist(), process)
    mean, covariance = torch.linspace(-1, 1, d, dtype=torch.float64), root @ root.mT
    ends = [mean + normal(n, d, name) @ root.mT for name in "ab"]
    a, b = (encode(field, end).x for end in ends)
    for v in (0.25, 0.5):
        between = torch.cat([great_circle(p, q, double([v])) for p, q in zip(a, b, strict=True)])
        frames = decode(field, between).x
        off = frames - mean
        assert bool((off.mean(dim=0).abs() < 5 * (covariance.diagonal() / n).sqrt()).all())
        products = off.unsqueeze(2) * off.unsqueeze(1)
        error = (products.mean(dim=0) - covariance).abs()
        assert bool((error < 5 * products.std(dim=0) / math.sqrt(n)).all())
        # and halfway between the samples themselves the variance is far too small
        straight = (1 - v) * ends[0] + v * ends[1] - mean
        share = float((straight.square().mean(dim=0) / covariance.diagonal()).mean())
        assert abs(share - ((1 - v) ** 2 + v**2)) < 5 * math.sqrt(2 / n)


@pytest.mark.theorem("great-circle")
def test_the_great_circle_keeps_the_norm_and_starts_and_ends_at_its_ends() -> None:
    a, b = normal(2, 40, "circle")
    b = b * (a.norm() / b.norm())
    points = great_circle(a, b, torch.linspace(0, 1, 7, dtype=torch.float64))
    assert float((points.norm(dim=1) - a.norm()).abs().max()) < 1e-13 * 40
    assert float((points[0] - a).abs().max()) < 1e-14 and float((points[-1] - b).abs().max()) < 1e-14
    angles = torch.arccos((points[1:] * points[:-1]).sum(dim=1) / a.norm() ** 2)
    assert float(angles.max() - angles.min()) < 1e-12  # equal steps


def test_between_a_latent_and_itself_there_is_only_itself() -> None:
    a = normal(1, 10, "self")[0]
    assert float((great_circle(a, a, double([0.3, 0.5])) - a).abs().max()) < 1e-15
    near = great_circle(a, a + 1e-4 * normal(1, 10, "near")[0], double([0.5]))
    assert float((near - a).abs().max()) < 1e-3


def test_what_has_no_way_between_is_refused() -> None:
    a = normal(1, 10, "self")[0]
    with pytest.raises(ScorefieldError, match="opposite latents"):
        great_circle(a, -2 * a, double([0.5]))
    with pytest.raises(ScorefieldError, match="a latent of 0"):
        great_circle(a, 0 * a, double([0.5]))
    field = Gaussian(MEAN, COVARIANCE, VE(0.01, 50.0))
    with pytest.raises(ScorefieldError, match="points of shape"):
        encode(field, a[None])
    with pytest.raises(ScorefieldError, match="no noise"):
        encode(Gaussian(MEAN, COVARIANCE, registry.find("process", "noiseless")()), double([MEAN]))
