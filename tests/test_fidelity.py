"""Fidelity: PSNR and SSIM are those of the paper, and of scikit-image with the paper's settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefield import SampleRng, ScorefieldError
from scorefield.metrics.fidelity import psnr, ssim


def pictures(channels: int) -> tuple[Tensor, Tensor]:
    """Two pictures of 24x20 in whole numbers, made without chance."""
    i, j = np.mgrid[:24, :20]
    a = (i * 7 + j * 13) % 256
    b = (a + ((i * j) % 11) * 4 - 20).clip(0, 255)
    if channels == 1:
        return torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]
    x, y = np.stack([a, b, (i * 11) % 256]), np.stack([b, a, (i * 11 + j) % 256])
    return torch.from_numpy(x)[None], torch.from_numpy(y)[None]


# scikit-image 0.26.0: structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, channel_axis=0,
# use_sample_covariance=False) and peak_signal_noise_ratio(x, y, data_range=255) of `pictures`
THEIRS = {1: (0.9208373431833822, 25.533720309259195), 3: (0.9401326763111161, 17.68750242140662)}


@pytest.mark.parametrize("channels", THEIRS)
def test_they_are_scikit_image_s_to_rounding(channels: int) -> None:
    x, y = pictures(channels)
    similarity, peak = THEIRS[channels]
    assert float(ssim(x, y, 255.0)) == pytest.approx(similarity, abs=1e-12)
    assert float(psnr(x, y, 255.0)) == pytest.approx(peak, abs=1e-10)


def test_equal_images_have_similarity_one_and_no_error() -> None:
    x = SampleRng(range(3)).normal((2, 15, 12))
    torch.testing.assert_close(ssim(x, x, 1.0), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert psnr(x, x, 1.0).tolist() == [math.inf] * 3


def test_twice_the_error_is_six_decibels_less() -> None:
    x = SampleRng(range(4)).normal((1, 9, 9))
    gain = psnr(x, x + 0.1, 1.0) - psnr(x, x + 0.2, 1.0)
    torch.testing.assert_close(gain, torch.full((4,), 20 * math.log10(2), dtype=torch.float64))


def test_of_two_constants_only_their_means_count() -> None:
    a, b, first = 0.2, 0.5, 0.01**2
    x, y = torch.full((1, 1, 16, 16), a, dtype=torch.float64), torch.full((1, 1, 16, 16), b, dtype=torch.float64)
    assert float(ssim(x, y, 1.0)) == pytest.approx((2 * a * b + first) / (a * a + b * b + first), abs=1e-9)


def test_each_image_has_its_own_number_and_neither_depends_on_the_unit() -> None:
    rng = SampleRng(range(5))
    x, y = rng.normal((1, 20, 14)), rng.normal((1, 20, 14))
    for metric in (psnr, ssim):
        torch.testing.assert_close(metric(x, y, 2.0)[3:4], metric(x[3:4], y[3:4], 2.0))
        torch.testing.assert_close(metric(255 * x, 255 * y, 510.0), metric(x, y, 2.0))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 40), (1, 12, 6, 5)])
def test_small_images_signals_and_volumes_have_a_window_that_fits(shape: tuple[int, ...]) -> None:
    rng = SampleRng([0])
    x = rng.normal(shape)
    assert 0 < float(ssim(x, x + 0.3 * rng.normal(shape), 4.0)) < 1


def test_shapes_that_differ_and_a_range_of_nothing_are_refused() -> None:
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ScorefieldError, match="one reference an image"):
        psnr(x, x[..., 1:], 1.0)
    with pytest.raises(ScorefieldError, match="above 0"):
        ssim(x, x, 0.0)
