"""Fidelity: how near restored images are to their references, one number an image.

    PSNR = 10·log10(range² / mean squared error)                                                    decibels, higher is better
    SSIM = mean over places of (2·m·m' + C1)·(2·c + C2) / ((m² + m'² + C1)·(v + v' + C2))           at most 1

with means m, variances v and the covariance c of two images inside a Gaussian window of standard deviation 1.5, 11 pixels wide,
C1 = (0.01·range)², C2 = (0.03·range)², over the places at which the whole window lies inside, and over channels. An axis
shorter than 11 has the largest odd window that fits.

Reference: Wang, Bovik, Sheikh, Simoncelli (2004), "Image quality assessment: from error visibility to structural similarity",
IEEE Transactions on Image Processing 13(4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError

WINDOW, WIDTH, K1, K2 = 11, 1.5, 0.01, 0.03


def _pair(images: Tensor, reference: Tensor, extent: float) -> tuple[Tensor, Tensor]:
    """Return both in float64; raises `ScorefieldError` for shapes that differ or a range that is not positive."""
    if images.shape != reference.shape or images.ndim < 3:
        raise ScorefieldError(
            f"got images of shape {tuple(images.shape)} and references of {tuple(reference.shape)}, expected both "
            "(n, channels, *size): give one reference an image"
        )
    if not extent > 0:
        raise ScorefieldError(f"got a range of {extent}, expected the span of legal values, above 0: 255 for 8-bit images")
    return images.double(), reference.double()


def psnr(images: Tensor, reference: Tensor, extent: float) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in decibels, `(n,)`, infinite for equal ones.

    Args:
        images, reference: `(n, channels, *size)`.
        extent: the span of legal values, 255 for 8-bit images.

    >>> psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 25.5), 255.0)
    tensor([20.], dtype=torch.float64)
    """
    images, reference = _pair(images, reference, extent)
    return 10 * torch.log10(extent**2 / (images - reference).square().flatten(1).mean(dim=1))


def ssim(images: Tensor, reference: Tensor, extent: float) -> Tensor:
    """Return the structural similarity of each image, `(n,)`, 1 for equal ones; arguments are those of `psnr`.

    >>> ssim(torch.rand(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), 1.0).shape
    torch.Size([1])
    """
    a, b = _pair(images, reference, extent)
    first, second = (K1 * extent) ** 2, (K2 * extent) ** 2
    m, n = _windowed(a), _windowed(b)
    v, w, c = _windowed(a * a) - m * m, _windowed(b * b) - n * n, _windowed(a * b) - m * n
    each = (2 * m * n + first) * (2 * c + second) / ((m * m + n * n + first) * (v + w + second))
    return each.flatten(1).mean(dim=1)


def _windowed(x: Tensor) -> Tensor:
    """Return the weighted mean in the window at every place where it lies inside."""
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        size = min(WINDOW, side - 1 + side % 2)
        at = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
        weights = torch.exp(-0.5 * (at / WIDTH) ** 2)
        x = x.unfold(axis, size, 1) @ (weights / weights.sum())
    return x
