"""A network from elsewhere as a field: any function of (x_t, a number about the noise), by what its output means.

    of_denoiser   y = E[x0 | x_t]                       (a, c) = (1, 0)         y = a·x0 + c·score
    of_noise      y = E[noise | x_t] = -sigma·score     (0, -sigma)
    of_score      y = grad log p_t(x_t)                 (0, 1)
    of_velocity   y = dx/dt = alpha'·x0 + sigma'·noise  (alpha', -sigma·sigma')

These are the constructors of `Field`. The function is given x_t = alpha·x0 + sigma·noise as it is, and one number a sample: a
noise label (`noise_label.py`), a function of t, or the index of the nearest of a list of levels.

A wrong meaning, sign or noise label shows where nearly all is noise. There, for any data of mean m and standard deviation s,
the field is close to that of a Gaussian, D* = m + alpha·s²/r²·(x - alpha·m) and score* = -(x - alpha·m)/r² with
r² = alpha²·s² + sigma². An output that misses a·D* + c·score* by more than half the mean square that such an output has,
a²·(m² + s²) + (c/sigma)², is refused: 0 for noise misses it by 1, the wrong sign by 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from scorefield.errors import ScorefieldError, unknown
from scorefield.noise_label import Label, Name, noise_label_of
from scorefield.prediction import Prediction
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, over

Meaning = Literal["denoiser", "noise", "score", "velocity"]
Noise = Label | Callable[[Tensor], Tensor] | Sequence[float] | Tensor

NOISY = 3.0  # sigma/(alpha·s) from which on the field is close to a Gaussian's
MISREAD, FITTING = 0.5, 0.1  # from where on an output is refused, and below which another reading is proposed
PROBED = 256  # numbers that the test compares, at least


def precision_of(network: object, otherwise: torch.dtype) -> torch.dtype:
    """Return the dtype of a network's first weight or buffer of real numbers; a function has neither."""
    if not isinstance(network, nn.Module):
        return otherwise
    numbers = (v.dtype for v in itertools.chain(network.parameters(), network.buffers()) if v.is_floating_point())
    return next(numbers, otherwise)


