"""Clipping: denoised samples are kept where the data are, as pixels between black and white.

    D'(x, t) = min(max(D(x, t), low), high),    s' = (alpha·D' - x)/sigma²

Data x0 between low and high have a mean E[x0 | x_t] between them, too, so D itself is left as it is, and every coordinate of an
estimate comes nearer to x0, or stays: |D' - x0| <= |D - x0|. It changes errors alone. They are large in networks that predict
the noise, whose error is multiplied by sigma/alpha in D; many pipelines of diffusers therefore have `clip_sample`, and samples
of their imports are drawn so, too.

Where D' is not D, s' does not depend on x but by -x/sigma², and is the gradient of nothing: it is for samples, not for energies
or likelihoods.

References: Ho, Jain, Abbeel (2020), arXiv 2006.11239, who clip. Saharia et al. (2022), "Photorealistic text-to-image diffusion
models with deep language understanding", arXiv 2205.11487, section 2.3, who call it static thresholding.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field, moments_of
from scorefield.moments import Moments
from scorefield.prediction import Prediction
from scorefield.shapes import PerSample, Sample


class Clipped:
    """A field whose denoised samples lie between bounds.

    >>> from scorefield import VE, Gaussian
    >>> field = Clipped(Gaussian([0.0], [[4.0]], VE(0.1, 10.0)), -1.0, 1.0)
    >>> x, t = torch.tensor([[0.5], [8.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    >>> [round(float(one), 2) for one in field(x, t).denoised]
    [0.5, 1.0]
    """

    def __init__(self, field: Field, low: Tensor | float, high: Tensor | float) -> None:
        """Wrap a field.

        Args:
            field: any field.
            low, high: the bounds in model space, numbers or of the shape of one sample.

        Raises:
            ScorefieldError: bounds of which one is not above the other.
        """
        self.field, self.low, self.high = field, torch.as_tensor(low), torch.as_tensor(high)
        if not bool((self.low < self.high).all()):
            raise ScorefieldError("got bounds of which low is not below high, expected low < high everywhere: exchange them")
        self.process, self.shape = field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the data, as the field knows them."""
        return moments_of(self.field)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        denoised = self.field(x, t, cond).denoised
        bounds = (bound.to(denoised) for bound in (self.low, self.high))
        return Prediction.of_denoised(self.process, x, t.double(), denoised.clamp(*bounds))
