"""Volumes: three-dimensional images as a kind of data, from the exact field to the page of an evaluation.

The truth is a Gaussian volume: white noise smoothed along each of its three axes; covariance, score and density are known.
"""

import functools
import math
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from scorefield import EDM, VE, Gaussian, SampleRng, ScoreModel, registry
from scorefield.likelihood import Exact, Hutchinson, log_prob
from scorefield.nets.unet import UNet
from scorefield.samplers import simulate
from scorefield.training.optimisers import Muon, matrices_of
from scorefield.training.pilot import reach

SIZE = (4, 3, 4)
SHAPE = (1, *SIZE)
EPS = torch.finfo(torch.float64).eps


def smoothing(places: int, width: float) -> numpy.ndarray:
    """The matrix that averages along an axis with weights exp(-|i - j|/width), each row of length 1."""
    weights = numpy.exp(-numpy.abs(numpy.subtract.outer(range(places), range(places))) / width)
    return weights / numpy.linalg.norm(weights, axis=1, keepdims=True)


@functools.cache
def covariance(widths: tuple[float, float, float] = (2.0, 1.0, 0.5)) -> numpy.ndarray:
    """Of unit noise smoothed along depth, height and width; every voxel has variance 1."""
    matrix = functools.reduce(numpy.kron, (smoothing(places, width) for places, width in zip(SIZE, widths, strict=True)))
    return matrix @ matrix.T


def truth(process: Any = VE(0.05, 60.0)) -> Gaussian:  # noqa: B008  # it is frozen
    return Gaussian(numpy.full(SHAPE, 0.5), covariance(), process)


# --- the exact field ---------------------------------------------------------------------------------------------------


def test_smoothing_each_axis_correlates_neighbours_along_it_as_the_product_of_three_factors() -> None:
    """Of the field itself: a voxel's covariance with another is the product of those of its three places."""
    matrix = truth().covariance.reshape(*SIZE, *SIZE).numpy()
    one = [smoothing(places, width) for places, width in zip(SIZE, (2.0, 1.0, 0.5), strict=True)]
    parts = [each @ each.T for each in one]
    for here, there in (((0, 0, 0), (1, 0, 0)), ((0, 0, 0), (0, 1, 0)), ((3, 2, 1), (1, 0, 3))):
        expected = math.prod(part[i, j] for part, i, j in zip(parts, here, there, strict=True))
        assert math.isclose(matrix[(*here, *there)], expected, rel_tol=1e-12)
    assert matrix[0, 0, 0, 1, 0, 0] > matrix[0, 0, 0, 0, 1, 0] > matrix[0, 0, 0, 0, 0, 1] > 0


@pytest.mark.parametrize("name", ["heun", "abm", "unipc", "dpm-solver++"])
def test_a_sampler_takes_gaussian_volumes_along_the_flow_in_closed_form(name: str) -> None:
    """Without Monte Carlo: the map from start to end is affine. Along the flow a direction of variance v goes from V + v to
    v + low; the last step multiplies by v/(v + low). Four times the steps leave a sixteenth of the error of second order."""
    field, (low, high) = truth(VE(0.01, 60.0)), (0.01**2, 60.0**2)
    variances, directions = numpy.linalg.eigh(covariance())
    ends = (high + 1) / (high + variances) * (variances + low) * (variances / (variances + low)) ** 2
    expected, errors = directions * ends @ directions.T, []
    for steps in (100, 400):
        sampler, levels = registry.find("sampler", name)().within(steps)
        corners = torch.cat([torch.zeros(1, 48), torch.eye(48)]).double().reshape(-1, *SHAPE)
        ladder = registry.find("ladder", sampler.ladder)(field.process, levels)
        *_, last = simulate(field, sampler, ladder, corners, rng=SampleRng(range(49)))
        origin, rows = last.x[0].flatten().numpy(), (last.x[1:] - last.x[0]).flatten(1).numpy()
        assert numpy.abs(rows.T @ numpy.full(48, 0.5) + origin - 0.5).max() < 1e-12
        errors.append(numpy.abs((high + 1) * rows.T @ rows - expected).max())
    assert errors[1] < 2e-4 and errors[1] < errors[0] / 12


# --- likelihood --------------------------------------------------------------------------------------------------------


