"""Temperature: fewer, likelier samples (T < 1) or more varied ones (T > 1), from a field as it is.

What is wanted is p0^(1/T), normalised, whose score is score/T. Noised, it has a score of its own that a field of p does not
know, and it is not score/T at every t: where sigma is far above the data, the score is -x/sigma² at any temperature. On
N(m, v·I) the answer is known. p0^(1/T) = N(m, T·v·I) and

    tempered score = -(x - alpha·m)/(alpha²·T·v + sigma²) = k(t)·score,    k(t) = (alpha²·v + sigma²)/(alpha²·T·v + sigma²)

so k is 1 where noise drowns the data and 1/T where there is none. The same k with v = data_std² is used for every field
(Ingraham et al. 2023, who give it for one family of processes).

For other data k·score is not the score of any noised density, and the result depends on the sampler. Around a mode whose
variance s² is far below v, k is 1/T at every level that matters, and in the limit of small steps and s²/v -> 0 samples have
the variance

    T·s²              Langevin dynamics, which needs the score at the last level only: right
    T/(2 - T)·s²      the reverse SDE (ancestral and its like), 0 < T < 2: too narrow for T < 1
    -> 0              the probability flow, which from level L on shrinks them to s²·(s²/L²)^(1/T - 1), T < 1

so temperature needs Langevin steps: `annealed` or `predictor-corrector`. The weights of separate modes move towards those of
p0^(1/T), w^(1/T), but do not reach them. Measured on weights 0.8 and 0.2 at -5 and 5 with unit variance:

    T       wanted    flow     ancestral, 1000 levels    annealed, 200 levels of 20 steps
    0.9     0.824     0.808    0.807                     0.806
    0.8     0.850     0.816    0.817                     0.827
    0.5     0.941     0.844    0.848                     0.885
    0.25    0.996     0.870    0.883                     0.936

(of 4,000 samples each, standard error 0.006, but for the flow, whose weights are exact to four digits).

Reference: Ingraham et al. (2023), "Illuminating protein space with a programmable generative model", Nature 623, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field, moments_of
from scorefield.levels import data_scale
from scorefield.moments import Moments
from scorefield.prediction import Prediction
from scorefield.shapes import PerSample, Sample, over


class Tempered:
    """A field at temperature T: its score times k(t), and its energy, if it has one, likewise.

    Exact at every t for isotropic Gaussian data, and score/T, that of p0^(1/T), for any data as sigma -> 0.

    >>> from scorefield import VE, Gaussian
    >>> field = Tempered(Gaussian([1.0], [[4.0]], VE(0.1, 10.0)), temperature=0.25)
    >>> field.data_std, Gaussian([1.0], [[1.0]], VE(0.1, 10.0)).data_std
    (1.0, 1.0)
    """

    energy: Callable[..., PerSample]

    def __init__(self, field: Field, temperature: float) -> None:
        """Wrap a field.

        Args:
            field: any field.
            temperature: T > 0; 1 changes nothing.

        Raises:
            ScorefieldError: a temperature that is not a positive number.
        """
        if not 0 < temperature < math.inf:
            raise ScorefieldError(f"got a temperature of {temperature:g}, expected a positive number: try 0.8")
        self.field, self.temperature = field, float(temperature)
        self.process, self.shape, self.data_mean = field.process, field.shape, field.data_mean
        self.data_std = math.sqrt(temperature) * field.data_std
        if isinstance(field, EnergyField):  # an attribute of the instance: without it this is no EnergyField

            def energy(x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
                return self.factor(t).to(x.dtype) * field.energy(x, t, cond)

            self.energy = energy

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the data, with every variance times the temperature."""
        return moments_of(self.field).scaled(self.temperature)

    def factor(self, t: PerSample) -> PerSample:
        """Return k(t), `(batch,)`, float64, between 1 and 1/T."""
        signal = self.process.alpha(t.double()) ** 2 * data_scale(self.field, 1e-15) ** 2  # 1/T without noise, always
        noise = self.process.sigma(t.double()) ** 2
        return (signal + noise) / (self.temperature * signal + noise)

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        score = self.field(x, t, cond).score
        return Prediction.of_score(self.process, x, t.double(), over(self.factor(t), x) * score)