class Wrapped(nn.Module):
    """A function as a field; made by the constructors of `Field`."""

    def __init__(
        self, function: Callable[..., Any], meaning: Meaning, process: Process, shape: Sequence[int], noise: Noise
    ) -> None:
        """Hold the parts; data have mean 0 and standard deviation 1 until `data_mean` and `data_std` are set."""
        super().__init__()
        if isinstance(noise, str) and noise not in get_args(Name):
            raise unknown("noise label", noise, get_args(Name))
        self.function, self.meaning, self.process, self.shape, self.noise = function, meaning, process, tuple(shape), noise
        self.data_std = 1.0
        self.data_mean: Tensor
        self.register_buffer("data_mean", torch.zeros(self.shape, dtype=torch.float64))

    def forward(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        """Return the prediction at x_t, `(batch, *shape)`, and times t, `(batch,)`."""
        t, noise = t.double(), self.noise
        if callable(noise):
            return self._predict(x, t, noise(t), cond)
        if isinstance(noise, str | int):
            return self._predict(x, t, noise_label_of(noise, self.process, t), cond)
        levels = torch.as_tensor(noise, dtype=torch.float64, device=t.device)
        index = (levels.log() + 0.5 * self.process.log_snr(t).unsqueeze(1)).abs().argmin(dim=1)
        step = self.process.time_of_sigma(levels[index])
        scale = over(self.process.alpha(step) / self.process.alpha(t), x)
        return self._predict(scale * x, step, index, cond).moved(x, t)

    def _pair(self, t: PerSample) -> tuple[PerSample, PerSample]:
        sigma = self.process.sigma(t)
        if self.meaning == "velocity":
            alpha_rate, sigma_rate = self.process.rates(t)
            return alpha_rate, -sigma * sigma_rate
        nothing, one = torch.zeros_like(t), torch.ones_like(t)
        return {"denoiser": (one, nothing), "noise": (nothing, -sigma), "score": (nothing, one)}[self.meaning]

    def _predict(self, x: Sample, t: PerSample, label: Tensor, cond: Tensor | None) -> Prediction:
        dtype = precision_of(self.function, x.dtype)
        label = label.to(dtype) if label.is_floating_point() else label
        output = _tensor(self.function(x.to(dtype), label, *(() if cond is None else (cond,))))
        if output.shape != x.shape:
            raise ScorefieldError(
                f"got an output of shape {tuple(output.shape)} for x of shape {tuple(x.shape)}, expected the same shape: give "
                "a function that leaves out what is no part of it, such as a learned variance"
            )
        return Prediction(self.process, x, t, output.to(x.dtype), *self._pair(t))

    def missed(self) -> float:
        """Return by how much the output misses a Gaussian's at the noisiest time; 0 where that is not noisy enough to say."""
        rows = math.ceil(PROBED / math.prod(self.shape))
        t = torch.full((rows,), self.process.t_max, dtype=torch.float64, device=self.data_mean.device)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        variance = alpha**2 * self.data_std**2 + sigma**2
        if not float(sigma[0]) >= NOISY * float(alpha[0]) * self.data_std:
            return 0.0
        z, mean = SampleRng(range(rows)).normal(self.shape).to(t), self.data_mean.double()
        with torch.no_grad():
            found = self(over(alpha, z) * mean + over(variance.sqrt(), z) * z, t)
        denoised = mean + over(alpha * self.data_std**2 / variance.sqrt(), z) * z
        expected = over(found.a, z) * denoised - over(found.c / variance.sqrt(), z) * z
        size = found.a[0] ** 2 * (mean.square().mean() + self.data_std**2) + (found.c[0] / sigma[0]) ** 2
        return float((found.output - expected).square().mean() / size)


def _tensor(output: Any) -> Tensor:
    """Return the tensor of an output: itself, the mean of a posterior, or the one called `sample`."""
    for found in (output, getattr(output, "mean", None), getattr(output, "sample", None)):
        if isinstance(found, Tensor):
            return found
    raise ScorefieldError(
        f"got a {type(output).__name__} as output, expected a tensor, or an object with a tensor `mean` or `sample`: give a "
        "function that returns one"
    )


def _fitting(field: Wrapped) -> str:
    """Return which readings of a function fit, as the end of a sentence."""
    labels: list[Noise] = [field.noise, *(name for name in get_args(Name) if name != field.noise)]
    fits = []
    for label, minus, meaning in itertools.product(labels, (False, True), get_args(Meaning)):
        function = _negative(field.function) if minus else field.function
        other = Wrapped(function, meaning, field.process, field.shape, label)
        other.data_mean, other.data_std = field.data_mean, field.data_std
        try:
            fitting = other.missed() < FITTING
        except Exception:  # it is somebody else's function, which may refuse a number that it is not made for
            fitting = False
        if fitting and (not minus or meaning == field.meaning):  # one mistake is likelier than two
            told = "" if label is field.noise else f" with noise={label!r}"
            fits.append(f"{'its negative' if minus else 'it'} fits of_{meaning}{told}")
    return " or ".join(fits[:3]) or "correct the process, the noise label, or the mean and standard deviation of the data"


def _negative(function: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda *given: -_tensor(function(*given))


def _wrap(field: Wrapped, mean: float | Tensor, std: float, check: bool) -> Wrapped:
    """Return the field with its data's moments, tested."""
    field.data_mean = torch.as_tensor(mean, dtype=torch.float64).expand(field.shape).clone()
    field.data_std = float(std)
    if check and not (missed := field.missed()) < MISREAD:
        raise ScorefieldError(
            f"got an output that, read as {field.meaning}, is off by {missed:.2g} times its mean square where all is noise, "
            f"expected less than {MISREAD:g}: {_fitting(field)}; check=False leaves this test out"
        )
    return field


def of_denoiser(
    function: Callable[..., Any],
    process: Process,
    shape: Sequence[int],
    *,
    noise: Noise = "sigma",
    data_mean: float | Tensor = 0.0,
    data_std: float = 1.0,
    check: bool = True,
) -> Wrapped:
    """Return a function whose output is E[x0 | x_t] as a field.

    Args:
        function: any callable, `function(x, number)` or, where classes are given, `function(x, number, cond)`; x is
            `(batch, *shape)` in the precision of its weights, number `(batch,)`. It returns a tensor in the shape of x, or
            an object with a tensor `mean` or `sample`.
        process: how x_t is made of x0 and noise. A denoiser of x0 + sigma·noise is one of `LinearVE`.
        shape: shape of one sample.
        noise: what the number is: the name of a noise label, "sigma" for sigma/alpha, "log-sigma", "log-snr", "c-noise" for
            ln(sigma)/4, "alpha-bar", "t", "step" for t - 1, "none"; a function of t; or a list of levels sigma/alpha, of which
            the function is given the index of the nearest. Between levels the denoised image is that of the nearest.
        data_mean: mean of the data: one number, or a tensor in the shape of one sample.
        data_std: root of the data's variance around the mean, averaged over coordinates.
        check: test the output once where nearly all is noise.

    Returns:
        The field, for every sampler, likelihood and restoration; its parameters are those of the function, if it is a module.

    Raises:
        ScorefieldError: an unknown noise label, an output of another shape, or one that has another meaning.

    References: Robbins (1956); Efron (2011), "Tweedie's formula and selection bias".

    >>> from scorefield import Field, LinearVE
    >>> field = Field.of_denoiser(lambda x, sigma: x / (1 + sigma**2).unsqueeze(1), LinearVE(0.01, 80.0), (2,))  # of N(0, I)
    >>> field(torch.ones(1, 2), torch.tensor([2.0])).score
    tensor([[-0.2000, -0.2000]])
    """
    return _wrap(Wrapped(function, "denoiser", process, shape, noise), data_mean, data_std, check)


def of_noise(
    function: Callable[..., Any],
    process: Process,
    shape: Sequence[int],
    *,
    noise: Noise = "step",
    data_mean: float | Tensor = 0.0,
    data_std: float = 1.0,
    check: bool = True,
) -> Wrapped:
    """Return a function whose output is E[noise | x_t] = -sigma·score as a field; arguments as of `of_denoiser`."""
    return _wrap(Wrapped(function, "noise", process, shape, noise), data_mean, data_std, check)


def of_score(
    function: Callable[..., Any],
    process: Process,
    shape: Sequence[int],
    *,
    noise: Noise = "sigma",
    data_mean: float | Tensor = 0.0,
    data_std: float = 1.0,
    check: bool = True,
) -> Wrapped:
    """Return a function whose output is grad log p_t(x_t) as a field; arguments as of `of_denoiser`."""
    return _wrap(Wrapped(function, "score", process, shape, noise), data_mean, data_std, check)


def of_velocity(
    function: Callable[..., Any],
    process: Process,
    shape: Sequence[int],
    *,
    noise: Noise = "t",
    data_mean: float | Tensor = 0.0,
    data_std: float = 1.0,
    check: bool = True,
) -> Wrapped:
    """Return a function whose output is dx/dt = alpha'·x0 + sigma'·noise as a field; arguments as of `of_denoiser`.

    On `RectifiedFlow` that is noise - x0. A model whose time runs from noise to data has the other sign and the time 1 - t:
    `Field.of_velocity(lambda x, t: -model(x, t), RectifiedFlow(), shape, noise=lambda t: 1 - t)`.
    """
    return _wrap(Wrapped(function, "velocity", process, shape, noise), data_mean, data_std, check)