def _noisy(field: Gaussian, n: int) -> tuple[Tensor, Tensor]:
    rng, t = SampleRng(range(n)), torch.full((n,), field.process.t_min, dtype=torch.float64)
    return field.process.perturb(field.sample(rng), t, SampleRng(range(n), stream=1).normal(field.shape)), t


def test_the_log_density_of_a_correlated_volume_is_that_in_closed_form() -> None:
    field = truth(VE(0.05, 3000.0))
    x, t = _noisy(field, 3)
    found = log_prob(field, x, rng=SampleRng(range(3)), divergence=Exact(), tolerance=1e-6, within=None)
    assert float((found.value - field.log_prob(x, t)).abs().max()) < 1e-3
    guess = log_prob(field, x, rng=SampleRng(range(3)), divergence=Hutchinson(), tolerance=1e-5, within=None)
    assert bool(((guess.value - field.log_prob(x, t)).abs() < 5 * guess.standard_error + 1e-3).all())
    assert float(guess.standard_error.min()) > 0.01  # one that is not exact says so


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 3, 4)], ids=["an image", "a volume"])
def test_a_fresh_unet_is_the_field_of_white_noise_and_has_its_log_density(shape: tuple[int, ...]) -> None:
    """It answers 0, so EDM's skip path is all of it: the posterior mean of N(0, s²·I)."""
    s, process = 0.7, VE(0.05, 700.0)
    model = ScoreModel(UNet(shape, channels=(8, 8), blocks=1), EDM(data_std=s), process, shape).double().eval()
    model.data_std = s
    white = Gaussian(torch.zeros(shape), s**2 * torch.eye(math.prod(shape)), process)
    x, t = _noisy(white, 3)
    for divergence in (Exact(), Hutchinson()):
        found = log_prob(model, x, rng=SampleRng(range(3)), divergence=divergence, tolerance=1e-6, within=None)
        assert float((found.value - white.log_prob(x, t)).abs().max()) < 1e-3


# --- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [2], ids=["depth"])
def test_a_network_of_volumes_denoises_better_along_every_axis_than_any_that_sees_one_voxel(axis: int) -> None:
    """Volumes that are constant along one axis and white along the others: n noisy copies of a number of variance v have the
    posterior variance 1/(1/v + n/sigma²), one alone has 1/(1/v + 1/sigma²)."""
    n, sigma, process = 4, 1.0, VE(0.1, 10.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet((1, 4, 4, 4), channels=(8, 8), blocks=1, attention=False)
    model, t = ScoreModel(network, EDM(data_std=1.0), process, (1, 4, 4, 4)), process.time_of_sigma(torch.tensor(sigma))

    def error(seed: int) -> Tensor:
        rng = SampleRng(range(32), stream=seed)
        x0 = rng.normal((1, 4, 4, 4)).narrow(axis, 0, 1).expand(-1, 1, 4, 4, 4).float()
        noisy = x0 + sigma * rng.normal((1, 4, 4, 4)).float()
        return (model(noisy, t.expand(32)).denoised - x0).square().mean()

    optimiser = Muon(network, lr=5e-3)
    for step in range(100):
        optimiser.zero_grad()
        error(step).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        found = sum(float(error(1000 + i)) for i in range(10)) / 10
    alone, together = 1 / (1 + 1 / sigma**2), 1 / (1 + n / sigma**2)
    assert together < found < (alone + together) / 2


def test_muon_has_the_kernels_of_every_convolution_whatever_its_axes() -> None:
    for size in ((8,), (4, 4), (2, 4, 4)):
        network = UNet((2, *size), channels=(8, 16), blocks=1)
        kernels = [weight for weight in network.parameters() if weight.ndim == len(size) + 2]
        had = {id(weight) for weight in matrices_of(network)}
        assert kernels and all(id(weight) in had for weight in kernels)


def test_an_output_of_a_small_unet_sees_the_whole_of_a_volume_and_a_convolution_three_voxels() -> None:
    assert reach(nn.Conv3d(2, 2, 3, padding=1), (2, 5, 7, 9)) == (3, 3, 3)
    assert reach(UNet((1, 4, 6, 8), channels=(8, 8), blocks=1), (1, 4, 6, 8)) == (4, 6, 8)
