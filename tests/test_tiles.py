"""Tiles: a field of larger samples is the blend of overlapping tiles; what it leaves out falls with the overlap."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import double, each_case
from torch import Tensor

from scorefield import VE, VP, Gaussian, SampleRng, ScorefieldError, geometric
from scorefield.field import Field, moments_of
from scorefield.guidance import Tiled, posterior_sample, tiles
from scorefield.guidance.posterior import Twisted
from scorefield.moments import Moments
from scorefield.operators import Mask
from scorefield.samplers import sample

PROCESS = VE(0.01, 10.0)
LONG, LENGTH, RHO = 41, 12, 0.8


def signals(length: int, rho: float = RHO) -> Gaussian:
    """A stationary signal whose correlation falls as rho^lag: what lies beyond a neighbour says nothing that it does not."""
    at = torch.arange(length, dtype=torch.float64)
    return Gaussian(torch.zeros(1, length), rho ** (at[:, None] - at).abs(), PROCESS)


def independent(shape: tuple[int, ...], process: object) -> Gaussian:
    """Pixels that are independent of each other, with channels that are not."""
    channels = double([[2.0, 0.9], [0.9, 0.5]])
    pixels = int(torch.tensor(shape[1:]).prod())
    mean = double([1.0, -2.0]).reshape(2, *(1,) * (len(shape) - 1)).expand(shape)
    return Gaussian(mean, torch.kron(channels, torch.eye(pixels, dtype=torch.float64)), process)  # type: ignore[arg-type]


def matrix_of(field: Field, sigma: float) -> Tensor:
    """The matrix K of the denoised D = K·x of a field whose mean is 0."""
    d = int(torch.tensor(field.shape).prod())
    t = field.process.time_of_sigma(double(sigma)).expand(d)
    return field(torch.eye(d, dtype=torch.float64).reshape(d, *field.shape), t).denoised.reshape(d, d).T


def excess_of(overlap: int, contrast: Tensor, rho: float = 0.9, sigma: float = 1.0) -> Tensor:
    """By what share tiles miss the least mean squared error of contrasts `(k, d)` of a denoised signal, in closed form."""
    covariance, identity = signals(LONG, rho).covariance, torch.eye(LONG, dtype=torch.float64)

    def errors(matrix: Tensor) -> Tensor:
        off = contrast @ (matrix - identity)
        return ((off @ covariance) * off).sum(1) + sigma**2 * ((contrast @ matrix) ** 2).sum(1)

    tiled = Tiled(signals(LENGTH, rho), (1, LONG), overlap)
    return errors(matrix_of(tiled, sigma)) / errors(matrix_of(signals(LONG, rho), sigma)) - 1


@each_case(
    shapes=[((1, 5), (1, 17)), ((2, 4, 6), (2, 4, 20)), ((1, 5, 5), (1, 9, 23)), ((1, 3, 4, 5), (1, 5, 9, 5))],
    overlap=[None, 0, 1, 2],
)
def test_weights_sum_to_one_at_every_pixel(shapes: tuple[tuple[int, ...], tuple[int, ...]], overlap: int | None) -> None:
    tile, shape = shapes
    pixels = int(torch.tensor(tile).prod())
    field = Tiled(Gaussian(torch.zeros(tile), torch.eye(pixels), PROCESS), shape, overlap)
    x = SampleRng(range(3)).normal(shape)
    torch.testing.assert_close(field.blend(field.cut(x)), x, rtol=0, atol=1e-14)
    assert all(bool((weight >= 0).all()) for weight in field._weights)


@each_case(process=[VE(0.01, 10.0), VP()], overlap=[None, 0, 2], tile=[(2, 3, 4), (2, 4, 3)])
def test_tiles_are_exact_where_pixels_are_independent(process: object, overlap: int | None, tile: tuple[int, ...]) -> None:
    whole = independent((2, 7, 9), process)
    tiled = Tiled(independent(tile, process), (2, 7, 9), overlap)
    x, t = SampleRng(range(5)).normal((2, 7, 9)), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    for view in ("denoised", "score", "velocity"):
        torch.testing.assert_close(getattr(tiled(x, t), view), getattr(whole(x, t), view), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tiled.data_mean, whole.data_mean)


def test_a_tile_of_the_whole_size_changes_nothing() -> None:
    whole = signals(LONG)
    x, t = SampleRng(range(4)).normal((1, LONG)), torch.full((4,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(Tiled(whole, (1, LONG))(x, t).score, whole(x, t).score, rtol=1e-12, atol=1e-12)


def test_what_tiles_leave_out_falls_with_the_overlap() -> None:
    worst = [float(excess_of(overlap, torch.eye(LONG, dtype=torch.float64)).max()) for overlap in (0, 2, 4, 6)]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 0.1  # without an overlap, pixels at the edge of a tile miss half of their neighbours
    assert 0 <= worst[-1] < worst[0] / 5


def test_half_a_tile_of_overlap_leaves_no_seam_between_neighbours() -> None:
    steps = torch.eye(LONG, dtype=torch.float64).diff(dim=0)
    hard, blended = excess_of(0, steps), excess_of(6, steps)
    assert float(hard.max()) > 0.1
    assert float(blended.max()) < float(hard.max()) / 30


def test_a_row_does_not_depend_on_the_others_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Tiled(signals(LENGTH), (1, LONG))
    x, t = SampleRng(range(6)).normal((1, LONG)), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    together = field(x, t).score
    for i in range(6):
        torch.testing.assert_close(field(x[i : i + 1], t[i : i + 1]).score[0], together[i], rtol=1e-12, atol=1e-12)
    monkeypatch.setattr("scorefield.guidance.tiles.NUMBERS", 7 * LENGTH)  # tiles of one sample in two parts
    torch.testing.assert_close(field(x, t).score, together, rtol=1e-12, atol=1e-12)


def test_samples_of_a_longer_signal_have_the_variance_and_correlation_of_the_data_across_seams_too() -> None:
    field = Tiled(signals(LENGTH), (1, LONG))
    x = sample(field, ladder=geometric(PROCESS, 60), rng=SampleRng(range(4000)))[:, 0]
    error = 5 * (2 / len(x)) ** 0.5
    assert float((x.var(dim=0) - 1).abs().max()) < error + 0.05  # it is not exact: a tile sees 12 of the 41
    lag = (x[:, 1:] * x[:, :-1]).mean(dim=0)
    assert float((lag - RHO).abs().max()) < error + 0.05


def test_each_tile_has_the_class_of_its_sample() -> None:
    class Told:
        process, shape, data_mean, data_std = PROCESS, (1, 4), torch.zeros(1, 4), 1.0

        def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> object:
            from scorefield.prediction import Prediction

            assert cond is not None
            return Prediction.of_denoised(self.process, x, t, cond.double()[:, None, None].expand_as(x))

    x, labels = torch.zeros(3, 1, 10, dtype=torch.float64), torch.tensor([4, 7, 9])
    said = Tiled(Told(), (1, 10))(x, torch.full((3,), 0.5, dtype=torch.float64), labels).denoised  # type: ignore[arg-type]
    torch.testing.assert_close(said, labels.double()[:, None, None].expand_as(x))


@pytest.mark.parametrize(
    ("shape", "overlap", "words"),
    [
        ((2, 41), None, "as many channels"),
        ((1, 41, 1), None, "as many channels"),
        ((1, 11), None, "smaller than"),
        ((1, 41), 12, "expected 0 to 11"),
        ((1, 41), -1, "expected 0 to 11"),
    ],
)
def test_what_cannot_be_tiled_is_refused_in_a_sentence(shape: tuple[int, ...], overlap: int | None, words: str) -> None:
    with pytest.raises(ScorefieldError, match=words):
        Tiled(signals(LENGTH), shape, overlap)


def test_the_overlap_is_at_least_what_was_asked() -> None:
    for side, overlap in itertools.product(range(12, 60), range(12)):
        starts = [corner[0] for corner in Tiled(signals(LENGTH), (1, side), overlap)._corners]
        assert starts[0] == 0
        assert starts[-1] == side - LENGTH
        assert all(b - a <= LENGTH - overlap for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("rank", [12, 3])
def test_the_covariance_of_independent_tiles_is_that_of_the_larger_sample(rank: int) -> None:
    """Of tiles side by side, the last one cut, it is exact; the posterior then is too, with one particle."""
    root = SampleRng([1]).normal((12, 12))[0]
    values, vectors = torch.linalg.eigh(root @ root.mT / 12)
    values[: 12 - rank] = values[0]  # what a low rank leaves out has one variance
    covariance = vectors @ torch.diag(values) @ vectors.mT
    field = Gaussian(torch.arange(12.0).reshape(1, 3, 4), covariance, VE(1e-3, 200.0))
    field.moments = Moments(
        field.mean, vectors.flip(1)[:, :rank], values.flip(0)[:rank], float(values[0]) if rank < 12 else 0.0
    )
    tiled = Tiled(field, (1, 6, 8), overlap=0)
    moments = moments_of(tiled)
    whole = torch.block_diag(*[covariance] * 4)
    place = torch.arange(48).reshape(6, 8)
    order = torch.cat([place[i : i + 3, j : j + 4].reshape(-1) for i in (0, 3) for j in (0, 4)])
    found = moments.map(lambda v: v, torch.eye(48, dtype=torch.float64))
    torch.testing.assert_close(found[order][:, order], whole, rtol=1e-10, atol=1e-12)
    drawn = posterior_sample(
        tiled, Mask(place % 3 > 0), 5 + torch.zeros(32), 0.3, rng=SampleRng(range(50)), method=Twisted(levels=5)
    )
    assert float(drawn.effective.min()) > 1 - 1e-6


def test_a_cell_that_is_cut_has_the_covariance_of_what_is_left() -> None:
    root = SampleRng([1]).normal((6, 6))[0]
    covariance = root @ root.mT
    field = Gaussian(torch.zeros(1, 6), covariance, VE(1e-3, 200.0))
    found = moments_of(Tiled(field, (1, 10))).map(lambda v: v, torch.eye(10, dtype=torch.float64))
    torch.testing.assert_close(found, torch.block_diag(covariance, covariance[:4, :4]), rtol=1e-10, atol=1e-10)


def test_directions_beyond_memory_share_their_mean_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    root = SampleRng([1]).normal((6, 6))[0]
    covariance = root @ root.mT
    monkeypatch.setattr(tiles, "MEMORY", 12 * 5)
    moments = moments_of(Tiled(Gaussian(torch.zeros(1, 6), covariance, VE(1e-3, 200.0)), (1, 12)))
    every = torch.linalg.eigvalsh(torch.block_diag(covariance, covariance)).flip(0)
    torch.testing.assert_close(moments.variances, every[:5])
    assert moments.rest == pytest.approx(float(every[5:].mean()))
