"""The numbers equal those of other libraries on the same features, where they are installed."""

import math

import numpy
import pytest
import torch
from torch import Tensor, nn

from scorefield.metrics.frechet import Frechet
from scorefield.metrics.kernel import KernelDistance
from scorefield.metrics.prdc import prdc


def _sets(n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    generator = numpy.random.default_rng(n + m + d)
    mix = generator.normal(size=(d, d)) / math.sqrt(d) + numpy.eye(d)
    return torch.from_numpy(0.8 * generator.normal(size=(n, d)) @ mix + 0.2), torch.from_numpy(generator.normal(size=(m, d)))


class Given(nn.Module):
    """An extractor for features that are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 5), (400, 250, 32), (40, 60, 48)])
def test_frechet_is_torchmetrics_fid_on_the_same_features(n: int, m: int, d: int) -> None:
    image = pytest.importorskip("torchmetrics.image.fid")
    samples, reference = _sets(n, m, d)
    theirs = image.FrechetInceptionDistance(feature=Given(d), normalize=True).set_dtype(torch.float64)
    theirs.update(reference, real=True)
    theirs.update(samples, real=False)
    assert Frechet()(samples, reference).value == pytest.approx(float(theirs.compute()), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all")
@pytest.mark.parametrize(("n", "d"), [(300, 5), (500, 32)])
def test_the_kernel_distance_is_torchmetrics_kid_of_one_subset_of_everything(n: int, d: int) -> None:
    image = pytest.importorskip("torchmetrics.image.kid")
    samples, reference = _sets(n, n, d)
    theirs = image.KernelInceptionDistance(feature=Given(d), subsets=1, subset_size=n, normalize=True).set_dtype(torch.float64)
    theirs.update(reference, real=True)
    theirs.update(samples, real=False)
    mean, _ = theirs.compute()
    assert KernelDistance()(samples, reference).value == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 2), (700, 250, 16), (40, 60, 64)])
def test_the_four_shares_are_those_of_the_package_prdc(n: int, m: int, d: int) -> None:
    package = pytest.importorskip("prdc")
    samples, reference = _sets(n, m, d)
    theirs = package.compute_prdc(real_features=reference.numpy(), fake_features=samples.numpy(), nearest_k=5)
    ours = {name: each.value for name, each in prdc(samples, reference).items()}
    assert ours == pytest.approx(theirs, rel=1e-6)
